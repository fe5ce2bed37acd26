"""The wizard for a backup plan: what, where, a first restore, what must hold, when, save.

Each step keeps what was said. Until the last step there is only a draft: a plan is written whole or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import vault
from msp.assets.models import ConfigurationItem
from msp.backup import case as cases
from msp.backup import case_fields, drafts, ladder, places
from msp.backup.ladder import LadderStep
from msp.backup.models import BackupDraft, BackupPlan
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.engine import cron
from msp.errors import Misconfigured, MspError, NotFound
from msp.flows import backup_gaps, backup_plans
from msp.flows.backup_trends import restore_clause
from msp_web import cron_words, language, words_of_backups
from msp_web.access import actor, can, requires, scoped, visible
from msp_web.cron_words import When
from msp_web.ticket_page import newest
from msp_web.unit import read_only, unit_of_work
from msp_web.views.assets import clients_of
from msp_web.views.desk import granted, number_of
from msp_web.words import word

bp = Blueprint("backup_drafts", __name__, url_prefix="/backups/drafts")

NAME_LENGTH = 200
STANDARD: tuple[tuple[int, ...], ...] = ((1, 2), (3,), (4, 5), (4, 6))
FIRST = ("root", "format", "sha256", "expect.host", "job", "fileset")  # fields that are never folded away
MORE = 2  # empty rows for rungs of one's own


@dataclass(frozen=True, slots=True)
class Row:
    """Some rungs and when they are climbed, as a form shows them. `own`: the rungs are typed."""

    number: int
    rungs: tuple[int, ...]
    when: When
    own: bool = False


@bp.app_context_processor
def words() -> dict[str, Any]:
    return {
        "field_words": words_of_backups.field_words,
        "question_words": words_of_backups.question_words,
        "bytes_of": words_of_backups.size,
        "cron_said": cron_words.said,
        "kept_words": words_of_backups.kept_words,
        "figures_of": words_of_backups.figures,
        "month_of": words_of_backups.month_of,
    }


@bp.get("/new")
@requires("backup.edit")
def new() -> str:
    """Ask whose and which item's backup it is; those that lack a plan come first."""
    with read_only() as session:
        return render_template(
            "backups/draft_new.html",
            clients=clients_of(session),
            items=items_of(session),
            lacking=[gap.item.id for gap in backup_gaps.gaps(session, utc_now(), client_ids=granted()) if not gap.plan],
            chosen=request.args.get("asset", ""),
            client=request.args.get("client", ""),
            mine=drafts.open_ones(session, granted(), actor().name),
        )


def items_of(session: Session) -> list[ConfigurationItem]:
    query = visible(select(ConfigurationItem), ConfigurationItem)
    kept = query.where(ConfigurationItem.status != "retired")
    return list(session.scalars(kept.order_by(ConfigurationItem.client_id, ConfigurationItem.name)))


@bp.post("/new")
@requires("backup.edit")
def begin() -> ResponseReturnValue:
    """Begin a draft for an item, or for a client whose backup belongs to no single item."""
    kind, _, number = request.form.get("of", "").partition(":")
    with unit_of_work() as session:
        item = scoped(session, ConfigurationItem, number_of(number) or 0) if kind == "item" else None
        if item is None and kind != "client":
            raise Misconfigured("Nothing was chosen.", advice="Choose what is backed up.")
        client = scoped(session, Client, item.client_id if item else number_of(number) or 0)
        allow(client.id)
        clause = restore_clause(session, client.id, utc_now())
        draft = drafts.begin(
            session,
            utc_now(),
            client_id=client.id,
            by=actor().name,
            time_zone=client.time_zone,
            asset_id=item.id if item else None,
            asset_name=item.name if item else "",
            proof_every=timedelta(seconds=clause.proof_every_s) if clause else None,
        )
        number = str(draft.id)
    return redirect(url_for("backup_drafts.step", draft_id=number, name="asset"), 303)


@bp.post("/of-plan/<int:plan_id>")
@requires("backup.edit")
def change(plan_id: int) -> ResponseReturnValue:
    """Begin to change a plan, or go on with it."""
    with unit_of_work() as session:
        plan = scoped(session, BackupPlan, plan_id)
        allow(plan.client_id)
        draft = drafts.begin_change(session, plan, utc_now(), by=actor().name)
        number = draft.id
    return redirect(url_for("backup_drafts.step", draft_id=number, name="summary"), 303)


def allow(client_id: int) -> None:
    if not can("backup.edit", client_id):
        raise NotFound("There is no such client.", advice="Go back to the list.")


