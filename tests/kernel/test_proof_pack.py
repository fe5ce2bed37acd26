"""A proof pack is a plain ZIP archive, the same bytes every time, and one changed byte anywhere is found and named."""

import io
import random
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from msp import evidence, proof_pack
from msp.errors import Misconfigured

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
FILES = {"proof.json": b'{"a":1}', "proof.pdf": b"%PDF" + bytes(200), "pictures/7.png": b"\x89PNG", "empty": b""}


def a_pack() -> bytes:
    return proof_pack.build(FILES, about={"client": "Alfa", "period": "2026-10"}, key=KEY)


def test_any_unzip_program_opens_it_and_the_same_files_give_the_same_bytes() -> None:
    data = a_pack()
    assert data == proof_pack.build(
        dict(reversed(FILES.items())), about={"period": "2026-10", "client": "Alfa"}, key=KEY
    )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()[2:]} == FILES
    found = proof_pack.verify(data)
    assert (found.whole, found.files, found.about) == (True, 4, {"client": "Alfa", "period": "2026-10"})
    assert found.key == proof_pack.fingerprint(KEY.public_key().public_bytes_raw())


def test_every_single_byte_counts_and_its_place_is_named() -> None:
    data, generator = a_pack(), random.Random(7)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        spans = {
            info.filename: (info.header_offset + 30 + len(info.filename), info.file_size) for info in archive.infolist()
        }
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= generator.randrange(1, 256)
        found = proof_pack.verify(bytes(changed))
        assert not found.whole, at
        inside = [name for name, (begin, size) in spans.items() if begin <= at < begin + size]
        if inside:
            assert any(inside[0] in fault for fault in found.faults), (at, found.faults)
        else:
            assert any("archive" in fault or "MANIFEST.json" in fault for fault in found.faults), (at, found.faults)


@settings(deadline=None)
@given(st.data())
def test_bytes_cut_off_added_or_moved_are_found(data: st.DataObject) -> None:
    whole = a_pack()
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert not proof_pack.verify(whole[:cut]).whole
    assert not proof_pack.verify(whole + data.draw(st.binary(min_size=1, max_size=40))).whole
    extra = data.draw(st.binary(min_size=1, max_size=4))
    changed = whole[:cut] + extra + whole[cut:]
    assert not proof_pack.verify(changed).whole


def test_a_pack_made_anew_by_another_key_differs_from_the_fingerprint_that_was_told() -> None:
    ours = proof_pack.verify(a_pack()).key
    forged = proof_pack.build(FILES, about={"client": "Alfa"}, key=Ed25519PrivateKey.generate())
    assert proof_pack.verify(forged).whole
    assert "another key" in proof_pack.verify(forged, expected_key=ours).faults[0]
    assert proof_pack.verify(a_pack(), expected_key=ours).whole


def test_a_broken_chain_is_found_even_in_a_pack_that_was_signed() -> None:
    head = evidence.canonical({"head": [3, "0" * 64]}) + b"\n"
    data = proof_pack.build({proof_pack.CHAIN: head}, about={}, key=KEY)
    assert "the end of the chain is missing" in proof_pack.verify(data).faults[0]


def test_what_is_no_pack_is_told() -> None:
    for wrong in (b"", b"PK", b"PK\3\4" + bytes(26), b"hello world" * 20):
        assert not proof_pack.verify(wrong).whole
    with pytest.raises(Misconfigured):
        proof_pack.read_key("zz")
