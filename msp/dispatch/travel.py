"""Minutes on the road between places: over a plane, by a matrix, or along a great circle. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import asin, ceil, cos, hypot, radians, sin, sqrt

EARTH_KM = 6371.0088  # mean radius, IUGG
DETOUR, KM_PER_HOUR = 1.3, 50.0  # roads are about a third longer than the air line; town and country mixed


@dataclass(frozen=True, slots=True)
class Plane:
    """Straight lines in kilometres, lengthened by `detour`, driven at `km_per_min`."""

    detour: float
    km_per_min: float


def plane_minutes(a: tuple[float, float], b: tuple[float, float], plane: Plane) -> int:
    """Return whole minutes between two points, rounded up; 0 in the same place."""
    return max(0, ceil(plane.detour * hypot(a[0] - b[0], a[1] - b[1]) / plane.km_per_min - 1e-9))


class LazyRow(dict[int, int]):
    """Minutes from one place, each computed when first asked for."""

    def __init__(self, points: Sequence[tuple[float, float]], origin: int, plane: Plane) -> None:
        super().__init__()
        self._points, self._origin, self._plane = points, points[origin], plane

    def __missing__(self, key: int) -> int:
        value = self[key] = plane_minutes(self._origin, self._points[key], self._plane)
        return value


class Rows(dict[int, Sequence[int] | dict[int, int]]):
    """Rows of the travel table, each computed when first asked for: `rows[a][b]` is minutes from a to b."""

    def __init__(self, points: Sequence[tuple[float, float]], plane: Plane, *, pairs: bool) -> None:
        super().__init__()
        self._points, self._plane, self._pairs = points, plane, pairs

    def __missing__(self, origin: int) -> Sequence[int] | dict[int, int]:
        row: Sequence[int] | dict[int, int]
        if self._pairs:
            row = LazyRow(self._points, origin, self._plane)
        else:
            x, y = self._points[origin]
            detour, speed = self._plane.detour, self._plane.km_per_min
            row = [ceil(detour * hypot(x - u, y - v) / speed - 1e-9) for u, v in self._points]
        self[origin] = row
        return row


@dataclass(frozen=True, slots=True)
class RoadEstimate:
    """Great-circle distance times `detour` at `km_per_hour`: honest enough without a map service."""

    detour: float = DETOUR
    km_per_hour: float = KM_PER_HOUR

    def between(self, a: tuple[float, float], b: tuple[float, float], at: datetime | None = None) -> timedelta:
        """Return the drive between two (latitude, longitude) points in degrees, in whole minutes, rounded up.

        at: when it begins; an estimate knows no traffic.
        Source: haversine formula (R. W. Sinnott, Sky and Telescope 68, 1984).
        """
        minutes = self.detour * great_circle_km(a, b) / self.km_per_hour * 60
        return timedelta(minutes=ceil(minutes - 1e-9))


def great_circle_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return kilometres over the ground between two (latitude, longitude) points in degrees."""
    north_a, north_b = radians(a[0]), radians(b[0])
    half = sin((north_b - north_a) / 2) ** 2 + cos(north_a) * cos(north_b) * sin(radians(b[1] - a[1]) / 2) ** 2
    return 2 * EARTH_KM * asin(min(1.0, sqrt(half)))
