"""What each engine must and may be told, as fields that a form or a prompt can offer. Pure.

A field's name is its place in the case document, parts joined by dots. Nothing secret is among them: a password has
its place in the vault, and a plan only names it.
"""

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msp.backup.case import LOCATED_BY
from msp.errors import Misconfigured

LONGEST = 1000  # characters of one value


@dataclass(frozen=True, slots=True)
class Field:
    """One thing to tell. kind: text, path, choice, whole, hours (1.5 or 1:30; in seconds), gigabytes (in bytes)."""

    name: str
    kind: str = "text"
    required: bool = False
    choices: tuple[str, ...] = ()


REPOSITORY = Field("repo", required=True)
FOLDER = Field("file", "path", required=True)
FILE = Field("file", "path", required=True)
ROOT = Field("root", "path")
HOST = Field("expect.host")
RPO, RTO = Field("expect.rpo_s", "hours"), Field("expect.rto_s", "hours")
MANIFEST = Field("expect.manifest", "path")
TARGET = Field("expect.target_os", "choice", choices=("windows", "linux", "macos"))
QUOTA = Field("expect.scratch_quota_bytes", "gigabytes")
PROMISES = (RPO, RTO, QUOTA)
TREE = (MANIFEST, TARGET)
DISK: tuple[Field, ...] = (
    FILE,
    Field("sha256"),
    HOST,
    Field("expect.boot.marker"),
    Field("expect.boot.timeout_s", "whole"),
    Field("expect.boot.memory_mb", "whole"),
)
BACULA: tuple[Field, ...] = (
    Field("repo", "path", required=True),
    Field("client", required=True),
    *(Field(name) for name in ("job", "fileset", "restore_client", "restore_job", "verify_job")),
)

_OWN: dict[str, tuple[Field, ...]] = {
    "restic": (REPOSITORY, ROOT, HOST, *TREE),
    "borg": (REPOSITORY, ROOT, HOST, *TREE),
    "tar": (FILE, ROOT, *TREE),
    "tree": (FOLDER, ROOT, *TREE),
    "pg_dump": (FILE, Field("format", "choice", choices=("custom", "plain", "directory", "tar"))),
    "pg_basebackup": (FILE, Field("expect.postgres.database")),
    "mariadb_dump": (FILE, Field("expect.mariadb.database")),
    "mariabackup": (FILE, Field("expect.mariadb.database")),
    "bacula": (*BACULA, ROOT, *TREE),
    **dict.fromkeys(("qcow2", "raw", "vmdk", "vdi"), DISK),
}
#: Engines whose backups are locked by a password: without one nothing can be restored, or where it may be.
LOCKED = {"restic": True, "borg": False, "bacula": False}


def of(engine: str) -> tuple[Field, ...]:
    """Return the fields of an engine; of one that a plug-in brings, what any engine may use."""
    return (*_OWN.get(engine, (Field("repo"), Field("file", "path"), ROOT, HOST)), *PROMISES)


def needs_secret(engine: str) -> bool | None:
    """Return whether an engine needs a password; False: some of its backups do; None: none does."""
    return LOCKED.get(engine, None if engine in LOCATED_BY else False)


def shown(case: Mapping[str, Any], engine: str) -> dict[str, str]:
    """Return what a form shows of a case: field name -> text."""
    texts = {}
    for one in of(engine):
        value = _at(case, one.name)
        if isinstance(value, int | float) and one.kind == "hours":
            value = _hours(value)
        elif isinstance(value, int | float) and one.kind == "gigabytes":
            value = _short(value, 1 << 30)
        elif isinstance(value, str) and one.kind == "choice":
            value = value.lower()
        if not value and one.required and one.name in ("repo", "file"):  # a folder may stand in either
            value = case.get("repo") or case.get("file")
        texts[one.name] = "" if value is None else str(value)
    return texts


def apart(case: Mapping[str, Any], engine: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the form says of a case, and all else of it, each value at its place: one that the form cannot say
    just so, like half a second or a very long path, is among the rest."""
    whole = dict(case)
    if set(LOCATED_BY.get(engine, ())) == {"repo", "file"}:  # a folder may stand in either; the form has one place
        whole["file"] = whole.pop("repo", None) or whole.get("file")
    said, _ = read(engine, shown(whole, engine))
    rest = copy.deepcopy(whole)
    for one in of(engine):
        mine, own = _at(said, one.name), _at(whole, one.name)
        if one.kind == "choice" and isinstance(own, str):
            own = own.lower()
        if own is not None:
            _drop(rest if own == mine else said, one.name)
    return said, {name: value for name, value in rest.items() if name != "engine"}


def _at(case: Mapping[str, Any], name: str) -> Any:
    value: Any = case
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _drop(case: dict[str, Any], name: str) -> None:
    """Take a value out of its place, and a place within that is empty then."""
    first, _, deeper = name.partition(".")
    inner = case.get(first)
    if not deeper:
        case.pop(first, None)
    elif isinstance(inner, dict) and inner:
        _drop(inner, deeper)
        if not case[first]:
            del case[first]


def read(engine: str, typed: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the case that a form's texts make, and what is wrong with them: field name -> a code of a fault.

    Codes: missing, number, choice, long. What the engine does not know is left out.
    """
    case: dict[str, Any] = {"engine": engine}
    faults: dict[str, str] = {}
    for one in of(engine):
        text = typed.get(one.name, "").replace("\0", "").strip()
        if not text:
            if one.required:
                faults[one.name] = "missing"
            continue
        if len(text) > LONGEST:
            faults[one.name] = "long"
            continue
        value: Any = text.lower() if one.kind == "choice" else text
        if one.kind == "choice" and value not in one.choices:
            faults[one.name] = "choice"
            continue
        if one.kind in ("whole", "hours", "gigabytes"):
            try:
                value = _number(text, one.kind)
            except Misconfigured:
                faults[one.name] = "number"
                continue
        place = case
        *parents, last = one.name.split(".")
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    if "boot" in case.get("expect", {}) and "marker" not in case["expect"]["boot"]:
        faults["expect.boot.marker"] = "missing"
    return case, faults


def _hours(seconds: float) -> str:
    """Return seconds as hours: 4, 1.5, or 0:10 where minutes say it better."""
    if seconds % 60 == 0 and seconds % 900:
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02}"
    return _short(seconds, 3600)


def _short(value: float, unit: int) -> str:
    """Return a number in a greater unit, with as many digits as reading it back needs."""
    short = f"{value / unit:.10g}"
    return short if round(float(short) * unit) == value else repr(value / unit)


def _number(text: str, kind: str) -> int:
    if kind == "hours" and (clock := re.fullmatch(r"(\d{1,5}):([0-5]\d)", text)):
        text = f"{(int(clock[1]) * 60 + int(clock[2])) / 60!r}"
    try:
        number = float(text.replace(",", ".").replace(" ", ""))
    except ValueError:
        number = math.nan
    scaled = number * {"whole": 1, "hours": 3600, "gigabytes": 1 << 30}[kind]
    if not 1 <= scaled < 2**53:
        raise Misconfigured(f"{text!r} is no number that can be used here.", advice="Give one above zero.")
    return round(scaled)
