"""The demo provider: two clients with different contracts, their things, people, technicians, parts, backups.

Everything is stored through the rooms' own functions, as a person would do it. What the story needs to be inside or
outside of now (a maintenance window, a shift) is laid around the instant of planting.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, evidence
from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.models import Client, Contact, Site
from msp.dispatch.models import Part, Shift, Stock, Technician
from msp.flows import install
from msp.people import users
from msp.people.models import User
from msp.settings import Settings
from msp.vault import Vault, create_key_file

#: log-in -> (name, roles, client key, language)
PEOPLE: dict[str, tuple[str, tuple[str, ...], str | None, str]] = {
    "admin@provider.example": ("Alex Admin", ("admin",), None, "en"),
    "anna@provider.example": ("Anna Weber", ("technician",), None, "en"),
    "igor@provider.example": ("Игорь Волков", ("technician",), None, "ru"),
    "dora@provider.example": ("Dora Lang", ("dispatcher",), None, "en"),
    "max@provider.example": ("Max Berger", ("account manager",), None, "en"),
    "olga@sever.example": ("Ольга Смирнова", ("client user", "client approver"), "sever", "ru"),
    "user@sever.example": ("Пётр Иванов", ("client user",), "sever", "ru"),
    "lena@spree.example": ("Lena Krause", ("client user", "client approver"), "spree", "en"),
}

#: Hosts of the demo that really run, by client.
HOSTS = {"sever": ("srv-fs1", "srv-app1", "srv-web1", "srv-db1"), "spree": ("spree-fs1",)}
KINDS = {"srv-db1": "database"}


@dataclass(frozen=True, slots=True)
class Planted:
    """What was stored, by its number; logs of people are in the demo's own file."""

    clients: Mapping[str, int]
    assets: Mapping[str, int]
    password: str


def plant(settings: Settings, *, now: datetime | None = None) -> Planted:
    """Store the demo provider in an empty installation and return its numbers."""
    now = now or utc_now()
    install.prepare(settings)
    create_key_file(settings.key_path)
    password = secrets.token_urlsafe(9)
    with db.begin() as session:
        users.ensure_roles(session)
        evidence.record(session, "installation.created", actor="demo", subject=("installation", "1"))
        sever = _client(session, "sever", "ООО «Север»", "Europe/Moscow", "ru", now)
        spree = _client(session, "spree", "Spree Logistik GmbH", "Europe/Berlin", "en", now)
        clients = {"sever": sever.id, "spree": spree.id}
        moscow = _site(session, sever, "Москва, склад", "Складочная ул. 1, Москва", 55.8005, 37.5930)
        berlin = _site(session, spree, "Berlin-Mitte", "Am Kupfergraben 6, Berlin", 52.5190, 13.3970)
        _contract(session, sever, "S-2026-014", "RUB", sever_terms(now), now)
        _contract(session, spree, "BLN-77", "EUR", spree_terms(), now)
        for email, (name, roles, key, language) in PEOPLE.items():
            client_id = clients[key] if key else None
            zone = "Europe/Moscow" if language == "ru" else "Europe/Berlin"
            users.add(
                session,
                email=email,
                name=name,
                password=password,
                roles=roles,
                by="demo",
                client_id=client_id,
                language=language,
                time_zone=zone,
            )
            if client_id:
                session.add(Contact(client_id=client_id, name=name, email=email, approves="client approver" in roles))
        assets = _assets(session, sever, moscow) | _assets(session, spree, berlin)
        _field_service(session, now)
        evidence.record(
            session, "demo.planted", actor="demo", subject=("installation", "1"), data={"hosts": sorted(assets)}
        )
    return Planted(clients, assets, password)


def _client(session: Session, key: str, name: str, zone: str, locale: str, now: datetime) -> Client:
    client = agreements.add_client(session, key=key, name=name, time_zone=zone, locale=locale)
    evidence.record(session, "client.added", actor="demo", subject=("client", client.id), client_id=client.id, at=now)
    return client


def _site(session: Session, client: Client, name: str, address: str, latitude: float, longitude: float) -> Site:
    site = Site(client_id=client.id, name=name, address=address, latitude=latitude, longitude=longitude)
    session.add(site)
    session.flush()
    return site


def _contract(
    session: Session, client: Client, reference: str, currency: str, terms: dict[str, Any], now: datetime
) -> None:
    starts = now - timedelta(days=90)
    contract = agreements.add_contract(
        session,
        client,
        reference=reference,
        kind=terms["lines"][0]["kind"],
        currency=currency,
        starts_on=starts.date(),
        ends_on=(now + timedelta(days=275)).date(),
        title="IT service and support",
    )
    version = agreements.add_version(session, contract, terms, starts, "demo")
    evidence.record(
        session,
        "contract.version_added",
        actor="demo",
        subject=("contract", contract.id),
        client_id=client.id,
        data={"reference": reference, "version": version.number, "digest": version.digest},
    )


