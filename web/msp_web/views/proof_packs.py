"""Proof packs to download: a client's own by its people, any client's by staff."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from flask import Blueprint, Response, current_app
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.contracts.models import Client
from msp.errors import NotFound
from msp.flows import proof_packs
from msp.vault import Vault
from msp_web.access import actor, portal, requires, scoped
from msp_web.unit import unit_of_work

bp = Blueprint("proof_packs", __name__)

MONTHS = 12  # that are offered


@bp.get("/portal/backups/proof-<month>.zip")
@portal()
def own(month: str) -> Response:
    """Give the asking client's month."""
    with unit_of_work() as session:  # the first pack makes the key that signs it
        return pack(session, scoped(session, Client, actor().client_id or 0), month)


@bp.get("/backups/clients/<int:client_id>/proof-<month>.zip")
@requires("backup.see")
def of_client(client_id: int, month: str) -> Response:
    """Give a client's month to staff."""
    with unit_of_work() as session:
        return pack(session, scoped(session, Client, client_id), month)


def pack(session: Session, client: Client, month: str) -> Response:
    now = utc_now()
    if not re.fullmatch(r"20\d{2}-(0[1-9]|1[0-2])", month, re.ASCII) or month > present(client, now):
        raise NotFound("There is no proof of that month.", advice="Choose a month from the list.")
    settings = current_app.config["MSP_SETTINGS"]
    vault = Vault.from_file(settings.key_path)
    data = proof_packs.of_month(session, vault, client, month, now, provider=settings.provider)
    answer = Response(data, mimetype="application/zip")
    answer.headers["Content-Disposition"] = f'attachment; filename="proof-{client.key}-{month}.zip"'
    return answer


def present(client: Client, now: datetime) -> str:
    return f"{now.astimezone(ZoneInfo(client.time_zone)):%Y-%m}"


def months(client: Client, now: datetime) -> list[str]:
    """Return the months that are offered, this one first; none from before the client was one."""
    here = now.astimezone(ZoneInfo(client.time_zone))
    found = [divmod(here.year * 12 + here.month - 1 - back, 12) for back in range(MONTHS)]
    first = f"{client.created_at.astimezone(ZoneInfo(client.time_zone)):%Y-%m}"
    return [month for year, number in found if (month := f"{year:04}-{number + 1:02}") >= first]
