"""Our own SSH certificate authority: hosts trust one public key, and every run gets a key of its own for minutes.

The authority's private key stays in the vault, of one client or of the provider (then it serves every client that
has none). A certificate names the run and the person in its key id, so that sshd's own log tells who came.
Source: OpenSSH PROTOCOL.certkeys; sshd_config(5), TrustedUserCAKeys and RevokedKeys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_network

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from msp import evidence
from msp.clock import utc_now
from msp.db import Model
from msp.errors import Conflict, Misconfigured, NotFound
from msp.remote import krl
from msp.secret import Secret
from msp.vault import Vault

LIFETIME = timedelta(minutes=5)
EARLIER = timedelta(seconds=30)  # how far the host's clock may be behind ours
LONGEST = timedelta(days=1)


class SshAuthority(Model):
    """A certificate authority, of one client or (client 0) of the provider. At most one of each signs."""

    __tablename__ = "ssh_authority"
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(index=True)
    public_key: Mapped[str]  # as in authorized_keys
    source_addresses: Mapped[str] = mapped_column(default="")  # comma-separated networks that certificates work from
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    replaced_at: Mapped[datetime | None]  # signs no more; what it signed counts to its end
    revoked_at: Mapped[datetime | None]  # nothing that it signed counts any more

    @property
    def state(self) -> str:
        """signs, replaced or revoked."""
        return "revoked" if self.revoked_at else "replaced" if self.replaced_at else "signs"

    @property
    def secret_name(self) -> str:
        """Name of its private key in the vault."""
        return f"ssh-ca-{self.id}"


#: Conditions of those that sign now.
SIGNS = (SshAuthority.replaced_at.is_(None), SshAuthority.revoked_at.is_(None))


class SshCertificate(Model):
    """A certificate as issued; its id is its serial number. The key that it was for is kept nowhere."""

    __tablename__ = "ssh_certificate"
    id: Mapped[int] = mapped_column(primary_key=True)
    authority_id: Mapped[int] = mapped_column(ForeignKey("ssh_authority.id"), index=True)
    client_id: Mapped[int] = mapped_column(default=0, index=True)  # whose hosts it is for; 0: of a list, no client's
    key_id: Mapped[str]
    principals: Mapped[str]  # comma-separated log-in names
    actor: Mapped[str]
    run_id: Mapped[int | None] = mapped_column(index=True)
    console_id: Mapped[int | None] = mapped_column(index=True)
    valid_after: Mapped[datetime]
    valid_before: Mapped[datetime] = mapped_column(index=True)
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None]
    reason: Mapped[str] = mapped_column(default="")

    def state(self, now: datetime) -> str:
        """valid, over or revoked."""
        return "revoked" if self.revoked_at else "over" if self.valid_before <= now else "valid"


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a certificate is for."""

    principals: tuple[str, ...]
    actor: str
    run_id: int | None = None
    console_id: int | None = None
    client_id: int = 0
    lifetime: timedelta = LIFETIME
    force_command: str = ""  # the only command it admits; empty: any
    forwards: bool = False  # the host is a bastion: connections may go through it
    terminal: bool = False

    @property
    def key_id(self) -> str:
        """What sshd writes into its log."""
        if self.run_id is not None:
            return f"run-{self.run_id} {self.actor}"
        return f"console-{self.console_id} {self.actor}" if self.console_id is not None else self.actor


@dataclass(frozen=True, slots=True)
class Issued:
    """A fresh private key with its certificate. Neither is stored."""

    private_key: Secret
    certificate: str
    valid_until: datetime
    serial: int


def create(
    session: Session,
    vault: Vault,
    *,
    client_id: int = 0,
    by: str,
    source_addresses: Sequence[str] = (),
    replace: bool = False,
    now: datetime | None = None,
) -> SshAuthority:
    """Make an authority, its private key straight into the vault. Raises Conflict if one signs already.

    replace: take over from that one; hosts must trust the new key before the next run.
    """
    import asyncssh

    now = now or utc_now()
    for network in source_addresses:
        try:
            ip_network(network)
        except ValueError as error:
            raise Misconfigured(f"{network!r} is no network: {error}.", advice="Write 192.0.2.0/24.") from error
    old = _signing(session, client_id)
    if old is not None:
        if not replace:
            raise Conflict("There is a certificate authority already.", advice="Add --replace to take over from it.")
        old.replaced_at = now
    key = asyncssh.generate_private_key("ssh-ed25519")
    public = " ".join(key.export_public_key("openssh").decode().split()[:2])
    row = SshAuthority(
        client_id=client_id,
        public_key=public,
        source_addresses=",".join(source_addresses),
        created_at=now,
        created_by=by,
    )
    session.add(row)
    session.flush()
    vault.put(session, row.secret_name, key.export_private_key("openssh").decode(), by=by, client_id=client_id)
    _tell(session, "ca.created", row, by, {"public_key": public, "source_addresses": row.source_addresses})
    return row


def _signing(session: Session, client_id: int) -> SshAuthority | None:
    query = select(SshAuthority).where(SshAuthority.client_id == client_id, *SIGNS)
    return session.scalar(query.order_by(SshAuthority.id.desc()))


def _tell(session: Session, kind: str, row: SshAuthority, by: str, data: dict[str, object]) -> None:
    evidence.record(
        session, kind, actor=by, subject=("ssh_authority", row.id), client_id=row.client_id or None, data=data
    )


