"""The planted-fault drill of every engine, with its real programs. MSP_TEST_MANY=1 plants every fault."""

import os
from pathlib import Path

import pytest

from msp.backup import drill
from msp.clock import utc_now

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: Enough to see each engine's bench work in the usual long pass; what differs in kind comes first.
FEW = {
    "restic": ("good", "bit flip", "stale"),
    "borg": ("good", "bit flip", "truncated database"),
    "pg_dump": ("good", "bit flip", "wrong database"),
    "pg_basebackup": ("good", "bit flip", "stale"),
    "mariadb_dump": ("good", "cut after a statement", "cut, its end forged"),
    "mariabackup": ("good", "bit flip", "lost table"),
    "bacula": ("good", "bit flip", "lost mount"),
    "qcow2": ("good", "cut short", "another machine"),
    "raw": ("good", "bit flip", "cut short"),
    "vmdk": ("good", "cut short", "nothing but zeros"),
    "vdi": ("good", "cut short", "emergency mode"),
}


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(name, marks=pytest.mark.xdist_group(name.partition("_")[0]))
        for name in (*FEW, *sorted(set(drill.ENGINES) - set(FEW)))
    ],
)
def test_every_planted_fault_is_caught_and_the_good_backup_is_not_blamed(engine: str, tmp_path: Path) -> None:
    only = None if os.environ.get("MSP_TEST_MANY") == "1" else FEW.get(engine)
    outcomes = drill.drill(engine, tmp_path, utc_now(), only)
    if outcomes[0].skipped:
        pytest.skip(outcomes[0].words)
    assert [one for one in outcomes if not one.caught] == []
    assert [one.verdict for one in outcomes if one.fault == "good"] == ["pass"]
    assert len([one for one in outcomes if one.verdict == "fail"]) >= (len(only) - 1 if only else 3)
    assert list(tmp_path.iterdir()) == []
