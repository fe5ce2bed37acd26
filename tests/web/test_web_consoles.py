"""Consoles of the served pages: who gets in, how often a ticket opens, what the contract says, what is kept."""
# ruff: noqa: F811  fixtures are imported

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import console_stage
import pytest
import seed
import sshd
from console_line import last_words, line, machine, people, prepared, refused, row, served, stage, tech, terminal, until  # noqa: F401
from console_stage import ADMIN, BRAVO, CLAUSE, PLANTED, TECH, Person, Stage
from sqlalchemy import select
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from msp import db, master_key
from msp.clock import utc_now
from msp.contracts.models import BillingEntry
from msp.desk import tickets
from msp.flows import consoles
from msp.people.models import User
from msp.remote.consoles.models import ConsoleSession
from msp.remote.consoles.recordings import CannotRecord
from msp.settings import Settings
from msp.vault import Vault
from msp_web import security
from msp_web.consoles import Rate, same_origin

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "never"),
]


def test_a_terminal_is_evidence_a_word_on_the_ticket_a_recording_and_a_bill_line(stage: Stage, tech: Person) -> None:
    with terminal(tech) as (console_id, opened):
        opened.send(f"printf '{PLANTED[:7]}'; echo '{PLANTED[7:]}'\n".encode())
        until(opened, PLANTED.encode())
        opened.send(b"exit 3\n")
        message, _ = last_words(opened)
    assert message == {"ended": "exited", "detail": "The shell ended with status 3."}
    console = row(console_id)
    proofs = stage.evidence(console_id)
    kinds = ["console.granted", "console.opened", "credential.used", "console.ended"]
    assert [one.kind for one in proofs] == kinds
    assert proofs[2].data == {"secrets": ["vault:box key"], "grant": None}
    assert {one.actor for one in proofs} == {TECH}
    assert proofs[-1].data["recording_sha256"] == console.recording_sha256
    assert proofs[-1].data["clause"] == "4.4"
    with db.read() as session:
        told = [one for one in tickets.log_of(session, console.ticket_id) if one.data.get("console") == console_id]
        billed = session.scalars(select(BillingEntry).where(BillingEntry.evidence_id == proofs[-1].id)).all()
    assert [one.text.split(": ")[1].split(".")[0] for one in told] == ["opened", "ended"]
    assert all(one.public for one in told)
    assert len(billed) == 1
    played = tech.ask(f"/consoles/{console_id}/recording")
    assert played.getheader("X-Recording") == "unchanged"
    assert PLANTED not in played.text  # type: ignore[attr-defined]
    assert "***" in played.text  # type: ignore[attr-defined]
    assert [one.kind for one in stage.evidence(console_id)][-1] == "console.replayed"
    kept = tech.ask(f"/consoles/{console_id}/recording?keep=1")
    assert f'filename="console-{console_id}.cast"' in str(kept.getheader("Content-Disposition"))
    whole = b"".join(path.read_bytes() for path in stage.settings.data.rglob("*") if path.is_file())
    assert PLANTED.encode() not in whole, "a secret lies somewhere in the installation's folder"


def test_a_ticket_opens_once_and_a_second_use_is_evidence(stage: Stage, tech: Person) -> None:
    console_id = tech.request(stage.ids["box"])
    ticket = tech.ticket(console_id)
    with line(tech, console_id, ticket) as opened:
        until(opened, b"$" if sshd.getpass.getuser() != "root" else b"#")
        assert refused(tech, console_id, ticket) == (403, "The ticket was used before.\n")
    row(console_id)
    assert refused(tech, console_id, ticket) == (403, "The ticket was used before.\n")
    kinds = [one.kind for one in stage.evidence(console_id)]
    assert kinds.count("console.turned_away") == 2
    assert kinds.count("console.opened") == 1


def test_two_that_use_a_ticket_at_once_do_not_both_get_in(stage: Stage, tech: Person) -> None:
    console_id = tech.request(stage.ids["box"])
    ticket = tech.ticket(console_id)

    def attempt(_: int) -> int:
        try:
            with line(tech, console_id, ticket):
                return 101
        except InvalidStatus as denied:
            return denied.response.status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [101, 403, 403, 403]


def test_a_newer_ticket_voids_the_older_one(stage: Stage, tech: Person) -> None:
    console_id = tech.request(stage.ids["box"])
    old, new = tech.ticket(console_id), tech.ticket(console_id)
    assert refused(tech, console_id, old)[0] == 403
    with line(tech, console_id, new) as opened:
        until(opened, b" ")


def test_a_ticket_that_is_too_old_opens_nothing(stage: Stage, tech: Person) -> None:
    console_id = tech.request(stage.ids["box"])
    key = security.key(master_key.read(stage.settings.key_path), "console tickets")
    with db.begin() as session:
        console = session.get_one(ConsoleSession, console_id)
        asking = seed.users.actor_of(session, session.get_one(User, console.user_id))
        text = consoles.issue(session, key, console_id, asking, now=utc_now() - timedelta(seconds=32))
    assert refused(tech, console_id, text) == (403, "The ticket is too old.\n")


