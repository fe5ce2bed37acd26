"""An act as a file: PDF, XLSX, CSV or JSON. The same document gives the same bytes, on every day and machine."""

import importlib
from collections.abc import Callable

from msp.contracts.act_document import ActDocument
from msp.errors import Misconfigured

#: format -> its media type; the module `outputs/<format>.py` writes it.
FORMATS: dict[str, str] = {
    "pdf": "application/pdf",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
}


def written(document: ActDocument, form: str) -> bytes:
    """Return the file; raises Misconfigured for a format that is none of FORMATS."""
    if form not in FORMATS:
        raise Misconfigured(f"There is no format {form!r}.", advice=f"Use one of {', '.join(FORMATS)}.")
    write: Callable[[ActDocument], bytes] = importlib.import_module(f"msp.contracts.outputs.act_{form}").write
    return write(document)


def plain_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: subjects come from outside."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
