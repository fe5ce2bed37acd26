"""What a run printed, at any length: windows, search and downloads answer truly and in time, to nobody else."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from clicking import Browser
from flask import Flask
from sqlalchemy import select

from msp import db
from msp.clock import utc_now
from msp.remote.models import Run, RunHost, StepResult
from msp.settings import Settings
from msp_web.long_text import BLOCK, CLIP, Bytes, Joined, Lines, pattern

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]
MILLION = 1_000_000


def printed(count: int) -> bytes:
    """Return `count` lines that say their number."""
    return b"".join(b"%07d Kopiere \xc3\x9cbersicht nach srv-fs1\n" % number for number in range(count))


@pytest.fixture(scope="module")
def million() -> bytes:
    return printed(MILLION)


@pytest.fixture
def running(app: Flask, ids: Ids) -> tuple[int, int]:
    """A run at work on one host, which has printed nothing yet: (run, host)."""
    with db.begin() as session:
        run = Run(
            client_id=ids["bravo"]["client_id"], playbook="Copy", playbook_version="1", digest="ab" * 32, document="{}",
            action_class="read", actor="tech@provider.example", state="running", parallel=50, requested_at=utc_now(),
            started_at=utc_now(),
        )  # fmt: skip
        session.add(run)
        session.flush()
        host = RunHost(run_id=run.id, asset_id=ids["bravo"]["asset_id"], name="srv", position=0, state="running")
        session.add(host)
        session.flush()
        return run.id, host.id


def spool_of(settings: Settings, run_id: int) -> Path:
    folder = settings.data / "spool" / f"run-{run_id}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "00000-srv-1-do-1.stdout"


@pytest.fixture
def browser(log_in: LogIn) -> Browser:
    return log_in("tech@provider.example")


def at(run_id: int, host_id: int, what: str, **values: object) -> str:
    more = "".join(f"&{name}={value}" for name, value in values.items())
    return f"/runs/{run_id}/log/{what}?host={host_id}&step=1&phase=do&stream=stdout{more}".replace("+", "%2B")


def end(run_id: int, host_id: int, data: bytes, *, head: int = 65536, tail: int = 65536) -> None:
    """Store the result of the step that printed `data`."""
    short = len(data) <= head + tail
    with db.begin() as session:
        session.add(
            StepResult(
                run_id=run_id, run_host_id=host_id, step=1, phase="do", name="copy", outcome="ok",
                stdout_head=data if short else data[:head], stdout_tail=b"" if short else data[-tail:],
                stdout_bytes=len(data), started_at=utc_now(), finished_at=utc_now(),
            )
        )  # fmt: skip
        run = session.get_one(Run, run_id)
        run.state, run.finished_at = "succeeded", utc_now()


def test_a_million_lines_answer_by_window_and_by_search(
    browser: Browser, settings: Settings, running: tuple[int, int], million: bytes
) -> None:
    run_id, host_id = running
    file = spool_of(settings, run_id)
    file.write_bytes(million)
    said = browser.get(at(run_id, host_id, "lines", line=499_999, count=3)).get_json()
    while not said["complete"]:  # a slow machine counts in several turns
        said = browser.get(at(run_id, host_id, "lines", line=499_999, count=3)).get_json()
    assert said["total"] == MILLION
    assert [line[:7] for line in said["lines"]] == ["0499999", "0500000", "0500001"]
    by_offset = browser.get(at(run_id, host_id, "lines", **{"from": million.index(b"0654321") + 9, "count": 1}))
    assert (by_offset.get_json()["first"], by_offset.get_json()["lines"][0][:7]) == (654_321, "0654321")
    last = browser.get(at(run_id, host_id, "lines", line=MILLION - 1)).get_json()
    assert (len(last["lines"]), last["after"]) == (1, len(million))

    def find(words: str, **values: object) -> int | None:
        said = browser.get(at(run_id, host_id, "find", q=words, **values)).get_json()
        while said["line"] is None and said["stopped"] is not None:
            said = browser.get(at(run_id, host_id, "find", q=words, **values, **{"from": said["stopped"]})).get_json()
        line = said["line"]
        assert line is None or isinstance(line, int)
        return line

    assert find("0999999 KOPIERE", line=0) == 999_999
    assert find("0000007 kopiere", line=MILLION, back=1) == 7
    assert find("no such words", line=0) is None
    assert find("übersicht", line=31_337) == 31_337
    assert find("ÜBERSICHT", line=31_337, back=1) == 31_336
    file.unlink()


def test_a_lost_connection_goes_on_where_it_was_without_a_gap(
    browser: Browser, settings: Settings, running: tuple[int, int]
) -> None:
    run_id, host_id = running
    file, data = spool_of(settings, run_id), printed(9000)
    seen: list[str] = []
    offset = 0
    for portion in (1000, 150_007, 150_008, 200_000, len(data)):  # in the middle of lines, and of a letter
        file.write_bytes(data[:portion])
        answer = browser.get(at(run_id, host_id, "live"), headers={"Last-Event-ID": str(offset)})
        assert answer.mimetype == "text/event-stream"
        found = re.search(r"^id: (\d+)$", answer.text, re.MULTILINE)
        assert found is not None
        assert int(found[1]) == portion
        while offset < portion:
            said = browser.get(at(run_id, host_id, "lines", **{"from": offset})).get_json()
            del seen[said["first"] :]  # the line that was open
            seen += said["lines"]
            offset = said["after"]
    assert "\n".join(seen) + "\n" == data.decode()
    assert "id:" not in browser.get(at(run_id, host_id, "live"), headers={"Last-Event-ID": str(offset)}).text
    end(run_id, host_id, data)
    answer = browser.get(at(run_id, host_id, "live"), headers={"Last-Event-ID": str(offset)})
    assert answer.status_code == 204, "an ended log asks a page to stop asking"


def test_a_log_is_downloaded_while_it_is_written(
    browser: Browser, settings: Settings, running: tuple[int, int]
) -> None:
    run_id, host_id = running
    data = b"\x1b[31m\xff" + printed(20_000)
    spool_of(settings, run_id).write_bytes(data)
    answer = browser.get(at(run_id, host_id, "file"))
    assert answer.data == data
    assert answer.content_length == len(data)
    assert "attachment" in answer.headers["Content-Disposition"]
    assert "being printed now" in browser.get(f"/runs/{run_id}/hosts/{host_id}").text


def test_without_a_file_both_ends_are_shown_with_what_is_missing(browser: Browser, running: tuple[int, int]) -> None:
    run_id, host_id = running
    data = printed(9000)
    end(run_id, host_id, data)
    said = browser.get(at(run_id, host_id, "lines", line=0)).get_json()
    assert said["ended"]
    whole = browser.get(at(run_id, host_id, "file")).data
    note = b"\n[... %d bytes left out ...]\n" % (len(data) - 2 * 65536)
    assert whole == data[:65536] + note + data[-65536:]
    found = browser.get(at(run_id, host_id, "find", q="bytes left out", line=0)).get_json()
    assert found["line"] == whole.count(b"\n", 0, whole.index(b"[..."))


def test_a_file_that_a_quota_cut_is_followed_by_the_end_that_was_kept(
    browser: Browser, settings: Settings, running: tuple[int, int]
) -> None:
    run_id, host_id = running
    data = printed(9000)
    spool_of(settings, run_id).write_bytes(data[:200_000])
    end(run_id, host_id, data)
    whole = browser.get(at(run_id, host_id, "file")).data
    assert whole.startswith(data[:200_000] + b"\n[... ")
    assert whole.endswith(b" bytes left out ...]\n" + data[-65536:])


def test_the_whole_run_is_one_log_with_a_line_that_names_each_step(browser: Browser, running: tuple[int, int]) -> None:
    run_id, host_id = running
    end(run_id, host_id, b"one\ntwo")
    said = browser.get(f"/runs/{run_id}/log/lines").get_json()
    assert said["lines"] == ["== srv · 1. copy · do · stdout · ok ==", "one", "two"]


def test_escapes_are_text_and_are_found_as_they_are_shown(
    browser: Browser, settings: Settings, running: tuple[int, int]
) -> None:
    run_id, host_id = running
    spool_of(settings, run_id).write_bytes(b"plain\n\x1b[31mred <b>bold</b>\xff\r\n")
    page = browser.get(at(run_id, host_id, "").replace("/log/", "/log")).text
    assert "\\x1b[31mred &lt;b&gt;" in page
    assert "\x1b" not in page
    assert browser.get(at(run_id, host_id, "lines")).get_json()["lines"][1] == "\\x1b[31mred <b>bold</b>\\xff"
    assert browser.get(at(run_id, host_id, "find", q="\\x1b[31m", line=0)).get_json()["line"] == 1
    assert browser.get(at(run_id, host_id, "find", q="\\xff", line=0)).get_json()["line"] == 1
    assert browser.get(at(run_id, host_id, "find", q="", line=0)).get_json()["line"] is None
    assert browser.get(at(run_id, host_id, "find", q="x" * 201, line=0)).status_code == 422


def test_a_log_of_a_foreign_client_or_another_run_is_not_there(
    log_in: LogIn, browser: Browser, settings: Settings, running: tuple[int, int], ids: Ids
) -> None:
    run_id, host_id = running
    spool_of(settings, run_id).write_bytes(b"bravo's own words\n")
    foreign = log_in("limited@provider.example")
    for what in ("lines", "find", "file", "live"):
        answer = foreign.get(at(run_id, host_id, what, q="own"))
        assert answer.status_code == 404
        assert "own words" not in answer.text
        assert browser.get(at(ids["alfa"]["run_id"], host_id, what, q="own")).status_code == 404
        assert browser.get(at(run_id, host_id, what, q="own").replace("=do", "=..%2f")).status_code == 404
    assert browser.get(f"/runs/{run_id}/log").status_code == 200
    with db.read() as session:
        assert session.scalars(select(RunHost.id).where(RunHost.run_id == run_id)).one() == host_id


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_lines_agree_with_splitting_the_whole_text(size: int) -> None:
    data = (b"a\n\n" + b"b" * 61 + b"\n" + "ж".encode() * 9 + b"\n") * (size // 20 + 1)
    data = data[:size]
    text, lines = Joined((Bytes(data[: size // 3]), Bytes(b""), Bytes(data[size // 3 :]))), Lines()
    lines.catch_up(text, seconds=60)
    whole = data.decode("utf-8", "backslashreplace").split("\n")
    whole = whole[:-1] if whole[-1] == "" else whole
    assert (lines.total, lines.size, lines.complete) == (len(whole), size, True)
    for first in {0, 1, len(whole) // 2, max(len(whole) - 2, 0), len(whole)}:
        assert [line.text for line in lines.window(text, first, 5)[0]] == whole[first : first + 5]
        assert lines.line_at(text, lines.start_of(text, first)) == first or first >= len(whole)


def test_one_endless_line_is_cut_for_the_page_and_the_next_one_is_found() -> None:
    data = b"x" * (9 * BLOCK) + b"needle\nafter\n"
    text, lines = Bytes(data), Lines()
    lines.catch_up(text)
    shown, after = lines.window(text, 0, 10)
    assert [(len(line.text), line.cut) for line in shown] == [(CLIP, 9 * BLOCK + 6 - CLIP), (5, 0)]
    assert after == len(data)
    assert lines.find(text, "needle", 0).line == 0
    assert lines.find(text, "after", 0).line == 1


def test_a_search_that_runs_out_of_time_says_where_to_go_on() -> None:
    text, lines = Bytes(b"." * 5_000_000 + b"end"), Lines()
    lines.catch_up(text)
    hit, turns = lines.find(text, "end", 0, seconds=0), 1
    while hit.stopped is not None:
        hit, turns = lines.find(text, "end", hit.stopped, seconds=0), turns + 1
    assert (hit.offset, turns) == (5_000_000, 5)


@pytest.mark.parametrize("words", ["a.b", "[x]", "Ñandú", "\\x1b[0m"])
def test_a_pattern_means_its_words(words: str) -> None:
    for said in (words, words.upper().replace("\\X1B", "\\x1b"), words.lower()):
        assert pattern(words).search(f"<{said}>".encode())
    assert not pattern(words).search(b"axb x 0m")
