"""Words of the backup pages: engines, the fields of a case, what a first restore saw. They join words.py."""

from datetime import datetime, timedelta
from typing import Any

from babel.dates import format_date
from flask_babel import get_locale, gettext, ngettext
from flask_babel import lazy_gettext as _

from msp.backup.proposals import Question
from msp_web import filters
from msp_web.words import BAD, BADGES, BUSY, GOOD, QUIET, WARN, WORDS, Badge

BADGES["trial"] = {
    "queued": Badge(_("queued"), QUIET, "hourglass"),
    "running": Badge(_("at work"), BUSY, "player-play"),
    "done": Badge(_("restored"), GOOD, "circle-check"),
    "failed": Badge(_("did not succeed"), BAD, "circle-x"),
}
BADGES["drill"] = {
    "passed": Badge(_("found every planted fault"), GOOD, "shield-check"),
    "failed": Badge(_("a planted fault got by"), BAD, "shield-x"),
    "never": Badge(_("not drilled for a month"), WARN, "clock-x"),
    "none": Badge(_("nobody drills it"), BAD, "shield-off"),
}
WORDS["trial_stage"] = {
    "listing": _("looking for the newest backup"),
    "restoring": _("restoring it"),
    "looking": _("looking at what came back"),
}
WORDS["draft_step"] = {
    "asset": _("What is backed up"),
    "engine": _("Where the backup lies"),
    "trial": _("A first restore"),
    "found": _("What must hold"),
    "ladder": _("When and how far"),
    "summary": _("Save"),
}
WORDS["engine"] = {
    "restic": _("restic repository"),
    "borg": _("Borg repository"),
    "bacula": _("Bacula director"),
    "pg_dump": _("PostgreSQL dump (pg_dump)"),
    "pg_basebackup": _("PostgreSQL copy of the cluster (pg_basebackup)"),
    "mariadb_dump": _("MariaDB or MySQL dump"),
    "mariabackup": _("MariaDB physical copy (mariabackup)"),
    "tar": _("tar archive"),
    "tree": _("folder of files (rsync, rclone)"),
    "qcow2": _("disk image, qcow2"),
    "raw": _("disk image, raw"),
    "vmdk": _("disk image, VMware"),
    "vdi": _("disk image, VirtualBox"),
}
WORDS["figure"] = {
    "snapshots": _("backups there"),
    "time": _("the newest is of"),
    "host": _("host"),
    "entries": _("entries"),
    "files": _("files"),
    "bytes": _("in all"),
    "compared": _("compared"),
    "extra": _("not in the manifest"),
    "drifted": _("changed since"),
    "drawn": _("drawn"),
    "against": _("compared with"),
    "restored_files": _("files restored"),
    "restored_bytes": _("restored in all"),
    "tables": _("tables"),
    "database_bytes": _("database"),
    "peak_rss_mb": _("memory of the tester, MB"),
}
ELSEWHERE = frozenset({"console", "screen", "recognised", "picture"})
WORDS["fault"] = {
    "missing": _("This is needed."),
    "number": _("A number above zero is needed."),
    "choice": _("Choose one of the list."),
    "long": _("That is too long."),
}
WORDS["target_os"] = {"windows": "Windows", "linux": "Linux", "macos": "macOS"}
WORDS["dump_format"] = {
    "custom": "custom (-Fc)",
    "plain": _("plain SQL"),
    "directory": _("directory (-Fd)"),
    "tar": "tar (-Ft)",
}

