"""What a step of a playbook may say. The pydantic models are the language: checking, editors and docs read them."""

from datetime import timedelta
from functools import cached_property
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from msp.remote.network.part import Network
from msp.remote.playbook_part import Account, Duration, Part
from msp.remote.screen.part import Screen


class Script(Part):
    """A script for the target's shell; values in {{ }} are quoted."""

    script: str = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"script": given} if isinstance(given, str) else given


class File(Part):
    """A file or folder on the target: written whole beside its place, then renamed, so nobody reads a half."""

    path: str = Field(min_length=1)
    content: str | None = Field(default=None, description="Text, a template; written verbatim.")
    source: str | None = Field(
        default=None, description="A file or a folder beside the playbook, copied byte by byte; a folder as a whole."
    )
    mode: str | None = Field(default=None, pattern=r"^[0-7]{3,4}$")
    owner: str | None = None
    state: Literal["present", "absent", "folder", "fetched"] = Field(
        default="present", description="fetched: the other way, into the output of the step."
    )
    backup: bool = Field(default=False, description="Keep the old file as PATH.msp-before; undo puts it back.")

    @property
    def only_looks(self) -> bool:
        return self.state == "fetched"


class Service(Part):
    """A service of the target's init system."""

    name: str = Field(min_length=1)
    state: Literal["started", "stopped", "restarted", "reloaded", "enabled", "disabled"]


class Package(Part):
    """Packages of the target's package manager (apt, dnf, yum, zypper, apk)."""

    name: str | tuple[str, ...]
    state: Literal["present", "absent", "latest"] = "present"


class WaitFor(Part):
    """Wait until a port answers, a path exists or a command succeeds; at most the step's timeout."""

    port: int | str | None = None
    address: str = "127.0.0.1"
    path: str | None = None
    command: str | None = None
    absent: bool = Field(default=False, description="Wait until it is gone instead.")
    every: Duration = timedelta(seconds=1)

    @model_validator(mode="after")
    def _one(self) -> "WaitFor":
        if sum(thing is not None for thing in (self.port, self.path, self.command)) != 1:
            raise ValueError("needs exactly one of port, path and command")
        return self


class Http(Part):
    """A request made from the target; the answer's status, and optionally its text, is checked."""

    url: str
    method: Literal["GET", "HEAD", "POST", "PUT", "DELETE"] = "GET"
    status: int | tuple[int, ...] = 200
    contains: str | None = None
    body: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    verify: bool = True

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"url": given} if isinstance(given, str) else given


class Assert(Part):
    """Conditions on what is known; nothing goes over the wire."""

    that: tuple[str, ...] = Field(min_length=1)
    message: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if isinstance(given, str | list):
            given = {"that": given}
        if isinstance(given, dict) and isinstance(given.get("that"), str):
            given = {**given, "that": [given["that"]]}
        return given


class Approve(Part):
    """Stop until the named person or role agrees."""

    who: str = Field(min_length=1)
    message: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"who": given} if isinstance(given, str) else given


class Include(Part):
    """The steps of another playbook, with its parameters."""

    playbook: str = Field(min_length=1)
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"playbook": given} if isinstance(given, str) else given


