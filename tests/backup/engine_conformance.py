"""What every backup engine must hold to. Subclass it and supply `document`: a good backup of `tree`, by a real tool."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sabotage import Document, fingerprint, source, write_manifest

from msp.backup import engines
from msp.backup.case import parse
from msp.backup.engine import Restored
from msp.backup.manifest import walk
from msp.backup.process import Runner
from msp.backup.scratch import scratch
from msp.backup.verify import verify


class EngineConformance:
    """Fixtures to supply: `document(tree, tmp_path)`, the case of a good backup of `tree`."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        return source(tmp_path)

    def place(self, document: Document) -> Path:
        """Where the backup's data lie, which nobody may change."""
        return Path(document.get("repo") or document["file"])

    def restored(self, document: Document, work: Path) -> dict[bytes, tuple[str, str | None]]:
        """Restore through the engine's own methods; return path -> (type, checksum)."""
        case = parse(document, now=datetime.now(UTC))
        with scratch(work / "scratch") as space:
            engine = engines.engine(case.engine)(case, Runner(), space)
            try:
                assert engine.version()
                assert engine.check() == ()
                snapshot = engine.snapshots()[-1]
                result: Restored = engine.restore(snapshot, space.folder("restored"))
                assert result.findings == ()
                assert result.tree is not None
                return {entry.path: (entry.type, entry.sha256) for entry in walk(result.tree)}
            finally:
                engine.close()

    def test_restored_bytes_are_equal(self, document: Document, tree: Path, tmp_path: Path) -> None:
        assert self.restored(document, tmp_path) == {e.path: (e.type, e.sha256) for e in walk(tree)}

    def test_a_listing_names_what_a_restore_brings(self, document: Document, tree: Path, tmp_path: Path) -> None:
        case = parse(document, now=datetime.now(UTC))
        with scratch(tmp_path / "scratch") as space:
            engine = engines.engine(case.engine)(case, Runner(), space)
            listing = engine.listing(engine.snapshots()[-1])
            if listing is None:
                pytest.skip("this engine cannot list without restoring")
            sizes = sorted(item.size for item in listing if item.type == "-")
            engine.close()
        files = [entry for entry in walk(tree) if entry.type == "-"]
        assert len(sizes) == len(files)
        assert sum(sizes) == pytest.approx(sum(entry.size or 0 for entry in files), rel=0.01)

    def test_the_repository_is_never_changed(self, document: Document, tmp_path: Path) -> None:
        place = self.place(document)
        before = fingerprint(place)
        assert verify(parse(document, now=datetime.now(UTC)), base=tmp_path / "scratch").verdict == "pass"
        assert fingerprint(place) == before

    def test_nothing_is_left_in_scratch(self, document: Document, tmp_path: Path) -> None:
        verify(parse(document, now=datetime.now(UTC)), base=tmp_path / "scratch")
        assert list((tmp_path / "scratch").iterdir()) == []

    def test_a_small_quota_is_an_error_and_never_a_pass(self, document: Document, tmp_path: Path) -> None:
        expect = {**document.get("expect", {}), "scratch_quota_bytes": 1000}
        result = verify(parse({**document, "expect": expect}, now=datetime.now(UTC)), base=tmp_path / "scratch")
        assert (result.verdict, result.reasons) == ("error", ["quota"])

    def test_a_backup_that_is_gone_is_never_an_empty_success(self, document: Document, tmp_path: Path) -> None:
        place = self.place(document)
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        result = verify(parse(document, now=datetime.now(UTC)), base=tmp_path / "scratch")
        assert (result.verdict, result.reasons) == ("fail", ["missing"])

    def test_a_manifest_of_the_source_agrees(self, document: Document, tree: Path, tmp_path: Path) -> None:
        expect = {**document.get("expect", {}), "manifest": str(write_manifest(tree, tmp_path / "m.json"))}
        result = verify(parse({**document, "expect": expect}, now=datetime.now(UTC)), base=tmp_path / "scratch")
        assert (result.verdict, result.reasons) == ("pass", []), result.findings
