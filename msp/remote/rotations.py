"""A secret being replaced on the hosts that it opens. Which of its values works on each host is always known or asked.

The steps: the new value is stored as `next`; a run sets it on the hosts; a fresh log-in proves it; it comes in force; a
key's predecessor is withdrawn; only then is the old value forgotten. Until then both are kept.
"""

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from msp.db import Model

APPLYING, PROVING, WITHDRAWING, BACKING, CHECKING = "applying", "proving", "withdrawing", "backing", "checking"
DONE, ROLLED_BACK, STUCK = "done", "rolled_back", "stuck"
OPEN = (APPLYING, PROVING, WITHDRAWING, BACKING, CHECKING)
ENDED = (DONE, ROLLED_BACK, STUCK)


class SecretRotation(Model):
    """One rotation of one secret. `stuck`: a person must look; both values are kept."""

    __tablename__ = "secret_rotation"
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"), index=True)
    secret: Mapped[str]  # reference
    kind: Mapped[str]  # password, ssh_key
    state: Mapped[str]
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("ticket.id"))
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"), index=True)  # the one that is at work
    in_force: Mapped[bool] = mapped_column(default=False)  # the new value is the one in the store
    old_key: Mapped[str] = mapped_column(default="")  # public keys of a rotation of a key
    new_key: Mapped[str] = mapped_column(default="")
    tries: Mapped[int] = mapped_column(default=0)  # log-ins of the present state
    asked_by: Mapped[str]
    asked_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    found: Mapped[str] = mapped_column(default="")  # how it ended, in a sentence


class RotationHost(Model):
    """What was last found on one host: does the old value log in, does the new one? None: not known."""

    __tablename__ = "rotation_host"
    __table_args__ = (UniqueConstraint("rotation_id", "asset_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    rotation_id: Mapped[int] = mapped_column(ForeignKey("secret_rotation.id"))
    asset_id: Mapped[int] = mapped_column(ForeignKey("configuration_item.id"))
    old_works: Mapped[bool | None]
    new_works: Mapped[bool | None]
    found: Mapped[str] = mapped_column(default="")
    proven_at: Mapped[datetime | None]