def _assets(session: Session, client: Client, site: Site) -> dict[str, int]:
    items: dict[str, ConfigurationItem] = {}
    for name in HOSTS[client.key]:
        items[name] = inventory.add(
            session,
            client_id=client.id,
            name=name,
            kind=KINDS.get(name, "server"),
            by="demo",
            site_id=site.id,
            address="127.0.0.1",
            username="demo",
            secret_name="ssh-key",  # noqa: S106  a name in the vault
            criticality=2,
            facts={"spare_parts": {"PSU-550": 1}} if name == "srv-app1" else {},
        )
    for name, kind in (
        (f"{client.key}-ups", "power"),
        (f"{client.key}-sw1", "network"),
        (f"{client.key}-crm", "service"),
    ):
        items[name] = inventory.add(
            session, client_id=client.id, name=name, kind=kind, by="demo", site_id=site.id, platform="", transport=""
        )
    ups, switch, crm = (items[f"{client.key}-{word}"] for word in ("ups", "sw1", "crm"))
    inventory.relate(session, switch, "depends_on", ups)
    for name in HOSTS[client.key]:
        inventory.relate(session, items[name], "connects_through", switch)
    if "srv-db1" in items:
        inventory.relate(session, items["srv-app1"], "depends_on", items["srv-db1"])
        inventory.relate(session, crm, "runs_on", items["srv-app1"])
        inventory.relate(session, crm, "connects_through", items["srv-web1"])
    else:
        inventory.relate(session, crm, "runs_on", items["spree-fs1"])
    return {name: item.id for name, item in items.items()}


def _field_service(session: Session, now: datetime) -> None:
    """Four technicians with skills, a week of shifts around now, and parts in vans and the depot."""
    crew = (
        ("Anna Weber", 52.5300, 13.4000, "Europe/Berlin", {"linux": 3, "hardware": 2}),
        ("Jonas Koch", 52.4800, 13.3500, "Europe/Berlin", {"network": 3, "hardware": 2}),
        ("Игорь Волков", 55.7900, 37.6100, "Europe/Moscow", {"linux": 3, "hardware": 3}),
        ("Мария Орлова", 55.7400, 37.5300, "Europe/Moscow", {"network": 2, "linux": 1}),
    )
    parts = (("PSU-550", "Power supply 550 W", 2), ("SSD-960", "SSD 960 GB", 4), ("SFP-LX", "SFP module LX", 2))
    stored = [Part(sku=sku, name=name, minimum=minimum) for sku, name, minimum in parts]
    session.add_all(stored)
    session.flush()
    session.add_all(Stock(part_id=part.id, technician_id=None, quantity=6) for part in stored)
    for name, latitude, longitude, zone, skills in crew:
        own = select(User.id).where(User.name == name)  # who has an account sees the own day on the phone
        technician = Technician(
            name=name,
            latitude=latitude,
            longitude=longitude,
            time_zone=zone,
            skills=skills,
            user_id=session.scalar(own),
        )
        session.add(technician)
        session.flush()
        session.add_all(Stock(part_id=part.id, technician_id=technician.id, quantity=1) for part in stored[:2])
        today = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
        for day in range(7):
            begins = today + timedelta(days=day, hours=7 if "Anna" in name or "Игорь" in name else 9)
            session.add(
                Shift(
                    technician_id=technician.id,
                    starts_at=begins,
                    ends_at=begins + timedelta(hours=10),
                    overtime=timedelta(hours=1),
                )
            )


def put_hosts(settings: Settings, hosts: Mapping[str, tuple[int, str]], private_key: str) -> None:
    """Write where the demo's hosts listen now (name -> port, public host key) and the key that they admit."""
    vault = Vault.from_file(settings.key_path)
    with db.begin() as session:
        for item in session.query(ConfigurationItem).where(ConfigurationItem.name.in_(hosts)):
            port, public_key = hosts[item.name]
            item.port = port
            known = {key.public_key for key in inventory.pinned(session, item.id)}
            if public_key not in known:
                inventory.pin(session, item, public_key, by="demo")
        for client in session.query(Client):
            vault.put(session, "ssh-key", private_key, by="demo", client_id=client.id)


def clock_word(local: datetime) -> str:
    return f"{local:%H}:00"


