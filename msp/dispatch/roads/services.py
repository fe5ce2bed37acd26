"""Map services that tell travel times: OSRM, Valhalla, openrouteservice. Each is asked for one table at a time.

A service answers or raises Unreachable; what it does not know (an island, a place far from any road) is None. Nobody
waits for one inside a transaction: the worker asks, and pages read what is kept (see book.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msp.errors import Misconfigured, Unreachable

Place = tuple[float, float]  # latitude, longitude in degrees, WGS 84
Table = list[list[float | None]]  # seconds from each source to each target
WAIT = (3.05, 20)  # seconds to connect, seconds to answer
LARGEST = 10_000_000  # bytes of an answer


class RoadService(Protocol):
    """A way to ask for travel times."""

    most: int  # sources times targets in one request

    def table(self, sources: Sequence[Place], targets: Sequence[Place]) -> Table:
        """Return seconds by car from every source to every target. Raises Unreachable or Misconfigured."""


class _Http:
    """What the three have in common: one request, a deadline, an answer that is JSON of the expected shape."""

    most = 2500

    def __init__(self, url: str, key: str = "") -> None:
        self.url, self.key = url.rstrip("/"), key

    def _ask(self, method: str, address: str, **given: Any) -> Any:
        import requests

        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy, no .netrc: exactly the address of the settings
                answer = session.request(method, address, timeout=WAIT, allow_redirects=False, stream=True, **given)
                body = answer.raw.read(LARGEST + 1, decode_content=True)
        except (requests.RequestException, OSError) as error:
            raise Unreachable(f"The map service at {self.url} did not answer: {type(error).__name__}.") from error
        if answer.status_code in (401, 403):
            raise Misconfigured(f"The map service at {self.url} refused our key.", advice="Correct travel_key.")
        if answer.status_code != 200 or len(body) > LARGEST:
            raise Unreachable(f"The map service at {self.url} answered {answer.status_code}.", advice="Look at it.")
        try:
            import json

            return json.loads(body)
        except ValueError as error:
            raise Unreachable(f"The map service at {self.url} did not answer in JSON.") from error

    def _shaped(self, rows: Any, sources: int, targets: int) -> Table:
        """Return rows of seconds, or raise Unreachable when the answer has another shape."""
        whole = isinstance(rows, list) and len(rows) == sources
        if not whole or any(not isinstance(row, list) or len(row) != targets for row in rows):
            raise Unreachable(f"The map service at {self.url} answered a table of another size.")
        return [[_seconds(cell) for cell in row] for row in rows]


def _seconds(cell: Any) -> float | None:
    good = isinstance(cell, int | float) and not isinstance(cell, bool) and 0 <= cell < 1e7
    return float(cell) if good else None


class Osrm(_Http):
    """OSRM HTTP API v1, service `table`. Source: project-osrm.org, docs/http.md."""

    most = 2500  # `max-table-size` 100 is its default: 50 sources and 50 targets

    def table(self, sources: Sequence[Place], targets: Sequence[Place]) -> Table:
        points = ";".join(f"{lon:.6f},{lat:.6f}" for lat, lon in (*sources, *targets))
        first = ";".join(str(number) for number in range(len(sources)))
        last = ";".join(str(len(sources) + number) for number in range(len(targets)))
        asked = {"sources": first, "destinations": last, "annotations": "duration"}
        said = self._ask("GET", f"{self.url}/table/v1/driving/{points}", params=asked)
        return self._shaped(_field(said, "durations"), len(sources), len(targets))


class Valhalla(_Http):
    """Valhalla's matrix service `sources_to_targets`. Source: valhalla.github.io, Matrix API."""

    def table(self, sources: Sequence[Place], targets: Sequence[Place]) -> Table:
        asked = {
            "sources": [{"lat": lat, "lon": lon} for lat, lon in sources],
            "targets": [{"lat": lat, "lon": lon} for lat, lon in targets],
            "costing": "auto",
            "units": "kilometers",
        }
        said = _field(self._ask("POST", f"{self.url}/sources_to_targets", json=asked), "sources_to_targets")
        if isinstance(said, list):
            said = [[_field(cell, "time") for cell in row] if isinstance(row, list) else row for row in said]
        return self._shaped(said, len(sources), len(targets))


class OpenRouteService(_Http):
    """openrouteservice's matrix v2. Source: openrouteservice.org, API reference; the key goes into Authorization."""

    most = 3500

    def table(self, sources: Sequence[Place], targets: Sequence[Place]) -> Table:
        asked = {
            "locations": [[lon, lat] for lat, lon in (*sources, *targets)],
            "sources": list(range(len(sources))),
            "destinations": list(range(len(sources), len(sources) + len(targets))),
            "metrics": ["duration"],
        }
        headers = {"Authorization": self.key} if self.key else {}
        said = self._ask("POST", f"{self.url}/v2/matrix/driving-car", json=asked, headers=headers)
        return self._shaped(_field(said, "durations"), len(sources), len(targets))


def _field(said: Any, name: str) -> Any:
    return said.get(name) if isinstance(said, Mapping) else None


SERVICES: Mapping[str, type[Osrm | Valhalla | OpenRouteService]] = {
    "osrm": Osrm,
    "valhalla": Valhalla,
    "openrouteservice": OpenRouteService,
}


def service(name: str, url: str, key: str = "") -> RoadService | None:
    """Return the service of the settings, None if there is none. Raises Misconfigured for an unknown one."""
    if not name:
        return None
    if name not in SERVICES:
        known = ", ".join(SERVICES)
        raise Misconfigured(f"There is no map service {name!r}.", advice=f"Set travel_service to one of {known}.")
    if not url.startswith(("http://", "https://")):
        raise Misconfigured("travel_url is no address of a map service.", advice="Write it like http://host:5000.")
    return SERVICES[name](url, key)
