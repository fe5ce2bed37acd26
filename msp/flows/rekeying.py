"""A new master key for the vault. A crash at any instant leaves a vault that opens; begun again it is finished."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from msp import db, evidence, master_key
from msp.clock import utc_now
from msp.engine import crashpoints
from msp.errors import Conflict
from msp.settings import Settings
from msp.vault import Vault


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What was done. `kept`: where the old key lies; copies of the database from before still need it."""

    data_keys: int
    secrets: int  # sealed anew; 0 where only the data keys were wrapped anew
    kept: Path


def rekey(settings: Settings, *, by: str, data_keys: bool = False) -> Rekeyed:
    """Wrap every data key under a new master key and put that in force.

    data_keys: give every client a new data key too, and seal every secret anew: for a key that has leaked.
    Raises Conflict while another process does it.
    """
    path = settings.key_path
    vault = Vault.from_file(path)
    with _alone(path):
        fresh = master_key.begin_change(path)
        crashpoints.at("rekey.begun")
        with db.begin() as session:
            count = vault.rewrap(session, fresh)
            sealed = vault.reseal(session) if data_keys else 0
            data = {"data_keys": count, "secrets": sealed}
            evidence.record(session, "vault.rotated", actor=by, subject=("vault", "master"), data=data)
        crashpoints.at("rekey.wrapped")
        kept = master_key.end_change(path, utc_now())
    return Rekeyed(count, sealed, kept)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    handle = os.open(path.with_name(path.name + ".lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise Conflict("The master key is being changed already.", advice="Wait until that has ended.") from error
    try:
        yield
    finally:
        os.close(handle)
