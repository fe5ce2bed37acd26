"""What several engines need: the backup's file, and the restored tree below the case's root."""

import os
import pwd
from pathlib import Path
from typing import IO

from msp.backup.case import Case
from msp.backup.engine import Found
from msp.backup.scratch import Scratch
from msp.backup.verdict import Finding, Weight


def backup_file(case: Case) -> Path:
    """Return the backup's file; raises Found if there is none (missing), it is empty, or this machine cannot see it."""
    path = case.file or Path(case.repo or "")
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise Found(absent(path)) from None
    except OSError as error:
        what = f"{path} cannot be reached: {error.strerror}."
        raise Found(Finding("repository", what, advice="Check rights and mounts.", weight=Weight.ERROR)) from error
    if path.is_file() and size == 0:
        advice = "Look at the job that wrote it."
        raise Found(
            Finding("repository", f"{path} is empty.", advice=advice),
            Finding("missing", "There is nothing to restore.", advice=advice),
        )
    if path.is_file() and not os.access(path, os.R_OK):
        what = f"{path} may not be read by this account."
        raise Found(Finding("repository", what, advice="Give this account the right to read it.", weight=Weight.ERROR))
    return path


def absent(path: Path) -> Finding:
    """Return what a backup that is not there means: a fault, unless the disk it lies on is not there either."""
    if path.parent.is_dir():
        return Finding("missing", f"There is no backup at {path}.", advice="Look at the job that should write it.")
    what = f"{path.parent} is not there, so nothing can be said about the backup in it."
    return Finding("missing", what, advice="Mount the disk it lies on.", weight=Weight.ERROR)


def dump_damaged(what: str) -> tuple[Finding, ...]:
    """Return what a dump means that cannot be read to its end."""
    advice = "Take an older dump; look whether the job's disk was full."
    return (
        Finding("repository", f"The dump is damaged: {what}.", advice=advice),
        Finding("restore", "It cannot be restored to its end.", advice=advice),
    )


def copy_tree(source: Path, target: Path, scratch: Scratch) -> None:
    """Copy plain files and folders below `source` into the folder `target`, which may hold none of them.

    Raises QuotaExceeded before anything is written, and Found for links and the like, which no server's backup needs.
    """
    entries = [(Path(place), folders, names) for place, folders, names in os.walk(source)]
    odd = [p / name for p, folders, names in entries for name in (*folders, *names) if not _plain(p / name)]
    if odd:
        what = f"The backup holds {len(odd)} links or devices; what they stand for is not in it."
        raise Found(Finding("hostile", what, str(odd[0]), "Back up what lies behind the link, and do not start this."))
    scratch.require(sum((p / name).stat().st_size for p, _, names in entries for name in names))
    for place, folders, names in entries:
        below = target / place.relative_to(source)
        for name in folders:
            (below / name).mkdir(mode=0o700)
        for name in names:
            with (place / name).open("rb") as old, (below / name).open("xb") as new:
                _pour(old, new)


def _plain(path: Path) -> bool:
    return not path.is_symlink() and (path.is_file() or path.is_dir())


def _pour(old: IO[bytes], new: IO[bytes]) -> None:
    """Copy a file; the kernel does it where it can."""
    try:
        while os.copy_file_range(old.fileno(), new.fileno(), 1 << 30):
            pass
    except OSError:
        while block := old.read(1 << 20):
            new.write(block)


def give(tree: Path, who: pwd.struct_passwd | None) -> None:
    """Make a restored tree the property of the account that a server runs as; None: it is ours and stays so."""
    if who is None:
        return
    for place, folders, names in os.walk(tree):
        for name in (".", *folders, *names):
            os.chown(os.path.join(place, name), who.pw_uid, who.pw_gid, follow_symlinks=False)  # noqa: PTH118


def tree_below(into: Path, root: str, paths: tuple[str, ...]) -> Path:
    """Return the restored root; raises Found if the snapshot does not hold it.

    paths: what the snapshot was made of. A root given relative to the place where the backup ran is looked up there.
    """
    candidates = [root, *(path.strip("/") for path in paths if root and path.rstrip("/").endswith(f"/{root}"))]
    for candidate in candidates:
        tree = into.joinpath(*candidate.split("/")) if candidate else into
        if tree.is_dir() and not tree.is_symlink() and tree.resolve().is_relative_to(into.resolve()):
            return tree
    what = f"The snapshot holds no folder {root!r}."
    raise Found(Finding("missing", what, ", ".join(paths), "Look what the backup job includes."))