class Reboot(Part):
    """Restart the target and wait until it answers again with a new boot id."""

    wait: Duration = Field(default=timedelta(minutes=5), description="How long it may stay away.")
    message: str = Field(default="", description="Shown to everybody who is logged in.")
    command: str | None = Field(default=None, description="What restarts it, if not the system's own way.")
    boot_id: str = Field(default="/proc/sys/kernel/random/boot_id", description="File that names the boot.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, given: Any) -> Any:
        return {} if given is None else {"message": given} if isinstance(given, str) else given

    @property
    def proves_itself(self) -> bool:
        return True


#: Kinds that prove by themselves what they did, so that a step needs no `check`.
SELF_PROVING: Final = frozenset({"file", "service", "package", "wait_for", "http", "assert", "approve", "include"})
#: Kinds that only look.
READ_ONLY: Final = frozenset({"wait_for", "assert", "approve"})
#: Kinds whose scripts only Windows understands; scripts of `shell`, and all that are made of it, are for sh.
FOR_WINDOWS: Final = frozenset({"powershell", "cmd"})
FOR_POSIX: Final = frozenset({"shell", "file", "service", "package", "wait_for", "http"})
#: Kinds that are spoken of but not built.
NOT_BUILT: Final[dict[str, str]] = {}


class Action(Part):
    """Exactly one kind of act. A plain text is a `shell` script."""

    shell: Script | None = None
    powershell: Script | None = None
    cmd: Script | None = None
    file: File | None = None
    service: Service | None = None
    package: Package | None = None
    wait_for: WaitFor | None = None
    http: Http | None = None
    assert_: Assert | None = Field(default=None, alias="assert")
    approve: Approve | None = None
    include: Include | None = None
    reboot: Reboot | None = None
    network: Network | None = None
    screen: Screen | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"shell": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one(self) -> "Action":
        if len(self.model_fields_set) != 1:
            raise ValueError(f"needs exactly one of {', '.join(ACTION_KINDS)}")
        return self

    @cached_property
    def kind(self) -> str:
        """The name of the kind, as written."""
        return next(iter(self.model_fields_set)).rstrip("_")

    @cached_property
    def act(self) -> Any:
        """The one part that is set."""
        return getattr(self, next(iter(self.model_fields_set)))

    @property
    def lasts(self) -> timedelta:
        """How long it may take by what it says itself."""
        return self.act.wait + timedelta(seconds=30) if isinstance(self.act, Reboot) else timedelta(0)

    @property
    def only_looks(self) -> bool:
        return self.kind in READ_ONLY or bool(self.act.only_looks)

    @property
    def proves_itself(self) -> bool:
        return self.kind in SELF_PROVING or bool(self.act.proves_itself)


ACTION_KINDS: Final = tuple(field.alias or name for name, field in Action.model_fields.items())


class Retry(Part):
    """Try an idempotent step again. `attempts` counts the first one too."""

    attempts: int = Field(default=3, ge=2, le=100)
    delay: Duration = timedelta(seconds=2)

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, given: Any) -> Any:
        return {"attempts": given} if isinstance(given, int) and not isinstance(given, bool) else given


class Step(Part):
    """Is it needed (`probe`), do it, did it work (`check`), and how to take it back (`undo`)."""

    name: str = ""
    when: str | bool | None = Field(default=None, description="Condition; the step is skipped when it is false.")
    probe: Action | None = Field(default=None, description="Is it needed? Reads only: exit status 0 yes, 1 no.")
    do: Action
    check: Action | None = Field(default=None, description="Did it work? Without it a change cannot be done.")
    undo: Action | None = Field(default=None, description="How to take it back when a later step fails.")
    register_as: str | None = Field(
        default=None, alias="register", description="Name under which later steps see the output."
    )
    loop: str | tuple[Any, ...] | None = Field(default=None, description="Once for each; the value is `item`.")
    retry: Retry | None = None
    timeout: Duration | None = None
    become: bool | Account | None = Field(
        default=None, description="true: act as root by sudo; or the name of an account. false: as who logs in."
    )
    idempotent: bool = Field(default=False, description="Doing it twice does no harm.")
    changes: bool | None = Field(default=None, description="false: this step only reads and needs no check.")
    on_failure: Literal["undo", "continue", "stop", "visit"] = "undo"
    notify: tuple[str, ...] = Field(
        default=(), description="Handlers to run at the end if this step changed something."
    )

    @model_validator(mode="before")
    @classmethod
    def _plain_forms(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"do": given}
        if isinstance(given, dict):
            kinds = [key for key in given if key in ACTION_KINDS]
            if "do" not in given and len(kinds) == 1:
                given = {key: item for key, item in given.items() if key not in kinds} | {
                    "do": {kinds[0]: given[kinds[0]]}
                }
            if isinstance(given.get("notify"), str):
                given = {**given, "notify": [given["notify"]]}
        return given
