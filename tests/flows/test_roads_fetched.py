"""Travel times are fetched with no transaction open, kept as far as they came, and learnt from finished visits."""

from dataclasses import replace
from datetime import timedelta

import map_service
import pytest
from sqlalchemy import select
from world import World

from msp.clock import utc_now
from msp.contracts.models import Site
from msp.dispatch import visits
from msp.dispatch.models import Technician, WorkOrder
from msp.dispatch.roads import book
from msp.engine.models import Job
from msp.errors import Unreachable
from msp.flows import roads


@pytest.fixture
def order(world: World) -> int:
    """Work at a site with a place, and a technician who lives somewhere else."""
    with world.database.begin() as session:
        site = Site(client_id=world.alfa, name="Harbour", latitude=50.0, longitude=10.0)
        session.add_all([site, Technician(name="Nora", latitude=50.0, longitude=11.0, skills={})])
        session.flush()
        made = visits.propose(
            session, client_id=world.alfa, site_id=site.id, summary="Look", duration=timedelta(hours=1), now=utc_now()
        )
        return made.id


def test_the_worker_asks_once_and_pages_read_what_is_kept(world: World, order: int) -> None:
    with map_service.started() as server:
        settings = replace(world.settings, travel_service="osrm", travel_url=server.url)
        with world.database.begin() as session:
            assert roads.ask(session, utc_now(), world.settings) == 0, "no service is set"
            assert roads.ask(session, utc_now(), settings) > 0
            assert session.scalar(select(Job.handler).where(Job.id.startswith("roads:"))) == roads.HANDLER
        kept, wanted = roads.fetch(settings)
        assert kept == wanted > 0
        with world.database.begin() as session:
            assert not book.read(session).estimated((50.0, 11.0), (50.0, 10.0))
            assert book.read(session).between((50.0, 11.0), (50.0, 10.0)) == timedelta(minutes=2)  # 100 s
            assert roads.ask(session, utc_now(), settings) == 0
        asked = server.asked
        assert roads.fetch(settings) == (0, 0)
        assert server.asked == asked
        server.broken = "status"
        with world.database.begin() as session:
            site = session.get_one(WorkOrder, order).site_id
            session.get_one(Site, site).latitude = 49.0
        with pytest.raises(Unreachable):
            roads.fetch(settings)


def test_nothing_is_concluded_from_too_few_visits(world: World, order: int) -> None:
    with world.database.begin() as session:
        assert roads.learn(session, utc_now(), world.settings).overall == 1.0
        assert list(book.drives(session, utc_now() - timedelta(days=1))) == []