@pytest.mark.parametrize("ticket", ["", "nonsense", "a.b", "%00", "x" * 5000])
def test_what_is_no_ticket_opens_nothing(stage: Stage, tech: Person, ticket: str) -> None:
    assert refused(tech, tech.request(stage.ids["box"]), ticket)[0] == 403


def test_a_ticket_is_good_for_its_own_person_and_console_alone(
    stage: Stage, tech: Person, people: dict[str, Person]
) -> None:
    admin = people.setdefault(ADMIN, Person(stage, ADMIN))
    console_id, other = tech.request(stage.ids["box"]), tech.request(stage.ids["box"])
    ticket = tech.ticket(console_id)
    assert refused(admin, console_id, ticket) == (403, "The ticket is for somebody or something else.\n")
    assert refused(tech, other, ticket) == (403, "The ticket is for somebody or something else.\n")
    assert admin.ask(f"/consoles/{console_id}/ticket", x="1").status == 404
    with line(tech, console_id, ticket) as opened:
        until(opened, b" ")


def test_somebody_of_another_client_finds_nothing_there(stage: Stage, tech: Person, people: dict[str, Person]) -> None:
    foreign = people.setdefault(BRAVO, Person(stage, BRAVO))
    console_id = tech.request(stage.ids["box"])
    ticket = tech.ticket(console_id)
    assert refused(foreign, console_id, ticket)[0] == 404
    for path in ("", "/recording", "/frames/0.png", "/socket"):
        assert foreign.ask(f"/consoles/{console_id}{path}").status == 404
    for path in ("/ticket", "/end"):
        assert foreign.ask(f"/consoles/{console_id}{path}", x="1").status == 404
    assert foreign.ask("/consoles/open", asset=str(stage.ids["box"]), kind="terminal").status == 404
    assert "box" not in foreign.ask("/consoles/").text  # type: ignore[attr-defined]


def test_nobody_gets_in_without_log_in_or_from_a_foreign_page(stage: Stage, tech: Person) -> None:
    console_id = tech.request(stage.ids["box"])
    ticket = tech.ticket(console_id)
    assert refused(tech, console_id, ticket, Cookie="")[0] in (302, 401)
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{stage.port + 1}", ""):
        assert refused(tech, console_id, ticket, Origin=origin) == (403, "This page is not ours.\n")
    with line(tech, console_id, ticket) as opened:  # none of them used it up
        until(opened, b" ")


def test_the_socket_has_no_page_and_no_other_path_is_a_socket(stage: Stage, tech: Person) -> None:
    assert tech.ask(f"/consoles/{stage.ids['console_id']}/socket").status == 404
    headers = {"Cookie": tech.cookie, "Origin": stage.base}
    for path in ("/", "/live/queue", "/consoles/", "/healthz"):
        with (
            pytest.raises(InvalidStatus) as denied,
            connect(f"ws://127.0.0.1:{stage.port}{path}", additional_headers=headers),
        ):
            pass
        assert denied.value.response.status_code == 404, path


# --- what the contract says --------------------------------------------------------------------------------------
def test_a_refusal_names_its_clause_and_the_way_out_and_is_kept(stage: Stage, tech: Person) -> None:
    stage.amend({**CLAUSE, "id": "9.3", "effect": "refuse", "text": "Nobody works at our machines."})
    try:
        page = tech.ask(f"/assets/{stage.ids['box']}").text  # type: ignore[attr-defined]
        assert re.search(r'<button class="btn" disabled', page)
        assert "clause 9.3: Nobody works at our machines." in page
        console_id = tech.request(stage.ids["box"])
        shown = tech.ask(f"/consoles/{console_id}").text  # type: ignore[attr-defined]
        assert "Nobody works at our machines." in shown
        assert "Propose a visit" in shown
        assert [one.kind for one in stage.evidence(console_id)] == ["console.refused"]
        assert tech.ask(f"/consoles/{console_id}/ticket", x="1").status == 409
        glass = tech.request(stage.ids["box"], glass_approver="boss@alfa.example", glass_reason="The shop stands still")
        assert row(glass, "granted").decision["break_glass"]["reason"] == "The shop stands still"
    finally:
        stage.amend()


def test_a_clause_may_allow_looking_only_and_want_the_person_at_the_machine_to_agree(
    stage: Stage, tech: Person, tmp_path: Path
) -> None:
    stage.amend({**CLAUSE, "id": "9.4", "mode": "view", "consent": True, "text": "Look, if our people agree."})
    try:
        form = {"asset": str(stage.ids["box"]), "ticket": str(stage.ids["ticket_id"]), "kind": "terminal"}
        answer = tech.ask("/consoles/open", **form)
        assert answer.status == 422
        assert "who agreed" in answer.text  # type: ignore[attr-defined]
        console_id = tech.request(stage.ids["box"], consent_by="Clara at the desk", mode="full")
        with line(tech, console_id, tech.ticket(console_id)) as opened:
            until(opened, b" ")
            opened.send(f"touch {tmp_path}/typed\n".encode())
            time.sleep(0.5)
            opened.send(json.dumps({"close": True}))
            last_words(opened)
        assert (row(console_id).mode, row(console_id).consent_by) == ("view", "Clara at the desk")
        assert not (tmp_path / "typed").exists()
    finally:
        stage.amend()


