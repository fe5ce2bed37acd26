"""A plan that is opened to be changed and saved as it was asserts what it asserted."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from msp.backup import case_fields, drafts
from msp.backup.case import Case, Expect, Query, Relational, parse
from msp.backup.models import BackupDraft
from msp.clock import utc_now
from msp.errors import Misconfigured

NOW = utc_now()
LONG = "/srv/" + "x" * 1200
COUNT = {"path": "shop.db", "query": "select count(*) from orders"}
NAMES = st.sampled_from(["a", "b|c", "b", "postgres", "tables", "columns", "Straße", " x "])


def opened(case: dict[str, Any], trial: tuple[dict[str, Any], ...] = ()) -> BackupDraft:
    """A draft that changes a plan of this case; trial: what its first restore would assert, each with yes."""
    engine = parse(case, now=NOW).engine
    said, rest, kept = drafts.taken_apart(case, engine)
    answers = {"name": "n", "engine": engine, "case": said, "rest": rest, "kept": [one.plain() for one in kept]}
    questions = [{"kind": "rows", "words": "?", "figures": {}, "expect": expect} for expect in trial]
    return BackupDraft(answers=answers, trial={"questions": questions})


def same(case: dict[str, Any]) -> Case:
    """What a test reads of a case, but for its name, the order of its questions, and which word says the folder."""
    read = parse({**case, "case": "n"}, now=NOW)

    def ordered(queries: tuple[Query, ...]) -> tuple[Query, ...]:
        return tuple({repr(query): query for query in sorted(queries, key=repr)}.values())

    def database(value: Relational | None) -> Relational | None:
        if value is None:
            return None
        return replace(value, queries=ordered(value.queries), indexes=tuple(sorted(set(value.indexes))))

    expect: Expect = replace(
        read.expect,
        sqlite=ordered(read.expect.sqlite),
        postgres=database(read.expect.postgres),
        mariadb=database(read.expect.mariadb),
    )
    place = {"repo": read.location, "file": None} if read.engine == "tree" else {}
    return replace(read, expect=expect, **place)  # type: ignore[arg-type]


numbers = st.integers(0, 10**13) | st.floats(0, 10**9) | st.just(0.5)
bounds = st.fixed_dictionaries({}, optional={
    "min": st.integers(0, 3), "max": st.integers(3, 5) | st.none(), "equals": st.sampled_from([None, "x", 7]),
    "fresh_within_s": st.integers(1, 9), "within_s": st.integers(1, 9), "x-why": st.just("so"),
})  # fmt: skip
sqlite = st.builds(lambda path, query, more: {"path": path, **query, **more}, st.sampled_from(["a.db", "b.db"]),
                   st.sampled_from([{}, {"query": "q"}, {"query": "p"}]), bounds)  # fmt: skip
asked = st.builds(lambda sql, more: {"sql": sql, **more}, st.sampled_from(["q", "p"]), bounds)
relational = st.fixed_dictionaries({}, optional={
    "database": st.sampled_from(["shop", LONG, "", None]),
    "tables": st.dictionaries(NAMES, st.just({}) | st.none() | st.builds(dict, rows_min=st.integers(0, 9)), max_size=3),
    "columns": st.dictionaries(NAMES, st.lists(NAMES, unique=True, max_size=3), max_size=3),
    "indexes": st.lists(NAMES, max_size=3), "queries": st.lists(asked, max_size=4), "fresh": asked,
})  # fmt: skip
expects = st.fixed_dictionaries({}, optional={
    "host": st.sampled_from(["srv", " srv", "", LONG]), "rpo_s": numbers, "rto_s": numbers,
    "scratch_quota_bytes": st.integers(0, 10**15), "max_rss_mb": st.integers(1, 99) | st.none(),
    "target_os": st.sampled_from(["Windows", "LINUX", "macos"]), "manifest": st.sampled_from(["/m.json", LONG, "m "]),
    "baseline": st.just({}) | st.just({"files": 3, "bytes": 9}), "sqlite": st.lists(sqlite, max_size=5),
    "postgres": relational, "mariadb": relational, "live": st.just({"root": "/srv", "on": "one"}),
    "boot": st.builds(lambda more: {"marker": "login:", **more}, st.fixed_dictionaries({}, optional={
        "timeout_s": st.sampled_from([1, 1.5, 300]), "memory_mb": st.just(512), "x-who": st.just("anna")})),
})  # fmt: skip
ENGINES = ["restic", "borg", "tar", "tree", "pg_dump", "pg_basebackup", "mysqldump", "mariabackup", "bacula", "qcow2",
           "of-a-plug-in"]  # fmt: skip
cases = st.builds(
    lambda engine, place, more, expect: {"engine": engine, **place, **more, "expect": expect},
    st.sampled_from(ENGINES),
    st.fixed_dictionaries(
        {"repo": st.sampled_from(["/r", LONG, "", None]), "file": st.sampled_from(["/f", "/f ", LONG, "", None])}
    ),
    st.fixed_dictionaries({}, optional={
        "root": st.sampled_from(["data", "", " data", LONG]), "format": st.sampled_from(["Directory", "PLAIN", "odd"]),
        "sha256": st.just("A" * 64), "rungs": st.just([1, 4]), "on": st.just("one"), "x-note": st.just([1]),
        "client": st.just("fd"), "jobid": st.just(7), "job": st.just("nightly "),
    }),
    expects,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(cases)
@example({"engine": "tar", "file": "/f", "expect": {"target_os": "Windows", "rpo_s": 0.5, "manifest": LONG}})
@example({"engine": "pg_dump", "file": "/f", "format": "Directory", "expect": {"postgres": {"database": "shop"}}})
@example({"engine": "tar", "file": "/f", "expect": {"sqlite": [{**COUNT, "min": 5}, {**COUNT, "max": 10}]}})
@example({"engine": "tar", "file": "/f", "expect": {"sqlite": [{**COUNT, "min": 5}, {**COUNT, "min": 8}]}})
@example({"engine": "tree", "repo": "/r", "file": "", "expect": {"scratch_quota_bytes": 1_500_000_000_001}})
def test_a_plan_opened_and_saved_asserts_what_it_asserted(case: dict[str, Any]) -> None:
    try:
        before = same(case)
    except Misconfigured:  # no plan is stored like that
        return
    draft = opened(case)
    assert same(drafts.document(draft)) == before
    again = drafts.document(opened(drafts.document(draft)))
    assert same(again) == before


def test_the_form_shows_what_it_says_and_what_is_typed_counts_before_what_stood() -> None:
    case = {"engine": "pg_dump", "file": "/f", "format": "Directory", "expect": {"rto_s": 0.5, "rpo_s": 3600}}
    draft = opened(case)
    shown = case_fields.shown(draft.answers["case"], "pg_dump")
    assert (shown["format"], shown["expect.rto_s"], shown["expect.rpo_s"]) == ("directory", "", "1")
    typed, faults = case_fields.read("pg_dump", {**shown, "expect.rto_s": "2"})
    drafts.answer(draft, NOW, case=typed)
    assert (drafts.document(draft)["expect"], faults) == ({"rto_s": 7200, "rpo_s": 3600}, {})


@pytest.mark.parametrize(
    ("stood", "found", "after"),
    [
        ([{"min": 5}], {"min": 9}, [{"min": 9}]),
        ([{"min": 5}, {"max": 10}], {"min": 9}, [{"min": 9}, {"max": 10}]),
        ([{"within_s": 5}], {"fresh_within_s": 9}, [{"fresh_within_s": 9}]),
        ([{"min": 5, "max": 10}], {"min": 9}, [{"min": 5, "max": 10}, {"min": 9}]),
    ],
)
def test_a_question_of_the_first_restore_replaces_one_with_the_same_bounds(
    stood: list[dict[str, int]], found: dict[str, int], after: list[dict[str, int]]
) -> None:
    case = {"engine": "tar", "file": "/f", "expect": {"sqlite": [{**COUNT, **one} for one in stood]}}
    draft = opened(case, ({"sqlite": [{**COUNT, **found}]},))
    assert drafts.document(draft)["expect"]["sqlite"] == [{**COUNT, **one} for one in after]


def test_a_start_that_is_no_longer_asked_for_leaves_nothing() -> None:
    draft = opened({"engine": "raw", "file": "/f", "expect": {"boot": {"marker": "login:", "timeout_s": 1.5}}})
    assert drafts.document(draft)["expect"] == {"boot": {"marker": "login:", "timeout_s": 1.5}}
    drafts.answer(draft, NOW, case={"engine": "raw", "file": "/f"})
    assert "expect" not in drafts.document(draft)