def draft_of(session: Session, draft_id: int) -> BackupDraft:
    """Return a draft that the asking person may write at."""
    draft = scoped(session, BackupDraft, draft_id)
    allow(draft.client_id)
    return draft


@bp.get("/<int:draft_id>")
@requires("backup.edit")
def resume(draft_id: int) -> ResponseReturnValue:
    """Go on where the writer left off."""
    with read_only() as session:
        return redirect(
            url_for("backup_drafts.step", draft_id=draft_id, name=drafts.next_step(draft_of(session, draft_id))), 302
        )


@bp.get("/<int:draft_id>/<name>")
@requires("backup.edit")
def step(draft_id: int, name: str) -> str:
    """Show one step."""
    with read_only() as session:
        return page(session, draft_of(session, draft_id), name)


def page(
    session: Session, draft: BackupDraft, name: str, faults: Mapping[str, str] | None = None, typed: Any = None
) -> str:
    """Return a step's page. faults: field -> what is wrong; typed: what was sent, to be shown again."""
    if name not in drafts.STEPS:
        raise NotFound("There is no such step.", advice="Go back to the draft.")
    client, now = scoped(session, Client, draft.client_id), utc_now()
    asked = request.args.get("engine") or (typed or {}).get("engine") if name == "engine" else None
    engine = asked or draft.answers.get("engine") or ""
    engine = engine if engine in drafts.engine_names() else ""
    given: dict[str, Any] = {
        "draft": draft,
        "answers": draft.answers,
        "client": client,
        "item": scoped(session, ConfigurationItem, draft.asset_id) if draft.asset_id else None,
        "plan": scoped(session, BackupPlan, draft.plan_id) if draft.plan_id else None,
        "here": name,
        "steps": drafts.STEPS,
        "lacks": drafts.missing(draft),
        "faults": faults or {},
        "typed": typed,
        "clause": restore_clause(session, client.id, now),
    }
    if name == "asset":
        given["items"] = [item for item in items_of(session) if item.client_id == client.id]
    elif name == "engine":
        case = draft.answers.get("case") or {} if engine == draft.answers.get("engine") else {}
        fields = case_fields.of(engine) if engine else ()
        shown = {**(case_fields.shown(case, engine) if engine else {}), **(typed or {})}
        rest = [one for one in fields if not one.required and one.name not in FIRST]
        given |= {
            "engine": engine,
            "engines": drafts.engine_names(),
            "first": [one for one in fields if one not in rest],
            "rest": rest,
            "rest_used": any(shown.get(one.name) or one.name in (faults or {}) for one in rest),
            "shown": shown,
            "needs_secret": case_fields.needs_secret(engine) if engine else None,
            "secrets": [row.name for row in vault.names(session, client.id)],
        }
    elif name == "trial":
        given["began_at"] = instant(draft.trial.get("began_at") or draft.trial.get("asked_at"))
        given["snapshot_at"] = instant(draft.trial.get("snapshot_at"))
        given["listens_from"] = newest(session)
    elif name == "found":
        given["choices"] = drafts.choices(draft)
    elif name == "ladder":
        given |= {"rows": rows_of(draft, given["item"]), "often": cron_words.options(), "zones": language.zones()}
        given["limits"] = ladder.read_limits(draft.answers.get("limits") or {})
        given["single"] = cron_words.split(draft.answers.get("cron") or drafts.DEFAULT_CRON)
    else:
        steps, limits = drafts.steps_of(draft)
        given |= {"ladder_steps": steps, "limits": limits, "choices": drafts.choices(draft)}
        line = draft.answers.get("cron") or drafts.DEFAULT_CRON
        given["gap"] = drafts.longest_gap(steps, line, draft.answers["time_zone"], now)
        given |= {"document": drafts.document(draft), "fires": fires(draft, steps, now)}
    return render_template(f"backups/draft_{name}.html", **given)


def instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def fires(draft: BackupDraft, steps: tuple[LadderStep, ...], now: datetime) -> dict[str, datetime]:
    """Return when each step begins next, by its cron line."""
    zone = draft.answers["time_zone"]
    lines = [one.when for one in steps if one.when != ladder.AFTER_BACKUP] or [
        draft.answers.get("cron") or drafts.DEFAULT_CRON
    ]
    found = {line: cron.parse(line, zone).after(now) for line in lines}
    return {line: fire.at for line, fire in found.items() if fire is not None}