#: field, or engine:field -> (label, what to write there)
FIELDS: dict[str, tuple[Any, Any]] = {
    "repo": (_("Repository"), _("As the engine is told: a folder on the worker, sftp:…, s3:…, rest:…")),
    "bacula:repo": (
        _("Configuration of bconsole"),
        _("Its path on the worker, like /etc/bacula/bconsole.conf."),
    ),
    "file": (
        _("File"),
        _("Its path on the worker."),
    ),
    "tree:file": (_("Folder"), _("The folder on the worker that holds the copy.")),
    "pg_basebackup:file": (_("Folder"), _("The folder of data, or the folder with base.tar.")),
    "mariabackup:file": (_("Folder or stream"), _("The folder of the copy, or its xbstream, packed or not.")),
    "pg_dump:file": (_("Dump"), _("The file or the folder of the dump, packed or not.")),
    "mariadb_dump:file": (_("Dump"), _("The file of the dump, packed or not.")),
    "root": (_("Folder inside the backup"), _("The path that everything is compared below. Empty: all of it.")),
    "format": (_("Format"), _("Empty: it is recognised.")),
    "sha256": (_("SHA-256 of the image"), _("64 hexadecimal digits, if the image never changes.")),
    "client": (_("Client of Bacula"), _("The name of its resource, like srv01-fd.")),
    "job": (_("Job of Bacula"), _("Empty: whichever there is.")),
    "fileset": (_("File set"), _("Empty: whichever there is.")),
    "restore_client": (
        _("File daemon that restores"),
        _("One on the worker, if the client is another machine."),
    ),
    "restore_job": (_("Restore job"), _("Empty: the only one.")),
    "verify_job": (_("Verify job"), _("Run on the first rung; empty: none.")),
    "expect.host": (_("Name of the host"), _("Another machine's backup is then an error, not a success.")),
    "expect.rpo_s": (_("May be older by at most, hours"), _("How old the newest backup may be. Empty: nobody asks.")),
    "expect.rto_s": (_("Must be restored within, hours"), _("Empty: nobody asks.")),
    "expect.manifest": (
        _("Manifest of the source"),
        _("Made by msp backup manifest; every file is compared."),
    ),
    "expect.target_os": (_("Will be restored on"), _("Finds names that this system cannot hold.")),
    "expect.scratch_quota_bytes": (
        _("Room for the restore, GB"),
        _("No test takes more. Empty: what is free."),
    ),
    "expect.postgres.database": (_("Database"), _("Which one is asked, where there are several.")),
    "expect.mariadb.database": (_("Database"), _("Which one is asked, where there are several.")),
    "expect.boot.marker": (
        _("What shows that it runs"),
        _("Words on its console, like login: — with them the image is started. Empty: it is only read."),
    ),
    "expect.boot.timeout_s": (_("Starts within, seconds"), _("Empty: 120.")),
    "expect.boot.memory_mb": (_("Memory, MB"), _("Empty: 256.")),
}


def field_words(engine: str, name: str) -> tuple[str, str]:
    """Return the label of a field and what to write there; a plug-in's own field keeps its name."""
    label, hint = FIELDS.get(f"{engine}:{name}") or FIELDS.get(name) or (name, "")
    return str(label), str(hint)


def size(count: int | None) -> str:
    """Return bytes as people say them: 1.4 GB."""
    units = (gettext("bytes"), gettext("kB"), gettext("MB"), gettext("GB"), gettext("TB"))
    value, place = float(count or 0), 0
    while value >= 1000 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    figure = round(value, 1 if value < 100 and value != int(value) else 0)
    return f"{filters.number(figure)} {units[place]}"


def month_of(at: datetime) -> str:
    """Return the name of the month that begins at an instant, with the year in January."""
    return str(format_date(at.date(), "LLL y" if at.month == 1 else "LLL", locale=get_locale()))


