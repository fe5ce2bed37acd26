"""The rules of consoles: tickets, ends, what is masked, what is recorded, what a viewer of screens may say."""

import json
import re
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msp.errors import NotFound
from msp.remote.consoles import recordings, rfb, rules, tickets
from msp.remote.consoles.cast import CastRecorder
from msp.remote.consoles.masking import Masker, SameLength
from msp.remote.consoles.recordings import CannotRecord, Tape
from msp.remote.consoles.rfb_tape import RfbRecorder
from msp.remote.consoles.rules import Limits, Standing, must_end

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
TICKET = tickets.Ticket(7, 3, 42, 9, "terminal", "full", "abc123", NOW + timedelta(seconds=30))
SECRET = "hunter2-Secret!"


# --- tickets -----------------------------------------------------------------------------------------------------
def test_a_ticket_says_what_it_was_signed_for() -> None:
    assert tickets.read(KEY, tickets.sign(KEY, TICKET), NOW) == TICKET


def test_a_ticket_is_good_for_thirty_seconds_and_no_longer() -> None:
    text = tickets.sign(KEY, TICKET)
    assert tickets.read(KEY, text, NOW + timedelta(seconds=30)) == TICKET
    with pytest.raises(tickets.BadTicket, match="too old"):
        tickets.read(KEY, text, NOW + timedelta(seconds=31))


def test_a_ticket_signed_with_another_key_opens_nothing() -> None:
    with pytest.raises(tickets.BadTicket, match="no ticket of ours"):
        tickets.read(KEY, tickets.sign(OTHER_KEY, TICKET), NOW)


@given(st.integers(0, 400), st.characters(codec="ascii"))
def test_a_ticket_changed_in_any_place_opens_nothing(place: int, letter: str) -> None:
    text = tickets.sign(KEY, TICKET)
    place %= len(text)
    changed = text[:place] + letter + text[place + 1 :]
    try:
        assert tickets.read(KEY, changed, NOW) == TICKET  # the same bits written in another way
    except tickets.BadTicket:
        assert changed != text


@pytest.mark.parametrize(
    "text", ["", ".", "a.b", "\u0430.\u0431", "é.é", "x" * 100_000, "bm90IGpzb24.AAAA", "..", "=.="]
)
def test_what_is_no_ticket_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(tickets.BadTicket, match="no ticket of ours"):
        tickets.read(KEY, text, NOW)


# --- ends --------------------------------------------------------------------------------------------------------
LIMITS = Limits(timedelta(minutes=15), NOW + timedelta(hours=4))


@pytest.mark.parametrize(
    ("standing", "at", "typed", "how"),
    [
        (Standing(), NOW, NOW, None),
        (Standing(withdrawn_by="max"), NOW, NOW, "withdrawn"),
        (Standing(withdrawn_by="anna", closed=True), NOW, NOW, "closed"),
        (Standing(active=False), NOW, NOW, "not_allowed"),
        (Standing(refusal="Not at night."), NOW, NOW, "not_allowed"),
        (Standing(), NOW + timedelta(minutes=15), NOW, "idle"),
        (Standing(), NOW + timedelta(minutes=14, seconds=59), NOW, None),
        (Standing(), LIMITS.ends_by, LIMITS.ends_by, "limit"),
        (Standing(withdrawn_by="max"), LIMITS.ends_by, NOW, "withdrawn"),  # the gravest reason is told
    ],
)
def test_a_console_ends_when_its_records_or_its_limits_say_so(
    standing: Standing, at: datetime, typed: datetime, how: str | None
) -> None:
    end = must_end(standing, LIMITS, at, typed)
    assert (end.how if end else None) == how
    assert end is None or (end.how in rules.ENDS and end.detail.endswith("."))


def test_a_console_ends_with_the_window_of_its_clause_if_that_closes_first() -> None:
    hour = timedelta(hours=1)
    assert rules.latest(NOW, 4 * hour, NOW + hour) == NOW + hour
    assert rules.latest(NOW, 4 * hour, NOW + 9 * hour) == NOW + 4 * hour
    assert rules.latest(NOW, 4 * hour, None) == NOW + 4 * hour


def test_looking_only_wins_over_working() -> None:
    assert [rules.narrower(a, b) for a in ("view", "full") for b in ("view", "full")] == [
        "view",
        "view",
        "view",
        "full",
    ]


