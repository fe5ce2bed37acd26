"""Two clients with everything that a page can show, for tests and screenshots. Stored through the rooms' functions."""

import base64
import hashlib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from msp import db, events, evidence, vault
from msp.assets import host_keys, inventory
from msp.backup.models import BackupDraft, BackupPlan, RestoreTest
from msp.clock import utc_now
from msp.contracts import act_states, entries, terms
from msp.contracts.models import Client, Contact, Contract, ContractVersion, HourBlock, Site
from msp.desk.models import Ticket
from msp.dispatch.models import Appointment, Replan, Technician, WorkOrder
from msp.flows import billing
from msp.migrations import import_models
from msp.people import users
from msp.people.credential_grants import CredentialGrant
from msp.people.models import Grant
from msp.remote import ca
from msp.remote.consoles.models import ConsoleSession
from msp.remote.models import Approval, Run, RunHost, RunPicture, StepResult
from msp.remote.rotations import SecretRotation
from msp.settings import Settings

PASSWORD = "correct horse battery"
STAFF = {
    "admin@provider.example": ["admin"],
    "tech@provider.example": ["technician"],
    "dispatch@provider.example": ["dispatcher"],
    "manager@provider.example": ["account manager"],
    "keeper@provider.example": ["credential keeper"],
}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 42 + "E="
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)  # one pixel
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "B" * 42 + "E="

TERMS: dict[str, Any] = {
    "currency": "EUR",
    "zone": "Europe/Berlin",
    "calendars": {
        "office": {
            "tz": "Europe/Berlin",
            "week": {day: [["08:00", "17:30"]] for day in ("mon", "tue", "wed", "thu", "fri")},
            "holidays": ["2026-12-25", "2026-12-26"],
        }
    },
    "lines": [
        {
            "id": "L1",
            "kind": "block_hours",
            "name": "Servers",
            "calendar": "office",
            "overage_rate": "95.00",
            "targets": {
                "P1": {"first_response": 30, "next_reply": 60, "resolution": 240},
                "P2": {"first_response": 60, "next_reply": 120, "resolution": 480},
                "P3": {"first_response": 240, "next_reply": 480, "resolution": 1440},
            },
        }
    ],
    "clauses": [
        {
            "id": "4.1",
            "text": "Looking at servers is always allowed.",
            "text_ru": "Смотреть состояние серверов разрешено всегда.",
            "action_classes": ["read"],
            "effect": "allow",
        },
        {
            "id": "4.2",
            "text": "Changes are made at night without asking, by day the client's approver is asked.",
            "text_ru": "Изменения вносятся ночью без запроса, днём — с согласования клиента.",
            "action_classes": ["change"],
            "effect": "allow",
            "windows": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "20:00", "to": "05:00"}],
            "outside": "ask",
        },
        {
            "id": "4.3",
            "text": "Nothing that interrupts service happens without an amendment.",
            "text_ru": "Действия с остановкой сервиса — только по дополнительному соглашению.",
            "action_classes": ["disruptive"],
            "effect": "refuse",
        },
    ],
    "restore": {"proof_every_s": 604800, "rto_s": 7200},
}


def prepare(folder: Path, **changes: Any) -> Settings:
    """Return the settings of a new, empty installation in `folder`, with its database in use."""
    settings = Settings(data=folder, **changes)
    vault.create_key_file(settings.key_path)
    import_models()
    db.Model.metadata.create_all(db.use(settings.database_url).engine)
    return settings


def fill(session: Session) -> dict[str, dict[str, int]]:
    """Store everything and return, for each client's key, the ids of its things by parameter name."""
    for email, roles in STAFF.items():
        users.add(session, email=email, name=email.split("@")[0].title(), password=PASSWORD, roles=roles, by="seed")
    ids = {key: fill_client(session, key, name) for key, name in (("alfa", "Alfa Foods"), ("bravo", "Bravo Steel"))}
    limited = users.add(
        session,
        email="limited@provider.example",
        name="Limited",
        password=PASSWORD,
        roles=["technician", "dispatcher", "account manager", "admin"],
        by="seed",
    )
    session.add(Grant(user_id=limited.id, client_id=ids["alfa"]["client_id"]))
    return ids


