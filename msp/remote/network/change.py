"""Lines of configuration with proof and a way back. Runs in the worker process."""

import contextlib
import math
import time
from datetime import timedelta
from typing import Any

from msp.remote.network import configuration
from msp.remote.network.device import CannotLogIn
from msp.remote.network.dialogue import HungUp
from msp.remote.network.performing import REJECTED, Failed, Performing
from msp.remote.network.platforms import said

PATIENCE = 30.0  # seconds for a new log-in while the old one stands


class Change:
    """Lines of configuration, all or none: what is rejected, cannot be verified or is not as sent is taken back."""

    def __init__(self, on: Performing, order: dict[str, Any]) -> None:
        self._on, self._order = on, order
        self._platform = on.platform
        self._lines: list[dict[str, Any]] = order["config"]
        self._within: float = order["within"]
        self._deadman: float = order["deadman"] or 0.0
        self._timer = self._platform.deadman if self._deadman else None
        self._armed = False

    def make(self) -> str:
        """Do it and return what there is to say. Raises Failed, or HungUp when what happened is unknown."""
        on = self._on
        before = on.running()
        on.before(before)
        on.hide(self._lines)
        if self._timer and not self._platform.candidate:
            self._arm(before)
        until = time.monotonic() + self._deadman
        try:
            whole = self._sent_whole()
            if self._deadman:
                self._prove_log_in(until, alive=whole)
            after = on.running()
            on.differs(before, after)
            if not whole:
                raise Failed(f"The connection to {on.name} went before every line was sent.")
            self._as_sent(after)
            left = until - time.monotonic() if self._deadman else self._within
            on.look_for(self._order["looks"], max(min(self._within, left), 0.0))
        except Failed as error:
            raise self._taken_back(error, before) from error
        self._disarm()
        on.kept(after)
        told = ["Nothing differs: it was so already." if configuration.same(before, after) else "Changed."]
        if self._deadman:
            told.append("Proven from a new log-in.")
            if not self._timer:
                told.append(
                    f"Platform {self._platform.name} has no timer of its own: only we could have taken it back."
                )
        if self._order["save"]:
            told.append(on.save())
        return " ".join(told)

    def _sent_whole(self) -> bool:
        """Send the lines; whether all were taken. Without a deadman nothing can be said once the connection went."""
        try:
            self._apply()
        except HungUp:
            if not self._deadman:
                raise
            return False
        return True

    def _arm(self, before: list[str]) -> None:
        timer, on = self._timer, self._on
        assert timer is not None  # noqa: S101  only called with one
        if timer.loses_unsaved and not configuration.same(on.shown(self._platform.startup), before):
            raise Failed(
                f"{on.name} holds changes that were never saved; its timer would lose them. Save or drop them first."
            )
        minutes = math.ceil(self._deadman / 60)
        if not said(timer.armed, on.tell(timer.arm, minutes=minutes)):
            with contextlib.suppress(Failed):
                on.tell(timer.disarm)
            raise Failed(f"{on.name} did not confirm that its timer is set, so nothing was changed.")
        self._armed = True
        on.armed(f"{on.name} {timer.does} in {timedelta(minutes=minutes)} unless told otherwise.")

    def _disarm(self) -> None:
        if self._armed and self._timer:
            self._armed = False
            if self._platform.candidate:
                self._on.begin()
            try:
                lines = self._on.tell(self._timer.disarm)
            finally:
                if self._platform.candidate:
                    self._on.end()
            if not said(self._timer.disarmed, lines):
                raise Failed(
                    f"{self._on.name} did not confirm that its timer is off: it {self._timer.does} if it is not."
                )
            self._on.disarmed()

    def _apply(self) -> None:
        on = self._on
        on.begin()
        complaint = ""
        for number, line in enumerate(self._lines, 1):
            if complaint := on.enter(line["text"]):
                rejected = f"{on.name} rejected line {number}, `{line['shown'].strip()}`: {complaint}."
                if self._platform.drop:
                    on.enter(self._platform.drop)
                on.end()
                raise Failed(rejected, REJECTED)
        if self._platform.commit:
            self._commit()
        on.end()

    def _commit(self) -> None:
        on, platform = self._on, self._platform
        try:
            if self._timer:
                minutes = math.ceil(self._deadman / 60)
                if not said(self._timer.armed, on.tell(self._timer.arm, minutes=minutes)):
                    raise Failed(f"{on.name} did not confirm the commit with its timer.", REJECTED)
                self._armed = True
                on.armed(f"{on.name} {self._timer.does} in {timedelta(minutes=minutes)} unless told otherwise.")
            elif complaint := on.enter(platform.commit):
                raise Failed(f"{on.name} rejected the commit: {complaint}.", REJECTED)
        except Failed:
            on.enter(platform.drop)
            on.end()
            raise

    def _as_sent(self, after: list[str]) -> None:
        for line in self._lines:
            text = line["text"]
            if (
                line["exact"]
                and not text.lstrip().startswith(("no ", "delete "))
                and not configuration.holds(after, text)
            ):
                raise Failed(
                    f"{self._on.name} did not take the line `{line['shown'].strip()}` as it was sent.", REJECTED
                )

    def _prove_log_in(self, until: float, *, alive: bool) -> None:
        """Open a new command line: an open one says nothing about whether one can still come in.

        alive: the open one still stands, and can take the change back soon if the new one does not come.
        """
        patience = min(until, time.monotonic() + PATIENCE) if alive else until
        try:
            self._on.log_in_again(patience)
        except CannotLogIn as error:
            if alive:
                raise Failed(f"Nobody can log in any more: {error.detail}") from error
            raise HungUp(f"It could not be reached again: {error.detail}") from error

    def _taken_back(self, error: Failed, before: list[str]) -> Failed:
        """Take everything back, and say whether that is proven."""
        untouched = configuration.same(before, self._on.running())
        left = "" if untouched else self._on.bring_back(before)
        if not left:
            self._disarm()
            told = "Nothing was changed." if untouched else "Everything was taken back."
            return Failed(f"{error.detail} {told}", error.status)
        by_itself = f" {self._on.name} {self._timer.does} by itself." if self._armed and self._timer else ""
        return Failed(f"{error.detail} It could not be taken back whole; {left}{by_itself}", error.status)
