"""Configuration items and how they depend on each other (ITIL 4, Service Configuration Management)."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from msp.db import Model


class ConfigurationItem(Model):
    """A thing we look after: a server, a database, a switch, a service. Its `kind` is its asset class."""

    __tablename__ = "configuration_item"
    __table_args__ = (UniqueConstraint("client_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"), index=True)
    site_id: Mapped[int | None] = mapped_column(ForeignKey("site.id"))
    name: Mapped[str]
    kind: Mapped[str]  # server, workstation, network, database, service, printer, storage
    platform: Mapped[str] = mapped_column(default="linux")
    transport: Mapped[str] = mapped_column(default="ssh")  # how it is reached; a property of the asset
    address: Mapped[str | None]
    port: Mapped[int | None]
    username: Mapped[str | None]
    secret_name: Mapped[str | None]  # in the vault of this client
    credential_kind: Mapped[str] = mapped_column(default="secret")  # secret, or ca: a certificate for each run
    become_secret_name: Mapped[str | None]  # password that sudo asks for, if it is not the one of the log-in
    bastion_id: Mapped[int | None] = mapped_column(ForeignKey("configuration_item.id"))  # the way leads through it
    old_algorithms: Mapped[list[str]] = mapped_column(JSON, default=list)  # of SSH; default none
    old_algorithms_until: Mapped[datetime | None]
    criticality: Mapped[int] = mapped_column(default=3)  # 1 is most critical
    status: Mapped[str] = mapped_column(default="live")  # planned, live, retired
    facts: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created_at: Mapped[datetime]


class Relationship(Model):
    """`source` needs `target`: when the target fails, the source is hit."""

    __tablename__ = "relationship"
    __table_args__ = (
        UniqueConstraint("source_id", "target_id", "kind"),
        CheckConstraint("source_id <> target_id", name="not_on_itself"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("configuration_item.id"), index=True)
    target_id: Mapped[int] = mapped_column(ForeignKey("configuration_item.id"), index=True)
    kind: Mapped[str]  # one of impact.KINDS


class HostKey(Model):
    """A pinned SSH host key of an item. Withdrawn keys stay as history."""

    __tablename__ = "host_key"
    id: Mapped[int] = mapped_column(primary_key=True)
    asset_id: Mapped[int] = mapped_column(ForeignKey("configuration_item.id"), index=True)
    public_key: Mapped[str]  # as in authorized_keys: "ssh-ed25519 AAAA..."
    pinned_at: Mapped[datetime]
    pinned_by: Mapped[str]
    withdrawn_at: Mapped[datetime | None]


class HostKeyChange(Model):
    """A wish to pin another host key in place of those pinned. Nothing changes before a second person agrees."""

    __tablename__ = "host_key_change"
    id: Mapped[int] = mapped_column(primary_key=True)
    asset_id: Mapped[int] = mapped_column(ForeignKey("configuration_item.id"), index=True)
    public_key: Mapped[str]
    reason: Mapped[str]  # how the new key was confirmed
    state: Mapped[str] = mapped_column(default="waiting")  # waiting, approved, declined, outdated, forced
    asked_at: Mapped[datetime]
    asked_by: Mapped[str]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str] = mapped_column(default="")
    note: Mapped[str] = mapped_column(default="")
