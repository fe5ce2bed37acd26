"""Configurations of routers and switches: the versions that runs found, and what differs between two of them."""

from dataclasses import dataclass

from flask import Blueprint, Response, render_template, request

from msp.assets.models import ConfigurationItem
from msp.contracts.models import Client
from msp.errors import NotFound
from msp.remote.network import versions
from msp_web.access import requires, scoped
from msp_web.unit import read_only

bp = Blueprint("devices", __name__, url_prefix="/assets")

SHOWN = 100  # versions in the list; older ones are kept and reached by their number


@dataclass(frozen=True)
class Mark:
    """One line of a difference: `kind` is added, gone, place or same."""

    kind: str
    text: str


def marked(difference: str) -> list[Mark]:
    """Return the lines of a unified difference, but for its head."""
    kinds = {"+": "added", "-": "gone", "@": "place"}
    return [Mark(kinds.get(line[:1], "same"), line) for line in difference.splitlines()[2:]]


@bp.get("/<int:asset_id>/configurations")
@requires("asset.see")
def configurations(asset_id: int) -> str:
    """List the versions of a device's configuration, and compare two: by default the latest with the one before."""
    with read_only() as session:
        item = scoped(session, ConfigurationItem, asset_id)
        kept = versions.of(session, item.id)[:SHOWN]
        older = newer = None
        if kept:
            newer = versions.get(session, item.id, _number("newer") or kept[0].version)
            before = _number("older") or max(newer.version - 1, 1)
            older = versions.get(session, item.id, before)
        return render_template(
            "devices/configurations.html",
            item=item,
            client=scoped(session, Client, item.client_id),
            kept=kept,
            older=older,
            newer=newer,
            difference=marked(versions.difference(older, newer)) if older and newer else [],
        )


def _number(name: str) -> int | None:
    given = request.args.get(name, "")
    if not given:
        return None
    if not given.isdecimal() or len(given) > 9:
        raise NotFound(f"{given[:20]!r} is no version.", advice="Choose two of those in the list.")
    return int(given)


@bp.get("/<int:asset_id>/configurations/<int:number>.txt")
@requires("asset.see")
def configuration(asset_id: int, number: int) -> Response:
    """Give one version away as text. It never changes, so a browser may keep it."""
    with read_only() as session:
        item = scoped(session, ConfigurationItem, asset_id)
        version = versions.get(session, item.id, number)
        answer = Response(version.text, mimetype="text/plain")
        answer.headers["Content-Disposition"] = f'attachment; filename="asset-{item.id}-version-{number}.txt"'
        answer.headers["Cache-Control"] = "private, max-age=86400, immutable"
        answer.set_etag(version.sha256)
    return answer
