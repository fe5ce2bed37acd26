"""Debit one block by many writers at once, in a database of its own: what a batch case of real contention asks for."""

import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from sqlalchemy import select

from msp.contracts.ledger import debit
from msp.contracts.models import Client, Contract, HourBlock
from msp.db import Database, Model

_DAY = date(2026, 1, 1)
MOST_WRITERS = 64


def debit_at_once(balance_minutes: int, entries_minutes: Sequence[int]) -> tuple[int, int]:
    """Return (balance after, minutes granted altogether) when each entry is debited by a writer of its own.

    balance_minutes: of a fresh block. entries_minutes: already rounded up. At most MOST_WRITERS start together.
    """
    with tempfile.TemporaryDirectory(prefix="msp-block-") as folder:
        database = Database(f"sqlite:///{Path(folder) / 'block.db'}")
        try:
            contract_id = _store_block(database, balance_minutes)
            writers = min(len(entries_minutes), MOST_WRITERS)
            start = threading.Barrier(writers) if writers else None
            with ThreadPoolExecutor(max(writers, 1)) as pool:
                jobs = [
                    pool.submit(_debit_one, database, contract_id, minutes, start if number < writers else None)
                    for number, minutes in enumerate(entries_minutes)
                ]
                granted = sum(job.result() for job in jobs)
            with database.read() as session:
                return session.scalars(select(HourBlock.balance_minutes)).one(), granted
        finally:
            database.dispose()


def _store_block(database: Database, minutes: int) -> int:
    tables = [Model.metadata.tables[model.__tablename__] for model in (Client, Contract, HourBlock)]
    Model.metadata.create_all(database.engine, tables=tables)
    with database.begin() as session:
        client = Client(key="trial", name="Trial")
        session.add(client)
        session.flush()
        contract = Contract(client_id=client.id, reference="trial", kind="block_hours", currency="EUR", starts_on=_DAY)
        session.add(contract)
        session.flush()
        session.add(HourBlock(contract_id=contract.id, purchased_on=_DAY, minutes=minutes, balance_minutes=minutes))
        return contract.id


def _debit_one(database: Database, contract_id: int, minutes: int, start: threading.Barrier | None) -> int:
    if start:
        start.wait(timeout=60)
    with database.begin() as session:
        return debit(session, contract_id, minutes, _DAY)[0]
