"""Travel times: three map services behind one suite, what is kept, and what finished visits teach."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import map_service
import pytest
from hypothesis import given
from hypothesis import strategies as st
from map_service import MapService

from msp.db import Database
from msp.dispatch.roads import book, calibration
from msp.dispatch.roads.calibration import Drive, Factors
from msp.dispatch.roads.services import SERVICES, RoadService, service
from msp.dispatch.travel import RoadEstimate
from msp.errors import Misconfigured, Unreachable

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)  # a Monday
BERLIN, POTSDAM, ISLAND = (52.52, 13.4), (52.4, 13.07), (10.0, 175.0)


@pytest.fixture
def server() -> Iterator[MapService]:
    with map_service.started() as running:
        running.key = "s3cret"
        yield running


@pytest.fixture(params=sorted(SERVICES))
def asked(request: pytest.FixtureRequest, server: MapService) -> RoadService:
    found = service(request.param, server.url + "/", "s3cret")
    assert found is not None
    return found


def test_a_table_has_its_directions_right_and_tells_where_no_road_goes(asked: RoadService) -> None:
    table = asked.table([BERLIN, ISLAND], [POTSDAM, BERLIN])
    expected = [[map_service.road(list(a), list(b)) for b in (POTSDAM, BERLIN)] for a in (BERLIN, ISLAND)]
    assert table == expected
    assert table[0][0] != asked.table([POTSDAM], [BERLIN])[0][0], "one way is longer than the other"
    assert table[1] == [None, None]


@pytest.mark.parametrize("broken", ["status", "text", "shape", "silent"])
def test_a_service_that_fails_is_unreachable(asked: RoadService, server: MapService, broken: str) -> None:
    server.broken = broken
    with pytest.raises(Unreachable):
        asked.table([BERLIN, POTSDAM], [POTSDAM])


def test_a_service_that_is_not_there_and_settings_that_cannot_be(server: MapService) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    gone = service("osrm", f"http://127.0.0.1:{port}")
    assert gone is not None
    with pytest.raises(Unreachable):
        gone.table([BERLIN], [POTSDAM])
    wrong = service("openrouteservice", server.url, "guess")
    assert wrong is not None
    with pytest.raises(Misconfigured, match="refused our key"):
        wrong.table([BERLIN], [POTSDAM])
    assert service("", "") is None
    for name, url in (("teleport", "http://x"), ("osrm", "ftp://x")):
        with pytest.raises(Misconfigured):
            service(name, url)


def test_what_is_kept_is_used_and_the_rest_is_an_estimate_that_says_so(database: Database) -> None:
    with database.begin() as session:
        plain = book.read(session)
        assert plain.between(BERLIN, POTSDAM) == RoadEstimate().between(BERLIN, POTSDAM)
        assert plain.estimated(BERLIN, POTSDAM)
        book.keep(session, {(BERLIN, POTSDAM): 1799.0, (BERLIN, ISLAND): None}, "osrm", NOW)
        roads = book.read(session)
        assert roads.between((52.520001, 13.400001), POTSDAM) == timedelta(minutes=30)
        assert not roads.estimated(BERLIN, POTSDAM)
        assert roads.estimated(POTSDAM, BERLIN)
        assert roads.estimated(BERLIN, ISLAND)
        places = [BERLIN, POTSDAM, ISLAND]
        assert book.missing(session, places, NOW)[ISLAND] == [BERLIN, POTSDAM]
        assert BERLIN not in book.missing(session, places, NOW), "where no road goes is not asked again"
        assert BERLIN in book.missing(session, places, NOW + book.KEPT)
        rush = Factors(1.5, {8: 2.0}, 40)
        book.keep_factors(session, rush, NOW)
        busy = book.read(session, "UTC")
        assert busy.between(BERLIN, POTSDAM, NOW) == timedelta(minutes=60)
        assert busy.between(BERLIN, POTSDAM, NOW + timedelta(hours=1)) == timedelta(minutes=45)
        assert book.factors(session) == rush


def drives(ratio: float, count: int, at: datetime = NOW) -> list[Drive]:
    return [Drive(at, timedelta(minutes=20), timedelta(minutes=20 * ratio))] * count


def test_drives_teach_a_factor_for_all_and_one_for_each_busy_hour() -> None:
    zone = ZoneInfo("UTC")
    assert calibration.calibrate(drives(3, 9), zone) == Factors(drives=9), "too few to conclude anything"
    found = calibration.calibrate([*drives(1.2, 60, NOW + timedelta(hours=4)), *drives(2, 40)], zone)
    assert found.overall == 1.2
    assert found.hours[12] == pytest.approx(1.2)
    assert 1.85 < found.hours[8] < 2, "drawn a little toward the factor for all"
    assert calibration.calibrate(drives(20, 40), zone).overall == calibration.SLOWEST
    moscow = calibration.calibrate(drives(2, 40), ZoneInfo("Europe/Moscow"))
    assert set(moscow.hours) == {11}


@given(st.lists(st.tuples(st.integers(0, 167), st.floats(0.5, 3.5)), max_size=80))
def test_a_factor_lies_between_the_fastest_and_the_slowest_drive(given: list[tuple[int, float]]) -> None:
    made = [drive for hour, ratio in given for drive in drives(ratio, 1, NOW + timedelta(hours=hour))]
    found = calibration.calibrate(made, ZoneInfo("UTC"))
    ratios = [drive.took / drive.expected for drive in made] or [1.0]
    for factor in (found.overall, *found.hours.values()):
        assert factor == 1.0 or min(ratios) - 0.001 <= factor <= max(ratios) + 0.001
