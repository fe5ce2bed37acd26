"""No broken backup passes and no good one raises an alarm: every planted fault gets its verdict and its reason.

A spread runs always; MSP_TEST_MANY=1 runs every fault on every engine.
"""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from planted import Planted, cases, chosen
from sabotage import fingerprint
from test_backup_faults import deserves, judged

from msp.backup.verdict import EXIT_STATUS

PROGRAMS = {"restic": "restic", "borg": "borg", "qcow2": "qemu-img", "raw": "qemu-img", "vmdk": "qemu-img"}
GROUPS = {"pg_dump": "postgres", "mariadb_dump": "mariadb"}


def marked(number: int, planted: Planted) -> object:
    marks = [pytest.mark.server] if planted.engine != "tar" else []
    marks += [pytest.mark.slow] if number % 4 and planted.engine not in ("tar", "raw", "vmdk", "qcow2") else []
    marks += [pytest.mark.xdist_group(GROUPS[planted.engine])] if planted.engine in GROUPS else []
    return pytest.param(planted, marks=marks, id=f"{planted.engine}-{planted.name}")


@pytest.mark.parametrize("planted", [marked(number, planted) for number, planted in enumerate(chosen())])
def test_a_planted_fault_gets_the_verdict_it_deserves(
    planted: Planted, request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = PROGRAMS.get(planted.engine)
    if program and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if planted.engine == "pg_dump" and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed")
    if planted.engine == "mariadb_dump" and shutil.which("mariadbd", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("MariaDB is not installed")
    document = planted.build(tmp_path, request.getfixturevalue)
    before = fingerprint(tmp_path)
    deserves(judged(document, tmp_path_factory.mktemp("own")), planted.verdict, planted.reason)
    assert fingerprint(tmp_path) == before


def test_the_generator_covers_six_engines_with_more_than_sixty_cases() -> None:
    for planted in (cases(), chosen()):
        engines = Counter(one.engine for one in planted)
        assert len(planted) >= 60
        assert sum(one.verdict == "pass" for one in planted) >= 8
        assert set(engines) >= {"restic", "borg", "pg_dump", "mariadb_dump", "tar", "qcow2"}
        assert {one.verdict for one in planted} == set(EXIT_STATUS)
        assert len({(one.engine, one.name) for one in planted}) == len(planted)
    print(Counter(one.verdict for one in cases()), Counter(one.engine for one in cases()), len(chosen()))
