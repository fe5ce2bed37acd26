"""Bacula: director, storage and file daemon on loopback; backup, restore job, Verify jobs, and damaged volumes."""

import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import bacula
import pytest
from engine_conformance import EngineConformance
from sabotage import Document, cut, fingerprint, flip, source, write_manifest
from test_backup_faults import deserves, judged

from msp.backup.case import parse
from msp.backup.engines.bacula_console import Console, quoted
from msp.backup.process import Runner
from msp.backup.verify import verify
from msp.errors import Misconfigured

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,  # Bacula takes some seconds for each job, however small
    pytest.mark.xdist_group("bacula"),
    pytest.mark.skipif(bool(bacula.missing()), reason=bacula.missing() or "here"),
]


@pytest.fixture
def server(bacula_server: bacula.Bacula) -> bacula.Bacula:
    return bacula_server


def case(server: bacula.Bacula, **fields: object) -> Document:
    root = str(server.source).lstrip("/")
    return {"engine": "bacula", "repo": str(server.console), "client": bacula.CLIENT, "root": root, **fields}


class TestBacula(EngineConformance):
    @pytest.fixture
    def tree(self, server: bacula.Bacula) -> Path:  # type: ignore[override]
        return server.source

    @pytest.fixture
    def document(self, server: bacula.Bacula) -> Document:
        return case(server)

    def place(self, document: Document) -> Path:
        return Path(document["repo"]).parent / "volumes"

    def test_a_backup_that_is_gone_is_never_an_empty_success(self, document: Document, tmp_path: Path) -> None:
        volume = next(self.place(document).iterdir())
        away = volume.rename(tmp_path / "volume")
        try:
            deserves(judged(document, tmp_path), "fail", "missing")
        finally:
            shutil.move(away, volume)


@pytest.fixture
def volume(server: bacula.Bacula) -> Iterator[Path]:
    """The volume, to be damaged; whole again afterwards."""
    path = next(server.volumes.iterdir())
    whole = path.read_bytes()
    yield path
    path.write_bytes(whole)


class TestVolumes:
    def test_one_flipped_bit_is_told_with_how_much_came_back(
        self, server: bacula.Bacula, volume: Path, tmp_path: Path
    ) -> None:
        flip(volume)
        result = judged(case(server), tmp_path)
        deserves(result, "fail", "repository")
        told = next(finding.what for finding in result.findings if finding.reason == "restore")
        assert "restored 33." in told or "restored 34." in told, told
        assert "checksum mismatch" in told, told

    def test_a_cut_volume_fails_although_the_job_says_success(
        self, server: bacula.Bacula, volume: Path, tmp_path: Path
    ) -> None:
        cut(volume)
        deserves(judged(case(server), tmp_path), "fail", "repository")

    def test_a_verify_job_sees_a_damaged_volume_on_the_first_rung(
        self, server: bacula.Bacula, volume: Path, tmp_path: Path
    ) -> None:
        flip(volume)
        result = judged(case(server, verify_job="VerifyVolume"), tmp_path)
        deserves(result, "fail", "repository")
        assert [rung.number for rung in result.rungs] == [1]


class TestVerifyJobs:
    @pytest.mark.parametrize("job", ["VerifyVolume", pytest.param("VerifyData", marks=pytest.mark.slow)])
    def test_a_verify_job_of_a_good_volume_passes(self, job: str, server: bacula.Bacula, tmp_path: Path) -> None:
        deserves(judged(case(server, verify_job=job), tmp_path), "pass", None)

    def test_a_source_that_lives_on_is_no_fault_of_the_backup(self, server: bacula.Bacula, tmp_path: Path) -> None:
        new = server.source / "docs/new.txt"
        new.write_text("born after the backup\n")
        try:
            deserves(judged(case(server, verify_job="VerifyDisk"), tmp_path), "pass", None)
        finally:
            new.unlink()


