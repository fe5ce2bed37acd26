"""An installation from nothing, and to a new version: our schema and that of the durable engine together."""

from msp import db, migrations
from msp.engine import runtime
from msp.settings import Settings


def prepare(settings: Settings) -> bool:
    """Create or complete the database and return whether it was empty before. Puts it in use."""
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    return upgrade(settings).before is None


def upgrade(settings: Settings) -> migrations.Upgraded:
    """Bring the database to this version, copying an SQLite file into `data`/backups first."""
    done = migrations.upgrade(settings.database_url, copies=settings.data / "backups")
    runtime.prepare(settings.database_url)
    db.use(settings.database_url)
    return done
