"""Restore tests on the client's own host: how it is entered, and what a way that fails means for the test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from msp import db, evidence
from msp.assets import inventory
from msp.assets.reach import secrets_of
from msp.backup.engines import away
from msp.backup.ladder import Limits
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


def fetch(settings: Settings, plan_id: int) -> Fetched:
    """Fetch what other stores keep of the host's secrets; no transaction may be open. Empty for a test here."""
    with db.read() as session:
        plan = session.get(BackupPlan, plan_id)
        if plan is None or not plan.case.get("on"):
            return {}
        wanted = keyring.of_items(session, [inventory.by_name(session, plan.client_id, str(plan.case["on"]))])
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
    """Return what a test on `document["on"]` needs; who used which secret for it is evidence.

    The host is one of the plan's own client. Raises NotFound if there is none of that name, and Misconfigured for one
    that is not entered by SSH, or whose scratch is no absolute path.
    """
    item = inventory.by_name(session, plan.client_id, str(document["on"]))
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
    return There(document, target, limits, scratch)


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
