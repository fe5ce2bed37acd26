"""The act of one visit as a PDF: what was done, with which parts, how long, and who signed what."""

from collections.abc import Mapping

from sqlalchemy.orm import Session

from msp.contracts.models import Client, Site
from msp.dispatch.models import Appointment, Technician, WorkOrder
from msp.flows import field_work, placing, printed


def pdf(session: Session, visit: Appointment, words: Mapping[str, str], *, locale: str) -> bytes:
    """Return the file. words: headings in the reader's language, by key. Times are those of the site."""
    order = session.get_one(WorkOrder, visit.work_order_id)
    client, technician = session.get_one(Client, order.client_id), session.get_one(Technician, visit.technician_id)
    site = session.get(Site, order.site_id) if order.site_id else None
    zone = placing.zone_of(session, order)
    acts = field_work.acts_of(session, visit.id)
    steps = {one.kind: printed.local(one.at, zone.key) for one in acts}
    ended = visit.changed_at or visit.ends_at
    ticked = {one.data["line"]: one.data["done"] for one in acts if one.kind == "check"}
    facts = [
        [words["client"], client.name],
        [words["site"], f"{site.name}, {site.address or ''}".strip(", ") if site else "–"],
        [words["work"], order.summary],
        [words["technician"], technician.name],
        [words["arrived"], steps.get("working", "–")],
        [words["done"], steps.get("done", printed.local(ended, zone.key))],
        *(
            [words["minutes"], f"{one.data['minutes']} {one.data['note']}".strip()]
            for one in acts
            if one.kind == "time"
        ),
        *([words["left"], one.data["text"]] for one in acts if one.kind == "leftover"),
    ]
    head = [words["what"], words["value"]]
    lines = [
        [str(line.get("text", "")), words["yes"] if ticked.get(number) else words["no"]]
        for number, line in enumerate(order.checklist)
    ]
    parts = [[one.data["sku"], str(one.data["quantity"])] for one in acts if one.kind == "part"]
    photos = [[one.data["when"], one.data["sha256"]] for one in acts if one.kind == "photo"]
    signed = [[one.data["name"], one.data["sha256"]] for one in acts if one.kind == "sign"]
    every: list[printed.Section] = [(words["work"], [head, *facts])]
    for title, header, rows in (
        (words["checklist"], head, lines),
        (words["parts"], head, parts),
        (words["photos"], [words["what"], "SHA-256"], photos),
        (words["signed"], [words["signed"], words["digest"]], signed),
    ):
        if rows:
            every.append((title, [header, *rows]))
    title = f"{words['title']} {visit.id}"
    return printed.pdf(title, every, locale=locale, on=ended.astimezone(zone).date(), provider="", page=words["page"])
