"""Log-in, second factor, forged forms, headers. The log-in library does the work; here stands how it is set.

A signed-in page never writes as the library: the user is read in a short read-only transaction, so that the view's
own transaction has the database to itself. Only the library's own forms (log-in, second factor) may write.
"""

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import Flask, Response, request
from flask.sansio.blueprints import BlueprintSetupState
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import current_user
from flask_security import MailUtil, RoleMixin, Security, SQLAlchemySessionUserDatastore, UserMixin
from flask_security.signals import tf_disabled, tf_profile_changed, user_authenticated
from flask_wtf.csrf import CSRFProtect
from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, relationship, scoped_session
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.middleware.proxy_fix import ProxyFix

from msp import db, evidence
from msp.people.models import Role, User, user_role
from msp.settings import Settings
from msp.vault import Vault

CONTENT_SECURITY_POLICY = "; ".join(
    ["default-src 'none'"]
    + [f"{kind}-src 'self'" for kind in ("script", "style", "img", "font", "connect", "manifest")]
    + ["form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"]
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
}
FAILED_LOG_INS = "10 per 15 minutes"  # of one account, from wherever; the setting limits one address
BY_PERSON = "msp limit by person"  # the extension that limits a view which asks for the own password
UPLOAD = 16 * 1024 * 1024  # bytes in one request


class LogInRole(RoleMixin, Role):  # type: ignore[misc]  # its description may be None there, never here
    """The stored role with what the log-in library asks of it."""


class LogIn(UserMixin, User):
    """The stored user with what the log-in library asks of it."""

    roles: Mapped[list[LogInRole]] = relationship(secondary=user_role, lazy="selectin", viewonly=True)  # type: ignore[assignment]


class Datastore(SQLAlchemySessionUserDatastore):
    """Reads the user of a page in a short transaction; only the library's own forms hold one and write."""

    def find_user(self, case_insensitive: bool = False, **kwargs: Any) -> LogIn | None:
        if request.blueprint == "security":
            return cast("LogIn | None", super().find_user(case_insensitive, **kwargs))
        ((name, value),) = kwargs.items()
        with db.read() as session:
            return session.scalar(select(LogIn).where(getattr(LogIn, name) == value))

    def mf_delete_recovery_code(self, user: UserMixin, idx: int) -> bool:
        """A code works once. The list is replaced: a change inside a JSON column is not seen and would be lost."""
        codes = list(user.mf_recovery_codes or [])
        if not 0 <= idx < len(codes):
            return False
        user.mf_recovery_codes = codes[:idx] + codes[idx + 1 :]
        self.put(user)  # type: ignore[no-untyped-call]
        return True


class Addresses(MailUtil):
    """Takes mail addresses as they are stored; sends nothing."""

    def normalize(self, email: str) -> str:
        return plain_address(email)

    def validate(self, email: str) -> str:
        return plain_address(email)

    def send_mail(self, *_: Any, **__: Any) -> None:
        return None


def key(master: bytes, purpose: str) -> bytes:
    """Return 32 bytes for one purpose, derived from the master key (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"msp-toolkit web {purpose}".encode()).derive(master)


def plain_address(identity: str) -> str:
    """Return a mail address as it is stored. Domains of closed networks (`.local`) are addresses too."""
    return identity.strip().lower()


def _session() -> Session:
    """A transaction for the library's own forms: it writes when a form was sent."""
    engine = db.current().engine
    if request.method in ("GET", "HEAD", "OPTIONS"):
        engine = engine.execution_options(msp_read_only=True)
    return Session(engine, expire_on_commit=False)


