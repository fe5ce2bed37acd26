"""Settings: one `msp.toml`, overridden by `MSP_*`. An unknown key is an error, never a silent typo.

Business facts (contracts, hours, clauses) live in the database, not here.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from msp.errors import Misconfigured


def setting(default: Any, explains: str) -> Any:
    """A field that carries its own documentation for `msp settings` and the reference page."""
    return field(default=default, metadata={"explains": explains})


@dataclass(frozen=True)
class Settings:
    """Every setting, with its default. The order is that of the reference page."""

    data: Path = setting(Path("var"), "Folder of this installation: database, key file, spool, backups.")  # noqa: RUF009  immutable
    database: str = setting("", "Database URL; empty means the file msp.db in `data`.")
    key_file: str = setting("", "File of the vault's master key; empty means vault.key in `data`.")
    address: str = setting("127.0.0.1", "Address the web listens on.")
    port: int = setting(8440, "Port the web listens on; 0 picks a free one.")
    public_url: str = setting("", "Address under which clients reach the web, for links in messages.")
    secure_cookies: bool = setting(False, "Send cookies over HTTPS only; set it behind a TLS proxy.")
    trusted_proxies: int = setting(0, "Number of reverse proxies in front whose X-Forwarded-* are believed.")
    language: str = setting("en", "Language of pages before log-in: en or ru.")
    worker_name: str = setting("worker-01", "Slot name of this worker; a restarted worker takes it up again.")
    worker_concurrency: int = setting(8, "Runs and restore tests that one worker drives at once.")
    client_concurrency: int = setting(4, "Runs of one client that are driven at once.")
    lease_seconds: int = setting(60, "Seconds without a heartbeat after which a worker counts as dead.")
    standby: bool = setting(True, "Worker keeps a process ready that carries out `msp run` without a start of its own.")
    drain_seconds: int = setting(30, "Seconds that a stopping worker waits for the step in hand.")
    provider: str = setting("", "Name of your company as acts and reports print it.")
    provider_details: str = setting("", "Address, tax number and account of your company, as acts print them.")
    rate_card: str = setting("", "JSON file of the prices in the public cost calculator; empty shows an example.")
    playbooks: str = setting("", "Folder of your own playbooks, searched before those shipped.")
    spool_mb: int = setting(
        0, "Megabytes of whole output that one run may keep in spool of `data`; 0 keeps 64 KB from each end only."
    )
    scratch: str = setting("", "Folder for restore tests; empty means scratch in `data`.")
    recordings: str = setting("", "Folder for recordings of consoles; empty means recordings in `data`.")
    recordings_quota_mb: int = setting(20480, "Megabytes that all recordings may take; then no console opens.")
    recording_limit_mb: int = setting(256, "Megabytes of one recording; at that size its console ends.")
    console_idle_minutes: int = setting(15, "Minutes without anything typed after which a console ends.")
    console_limit_minutes: int = setting(240, "Minutes after which a console ends, whatever happens.")
    console_url: str = setting("", "Address at which browsers reach `msp console`; empty: the web process serves them.")
    travel_service: str = setting(
        "", "Map service for travel times: osrm, valhalla, openrouteservice; empty estimates."
    )
    travel_url: str = setting("", "Its address, like http://osrm.example:5000.")
    travel_key: str = setting("", "Name in the vault of the key that it asks for.")
    travel_zone: str = setting("UTC", "Time zone whose hours of the week traffic follows, like Europe/Berlin.")
    map_tiles_url: str = setting(
        "", "Map tiles behind the routes, like https://tiles.example/{z}/{x}/{y}.png; empty: none are ever asked for."
    )
    map_tiles_credit: str = setting("", "Whom the map must credit for its tiles, like © OpenStreetMap contributors.")
    log_level: str = setting("INFO", "DEBUG, INFO, WARNING or ERROR.")
    mail_url: str = setting("", "Where notices go, as an Apprise URL (mailto://...); empty keeps them on the page.")
    bao_address: str = setting("", "Address of OpenBao or HashiCorp Vault (https://...), for secrets named bao:...")
    bao_namespace: str = setting("", "Namespace there; empty means the root namespace.")
    bao_ca_file: str = setting("", "CA certificate that its certificate must be signed by; empty: the system's.")
    bao_token_file: str = setting("", "File with a token for it, readable by its owner alone.")
    bao_role_id: str = setting("", "Role id of its AppRole log-in, instead of a token.")
    bao_secret_id_file: str = setting("", "File with the secret id of its AppRole log-in.")
    bao_approle: str = setting("approle", "Path at which its AppRole log-in is mounted.")
    bao_path: str = setting("{client}/", "Where a client's secrets must lie there; {client} is the client's key.")
    bao_timeout: int = setting(10, "Seconds that it may take to answer.")
    password_days: int = setting(90, "Days after which a password should be rotated.")
    ssh_key_days: int = setting(180, "Days after which an SSH key should be rotated.")
    other_secret_days: int = setting(365, "Days after which any other secret should be rotated.")
    rate_limit: str = setting("30 per minute", "Log-in attempts that one address may make.")

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{(self.data / 'msp.db').resolve()}"

    @property
    def key_path(self) -> Path:
        return Path(self.key_file) if self.key_file else self.data / "vault.key"

    @property
    def recordings_path(self) -> Path:
        return Path(self.recordings) if self.recordings else self.data / "recordings"

    @property
    def scratch_path(self) -> Path:
        return Path(self.scratch) if self.scratch else self.data / "scratch"


def _as(kind: Any, name: str, value: Any, source: str) -> Any:
    """Return `value` as the type of the setting, or raise Misconfigured that names it."""
    try:
        match kind():
            case bool():
                if isinstance(value, str):
                    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
                        value.lower()
                    ]
                if not isinstance(value, bool):
                    raise TypeError
                return value
            case int():
                if isinstance(value, bool):
                    raise TypeError
                return int(value)
            case Path():
                return Path(value)
            case _:
                if not isinstance(value, str):
                    raise TypeError
                return value
    except (KeyError, ValueError, TypeError) as error:
        wanted = {bool: "true or false", int: "a whole number", Path: "a path"}.get(kind, "text")
        raise Misconfigured(
            f"Setting {name} in {source} is {value!r}, which is not {wanted}.",
            advice="Correct it; `msp settings` explains every setting.",
        ) from error


def load(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings from `file` (default: MSP_CONFIG, then ./msp.toml if it is there) and MSP_*.

    Raises Misconfigured for an unknown key, a value of the wrong type or a file that is not TOML.
    """
    env = os.environ if environment is None else environment
    kinds = {item.name: item.type for item in fields(Settings)}
    named = file or (Path(env["MSP_CONFIG"]) if env.get("MSP_CONFIG") else None)
    path = named or Path("msp.toml")
    values: dict[str, Any] = {}
    if named or path.exists():
        try:
            found = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise Misconfigured(
                f"{path} cannot be read: {error.strerror}.", advice="Run msp init, or name another file."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Misconfigured(f"{path} is not valid TOML: {error}.", advice="Correct the line named.") from error
        for name, value in found.items():
            if name not in kinds:
                raise _unknown(name, str(path), kinds)
            values[name] = _as(kinds[name], name, value, str(path))
        if "data" in values and not values["data"].is_absolute():
            values["data"] = path.parent / values["data"]
    for variable, text in env.items():
        name = variable.removeprefix("MSP_").lower()
        if variable.startswith("MSP_") and variable != "MSP_CONFIG" and not name.startswith("test_"):
            if name not in kinds:
                raise _unknown(name, f"the environment ({variable})", kinds)
            values[name] = _as(kinds[name], name, text, variable)
    return Settings(**values)


def _unknown(name: str, source: str, kinds: Mapping[str, Any]) -> Misconfigured:
    from difflib import get_close_matches

    near = get_close_matches(name, kinds, n=1)
    advice = f"Did you mean {near[0]}?" if near else "`msp settings` lists every setting."
    return Misconfigured(f"Unknown setting {name} in {source}.", advice=advice)
