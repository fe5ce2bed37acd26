"""The walls of the house: layers hold, and a planted violation is caught."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lint(where: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False, env={"PYTHONPATH": ".:web"})


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "msp", target / "msp", ignore=shutil.ignore_patterns("__pycache__"))
    ignore = shutil.ignore_patterns("__pycache__", "static", "templates")
    shutil.copytree(ROOT / "web/msp_web", target / "web/msp_web", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


def test_import_contracts_are_kept(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("msp/contracts/money.py", "import msp.desk.tickets"),  # a lower room looks up
        ("msp/desk/lines.py", "import msp.dispatch.models"),  # a sibling
        ("msp/flows/handlers.py", "import dbos"),  # the durable engine outside its room
        ("msp/assets/impact.py", "import flask"),  # the web inside the product
        ("msp/contracts/clauses.py", "import sqlalchemy"),  # a database in a pure rule
    ],
)
def test_a_planted_violation_is_caught(copy: Path, module: str, line: str) -> None:
    path = copy / module
    before = path.read_text()
    path.write_text(before + f"\n{line}\n")
    try:
        done = lint(copy)
    finally:
        path.write_text(before)
    assert done.returncode != 0, f"{line} in {module} went unnoticed"


def test_no_file_has_outgrown_its_room() -> None:
    files = [path for path in [*ROOT.glob("msp/**/*.py"), *ROOT.glob("web/**/*.py")] if "versions" not in path.parts]
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: count for name, count in long.items() if count > 500} == {}


def test_every_module_with_tables_is_known_to_the_migrations() -> None:
    from msp.migrations import MODEL_MODULES

    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in ROOT.glob("msp/**/*.py")
        if "__tablename__ =" in path.read_text()
    }
    assert found == set(MODEL_MODULES)
