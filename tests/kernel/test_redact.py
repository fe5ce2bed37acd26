"""Redaction: no form of a secret survives, and nothing else is lost."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msp.redact import Redactor, StreamRedactor

SECRETS = st.text(min_size=6, max_size=40).filter(lambda text: len(text.strip("* ")) >= 6 and "\x00" not in text)


@given(SECRETS, st.binary(max_size=20), st.binary(max_size=20))
def test_a_secret_is_masked_wherever_it_stands(secret: str, before: bytes, after: bytes) -> None:
    raw = secret.encode("utf-8", "surrogateescape") if secret.isascii() else secret.encode("utf-8", "surrogatepass")
    try:
        secret.encode()
    except UnicodeEncodeError:
        return
    assert raw not in Redactor([secret]).data(before + raw + after).replace(b"***", b"")


@pytest.mark.parametrize("pad", [b"", b"a", b"ab", b"abc", b"user:"])
@pytest.mark.parametrize("secret", ["hunter2-hunter2", "pässwörd-é", "a'b\"c$(d)e f"])
def test_every_base64_alignment_is_masked(secret: str, pad: bytes) -> None:
    shown = Redactor([secret]).data(base64.b64encode(pad + secret.encode() + b"tail"))
    core = base64.b64encode(secret.encode())[4:-6]
    assert b"***" in shown
    assert core not in shown or pad not in (b"", b"abc")


@pytest.mark.parametrize("secret", ["p@ss word/1", "a'b\"c", "zeile\nzwei-lang-genug"])
def test_url_json_hex_and_shell_forms_are_masked(secret: str) -> None:
    redactor = Redactor([secret])
    for form in (quote(secret, safe=""), json.dumps(secret)[1:-1], secret.encode().hex(), secret.replace("'", "'\\''")):
        assert redactor.text(f"<{form}>") == "<***>", form


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=8))
def test_a_secret_cut_by_chunks_is_still_masked(noise: list[bytes]) -> None:
    secret = "Zx9-sehr-geheim-Qy"
    whole = b"".join(noise[:4]) + secret.encode() + b"".join(noise[4:])
    stream, shown = StreamRedactor(Redactor([secret])), b""
    for at in range(0, len(whole), 5):
        shown += stream.feed(whole[at : at + 5])
    shown += stream.close()
    assert secret.encode() not in shown
    assert shown == whole.replace(secret.encode(), b"***")


def test_a_tree_is_masked_with_its_keys_and_keeps_its_shape() -> None:
    tree = {"k-topsecret": ["topsecret", 1, None, {"deep": "xtopsecretx"}]}
    assert Redactor(["topsecret"]).tree(tree) == {"k-***": ["***", 1, None, {"deep": "x***x"}]}


def test_without_secrets_nothing_changes() -> None:
    assert Redactor().data(b"\xff plain") == b"\xff plain"
    assert Redactor(["abc"]).text("abc") == "abc", "too short to be looked for"


def test_a_text_that_was_masked_is_masked_anew_when_a_secret_is_learned() -> None:
    redactor, text = Redactor(["first-secret"]), "first-secret and second-secret"
    assert [redactor.text(text), redactor.text(text)] == ["*** and second-secret"] * 2
    redactor.learn(["second-secret"])
    for known, masked in ((text, "*** and ***"), ("first-secret", "***"), (text, "*** and ***")):
        assert redactor.text(known) == masked
