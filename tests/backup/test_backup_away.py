"""A restore test on the client's own host, over a real SSH server: the same verdicts, and nothing left there."""

import asyncio
import base64
import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import sabotage
import sshd
from sabotage import LOGICAL, Document, by_borg, by_restic, by_tar, fingerprint, flip, largest

from msp.backup.case import parse
from msp.backup.engines import away
from msp.backup.verdict import Picture, Result, Rung
from msp.backup.verify import verify
from msp.clock import utc_now
from msp.errors import Misconfigured
from msp.remote.ssh.transport import SshTransport
from msp.remote.target import Credential, Target

pytestmark = [pytest.mark.server, pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "here")]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> object:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as server:
        credential = Credential(server.user, key_file=server.key_file)
        yield Target("srv-1", "127.0.0.1", server.port, credential, (server.host_key,))


def judged_on(target: Target, document: Document, there: Path, *, deadline: float = 120) -> Result:
    async def run() -> Result:
        transport = SshTransport()
        try:
            async with transport.open(target, timeout=timedelta(seconds=20)) as shell:
                ends = timedelta(seconds=deadline)
                return await away.verify_on(shell, document, host=target.name, deadline=ends, scratch=str(there))
        finally:
            await transport.close()

    return asyncio.run(run())


@pytest.fixture
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for scratch on the other host."""
    return tmp_path_factory.mktemp("there") / "scratch"


class TestThere:
    @pytest.mark.parametrize(
        "back_up",
        [by_tar, pytest.param(by_restic, marks=pytest.mark.slow), pytest.param(by_borg, marks=pytest.mark.slow)],
        ids=["tar", "restic", "borg"],
    )
    def test_a_good_backup_passes_with_its_manifest(
        self, back_up: object, host: Target, there: Path, tmp_path: Path
    ) -> None:
        document = sabotage.case(LOGICAL[0], tmp_path, back_up)  # type: ignore[arg-type]
        before = fingerprint(tmp_path)
        result = judged_on(host, document, there)
        assert (result.verdict, result.reasons) == ("pass", []), result.findings
        assert result.highest_rung == 5
        assert dict(result.rungs[-2].figures)["compared"] > 80
        assert fingerprint(tmp_path) == before
        assert list(there.iterdir()) == []

    @pytest.mark.slow
    def test_a_damaged_repository_fails_there_as_it_does_here(self, host: Target, there: Path, tmp_path: Path) -> None:
        document = sabotage.case(LOGICAL[0], tmp_path, by_restic)
        flip(largest(tmp_path / "restic/data", "*/*"))
        here = verify(parse(document, now=utc_now()), base=tmp_path / "s")
        result = judged_on(host, document, there)
        assert (result.verdict, result.reasons) == (here.verdict, here.reasons) == ("fail", ["repository"])
        assert [rung.number for rung in result.rungs] == [1]
        assert result.findings == here.findings

    @pytest.mark.slow
    def test_a_foreign_lock_is_an_error_and_stays(self, host: Target, there: Path, tmp_path: Path) -> None:
        document = sabotage.case(LOGICAL[0], tmp_path, by_restic)
        (tmp_path / "restic/locks" / ("0" * 64)).write_bytes(b"held by somebody")
        before = fingerprint(tmp_path)
        result = judged_on(host, document, there)
        assert (result.verdict, result.reasons) == ("error", ["locked"])
        assert fingerprint(tmp_path) == before

    def test_a_quota_holds_there(self, host: Target, there: Path, tmp_path: Path) -> None:
        document = sabotage.case(LOGICAL[0], tmp_path, by_tar)
        document["expect"]["scratch_quota_bytes"] = 1000
        assert judged_on(host, document, there).verdict == "error"


class TestTrouble:
    def test_a_case_that_cannot_mean_what_it_says_is_told(self, host: Target, there: Path) -> None:
        with pytest.raises(Misconfigured, match="there is no field"):
            judged_on(host, {"engine": "tar", "file": "/x.tar", "expect": {"rop_s": 1}}, there)

    @pytest.mark.slow
    def test_a_deadline_ends_the_test_there_and_what_it_restored(
        self, host: Target, there: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "slow").mkdir()
        document = {"engine": "tree", "repo": str(tmp_path / "slow"), "case": "slow"}
        sparse = tmp_path / "slow/large"
        with sparse.open("wb") as file:
            file.truncate(64 << 30)  # hashing it takes minutes
        result = judged_on(host, document, there, deadline=4)
        assert (result.verdict, result.reasons) == ("error", ["restore"])
        ends = time.monotonic() + 20
        while there.exists() and list(there.iterdir()) and time.monotonic() < ends:
            time.sleep(0.1)
        assert not there.exists() or list(there.iterdir()) == []

    def test_a_case_for_another_host_is_not_run_here(self, tmp_path: Path) -> None:
        document = {"engine": "tar", "file": str(tmp_path / "x.tar"), "on": "srv-1"}
        with pytest.raises(Misconfigured, match="srv-1"):
            verify(parse(document, now=utc_now()), base=tmp_path / "s")

    @pytest.mark.slow
    def test_the_secret_is_on_no_command_line_and_in_no_answer(self, host: Target, there: Path, tmp_path: Path) -> None:
        document = {**sabotage.case(LOGICAL[0], tmp_path, by_restic), "secret": "another-1ecret"}
        result = judged_on(host, document, there)
        assert (result.verdict, result.reasons) == ("error", ["key"])
        assert "another-1ecret" not in json.dumps(result.plain())
        assert "another-1ecret" not in away.SCRIPT


def test_the_tester_needs_nothing_but_python_itself(tmp_path: Path) -> None:
    """In an isolated interpreter that knows neither this project nor any package."""
    document = sabotage.case(LOGICAL[0], tmp_path, by_tar)
    boot = away.STARTER.encode()
    start = f"import sys; sys.path = [p for p in sys.path if 'site-packages' not in p and p != {str(Path.cwd())!r}]; "
    argv = [sys.executable, "-I", "-S", "-c", f"{start}exec(sys.stdin.buffer.read({len(boot)}))"]
    done = subprocess.run(argv, input=away.parcel(document), capture_output=True, cwd="/", check=False)
    assert b"\nmsp:" in done.stdout, done.stderr.decode()


def test_pictures_of_a_machine_that_was_started_there_come_back_and_strangers_do_not() -> None:
    shown, other = Picture("screen", b"\x89PNG one"), Picture("screen", b"\x89PNG another")
    rung = Rung(6, 1.0, (), (("picture", shown.sha256),))
    plain = Result("disk", "qcow2", "9", None, (rung,), pictures=(shown,)).plain()
    sent = [(one.name, base64.b64encode(one.png).decode()) for one in (shown, other)]
    assert away.result_of(plain, [0], sent).pictures == (shown,)
