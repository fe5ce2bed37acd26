"""The words, colours and icons of stored values. State is never colour alone: every badge has all three."""

from dataclasses import dataclass
from typing import Any

from flask_babel import lazy_gettext as _


@dataclass(frozen=True, slots=True)
class Badge:
    """How one value looks. `colour` is one of the classes `tone-*` in app.css; `icon` one of the vendored sprite."""

    word: Any
    colour: str = "grey"
    icon: str = "point"


GOOD, BAD, WARN, DOUBT, BUSY, QUIET = "green", "red", "orange", "purple", "blue", "grey"

#: vocabulary -> stored value -> badge
BADGES: dict[str, dict[str, Badge]] = {
    "ticket_state": {
        "open": Badge(_("open"), BUSY, "circle"),
        "waiting_client": Badge(_("waiting for the client"), QUIET, "clock-pause"),
        "waiting_vendor": Badge(_("waiting for a vendor"), QUIET, "clock-pause"),
        "scheduled": Badge(_("visit scheduled"), BUSY, "calendar-event"),
        "resolved": Badge(_("resolved"), GOOD, "circle-check"),
        "closed": Badge(_("closed"), QUIET, "lock"),
        "cancelled": Badge(_("cancelled"), QUIET, "ban"),
        "merged": Badge(_("merged"), QUIET, "link"),
    },
    "ticket_kind": {
        "incident": Badge(_("incident"), BAD, "alert-triangle"),
        "request": Badge(_("request"), BUSY, "help-circle"),
        "problem": Badge(_("problem"), DOUBT, "zoom-question"),
        "change": Badge(_("change"), WARN, "switch"),
    },
    "priority": {
        "P1": Badge(_("P1 critical"), BAD, "alert-triangle"),
        "P2": Badge(_("P2 high"), WARN, "chevron-up"),
        "P3": Badge(_("P3 normal"), BUSY, "point"),
        "P4": Badge(_("P4 low"), QUIET, "chevron-down"),
        "P5": Badge(_("P5 planned"), QUIET, "chevron-down"),
    },
    "run_state": {
        "awaiting_approval": Badge(_("awaiting approval"), WARN, "hand-stop"),
        "queued": Badge(_("queued"), QUIET, "hourglass"),
        "running": Badge(_("running"), BUSY, "player-play"),
        "succeeded": Badge(_("succeeded"), GOOD, "circle-check"),
        "failed": Badge(_("failed"), BAD, "circle-x"),
        "in_doubt": Badge(_("in doubt"), DOUBT, "help-circle"),
        "cancelled": Badge(_("cancelled"), QUIET, "ban"),
        "refused": Badge(_("refused"), BAD, "shield-x"),
        "expired": Badge(_("expired"), QUIET, "clock-x"),
    },
    "outcome": {
        "ok": Badge(_("ok"), GOOD, "check"),
        "changed": Badge(_("changed"), GOOD, "checks"),
        "skipped": Badge(_("skipped"), QUIET, "arrow-right"),
        "failed": Badge(_("failed"), BAD, "circle-x"),
        "not_started": Badge(_("not started"), QUIET, "circle-dashed"),
        "unknown": Badge(_("in doubt"), DOUBT, "help-circle"),
        "unreachable": Badge(_("unreachable"), BAD, "plug-connected-x"),
    },
    "decision": {
        "allow": Badge(_("allowed"), GOOD, "circle-check"),
        "ask": Badge(_("needs approval"), WARN, "hand-stop"),
        "refuse": Badge(_("refused"), BAD, "shield-x"),
    },
    "approval": {
        "pending": Badge(_("awaiting a decision"), WARN, "hand-stop"),
        "approved": Badge(_("approved"), GOOD, "circle-check"),
        "declined": Badge(_("declined"), BAD, "circle-x"),
    },
    "proof": {
        "proven": Badge(_("proven"), GOOD, "shield-check"),
        "unproven": Badge(_("unproven"), BAD, "shield-off"),
        "stale": Badge(_("proof too old"), WARN, "clock-x"),
    },
    "verdict": {
        "pass": Badge(_("passed"), GOOD, "shield-check"),
        "warn": Badge(_("passed with remarks"), WARN, "shield-half"),
        "fail": Badge(_("failed"), BAD, "shield-x"),
        "error": Badge(_("nothing learned"), DOUBT, "help-circle"),
    },
    "visit_state": {
        "proposed": Badge(_("proposed"), QUIET, "calendar"),
        "planned": Badge(_("planned"), BUSY, "calendar"),
        "confirmed": Badge(_("confirmed"), BUSY, "calendar-event"),
        "on_the_way": Badge(_("on the way"), DOUBT, "car"),
        "working": Badge(_("working"), GOOD, "tools"),
        "done": Badge(_("done"), QUIET, "checks"),
        "cancelled": Badge(_("cancelled"), QUIET, "ban"),
    },
    "asset_kind": {
        "server": Badge(_("server"), QUIET, "server"),
        "workstation": Badge(_("workstation"), QUIET, "device-desktop"),
        "network": Badge(_("network device"), QUIET, "router"),
        "database": Badge(_("database"), QUIET, "database"),
        "service": Badge(_("service"), QUIET, "cloud"),
        "printer": Badge(_("printer"), QUIET, "printer"),
        "storage": Badge(_("storage"), QUIET, "stack-2"),
    },
    "asset_status": {
        "planned": Badge(_("planned"), QUIET, "circle-dashed"),
        "live": Badge(_("live"), GOOD, "circle-check"),
        "retired": Badge(_("retired"), QUIET, "archive"),
    },
    "impact": {
        "hard": Badge(_("goes down"), BAD, "circle-x"),
        "soft": Badge(_("is weakened"), WARN, "alert-triangle"),
    },
    "criticality": {
        "1": Badge(_("1 most critical"), WARN, "flag"),
        "2": Badge(_("2 important"), BUSY, "flag"),
        "3": Badge(_("3 normal"), QUIET, "flag"),
        "4": Badge(_("4 minor"), QUIET, "flag"),
    },
    "health": {
        "good": Badge(_("good"), GOOD, "circle-check"),
        "ok": Badge(_("good"), GOOD, "circle-check"),
        "warn": Badge(_("look at it"), WARN, "alert-triangle"),
        "bad": Badge(_("mend it"), BAD, "circle-x"),
    },
    "act_state": {
        "draft": Badge(_("draft"), QUIET, "file-text"),
        "sent": Badge(_("sent"), BUSY, "send"),
        "accepted": Badge(_("accepted"), GOOD, "circle-check"),
        "disputed": Badge(_("disputed"), BAD, "alert-triangle"),
    },
}

