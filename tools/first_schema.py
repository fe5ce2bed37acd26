"""Write revision 0001 anew from the models. Only until the first release; afterwards every change is a revision."""

import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command

from msp import db, migrations

VERSIONS = Path(migrations.__file__).parent / "versions"


def main() -> int:
    for old in VERSIONS.glob("0001_*.py"):
        old.unlink()
    if list(VERSIONS.glob("0*.py")):
        print("there are later revisions; add one instead")
        return 1
    migrations.import_models()
    with tempfile.TemporaryDirectory() as folder:
        config = migrations.configuration()
        config.attributes["database"] = database = db.use(f"sqlite:///{folder}/empty.db")
        command.revision(config, message="The first schema", autogenerate=True, rev_id="0001")
        database.dispose()
    for words in (["format", "--quiet"], ["check", "--quiet", "--fix"]):
        subprocess.run([str(Path(sys.executable).with_name("ruff")), *words, str(VERSIONS)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
