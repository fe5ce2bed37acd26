"""Travel times fetched before somebody needs them, and corrected by what visits took."""

import logging
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from msp import db
from msp.clock import utc_now
from msp.dispatch.roads import book, calibration, services
from msp.dispatch.roads.calibration import Factors
from msp.dispatch.roads.services import Place
from msp.engine import queues
from msp.errors import MspError
from msp.settings import Settings
from msp.vault import Vault

HANDLER = "roads.fetch"
LEARN_FROM = timedelta(days=180)


def ask(session: Session, now: datetime, settings: Settings) -> int:
    """Queue one look-up if a map service is set and some drive is not known; return how many places lack some."""
    if not settings.travel_service:
        return 0
    lacking = book.missing(session, book.places(session), now)
    if lacking:
        job = f"roads:{now:%Y%m%dT%H%M}"
        queues.enqueue(session, queues.NOTIFY, HANDLER, {}, job_id=job)
    return len(lacking)


def fetch(settings: Settings) -> tuple[int, int]:
    """Ask the map service for what is not known; return (pairs kept, pairs wanted). No transaction is open meanwhile.

    A service that fails part of the way leaves what it told before. Raises Unreachable if it told nothing.
    """
    with db.begin() as session:
        key = ""
        if settings.travel_key:
            name = settings.travel_key.removeprefix("vault:")
            key = Vault.from_file(settings.key_path).get(session, name).value
        lacking = book.missing(session, book.places(session), utc_now())
    found = services.service(settings.travel_service, settings.travel_url, key)
    if found is None:
        return 0, 0
    wanted, kept = sum(len(targets) for targets in lacking.values()), 0
    for origin, targets in lacking.items():
        for begin in range(0, len(targets), most := max(1, int(found.most**0.5))):
            some = targets[begin : begin + most]
            try:
                (row,) = found.table([origin], some)
            except MspError as error:
                if kept == 0:
                    raise
                logging.getLogger("msp.roads").warning("%s %d of %d drives are known now.", error.what, kept, wanted)
                return kept, wanted
            told: dict[tuple[Place, Place], float | None] = {
                (origin, target): seconds for target, seconds in zip(some, row, strict=True)
            }
            with db.begin() as session:
                book.keep(session, told, settings.travel_service, utc_now())
            kept += len(told)
    return kept, wanted


def learn(session: Session, now: datetime, settings: Settings) -> Factors:
    """Find the factors anew from the visits of the last half year, and keep them."""
    from zoneinfo import ZoneInfo

    found = calibration.calibrate(book.drives(session, now - LEARN_FROM), ZoneInfo(settings.travel_zone))
    book.keep_factors(session, found, now)
    return found
