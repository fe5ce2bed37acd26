"""A folder for a host that has no tar: its files go one by one, and are proven and put in place like a stream's."""

import shlex
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from msp.errors import MspError
from msp.remote.outcome import OK, Outcome
from msp.remote.payload import Tree
from msp.remote.render import Script, Staged
from msp.remote.transport import Output, Puts

TIDYING = timedelta(seconds=5)  # that taking away what did not come whole may take

#: Runs a script as the account that logs in (False) or as the one that acts (True).
Run = Callable[[Script, bool, timedelta], Awaitable[Output]]


async def one_by_one(
    shell: object, host: str, tree: Tree, staged: Staged | None, run: Run, left: Callable[[], timedelta]
) -> Output:
    """Push a tree without tar and return how it ended; nothing is in its place until all of it is proven there.

    staged: None where another account acts that could not read what SFTP writes.
    """
    if not isinstance(shell, Puts):
        return _refused(f"{host} has no tar, and in the way it is reached nothing else takes a folder.")
    if staged is None:
        return _refused(f"{host} has no tar, and what SFTP writes only root or the account that logs in can take over.")
    begun = await run(staged.begin, False, left())
    if not begun.outcome.ok:
        return begun
    arrived = OK
    try:
        room = begun.stdout.decode("utf-8", "surrogateescape").rstrip("\n")
        arrived = await shell.put(tree, room, timeout=left())
        if not arrived.ok:
            said = f"{host} has no tar. {arrived.detail} Nothing was put in place."
            return Output(replace(arrived, detail=said))
        place = replace(staged.place, text=f"s={shlex.quote(room)}\n{staged.place.text}")
        placed = await run(place, True, left())
        said = f"{host} has no tar: its files went one by one over SFTP ({tree.files})."
        return replace(placed, outcome=replace(placed.outcome, detail=f"{said} {placed.outcome.detail}".strip()))
    finally:
        if arrived.kind != "unreachable":
            with suppress(MspError):
                await run(staged.end, False, TIDYING)


def _refused(detail: str) -> Output:
    advice = "Install tar there, or push single files."
    return Output(Outcome("failed", detail=f"{detail} {advice}"))
