"""Migrate an empty database and ask Alembic whether the models differ from it. Usage: check_migrations.py URL"""

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.util import CommandError

from msp import db, migrations


def main(url: str) -> int:
    migrations.upgrade(url, copies=Path(tempfile.gettempdir()))
    config = migrations.configuration()
    config.attributes["database"] = db.current()
    try:
        command.check(config)
    except CommandError as error:
        print(error)
        return 1
    finally:
        db.current().dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
