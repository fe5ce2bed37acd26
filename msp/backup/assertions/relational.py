"""What every restored SQL database must answer: its tables, rows, columns, indexes, and how fresh it is."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from msp.backup.assertions.sqlite import judge
from msp.backup.case import Relational
from msp.backup.engine import Probed
from msp.backup.verdict import Finding

LARGEST = 5  # tables that are counted where no question was asked
ADVICE = "Look at the backup's job: which database, which options, did it end?"


@dataclass(frozen=True, slots=True)
class Answer:
    """The first column of the first row; None is SQL's null or no row. `error`: the server's words, if it refused."""

    value: str | None = None
    error: str = ""
    absent: bool = False  # the error says that there is no such table


class Server(Protocol):
    """A throwaway server that holds a restored database."""

    def ask(self, sql: str) -> Answer:
        """Run one question, read-only."""

    def size(self) -> tuple[int, int]:
        """Return how many tables the restored database holds, and its bytes."""

    def largest(self, most: int) -> list[str]:
        """Return the names of the largest tables, as `quoted` takes them."""

    def quoted(self, table: str) -> str:
        """Return a table's name, with or without its schema, as SQL."""

    def columns(self, table: str) -> set[str]:
        """Return the names of a table's columns; none if it is not there."""

    def index_fault(self, name: str) -> str:
        """Return what is wrong with an index ("missing", "not valid"), or nothing."""


def probe(server: Server, expect: Relational | None, now: datetime) -> Probed:
    """Ask the restored database everything that `expect` names; an empty database is never a success."""
    findings: list[Finding] = []
    figures: dict[str, object] = {}

    def wrong(what: str, where: str = "", reason: str = "application") -> None:
        findings.append(Finding(reason, what, where, ADVICE))

    figures["tables"], figures["database_bytes"] = server.size()
    if figures["tables"] == 0:
        wrong("The restored database holds no table.", reason="missing")
        wrong("The application would find an empty database.")
    if expect is None or expect == Relational(expect.database):  # nobody asked for anything: say what is there
        for name in server.largest(LARGEST):
            counted = server.ask(f"SELECT count(*) FROM {server.quoted(name)}")  # noqa: S608  quoted
            if counted.value is not None:
                figures[f"rows of {name}"] = int(counted.value)
    expect = expect or Relational()
    lost_tables = 0
    for name, least in expect.rows_min.items():
        count = server.ask(f"SELECT count(*) FROM {server.quoted(name)}")  # noqa: S608  quoted
        if count.value is None:
            lost_tables += 1
            wrong(f"The table {name} cannot be read: {count.error}.", name)
            if count.absent:
                wrong(f"The table {name} is missing.", name, "missing")
            continue
        figures[f"rows of {name}"] = int(count.value)
        if int(count.value) < least:
            wrong(f"The table {name} holds {count.value} rows, at least {least} were expected.", name)
    if expect.rows_min and lost_tables == len(expect.rows_min) and figures["tables"]:
        wrong("None of the expected tables is there, but others are: another database was dumped.", reason="identity")
    for name, columns in expect.columns.items():
        have = server.columns(name)
        if lost := [column for column in columns if column not in have]:
            wrong(f"The table {name} lacks the columns {', '.join(lost)}.", name)
    for name in expect.indexes:
        if fault := server.index_fault(name):
            wrong(f"The index {name} is {fault}.", name)
    age = None
    for query in (*expect.queries, *([expect.fresh] if expect.fresh else [])):
        answer = server.ask(query.query)
        if answer.error:
            wrong(f"The question cannot be answered: {answer.error}.", query.query)
            continue
        more, older = judge(query, answer.value, now, "")
        findings += more
        age = older if age is None else max(age, older or 0.0)
    return Probed(tuple(findings), age, figures)
