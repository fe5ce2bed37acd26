"""Effect claims on both databases."""

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from msp.db import Database
from msp.engine.claims import ClaimKey, claim_many, end_many, in_doubt, resolve
from msp.engine.models import EffectClaim
from msp.errors import Conflict, Misconfigured, NotFound

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = ClaimKey(run_id=1, host_id=7, step=0, phase="do")


def verdicts(database: Database, *keys: ClaimKey, worker: str = "worker-01") -> list[str]:
    with database.begin() as session:
        results = claim_many(session, keys, worker, NOW)
    assert [result.key for result in results] == list(keys)
    return [result.verdict for result in results]


def test_first_claim_is_granted_and_a_finished_one_is_not_granted_again(database: Database) -> None:
    assert verdicts(database, KEY) == ["granted"]
    with database.begin() as session:
        assert end_many(session, [KEY], "finished", NOW) == 1
    assert verdicts(database, KEY) == ["finished"]


def test_unfinished_claim_is_in_doubt_for_everybody_until_somebody_answers(database: Database) -> None:
    assert verdicts(database, KEY) == ["granted"]
    assert verdicts(database, KEY) == ["in_doubt"]  # this very worker, restarted
    assert verdicts(database, KEY, worker="worker-02") == ["in_doubt"]
    with database.read() as session:
        assert [claim.host_id for claim in in_doubt(session)] == [7]
        assert in_doubt(session, run_id=2) == []


@pytest.mark.parametrize(
    ("resolution", "then"),
    [("ran", "finished"), ("probe_ran", "finished"), ("not_ran", "granted"), ("probe_not_ran", "granted")],
)
def test_answer_decides_whether_the_effect_may_be_done(database: Database, resolution: str, then: str) -> None:
    verdicts(database, KEY)
    verdicts(database, KEY)
    with database.begin() as session:
        resolve(session, KEY, resolution, "anna", "looked at the host")
    assert verdicts(database, KEY) == [then]
    with database.read() as session:
        assert in_doubt(session) == []
        assert "looked at the host" in session.scalars(select(EffectClaim.note)).one()


def test_what_somebody_else_took_is_left_alone_when_the_rest_is_ended(database: Database) -> None:
    other, third = ClaimKey(1, 8, 0, "do"), ClaimKey(1, 8, 1, "do")
    verdicts(database, KEY, other, third)
    verdicts(database, KEY, worker="worker-02")
    with database.begin() as session:
        assert end_many(session, [KEY, other], "finished", NOW) == 1
        assert end_many(session, [third], "in_doubt", NOW) == 1
    with database.read() as session:
        stored = {(row.host_id, row.step): (row.state, row.finished_at) for row in session.scalars(select(EffectClaim))}
    assert stored == {(7, 0): ("in_doubt", None), (8, 0): ("finished", NOW), (8, 1): ("in_doubt", None)}


def test_only_what_is_in_doubt_can_be_resolved_and_only_once(database: Database) -> None:
    with pytest.raises(NotFound), database.begin() as session:
        resolve(session, KEY, "ran", "anna")
    verdicts(database, KEY)
    with pytest.raises(Conflict, match="claimed"), database.begin() as session:
        resolve(session, KEY, "ran", "anna")
    verdicts(database, KEY)
    with pytest.raises(Misconfigured), database.begin() as session:
        resolve(session, KEY, "perhaps", "anna")
    with database.begin() as session:
        resolve(session, KEY, "ran", "anna")
    with pytest.raises(Conflict, match="resolved"), database.begin() as session:
        resolve(session, KEY, "not_ran", "boris")


def test_attempts_phases_and_hosts_are_effects_of_their_own(database: Database) -> None:
    keys = [
        KEY,
        ClaimKey(1, 7, 0, "do", 2),
        ClaimKey(1, 7, 0, "undo"),
        ClaimKey(1, 8, 0, "do"),
        ClaimKey(2, 7, 0, "do"),
    ]
    assert verdicts(database, *keys) == ["granted"] * 5


def test_a_batch_of_thousands_mixes_all_verdicts(database: Database) -> None:
    keys = [ClaimKey(1, host, 0, "do") for host in range(2100)]
    verdicts(database, *keys[:1400])
    with database.begin() as session:
        assert end_many(session, keys[:700], "finished", NOW) == 700
    assert verdicts(database, *reversed(keys)) == ["granted"] * 700 + ["in_doubt"] * 700 + ["finished"] * 700


def test_rollback_leaves_no_claim(database: Database) -> None:
    with database.begin() as session:
        claim_many(session, [KEY], "worker-01", NOW)
        session.rollback()
    assert verdicts(database, KEY) == ["granted"]


def test_of_many_workers_racing_one_is_granted_each_effect(database: Database) -> None:
    keys = [ClaimKey(1, host, 0, "do") for host in range(40)]
    granted: list[ClaimKey] = []
    start = threading.Barrier(6)

    def race(number: int) -> None:
        start.wait()
        mine = keys if number % 2 else keys[::-1]
        for at in range(0, len(keys), 8):
            with database.begin() as session:
                results = claim_many(session, mine[at : at + 8], f"worker-{number}", NOW)
            granted.extend(result.key for result in results if result.verdict == "granted")

    threads = [threading.Thread(target=race, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(granted) == keys
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(EffectClaim)) == 40
