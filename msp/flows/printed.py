"""Tables as a PDF: what the report of a month and the proof of backups share. The same values give the same bytes."""

import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

TEMPLATE = Path(__file__).with_name("tables.typ")
Section = tuple[str, Sequence[Sequence[str]]]


def pdf(title: str, sections: Sequence[Section], *, locale: str, on: date, provider: str, page: str) -> bytes:
    """Return the file. sections: (heading, rows of text, the first of them heads). page: the word before its number."""
    import typst  # 50 MB of fonts and engine: only when a PDF is wanted

    values = {
        "lang": locale,
        "date": [on.year, on.month, on.day],
        "title": title,
        "provider": provider,
        "page": page,
        "sections": [{"title": heading, "rows": rows} for heading, rows in sections],
    }
    raw = json.dumps(values, ensure_ascii=False)
    return bytes(
        typst.compile(TEMPLATE.read_bytes(), format="pdf", sys_inputs={"report": raw}, ignore_system_fonts=True)
    )


def local(at: datetime | None, zone: str) -> str:
    """Return an instant as people of a zone write it, "" for None."""
    return f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}" if at else ""


def seconds(span: timedelta | None) -> str:
    """Return a duration as h:mm:ss, a dash for None."""
    return "–" if span is None else str(timedelta(seconds=round(span.total_seconds())))
