"""Restore tests and the client's own hosts: one is done there, another compares its sample with the files there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from msp import db, evidence
from msp.assets import inventory
from msp.assets.reach import secrets_of
from msp.backup import live_host
from msp.backup.engines import away
from msp.backup.ladder import Limits
from msp.backup.live import Source
from msp.backup.manifest import Entry
from msp.backup.models import BackupPlan
from msp.backup.verdict import Result
from msp.errors import Misconfigured, MspError
from msp.flows import driving, keyring, reaching
from msp.flows.keyring import Fetched, Keyring
from msp.remote.run_certificates import RunCertificates
from msp.remote.ssh.transport import SshTransport
from msp.remote.target import Target
from msp.secret_store import reference as references
from msp.settings import Settings
from msp.vault import Vault

PATIENCE = timedelta(seconds=30)  # for the host to take the connection and the log-in
ACTOR = "worker"


@dataclass(frozen=True, slots=True)
class There:
    """One test to be done on a host: the case as JSON values, with its secret, and the way in."""

    document: Mapping[str, Any] = field(repr=False)
    target: Target = field(repr=False)
    limits: Limits
    scratch: str | None  # the host's own fact `scratch`; None: below its temporary folder

    @property
    def root(self) -> str | None:
        """Where the source lies on the host, for a test that is done here and compares with it; else None."""
        if self.document.get("on"):
            return None
        return str(self.document["expect"]["live"]["root"])


def host_of(case: Mapping[str, Any]) -> str | None:
    """Return the name of the host that a case needs: to be tested on, or to be compared with; None: neither.

    Raises Misconfigured for a case that needs two.
    """
    expect = case.get("expect")
    live = expect.get("live") if isinstance(expect, Mapping) else None
    on, source = case.get("on"), live.get("on") if isinstance(live, Mapping) else None
    if on and source and on != source:
        what = f"The case is to be tested on {on} and compared with {source}."
        raise Misconfigured(what, advice="Test it here or on the host that holds the source.")
    return str(on or source) if on or source else None


def fetch(settings: Settings, plan_id: int) -> Fetched:
    """Fetch what other stores keep of the host's secrets; no transaction may be open. Empty for a test here."""
    with db.read() as session:
        plan = session.get(BackupPlan, plan_id)
        name = host_of(plan.case) if plan is not None else None
        if plan is None or name is None:
            return {}
        wanted = keyring.of_items(session, [inventory.by_name(session, plan.client_id, name)])
    return keyring.fetch(settings, wanted)


def prepare(
    session: Session,
    settings: Settings,
    plan: BackupPlan,
    document: Mapping[str, Any],
    limits: Limits,
    test_id: int,
    fetched: Fetched,
    now: datetime,
) -> There:
    """Return what a test with the host of its case needs; who used which secret for it is evidence.

    The host is one of the plan's own client. Raises NotFound if there is none of that name, and Misconfigured for one
    that is not entered by SSH, or whose scratch is no absolute path.
    """
    item = inventory.by_name(session, plan.client_id, str(host_of(document)))
    if item.transport != "ssh":
        what = f"{item.name} is reached by {item.transport}; a restore test there needs SSH."
        raise Misconfigured(what, advice="Test the backup where the provider reaches it, or give the host SSH.")
    scratch = item.facts.get("scratch")
    if scratch is not None and not (isinstance(scratch, str) and scratch.startswith("/")):
        raise Misconfigured(f"The scratch of {item.name} is no absolute path.", advice="Correct its fact scratch.")
    keys = Keyring(Vault.from_file(settings.key_path), fetched)
    certificates = RunCertificates(keys.vault, plan.client_id, ACTOR, longest_step=away.DEADLINE)
    target = reaching.target_of(session, keys, item, certificates=certificates)
    named = secrets_of(session, item)
    for name in named:
        if (row := keyring.known(session, plan.client_id, name)) is not None:
            row.used_at, row.used_by = now, ACTOR
    evidence.record(
        session,
        "credential.used",
        actor=ACTOR,
        subject=("restore_test", test_id),
        client_id=plan.client_id,
        data={"secrets": [str(references.parse(name)) for name in named], "asset": item.id},
        at=now,
    )
    return There(_as_there(document), target, limits, scratch)


def _as_there(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the case as the tester on its own host reads it: there the source lies on the same machine."""
    expect = document.get("expect", {})
    if not document.get("on") or not expect.get("live"):
        return document
    live = {name: value for name, value in expect["live"].items() if name != "on"}
    return {**document, "expect": {**expect, "live": live}}


def source(there: There) -> Source:
    """Return what asks the host for files of the restore test that is done here. Raises Unreachable when asked."""

    async def ask(paths: Sequence[bytes]) -> list[Entry]:
        transport = SshTransport()
        try:
            async with transport.open(there.target, timeout=PATIENCE) as shell:
                return await live_host.ask_host(shell, there.root or "/", paths, host=there.target.name)
        finally:
            await transport.close()

    def asked(paths: Sequence[bytes]) -> Iterable[Entry]:
        return driving.WIRES.run(ask(paths))

    return asked


def perform(there: There) -> Result:
    """Do the test on its host and return what it showed; a host that cannot be entered is an error of the test."""
    return driving.WIRES.run(_perform(there))


async def _perform(there: There) -> Result:
    transport, name = SshTransport(), there.target.name  # of its own: a long restore is in no run's way
    try:
        async with transport.open(there.target, timeout=PATIENCE) as shell:
            return await away.verify_on(
                shell,
                there.document,
                host=name,
                scratch=there.scratch,
                niceness=there.limits.nice,
                io=there.limits.io,
            )
    except Misconfigured:
        raise
    except MspError as error:
        what = f"{name} could not be entered, so nothing was tested there: {error.what}"
        return away.untold(there.document, what, error.advice)
    finally:
        await transport.close()
