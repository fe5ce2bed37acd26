"""A restore test on the client's own host: this tester itself goes there, over any way in that runs scripts.

The restored data never leave the host; only the verdict comes back. The same code keeps the same promises there:
scratch with a quota, removed at every exit and swept after a kill, no lock broken, no repository changed. Nothing is
installed: the modules travel on stdin with the case and its secret and live in memory. The host needs Python 3.11 and
the backup's program.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any

from msp.backup.verdict import Finding, Picture, Result, Rung, Weight
from msp.backup.verify import digest
from msp.errors import Misconfigured
from msp.remote.transport import Shell

DEADLINE = timedelta(hours=6)
#: What the tester needs besides msp.backup itself; a test runs it with nothing else.
KERNEL = ("msp/__init__.py", "msp/errors.py", "msp/clock.py", "msp/plugins.py")
LEFT_HERE = ("models.py", "plans.py", "drill.py", "live_host.py", "away.py")  # they need a database or a way out
STARTER = """\
import importlib.abc, importlib.util, json, signal, sys
given = json.loads(sys.stdin.buffer.read())
class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        base = name.replace(".", "/")
        for file, package in ((base + "/__init__.py", True), (base + ".py", False)):
            if file in given["sources"]:
                return importlib.util.spec_from_loader(name, self, origin=file, is_package=package)
    def exec_module(self, module):
        text = given["sources"][module.__spec__.origin]
        exec(compile(text, module.__spec__.origin, "exec"), module.__dict__)
sys.meta_path.insert(0, Finder())
def leave(number, frame):
    raise SystemExit(128 + number)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, leave)
from msp.backup.engines.far_side import main
main(given)
"""
SCRIPT = """\
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null 2>/dev/null; then
	echo no-python >&2
	exit 69
fi
exec python3 -I -c 'import sys; exec(sys.stdin.buffer.read(LENGTH))'
"""


def parcel(
    document: Mapping[str, Any],
    *,
    scratch: str | None = None,
    deadline: timedelta = DEADLINE,
    niceness: int = 5,
    io: str = "best-effort",
) -> bytes:
    """Return what goes in on stdin: the starter, then one JSON object of modules, case, and the manifest's text.

    Raises Misconfigured if the case names a manifest that cannot be read here.
    """
    given: dict[str, Any] = {
        "sources": _sources(),
        "case": {**document, "on": None},
        "scratch": scratch,
        "deadline": deadline.total_seconds(),
        "niceness": niceness,
        "io": io,
    }
    expect = document.get("expect")
    manifest = expect.get("manifest") if isinstance(expect, Mapping) else None
    if isinstance(manifest, str):
        try:
            given["manifest"] = Path(manifest).read_text("utf-8")
        except (OSError, ValueError) as error:
            raise Misconfigured(f"The manifest {manifest} cannot be read: {error}.", advice="Name it anew.") from error
    return STARTER.encode() + json.dumps(given).encode()


def _sources() -> dict[str, str]:
    here = resources.files("msp")
    found = {name: (here / name.removeprefix("msp/")).read_text("utf-8") for name in KERNEL}
    for folder in ("", "engines", "assertions"):
        below = here / "backup" / folder if folder else here / "backup"
        for file in below.iterdir():
            if file.name.endswith(".py") and file.name not in LEFT_HERE:
                found["/".join(filter(None, ("msp/backup", folder, file.name)))] = file.read_text("utf-8")
    return found


async def verify_on(
    shell: Shell,
    document: Mapping[str, Any],
    *,
    host: str,
    deadline: timedelta = DEADLINE,
    scratch: str | None = None,
    niceness: int = 5,
    io: str = "best-effort",
) -> Result:
    """Run one restore test on the host that `shell` reaches, and return what it showed.

    document: the case as JSON values, with its secret. host: its name, for sentences. scratch: a folder there; None
    takes one below the system's temporary folder. niceness, io: as for a Runner. A connection that breaks, a host that
    lacks Python and a deadline that passes are errors of the test: never a pass, and never the backup's fault.
    """
    stdin = parcel(document, scratch=scratch, deadline=deadline, niceness=niceness, io=io)
    output = await shell.run(SCRIPT.replace("LENGTH", str(len(STARTER.encode()))), timeout=deadline, stdin=stdin)
    if output.status == 69 and b"no-python" in output.stderr:
        return untold(document, f"{host} has no Python 3.11 to run the test with.", "Install python3, or test it here.")
    answer = output.stdout.strip().rpartition(b"\n")[2]
    try:
        if not answer.startswith(b"msp:"):
            raise ValueError("no verdict came back")
        said = json.loads(zlib.decompress(base64.b64decode(answer[4:])))
        if "misconfigured" in said:
            raise Misconfigured(said["misconfigured"], advice=said["advice"])
        if said["plain"]["evidence"] != digest(said["plain"]):
            raise ValueError("the verdict's digest does not fit it")
        return result_of(said["plain"], said["counts"], said["pictures"])
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        lines = output.stderr.decode("utf-8", "replace").strip().splitlines()
        what = f"The test on {host} told no verdict ({error}); it ended with {output.outcome}."
        return untold(document, what, lines[-1][:300] if lines else "Try again; what it left there is swept then.")


def untold(document: Mapping[str, Any], what: str, advice: str) -> Result:
    """Return the result of a test that could not tell anything of the backup."""
    finding = Finding("restore", what, advice=advice, weight=Weight.ERROR)
    name, engine = str(document.get("case") or "unnamed"), str(document.get("engine"))
    return Result(name, engine, "", None, (Rung(1, 0.0, (finding,)),))


def result_of(plain: Mapping[str, Any], counts: Sequence[int], pictures: Sequence[tuple[str, str]] = ()) -> Result:
    """Return the result that a verdict object was made of; counts: how many of its findings belong to each rung.

    pictures: names and PNG images in base64; those whose digest is not in the verdict are left out.
    Raises KeyError, TypeError or ValueError for anything else.
    """
    weights = {weight.word: weight for weight in Weight}
    findings = [
        Finding(item["reason"], item["what"], item["where"], item["advice"], weights[item["weight"]])
        for item in plain["findings"]
    ]
    rungs, begin = [], 0
    for item, count in zip(plain["rungs"], counts, strict=True):
        commands = tuple((command["command"], command["exit"]) for command in item["commands"])
        own, begin = tuple(findings[begin : begin + count]), begin + count
        rungs.append(Rung(item["rung"], item["seconds"], own, tuple(item["figures"].items()), commands))
    known = {value for rung in rungs for _, value in rung.figures if isinstance(value, str)}
    shown = [Picture(name, base64.b64decode(png)) for name, png in pictures]
    result = Result(
        case=plain["case"],
        engine=plain["engine"],
        engine_version=plain["engine_version"],
        snapshot=plain["snapshot"],
        rungs=tuple(rungs),
        rto_s=plain["rto_s"],
        rpo_s=plain["rpo_s"],
        restored_files=plain["restored_files"],
        restored_bytes=plain["restored_bytes"],
        started_at=plain["started_at"],
        evidence=plain["evidence"],
        pictures=tuple(one for one in shown if one.sha256 in known),
    )
    if result.plain() != plain:
        raise ValueError("the verdict does not add up")
    return result
