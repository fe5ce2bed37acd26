"""Evidence: a changed, removed, inserted or cut-off record is named; a client verifies alone."""

import hashlib
import json
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from msp import db, evidence
from msp.errors import Conflict


@pytest.fixture
def written(database_url: str) -> str:
    db.use(database_url)
    with db.begin() as session:
        for number in range(1, 6):
            for client in (None, 7):
                evidence.record(
                    session,
                    "ticket.opened",
                    actor="anna",
                    subject=("ticket", number),
                    client_id=client,
                    data={"n": number},
                )
    return database_url


def breaks() -> list[tuple[int, int, str]]:
    with db.read() as session:
        return [(b.chain, b.seq, b.what) for b in evidence.verify(session)[1]]


def test_an_untouched_chain_is_whole(written: str) -> None:
    with db.read() as session:
        assert evidence.verify(session) == (10, [])


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        ("UPDATE evidence SET actor = 'mallory' WHERE chain = 7 AND seq = 3", (7, 3)),
        ('UPDATE evidence SET data = \'{"n": 4, "x": 1}\' WHERE chain = 0 AND seq = 4', (0, 4)),
        ("UPDATE evidence SET at = '2020-01-01 00:00:00' WHERE chain = 7 AND seq = 1", (7, 1)),
        ("DELETE FROM evidence WHERE chain = 7 AND seq = 2", (7, 3)),
        ("DELETE FROM evidence WHERE chain = 7 AND seq = 5", (7, 5)),
        ("DELETE FROM evidence WHERE chain = 7", (7, 5)),
        ("UPDATE evidence_head SET seq = 4 WHERE chain = 7", (7, 4)),
    ],
)
def test_every_damage_is_named(written: str, damage: str, where: tuple[int, int]) -> None:
    with db.begin() as session:
        session.execute(text(damage))
    assert where in [(chain, seq) for chain, seq, _ in breaks()]


def test_evidence_cannot_be_changed_through_the_product(written: str) -> None:
    with pytest.raises(Conflict), db.begin() as session:
        session.query(evidence.Evidence).first().actor = "mallory"  # type: ignore[union-attr]


def test_a_client_verifies_an_export_alone(written: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    with db.read() as session:
        assert evidence.export(session, 7, file) == 5
    assert evidence.verify_file(file) == (5, [])
    whole = file.read_bytes()
    for at in range(0, len(whole), 7):  # any one byte
        damaged = bytearray(whole)
        damaged[at] ^= 1
        file.write_bytes(damaged)
        try:
            assert evidence.verify_file(file)[1], f"byte {at} was changed and nobody noticed"
        except UnicodeDecodeError as error:
            pytest.fail(f"byte {at}: {error}")
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-2] + lines[-1:]))
    assert evidence.verify_file(file)[1]
    file.write_bytes(b"".join(lines[:-1]))
    assert evidence.verify_file(file)[1]


def test_an_export_shows_one_client_only(written: str, tmp_path: Path) -> None:
    with db.read() as session:
        evidence.export(session, 7, tmp_path / "mine.jsonl")
    records = [json.loads(line) for line in (tmp_path / "mine.jsonl").read_text().splitlines()[:-1]]
    assert {record["chain"] for record in records} == {7}


def test_two_writers_at_once_never_fork_a_chain(written: str) -> None:
    def write() -> None:
        for number in range(10):
            with db.begin() as session:
                evidence.record(session, "note.added", actor="x", subject=("ticket", number), client_id=7)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as session:
        assert evidence.verify(session) == (50, [])


def test_digest_covers_the_one_text_of_the_whole_record(written: str) -> None:
    with db.begin() as session:
        data = {"z": [1, {"b": None, "a": "\ud800 \u0442\u0435\u043a\u0441\u0442"}], "a": {}}
        entry = evidence.record(session, "ticket.opened", actor="анна", subject=("ticket", 9), client_id=7, data=data)
        told = evidence.exported(entry)
    digest = told.pop("digest")
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert digest == hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    assert breaks() == []
