"""What a started machine showed, and what that means. Pure.

A marker proves that a system came up; only the machine's own name proves that it is the right one, because another
one's disk reaches the same log-in prompt. Text decides: from the serial console, or read out of the screen's own text
memory. What was recognised in a drawn picture explains a failure and decides nothing.
"""

import re
from dataclasses import dataclass

from msp.backup.case import Boot
from msp.backup.verdict import Finding

ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>c])")
#: A disk that this machine's bus does not suit is tried on another one.
WRONG_BUS = re.compile(r"unable to mount root|gave up waiting for root|can't find .*root|no bootable device", re.I)  # noqa: FURB167


@dataclass(frozen=True, slots=True)
class Stage:
    """One way in which a start ends before the system is up; `sign` tells it from the others."""

    name: str
    sign: re.Pattern[str]
    what: str
    advice: str


#: In order of how much each explains: a kernel that finds no init panics too.
STAGES = (
    Stage(
        "no_boot_sector",
        re.compile(r"no bootable device|not a bootable disk|missing operating system|boot failed", re.IGNORECASE),
        "The disk does not start: it has no boot sector that works.",
        "Look whether the job copies the whole disk, its first sectors included.",
    ),
    Stage(
        "no_kernel",
        re.compile(
            r"could not find kernel image|loading \S+\.\.\. ?failed|you need to load the kernel first|invalid kernel"
            r"|grub rescue>|vmlinuz\S*' not found|no DEFAULT or UI configuration",
            re.IGNORECASE,
        ),
        "The boot loader finds no kernel to start.",
        "Look whether the job copies /boot, and whether an update left it half written.",
    ),
    Stage(
        "no_init",
        re.compile(
            r"no working init found|no init found|doesn't have requested /sbin/init|run-init: .*no such file",
            re.IGNORECASE,
        ),
        "The kernel starts and finds no init to run.",
        "Look whether the job copies the root file system whole.",
    ),
    Stage(
        "panic",
        re.compile(r"kernel panic", re.IGNORECASE),
        "The kernel panics.",
        "Read the console: what it says before the panic names the cause.",
    ),
    Stage(
        "emergency",
        re.compile(r"emergency mode|rescue mode|\(initramfs\)|give root password for maintenance", re.IGNORECASE),
        "The system stops in emergency mode and waits for a person.",
        "Look which file system or service it waits for, often a line in /etc/fstab.",
    ),
)
EMULATOR = re.compile(r"KVM internal error")


def stage_of(text: str) -> Stage | None:
    """Return where a start ended, by what it said; None if nothing known was said."""
    return next((stage for stage in STAGES if stage.sign.search(text)), None)


def plain_text(console: bytes) -> str:
    """Return a console's bytes as lines of text without control sequences."""
    return ESCAPES.sub(b"", console).decode("utf-8", "replace").replace("\r", "")


def names(text: str, host: str) -> bool:
    """Return whether `host` stands in the text as a name of its own, not as a part of another."""
    return re.search(rf"(?<![\w-]){re.escape(host)}(?![\w-])", text) is not None


def judge(text: str, seen: bool, wanted: Boot, host: str | None, *, drawn: str = "") -> list[Finding]:
    """Return what a start means.

    text: everything the console and the text screen said. seen: whether the marker was among it. drawn: what was
    recognised in a drawn screen, to explain.
    """
    if not seen:
        lines = [line.strip() for line in (text or drawn).splitlines() if line.strip()]
        stage = stage_of(text) or stage_of(drawn)
        if stage is not None:
            line = next(line for line in (text + "\n" + drawn).splitlines() if stage.sign.search(line))
            return [Finding("boot", stage.what, line.strip()[:200], stage.advice)]
        what = f"The machine did not show {wanted.marker!r} within {wanted.timeout_s:g} s."
        advice = "Look at its screen and console in the evidence; repair the machine's boot, then back it up again."
        return [Finding("boot", what, lines[-1][:200] if lines else "no output", advice)]
    if host is not None and not names(text, host):
        other = re.search(r"(\S+) login:", text)
        what = f"The machine that started does not call itself {host}."
        return [Finding("identity", what, other[1] if other else "", "Look which machine's disk the job copies.")]
    return []
