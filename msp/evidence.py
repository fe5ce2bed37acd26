"""Evidence: who did what to which thing, when; append-only, one hash chain per client.

A record's digest covers its canonical JSON and the digest before it, so a changed, removed or inserted
record breaks the chain at a place that can be named. Each client has a chain of its own (the provider's own
acts stand in chain 0): a client can verify everything about itself without seeing anybody else.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Dialect, Index, TypeDecorator, UniqueConstraint, bindparam, event, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from msp.clock import utc_now
from msp.db import Model
from msp.errors import Conflict, NotFound

GENESIS = "0" * 64
PROVIDER = 0  # the chain of acts that concern no client


class EvidenceHead(Model):
    """The end of one chain. Appending locks this row, so a chain cannot fork."""

    __tablename__ = "evidence_head"
    chain: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int]
    digest: Mapped[str]


class Evidence(Model):
    """One act. Never updated, never deleted."""

    __tablename__ = "evidence"
    __table_args__ = (
        UniqueConstraint("chain", "seq"),
        Index("ix_evidence_subject", "subject_kind", "subject_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    chain: Mapped[int]  # client id, or PROVIDER
    seq: Mapped[int]  # 1, 2, 3 ... within the chain
    at: Mapped[datetime]
    actor: Mapped[str]  # log-in name, "worker", "cli", "portal:..."
    kind: Mapped[str]  # past tense: run.requested, step.finished, restore.proved
    subject_kind: Mapped[str]  # ticket, run, restore_test, ...
    subject_id: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    previous: Mapped[str]
    digest: Mapped[str]


class _Written(TypeDecorator[str]):
    """JSON that is in its text already: what was hashed is stored, and not written once more."""

    impl, cache_ok = JSON, True

    def bind_processor(self, dialect: Dialect) -> None:
        return None


_HEADS: Any = EvidenceHead.__table__
_RECORDS: Any = Evidence.__table__
#: Past the session: a fleet at work appends many times a second, and nothing of this is looked at again.
_LOCKED = select(_HEADS.c.seq, _HEADS.c.digest).where(_HEADS.c.chain == bindparam("of")).with_for_update()
_MOVED = update(_HEADS).where(_HEADS.c.chain == bindparam("of")).values(seq=bindparam("to"), digest=bindparam("by"))


@event.listens_for(Evidence, "before_update")
@event.listens_for(Evidence, "before_delete")
def _refuse(*_: Any) -> None:
    raise Conflict("Evidence is never changed.", advice="Append a record that corrects it.")


@dataclass(frozen=True, slots=True)
class Break:
    """A place where a chain does not hold."""

    chain: int
    seq: int
    what: str


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value: keys sorted, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _stored(text: bytes, data: Any) -> str:
    """Return the text that a database keeps of JSON: it takes no half of a character, which ASCII can still say."""
    return text.decode("ascii") if text.isascii() else json.dumps(data)


def digest_of(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 over a record's fields as exported (without its own digest)."""
    return _digest(record, canonical(record["data"]))


def _digest(record: Mapping[str, Any], data: bytes) -> str:
    """Return the digest of a record whose data is in its canonical text; its other keys sort before and after it."""
    before, after = (canonical({key: record[key] for key in keys}) for keys in (_BEFORE, _AFTER))
    return hashlib.sha256(b"".join((before[:-1], b',"data":', data, b",", after[1:]))).hexdigest()


EXPORTED = ("chain", "seq", "at", "actor", "kind", "subject_kind", "subject_id", "data", "previous", "digest")
_BEFORE = tuple(key for key in EXPORTED if key < "data")
_AFTER = tuple(key for key in EXPORTED if key > "data" and key != "digest")


_APPENDED = (
    insert(_RECORDS)
    .values({key: bindparam(key, type_=_Written() if key == "data" else None) for key in EXPORTED})
    .returning(_RECORDS.c.id)
)


