"""Words of the work pages: tickets, runs, proofs and visits. They join the vocabularies of words.py."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from flask import Blueprint
from flask_babel import gettext
from flask_babel import lazy_gettext as _

from msp_web.filters import duration, number
from msp_web.words import BAD, BADGES, BUSY, DOUBT, GOOD, QUIET, WARN, WORDS, Badge, badge_of, word

BADGES["outcome"].update(
    {
        "killed": Badge(_("killed"), BAD, "circle-x"),
        "timeout": Badge(_("no answer in time, in doubt"), DOUBT, "hourglass"),
        "lost": Badge(_("connection lost, in doubt"), DOUBT, "plug-connected-x"),
        "auth_failed": Badge(_("log-in refused"), BAD, "lock"),
        "host_key_changed": Badge(_("host key changed"), BAD, "shield-x"),
        "host_key_unknown": Badge(_("host key unknown"), BAD, "shield-off"),
        "cancelled": Badge(_("cancelled"), QUIET, "ban"),
        "refused": Badge(_("refused by the contract"), BAD, "shield-x"),
        "waiting": Badge(_("waiting"), QUIET, "hourglass"),
        "running": Badge(_("running"), BUSY, "player-play"),
    }
)
BADGES["verdict"].update({"running": Badge(_("running"), BUSY, "player-play")})
BADGES["proof"]["overdue"] = BADGES["proof"]["stale"]
BADGES["shift"] = {
    "shift": Badge(_("shift"), QUIET, "clock"),
    "on_call": Badge(_("on call"), BUSY, "phone"),
    "absence": Badge(_("absent"), WARN, "user-off"),
}
BADGES["slow"] = {"slow": Badge(_("slower than promised"), WARN, "gauge")}
BADGES["fits"] = {
    "yes": Badge(_("fits"), GOOD, "circle-check"),
    "no": Badge(_("not meant for this item"), WARN, "alert-triangle"),
}

WORDS["channel"] = {
    "email": _("mail"),
    "portal": _("portal"),
    "phone_by_agent": _("phone"),
    "monitoring": _("monitoring"),
    "backup": _("backup proof"),
    "playbook": _("playbook"),
}
WORDS["clock_stop"] = {
    "waiting_client": _("waiting for the client"),
    "waiting_vendor": _("waiting for a vendor"),
    "scheduled": _("visit scheduled"),
    "resolved": _("resolved"),
    "closed": _("closed"),
    "no_access": _("the technician was not let in"),
    "merged": _("merged"),
    "cancelled": _("cancelled"),
    "out_of_scope": _("out of scope"),
}
WORDS["ticket_event"] = {
    "run": _("run"),
    "approval": _("approval"),
    "visit": _("visit"),
    "proof": _("restore test"),
    "rated": _("rated by the client"),
    "merged_into": _("merged into another ticket"),
    "merged_from": _("another ticket was merged into this one"),
    "rebased": _("judged by another version of the contract"),
    "escalated": _("people on duty were told"),
    "escalation_taken": _("taken by the link of a notice"),
}
WORDS["duty"] = {"0": _("works on tickets"), "1": _("manager"), "2": _("manager's manager")}
WORDS["rung"] = {
    "0": _("nothing proven"),
    "1": _("repository intact"),
    "2": _("metadata plausible"),
    "3": _("samples restored"),
    "4": _("restored in full"),
    "5": _("application works"),
    "6": _("machine boots"),
}
WORDS["reason"] = {
    "repository": _("the repository is damaged"),
    "missing": _("files are missing"),
    "content": _("content differs"),
    "metadata": _("metadata differ"),
    "rpo": _("the backup is too old"),
    "rto": _("the restore takes too long"),
    "clock": _("a clock is wrong"),
    "identity": _("it is of another machine"),
    "key": _("the key does not open it"),
    "locked": _("the repository is locked"),
    "quota": _("there is not enough scratch space"),
    "restore": _("the restore did not end well"),
    "application": _("the application does not work on it"),
    "ransomware": _("signs of encryption by an attacker"),
    "hostile": _("the archive tries to write elsewhere"),
    "boot": _("the machine does not boot"),
    "portability": _("names do not fit the target system"),
    "baseline": _("size or number differ from what is usual"),
}
WORDS["phase"] = {
    "connect": _("connecting"),
    "probe": _("probe"),
    "do": _("action"),
    "check": _("check"),
    "undo": _("taking back"),
}
WORDS["approver"] = {
    "client_approver": _("the client's approver"),
    "account_manager": _("the account manager"),
    "provider": _("the provider"),
}
WORDS["action_class"]["access"] = _("change who may get in")
BADGES["run_state"]["cancelling"] = Badge(_("being cancelled"), WARN, "player-stop")


def options(vocabulary: str, values: Iterable[str], *, with_value: bool = False) -> list[tuple[str, str]]:
    """Return (value, words) pairs for a list to choose from; `with_value`: "L2 second line"."""
    found = []
    for value in values:
        words = str(badge_of(vocabulary, value).word) if vocabulary in BADGES else word(vocabulary, value)
        found.append((value, f"{value} {words}" if with_value else words))
    return found


def same(values: Iterable[str]) -> list[tuple[str, str]]:
    """Return (value, value) pairs: a list to choose from whose words are the playbook's own."""
    return [(value, value) for value in values]


def pairs(things: Iterable[Any]) -> list[tuple[int, str]]:
    """Return (id, name) pairs of stored things."""
    return [(thing.id, thing.name) for thing in things]


def brief(span: timedelta) -> str:
    """Return a short duration as engineers read it: 34 ms, 2.1 s, 3 min."""
    took = max(span.total_seconds(), 0.0)
    if took >= 90:
        return duration(span)
    words: str = gettext("%(n)s ms", n=round(took * 1000)) if took < 1 else gettext("%(n)s s", n=number(round(took, 1)))
    return words


def seconds(value: float | None) -> timedelta | None:
    """Return seconds as a duration, for the filters that say durations in words."""
    return None if value is None else timedelta(seconds=value)


def install(blueprint: Blueprint) -> None:
    """Give the functions above to every template."""
    for function in (options, same, pairs, brief, seconds):
        blueprint.app_template_global()(function)
