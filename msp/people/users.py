"""People who log in: found, added, given roles. Passwords are hashed with Argon2id."""

import secrets
from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from msp import evidence
from msp.clock import utc_now
from msp.errors import Conflict, Misconfigured, NotFound
from msp.people.access import CLIENT_ROLES, RIGHTS, Actor
from msp.people.models import Grant, Role, User

SHORTEST_PASSWORD = 10  # characters; NIST SP 800-63B asks for 8


def ensure_roles(session: Session) -> None:
    """Store every role that the product knows; those already there stay."""
    known = set(session.scalars(select(Role.name)))
    session.add_all(Role(name=name) for name in RIGHTS if name not in known)
    session.flush()


def hash_password(password: str) -> str:
    """Return the Argon2id hash; raises Misconfigured for a password that is too short."""
    if len(password) < SHORTEST_PASSWORD:
        raise Misconfigured(
            f"The password is shorter than {SHORTEST_PASSWORD} characters.", advice="Choose a longer one."
        )
    from argon2 import PasswordHasher

    return PasswordHasher().hash(password)


def add(
    session: Session,
    *,
    email: str,
    name: str,
    password: str,
    roles: Iterable[str],
    by: str,
    client_id: int | None = None,
    language: str = "en",
    time_zone: str = "UTC",
) -> User:
    """Add a person with roles. Raises Conflict for a known address, Misconfigured for roles that do not fit."""
    wanted = set(roles)
    if unknown := wanted - set(RIGHTS):
        raise Misconfigured(f"Unknown role {', '.join(sorted(unknown))}.", advice=f"Known: {', '.join(RIGHTS)}.")
    if wrong := {role for role in wanted if (role in CLIENT_ROLES) != (client_id is not None)}:
        side = "a client's person" if client_id else "staff"
        raise Misconfigured(f"Role {', '.join(sorted(wrong))} is not for {side}.", advice="Choose a role of that side.")
    address = email.strip().lower()
    if "@" not in address:
        raise Misconfigured(f"{email!r} is not a mail address.", advice="Write it as name@example.org.")
    if session.scalar(select(User.id).where(func.lower(User.email) == address)):
        raise Conflict(f"There is already a user {address}.", advice="Give that user the role instead.")
    ensure_roles(session)
    user = User(
        email=address,
        name=name,
        password=hash_password(password),
        client_id=client_id,
        language=language,
        time_zone=time_zone,
        created_at=utc_now(),
        fs_uniquifier=secrets.token_hex(32),
        roles=list(session.scalars(select(Role).where(Role.name.in_(wanted)))),
    )
    session.add(user)
    session.flush()
    evidence.record(
        session,
        "user.added",
        actor=by,
        subject=("user", user.id),
        client_id=client_id,
        data={"email": address, "roles": sorted(wanted)},
    )
    return user


def by_email(session: Session, email: str) -> User:
    """Return the user of that address; raises NotFound."""
    user = session.scalar(select(User).where(func.lower(User.email) == email.strip().lower()))
    if user is None:
        raise NotFound(f"There is no user {email}.", advice="`msp user list` shows them.")
    return user


def set_password(session: Session, user: User, password: str, *, by: str) -> None:
    """Replace the password and end every open session of that user."""
    user.password = hash_password(password)
    user.fs_uniquifier = secrets.token_hex(32)
    evidence.record(
        session, "user.password_changed", actor=by, subject=("user", user.id), client_id=user.client_id, data={}
    )


def actor_of(session: Session, user: User) -> Actor:
    """Return the user as the rules see it."""
    granted = frozenset(session.scalars(select(Grant.client_id).where(Grant.user_id == user.id)))
    return Actor(
        name=user.email,
        roles=frozenset(role.name for role in user.roles),
        client_id=user.client_id,
        granted=granted or None,
        user_id=user.id,
        language=user.language,
        time_zone=user.time_zone,
    )


def set_active(session: Session, user: User, active: bool, *, by: str) -> None:
    """Let a user in or keep the user out; keeping out ends every open session."""
    user.active = active
    if not active:
        user.fs_uniquifier = secrets.token_hex(32)
    evidence.record(
        session,
        "user.enabled" if active else "user.disabled",
        actor=by,
        subject=("user", user.id),
        client_id=user.client_id,
        data={"email": user.email},
    )
