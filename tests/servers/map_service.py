"""A map service for tests, on loopback: speaks the table requests of OSRM, Valhalla and openrouteservice.

None of the three can be run here (they need gigabytes of map); the shapes of requests and answers are those of their
documentation. The road from a to b takes 100 s a degree of longitude and 10 s one of latitude, south 1 s more.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit


def road(a: list[float], b: list[float]) -> float | None:
    """Return seconds between (lat, lon) places; None to the islands beyond 170 degrees of longitude."""
    if abs(a[1]) > 170 or abs(b[1]) > 170:
        return None
    return round(abs(a[1] - b[1]) * 100 + abs(a[0] - b[0]) * 10 + (b[0] < a[0]), 3)


class MapService(ThreadingHTTPServer):
    """`asked` counts tables; `broken` answers nonsense instead."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked, self.broken, self.key = 0, "", ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: MapService

    def log_message(self, *_: Any) -> None:
        """Keep the terminal quiet."""

    def _say(self, status: int, body: Any) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _refused(self) -> bool:
        self.server.asked += 1
        match self.server.broken:
            case "":
                return False
            case "status":
                self._say(503, b"overloaded")
            case "text":
                self._say(200, b"<html>")
            case "shape":
                self._say(200, {"durations": [[1]], "sources_to_targets": [[]]})
            case "silent":
                self.close_connection = True
        return True

    def do_GET(self) -> None:
        if self._refused():
            return
        parts = urlsplit(self.path)
        points = [[float(n) for n in point.split(",")][::-1] for point in parts.path.rsplit("/", 1)[1].split(";")]
        asked = {name: value[0] for name, value in parse_qs(parts.query).items()}
        pick = {name: [points[int(n)] for n in asked[name].split(";")] for name in ("sources", "destinations")}
        durations = [[road(a, b) for b in pick["destinations"]] for a in pick["sources"]]
        self._say(200, {"code": "Ok", "durations": durations})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._refused():
            return
        if self.path == "/sources_to_targets":
            sources, targets = ([[p["lat"], p["lon"]] for p in body[name]] for name in ("sources", "targets"))
            rows = [[{"time": road(a, b), "distance": 1.0} for b in targets] for a in sources]
            self._say(200, {"sources_to_targets": rows})
        elif self.headers.get("Authorization", "") != self.server.key:
            self._say(403, {"error": "Access disallowed"})
        else:
            places = [point[::-1] for point in body["locations"]]
            durations = [[road(places[a], places[b]) for b in body["destinations"]] for a in body["sources"]]
            self._say(200, {"durations": durations})


@contextmanager
def started() -> Iterator[MapService]:
    """Yield a running map service."""
    server = MapService()
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
