"""Where a backup lies, as a plan names it: in one form, so that what is not this client's is known in every spelling.

Pure but for `followed`, which asks the disk for symbolic links, and `closed`. A case file that somebody runs by hand
is not asked: it reads what that account may read.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from msp import db
from msp.backup.case import ALIASES, LOCATED_BY
from msp.errors import Misconfigured, MspError, Refused
from msp.settings import Settings

_HOST = r"(?:[^\s@/:{}-][^\s@/{}]*@)*(?:\w[\w.-]*|\[[\w:.%]+\])"  # nothing that a program takes for an option
_URL = re.compile(rf"//{_HOST}(?::\d*)?(?:/.*)?", re.DOTALL)
_BY_SSH = re.compile(rf"{_HOST}:(?!//).+", re.DOTALL)
_RCLONE = re.compile(r"\w[\w.+@ -]*:.*", re.DOTALL)  # a remote of its configuration, not one that is made up here
_SERVICES = frozenset({"s3", "b2", "azure", "gs", "swift"})


@dataclass(frozen=True, slots=True)
class Place:
    """One place that a case names. said: as it was written; plain: an absolute path, or what lies behind a network."""

    said: str
    plain: str


def _written(case: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield (place, whether it may lie behind a network) of a case."""
    engine = _engine(case)
    for name in ("repo", "file"):
        if case.get(name):
            yield str(case[name]), name == "repo" and (engine in ("restic", "borg") or engine not in LOCATED_BY)
    expect = case.get("expect")
    if isinstance(expect, Mapping) and expect.get("manifest"):
        yield str(expect["manifest"]), False


def _engine(case: Mapping[str, Any]) -> str:
    engine = str(case.get("engine") or "")
    return ALIASES.get(engine, engine)


def named(case: Mapping[str, Any]) -> list[Place]:
    """Return the places of a case. Raises Misconfigured for a relative path, Refused for what no plan may name."""
    here, engine = not case.get("on"), _engine(case)
    return [Place(said, plain(said, engine, away=away, here=here)) for said, away in _written(case)]


def known(case: Mapping[str, Any]) -> list[str]:
    """Return those places of another plan that mean something; the others are never tested."""
    here, engine, found = not case.get("on"), _engine(case), list[str]()
    for said, away in _written(case):
        with suppress(MspError):
            found.append(plain(said, engine, away=away, here=here))
    return found


def followed(case: Mapping[str, Any]) -> list[Place]:
    """Return the places of a case on this machine with symbolic links followed; raises what `named` raises."""
    if case.get("on"):
        return []
    paths = [
        (place.said, _path(place.said, away)) for place, (_, away) in zip(named(case), _written(case), strict=True)
    ]
    return [Place(said, _real(said, path)) for said, path in paths if path is not None]


def _real(place: str, path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError as error:  # characters that no name on a disk has
        raise Misconfigured(f"{place} is not an absolute path.", advice="Begin with a slash.") from error


def plain(place: str, engine: str = "", *, away: bool = True, here: bool = True) -> str:
    """Return a place in its one form.

    away: it may lie behind a network. here: a path is one of this machine, and must be absolute; those of a client's
    host are its own matter. Raises Misconfigured for a relative path; Refused for a place that names a program or an
    option, because the program that reads the backup would run it.
    """
    path = _path(place, away)
    if place.startswith("-") or (path or "").startswith("-") or (path is None and not _reached(place, engine)):
        advice = "Name a folder or a server, without options and programs."
        raise Refused(f"{place} cannot be the place of a backup.", advice=advice)
    if path is None:
        return place
    if path.startswith("/"):
        return str(_straight(path))
    if here:
        raise Misconfigured(f"{place} is not an absolute path.", advice="Begin with a slash.")
    return path


def _path(place: str, away: bool) -> str | None:
    """Return the path that a place is on the machine that tests; None: it lies behind a network."""
    kind, colon, rest = place.partition(":")
    if not away or not colon or "/" in kind:
        return place
    if kind.lower() == "local":  # as restic calls a folder
        return rest
    return rest.removeprefix("//") if kind.lower() == "file" else None  # as borg does


def _reached(place: str, engine: str) -> bool:
    """Say whether a place names a server or a service and nothing else."""
    kind, _, rest = place.partition(":")
    if kind == "rclone":
        return engine != "borg" and _RCLONE.fullmatch(rest) is not None
    if kind == "sftp":
        return engine != "borg" and (_URL if rest.startswith("//") else _BY_SSH).fullmatch(rest) is not None
    if kind == "rest":
        return engine != "borg" and rest.startswith(("http://", "https://"))
    if kind in _SERVICES:
        return engine != "borg" and bool(rest) and not rest.startswith("-")
    if kind == "ssh":
        return engine != "restic" and _URL.fullmatch(rest) is not None
    return engine != "restic" and _BY_SSH.fullmatch(place) is not None


def _straight(path: str) -> PurePosixPath:
    parts: list[str] = []
    for part in PurePosixPath(path).parts[1:]:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return PurePosixPath("/", *parts)


def overlap(one: str, other: str) -> bool:
    """Say whether two places are the same, or one is within the other."""
    if not (one.startswith("/") and other.startswith("/")):
        return one.rstrip("/") == other.rstrip("/")
    first, second = _straight(one), _straight(other)
    return first == second or first in second.parents or second in first.parents


def closed(settings: Settings) -> list[str]:
    """Return the places of this installation that no plan may read: everything in `data` but `backups`."""
    data = settings.data.resolve()
    found = [path for path in (settings.key_path, settings.scratch_path, db.current().path) if path]
    found += [path for path in data.iterdir() if path.name != "backups"] if data.is_dir() else []
    return sorted({str(path.resolve()) for path in found})
