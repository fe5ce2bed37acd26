"""Who decides on what a contract bills: one at a time, however many begin at once.

The order of locks is the same everywhere: the evidence chain of the client, the contract, the entry. The chain stands
first because most work is recorded before it is billed. Functions take a session; the lock ends with its transaction.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.contracts.models import BillingEntry, Contract, ContractVersion


def hold_contract(session: Session, contract_id: int) -> None:
    """Let nobody else propose, decide or close under a contract until we commit; what is read after this is true."""
    evidence.hold(session, session.get_one(Contract, contract_id).client_id)
    # "no key": a new version or block only refers to the contract, and need not wait
    session.execute(select(Contract.id).where(Contract.id == contract_id).with_for_update(key_share=True))


def hold(session: Session, entry: BillingEntry) -> None:
    """Read an entry anew, as it is while nobody else can decide on it; what is pending is written first."""
    session.flush()
    hold_contract(session, session.get_one(ContractVersion, entry.contract_version_id).contract_id)
    session.refresh(entry, with_for_update=True)