def test_no_console_opens_without_room_for_its_recording(stage: Stage) -> None:
    full = replace(stage.settings, recordings_quota_mb=0)
    with db.read() as session:
        asking = seed.users.actor_of(session, session.scalars(select(User).where(User.email == TECH)).one())
        with pytest.raises(CannotRecord, match="no console opens unrecorded"):
            consoles.request(session, full, asset_id=stage.ids["box"], kind="terminal", actor=asking)


def test_a_recording_that_was_changed_on_the_disk_is_told_apart(stage: Stage, tech: Person) -> None:
    with terminal(tech) as (console_id, opened):
        opened.send(b"exit\n")
        last_words(opened)
    console = row(console_id)
    path = stage.settings.recordings_path / console.recording
    path.write_bytes(path.read_bytes().replace(b"box", b"bax"))  # its title
    assert tech.ask(f"/consoles/{console_id}/recording").getheader("X-Recording") == "changed"
    path.unlink()
    assert tech.ask(f"/consoles/{console_id}/recording").status == 404


def test_a_machine_that_cannot_be_reached_is_a_sentence_on_the_page(stage: Stage, tech: Person) -> None:
    with db.begin() as session:
        Vault.from_file(stage.settings.key_path)
        item = console_stage.inventory.add(
            session, client_id=stage.ids["client_id"], name=f"away-{time.time()}", kind="server", by="test",
            address="127.0.0.1", port=1, username="x", facts={},
        )  # fmt: skip
    console_id = tech.request(item.id)
    with line(tech, console_id, tech.ticket(console_id)) as opened:
        message, _ = last_words(opened, 30)
    assert message["ended"] == "failed"
    assert "refused the connection" in message["detail"]


def test_consoles_are_served_by_a_process_of_their_own(tmp_path: Path, machine: sshd.Sshd) -> None:
    stage = prepared(tmp_path / "apart", machine)
    environment = {"MSP_DATA": str(stage.settings.data), "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}
    environment["MSP_CONSOLE_URL"] = "http://127.0.0.1:8441"  # pages and consoles share a name, not a port
    with console_stage.served(stage):
        tech = Person(stage, TECH)
        console_id = tech.request(stage.ids["box"])
        with subprocess.Popen(
            [sys.executable, "-c", console_stage.SERVE_CONSOLES, str(stage.settings.data / "msp.toml")],
            env=environment | {"PYTHONPATH": f"{console_stage.ROOT}:{console_stage.ROOT / 'web'}"},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                port = int(process.stdout.readline().strip().rstrip("/").rpartition(":")[2])
                with line(tech, console_id, tech.ticket(console_id), port=port) as opened:
                    opened.send(b"stty -echo; echo apart-$((1+1))\n")
                    until(opened, b"apart-2")
                    process.terminate()
                    assert last_words(opened)[0]["ended"] == "stopped"
                assert process.wait(15) == 0
            finally:
                process.kill()


def test_attempts_are_counted_by_address_in_a_sliding_minute() -> None:
    rate = Rate(3, 60.0)
    assert [rate.admits("a", now) for now in (0.0, 1.0, 2.0, 3.0)] == [True, True, True, False]
    assert rate.admits("b", 3.0)
    assert rate.admits("a", 61.5)


def test_one_person_asks_for_twenty_consoles_a_minute_at_most(stage: Stage, tech: Person) -> None:
    form = {"asset": str(stage.ids["box"]), "ticket": str(stage.ids["ticket_id"]), "kind": "terminal"}
    answers = [tech.ask("/consoles/open", **form).status for _ in range(22)]
    assert answers[:20] == [303] * 20
    assert answers[20:] == [403] * 2


@pytest.mark.parametrize(
    ("origin", "host", "settings", "ours"),
    [
        ("http://msp.example", "msp.example", {}, True),
        ("https://msp.example:8443", "msp.example:8443", {}, True),
        ("http://msp.example:1", "msp.example:2", {}, False),
        ("http://msp.example:1", "msp.example:2", {"console_url": "http://msp.example:2"}, True),
        ("http://evil.example", "msp.example:2", {"console_url": "http://msp.example:2"}, False),
        ("https://msp.example", "inside:8440", {"public_url": "https://msp.example/"}, True),
        ("http://msp.example", "inside:8440", {"public_url": "https://msp.example/"}, False),
        ("null", "null", {}, False),
        ("", "", {}, False),
        ("file://msp.example", "msp.example", {}, False),
    ],
)
def test_only_a_page_of_ours_opens_a_socket(origin: str, host: str, settings: dict[str, str], ours: bool) -> None:
    assert same_origin({"origin": origin, "host": host}, Settings(**settings)) is ours  # type: ignore[arg-type]