# --- masking -----------------------------------------------------------------------------------------------------
CONTROLS = st.sampled_from(
    [b"\x1b[0m", b"\x1b[1;31m", b"\x1b[K", b"\r\n", b" \r", b"\x1b]0;title\x07", b"\x1b(B", b"\x08"]
)
VISIBLE = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b\(B|\r\n| \r|\x08")


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """Yield `data` cut where a network might."""
    last = 0
    for cut in sorted({cut % (len(data) + 1) for cut in cuts}):
        yield data[last:cut]
        last = cut
    yield data[last:]


def masked(secrets: list[str], data: bytes, cuts: list[int]) -> bytes:
    masker = Masker(secrets)
    return b"".join(masker.feed(piece) for piece in pieces(data, cuts)) + masker.close()


@given(
    before=st.binary(max_size=30),
    within=st.lists(st.tuples(st.integers(1, len(SECRET) - 1), CONTROLS), max_size=4),
    after=st.binary(max_size=30),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
@example(before=b"$ ", within=[(5, b" \r"), (9, b"\x1b[K")], after=b"", cuts=[4, 8, 9, 10])
def test_a_secret_is_masked_wherever_the_terminal_breaks_it(
    before: bytes, within: list[tuple[int, bytes]], after: bytes, cuts: list[int]
) -> None:
    shown = SECRET.encode()
    for place, control in sorted(within, reverse=True):
        shown = shown[:place] + control + shown[place:]
    before, after = before.replace(b"\x1b", b""), after.replace(b"\x1b", b"")  # a sequence may swallow what follows it
    found = masked([SECRET], before + shown + after, cuts)
    assert SECRET.encode() not in VISIBLE.sub(b"", found)
    assert b"***" in found


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
@example(b"$ ls \r\n\x1b[0m hunter\x1b]0;x\x1b", [1, 2, 3])
def test_what_holds_no_secret_is_kept_byte_for_byte(data: bytes, cuts: list[int]) -> None:
    assert masked([SECRET, "another-one"], data, cuts) == data


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "title \x1b]2;{}\x07",
        "hex 68756e746572322d53656372657421",
        "base64 aHVudGVyMi1TZWNyZXQh",
        "hunter2-Secret%21",
    ],
)
def test_every_form_of_a_secret_is_masked_also_in_a_title(form: str) -> None:
    found = masked([SECRET], form.format(SECRET).encode(), [5, 9])
    assert b"***" in found
    assert b"Secret" not in found
    assert b"74657232" not in found


def test_a_prompt_is_not_held_back() -> None:
    masker = Masker([SECRET])
    assert masker.feed(b"root@host:~# ") == b"root@host:~# "
    assert masker.feed(b"echo hun") == b"echo "
    assert masker.feed(b"dred") == b"hundred"


@given(st.binary(max_size=40), st.binary(max_size=40), st.lists(st.integers(0, 100), max_size=6))
def test_bytes_of_a_protocol_keep_their_length(before: bytes, after: bytes, cuts: list[int]) -> None:
    masker, data = SameLength([SECRET]), before + SECRET.encode() + after
    found = b"".join(masker.feed(piece) for piece in pieces(data, cuts)) + masker.close()
    assert len(found) == len(data)
    assert SECRET.encode() not in found


