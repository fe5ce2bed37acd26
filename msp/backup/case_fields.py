"""What each engine must and may be told, as fields that a form or a prompt can offer. Pure.

A field's name is its place in the case document, parts joined by dots. Nothing secret is among them: a password has
its place in the vault, and a plan only names it.
"""

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
        value: Any = case
        for part in one.name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and one.kind == "hours":
            value = _hours(value)
        elif isinstance(value, int | float) and one.kind == "gigabytes":
            value = f"{value / (1 << 30):.10g}"
        if value is None and one.required and one.name in ("repo", "file"):  # a folder may stand in either
            value = case.get("repo") or case.get("file")
        texts[one.name] = "" if value is None else str(value)
    return texts


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
        if one.kind == "choice" and text not in one.choices:
            faults[one.name] = "choice"
            continue
        value: Any = text
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
    return f"{seconds / 3600:.10g}"


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
