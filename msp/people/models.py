"""Users and their roles as stored. What a role may do is said in access.py."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, Table
from sqlalchemy.orm import Mapped, mapped_column, relationship

from msp.db import Model

user_role = Table(
    "user_role",
    Model.metadata,
    Column("user_id", ForeignKey("user.id"), primary_key=True),
    Column("role_id", ForeignKey("role.id"), primary_key=True),
)


class Role(Model):
    """A named set of rights; the names are those of access.RIGHTS."""

    __tablename__ = "role"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str] = mapped_column(default="")


class User(Model):
    """A person who logs in. `client_id` set: a client's person, who sees that client and nothing else."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    password: Mapped[str | None]
    active: Mapped[bool] = mapped_column(default=True)
    client_id: Mapped[int | None] = mapped_column(ForeignKey("client.id"), index=True)
    language: Mapped[str] = mapped_column(default="en")
    time_zone: Mapped[str] = mapped_column(default="UTC")
    created_at: Mapped[datetime]
    # the log-in library's own columns: session fence, second factor, recovery codes
    fs_uniquifier: Mapped[str] = mapped_column(unique=True)
    tf_primary_method: Mapped[str | None]
    tf_totp_secret: Mapped[str | None]
    mf_recovery_codes: Mapped[list[Any] | None] = mapped_column(JSON)
    roles: Mapped[list[Role]] = relationship(secondary=user_role, lazy="selectin")


class Grant(Model):
    """A member of staff may see this client. Staff without any grant see every client."""

    __tablename__ = "grant"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"))