def fill_client(session: Session, key: str, name: str) -> dict[str, int]:
    """Store one client and return the id of one thing of each kind."""
    now = utc_now()
    client = Client(key=key, name=name, time_zone="Europe/Berlin")
    session.add(client)
    session.flush()
    site = Site(client_id=client.id, name="Berlin", address="Teststraße 1", latitude=52.5, longitude=13.4)
    contact = Contact(client_id=client.id, name="Clara", email=f"clara@{key}.example", approves=True)
    contract = Contract(
        client_id=client.id,
        reference=f"MSP-{key.upper()}-1",
        title="Care of servers",
        kind="block_hours",
        currency="EUR",
        starts_on=date(2026, 1, 1),
        ends_on=None,
    )
    session.add_all((site, contact, contract))
    session.flush()
    versions = []
    for number, changes in enumerate(({}, {"restore": {"proof_every_s": 86400, "rto_s": 3600}}), 1):
        document = {**TERMS, **changes}
        versions.append(
            ContractVersion(
                contract_id=contract.id,
                number=number,
                effective_at=now - timedelta(days=90 - number),
                terms=document,
                digest=terms.digest(document),
                created_by="seed",
            )
        )
    session.add_all(versions)
    block = HourBlock(
        contract_id=contract.id, purchased_on=date(2026, 10, 1), expires_on=None, minutes=2400, balance_minutes=1330
    )
    session.add(block)
    session.flush()
    items = {}
    for item, kind, critical in (
        ("hv1", "server", 1), ("srv-fs1", "server", 2), ("srv-db1", "server", 1), ("erp-db", "database", 1),
        ("erp", "service", 1), ("sw-core", "network", 1), ("prn-2", "printer", 4),
    ):  # fmt: skip
        items[item] = inventory.add(
            session, client_id=client.id, name=f"{key}-{item}", kind=kind, by="seed", address=f"{item}.{key}.example",
            criticality=critical, site_id=site.id, facts={"os": "Debian 12"} if kind == "server" else {},
            transport="network" if kind == "network" else "ssh",
        )  # fmt: skip
    for source, how, target in (
        ("srv-fs1", "runs_on", "hv1"), ("srv-db1", "runs_on", "hv1"), ("erp-db", "runs_on", "srv-db1"),
        ("erp", "depends_on", "erp-db"), ("prn-2", "monitored_by", "srv-fs1"), ("hv1", "connects_through", "sw-core"),
    ):  # fmt: skip
        inventory.relate(session, items[source], how, items[target])
    host_key = inventory.pin(session, items["srv-fs1"], KEY, by="seed")
    change = host_keys.propose(session, items["srv-fs1"], OTHER_KEY, reason="reinstalled on 3 May", by="seed")
    kept = vault.Vault.from_file((db.current().path or Path()).with_name("vault.key"))
    secret = kept.put(session, "root-password", f"planted-{key}-4711", by="seed", client_id=client.id)
    secret.changed_at = now - timedelta(days=120)
    items["srv-fs1"].secret_name, items["srv-fs1"].username = "root-password", "root"
    kept.put(session, "spare", f"planted-{key}-4712", by="seed", client_id=client.id)
    person = None
    for email, roles in ((f"user@{key}.example", ["client user"]), (f"boss@{key}.example", ["client approver"])):
        person = users.add(
            session, email=email, name=email, password=PASSWORD, roles=roles, by="seed", client_id=client.id
        )
    assert person is not None
    ticket = Ticket(
        client_id=client.id, site_id=site.id, asset_id=items["srv-fs1"].id, kind="incident", priority="P2",
        contract_version_id=versions[-1].id, subject=f"Disk full on {key}-srv-fs1", opened_at=now - timedelta(hours=1),
        resolution_due_at=now + timedelta(hours=2, minutes=14), next_due_at=now + timedelta(hours=2, minutes=14),
    )  # fmt: skip
    session.add(ticket)
    session.flush()
    run = Run(
        client_id=client.id, ticket_id=ticket.id, playbook="linux/free-disk-space", playbook_version="1",
        digest="0" * 64, document="{}", action_class="change", actor="tech@provider.example", state="awaiting_approval",
        parallel=50, requested_at=now, contract_version_id=versions[-1].id,
    )  # fmt: skip
    session.add(run)
    session.flush()
    host = RunHost(run_id=run.id, asset_id=items["srv-fs1"].id, name=f"{key}-srv-fs1", position=0, outcome="ok")
    approval = Approval(
        run_id=run.id, digest="0" * 64, rule="client_approver", requested_at=now, expires_at=now + timedelta(hours=20)
    )
    session.add_all((host, approval))
    session.flush()
    step = StepResult(
        run_id=run.id, run_host_id=host.id, step=1, phase="do", name="df", outcome="ok", started_at=now, finished_at=now
    )
    grant = CredentialGrant(
        client_id=client.id, secret="vault:root-password", actor="tech@provider.example", ticket_id=ticket.id,
        asset_id=items["srv-fs1"].id, reason="disk full", state="waiting", asked_at=now, lasts=timedelta(hours=1),
        decision={"clause_id": "4.2", "approver": "client_approver"}, answer_by=now + timedelta(days=1),
    )  # fmt: skip
    rotation = SecretRotation(
        client_id=client.id, secret="vault:root-password", kind="password", state="stuck", asked_by="seed",
        asked_at=now, run_id=None, found="On some host neither value could be proven; both are kept.",
    )  # fmt: skip
    session.add_all((grant, rotation))
    plan = BackupPlan(
        client_id=client.id, asset_id=items["srv-fs1"].id, name=f"{key} files nightly", engine="restic", case={},
        cron="0 3 * * *", time_zone="Europe/Berlin", proof_every=timedelta(days=7), created_at=now,
    )  # fmt: skip
    unproven = BackupPlan(
        client_id=client.id, name=f"{key} ERP database", engine="pg_dump", case={}, cron="0 4 * * *",
        time_zone="Europe/Berlin", proof_every=timedelta(days=7), created_at=now,
    )  # fmt: skip
    draft = BackupDraft(
        client_id=client.id, asset_id=items["srv-db1"].id, by="tech@provider.example", created_at=now, changed_at=now,
        answers={"name": f"{key} orders", "time_zone": "Europe/Berlin", "proof_every_s": 604800}, trial={},
    )  # fmt: skip
    session.add_all((step, plan, unproven, draft))
    session.flush()
    test = RestoreTest(
        plan_id=plan.id, started_at=now - timedelta(days=2), finished_at=now - timedelta(days=2), verdict="pass",
        highest_rung=5, rto=timedelta(minutes=12),
    )  # fmt: skip
    shot = RunPicture(
        run_id=run.id, run_host_id=host.id, step=1, phase="do", position=0, name="seen", png=PICTURE,
        sha256=hashlib.sha256(PICTURE).hexdigest(), taken_at=now,
    )  # fmt: skip
    session.add(shot)
    technician = Technician(name={"alfa": "Anna", "bravo": "Boris"}[key], skills={"linux": 3})
    order = WorkOrder(
        client_id=client.id, site_id=site.id, ticket_id=ticket.id, summary="Replace disk 2",
        duration=timedelta(hours=1), created_at=now, due_at=now + timedelta(hours=6),
    )  # fmt: skip
    session.add_all((test, technician, order))
    session.flush()
    visit = Appointment(
        work_order_id=order.id, technician_id=technician.id, starts_at=now + timedelta(hours=3),
        ends_at=now + timedelta(hours=4), state="confirmed",
    )  # fmt: skip
    replan = Replan(
        asked_by="dispatch@provider.example", asked_at=now - timedelta(days=2), begins_at=now - timedelta(days=2),
        ends_at=now - timedelta(days=1), seconds=5, client_ids=[client.id], state="discarded",
    )  # fmt: skip
    session.add_all((visit, replan))
    session.flush()
    console = ConsoleSession(
        client_id=client.id, ticket_id=ticket.id, asset_id=items["srv-fs1"].id, user_id=person.id,
        actor="tech@provider.example", kind="terminal", mode="full", state="ended", end="closed", requested_at=now,
        opened_at=now, ended_at=now, expires_at=now, decision={"effect": "allow", "clause_id": "4.4", "text": "Yes."},
    )  # fmt: skip
    session.add(console)
    session.flush()
    authority = ca.create(session, kept, client_id=client.id, by="seed", source_addresses=["192.0.2.0/24"])
    purpose = ca.Purpose(("root",), "tech@provider.example", run_id=run.id, client_id=client.id)
    certificate = ca.issue(session, kept, authority, purpose)
    vaulted = evidence.record(session, "run.requested", actor="seed", subject=("run", run.id), client_id=client.id)
    event = events.record(
        session, f"ticket:{ticket.id}", "ticket.changed", client_id=client.id, data={"secretive": key}
    )
    session.flush()
    billed = bill(session, contract, ticket, vaulted.id)
    return {
        "client_id": client.id, "chain": client.id, "site_id": site.id, "contact_id": contact.id,
        "contract_id": contract.id, "version_id": versions[-1].id, "asset_id": items["srv-fs1"].id,
        "host_key_id": host_key.id, "user_id": person.id, "ticket_id": ticket.id, "run_id": run.id,
        "run_host_id": host.id, "host_id": host.id, "approval_id": approval.id, "step_id": step.id,
        "picture_id": shot.id, "plan_id": plan.id, "draft_id": draft.id,
        "test_id": test.id, "work_order_id": order.id, "appointment_id": visit.id, "visit_id": visit.id,
        "replan_id": replan.id,
        "console_id": console.id, "evidence_id": vaulted.id, "event_id": event.id, "block_id": block.id,
        "credential_id": secret.id, "grant_id": grant.id, "rotation_id": rotation.id, "change_id": change.id,
        "authority_id": authority.id, "certificate_id": certificate.serial, **billed,
    }  # fmt: skip


def bill(session: Session, contract: Contract, ticket: Ticket, evidence_id: int) -> dict[str, int]:
    """Store an act of last month that waits for the client, and an entry of today that waits for us."""
    now = utc_now()
    last_month = now.replace(day=1, hour=12) - timedelta(days=3)
    worked = entries.Worked(contract.client_id, last_month, 50, ticket_id=ticket.id, evidence_id=evidence_id)
    entries.confirm(session, entries.propose_entry(session, worked), "seed")
    provider = billing.Provider("Provider Ltd", "Road 1, Berlin")
    act = billing.close_month(session, contract, f"{last_month:%Y-%m}", by="seed", provider=provider)
    assert act is not None
    act_states.send(session, act, by="seed", digest="0" * 64)
    waiting = entries.propose_entry(session, entries.Worked(contract.client_id, now, 20, ticket_id=ticket.id))
    return {"act_id": act.id, "entry_id": waiting.id}