def sever_terms(now: datetime) -> dict[str, Any]:
    """Round the clock in Moscow. The servers' window is open now, the databases' on the other side of the day."""
    local = now.astimezone(ZoneInfo("Europe/Moscow"))
    open_now = {"from": clock_word(local - timedelta(hours=1)), "to": clock_word(local + timedelta(hours=5))}
    closed_now = {"from": clock_word(local + timedelta(hours=11)), "to": clock_word(local + timedelta(hours=13))}
    return {
        "currency": "RUB",
        "zone": "Europe/Moscow",
        "calendars": {
            "always": {
                "tz": "Europe/Moscow",
                "week": {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")},
            }
        },
        "lines": [
            {
                "id": "1",
                "kind": "t_and_m",
                "name": "Servers and databases, round the clock",
                "rate": "4000.00",
                "increment": 15,
                "calendar": "always",
                "targets": {
                    "P1": {"first_response": 15, "next_reply": 30, "resolution": 240},
                    "P2": {"first_response": 30, "next_reply": 60, "resolution": 480},
                    "P3": {"first_response": 120, "next_reply": 240, "resolution": 1440},
                },
                "ola": {"L1": {"minutes": 15}},
                "onsite_minutes": 240,
                "latest_dispatch": {"calendar": "always", "travel_min": 45, "repair_min": 60},
            }
        ],
        "clauses": [
            {
                "id": "4.1",
                "text": "Readings and checks may run at any time.",
                "text_ru": "Проверки и сбор сведений разрешены в любое время.",
                "effect": "allow",
                "action_classes": ["read"],
            },
            {
                "id": "4.2",
                "text": "Routine changes may run at any time and are reported at once.",
                "text_ru": "Плановые изменения разрешены в любое время с немедленным отчётом.",
                "effect": "allow",
                "action_classes": ["change"],
            },
            {
                "id": "4.2a",
                "text": "Services on application servers may be restarted at any time.",
                "text_ru": "Службы на серверах приложений разрешено перезапускать в любое время.",
                "effect": "allow",
                "action_classes": ["disruptive"],
                "assets": ["srv-app1"],
            },
            {
                "id": "4.3",
                "text": "Disruptive work on databases is done in the night window, after the client has agreed.",
                "text_ru": "Работы с перерывом в обслуживании баз данных — в ночное окно, по согласованию с клиентом.",
                "effect": "ask",
                "action_classes": ["disruptive"],
                "asset_classes": ["database"],
                "windows": [closed_now],
                "outside": "refuse",
                "expires_s": 14400,
            },
            {
                "id": "4.4",
                "text": "Disruptive work on servers is done in the day window, after the client has agreed.",
                "text_ru": "Работы с перерывом в обслуживании серверов — в дневное окно, по согласованию с клиентом.",
                "effect": "ask",
                "action_classes": ["disruptive"],
                "asset_classes": ["server"],
                "windows": [open_now],
                "outside": "refuse",
                "expires_s": 14400,
            },
            {
                "id": "4.5",
                "text": "Changes of access rights need the client's agreement.",
                "text_ru": "Изменение прав доступа — по согласованию с клиентом.",
                "effect": "ask",
                "action_classes": ["access"],
            },
        ],
        "restore": {"proof_every_s": 604800, "rpo_s": 86400, "rto_s": 14400},
    }


def spree_terms() -> dict[str, Any]:
    """Office hours in Berlin, prepaid hours, and no remote work at all outside them but readings."""
    office = {day: [["08:00", "12:00"], ["12:30", "17:30"]] for day in ("mon", "tue", "wed", "thu", "fri")}
    office_window = {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "17:30"}
    return {
        "currency": "EUR",
        "zone": "Europe/Berlin",
        "calendars": {
            "office": {"tz": "Europe/Berlin", "week": office, "holidays_yearly": ["12-25", "12-26", "01-01"]}
        },
        "lines": [
            {
                "id": "1",
                "kind": "block_hours",
                "name": "Prepaid hours",
                "overage_rate": "95.00",
                "increment": 15,
                "calendar": "office",
                "targets": {
                    "P1": {"first_response": 30, "next_reply": 60, "resolution": 240},
                    "P2": {"first_response": 60, "next_reply": 120, "resolution": 480},
                    "P3": {"first_response": 240, "next_reply": 480, "resolution": 1440},
                },
                "ola": {"L1": {"minutes": 15}},
                "latest_dispatch": {"calendar": "office", "travel_min": 30, "repair_min": 60},
            }
        ],
        "clauses": [
            {
                "id": "7.1",
                "text": "Readings and checks may run at any time.",
                "effect": "allow",
                "action_classes": ["read"],
            },
            {
                "id": "7.2",
                "text": "Changes run in office hours.",
                "effect": "allow",
                "action_classes": ["change"],
                "windows": [office_window],
                "outside": "refuse",
            },
            {
                "id": "7.3",
                "text": "Disruptive work and access need the client's agreement and office hours.",
                "effect": "ask",
                "action_classes": ["disruptive", "access"],
                "windows": [office_window],
                "outside": "refuse",
            },
        ],
        "restore": {"proof_every_s": 2592000, "rpo_s": 172800, "rto_s": 28800},
    }
