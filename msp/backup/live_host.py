"""Asks a living host for the checksums of some of its files, by GNU programs and over any way in that runs scripts."""

import re
import shlex
from collections.abc import Iterable, Sequence
from datetime import timedelta

from msp.backup.manifest import TYPES, Entry
from msp.errors import Unreachable
from msp.remote.transport import Shell

DEADLINE = timedelta(hours=1)  # for the host to hash a sample
NO_ROOT = 66
STAT = """\
cd -- ROOT 2>/dev/null || exit 66
xargs -0 -r stat --printf='%f %s %.9Y %.9Z %n\\0' -- 2>/dev/null
exit 0
"""
HASH = """\
cd -- ROOT 2>/dev/null || exit 66
low="nice -n 19"
command -v ionice >/dev/null 2>&1 && low="$low ionice -c 3"
$low xargs -0 -r sha256sum -bz -- 2>/dev/null
exit 0
"""
STATED = re.compile(rb"([0-9a-f]+) (\d+) (-?\d+)[.,](\d+) (-?\d+)[.,](\d+) (.*)", re.DOTALL)


async def ask_host(shell: Shell, root: str, paths: Sequence[bytes], *, host: str) -> list[Entry]:
    """Return what a host with GNU programs holds at these paths; times are taken before and after the hashing.

    Raises Unreachable if it does not answer, or has no folder `root`.
    """
    asked = [path for path in paths if _inside(path)]

    async def run(script: str, names: Iterable[bytes]) -> list[bytes]:
        stdin = b"".join(b"./" + name + b"\0" for name in names)
        output = await shell.run(script.replace("ROOT", shlex.quote(root)), timeout=DEADLINE, stdin=stdin)
        if output.status == NO_ROOT:
            raise Unreachable(f"{host} has no folder {root}.", advice="Name where the source lies there.")
        if output.status != 0:
            raise Unreachable(f"{host} did not say what it holds: {output.outcome}.", advice="Try again.")
        return [record for record in output.stdout.split(b"\0") if record]

    before = dict(filter(None, map(_stated, await run(STAT, asked))))
    files = [name for name, entry in before.items() if entry.type == "-"]
    digests = {}
    for record in await run(HASH, files):
        digest, _, name = record.partition(b" *./")
        digests[name] = digest.decode("ascii", "replace")
    after = dict(filter(None, map(_stated, await run(STAT, files))))
    found = []
    for name, entry in before.items():
        last = after.get(name, entry)
        entry.mtime = max(entry.mtime or 0, last.mtime or 0)  # changed meanwhile is changed since the snapshot
        entry.changed = max(entry.changed or 0, last.changed or 0)
        entry.sha256 = digests.get(name)
        if entry.type != "-" or entry.sha256:
            found.append(entry)
    return found


def _inside(path: bytes) -> bool:
    """Say whether a name from a backup's listing stays below the root."""
    return bool(path) and not path.startswith(b"/") and b".." not in path.split(b"/") and b"\0" not in path


def _stated(record: bytes) -> tuple[bytes, Entry] | None:
    match = STATED.fullmatch(record)
    kind = TYPES.get(int(match[1], 16) & 0o170000) if match else None
    if match is None or kind is None:
        return None
    name = match[7].removeprefix(b"./")
    mtime, changed = float(match[3] + b"." + match[4]), float(match[5] + b"." + match[6])
    return name, Entry(name, kind, size=int(match[2]) if kind == "-" else None, mtime=mtime, changed=changed)
