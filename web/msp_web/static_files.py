"""Scripts, styles and icons: addressed by their content, so that browsers keep them for a year, and sent compressed."""

import gzip
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

YEAR = 31536000  # seconds
COMPRESSED = frozenset({"text/css", "text/javascript", "application/javascript", "image/svg+xml"})


@lru_cache(maxsize=256)
def fingerprint(path: Path, _changed: int) -> str:
    """Return a short name of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]


@lru_cache(maxsize=64)
def compressed(path: Path, _changed: int) -> bytes:
    """Return a file as gzip sends it, the same bytes every time."""
    return gzip.compress(path.read_bytes(), 6, mtime=0)


def install(app: Flask) -> None:
    """Give every file of `static/` an address that changes with its content."""
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = YEAR
    folder = Path(app.static_folder or "")

    @app.url_defaults
    def version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static" and "v" not in values:
            file = folder / values["filename"]
            if file.is_file():
                values["v"] = fingerprint(file, file.stat().st_mtime_ns)

    @app.after_request
    def compress(response: Response) -> Response:
        if request.endpoint != "static" or response.mimetype not in COMPRESSED:
            return response
        response.headers["Vary"] = "Accept-Encoding"
        if response.status_code == 200 and request.accept_encodings.quality("gzip") > 0:
            file = folder / (request.view_args or {})["filename"]
            response.direct_passthrough = False
            response.set_data(compressed(file, file.stat().st_mtime_ns))
            response.headers["Content-Encoding"] = "gzip"
        return response
