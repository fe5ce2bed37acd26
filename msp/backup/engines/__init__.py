"""Backup engines by name. Ours are listed here; others register under the entry point group msp.backup_engines."""

import importlib

from msp import plugins
from msp.backup.engine import BackupEngine

GROUP = "msp.backup_engines"

#: name -> module:class, imported when used.
OWN = {
    "restic": "msp.backup.engines.restic:ResticEngine",
    "borg": "msp.backup.engines.borg:BorgEngine",
    "tar": "msp.backup.engines.tar:TarEngine",
    "tree": "msp.backup.engines.tree:TreeEngine",
    "pg_dump": "msp.backup.engines.postgres:PgDumpEngine",
    "pg_basebackup": "msp.backup.engines.basebackup:BaseBackupEngine",
    "mariadb_dump": "msp.backup.engines.mariadb:MariadbDumpEngine",
    "mariabackup": "msp.backup.engines.mariabackup:MariabackupEngine",
    "bacula": "msp.backup.engines.bacula:BaculaEngine",
    "qcow2": "msp.backup.engines.disk:DiskEngine",
    "raw": "msp.backup.engines.disk:DiskEngine",
    "vmdk": "msp.backup.engines.disk:DiskEngine",
    "vdi": "msp.backup.engines.disk:DiskEngine",
}


def names() -> list[str]:
    """Return the names of every engine known here, sorted."""
    return sorted({*OWN, *plugins.names(GROUP)})


def engine(name: str) -> type[BackupEngine]:
    """Return the engine's class; raises Misconfigured with the known names."""
    if name in OWN:
        module, _, attribute = OWN[name].partition(":")
        own: type[BackupEngine] = getattr(importlib.import_module(module), attribute)
        return own
    foreign: type[BackupEngine] = plugins.load(GROUP, name)
    return foreign
