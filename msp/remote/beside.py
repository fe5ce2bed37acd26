"""Files that stand beside a playbook: where they are, and whether they are still what a run was asked for with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msp.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Beside:
    """A playbook's folder, bound: only files as they were known count. known: SHA-256 of each, by resolved path."""

    folder: Path
    known: Mapping[Path, str]


Folder = Path | Beside


def find(folder: Folder, name: str, what: str) -> Path:
    """Return the file of a name beside a playbook. Raises Misconfigured for one that lies elsewhere."""
    root = (folder.folder if isinstance(folder, Beside) else folder).resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise Misconfigured(f"{what}: {name} lies outside the playbook's folder.")
    return path


def insist(folder: Folder, path: Path, sha256: str, what: str) -> None:
    """Raise Misconfigured for a file that is not as it was when the run was asked for, if that is known."""
    if isinstance(folder, Beside) and folder.known.get(path) != sha256:
        raise Misconfigured(
            f"{what}: {path.name} is not what the contract was asked for.", advice="Ask for the run again."
        )
