"""What the network transport performs, filled in. Pure values: `text` may be shown, the secrets in it may not."""

from dataclasses import dataclass, field
from datetime import timedelta

from msp.secret import Secret


@dataclass(frozen=True, slots=True)
class Line:
    """One line for a device. `exact`: must be found in the configuration afterwards just as it was sent."""

    text: str = field(repr=False)
    shown: str  # with secrets as their names
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """Commands, and what their answers must (not) hold: a text, or a regular expression."""

    show: tuple[str, ...]
    wanted: str
    pattern: bool = False
    absent: bool = False

    def __str__(self) -> str:
        what = f"{self.wanted!r}" if not self.pattern else f"/{self.wanted}/"
        return f"`{'; '.join(self.show)}` {'does not show' if self.absent else 'shows'} {what}"


@dataclass(frozen=True, slots=True)
class NetworkWork:
    """One act on a device."""

    step: str  # which step of the run: its undo finds by it what was there before
    show: tuple[str, ...] = ()
    config: tuple[Line, ...] = ()
    looks: tuple[Look, ...] = ()
    within: timedelta = timedelta(0)
    deadman: timedelta | None = None
    save: bool = False
    backup: bool = False
    revert: bool = False
    enable: Secret | None = None

    @property
    def changes(self) -> bool:
        """Needs the device for itself."""
        return bool(self.config or self.save or self.revert)

    @property
    def text(self) -> str:
        """The act as it may be stored and shown."""
        lines = list(self.show)
        if self.config:
            lines += ["configure", *(f"  {line.shown}" for line in self.config)]
        if self.deadman:
            lines.append(f"taken back after {self.deadman} unless proven")
        lines += ["keep the running configuration"] * self.backup + ["bring back the configuration"] * self.revert
        lines += [f"expect: {look}" for look in self.looks] + ["save"] * self.save
        return "\n".join(lines) + "\n"
