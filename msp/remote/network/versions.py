"""Versions of devices' configurations, as runs found them: kept when they differ, compared line by line."""

import hashlib
from collections.abc import Mapping, Sequence
from difflib import unified_diff
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.errors import NotFound
from msp.remote.ledger import StepRecord
from msp.remote.models import DeviceConfiguration, RunHost
from msp.remote.transport import Configuration


def store(session: Session, run_id: int, host_ids: Mapping[int, int], records: Sequence[StepRecord]) -> None:
    """Keep the configurations that results bring; hosts that are no assets of ours keep none.

    host_ids: of run_host rows by the position of the host in the run.
    """
    found = {host_ids[record.key.host]: record.configuration for record in records if record.configuration}
    assets = session.execute(select(RunHost.id, RunHost.asset_id).where(RunHost.id.in_(found)))
    for host_id, asset_id in sorted(assets, key=lambda row: row.asset_id or 0):
        if asset_id is not None:
            keep(session, asset_id, found[host_id], run_id=run_id)


def keep(session: Session, asset_id: int, found: Configuration, *, run_id: int | None = None) -> DeviceConfiguration:
    """Return the version that holds what was found: the latest one if nothing differs, else a new one."""
    session.execute(select(ConfigurationItem.id).where(ConfigurationItem.id == asset_id).with_for_update())
    latest = last(session, asset_id)
    sha256 = digest(found)
    if latest is not None and latest.sha256 == sha256:
        latest.seen_at = max(latest.seen_at, found.taken_at)
        return latest
    version = DeviceConfiguration(
        asset_id=asset_id,
        version=latest.version + 1 if latest else 1,
        run_id=run_id,
        text=found.text,
        sha256=sha256,
        taken_at=found.taken_at,
        seen_at=found.taken_at,
    )
    session.add(version)
    session.flush()
    return version


def last(session: Session, asset_id: int) -> DeviceConfiguration | None:
    """Return the latest version of a device, if there is one."""
    return session.scalar(_of(asset_id).limit(1))


def of(session: Session, asset_id: int) -> list[DeviceConfiguration]:
    """Return all versions of a device, the latest first."""
    return list(session.scalars(_of(asset_id)))


def get(session: Session, asset_id: int, version: int) -> DeviceConfiguration:
    """Return one version. Raises NotFound."""
    found = session.scalar(_of(asset_id).where(DeviceConfiguration.version == version))
    if found is None:
        raise NotFound(f"There is no version {version} of this device.", advice="Look at the list of its versions.")
    return found


def _of(asset_id: int) -> Select[DeviceConfiguration]:
    query = select(DeviceConfiguration).where(DeviceConfiguration.asset_id == asset_id)
    return query.order_by(DeviceConfiguration.version.desc())


def difference(older: DeviceConfiguration, newer: DeviceConfiguration) -> str:
    """Return the unified difference of two versions; empty if they hold the same."""
    lines = unified_diff(
        older.text.splitlines(),
        newer.text.splitlines(),
        f"version {older.version}",
        f"version {newer.version}",
        f"{older.taken_at:%Y-%m-%d %H:%M} UTC",
        f"{newer.taken_at:%Y-%m-%d %H:%M} UTC",
        lineterm="",
    )
    return "".join(f"{line}\n" for line in lines)


def digest(found: Configuration) -> str:
    """Return the SHA-256 of a configuration as kept, in hex."""
    return hashlib.sha256(found.text.encode("utf-8", "surrogateescape")).hexdigest()


def proof(found: Configuration) -> dict[str, Any]:
    """Return what the chain of evidence says of a configuration."""
    size = len(found.text.encode("utf-8", "surrogateescape"))
    return {"bytes": size, "sha256": digest(found), "taken_at": found.taken_at.isoformat()}
