"""OpenBao or HashiCorp Vault as a store of secrets: engine KV, version 2; log-in by token or AppRole; extra `openbao`.

While a secret is rotated its other values are fields beside it, FIELD.next and FIELD.previous. Every change is one
write that names the version it was made from (check-and-set), so two writers cannot undo each other's work. No call is
made while a transaction of ours is open; the functions of the flows see to that.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msp import log
from msp.errors import Conflict, Misconfigured, NotFound, Refused, Unreachable
from msp.secret import Secret
from msp.secret_store.reference import Reference
from msp.secret_store.store import Kept
from msp.settings import Settings

LARGEST = 512 * 1024  # characters of one value; what is longer is no secret


@dataclass(frozen=True, slots=True)
class Account:
    """How the store is reached. Exactly one of `token_file` and `role_id` with `secret_id_file` is given."""

    address: str
    namespace: str = ""
    ca_file: str = ""
    token_file: str = ""
    role_id: str = ""
    secret_id_file: str = ""
    approle: str = "approle"
    timeout: int = 10  # seconds

    @classmethod
    def of(cls, settings: Settings) -> "Account":
        """Return the account of the settings `bao_*`. Raises Misconfigured for what cannot be."""
        account = cls(
            address=settings.bao_address.rstrip("/"),
            namespace=settings.bao_namespace,
            ca_file=settings.bao_ca_file,
            token_file=settings.bao_token_file,
            role_id=settings.bao_role_id,
            secret_id_file=settings.bao_secret_id_file,
            approle=settings.bao_approle,
            timeout=settings.bao_timeout,
        )
        account.check()
        return account

    def check(self) -> None:
        """Raise Misconfigured unless the address is safe and there is one way to log in."""
        if not self.address:
            raise Misconfigured("No OpenBao is set up.", advice="Set bao_address, and a token or an AppRole.")
        parts = urlsplit(self.address)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise Misconfigured(f"bao_address {self.address!r} is no address.", advice="Write https://host:8200.")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise Misconfigured(
                f"bao_address {self.address} would send secrets in the clear.", advice="Use https and bao_ca_file."
            )
        if bool(self.token_file) == bool(self.role_id):
            raise Misconfigured(
                "OpenBao needs a token or an AppRole, and not both.", advice="Set bao_token_file, or bao_role_id."
            )
        if self.role_id and not self.secret_id_file:
            raise Misconfigured("The AppRole has no secret id.", advice="Set bao_secret_id_file.")
        if self.timeout < 1:
            raise Misconfigured("bao_timeout is less than a second.", advice="Allow it some seconds.")
        if self.ca_file and not Path(self.ca_file).is_file():
            raise Misconfigured(f"The CA certificate {self.ca_file} is not there.", advice="Correct bao_ca_file.")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@lru_cache(maxsize=8)
def connected(account: Account) -> "BaoStore":
    """Return the store of an account; one a process, so that a log-in serves many calls."""
    return BaoStore(account)


@dataclass(eq=False)
class BaoStore:
    """Secrets in a KV engine, version 2."""

    account: Account
    _token: str = field(default="", repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def get(self, reference: Reference) -> Kept:
        fields, _, changed_at = self._read(reference)
        name = _field(reference)
        if name not in fields:
            what = f"field {reference.field}" if reference.which == "current" else f"{reference.which} value"
            raise NotFound(f"{reference} has no {what}.", advice="Look at it in OpenBao.")
        value = fields[name]
        if not isinstance(value, str) or len(value) > LARGEST:
            raise Misconfigured(f"{reference} holds no text.", advice="Keep one secret in each field, as text.")
        log.redactor.learn([value])
        return Kept(Secret(value), changed_at)

    def put(self, reference: Reference, value: Secret) -> None:
        def change(fields: dict[str, Any]) -> None:
            fields[reference.field] = value.value
            fields.pop(f"{reference.field}.next", None)
            fields.pop(f"{reference.field}.previous", None)

        self._change(reference, change, may_be_new=True)

    def stage(self, reference: Reference, value: Secret) -> None:
        def change(fields: dict[str, Any]) -> None:
            if f"{reference.field}.next" in fields:
                raise Conflict(f"{reference} is being rotated already.", advice="Let that end first.")
            if reference.field not in fields:
                raise NotFound(f"{reference} has no field {reference.field}.", advice="Look at it in OpenBao.")
            fields[f"{reference.field}.next"] = value.value

        self._change(reference, change)

    def promote(self, reference: Reference) -> None:
        def change(fields: dict[str, Any]) -> None:
            if f"{reference.field}.next" not in fields:
                raise NotFound(f"{reference} has no next value.", advice="Begin the rotation again.")
            fields[f"{reference.field}.previous"] = fields.get(reference.field, "")
            fields[reference.field] = fields.pop(f"{reference.field}.next")

        self._change(reference, change)

    def drop(self, reference: Reference) -> None:
        if reference.which == "current":
            raise Misconfigured(f"{reference} is the value in force.", advice="Delete the secret instead.")
        if _field(reference) in self._read(reference)[0]:
            self._change(reference, lambda fields: fields.pop(_field(reference), None))

    def delete(self, reference: Reference) -> None:
        def change(fields: dict[str, Any]) -> None:
            if reference.field not in fields:
                raise NotFound(f"{reference} has no field {reference.field}.", advice="It is gone already.")
            for suffix in ("", ".next", ".previous"):
                fields.pop(reference.field + suffix, None)

        self._change(reference, change)

    def check(self) -> None:
        """Log in and raise what is wrong, if anything; for the doctor."""
        self._call("its health", lambda client: client.auth.token.lookup_self())

    def _change(
        self, reference: Reference, change: Callable[[dict[str, Any]], Any], *, may_be_new: bool = False
    ) -> None:
        try:
            fields, version, _ = self._read(reference)
        except NotFound:
            if not may_be_new:
                raise
            fields, version = {}, self._last_version(reference)
        change(fields)

        def write(client: Any) -> Any:
            engine = client.secrets.kv.v2
            if not fields:
                return engine.delete_latest_version_of_secret(reference.path, mount_point=reference.mount)
            return engine.create_or_update_secret(reference.path, fields, cas=version, mount_point=reference.mount)

        self._call(str(reference), write)

    def _read(self, reference: Reference) -> tuple[dict[str, Any], int, datetime | None]:
        def read(client: Any) -> Any:
            return client.secrets.kv.v2.read_secret_version(
                reference.path, mount_point=reference.mount, raise_on_deleted_version=True
            )

        answer = self._call(str(reference), read)
        try:
            data, about = answer["data"]["data"], answer["data"]["metadata"]
            return dict(data), int(about["version"]), datetime.fromisoformat(_shortened(about["created_time"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Misconfigured(
                f"{reference.mount} at {self.account.address} is no KV engine of version 2.",
                advice="Name the mount of a KV engine, version 2.",
            ) from error

    def _last_version(self, reference: Reference) -> int:
        """Return the number of the newest version, deleted or not; a write must name it. 0: there was never one."""

        def read(client: Any) -> Any:
            return client.secrets.kv.v2.read_secret_metadata(reference.path, mount_point=reference.mount)

        try:
            return int(self._call(str(reference), read)["data"]["current_version"])
        except NotFound:
            return 0

    def _call(self, what: str, action: Callable[[Any], Any]) -> Any:
        """Return the answer to one request; a token that has expired is fetched anew, once."""
        import hvac.exceptions

        client = self._client(fresh=False)
        try:
            try:
                return self._answered(what, client, action)
            except hvac.exceptions.Forbidden:
                if not self.account.role_id or self._still_valid(client):
                    raise
            client = self._client(fresh=True)
            return self._answered(what, client, action)
        except hvac.exceptions.Forbidden as error:
            where = self.account.address
            if not self._still_valid(client):
                raise Refused(
                    f"OpenBao at {where} does not know our token; it may have expired.",
                    advice="Put a valid token into bao_token_file.",
                ) from error
            raise Refused(
                f"OpenBao at {where} does not let us reach {what}.", advice="Let the token's policy reach that path."
            ) from error

    def _client(self, *, fresh: bool) -> Any:
        """Return a client that is logged in."""
        try:
            import hvac
            import requests
        except ModuleNotFoundError as error:
            raise Misconfigured(
                "The client of OpenBao is not installed.", advice="Run pip install 'msp-toolkit[openbao]'."
            ) from error
        session = requests.Session()
        session.trust_env = False  # no proxy, .netrc or CA bundle from the environment
        session.verify = self.account.ca_file or True
        client = hvac.Client(
            url=self.account.address,
            namespace=self.account.namespace or None,
            timeout=self.account.timeout,
            session=session,
            allow_redirects=False,  # the token would follow wherever it is sent
        )
        with self._lock:
            if self.account.token_file:
                self._token = _from_file(self.account.token_file, "token")
            elif fresh or not self._token:
                self._token = self._log_in(client)
            client.token = self._token
        return client

    def _log_in(self, client: Any) -> str:
        secret_id = _from_file(self.account.secret_id_file, "secret id")

        def log_in(client: Any) -> Any:
            return client.auth.approle.login(
                role_id=self.account.role_id, secret_id=secret_id, use_token=False, mount_point=self.account.approle
            )

        import hvac.exceptions

        try:
            token = str(self._answered("the AppRole log-in", client, log_in)["auth"]["client_token"])
        except (hvac.exceptions.InvalidRequest, hvac.exceptions.Forbidden, NotFound) as error:
            raise Refused(
                f"OpenBao at {self.account.address} does not admit our AppRole.",
                advice="Renew the secret id in bao_secret_id_file; check bao_role_id and bao_approle.",
            ) from error
        log.redactor.learn([token, secret_id])
        return token

    def _still_valid(self, client: Any) -> bool:
        import hvac.exceptions

        try:
            self._answered("our token", client, lambda one: one.auth.token.lookup_self())
        except (hvac.exceptions.Forbidden, Refused):
            return False
        return True

    def _answered(self, what: str, client: Any, action: Callable[[Any], Any]) -> Any:
        """Return the answer, or raise our error for each way in which there is none; Forbidden and bad log-ins pass."""
        import hvac.exceptions as answers
        import requests.exceptions as wire

        where = f"OpenBao at {self.account.address}"
        try:
            answer = action(client)
        except wire.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):  # hung up while greeting, or speaks no TLS
                raise Unreachable(f"{where} does not speak TLS with us.", advice="Check bao_address.") from error
            raise Refused(
                f"{where} shows a certificate that we do not trust.", advice="Check the address and bao_ca_file."
            ) from error
        except wire.Timeout as error:
            raise Unreachable(
                f"{where} did not answer in {self.account.timeout} s.", advice="Is it up? Try again."
            ) from error
        except wire.RequestException as error:
            raise Unreachable(f"{where} cannot be reached.", advice="Is it up? Check bao_address.") from error
        except answers.InvalidPath as error:
            gone = bool(((error.json or {}).get("data") or {}).get("metadata", {}).get("deletion_time"))
            said = f"{what} was deleted in OpenBao." if gone else f"{where} has no {what}."
            raise NotFound(said, advice="Check the mount, the path and the field.") from error
        except answers.InvalidRequest as error:
            if "check-and-set" in str(error):
                raise Conflict(f"{what} was changed by somebody else just now.", advice="Do it again.") from error
            raise
        except answers.VaultDown as error:
            if "sealed" in str(error).lower():
                raise Unreachable(f"{where} is sealed.", advice="Unseal it.") from error
            raise Unreachable(f"{where} is a standby node.", advice="Name the active one.") from error
        except answers.VaultNotInitialized as error:
            raise Misconfigured(f"{where} has never been initialised.", advice="Initialise it.") from error
        except answers.RateLimitExceeded as error:
            raise Unreachable(f"{where} asks us to slow down.", advice="Try again later.") from error
        except answers.Unauthorized as error:
            raise answers.Forbidden(str(error)) from error
        except (answers.InternalServerError, answers.BadGateway, answers.UnexpectedError) as error:
            raise Unreachable(f"{where} failed to answer for {what}.", advice="Look at its log.") from error
        if not isinstance(answer, Mapping) and getattr(answer, "is_redirect", False):
            raise Unreachable(
                f"{where} sends us elsewhere, and a token is not taken there.", advice="Name the active node."
            )
        return answer


def _field(reference: Reference) -> str:
    return reference.field if reference.which == "current" else f"{reference.field}.{reference.which}"


def _shortened(instant: str) -> str:
    """Return an instant with at most six digits of a second; it is told with nine."""
    head, dot, rest = instant.partition(".")
    digits = "".join(one for one in rest if one.isdigit())[:6]
    return f"{head}.{digits.ljust(6, '0')}+00:00" if dot else instant.replace("Z", "+00:00")


def _from_file(name: str, what: str) -> str:
    path = Path(name)
    try:
        if path.stat().st_mode & 0o077:
            raise Misconfigured(f"The {what} file {path} is readable by others.", advice=f"Run chmod 600 {path}.")
        value = path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise Misconfigured(f"The {what} file {path} cannot be read.", advice="Correct the setting.") from error
    if not value:
        raise Misconfigured(f"The {what} file {path} is empty.", advice="Write the value into it.")
    return value