def authority_of(session: Session, client_id: int) -> SshAuthority:
    """Return the authority that signs for a client: its own, or the provider's. Raises NotFound."""
    found = _signing(session, client_id) or _signing(session, 0)
    if found is None:
        raise NotFound(
            "There is no SSH certificate authority.",
            advice="Make one with msp ca create and let the hosts trust it, or store a key for the asset.",
        )
    return found


def issue(
    session: Session, vault: Vault, authority: SshAuthority, purpose: Purpose, *, now: datetime | None = None
) -> Issued:
    """Return a fresh ed25519 key with a certificate for `purpose`, and record that it was issued.

    Raises Misconfigured if the purpose cannot be certified.
    """
    import asyncssh

    now = now or utc_now()
    if not purpose.principals or not all(purpose.principals):
        raise Misconfigured("A certificate needs the account it logs in to.", advice="Give the asset its user.")
    if not timedelta(0) < purpose.lifetime <= LONGEST:
        raise Misconfigured(f"A certificate cannot be valid for {purpose.lifetime}.", advice="At most one day.")
    row = SshCertificate(
        authority_id=authority.id,
        client_id=purpose.client_id or authority.client_id,
        key_id=purpose.key_id,
        principals=",".join(purpose.principals),
        actor=purpose.actor,
        run_id=purpose.run_id,
        console_id=purpose.console_id,
        valid_after=(now - EARLIER).replace(microsecond=0),
        valid_before=(now + purpose.lifetime).replace(microsecond=0),
    )
    session.add(row)
    session.flush()
    signer = asyncssh.import_private_key(vault.get(session, authority.secret_name, client_id=authority.client_id).value)
    key = asyncssh.generate_private_key("ssh-ed25519")
    certificate = signer.generate_user_certificate(
        key,
        row.key_id,
        serial=row.id,
        principals=list(purpose.principals),
        valid_after=row.valid_after,
        valid_before=row.valid_before,
        force_command=purpose.force_command or None,
        source_address=authority.source_addresses.split(",") if authority.source_addresses else None,
        permit_x11_forwarding=False,
        permit_agent_forwarding=False,
        permit_port_forwarding=purpose.forwards,
        permit_pty=purpose.terminal,
        permit_user_rc=False,
    )
    data = {"serial": row.id, "key_id": row.key_id, "principals": row.principals,
            "valid_before": row.valid_before.isoformat(), "force_command": bool(purpose.force_command)}  # fmt: skip
    _tell(session, "ca.issued", authority, purpose.actor, data)
    return Issued(
        Secret(key.export_private_key("openssh").decode()),
        certificate.export_certificate("openssh").decode(),
        row.valid_before,
        row.id,
    )


def revoke(session: Session, certificates: Sequence[SshCertificate], *, by: str, reason: str = "") -> int:
    """Take certificates back before their time and return how many; the next list holds them. Idempotent."""
    fresh = [row for row in certificates if row.revoked_at is None]
    for row in fresh:
        row.revoked_at, row.revoked_by, row.reason = utc_now(), by, reason
        authority = session.get_one(SshAuthority, row.authority_id)
        _tell(session, "ca.revoked", authority, by, {"serial": row.id, "key_id": row.key_id, "reason": reason})
    session.flush()
    return len(fresh)


def revoke_authority(session: Session, authority: SshAuthority, *, by: str, reason: str = "") -> None:
    """Take an authority back with everything it ever signed. Idempotent."""
    if authority.revoked_at is None:
        authority.revoked_at = utc_now()
        _tell(session, "ca.authority_revoked", authority, by, {"reason": reason})
        session.flush()


def certificates(
    session: Session, *, serial: int | None = None, run_id: int | None = None, client_id: int | None = None
) -> list[SshCertificate]:
    """Return certificates as issued, the newest first."""
    query = select(SshCertificate).join(SshAuthority, SshAuthority.id == SshCertificate.authority_id)
    if serial is not None:
        query = query.where(SshCertificate.id == serial)
    if run_id is not None:
        query = query.where(SshCertificate.run_id == run_id)
    if client_id is not None:
        query = query.where(SshAuthority.client_id == client_id)
    return list(session.scalars(query.order_by(SshCertificate.id.desc())))


def authorities(session: Session, client_id: int | None = None) -> list[SshAuthority]:
    """Return every authority there ever was, the oldest first."""
    query = select(SshAuthority).order_by(SshAuthority.id)
    return list(session.scalars(query if client_id is None else query.where(SshAuthority.client_id == client_id)))


def revocation_list(session: Session, *, client_id: int | None = None, now: datetime | None = None) -> bytes:
    """Return the list for sshd's RevokedKeys: certificates taken back that would still count, and authorities.

    client_id: only what concerns the hosts of one client, who may also trust the provider's authority (None: all).
    """
    now = now or utc_now()
    concerned = [row for row in authorities(session) if client_id is None or row.client_id in (0, client_id)]
    query = select(SshCertificate.authority_id, SshCertificate.id).where(
        SshCertificate.revoked_at.is_not(None), SshCertificate.valid_before > now
    )
    serials: dict[int, list[int]] = {}
    for authority_id, serial in session.execute(query):
        serials.setdefault(authority_id, []).append(serial)
    revoked = [krl.Revoked(row.public_key, serials.get(row.id, [])) for row in concerned]
    keys = [row.public_key for row in concerned if row.revoked_at is not None]
    return krl.build(revoked, keys, version=int(now.timestamp()), made_at=now, comment="msp-toolkit")
