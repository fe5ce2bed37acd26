"""Languages and time zones of pages: the viewer's own, a cookie before log-in, then the installation's."""

from collections.abc import Mapping
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from flask import Flask, current_app, request
from flask_babel import Babel, get_locale

from msp import sentences
from msp.errors import MspError
from msp_web.access import current_actor

LANGUAGES = {"en": "English", "ru": "Русский"}
COOKIE = "language"
#: The library of the log-in names its catalogue by country; gettext finds our plain `ru` from there too.
LOCALES = {"en": "en", "ru": "ru_RU"}


def language() -> str:
    """Return the language of this request, `en` or `ru`."""
    asking = current_actor()
    chosen = asking.language if asking else request.cookies.get(COOKIE, current_app.config["MSP_LANGUAGE"])
    return chosen if chosen in LANGUAGES else "en"


def said(text: str | None, decision: Mapping[str, Any] | None = None) -> str:
    """Return what the product said, in the language of this request; see msp/sentences.py.

    decision: the stored decision of the contract that the text may quote; its clause has both languages.
    """
    reads = language()
    if text and decision and decision.get("text") and (own := decision.get(f"text_{reads}")):
        text = text.replace(decision["text"], own)
    return sentences.said(text or "", reads)


def explained(error: MspError) -> str:
    """Return an error with its advice, in the language of this request."""
    return " ".join(said(part) for part in (error.what, error.advice) if part)


def zone() -> ZoneInfo:
    """Return the time zone of the viewer."""
    asking = current_actor()
    return _known(asking.time_zone) if asking else ZoneInfo("UTC")


@cache
def _known(name: str) -> ZoneInfo:
    """Return a zone by its name; UTC for what is none. Looking through all names costs 10 ms, so it is done once."""
    return ZoneInfo(name if name in available_timezones() else "UTC")


def zones() -> list[str]:
    """Return the names of every time zone that a person may choose."""
    return sorted(name for name in available_timezones() if "/" in name or name == "UTC")


def install(app: Flask, default: str) -> None:
    """Give the application its catalogues."""
    app.config.update(MSP_LANGUAGE=default, BABEL_TRANSLATION_DIRECTORIES="translations")
    Babel(app, locale_selector=lambda: LOCALES[language()], timezone_selector=lambda: str(zone()))

    @app.context_processor
    def names() -> dict[str, Any]:
        locale = get_locale()
        return {"language": locale.language if locale else "en", "languages": LANGUAGES}