#: vocabulary -> stored value -> words, where a badge would be too loud
WORDS: dict[str, dict[str, Any]] = {
    "relationship": {
        "runs_on": _("runs on"),
        "depends_on": _("depends on"),
        "stored_on": _("is stored on"),
        "connects_through": _("connects through"),
        "backed_up_by": _("is backed up by"),
        "monitored_by": _("is monitored by"),
        "member_of": _("is a member of"),
    },
    "milestone": {
        "first_response": _("first response"),
        "next_reply": _("next reply"),
        "resolution": _("resolution"),
        "onsite_arrival": _("arrival on site"),
        "on_site": _("arrival on site"),
        "arrival": _("arrival on site"),
        "restore": _("restore"),
    },
    "line": {
        "L0": _("self-service"),
        "L1": _("first line"),
        "L2": _("second line"),
        "L3": _("third line"),
        "L4": _("vendor"),
    },
    "contract_kind": {
        "call_out": _("per call-out"),
        "t_and_m": _("time and material"),
        "block_hours": _("block of hours"),
        "retainer_money": _("money retainer"),
        "fixed_scope": _("fixed scope"),
        "per_device": _("per device"),
        "per_user": _("per user"),
        "per_ticket": _("per ticket"),
    },
    "role": {
        "admin": _("administrator"),
        "technician": _("technician"),
        "dispatcher": _("dispatcher"),
        "account manager": _("account manager"),
        "credential keeper": _("credential keeper"),
        "client user": _("client's user"),
        "client approver": _("client's approver"),
    },
    "effect": {"allow": _("allowed"), "ask": _("asks"), "refuse": _("refused")},
    "weekday": {
        "0": _("Monday"),
        "1": _("Tuesday"),
        "2": _("Wednesday"),
        "3": _("Thursday"),
        "4": _("Friday"),
        "5": _("Saturday"),
        "6": _("Sunday"),
    },
    "weekday_short": {
        "0": _("Mon"),
        "1": _("Tue"),
        "2": _("Wed"),
        "3": _("Thu"),
        "4": _("Fri"),
        "5": _("Sat"),
        "6": _("Sun"),
    },
    "action_class": {
        "read": _("look, change nothing"),
        "change": _("change"),
        "disruptive": _("interrupt service"),
        "access": _("open a console"),
    },
    "approver": {"client_approver": _("client's approver"), "account_manager": _("account manager")},
    "price": {
        "rate": _("per hour"),
        "overage_rate": _("per hour beyond what is included"),
        "call_out_fee": _("per call-out"),
        "monthly_fee": _("each month"),
        "price_per_device": _("per device"),
        "price_per_user": _("per user"),
        "price_per_ticket": _("per ticket"),
    },
    "line_number": {
        "increment": _("billed in steps of, minutes"),
        "minimum": _("at least, minutes an entry"),
        "included_minutes": _("included each month, minutes"),
        "rollover_cap_minutes": _("carried over at most, minutes"),
        "rollover_months": _("carried over for, months"),
        "onsite_minutes": _("on site within, minutes"),
    },
    "covers": {"covers": _("What it covers"), "excludes": _("What it leaves out")},
    "covers_names": {
        "services": _("Services"),
        "roles": _("Roles of who works"),
        "sites": _("Sites"),
        "assets": _("Items by name"),
        "asset_classes": _("Kinds of items"),
    },
    "covers_work": {"remote": _("remote"), "onsite": _("on site"), "onsite remote": _("remote or on site")},
    "vat_mode": {
        "exclusive_on_total": _("added once, to the sum of an act"),
        "exclusive_per_line": _("added to each line, rounded there"),
        "exclusive_per_rate": _("added once for each rate"),
        "inclusive": _("prices include it"),
    },
    "vat_bears": {"rate": _("a rate holds"), "none": _("no VAT")},
    "dated": {"overrides": _("Days with other hours"), "breaks": _("Closed for a while")},
    "transport": {"ssh": "SSH", "winrm": "WinRM", "vnc": "VNC", "network": "CLI", "local": _("local")},
}


def badge_of(vocabulary: str, value: Any) -> Badge:
    """Return how a stored value looks; an unknown value shows as itself, in grey."""
    return BADGES.get(vocabulary, {}).get(str(value), Badge(str(value).replace("_", " "), QUIET, "point"))


def word(vocabulary: str, value: Any) -> str:
    """Return the words for a stored value; an unknown value reads as itself."""
    found = WORDS.get(vocabulary, {}).get(str(value))
    if found is None and str(value) in BADGES.get(vocabulary, {}):
        found = BADGES[vocabulary][str(value)].word
    return str(found) if found is not None else str(value).replace("_", " ")
