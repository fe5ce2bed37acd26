"""Reports of a month: promises kept by client, line, priority and person; first line, upper lines, workload."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from flask import Blueprint, Response, current_app, render_template, request
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.contracts.fields import local_midnight
from msp.contracts.models import Client
from msp.contracts.outputs import FORMATS, plain_cell
from msp.desk import attainment, handled
from msp.desk.attainment import Handled, Kept
from msp.errors import NotFound
from msp.flows import client_report
from msp_web import charts, dates, language
from msp_web.access import actor, requires, scoped, visible
from msp_web.filters import duration, number
from msp_web.unit import read_only
from msp_web.views.evidence import whole_number

bp = Blueprint("reports", __name__, url_prefix="/reports")

#: what attainment can be split by: key -> the group of a ticket.
GROUPS: dict[str, Callable[[Handled], str | None]] = {
    "client": lambda row: row.client,
    "line": lambda row: row.line,
    "priority": lambda row: row.priority,
    "technician": lambda row: row.technician,
}
MONTHS = 12  # that can be chosen


@dataclass(frozen=True, slots=True)
class Asked:
    """The month and the filters of the address; instants are those of the viewer's months."""

    month: str
    start: datetime
    end: datetime
    client_id: int | None
    kind: str | None
    by: str


def asked() -> Asked:
    """Read the address; without a month it is the present one. Raises Misconfigured for a month that is none."""
    month = request.args.get("month", "") or f"{utc_now().astimezone(language.zone()):%Y-%m}"
    first = dates.month(month)
    after = (first + timedelta(days=31)).replace(day=1)
    zone = language.zone()
    by = request.args.get("by", "client")
    return Asked(
        month=month,
        start=local_midnight(first, zone),
        end=local_midnight(after, zone),
        client_id=whole_number("client"),
        kind=request.args.get("kind") or None,
        by=by if by in GROUPS else "client",
    )


def months() -> list[str]:
    """Return the months that can be chosen, this one first."""
    day: date = utc_now().astimezone(language.zone()).date().replace(day=1)
    found = []
    for _ in range(MONTHS):
        found.append(f"{day:%Y-%m}")
        day = (day - timedelta(days=1)).replace(day=1)
    return found


def rows_of(session: Session, what: Asked) -> list[Handled]:
    """Return the tickets of the month that the asking person may see."""
    wanted: list[int] | None = None
    if what.client_id is not None:
        wanted = [scoped(session, Client, what.client_id).id]
    elif actor().granted is not None:
        wanted = sorted(actor().granted or ())
    rows = handled.read(session, what.start, what.end, utc_now(), client_ids=wanted)
    return [row for row in rows if what.kind is None or row.kind == what.kind]


@bp.get("/")
@requires("billing.confirm")
def index() -> str:
    """Show the figures of a month."""
    what = asked()
    with read_only() as session:
        rows = rows_of(session, what)
        clients = list(session.scalars(visible(select(Client), Client).order_by(Client.name)))
    groups = attainment.kept(rows, what.start, what.end, GROUPS[what.by])
    judged = attainment.judgements(rows, what.start, what.end)
    loads = attainment.workload(rows, what.start, what.end)
    return render_template(
        "billing/reports.html",
        what=what,
        months=months(),
        clients=clients,
        groups=GROUPS,
        overall=attainment.overall(rows, what.start, what.end),
        kept=groups,
        chart=charts.shares(
            (group.name or gettext("nobody"), group.percent, figure(group), tone(group)) for group in groups
        ),
        first=attainment.first_line(rows, what.start, what.end),
        upper=attainment.upper_lines(rows, what.start, what.end),
        loads=loads,
        load_chart=charts.shares(
            (load.technician or gettext("nobody"), load.share, f"{load.open + load.solved}", "blue") for load in loads
        ),
        late=list(dict.fromkeys(row.ticket for row, one in judged if one.outcome == attainment.LATE)),
        formats=("pdf", "xlsx"),
    )


def figure(group: Kept) -> str:
    return f"{number(group.percent)} % · {group.kept}/{group.counted}"


def tone(group: Kept) -> str:
    return charts.tone_of(group.percent)


@bp.get("/kept.csv")
@requires("billing.confirm")
def as_csv() -> Response:
    """Give the tickets behind the figures, one a row."""
    what = asked()
    with read_only() as session:
        rows = rows_of(session, what)
    text = io.StringIO(newline="")
    file = csv.writer(text, delimiter=";" if language.language() == "ru" else ",", lineterminator="\r\n")
    file.writerow(
        (
            *(gettext("Ticket"), gettext("Client"), gettext("Subject"), gettext("Priority"), gettext("Support line")),
            *(gettext("Technician"), gettext("Opened"), gettext("Resolved"), gettext("First response")),
            *(gettext("Resolution"), gettext("Worked, minutes")),
        )
    )
    zone = language.zone()
    for row in rows:
        moments = [f"{at.astimezone(zone):%Y-%m-%d %H:%M}" if at else "" for at in (row.opened_at, row.resolved_at)]
        texts = (row.client, row.subject, row.priority, row.line, row.technician or "")
        outcomes = (row.first_response.outcome, row.resolution.outcome)
        file.writerow([row.ticket, *map(plain_cell, texts), *moments, *outcomes, row.minutes])
    answer = Response(text.getvalue().encode("utf-8-sig"), content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = f'attachment; filename="tickets-{what.month}.csv"'
    return answer


@bp.get("/<int:client_id>/month.<form>")
@requires("billing.confirm")
def month(client_id: int, form: str) -> Response:
    """Give one client's month in one file, in the client's language and zone."""
    if form not in ("pdf", "xlsx"):
        raise NotFound("There is no such format.", advice="There are pdf and xlsx.")
    settings = current_app.config["MSP_SETTINGS"]
    with read_only() as session:
        client = scoped(session, Client, client_id)
        report = client_report.of_month(session, client, asked().month, utc_now(), provider=settings.provider)
        name = f"report-{client.key}-{report.period}.{form}"
    answer = Response(client_report.written(report, form), content_type=FORMATS[form])
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


@bp.app_template_filter("spent")
def spent(span: timedelta | None) -> str:
    """Return a duration in words, a dash for none."""
    return duration(span)