def exported(record: Evidence) -> dict[str, Any]:
    """Return a record as plain JSON values, as it is hashed and given to a client."""
    plain = {key: getattr(record, key) for key in EXPORTED}
    plain["at"] = record.at.astimezone(UTC).isoformat(timespec="microseconds")
    return plain


def record(
    session: Session,
    kind: str,
    *,
    actor: str,
    subject: tuple[str, Any],
    client_id: int | None = None,
    data: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> Evidence:
    """Append one act to the chain of `client_id` and return it; commits with the caller's transaction.

    subject: (kind, id) of the thing acted on. data: JSON values without secrets (the caller has redacted them).
    """
    chain = client_id or PROVIDER
    session.flush()
    connection = session.connection()
    head = connection.execute(_LOCKED, {"of": chain}).one_or_none()
    if head is None:  # two first records at once: one of them fails here and is retried by its caller
        connection.execute(insert(_HEADS), {"chain": chain, "seq": 0, "digest": GENESIS})
    seq, previous = head or (0, GENESIS)
    whole = dict(data or {})
    text = canonical(whole)
    entry = Evidence(
        chain=chain,
        seq=seq + 1,
        at=at or utc_now(),
        actor=actor,
        kind=kind,
        subject_kind=subject[0],
        subject_id=str(subject[1]),
        data=whole,
        previous=previous,
        digest="",
    )
    entry.digest = _digest(exported(entry), text)
    stored = {key: getattr(entry, key) for key in EXPORTED} | {"data": _stored(text, whole)}
    entry.id = connection.scalar(_APPENDED, stored)
    connection.execute(_MOVED, {"of": chain, "to": entry.seq, "by": entry.digest})
    return entry


def hold(session: Session, client_id: int | None) -> None:
    """Let nobody else append to the chain of a client until we commit; taken before other locks, as by `record`."""
    session.connection().execute(_LOCKED, {"of": client_id or PROVIDER})


def check(
    records: Iterable[Mapping[str, Any]],
    *,
    chain: int | None = None,
    head: tuple[int, str] | None = None,
    start: tuple[int, str] = (0, GENESIS),
) -> Iterator[Break]:
    """Yield every break of one chain of exported records, in order of `seq`. Pure: works on a client's own file.

    chain: whose records they must be (default: the first record's). head: (seq, digest) at which the chain must end,
    if known; it catches records cut off at the end. start: (seq, digest) of the record before the first one.
    """
    previous, expected = start[1], start[0] + 1
    for entry in records:
        chain, seq = entry["chain"] if chain is None else chain, entry["seq"]
        if entry["chain"] != chain:
            yield Break(chain, seq, f"belongs to chain {entry['chain']}")
        elif seq != expected:
            yield Break(chain, seq, f"record {expected} is missing")
        elif entry["previous"] != previous:
            yield Break(chain, seq, "does not follow the record before it")
        try:
            if digest_of(entry) != entry["digest"]:
                yield Break(chain, seq, "was changed: its digest does not match")
        except (KeyError, TypeError, ValueError):
            yield Break(chain, seq, "was changed: it is not a whole record")
        previous, expected = entry["digest"], seq + 1
    if head is not None and head != (expected - 1, previous):
        yield Break(chain or PROVIDER, head[0], "the end of the chain is missing")


def verify(session: Session, chains: Iterable[int] | None = None) -> tuple[int, list[Break]]:
    """Return (records read, breaks) over the given chains, or over all. Reads the stored rows as they are."""
    heads = {chain: (seq, digest) for chain, seq, digest in session.execute(select(_HEADS))}
    known = set(heads) | set(session.scalars(select(Evidence.chain).distinct()))
    count, breaks = 0, []
    for chain in sorted(known if chains is None else known & set(chains)):

        def rows(chain: int = chain) -> Iterator[dict[str, Any]]:
            nonlocal count
            query = select(Evidence).where(Evidence.chain == chain).order_by(Evidence.seq)
            for entry in session.scalars(query.execution_options(yield_per=1000)):
                count += 1
                yield exported(entry)

        breaks += list(check(rows(), chain=chain, head=heads.get(chain, (0, GENESIS))))
    return count, breaks


def lines(session: Session, chain: int) -> Iterator[str]:
    """Yield one chain as JSON lines, oldest first; the last line, `{"head": [seq, digest]}`, is where it must end."""
    query = select(Evidence).where(Evidence.chain == chain).order_by(Evidence.seq)
    for entry in session.scalars(query.execution_options(yield_per=1000)):
        yield canonical(exported(entry)).decode("utf-8", "surrogatepass") + "\n"
    head = session.get(EvidenceHead, chain, populate_existing=True)
    yield canonical({"head": [head.seq, head.digest] if head else [0, GENESIS]}).decode() + "\n"


def lines_between(session: Session, chain: int, start: datetime, end: datetime) -> Iterator[str]:
    """Yield the records of a span of time as JSON lines.

    The first line, `{"start": [seq, digest]}`, is the record before them: the head of the file of the span before.
    """
    query = select(Evidence).where(Evidence.chain == chain)
    before = session.scalar(query.where(Evidence.at < start).order_by(Evidence.seq.desc()).limit(1))
    last = session.scalar(query.where(Evidence.at < end).order_by(Evidence.seq.desc()).limit(1))
    first = (before.seq, before.digest) if before else (0, GENESIS)
    yield canonical({"start": first}).decode() + "\n"
    until = last.seq if last else 0  # by place in the chain, not by time: clocks of several workers differ a little
    span = query.where(Evidence.seq > first[0], Evidence.seq <= until).order_by(Evidence.seq)
    for entry in session.scalars(span.execution_options(yield_per=1000)):
        yield canonical(exported(entry)).decode("utf-8", "surrogatepass") + "\n"
    yield canonical({"head": [last.seq, last.digest] if last and until > first[0] else first}).decode() + "\n"


def export(session: Session, chain: int, path: Path) -> int:
    """Write one chain to a file for its client and return the number of records. Raises NotFound for the file."""
    count = -1
    try:
        with path.open("w", encoding="utf-8", errors="surrogatepass") as file:
            for line in lines(session, chain):
                file.write(line)
                count += 1
    except OSError as error:
        raise NotFound(f"{path} cannot be written: {error.strerror}.", advice="Name a file in a folder.") from error
    return count


def verify_file(path: Path) -> tuple[int, list[Break]]:
    """Return (records read, breaks) of an exported file. Needs no database and no key: the client runs it."""
    try:
        with path.open(encoding="utf-8", errors="surrogatepass") as file:
            return verify_lines(file)
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.", advice="Name the exported file.") from error
    except UnicodeDecodeError:
        return 0, [Break(PROVIDER, 1, "was changed: the file is not text")]


def verify_lines(lines: Iterable[str]) -> tuple[int, list[Break]]:
    """Return (records read, breaks) of the lines of an exported file."""
    records: list[dict[str, Any]] = []
    head: tuple[int, str] | None = None
    start = (0, GENESIS)
    try:
        for number, line in enumerate(lines, 1):
            value = json.loads(line)
            if "head" in value:
                head = (int(value["head"][0]), str(value["head"][1]))
            elif "start" in value and number == 1:
                start = (int(value["start"][0]), str(value["start"][1]))
            elif not set(EXPORTED) <= set(value):
                return len(records), [Break(PROVIDER, number, "was changed: it is not a whole record")]
            else:
                records.append(value)
    except UnicodeDecodeError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError):
        return len(records), [Break(PROVIDER, len(records) + 1, "was changed: the line is not a record")]
    if head is None:
        return len(records), [Break(PROVIDER, len(records), "the end of the chain is missing")]
    return len(records), list(check(records, head=head, start=start))
