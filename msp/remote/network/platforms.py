"""How each platform's command line is spoken: a table. Nothing here was tried on real gear but `frr`. Pure.

Devices do not raise: a rejected line and a failed save are plain text, so every platform must say what they look like.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

Answers = tuple[tuple[str, str], ...]  # a question (regular expression at the end of what was said), and the answer


@dataclass(frozen=True, slots=True)
class Say:
    """One line, and the answers to the questions that it raises."""

    line: str
    answers: Answers = ()


@dataclass(frozen=True, slots=True)
class Deadman:
    """A timer on the device itself that takes a change back. `{minutes}` is filled in."""

    arm: tuple[Say, ...]
    armed: str  # what the device says once it counts
    disarm: tuple[Say, ...]
    disarmed: str
    does: str  # what happens when nobody disarms it, for people
    loses_unsaved: bool = False  # it falls back to the stored configuration, so both must be the same beforehand


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform's command line. All patterns are searched in whole lines, without regard to case."""

    name: str
    driver: str  # netmiko's name for it: log-in, paging, privileged mode
    error: str  # a command was not understood or not allowed
    running: str  # shows what is in effect
    rejected: str = ""  # further signs that a line of configuration was not taken
    startup: str = ""  # shows what it would start with; empty: cannot be asked
    enter: str = "configure terminal"
    leave: str = "end"
    candidate: bool = False  # lines take effect by `commit` only, and are dropped by `drop`
    commit: str = ""
    drop: str = ""
    save: tuple[Say, ...] = ()  # empty: what is in effect is stored at once
    saved: str = ""  # what the device says once it is written
    inverse: Literal["no", "set", ""] = "no"  # how a line is taken back; empty: we do not know
    volatile: str = ""  # lines of a configuration that differ although nothing was changed
    deadman: Deadman | None = None
    quotes: bool = True  # Ctrl-V makes the next character plain; without it a ? is refused
    configurable: bool = True


_IOS_ERROR = (
    r"^% ?(invalid|incomplete|ambiguous|unrecognized|unknown|bad|error|access denied|authorization failed"
    r"|command (rejected|authorization)|permission denied|not )|^command rejected|^\s*\^\s*$"
)
_IOS_REJECTED = (
    r"^% ?(?!generating|warning|the key|please|note)[^\n]*(fail|invalid|reject|denied|overlap|conflict|duplicate|must"
    r"|cannot|can't|not (allowed|supported|found|permitted|configured|exist|recognized|a valid)|does not|out of range"
    r"|already|unable|exceed)|^command rejected"
)
_CONFIRM: Answers = ((r"\[confirm\]\s*$", ""),)
_OVERWRITE: Answers = (
    (r"\[startup-config\]\?\s*$", ""),
    (r"overwrite[^\n]*\?[^\n]*\[confirm\]\s*$", ""),
    (r"overwrite[^\n]*\[(yes/no|y/n)\]\s*:?\s*$", "yes"),
    *_CONFIRM,
)

PLATFORMS: Final = {
    platform.name: platform
    for platform in (
        Platform(
            "frr",
            driver="frr",
            error=r"^% ?(unknown|ambiguous|command incomplete|there is no matched|no such|can't )|permission denied",
            rejected=r"^%|^error\b|^line \d+: |failed",
            running="show running-config",
            save=(Say("write memory"),),
            saved=r"^\[OK\]",
            volatile=r"^(building configuration|current configuration)",
        ),
        Platform(
            "cisco_ios",
            driver="cisco_ios",
            error=_IOS_ERROR,
            rejected=_IOS_REJECTED,
            running="show running-config",
            startup="show startup-config",
            save=(Say("write memory", _OVERWRITE),),
            saved=r"\[OK\]",
            volatile=(
                r"^(building configuration|current configuration|using \d+ out of)|^! (last configuration|nvram config)"
                r"|^ntp clock-period"
            ),
            deadman=Deadman(
                arm=(
                    Say(
                        "reload in {minutes}",
                        ((r"save\? \[yes/no\]:?\s*$", "no"), (r"proceed with reload\? \[confirm\]\s*$", ""), *_CONFIRM),
                    ),
                ),
                armed=r"reload scheduled|proceed with reload|shutdown in",
                disarm=(Say("reload cancel"),),
                disarmed=r"shutdown aborted|reload cancelled|no reload is scheduled",
                does="reloads with its stored configuration, which interrupts everything that it carries",
                loses_unsaved=True,
            ),
        ),
        Platform(
            "cisco_nxos",
            driver="cisco_nxos",
            error=_IOS_ERROR + r"|^error:",
            rejected=_IOS_REJECTED + r"|^error:",
            running="show running-config",
            startup="show startup-config",
            save=(Say("copy running-config startup-config", _OVERWRITE),),
            saved=r"copy complete|100%",
            volatile=r"^!(command|time|running configuration last|startup config saved)",
        ),
        Platform(
            "arista_eos",
            driver="arista_eos",
            error=_IOS_ERROR,
            rejected=_IOS_REJECTED,
            running="show running-config",
            startup="show startup-config",
            save=(Say("write memory"),),
            saved=r"copy completed successfully",
            volatile=r"^! (command:|device:|startup-config last modified)",
        ),
        Platform(
            "juniper_junos",
            driver="juniper_junos",
            error=r"^\s*(syntax error|unknown command|error:|invalid |missing argument|ambiguous)|permission denied",
            rejected=r"^\s*(warning: statement not found|configuration check-out failed|commit failed)|^\s+\^\s*$",
            running="show configuration | display set | no-more",
            enter="configure exclusive",
            leave="exit",
            candidate=True,
            commit="commit",
            drop="rollback 0",
            inverse="set",
            volatile=r"^## last (commit|changed)",
            quotes=False,
            deadman=Deadman(
                arm=(Say("commit confirmed {minutes}"),),
                armed=r"commit (confirmed|complete)|will be automatically rolled back",
                disarm=(Say("commit"),),
                disarmed=r"commit complete",
                does="goes back to the configuration before the commit",
            ),
        ),
        Platform(
            "mikrotik_routeros",
            driver="mikrotik_routeros",
            error=(
                r"^\s*(bad command name|expected |syntax error|input does not match|no such item|failure:|invalid value"
                r"|ambiguous value|unknown parameter|value of \S+ )|not enough permissions"
            ),
            running="/export",
            enter="",
            leave="",
            inverse="",
            volatile=r"^# \S+ [\d:]+ by routeros|^# (software id|model|serial number)",
            quotes=False,
        ),
        Platform(
            "linux",
            driver="linux",
            error=r"command not found|: not found$|no such file or directory|permission denied|not permitted",
            running="",
            inverse="",
            configurable=False,
        ),
    )
}
_ALSO: Final = {"cisco_xe": "cisco_ios", "ios": "cisco_ios", "nxos": "cisco_nxos", "eos": "arista_eos", "vtysh": "frr",
                "juniper": "juniper_junos", "junos": "juniper_junos", "mikrotik": "mikrotik_routeros"}  # fmt: skip


def platform(name: str) -> Platform | None:
    """Return the platform of a target by its own or a common other name; None if we do not speak it."""
    return PLATFORMS.get(_ALSO.get(name.lower(), name.lower()))


def said(pattern: str, lines: list[str]) -> str:
    """Return the first line in which a platform's pattern is found, or nothing."""
    if not pattern:
        return ""
    found = re.compile(pattern, re.IGNORECASE)
    return next((line.strip() or line for line in lines if found.search(line)), "")
