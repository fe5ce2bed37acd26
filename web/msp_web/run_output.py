"""What runs printed, as texts of any length: the file that keeps a whole stream, else both ends of it.

A stream has its file while the command still prints; its row comes with its end. What a file lacks is said in it.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

from flask import current_app
from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from msp.errors import NotFound
from msp.remote.models import Run, RunHost, StepResult
from msp_web.access import scoped, visible
from msp_web.long_text import Bytes, FileText, Joined, Lines, Text
from msp_web.unit import read_only

PHASES = ("connect", "probe", "do", "check", "undo")
STREAMS = ("stdout", "stderr")
REMEMBERED = 64  # texts whose lines stay counted


@dataclass(frozen=True, slots=True)
class Place:
    """Which stream of a run: of one phase of one step on one host; host None: all that the run printed."""

    run_id: int
    host_id: int | None = None
    step: int = 0
    phase: str = "do"
    attempt: int = 1
    stream: str = "stdout"


@dataclass(frozen=True, slots=True)
class Opened:
    """A text, the count of its lines so far, and whether nothing is added to it any more."""

    text: Text
    lines: Lines
    ended: bool
    name: str  # of a file to download


@dataclass(frozen=True, slots=True)
class _Ends:
    """What the database keeps of a stream, read when it is wanted. `sent`: bytes of the whole stream."""

    step_id: int
    stream: str
    head: int
    tail: int
    sent: int

    @property
    def size(self) -> int:
        return self.head + self.tail

    def read(self, offset: int, length: int) -> bytes:
        data = _kept(str(current_app.config["MSP_SETTINGS"].database_url), self.step_id, self.stream)
        return data[offset : offset + length]


@lru_cache(maxsize=64)
def _kept(_database: str, step_id: int, stream: str) -> bytes:
    with read_only() as session:
        columns = getattr(StepResult, f"{stream}_head"), getattr(StepResult, f"{stream}_tail")
        row = session.execute(select(*columns).where(StepResult.id == step_id)).one_or_none()
        return b"" if row is None else bytes(row[0]) + bytes(row[1])


_counted: OrderedDict[tuple[str, Place], Lines] = OrderedDict()
_lock = Lock()


def lines_of(place: Place) -> Lines:
    """Return the count of lines of a stream, which goes on from where it was."""
    key = str(current_app.config["MSP_SETTINGS"].data), place
    with _lock:
        found = _counted.setdefault(key, Lines())
        _counted.move_to_end(key)
        while len(_counted) > REMEMBERED:
            _counted.popitem(last=False)
    return found


def folder_of(run_id: int) -> Path:
    """Return where the whole output of a run is kept, if it is."""
    return Path(current_app.config["MSP_SETTINGS"].data) / "spool" / f"run-{run_id}"


def files_of(run_id: int, position: int) -> dict[tuple[int, str, int, str], Path]:
    """Return the files of one host of a run by (step, phase, attempt, stream)."""
    found = {}
    for path in sorted(folder_of(run_id).glob(f"{position:05d}-*")):
        stem, _, stream = path.name.rpartition(".")
        parts = stem.rsplit("-", 3)
        if len(parts) == 4 and stream in STREAMS and parts[1].isdecimal() and parts[3].isdecimal():
            found[int(parts[1]), parts[2], int(parts[3]), stream] = path
    return found


def _whole(ends: _Ends, path: Path | None) -> Text:
    """Return a stream that has ended: its file, with what the file lacks, else both ends."""
    file = FileText(path) if path else None
    tail = _Part(ends, ends.head, ends.tail)
    if file is not None and file.size:
        last = tail.read(max(ends.tail - 4096, 0), 4096)
        if file.read(max(file.size - len(last), 0), len(last)) == last:
            return file
        return Joined((file, _left_out(ends.sent - file.size - ends.tail), tail))
    if ends.sent <= ends.size:
        return ends
    return Joined((_Part(ends, 0, ends.head), _left_out(ends.sent - ends.size), tail))


def _left_out(count: int) -> Bytes:
    return Bytes(b"\n[... %d bytes left out ...]\n" % max(count, 0))


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a text."""

    text: Text
    begins: int
    size: int

    def read(self, offset: int, length: int) -> bytes:
        return self.text.read(self.begins + offset, max(min(length, self.size - offset), 0))


def open_place(session: Session, place: Place) -> Opened:
    """Return a stream through the gate; raises NotFound for what is not there or not the asking person's to see."""
    run = scoped(session, Run, place.run_id)
    over = run.finished_at is not None
    if place.host_id is None:
        return Opened(_everything(session, run), lines_of(place), over, f"run-{run.id}.txt")
    host = scoped(session, RunHost, place.host_id)
    if host.run_id != run.id or place.phase not in PHASES or place.stream not in STREAMS:
        raise NotFound("This run has no such output.", advice="Choose one of its cells.")
    name = f"run-{run.id}-host-{host.position}-step-{place.step}-{place.phase}-{place.attempt}.{place.stream}.txt"
    where = place.step, place.phase, place.attempt, place.stream
    path = files_of(run.id, host.position).get(where)
    rows = _rows(run.id, place.stream).where(
        StepResult.run_host_id == host.id,
        StepResult.step == place.step,
        StepResult.phase == place.phase,
        StepResult.attempt == place.attempt,
    )
    row = session.execute(visible(rows, StepResult)).one_or_none()
    if row is None:
        return Opened(FileText(path) if path else Bytes(b""), lines_of(place), over, name)
    return Opened(_whole(_ends(row, place.stream), path), lines_of(place), True, name)


def _rows(run_id: int, stream: str) -> Select[*tuple[Any, ...]]:
    """Select the phases of a run in the order in which they ended, without the bytes themselves."""
    head, tail = getattr(StepResult, f"{stream}_head"), getattr(StepResult, f"{stream}_tail")
    lengths = func.length(head).label("head"), func.length(tail).label("tail")
    sent = getattr(StepResult, f"{stream}_bytes").label("sent")
    names = StepResult.run_host_id, StepResult.step, StepResult.phase, StepResult.attempt, StepResult.name
    columns = select(StepResult.id, *names, StepResult.outcome, sent, *lengths)
    return columns.where(StepResult.run_id == run_id).order_by(StepResult.id)


def _ends(row: Row[*tuple[Any, ...]], stream: str) -> _Ends:
    return _Ends(row.id, stream, row.head, row.tail, row.sent)


def _everything(session: Session, run: Run) -> Text:
    """Return all that a run printed, in the order in which its phases ended, each under a line that names it."""
    hosts = visible(select(RunHost.id, RunHost.name, RunHost.position).where(RunHost.run_id == run.id), RunHost)
    known = {row.id: (row.name, row.position) for row in session.execute(hosts)}
    kept = folder_of(run.id).is_dir()
    files = {position: files_of(run.id, position) if kept else {} for _, position in known.values()}
    streams = [[(stream, row) for row in session.execute(_rows(run.id, stream))] for stream in STREAMS]
    parts: list[Text] = []
    for stream, row in chain.from_iterable(zip(*streams, strict=True)):
        if row.sent or row.head:
            host, position = known[row.run_host_id]
            path = files[position].get((row.step, row.phase, row.attempt, stream))
            title = f"== {host} · {row.step}. {row.name} · {row.phase} · {stream} · {row.outcome} ==\n"
            parts += (Bytes(title.encode()), _whole(_ends(row, stream), path), Bytes(b"\n"))
    return Joined(parts)