class TestChoice:
    def test_the_manifest_agrees_although_times_lose_their_parts_of_seconds(
        self, server: bacula.Bacula, tmp_path: Path
    ) -> None:
        manifest = write_manifest(server.source, tmp_path / "manifest.json")
        expect = {"manifest": str(manifest), "host": "client-srv01", "rpo_s": 3600}
        deserves(judged(case(server, expect=expect), tmp_path), "pass", None)

    def test_a_root_named_as_the_folder_alone_is_found(self, server: bacula.Bacula, tmp_path: Path) -> None:
        deserves(judged({**case(server), "root": server.source.name}, tmp_path), "pass", None)

    def test_another_machine_is_an_identity_fault(self, server: bacula.Bacula, tmp_path: Path) -> None:
        deserves(judged(case(server, expect={"host": "client-srv02"}), tmp_path), "fail", "identity")

    def test_an_old_backup_breaks_the_recovery_point(self, server: bacula.Bacula, tmp_path: Path) -> None:
        document = case(server, expect={"rpo_s": 3600}, now=time.time() + 7200)
        deserves(judged(document, tmp_path), "fail", "rpo")

    @pytest.mark.parametrize("field", ["client", "restore_client"])
    def test_an_unknown_client_is_an_error_and_no_other_one_is_taken(
        self, field: str, server: bacula.Bacula, tmp_path: Path
    ) -> None:
        before = sorted(tmp_path.iterdir())
        deserves(judged(case(server, **{field: "nobody-fd"}), tmp_path), "error", "restore")
        assert [path for path in tmp_path.iterdir() if path.name != "scratch"] == before

    def test_a_job_that_never_ran_has_no_backup(self, server: bacula.Bacula, tmp_path: Path) -> None:
        deserves(judged(case(server, job="BackupOther"), tmp_path), "fail", "missing")

    def test_a_value_that_is_a_command_is_refused(self) -> None:
        with pytest.raises(Misconfigured):
            quoted('x" yes\nrun job=Evil')


class TestDirector:
    def test_a_wrong_password_is_an_error(self, server: bacula.Bacula, tmp_path: Path) -> None:
        text = re.sub('Password = ".*"', 'Password = "wrong"', server.console.read_text())
        (tmp_path / "b.conf").write_text(text)
        deserves(judged({**case(server), "repo": str(tmp_path / "b.conf")}, tmp_path), "error", "key")

    def test_a_director_that_is_not_there_and_a_lost_configuration_are_errors(
        self, server: bacula.Bacula, tmp_path: Path
    ) -> None:
        text = server.console.read_text().splitlines()
        (tmp_path / "b.conf").write_text("\n".join("DirPort = 1" if "DirPort" in line else line for line in text))
        deserves(judged({**case(server), "repo": str(tmp_path / "b.conf")}, tmp_path), "error", "repository")
        deserves(judged({**case(server), "repo": str(tmp_path / "no.conf")}, tmp_path), "error", "repository")

    def test_a_case_without_a_client_is_an_error(self, server: bacula.Bacula, tmp_path: Path) -> None:
        document = {name: value for name, value in case(server).items() if name != "client"}
        assert judged(document, tmp_path).verdict == "error"

    def test_an_abandoned_restore_is_cancelled(self, server: bacula.Bacula, volume: Path, tmp_path: Path) -> None:
        volume.rename(tmp_path / "away")  # so that the job waits
        console = Console(Runner(), server.console)
        where, numbers = tmp_path / "out/tree", list[int]()
        command = f'restore client={bacula.CLIENT} jobid=1 where="{where}" all done yes'

        def abandon() -> None:
            with console.started(command, where) as (number, _):
                numbers.append(number)
                (tmp_path / "out/tree/left").mkdir(parents=True)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            abandon()
        assert not (tmp_path / "out").exists()
        job = console.job(numbers[0])
        assert job is not None
        assert job.status == "A"


@pytest.mark.slow
def test_increments_are_restored_together_and_a_failed_job_is_told(tmp_path: Path) -> None:
    tree = source(tmp_path)
    with bacula.running(tmp_path / "bacula", tree) as server:
        server.back_up()
        time.sleep(1.1)  # Bacula looks at whole seconds
        (tree / "docs/report-01.txt").write_text("changed\n")
        (tree / "docs/new.txt").write_text("new\n")
        server.back_up("Incremental")
        manifest = write_manifest(tree, tmp_path / "manifest.json")
        document = case(server, expect={"manifest": str(manifest)})
        before = fingerprint(server.volumes)
        deserves(judged(document, tmp_path), "pass", None)
        assert fingerprint(server.volumes) == before
        older = judged({**case(server), "jobid": 1}, tmp_path)
        deserves(older, "pass", None)
        assert older.snapshot == "1"
        with server.catalogue() as catalogue:
            catalogue.execute("UPDATE Job SET JobStatus = 'f' WHERE JobId = 2")
        catalogue.close()
        result = verify(parse(case(server), now=datetime.now(UTC)), base=tmp_path / "scratch")
        deserves(result, "warn", "repository")
        assert result.snapshot == "1"
