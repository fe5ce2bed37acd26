"""`msp run` where there is an installation: the contract decides on known assets, and all of it is recorded."""

import getpass
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from msp import console, db, evidence
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.clauses import ALLOW, ASK, BreakGlass
from msp.desk.models import Ticket
from msp.errors import Misconfigured, Refused
from msp.flows import adrift, after_run, deciding
from msp.remote.models import Run, RunHost
from msp.remote.plan import Plan
from msp.remote.runner import Report
from msp.remote.sql_ledger import SqlLedger
from msp.remote.target import Target

NAMES = 1000  # of hosts in one query


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run that has been decided and stored. `refused` says why nothing may be done to a host."""

    ledger: SqlLedger
    refused: dict[str, str]
    finish: Callable[[Report], None]
    run_id: int
    client_id: int  # 0: hosts that are no asset of anybody


def actor() -> str:
    """Return who stands in the evidence: the account that types."""
    return f"cli:{getpass.getuser()}"


def record(
    plan: Plan,
    targets: Sequence[Target],
    *,
    ticket_id: int | None,
    break_glass: str | None,
    dry_run: bool,
    parallel: int | None,
) -> Recorded:
    """Decide, store the run and return where its results go. Raises Refused when no host may be touched."""
    console.use_database()
    with db.begin() as session:
        adrift.end_adrift(session, utc_now())
        ticket = _ticket(session, ticket_id) if ticket_id is not None else None
        items = _assets(session, targets, ticket)
        refusal = _Refusals(plan, ticket, break_glass, dry_run=dry_run).of(session, targets, items)
        run = _store(session, plan, targets, items, ticket, refusal, dry_run=dry_run, parallel=parallel)
        if break_glass:
            run.decision = run.decision | {"break_glass": {"approver": actor(), "reason": break_glass}}
        everywhere = len(refusal.why) == len(targets)
        if everywhere:
            run.state, run.finished_at = "refused", run.requested_at
        _evidence(session, run, refusal)
        run_id, client_id = run.id, run.client_id or 0
    if everywhere:
        first = targets[0].name
        raise Refused(f"{first}: {refusal.why[first]}", advice=refusal.way_out or "See the contract.")

    lease = adrift.Lease(run_id)

    def finish(report: Report) -> None:
        lease.end()
        with db.begin() as session:
            after_run.finish(session, run_id, now=utc_now())

    return Recorded(SqlLedger(run_id, actor()), refusal.why, finish, run_id, client_id)


def _ticket(session: Session, ticket_id: int) -> Ticket:
    from msp.desk import tickets  # clocks and all: only where there is a ticket

    return tickets.get(session, ticket_id)


def _assets(session: Session, targets: Sequence[Target], ticket: Ticket | None) -> dict[str, ConfigurationItem | None]:
    """Return the asset that each host is: the same name and address, of the ticket's client if there is one.

    Raises Refused when a ticket is given and a host is no asset of its client.
    """
    found: dict[str, list[ConfigurationItem]] = {}
    for begin in range(0, len(targets), NAMES):
        names = [target.name for target in targets[begin : begin + NAMES]]
        query = select(ConfigurationItem).where(ConfigurationItem.name.in_(names)).order_by(ConfigurationItem.id)
        for item in session.scalars(query):
            found.setdefault(item.name, []).append(item)
    items: dict[str, ConfigurationItem | None] = {}
    for target in targets:
        named = found.get(target.name, ())
        if ticket is None:
            items[target.name] = next((item for item in named if item.address == target.address), None)
            continue
        items[target.name] = next((item for item in named if item.client_id == ticket.client_id), None)
        if items[target.name] is None:
            raise Refused(
                f"{target.name} is no asset of the client of ticket {ticket.id}.",
                advice="Record it with msp asset, or run without a ticket and break the glass.",
            )
    return items


class _Refusals:
    """What the contract says of each host. Hosts that are no asset of anybody have no contract to ask."""

    def __init__(self, plan: Plan, ticket: Ticket | None, break_glass: str | None, *, dry_run: bool) -> None:
        self._class = "read" if dry_run else plan.playbook.action_class
        self._glass = BreakGlass(actor(), break_glass) if break_glass else None
        self.why: dict[str, str] = {}
        self.way_out = ""
        self.decision: dict[str, Any] = {"effect": "allow", "clause_id": None, "text": "No asset of a client."}
        self.version_id: int | None = ticket.contract_version_id if ticket else None

    def of(
        self, session: Session, targets: Sequence[Target], items: dict[str, ConfigurationItem | None]
    ) -> "_Refusals":
        asked = deciding.Deciding(session, utc_now())
        for target in targets:
            item = items[target.name]
            if item is None:
                continue
            # The command line knows one name, so that name answers for the broken glass; the evidence shows it.
            by = "" if self._glass else actor()
            decided = asked.decide(item, self._class, actor=by, break_glass=self._glass)
            said = decided.decision
            if said.effect == ALLOW or (said.effect == ASK and self._glass):
                broken = {"effect": ALLOW, "rule": "break_glass"} if said.effect == ASK else {}
                self.decision, self.version_id = decided.as_dict() | broken, decided.version_id
                continue
            asks = f" It needs the approval of {said.approver}." if said.effect == ASK else ""
            self.why[target.name] = f"{said.text}{asks}"
            self.way_out = said.way_out or "Request the run from its ticket, where the approval can be asked for."
            if len(self.why) == len(targets):
                self.decision, self.version_id = decided.as_dict(), decided.version_id
        return self


def _store(
    session: Session,
    plan: Plan,
    targets: Sequence[Target],
    items: dict[str, ConfigurationItem | None],
    ticket: Ticket | None,
    refusal: _Refusals,
    *,
    dry_run: bool,
    parallel: int | None,
) -> Run:
    clients = {item.client_id for item in items.values() if item is not None}
    if len(clients) > 1:
        raise Misconfigured("The hosts belong to several clients.", advice="Run it once for each client.")
    now, book = utc_now(), plan.playbook
    run = Run(
        client_id=next(iter(clients), None),
        ticket_id=ticket.id if ticket else None,
        contract_version_id=refusal.version_id,
        playbook=book.name,
        playbook_version=book.version,
        digest=plan.digest,
        document=plan.document,
        parameters=dict(plan.parameters),
        action_class=book.action_class,
        actor=actor(),
        state="running",
        dry_run=dry_run,
        decision=dict(refusal.decision),
        requested_at=now,
        started_at=now,
        lease_until=now + adrift.LEASE,
        max_fail=book.max_fail,
        parallel=parallel or book.at_once,
    )
    session.add(run)
    session.flush()
    hosts = [
        {
            "run_id": run.id,
            "asset_id": item.id if (item := items[target.name]) is not None else None,
            "name": target.name,
            "position": position,
        }
        for position, target in enumerate(targets)
    ]
    session.execute(insert(RunHost), hosts)
    return run


def _evidence(session: Session, run: Run, refusal: _Refusals) -> None:
    kind = "run.refused" if run.state == "refused" else "run.requested"
    data = {"playbook": run.playbook, "digest": run.digest, "parameters": run.parameters, "dry_run": run.dry_run,
            "ticket": run.ticket_id, "decision": run.decision, "refused": refusal.why}  # fmt: skip
    evidence.record(session, kind, actor=run.actor, subject=("run", run.id), client_id=run.client_id, data=data)