def rows_of(draft: BackupDraft, item: ConfigurationItem | None) -> list[Row]:
    """Return the rows of the ladder's form: what the draft has, the standard ones, and empty ones."""
    if draft.answers.get("scheduled") or draft.plan_id:
        steps = ladder.read(draft.answers.get("ladder") or ())
    else:
        boots = "boot" in (draft.answers.get("case") or {}).get("expect", {})
        proof_every = timedelta(seconds=draft.answers["proof_every_s"])
        steps = ladder.defaults(critical=bool(item and item.criticality == 1), boots=boots, proof_every=proof_every)
    known = {one.rungs: one.when for one in steps}
    rows = [(rungs, cron_words.split(known[rungs]) if rungs in known else When()) for rungs in STANDARD]
    rows += [(rungs, cron_words.split(when)) for rungs, when in known.items() if rungs not in STANDARD]
    made = [Row(number, rungs, when) for number, (rungs, when) in enumerate(rows)]
    return made + [Row(len(made) + more, (), When(), own=True) for more in range(MORE)]


# --- what each step keeps


@bp.post("/<int:draft_id>/asset")
@requires("backup.edit")
def keep_asset(draft_id: int) -> ResponseReturnValue:
    """Keep the name and the item."""
    with unit_of_work() as session:
        draft = draft_of(session, draft_id)
        name = " ".join(request.form.get("name", "").replace("\0", "").split())[:NAME_LENGTH]
        if not name:
            return page(session, draft, "asset", {"name": "missing"}, request.form), 422
        chosen = number_of(request.form.get("item"))
        item = scoped(session, ConfigurationItem, chosen) if chosen else None
        if item is not None and item.client_id != draft.client_id:
            raise NotFound("This client has no such item.", advice="Choose one of the list.")
        draft.asset_id = item.id if item else None
        drafts.answer(draft, utc_now(), name=name)
        return onward(draft, "asset")


@bp.post("/<int:draft_id>/engine")
@requires("backup.edit")
def keep_engine(draft_id: int) -> ResponseReturnValue:
    """Keep where the backup lies and how it is opened; the password stays in the vault."""
    with unit_of_work() as session:
        draft = draft_of(session, draft_id)
        engine = drafts.need_engine(request.form.get("engine", ""))
        case, faults = case_fields.read(engine, request.form)
        secret = request.form.get("secret_name", "")
        if secret and secret not in {row.name for row in vault.names(session, draft.client_id)}:
            faults["secret_name"] = "choice"  # noqa: S105  a code
        if not secret and case_fields.needs_secret(engine):
            faults["secret_name"] = "missing"  # noqa: S105
        told = {name: str(word("fault", code)) for name, code in faults.items()}
        if not told:
            try:
                closed = places.closed(current_app.config["MSP_SETTINGS"])
                drafts.refuse_foreign(session, draft.client_id, {**(draft.answers.get("rest") or {}), **case}, closed)
            except MspError as error:
                told[next(name for name in ("repo", "file", "") if case.get(name) or not name)] = language.explained(
                    error
                )
        kept: dict[str, Any] = {} if engine == draft.answers.get("engine") else {"rest": {}, "kept": [], "ticked": {}}
        try:
            cases.parse(case, now=utc_now(), where="the plan") if not told else None
        except MspError as error:
            told[""] = language.explained(error)
        if told:
            return page(session, draft, "engine", told, {**request.form, "engine": engine}), 422
        drafts.answer(draft, utc_now(), engine=engine, case=case, secret_name=secret or None, **kept)
        return onward(draft, "engine")


@bp.post("/<int:draft_id>/trial")
@requires("backup.edit")
def try_now(draft_id: int) -> ResponseReturnValue:
    """Queue the first restore; the worker does it, and this page tells how far it is. Or wait for it no longer."""
    with unit_of_work() as session:
        draft = draft_of(session, draft_id)
        if request.form.get("do") == "forget":
            drafts.forget_trial(draft)
        else:
            backup_plans.ask_trial(session, draft, current_app.config["MSP_SETTINGS"], utc_now())
    return redirect(url_for("backup_drafts.step", draft_id=draft_id, name="trial"), 303)


@bp.post("/<int:draft_id>/found")
@requires("backup.edit")
def keep_found(draft_id: int) -> ResponseReturnValue:
    """Keep what is to be asserted."""
    with unit_of_work() as session:
        draft = draft_of(session, draft_id)
        drafts.tick(draft, request.form.getlist("assert"), utc_now())
        return onward(draft, "found")


