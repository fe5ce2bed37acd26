"""Every engine that restores trees passes the same suite, against real repositories."""

import shutil
from pathlib import Path

import pytest
from engine_conformance import EngineConformance
from sabotage import NOW, Document, by_borg, by_copy, by_restic, by_tar


class TestTar(EngineConformance):
    @pytest.fixture
    def document(self, tree: Path, tmp_path: Path) -> Document:
        return {**by_tar(tree, tmp_path), "now": NOW}


class TestTree(EngineConformance):
    @pytest.fixture
    def document(self, tree: Path, tmp_path: Path) -> Document:
        return {**by_copy(tree, tmp_path), "now": NOW}


@pytest.mark.server
@pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
class TestRestic(EngineConformance):
    @pytest.fixture
    def document(self, tree: Path, tmp_path: Path) -> Document:
        return {**by_restic(tree, tmp_path), "now": NOW}


@pytest.mark.server
@pytest.mark.skipif(shutil.which("borg") is None, reason="borgbackup is not installed")
class TestBorg(EngineConformance):
    @pytest.fixture
    def document(self, tree: Path, tmp_path: Path) -> Document:
        return {**by_borg(tree, tmp_path), "now": NOW}
