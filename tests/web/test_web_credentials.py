"""The credential desk: values go in and never come out, but for the one who may see them, once; and pins of hosts."""

import csv
import io
import re
from collections.abc import Callable, Iterator

import pytest
import seed
from clicking import Browser
from flask import Flask
from sqlalchemy import select

from msp import db
from msp.assets import inventory
from msp.assets.models import HostKeyChange
from msp.evidence import Evidence
from msp.people.credential_grants import CredentialGrant
from msp.settings import Settings
from msp.vault import Vault, VaultSecret, row_of

Ids = dict[str, dict[str, int]]
LogIn = Callable[[str], Browser]
ADMIN, KEEPER, TECH, MANAGER = (f"{name}@provider.example" for name in ("admin", "keeper", "tech", "manager"))
NEW_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "C" * 42 + "E="


def value_of(settings: Settings, name: str, client_id: int) -> str:
    with db.begin() as session:
        return Vault.from_file(settings.key_path).get(session, name, client_id=client_id).value


def every_page(app: Flask, browser: Browser, things: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield what every page of the desk, of the item and of the evidence shows."""
    credential, asset = things["credential_id"], things["asset_id"]
    for path in ("/credentials/", "/credentials/list.csv", "/credentials/new", f"/credentials/{credential}",
                 f"/credentials/{credential}/reveal", f"/assets/{asset}", "/evidence/",
                 f"/evidence/{things['chain']}/export", "/assets/list.csv"):  # fmt: skip
        yield path, browser.get(path).text


def test_the_desk_shows_ages_and_users_and_never_a_value(app: Flask, ids: Ids, log_in: LogIn) -> None:
    browser = log_in(ADMIN)
    for path, text in every_page(app, browser, ids["alfa"]):
        assert "planted-" not in text, path
    page = browser.get("/credentials/?state=overdue").text
    assert "120 of 90 days" in page
    assert "alfa-srv-fs1" in page
    assert "spare" not in page
    rows = list(csv.DictReader(io.StringIO(browser.get("/credentials/list.csv").text.lstrip("\ufeff"))))
    mine = next(row for row in rows if row["client"] == "alfa" and row["name"] == "root-password")
    assert (mine["state"], mine["age_days"], mine["assets"]) == ("overdue", "120", "alfa-srv-fs1")


def test_a_person_of_one_client_only_sees_that_clients_secrets(app: Flask, ids: Ids, log_in: LogIn) -> None:
    browser = log_in("limited@provider.example")
    assert "Bravo" not in browser.get("/credentials/").text
    assert "bravo" not in browser.get("/credentials/list.csv").text
    foreign = ids["bravo"]["credential_id"]
    for path in (f"/credentials/{foreign}", f"/credentials/{foreign}/reveal"):
        assert browser.get(path).status_code == 404
    for act in ("replace", "delete", "rotate", "reveal"):
        answer = browser.send(f"/credentials/{foreign}/{act}", value="x", reason="because I want")
        assert answer.status_code == 404, act
    taken = browser.send("/credentials/new", client_id=str(ids["bravo"]["client_id"]), name="mine", value="planted-9")
    assert taken.status_code == 404
    provider = browser.send("/credentials/new", client_id="0", name="mine", value="planted-9")
    assert provider.status_code == 404, "the provider's own are not for who sees some clients only"


def test_a_value_is_written_and_replaced_and_generated_without_being_read(
    app: Flask, ids: Ids, log_in: LogIn, settings: Settings
) -> None:
    browser, client_id = log_in(KEEPER), ids["alfa"]["client_id"]
    answer = browser.send("/credentials/new", client_id=str(client_id), name="door code", value="planted-first")
    assert answer.status_code == 303
    path = answer.location
    assert value_of(settings, "door code", client_id) == "planted-first"
    assert "planted" not in browser.get(path).text
    assert browser.send(f"{path}/replace", value="planted-second").status_code == 303
    assert value_of(settings, "door code", client_id) == "planted-second"
    assert browser.send(f"{path}/replace", value="", generate="1").status_code == 303
    made = value_of(settings, "door code", client_id)
    assert re.fullmatch(r"[a-zA-Z2-9]{24}", made)
    assert made not in browser.get(path).text
    for text in (browser.send(f"{path}/replace", value="").text, browser.send(path + "/replace", value="x\0y").text):
        assert "empty, too long" in text
    twice = browser.send("/credentials/new", client_id=str(client_id), name="door code", value="planted-third")
    assert twice.status_code == 409
    assert "planted" not in twice.text
    assert browser.send(f"{path}/delete").status_code == 303
    assert browser.get(path).status_code == 404


def test_a_key_pasted_into_the_form_is_kept_as_it_was(app: Flask, ids: Ids, log_in: LogIn, settings: Settings) -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\nBBBB\n-----END OPENSSH PRIVATE KEY-----\n"
    client_id = ids["alfa"]["client_id"]
    answer = log_in(KEEPER).send(
        "/credentials/new", client_id=str(client_id), name="pasted", value=key.replace("\n", "\r\n")
    )
    assert value_of(settings, "pasted", client_id) == key
    with db.read() as session:
        assert row_of(session, "pasted", client_id).kind == "ssh_key"
    log_in(KEEPER).send(f"{answer.location}/delete")


def test_a_secret_that_opens_something_is_not_forgotten(app: Flask, ids: Ids, log_in: LogIn) -> None:
    answer = log_in(KEEPER).send(f"/credentials/{ids['alfa']['credential_id']}/delete")
    assert answer.status_code == 409
    assert "alfa-srv-fs1" in answer.text


@pytest.mark.parametrize("email", [TECH, MANAGER, "dispatch@provider.example"])
def test_only_the_right_shows_a_value(app: Flask, ids: Ids, log_in: LogIn, email: str) -> None:
    browser, path = log_in(email), f"/credentials/{ids['alfa']['credential_id']}/reveal"
    assert browser.get(path).status_code == 403
    answer = browser.send(path, reason="because I want", ticket_id=str(ids["alfa"]["ticket_id"]))
    assert answer.status_code == 403
    assert "planted-" not in answer.text


def test_a_value_is_shown_once_with_a_reason_and_is_to_be_rotated_then(
    app: Flask, ids: Ids, log_in: LogIn, settings: Settings
) -> None:
    client_id = ids["alfa"]["client_id"]
    with db.read() as session:
        spare = row_of(session, "spare", client_id).id
    browser, path = log_in(KEEPER), f"/credentials/{spare}/reveal"
    once = re.search(r'name="once" value="([^"]+)"', browser.get(path).text)
    assert once is not None
    missing = browser.send(path, once=once[1], reason=" ")
    assert missing.status_code == 422
    assert "planted-" not in missing.text
    once = re.search(r'name="once" value="([^"]+)"', browser.get(path).text)
    assert once is not None
    shown = browser.send(path, once=once[1], reason="typed at the machine itself")
    assert "planted-alfa-4712" in shown.text
    assert shown.headers["Cache-Control"] == "no-store"
    again = browser.send(path, once=once[1], reason="typed at the machine itself")
    assert again.status_code == 409
    assert "planted-" not in again.text
    with db.read() as session:
        row = session.get_one(VaultSecret, spare)
        assert row.exposed_why == f"{KEEPER}: typed at the machine itself"
        told = session.scalars(
            select(Evidence).where(Evidence.kind == "credential.revealed", Evidence.chain == client_id)
        ).all()
    assert [(one.actor, one.data["reason"]) for one in told] == [(KEEPER, "typed at the machine itself")]
    assert "seen, to be rotated" in browser.get("/credentials/?state=exposed").text


def test_where_an_asset_is_opened_the_contract_is_asked_before_a_value_is_shown(
    app: Flask, ids: Ids, log_in: LogIn
) -> None:
    browser, path = log_in(KEEPER), f"/credentials/{ids['alfa']['credential_id']}/reveal"
    for given in ({}, {"ticket_id": str(ids["alfa"]["ticket_id"])}, {"ticket_id": str(ids["bravo"]["ticket_id"])}):
        once = re.search(r'name="once" value="([^"]+)"', browser.get(path).text)
        assert once is not None
        answer = browser.send(path, once=once[1], reason="typed at the machine itself", **given)
        assert answer.status_code in (403, 404, 422), given
        assert "planted-" not in answer.text


def test_the_client_gives_and_withdraws_in_the_portal(app: Flask, ids: Ids, log_in: LogIn) -> None:
    boss, grant_id = log_in("boss@alfa.example"), ids["alfa"]["grant_id"]
    assert "asks to use a credential" in boss.get("/portal/").text
    assert "disk full" in boss.get("/portal/credentials/").text
    assert log_in("user@alfa.example").send(f"/portal/credentials/{grant_id}/give").status_code == 403
    refused = boss.send(f"/portal/credentials/{grant_id}/give")  # the seed's contract says nothing of access
    assert refused.status_code == 403
    assert boss.send(f"/portal/credentials/{grant_id}/decline", reason="not now").status_code == 303
    with db.read() as session:
        grant = session.get_one(CredentialGrant, grant_id)
        assert (grant.state, grant.decided_by) == ("declined", "boss@alfa.example")
    assert boss.send(f"/portal/credentials/{ids['bravo']['grant_id']}/decline").status_code == 404


def test_asking_says_what_the_contract_answers(app: Flask, ids: Ids, log_in: LogIn) -> None:
    things, browser = ids["alfa"], log_in(TECH)
    answer = browser.send("/credentials/ask", asset_id=str(things["asset_id"]), ticket_id=str(things["ticket_id"]),
                          minutes="30", reason="disk full")  # fmt: skip
    assert answer.status_code == 303
    assert "The contract refuses it" in browser.get(answer.location).text
    bad = browser.send("/credentials/ask", asset_id="x", ticket_id="1", minutes="1", reason="r")
    assert bad.status_code == 422
    foreign = log_in("limited@provider.example").send(
        "/credentials/ask", asset_id=str(ids["bravo"]["asset_id"]), ticket_id=str(ids["bravo"]["ticket_id"]),
        minutes="30", reason="disk full",
    )  # fmt: skip
    assert foreign.status_code == 404


# --- host keys


def test_another_host_key_is_in_force_only_when_a_second_person_agrees(app: Flask, ids: Ids, log_in: LogIn) -> None:
    asset = ids["alfa"]["asset_id"]

    def pins() -> list[str]:
        with db.read() as session:
            return [key.public_key for key in inventory.pinned(session, asset)]

    before = pins()
    tech, keeper = log_in(TECH), log_in(KEEPER)
    vague = tech.send(f"/assets/{asset}/host-key", public_key=NEW_KEY, reason="ok")
    assert vague.status_code == 422
    assert tech.send(f"/assets/{asset}/host-key", public_key=NEW_KEY, reason="read at the console").status_code == 302
    assert pins() == before, "the old pin stays in force"
    with db.read() as session:
        change = session.scalars(select(HostKeyChange).where(HostKeyChange.public_key == NEW_KEY)).one()
    assert tech.send(f"/assets/{asset}/host-key/{change.id}/approve").status_code == 403
    own = keeper.send(f"/assets/{asset}/host-key", public_key=NEW_KEY.replace("C", "D"), reason="read at the console")
    assert own.status_code == 302
    with db.read() as session:
        mine = session.scalars(select(HostKeyChange).where(HostKeyChange.asked_by == KEEPER)).one()
    assert keeper.send(f"/assets/{asset}/host-key/{mine.id}/approve").status_code == 403, "not by who asked"
    foreign = ids["bravo"]["asset_id"]
    assert keeper.send(f"/assets/{foreign}/host-key/{change.id}/approve").status_code == 409, "of another item"
    assert pins() == before
    page = keeper.get(f"/assets/{asset}").text
    assert "waiting for a second person" in page
    assert keeper.send(f"/assets/{asset}/host-key/{change.id}/approve").status_code == 302
    assert pins() == [NEW_KEY]
    assert keeper.send(f"/assets/{asset}/host-key/{change.id}/approve").status_code == 409
    with db.read() as session:
        assert session.get_one(HostKeyChange, mine.id).state == "outdated"
        told = session.scalars(select(Evidence.kind).where(Evidence.kind.startswith("host_key."),
                                                           Evidence.subject_id == str(asset))).all()  # fmt: skip
    assert told[-2:] == ["host_key.change_approved", "host_key.pinned"]
    assert "host_key.change_asked" in told
    page = keeper.get(f"/assets/{asset}").text
    assert "withdrawn" in page
    assert f"{TECH}, {KEEPER}" in page


def test_a_first_key_is_pinned_by_an_administrator(app: Flask, ids: Ids, log_in: LogIn) -> None:
    with db.begin() as session:
        item = inventory.by_name(session, ids["alfa"]["client_id"], "alfa-srv-db1")
    path = f"/assets/{item.id}/host-key"
    assert log_in(TECH).send(path, public_key=seed.KEY, reason="first").status_code == 403
    assert log_in(ADMIN).send(path, public_key="nonsense").status_code == 422
    assert log_in(ADMIN).send(path, public_key=seed.KEY).status_code == 302
    with db.read() as session:
        assert [key.public_key for key in inventory.pinned(session, item.id)] == [seed.KEY]
