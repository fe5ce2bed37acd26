"""What the engines of databases have in common: a throwaway server is filled, asked, and stopped at the end."""

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from msp.backup.assertions.mariadb import Server
from msp.backup.assertions.postgres import Cluster
from msp.backup.case import Case
from msp.backup.engine import Found, Listed, Probed, Restored, Snapshot
from msp.backup.engines.packed import DAMAGED, unpacked
from msp.backup.engines.shared import backup_file, dump_damaged
from msp.backup.process import Done, Runner
from msp.backup.scratch import QuotaExceeded, Scratch
from msp.backup.verdict import Finding

ZONES = timedelta(hours=14)  # no two clocks on Earth are further apart
ADVICE = "Take an older backup; look at the job's log and at the disk the backup lies on."


@dataclass
class DatabaseEngine:
    """One backup is one snapshot; what it restores is a server that runs until `close`."""

    case: Case
    runner: Runner
    scratch: Scratch
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)

    def listing(self, snapshot: Snapshot) -> Iterator[Listed] | None:
        return None

    def boot(self, restored: Restored) -> Probed | None:
        return None

    def close(self) -> None:
        self._stack.close()

    def within_quota(self, files: Iterable[Path]) -> None:
        """Raise QuotaExceeded if the data of a database that is being loaded grow beyond what the test may use."""
        if self.scratch.quota is None:
            return
        size = 0
        for file in files:
            with contextlib.suppress(OSError):
                size += file.stat().st_size
        if size > self.scratch.quota:
            raise QuotaExceeded(
                f"The restored database needs more than the {self.scratch.quota} bytes the test may use.",
                advice="Raise scratch_quota_bytes.",
            )

    def load(
        self,
        server: Cluster | Server,
        argv: list[str],
        wanted: Callable[[IO[bytes]], Iterator[bytes]],
        *,
        env: dict[str, str],
        watch: Callable[[], None],
    ) -> Done:
        """Feed the dump, unpacked, to a client of `server`, and return how the client ended.

        wanted: yields the pieces of a dump that are to be loaded. Raises Found for a damaged dump, and what `watch`
        and `wanted` raise.
        """
        trouble: list[Exception] = []

        def feed(into: IO[bytes]) -> None:
            try:
                with into, unpacked(backup_file(self.case), self.runner, self.scratch.room()) as (stream, _):
                    for piece in wanted(stream):
                        into.write(piece)
            except BrokenPipeError:
                pass  # the client stopped at an error; its status says so
            except DAMAGED as error:
                trouble.append(Found(*dump_damaged(str(error))))
            except Exception as error:  # noqa: BLE001  raised again below; in this thread nobody would see it
                trouble.append(error)

        with self.runner.reading(
            argv,
            stdin=subprocess.PIPE,
            account=server.who,
            env={"HOME": str(server.folder), **env},
            cwd=server.folder,
            watch=watch,
        ) as reading:
            feeder = threading.Thread(target=feed, args=(reading.process.stdin,))
            feeder.start()
            for _ in reading.chunks():
                pass
            feeder.join()
        if trouble:
            raise trouble[0]
        return reading.done()


def dated(file: Path, said: str | None) -> datetime:
    """Return when a backup was made, by its file's date and the local time that it says itself.

    The zone of that time is the old server's and unknown, so what it says counts only where a copy gave the file
    another day. said: ISO 8601, or None.
    """
    when = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    with contextlib.suppress(ValueError):
        began = datetime.fromisoformat(said or "").replace(tzinfo=UTC)
        return min(when, began) if abs(when - began) > ZONES else when
    return when


def damaged(what: str) -> tuple[Finding, ...]:
    """Return what a physical backup means that is not whole."""
    return (
        Finding("repository", f"The backup is damaged: {what}.", advice=ADVICE),
        Finding("restore", "It cannot be restored to its end.", advice=ADVICE),
    )