def question_words(one: Question) -> tuple[str, str]:
    """Return what was seen, and what a tick makes of it; empty where there is nothing to assert."""
    told = one.figures
    if one.kind == "host":
        return gettext("The backup is of %(host)s.", host=told["host"]), gettext("It must always be of this machine.")
    if one.kind == "baseline":
        files = ngettext("%(num)d file", "%(num)d files", told["files"])
        seen = gettext("We saw %(files)s, %(size)s in all.", files=files, size=size(told["bytes"]))
        return seen, gettext("Warn when a later backup differs much.")
    if one.kind in ("rows", "table"):
        rows = ngettext("%(num)d row", "%(num)d rows", told["rows"])
        if one.kind == "table":
            seen = gettext("We saw the table %(table)s with %(rows)s.", table=told["table"], rows=rows)
        else:
            seen = gettext(
                "We saw an SQLite database %(path)s with %(rows)s in %(table)s.",
                path=told["path"], rows=rows, table=told["table"],
            )  # fmt: skip
        return seen, ngettext(
            "It must hold at least %(num)d row.", "It must hold at least %(num)d rows.", told["least"]
        )
    if one.kind == "fresh":
        seen = gettext(
            "The newest %(column)s in %(table)s of %(path)s is %(age)s old.",
            column=told["column"], table=told["table"], path=told["path"], age=_hours(told["age_s"]),
        )  # fmt: skip
        return seen, gettext("It must never be older than %(limit)s.", limit=_hours(told["allowed_s"]))
    if one.kind == "kept":
        return kept_words(one), gettext("The plan asserts this already.")
    return one.words, ""


def kept_words(one: Question) -> str:
    """Return an assertion of a stored plan in words; what is not known here is shown as it is stored."""
    return str(_kept(one.expect) or one.words)


def _kept(expect: dict[str, Any]) -> Any:
    if len(expect) != 1:
        return None
    name, part = next(iter(expect.items()))
    if name == "rto_s":
        return gettext("It is restored within %(limit)s.", limit=_hours(part))
    if name == "rpo_s":
        return gettext("The newest backup is not older than %(limit)s.", limit=_hours(part))
    if name == "host":
        return gettext("The backup is of %(host)s.", host=part)
    if name == "baseline":
        files = ngettext("%(num)d file", "%(num)d files", part.get("files") or 0)
        return gettext("It holds about %(files)s, %(size)s.", files=files, size=size(part.get("bytes")))
    if name == "manifest":
        return gettext("Every file is as the manifest %(path)s says.", path=part)
    if name == "target_os":
        return gettext("Its names fit %(system)s.", system=WORDS["target_os"].get(part, part))
    if name == "boot":
        return gettext("The machine starts and shows %(marker)s.", marker=part.get("marker", ""))
    if name in ("postgres", "mariadb"):
        return _kept(part)
    if name == "tables":
        ((table, said),) = part.items()
        rows = ngettext("%(num)d row", "%(num)d rows", said.get("rows_min") or 0)
        return gettext("The table %(table)s holds at least %(rows)s.", table=table, rows=rows)
    if name in ("sqlite", "queries"):
        return "; ".join(
            " ".join(filter(None, (asked.get("path"), asked.get("query") or asked.get("sql"), _answer(asked))))
            for asked in part
        )
    return None


def _answer(query: dict[str, Any]) -> str:
    said = [f"{sign} {query[name]}" for name, sign in (("min", "≥"), ("max", "≤"), ("equals", "=")) if name in query]
    within = query.get("fresh_within_s", query.get("within_s"))
    return ", ".join(said + ([gettext("not older than %(limit)s", limit=_hours(within))] if within else []))


def figures(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a rung counted, as (name, value) in words; nothing for what is empty or shown elsewhere."""
    found = []
    for name, value in values.items():
        if value is None or value == "" or name in ELSEWHERE:
            continue
        if name == "time" and isinstance(value, str):
            text: str = filters.moment(datetime.fromisoformat(value))
        elif name.endswith("bytes") and isinstance(value, int):
            text = size(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            text = filters.number(value)
        else:
            text = str(value)
        known = WORDS["figure"].get(name)
        if known is None and name.startswith("rows of "):
            known = gettext("rows of %(table)s", table=name.removeprefix("rows of "))
        found.append((str(known or name.replace("_", " ")), text))
    return found


def _hours(seconds: int) -> str:
    return filters.duration(timedelta(seconds=seconds))