# --- recordings --------------------------------------------------------------------------------------------------
class Clock:
    """A clock that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def recorder(folder: Path, clock: Clock, limit: int = 1_000_000) -> CastRecorder:
    tape = Tape(folder, "2026-11/console-1.cast", limit)
    return CastRecorder(tape, columns=80, rows=24, title="box", began=NOW, secrets=[SECRET], clock=clock)


def test_a_terminal_is_recorded_as_asciicast_with_secrets_masked_and_a_hash(tmp_path: Path) -> None:
    clock = Clock()
    cast = recorder(tmp_path, clock)
    cast.output(b"$ ")
    clock.now += 1.5
    cast.output("naïve \xff ".encode("latin-1"))
    cast.resized(100, 30)
    clock.now += 1
    cast.output(b"hunter2-")
    cast.output(b"Secret!\r\n")
    recorded = cast.close()
    path = tmp_path / recorded.name
    head, *events = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert (head["version"], head["width"], head["height"], head["timestamp"]) == (2, 80, 24, int(NOW.timestamp()))
    assert events == [[0.0, "o", "$ "], [1.5, "o", "na\ufffdve \ufffd "], [1.5, "r", "100x30"], [2.5, "o", "***\r\n"]]
    assert recorded.milliseconds == 2500
    assert (recorded.size, recorded.sha256) == (path.stat().st_size, recordings.digest_of(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "2026-11").stat().st_mode & 0o077 == 0


def test_a_letter_of_two_bytes_may_come_in_two_pieces(tmp_path: Path) -> None:
    cast = recorder(tmp_path, Clock())
    cast.output("ж".encode()[:1])
    cast.output("ж".encode()[1:])
    name = cast.close().name
    assert json.loads((tmp_path / name).read_text().splitlines()[1])[2] == "ж"


def print_without_end(cast: CastRecorder) -> None:
    for _ in range(100):
        cast.output(b"x" * 50)


def test_a_recording_that_reaches_its_limit_says_so_and_is_still_hashed(tmp_path: Path) -> None:
    cast = recorder(tmp_path, Clock(), limit=400)
    with pytest.raises(CannotRecord, match="reached its limit"):
        print_without_end(cast)
    recorded = cast.close()
    assert recorded.size <= 400
    assert recorded.sha256 == recordings.digest_of(tmp_path / recorded.name)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_recording_in_a_sentence(tmp_path: Path) -> None:
    cast = recorder(tmp_path, Clock())
    with files_of_at_most(1000), pytest.raises(CannotRecord, match="cannot be written"):
        print_without_end(cast)
    recorded = cast.close()
    assert recorded.sha256 == recordings.digest_of(tmp_path / recorded.name)


def test_no_console_opens_when_the_recordings_fill_their_quota(tmp_path: Path) -> None:
    recordings.require_room(tmp_path / "none yet", 10)
    (tmp_path / "a").write_bytes(b"x" * 10)
    with pytest.raises(CannotRecord, match="no console opens unrecorded"):
        recordings.require_room(tmp_path, 10)


@pytest.mark.parametrize("name", ["", "../etc/passwd", "gone.cast"])
def test_only_files_within_the_folder_are_recordings(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound):
        recordings.path_of(tmp_path, name)


def test_a_screen_is_recorded_as_its_stream_with_pictures_beside_it(tmp_path: Path) -> None:
    clock = Clock()
    tape = Tape(tmp_path, "2026-11/console-2.rfb", 10_000)
    film = RfbRecorder(tape, tmp_path / "2026-11" / "console-2", secrets=[SECRET], clock=clock)
    film.heard(b"RFB 003.008\n")
    clock.now += 2
    film.picture(b"\x89PNG first")
    film.heard(b"\x03\0\0\0" + struct.pack(">I", len(SECRET)) + SECRET.encode())
    recorded = film.close()
    data = (tmp_path / recorded.name).read_bytes()
    assert data[:20] == struct.pack(">II", 0, 12) + b"RFB 003.008\n"
    assert struct.unpack_from(">II", data, 20) == (2000, 8 + len(SECRET))
    assert SECRET.encode() not in data
    assert (tmp_path / "2026-11" / "console-2" / "2000.png").read_bytes() == b"\x89PNG first"
    assert (recorded.pictures, len(recorded.pictures_sha256)) == (1, 64)


# --- what a viewer of screens may say ----------------------------------------------------------------------------
def cut_text(size: int, extended: bool = False) -> bytes:
    return b"\x06\0\0\0" + struct.pack(">i", -size if extended else size) + b"c" * size


MESSAGES = st.one_of(
    st.binary(min_size=19, max_size=19).map(lambda rest: b"\x00" + rest),
    st.lists(st.sampled_from(sorted(rfb.ENCODINGS | rfb.LEVELS)), max_size=30).map(rfb.asking_for),
    st.binary(min_size=9, max_size=9).map(lambda rest: b"\x03" + rest),
    st.binary(min_size=7, max_size=7).map(lambda rest: b"\x04" + rest),
    st.binary(min_size=5, max_size=5).map(lambda rest: b"\x05" + rest),
    st.builds(cut_text, st.integers(0, 300), st.booleans()),
    st.binary(min_size=9, max_size=9).map(lambda rest: b"\x96" + rest),
    st.binary(max_size=64).map(lambda rest: b"\xf8" + b"\0" * 7 + bytes([len(rest)]) + rest),
    st.binary(min_size=3, max_size=3).map(lambda rest: b"\xfa" + rest),
    st.integers(0, 3).map(lambda n: b"\xfb" + b"\0" * 5 + bytes([n, 0]) + b"s" * 16 * n),
    st.binary(min_size=10, max_size=10).map(lambda rest: b"\xff\0" + rest),
)


@given(st.lists(MESSAGES, max_size=20), st.lists(st.integers(0, 2000), max_size=20), st.sampled_from(["view", "full"]))
def test_the_gate_passes_whole_messages_and_holds_back_what_acts(said: list[bytes], cuts: list[int], mode: str) -> None:
    gate = rfb.Gate(mode)
    passed = b"".join(gate.feed(piece) for piece in pieces(b"".join(said), cuts))
    held_back = {4, 5, 6, 250, 251, 255} if mode == "view" else {250}
    assert passed == b"".join(message for message in said if message[0] not in held_back)
    assert gate.acted == any(message[0] in {4, 5, 6, 251, 255} for message in said)


def test_a_viewer_is_not_given_what_could_not_be_read() -> None:
    asked = rfb.asking_for([7, 0, -316, -309, struct.unpack(">i", bytes.fromhex("c0a1e5ce"))[0], 50, -313, 12345])
    assert rfb.Gate("full").feed(asked) == rfb.asking_for([7, 0, -313])


@pytest.mark.parametrize(
    "said", [b"\x07", b"\xfe", b"\x01\0", b"\xff\x01\0\0", cut_text(0)[:4] + struct.pack(">i", 2**30)]
)
@pytest.mark.parametrize("mode", ["view", "full"])
def test_what_the_gate_cannot_read_ends_it(said: bytes, mode: str) -> None:
    with pytest.raises(rfb.NotRfb):
        rfb.Gate(mode).feed(said + b"\0" * 20)


def test_many_small_messages_cost_no_more_than_their_bytes() -> None:
    gate = rfb.Gate("view")
    assert gate.feed(b"\x05\0\0\1\0\1" * 170_000) == b""  # a megabyte; quadratic work would take minutes
