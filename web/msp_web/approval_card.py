"""What somebody reads before allowing a remote action: exactly what the approval's digest covers, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.contracts.models import Contract, ContractVersion
from msp.flows import approving
from msp.people.access import Actor, may
from msp.remote.models import Approval, Run, RunHost
from msp.remote.playbook import Playbook, load
from msp.remote.yaml_source import Faulty
from msp_web import portal_words
from msp_web.access import visible


@dataclass(frozen=True, slots=True)
class Card:
    """One question to a person. `state`: waiting, expired, approved, declined, or gone (the run went on without)."""

    run: Run
    asked: Approval
    hosts: tuple[RunHost, ...]
    playbook: Playbook | None  # None: its stored text cannot be read, so only its name is known
    contract: Contract | None
    names: Mapping[str, str]
    state: str
    for_client: bool  # the client's own people decide; otherwise the provider asks somebody of its own
    may_decide: bool

    def summary(self, language: str) -> str:
        """Return what would be done, in words; the playbook's name where it says nothing."""
        if self.playbook is None:
            return self.run.playbook
        return (self.playbook.summary_ru if language == "ru" else "") or self.playbook.summary or self.run.playbook

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(step.name for step in self.playbook.steps if step.name) if self.playbook else ()

    @property
    def parameters(self) -> list[tuple[str, str]]:
        return portal_words.parameters(self.run.parameters)

    def says(self, what: str, language: str) -> str:
        """Return the clause's `text` or `way_out` in the viewer's language."""
        said = self.run.decision
        return str((said.get(f"{what}_ru") if language == "ru" else "") or said.get(what) or "")

    @property
    def price(self) -> Decimal | None:
        """What the client pays for it, in the contract's currency; None: nothing beyond what the contract says."""
        given = self.run.decision.get("price")
        return None if given in (None, "") else Decimal(str(given))

    def who(self, log_in: str | None) -> str:
        return portal_words.who(log_in or "", self.names)


def of_run(session: Session, run: Run, actor: Actor, now: datetime) -> Card | None:
    """Return the card of a run; None if nobody was ever asked. The run has passed the client gate."""
    query = visible(select(Approval), Approval).where(Approval.run_id == run.id)
    asked = session.scalar(query.order_by(Approval.id.desc()).limit(1))
    return _card(session, run, asked, actor, now) if asked else None


def waiting(session: Session, actor: Actor, now: datetime) -> list[Card]:
    """Return what the client's own people are asked now, the first to expire on top; also to one who may only look."""
    query = (
        visible(select(Run, Approval), Run)
        .join(Approval, Approval.run_id == Run.id)
        .where(Run.state == "awaiting_approval", Approval.decided_at.is_(None))
        .order_by(Approval.expires_at.is_(None), Approval.expires_at, Approval.id)
        .limit(100)
    )
    cards = [_card(session, run, asked, actor, now) for run, asked in session.execute(query)]
    return [card for card in cards if card.for_client and card.state == "waiting"]


def _card(session: Session, run: Run, asked: Approval, actor: Actor, now: datetime) -> Card:
    version = session.get(ContractVersion, run.contract_version_id) if run.contract_version_id else None
    hosts = select(RunHost).where(RunHost.run_id == run.id).order_by(RunHost.position)
    right = approving.RIGHTS.get(asked.rule, "portal.approve")
    state = _state(run, asked, now)
    return Card(
        run=run,
        asked=asked,
        hosts=tuple(session.scalars(hosts)),
        playbook=_read(run.document),
        contract=session.get(Contract, version.contract_id) if version else None,
        names=portal_words.people(session, [run.actor, asked.decided_by or ""]),
        state=state,
        for_client=right.startswith("portal."),
        may_decide=state == "waiting" and may(actor, right, run.client_id),
    )


def _state(run: Run, asked: Approval, now: datetime) -> str:
    if run.state == "expired":
        return "expired"
    if asked.decided_at is not None:
        return asked.decision or "approved"
    if run.state != "awaiting_approval":
        return "gone"
    return "expired" if asked.expires_at is not None and now > asked.expires_at else "waiting"


def _read(document: Any) -> Playbook | None:
    try:
        return load(document)
    except Faulty:
        return None
