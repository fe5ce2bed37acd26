"""Restart a host and wait until it answers again with a new boot id: the only proof that it did restart."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from msp.remote.following import Way
from msp.remote.outcome import OK, Outcome
from msp.remote.render import Script
from msp.remote.transport import CannotOpen, NotAdmitted, Output

EVERY = 2.0  # seconds between two tries to reach the host again
ANSWER = timedelta(seconds=10)  # that the host may take for a question
_BOOT = re.compile(rb"^msp: boot (\S+)$", re.MULTILINE)
_BEFORE = re.compile(rb"^msp: before (\S+)$", re.MULTILINE)

#: The restart begins a moment later, so that its own answer still arrives; what it says in vain is kept beside.
BEGIN = """b=$(cat {{ boot_id }}) || { echo "the host does not name its boot" >&2; exit 5; }
d="$HOME/.msp/steps"; mkdir -p "$d" && f="$d/{{ token | raw }}_" && echo "$b" >"$f" || exit 5
{% if message %}command -v wall >/dev/null 2>&1 && printf '%s\\n' {{ message }} | wall 2>/dev/null
{% endif %}( trap '' HUP; sleep 1
{{ command | raw }}
) </dev/null >"$f.said" 2>&1 &
echo "msp: boot $b"
"""
ASK = """b=$(cat {{ boot_id }}) && echo "msp: boot $b"
f="$HOME/.msp/steps/{{ token | raw }}_"; [ -r "$f" ] && read -r b <"$f" && echo "msp: before $b"
[ -s "$f.said" ] && tail -n 3 "$f.said" >&2
exit 0
"""
COMMAND = "systemctl reboot || /sbin/shutdown -r now || /sbin/reboot"


@dataclass(frozen=True, slots=True)
class Restart:
    """An act: what begins the restart, what asks for the boot, and how long it may take."""

    begin: Script
    ask: Script
    wait: timedelta

    @property
    def text(self) -> str:
        return self.begin.text


class Rebooting:
    """Restarts one host. `run` runs a script there; `left` is the time of the step."""

    def __init__(
        self,
        act: Restart,
        way: Way,
        run: Callable[[Script, timedelta], Awaitable[Output]],
        left: Callable[[], timedelta],
    ) -> None:
        self._act, self._way, self._run, self._left = act, way, run, left

    async def restart(self) -> Output:
        """Restart and wait for the new boot; failed if it is still the old one, lost if the host stays away."""
        output = await self._run(self._act.begin, min(ANSWER, self._left()))
        found = _BOOT.search(output.stdout)
        if found is None:
            return output
        ended = await self._back(found[1])
        return Output(ended, output.out, output.err)

    async def ended(self) -> Outcome | None:
        """Return how a restart ended that an interruption left in doubt; None if the host does not know of it."""
        output = await self._run(self._act.ask, min(ANSWER, self._left()))
        before = _BEFORE.search(output.stdout)
        return await self._back(before[1]) if before else None

    async def _back(self, before: bytes) -> Outcome:
        """Wait for another boot than `before`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + min(self._act.wait, self._left()).total_seconds()
        said, answered = "", False
        while loop.time() + EVERY < until:
            await asyncio.sleep(EVERY)
            await self._way.drop()
            try:
                async with asyncio.timeout_at(until):
                    output = await self._run(self._act.ask, ANSWER)
            except (CannotOpen, TimeoutError):
                answered = False
                continue
            except NotAdmitted as error:
                if error.outcome.kind != "auth_failed":  # while it goes down a host admits nobody
                    return error.outcome
                continue
            found = _BOOT.search(output.stdout)
            if found is not None and found[1] != before:
                return OK
            if found is not None:
                answered, said = True, output.stderr.decode("utf-8", "backslashreplace").strip()
        if answered:
            detail = f"The host did not restart: it still has the boot of before. {said}".strip()
            return Outcome("failed", status=1, detail=detail)
        return Outcome("lost", detail="The host was told to restart and has not come back in time.")