def install(app: Flask, settings: Settings) -> None:
    """Give the application its log-in, its protection against forged forms, its limits and its headers.

    Raises Misconfigured if the vault's key file is missing or readable by others: cookies are signed by it.
    """
    Vault.from_file(settings.key_path)
    master = bytes.fromhex(settings.key_path.read_text("ascii").strip())
    if settings.trusted_proxies:
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, count, count, count, count, count)  # type: ignore[method-assign]
    app.config.update(
        SECRET_KEY=key(master, "sessions").hex(),
        MAX_CONTENT_LENGTH=UPLOAD,
        PERMANENT_SESSION_LIFETIME=timedelta(hours=12),
        SESSION_COOKIE_NAME="msp_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.secure_cookies,
        REMEMBER_COOKIE_SECURE=settings.secure_cookies,
        REMEMBER_COOKIE_HTTPONLY=True,
        REMEMBER_COOKIE_SAMESITE="Lax",
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session
        WTF_CSRF_HEADERS=["X-CSRFToken"],
        SECURITY_PASSWORD_HASH="argon2",  # noqa: S106  a scheme
        SECURITY_PASSWORD_SCHEMES=["argon2"],
        SECURITY_PASSWORD_SINGLE_HASH=True,
        SECURITY_PASSWORD_NORMALIZE_FORM=None,  # stored by msp.people as typed
        SECURITY_PASSWORD_LENGTH_MIN=1,  # what is too short was refused when it was chosen
        SECURITY_PASSWORD_SALT=key(master, "passwords").hex(),
        SECURITY_USER_IDENTITY_ATTRIBUTES=[{"email": {"mapper": plain_address, "case_insensitive": True}}],
        SECURITY_RETURN_GENERIC_RESPONSES=True,
        SECURITY_TWO_FACTOR=True,
        SECURITY_TWO_FACTOR_ENABLED_METHODS=["authenticator"],
        SECURITY_TWO_FACTOR_RESCUE_EMAIL=False,
        SECURITY_TOTP_SECRETS={"1": key(master, "second factor").hex()},
        SECURITY_TOTP_ISSUER="msp-toolkit",
        SECURITY_MULTI_FACTOR_RECOVERY_CODES=True,
        SECURITY_MULTI_FACTOR_RECOVERY_CODES_N=8,
        SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS=[base64.urlsafe_b64encode(key(master, "recovery codes"))],
        SECURITY_LOGIN_URL="/log-in",
        SECURITY_LOGOUT_URL="/log-out",
        SECURITY_VERIFY_URL="/log-in/again",
        SECURITY_TWO_FACTOR_SETUP_URL="/account/second-factor",
        SECURITY_TWO_FACTOR_TOKEN_VALIDATION_URL="/log-in/code",  # noqa: S106  an address
        SECURITY_TWO_FACTOR_RESCUE_URL="/log-in/help",
        SECURITY_TWO_FACTOR_SELECT_URL="/log-in/method",
        SECURITY_MULTI_FACTOR_RECOVERY_CODES_URL="/account/recovery-codes",
        SECURITY_MULTI_FACTOR_RECOVERY_URL="/log-in/recovery-code",
        SECURITY_POST_LOGIN_VIEW="/",
        SECURITY_POST_LOGOUT_VIEW="/log-in",
        SECURITY_STATIC_FOLDER=None,
        SECURITY_FLASH_MESSAGES=True,
    )
    CSRFProtect(app)
    transactions: scoped_session[Session] = scoped_session(_session)  # type: ignore[arg-type]  # any factory will do
    Security(app, Datastore(transactions, LogIn, LogInRole), mail_util_cls=Addresses)

    @app.teardown_appcontext
    def release(_error: BaseException | None) -> None:
        transactions.remove()

    def remember(kind: str) -> Any:
        def told(_sender: Flask, user: LogIn, **_: Any) -> None:
            subject = ("user", user.id)
            evidence.record(transactions(), kind, actor=user.email, subject=subject, client_id=user.client_id)

        return told

    for signal, kind in (
        (user_authenticated, "user.logged_in"),
        (tf_profile_changed, "user.second_factor_set"),
        (tf_disabled, "user.second_factor_removed"),
    ):
        signal.connect(remember(kind), app, weak=False)
    _limit(app, settings)

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if settings.secure_cookies:
            response.headers.setdefault("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
        if request.endpoint != "static":
            response.headers.setdefault("Cache-Control", "private, no-cache")
        return response


def _limit(app: Flask, settings: Settings) -> None:
    """Slow down guessing: by address for every attempt, by account for those that failed.

    The library's forms take no JSON here: nothing of ours sends it, and it would be read past what is counted.
    A key is never empty: the limiter counts nothing for an empty one.
    """
    limiter = Limiter(get_remote_address, app=app, storage_uri="memory://", headers_enabled=False)

    def account() -> str:
        return plain_address(request.form.get("email", "")) or "nobody"

    def failed(response: Response) -> bool:
        return response.status_code != 302 and not (response.is_json and response.status_code == 200)

    by_address = limiter.limit(settings.rate_limit, methods=["POST"])
    by_account = limiter.limit(FAILED_LOG_INS, key_func=account, methods=["POST"], deduct_when=failed)
    by_person = limiter.limit(FAILED_LOG_INS, key_func=_person, methods=["POST"], deduct_when=failed)
    views: dict[str, Any] = app.view_functions
    for endpoint in ("security.login", "security.two_factor_token_validation", "security.mf_recovery"):
        views[endpoint] = by_address(views[endpoint])
    views["security.login"] = by_account(views["security.login"])
    views["security.verify"] = by_person(by_address(views["security.verify"]))
    app.extensions[BY_PERSON] = lambda view: by_person(by_address(view))

    @app.before_request
    def refuse_json() -> None:
        if request.blueprint == "security" and request.method == "POST" and request.is_json:
            raise UnsupportedMediaType


def _person() -> str:
    """Return whose password is asked for once more; before log-in, whence."""
    return current_user.get_id() or get_remote_address()


def slows_down(endpoint: str) -> Callable[[BlueprintSetupState], None]:
    """Return what limits a view of a blueprint that asks for the own password: `bp.record(slows_down("a.view"))`."""

    def limit(state: BlueprintSetupState) -> None:
        views: dict[str, Any] = state.app.view_functions
        views[endpoint] = state.app.extensions[BY_PERSON](views[endpoint])

    return limit
