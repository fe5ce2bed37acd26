"""What is done on an open device: look, change with proof and a way back, save, keep. Runs in the worker process.

Whatever ends badly is told as it is: what was taken back and proven to be, what was not, and what the device will do
by itself.
"""

import re
import socket
import time
from collections.abc import Callable
from typing import Any

from msp.remote.network import configuration
from msp.remote.network.device import CannotLogIn, Device
from msp.remote.network.dialogue import Answer, Dialogue, HungUp
from msp.remote.network.platforms import Answers, Platform, Say, said

PAUSE = 1.0  # seconds between two looks, and between two attempts to log in again
PORTION = 32 * 1024  # characters of output that gather before they are said
REJECTED, UNMET, WRONG = 2, 1, 3  # statuses: a line was rejected, what was expected is not so, it cannot be done

Result = dict[str, Any]
Teller = Callable[..., None]
Connect = Callable[[float], socket.socket]


class Failed(Exception):
    """The act ends here; `status` tells programs why, the text tells people."""

    def __init__(self, detail: str, status: int = WRONG) -> None:
        super().__init__(detail)
        self.detail, self.status = detail, status


class Performing:
    """Acts on one device. `say` sends what is heard to the parent as it comes."""

    def __init__(self, device: Device, wanted: dict[str, Any], connect: Connect, say: Teller) -> None:
        self._wanted, self._connect, self._say = wanted, connect, say
        self._platform: Platform = device.platform
        self._name: str = wanted["name"]
        self._log_masker = configuration.Masker()
        self._hidden: list[tuple[str, str]] = []  # lines that hold secrets, and how they are shown
        self._logging = False
        self._unsaid: list[str] = []
        self._unsaid_size = 0
        self._take(device)

    def _out(self, text: str) -> None:
        """Say a part of the output; in portions, because much output comes line by line."""
        self._unsaid.append(text)
        self._unsaid_size += len(text)
        if self._unsaid_size > PORTION:
            self._say_all()

    def _say_all(self) -> None:
        """Say what has gathered: nothing more comes for the moment."""
        if self._unsaid:
            self._say(out="".join(self._unsaid))
            self._unsaid, self._unsaid_size = [], 0

    def _take(self, device: Device) -> None:
        self._device = device
        self._line: Dialogue = device.dialogue(self._logged, self._say_all)
        self._privileged = False

    def _enable(self, secret: str) -> None:
        """Most devices show and take their configuration in privileged mode only."""
        if not self._privileged and not self._device.privileged(secret):
            raise Failed(f"{self._name} did not give us its privileged mode; the step's `enable` secret may be wrong.")
        self._privileged = True

    def _logged(self, line: str) -> None:
        if not self._logging:
            return
        for secret, shown in self._hidden:
            line = line.replace(secret, shown)
        masked = self._log_masker.line(line)
        if masked is not None:
            self._say(err=masked + "\n")

    def perform(self, order: dict[str, Any]) -> Result:
        """Do one act and return how it ended: kind, status and detail of an Outcome."""
        try:
            detail = self._perform(order)
        except Failed as error:
            return {"kind": "failed", "status": error.status, "detail": error.detail}
        except HungUp as error:
            detail = (
                f"The connection to {self._name} went while it was at work; what it did is unknown. {error}".strip()
            )
            return {"kind": "lost", "detail": detail}
        except Exception as error:  # noqa: BLE001  a fault of ours or of a library: say that the end is unknown
            detail = f"What speaks with {self._name} failed ({type(error).__name__}); what the device did is unknown."
            return {"kind": "lost", "detail": detail}
        finally:
            self._say_all()
        return {"kind": "ok", "status": 0, "detail": detail}

    def _perform(self, order: dict[str, Any]) -> str:
        self._secret = order["enable"]
        self._enable(self._secret)
        if order["show"]:
            return self._show(order)
        self._log_masker, self._logging = configuration.Masker(), bool(order["changes"])
        if not self._platform.configurable:
            raise Failed(
                f"Platform {self._platform.name} takes no configuration here. Use steps of kind shell over SSH."
            )
        if order["backup"]:
            return self._keep(self.running())
        if order["config"]:
            from msp.remote.network.change import Change  # it needs what is here

            return Change(self, order).make()
        if order["revert"]:
            return self._revert(order)
        return self.save()

    # looking

    def _show(self, order: dict[str, Any]) -> str:
        masker = configuration.Masker()

        def heard(line: str) -> None:
            masked = masker.line(line)
            if masked is not None:
                self._out(masked + "\n")

        if not order["looks"]:
            for command in order["show"]:
                if len(order["show"]) > 1:
                    self._out(f"> {command}\n")
                self._ask(command, heard=heard)
            return ""
        lines: list[str] = []
        try:
            self.look_for(order["looks"], order["within"], lines)
        finally:
            for line in lines:
                heard(line)
        return ""

    def look_for(self, looks: list[dict[str, Any]], within: float, seen: list[str] | None = None) -> None:
        """Ask until every look holds; raises Failed with the first that does not after `within` seconds."""
        end = time.monotonic() + within
        seen = [] if seen is None else seen
        while (unmet := self._unmet(looks, seen)) and time.monotonic() + PAUSE < end:
            time.sleep(PAUSE)
        if unmet:
            raise Failed(f"On {self._name}, not so: {unmet}.", UNMET)

    def _unmet(self, looks: list[dict[str, Any]], seen: list[str]) -> str:
        seen.clear()
        for look in looks:
            lines = [line for command in look["show"] for line in self._ask(command).lines]
            seen += lines
            if look["pattern"]:
                found = any(re.search(look["wanted"], line) for line in lines)
            else:
                found = look["wanted"] in "\n".join(lines)
            if found == look["absent"]:
                return str(look["text"])
        return ""

    # the device's words

    def _ask(self, command: str, *, answers: Answers = (), heard: Callable[[str], None] | None = None) -> Answer:
        """Give a command that is no configuration; raises Failed if the device did not take it."""
        answer = self._line.ask(command, answers=answers, heard=heard)
        if answer.question:
            raise Failed(f"{self._name} asked `{answer.question}` after `{command}`, and nothing answers it.", REJECTED)
        if complaint := said(self._platform.error, answer.lines[:40] + answer.lines[-5:]):
            raise Failed(f"{self._name} rejected `{command}`: {complaint}.", REJECTED)
        return answer

    def tell(self, words: tuple[Say, ...], **values: object) -> list[str]:
        """Say lines of the platform's table and return all that the device answered."""
        lines: list[str] = []
        for word in words:
            lines += self._ask(word.line.format(**values), answers=word.answers).lines
        return lines

    def enter(self, line: str) -> str:
        """Give one line of configuration; return the device's complaint, or nothing."""
        answer = self._line.ask(line)
        if answer.question:
            return f"it asked `{answer.question}`"
        platform = self._platform
        return said(platform.error, answer.lines) or said(platform.rejected, answer.lines)

    def running(self) -> list[str]:
        """Return the configuration in effect."""
        return self.shown(self._platform.running)

    def shown(self, command: str) -> list[str]:
        """Return a whole configuration. Not logged: what differs is."""
        logging, self._logging = self._logging, False
        try:
            return configuration.settled(self._ask(command).lines, self._platform)
        finally:
            self._logging = logging

    def begin(self) -> None:
        """Enter configuration."""
        if self._platform.enter and (complaint := self.enter(self._platform.enter)):
            raise Failed(f"{self._name} does not let us configure: {complaint}", REJECTED)

    def end(self) -> None:
        """Leave configuration."""
        if self._platform.leave:
            self._line.ask(self._platform.leave)

    def hide(self, lines: list[dict[str, Any]]) -> None:
        """Lines that hold secrets are logged as their templates."""
        self._hidden = [
            (line["text"].strip(), line["shown"].strip()) for line in lines if line["text"] != line["shown"]
        ]

    # proof and ways back

    def _keep(self, lines: list[str]) -> str:
        text = "\n".join(configuration.masked(lines)) + "\n"
        self._say(configuration=text)
        self._out(text)
        return f"{len(lines)} lines of configuration, without their secrets."

    def kept(self, lines: list[str]) -> None:
        """Hand over a configuration to be kept as a version, without showing it."""
        self._say(configuration="\n".join(configuration.masked(lines)) + "\n")

    def before(self, lines: list[str]) -> None:
        """Let the parent know how it was, so that an undo can bring it back."""
        self._say(before=lines)

    def differs(self, before: list[str], after: list[str]) -> None:
        """Say the difference: the output of a change."""
        self._out(configuration.difference(before, after))

    def save(self) -> str:
        platform = self._platform
        if not platform.save:
            return f"{platform.name} stores what is in effect at once; there is nothing to save."
        lines = self.tell(platform.save)
        if not said(platform.saved, lines):
            heard = "; ".join(line.strip() for line in lines if line.strip())[:300]
            raise Failed(
                f"{self._name} did not confirm that its configuration is written: {heard or 'it said nothing'}"
            )
        if platform.startup:
            if not configuration.same(self.shown(platform.startup), self.running()):
                raise Failed(f"{self._name} says that it is written, but what is stored is not what is in effect.")
            return "Saved; what is stored is what is in effect."
        return "Saved, as the device says; it cannot be asked what is stored."

    def bring_back(self, before: list[str]) -> str:
        """Undo whatever differs from `before`; return nothing once it is proven, else what is left, for people."""
        stubborn: frozenset[str] = frozenset()
        for _ in range(3):  # again for what could not be taken as a whole, or only while other lines were gone
            now = self.running()
            if configuration.same(before, now):
                return ""
            lines = configuration.way_back(before, now, self._platform, stubborn)
            if lines is None:
                return f"lines of {self._platform.name} cannot be turned round by themselves"
            stubborn |= self._put_back(lines)
        now = self.running()
        return "" if configuration.same(before, now) else "this is left:\n" + configuration.difference(before, now)

    def _put_back(self, lines: list[str]) -> frozenset[str]:
        """Enter lines, whatever is said to each; return what they were to take away and could not."""
        rejected: set[str] = set()
        self.begin()
        try:
            for line in lines:
                if self.enter(line):
                    rejected.add(configuration.negated(line.strip()))
            if self._platform.commit:
                self.enter(self._platform.commit)
        finally:
            self.end()
        return frozenset(rejected)

    def _revert(self, order: dict[str, Any]) -> str:
        before = order["before"]
        if before is None:
            raise Failed(
                f"How {self._name} was before the step is not known any more. "
                "Compare its kept versions: msp network diff."
            )
        changed = self.running()
        left = self.bring_back(before)
        now = self.running()
        self.differs(changed, now)
        self.kept(now)
        if left:
            raise Failed(f"The configuration of {self._name} could not be brought back whole; {left}")
        told = "The configuration is as it was before."
        return f"{told} {self.save()}" if order["save"] else told

    def log_in_again(self, until: float) -> None:
        """Open a new command line, trying until `until`; raises CannotLogIn with the last reason."""
        while True:
            try:
                fresh = Device.open({**self._wanted, "seconds": max(until - time.monotonic(), 5.0)}, self._connect)
            except CannotLogIn as error:
                if error.kind != "unreachable" or time.monotonic() + PAUSE >= until:
                    raise
                time.sleep(PAUSE)
            else:
                self._device.close()
                self._take(fresh)
                self._enable(self._secret)
                return

    def armed(self, does: str) -> None:
        """Let the parent know what the device does by itself, should this process end before it is proven."""
        self._say(armed=does)

    def disarmed(self) -> None:
        """The device waits for nothing any more."""
        self._say(armed="")

    @property
    def platform(self) -> Platform:
        return self._platform

    @property
    def name(self) -> str:
        return self._name
