"""An installation from nothing, and to a new version: our schema and that of the durable engine together."""

from msp import db, migrations
from msp.engine import runtime
from msp.errors import Misconfigured
from msp.settings import Settings


def prepare(settings: Settings) -> bool:
    """Create or complete the database and return whether it was empty before. Puts it in use."""
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Misconfigured(
            f"The folder {settings.data} cannot be made: {error.strerror}.", advice="Set `data` to another folder."
        ) from error
    return upgrade(settings).before is None


def upgrade(settings: Settings) -> migrations.Upgraded:
    """Bring the database to this version, copying an SQLite file into `data`/backups first."""
    done = migrations.upgrade(settings.database_url, copies=settings.data / "backups")
    runtime.prepare(settings.database_url)
    db.use(settings.database_url)
    return done
