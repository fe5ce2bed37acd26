"""What a client reads: risks, proofs, acts and people in plain words of the viewer's language. They join words.py."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from flask_babel import gettext
from flask_babel import lazy_gettext as _
from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.backup.models import BackupPlan, RestoreTest
from msp.backup.proof import ERRORS_ALLOWED, Proof
from msp.contracts.terms import Terms
from msp.people.models import User
from msp_web import language
from msp_web import words_of_evidence as words_of_evidence
from msp_web.filters import duration, moment, zone_name
from msp_web.words import WARN, WORDS, Badge, badge_of, word

#: What an action may do to the client's work, by its class.
WORDS["risk"] = {
    "read": _("It only looks and changes nothing."),
    "change": _("It changes files or settings. The service goes on meanwhile."),
    "disruptive": _("It interrupts the service for the people who use it."),
    "access": _("A technician works on the machine by hand."),
}
#: The priorities from which a client chooses, as what it means for the people.
WORDS["urgency"] = {
    "P2": _("We cannot work, or not without it"),
    "P3": _("It is a nuisance, but work goes on"),
}
WORDS["wish"] = {
    "incident": _("Something does not work"),
    "request": _("I need something new or changed"),
}
BILLING: dict[str, Badge] = {
    "proposed": Badge(_("proposed"), WARN, "hourglass"),
    "confirmed": Badge(_("confirmed"), "green", "circle-check"),
    "withdrawn": Badge(_("withdrawn"), "grey", "ban"),
}
#: Names under which the product itself acts.
MACHINES = frozenset({"worker", "clock", "cli", "mail", "monitoring", "seed", "demo"})
#: A secret of the vault is stored by its name, as "vault:name".
VAULT = "vault:"


def people(session: Session, log_ins: Iterable[str]) -> dict[str, str]:
    """Return the names of the people who log in as `log_ins`; mail addresses of staff are not told to clients."""
    query = select(User.email, User.name).where(User.email.in_(set(log_ins)))
    return dict(session.execute(query).all())  # a Result itself would pass for a mapping


def who(log_in: str, names: Mapping[str, str]) -> str:
    """Return a person as a client reads it."""
    if log_in in MACHINES:
        return str(gettext("automatically"))
    return names.get(log_in) or str(gettext("our team") if "@" in log_in else log_in)


def parameters(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (name, value) of a run's parameters; a secret shows as what it is, never as its value or name."""
    return [
        (name, gettext("a secret from the vault, not shown") if str(value).startswith(VAULT) else plain(value))
        for name, value in values.items()
    ]


def plain(value: Any) -> str:
    """Return a JSON value as people write it."""
    if isinstance(value, bool):
        return str(gettext("yes") if value else gettext("no"))
    if isinstance(value, list | tuple):
        return ", ".join(plain(one) for one in value)
    return "–" if value in (None, "") else str(value)


def proof(state: Proof, tests: Sequence[RestoreTest], plan: BackupPlan) -> Markup:
    """Return in a sentence why a plan counts as proven or not; `tests`: its finished ones, newest first."""
    since = [test for test in tests if test.finished_at and (not state.proven_at or test.finished_at > state.proven_at)]
    failed = next((test for test in since if test.verdict == "fail"), None)
    rung = word("rung", state.rung)
    if state.state == "proven":
        said = gettext("Restored on %(when)s and checked: %(rung)s.", when="%(when)s", rung=rung)
        return _at(said, state.proven_at)
    if failed is not None:
        return _at(gettext("The restore test of %(when)s failed.", when="%(when)s"), failed.finished_at)
    if state.state == "overdue":
        said = gettext(
            "Last proven %(when)s, and that is too long ago: the contract allows %(allowed)s.",
            when="%(when)s",
            allowed=duration(plan.proof_every),
        )
        return _at(said, state.proven_at)
    if state.proven_at is None and len(since) < ERRORS_ALLOWED:
        return Markup.escape(gettext("It was never restored yet, so nobody knows whether it works."))
    return Markup.escape(gettext("The last restore tests could not be carried out, so nothing is known."))


def _at(sentence: str, instant: datetime | None) -> Markup:
    return Markup.escape(sentence.replace("%(when)s", "{}")).format(moment(instant))


def promised(plan: BackupPlan, terms: Terms | None, what: str) -> timedelta | None:
    """Return what was promised of a plan: `rto_s` or `rpo_s`, of the contract, else of its own case."""
    own = (plan.case.get("expect") or {}).get(what)
    of_contract = getattr(terms.restore, what) if terms and terms.restore else None
    seconds = of_contract if of_contract is not None else own
    return None if seconds is None else timedelta(seconds=float(seconds))


def span(begins: datetime, ends: datetime, site_zone: str | None = None) -> Markup:
    """Return a window of time; on one day of the viewer the day is said once."""
    first, last = moment(begins, site_zone), moment(ends, site_zone)
    zone = language.zone()
    if begins.astimezone(zone).date() == ends.astimezone(zone).date():
        clock = f"{ends.astimezone(zone):%H:%M} {zone_name(ends, zone)}"
        last = Markup('<time datetime="{}">{}</time>').format(ends.isoformat(timespec="seconds"), clock)
    return Markup("{} – {}").format(first, last)


def seconds(value: float) -> timedelta:
    """Return seconds as a duration, for the filter that says durations in words."""
    return timedelta(seconds=value)


def state_of(proof_state: str) -> str:
    """Return the badge's name of a proof's state."""
    return {"overdue": "stale"}.get(proof_state, proof_state)


def billing(state: str) -> Badge:
    """Return how the state of a billing entry looks."""
    return BILLING.get(state) or badge_of("billing", state)
