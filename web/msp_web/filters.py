"""How values read on a page: instants in the viewer's zone, durations in words, money and dates by locale."""

import base64
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_datetime, format_time, get_timezone_name
from babel.numbers import format_currency, format_decimal
from flask import Flask, request, url_for
from flask_babel import get_locale, gettext
from markupsafe import Markup

from msp.clock import utc_now
from msp_web import language, words


def zone_name(instant: datetime, zone: ZoneInfo) -> str:
    """Return the short name of a zone at an instant: MSK, CET, or UTC+3 where there is none."""
    name = instant.astimezone(zone).tzname() or ""
    return name if name.isalpha() else get_timezone_name(instant.astimezone(zone), width="short", locale="en")


def moment(instant: datetime | None, site_zone: str | None = None, *, seconds: bool = False) -> Markup:
    """Return an instant in the viewer's zone; UTC and the site's zone stand in its title. Today: the time alone."""
    if instant is None:
        return Markup('<span class="text-secondary">–</span>')
    zone, locale = language.zone(), get_locale()
    local = instant.astimezone(zone)
    clock = format_time(local, "HH:mm:ss" if seconds else "HH:mm", tzinfo=zone, locale=locale)
    if local.date() != utc_now().astimezone(zone).date():
        clock = format_date(local, "d MMM y" if local.year != utc_now().year else "d MMM", locale=locale) + f", {clock}"
    hover = [format_datetime(instant, "d MMM y HH:mm:ss", tzinfo=UTC, locale=locale) + " UTC"]
    if site_zone:
        site = ZoneInfo(site_zone)
        there = format_datetime(instant, "d MMM HH:mm", tzinfo=site, locale=locale)
        hover.append(gettext("on site %(time)s", time=f"{there} {zone_name(instant, site)}"))
    return Markup('<time datetime="{}" title="{}">{} {}</time>').format(
        instant.astimezone(UTC).isoformat(timespec="seconds"), " · ".join(hover), clock, zone_name(instant, zone)
    )


def duration(span: timedelta | None) -> str:
    """Return a duration in words: `2 h 14 min`, `3 d 4 h`, `45 s`. The sign is left to the words around it."""
    if span is None:
        return "–"
    seconds = abs(int(span.total_seconds()))
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    parts: list[str] = []
    if days:
        parts.append(gettext("%(n)s d", n=days))
    if hours:
        parts.append(gettext("%(n)s h", n=hours))
    if minutes and not days:
        parts.append(gettext("%(n)s min", n=minutes))
    if not parts:
        parts.append(gettext("%(n)s s", n=left))
    return " ".join(parts)


def since(instant: datetime | None) -> str:
    """Return how long ago an instant was, or how long it is to it, in words."""
    if instant is None:
        return str(gettext("never"))
    away = utc_now() - instant
    if abs(away) < timedelta(seconds=10):
        return str(gettext("just now"))
    if away >= timedelta():
        return str(gettext("%(duration)s ago", duration=duration(away)))
    return str(gettext("in %(duration)s", duration=duration(away)))


def day(value: date | datetime | None) -> str:
    """Return a date by locale; an instant is taken in the viewer's zone."""
    if value is None:
        return "–"
    if isinstance(value, datetime):
        value = value.astimezone(language.zone()).date()
    return str(format_date(value, "d MMM y", locale=get_locale()))


def money(amount: Decimal | None, currency: str) -> str:
    """Return an amount with its currency by locale."""
    return "–" if amount is None else format_currency(amount, currency, locale=get_locale())


def number(value: Decimal | float | int | None) -> str:
    """Return a number by locale."""
    return "–" if value is None else format_decimal(value, locale=get_locale())


def minutes(value: int | None) -> str:
    """Return whole minutes in words; hours are not turned into days, as bills count hours."""
    if value is None:
        return "–"
    hours, left = divmod(abs(value), 60)
    parts = [gettext("%(n)s h", n=number(hours))] if hours else []
    if left or not hours:
        parts.append(gettext("%(n)s min", n=left))
    return ("−" if value < 0 else "") + " ".join(parts)


def inline_svg(data_url: str) -> Markup:
    """Return the drawing inside a data URL as markup: our policy shows no images from data URLs."""
    head, _, body = data_url.partition("base64,")
    if not head.startswith("data:image/svg+xml"):
        raise ValueError("not an SVG")
    drawing = base64.b64decode(body).decode("utf-8")
    return Markup(drawing[drawing.index("<svg") :])  # noqa: S704  drawn by us from a key, no foreign text in it


def install(app: Flask) -> None:
    """Give the filters to every template."""
    for function in (moment, duration, since, day, money, number, minutes, inline_svg, language.said):
        app.jinja_env.filters[function.__name__] = function
    app.jinja_env.globals.update(badge_of=words.badge_of, word=words.word, now=utc_now)

    @app.template_global()
    def with_query(**changes: Any) -> str:
        """Return this page's address with some query values changed; None removes one."""
        values: dict[str, Any] = {**request.args.to_dict(), **(request.view_args or {}), **changes}
        kept = {name: value for name, value in values.items() if value not in (None, "")}
        return url_for(request.endpoint or "auth.home", **kept)
