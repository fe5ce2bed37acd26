"""Plug-ins by entry points: one line in a package's metadata adds a transport or a backup engine."""

from importlib.metadata import entry_points
from typing import Any

from msp.errors import Misconfigured


def names(group: str) -> list[str]:
    """Return the names registered in a group (`msp.transports`, `msp.backup_engines`), sorted."""
    return sorted(point.name for point in entry_points(group=group))


def load(group: str, name: str) -> Any:
    """Return what is registered as `name`, importing only that. Raises Misconfigured with the known names."""
    for point in entry_points(group=group):
        if point.name == name:
            return point.load()
    kind = group.removeprefix("msp.").replace("_", " ").rstrip("s")
    raise Misconfigured(f"There is no {kind} named {name!r}.", advice=f"Known: {', '.join(names(group)) or 'none'}.")