@bp.post("/<int:draft_id>/ladder")
@requires("backup.edit")
def keep_ladder(draft_id: int) -> ResponseReturnValue:
    """Keep when which rungs are climbed, and what a test may take."""
    form, faults = request.form, dict[str, str]()
    with unit_of_work() as session:
        draft = draft_of(session, draft_id)
        zone = form.get("time_zone", "")
        if zone not in language.zones():
            faults["time_zone"] = str(word("fault", "choice"))
            zone = "UTC"
        steps: list[LadderStep] = []
        for row in range(20):
            if when := chosen_when(f"row-{row}", zone, faults):
                try:
                    steps.append(ladder.typed(f"{form.get(f'row-{row}-rungs', '').replace(' ', '')}={when}"))
                except MspError as error:
                    faults[f"row-{row}"] = language.explained(error)
        single = chosen_when("single", zone, faults) or drafts.DEFAULT_CRON
        values: dict[str, Any] = {"time_zone": zone, "cron": single, "scheduled": True}
        try:
            values["ladder"] = ladder.plain(ladder.read(ladder.plain(steps)))
        except MspError as error:
            faults["rows"] = language.explained(error)
        for name, field, scale in (("proof_days", "proof_every_s", 86400), ("job_hours", "every_s", 3600)):
            if (seconds := whole_of(form.get(name, ""), scale)) is None and (form.get(name) or name == "proof_days"):
                faults[name] = str(word("fault", "number"))
            values[field] = seconds
        values["limits"] = limits_of(form, faults)
        if faults:
            return page(session, draft, "ladder", faults, form), 422
        drafts.answer(draft, utc_now(), **values)
        return onward(draft, "ladder")


def chosen_when(name: str, zone: str, faults: dict[str, str]) -> str | None:
    """Return the time that a row of the form means; notes what is wrong with it."""
    form = request.form
    often = form.get(f"{name}-often", "never")
    if often == "never":
        return None
    when = cron_words.join(When(often, form.get(f"{name}-at", ""), form.get(f"{name}-line", "")))
    if when is None:
        faults[name] = gettext("Give a time.")
        return None
    if when != ladder.AFTER_BACKUP:
        try:
            cron.parse(when, zone)
        except MspError as error:
            faults[name] = language.explained(error)
            return None
    return when


def whole_of(text: str, scale: int) -> int | None:
    try:
        number = float(text.replace(",", ".").strip())
    except ValueError:
        return None
    return round(number * scale) if 0 < number * scale < 10**9 else None


def limits_of(form: Mapping[str, str], faults: dict[str, str]) -> dict[str, Any]:
    opens, closes = form.get("opens", "").strip(), form.get("closes", "").strip()
    jitter = number_of(form.get("jitter_minutes") or "0")
    nice = number_of(form.get("nice"))
    limits: dict[str, Any] = {"nice": 5 if nice is None else nice}
    limits["io"] = "idle" if form.get("io") == "idle" else "best-effort"
    limits["jitter_s"] = 60 * jitter if jitter is not None else -1
    if opens or closes:
        limits["window"] = f"{opens}-{closes}"
    try:
        ladder.read_limits(limits)
    except MspError as error:
        faults["limits"] = language.explained(error)
    return limits


def onward(draft: BackupDraft, name: str) -> ResponseReturnValue:
    """Go to the step after, or leave the draft for later."""
    if request.form.get("then") == "later":
        flash(gettext("Kept. You can go on from the proof board."), "success")
        return redirect(url_for("backups.board"), 303)
    place = drafts.STEPS[drafts.STEPS.index(name) + 1]
    if place == "found" and not drafts.choices(draft):
        place = "ladder"
    return redirect(url_for("backup_drafts.step", draft_id=draft.id, name=place), 303)


@bp.post("/<int:draft_id>/save")
@requires("backup.edit")
def save(draft_id: int) -> ResponseReturnValue:
    """Write the plan, whole, and put it on its schedule."""
    with unit_of_work() as session:
        draft = draft_of(session, draft_id)
        plan = backup_plans.save(session, draft, current_app.config["MSP_SETTINGS"], utc_now(), by=actor().name)
        number = plan.id
    flash(gettext("The plan is saved and on its schedule."), "success")
    return redirect(url_for("backups.show", plan_id=number), 303)


@bp.post("/<int:draft_id>/discard")
@requires("backup.edit")
def discard(draft_id: int) -> ResponseReturnValue:
    """Throw a draft away; a plan that it was to change stays as it is."""
    with unit_of_work() as session:
        draft = draft_of(session, draft_id)
        plan_id = draft.plan_id
        session.delete(draft)
    flash(gettext("The draft is thrown away."), "info")
    return redirect(url_for("backups.show", plan_id=plan_id) if plan_id else url_for("backups.board"), 303)
