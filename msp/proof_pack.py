"""Proof packs: files that a client keeps and verifies for itself, offline, without this product's database. Pure.

A pack is a ZIP archive. MANIFEST.json comes first and names every file with size and SHA-256, and the key; then its
Ed25519 signature (RFC 8032) in MANIFEST.sig; then the files. One byte changed anywhere is found, and its place named.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from msp import evidence, stored_zip
from msp.errors import Misconfigured

FORMAT = "proof-pack/1"
MANIFEST, SIGNATURE, CHAIN = "MANIFEST.json", "MANIFEST.sig", "evidence.jsonl"


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verifier found. `faults`: sentences, each naming a place; none means that the pack is whole."""

    faults: tuple[str, ...]
    files: int = 0
    records: int = 0  # of the evidence chain
    key: str = ""  # fingerprint of the key that signed, "sha256:..."
    about: Mapping[str, Any] | None = None

    @property
    def whole(self) -> bool:
        return not self.faults


def fingerprint(public: bytes) -> str:
    """Return what people compare of a public key of 32 bytes: by telephone, once."""
    return f"sha256:{hashlib.sha256(public).hexdigest()}"


def build(files: Mapping[str, bytes], *, about: Mapping[str, Any], key: Ed25519PrivateKey) -> bytes:
    """Return the pack of these files, in order of name. `about`: JSON values that say whose it is and of when."""
    ordered = sorted(files.items())
    manifest = evidence.canonical(
        {
            "format": FORMAT,
            "about": dict(about),
            "key": key.public_key().public_bytes_raw().hex(),
            "files": [
                {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in ordered
            ],
        }
    )
    signature = key.sign(manifest).hex().encode()
    whole = [(MANIFEST, manifest), (SIGNATURE, signature), *ordered]
    return b"".join(part.data for part in stored_zip.parts(whole))


def verify(data: bytes, *, expected_key: str = "") -> Verified:
    """Return what is wrong with a pack. expected_key: the fingerprint that the provider told, if it is known.

    Without it a pack made anew by somebody else's key is whole too: compare the fingerprint that is returned.
    """
    manifest, signature, said = _opened(data)
    if said is None:
        return Verified((f"{MANIFEST} was changed: it cannot be read as the list of a proof pack.",))
    public = bytes.fromhex(said["key"])
    found = fingerprint(public)
    faults = []
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signature.decode("ascii")), manifest)
    except (InvalidSignature, ValueError):
        faults.append(f"{MANIFEST} or {SIGNATURE} was changed: the signature does not hold.")
    if expected_key and expected_key.removeprefix("sha256:") != found.removeprefix("sha256:"):
        faults.append(f"The pack is signed by another key, {found}.")
    contents, more = _compared(data, manifest, signature, said["files"])
    faults += more
    records, broken = _chain(contents.get(CHAIN), said)
    return Verified((*faults, *broken), len(said["files"]), records, found, said["about"])


def _opened(data: bytes) -> tuple[bytes, bytes, Any]:
    """Return (manifest, signature, what the manifest says); None as the last if that is no manifest."""
    try:
        _, manifest = stored_zip.first_file(data)
        said = json.loads(manifest)
        _, signature = stored_zip.first_file(data[len(stored_zip.header(MANIFEST, manifest)) + len(manifest) :])
        sound = said["format"] == FORMAT and len(bytes.fromhex(said["key"])) == 32 and isinstance(said["about"], dict)
        for entry in said["files"]:
            sound &= isinstance(entry["name"], str) and isinstance(entry["size"], int) and entry["size"] >= 0
            sound &= isinstance(entry["sha256"], str)
    except (ValueError, KeyError, TypeError):
        return b"", b"", None
    return manifest, signature, said if sound else None


def _compared(data: bytes, manifest: bytes, signature: bytes, files: Any) -> tuple[dict[str, bytes], list[str]]:
    """Return the files' contents, and a fault for every stretch of the archive that is not as it must be."""
    at = sum(len(stored_zip.header(name, content)) + len(content) for name, content in
             ((MANIFEST, manifest), (SIGNATURE, signature)))  # fmt: skip
    contents: dict[str, bytes] = {}
    faults, wrong = [], set()
    for entry in files:
        name, size = entry["name"], entry["size"]
        at += len(stored_zip.header(name, b""))
        contents[name] = data[at : at + size]
        at += size
        if hashlib.sha256(contents[name]).hexdigest() != entry["sha256"]:
            wrong.add(name)
            faults.append(f"{name} was changed or cut off: its SHA-256 is not the one in {MANIFEST}.")
    begin = 0
    for part in stored_zip.parts([(MANIFEST, manifest), (SIGNATURE, signature), *contents.items()]):
        end = begin + len(part.data)
        known = part.what.removeprefix("the header of ") in wrong  # its checksum cannot be known: the file is wrong
        if data[begin:end] != part.data and not known and not (wrong and part.what == "the table of contents"):
            faults.append(f"The archive was changed in {part.what}.")
        begin = end
    if len(data) > begin:
        faults.append(f"{len(data) - begin} bytes follow the end of the archive.")
    return contents, faults


def _chain(lines: bytes | None, said: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Return (records, faults) of the evidence in a pack."""
    if lines is None:
        return 0, []
    try:
        count, breaks = evidence.verify_lines(lines.decode("utf-8", "surrogatepass").splitlines())
    except UnicodeDecodeError:
        return 0, [f"{CHAIN} was changed: it is no text."]
    return count, [f"{CHAIN}, record {broken.seq}: {broken.what}." for broken in breaks]


def read_key(value: str) -> Ed25519PrivateKey:
    """Return the signing key from its 64 hexadecimal digits; raises Misconfigured."""
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(value))
    except ValueError as error:
        what = "The key that signs proof packs cannot be read."
        raise Misconfigured(what, advice="Restore it from a copy; clients have noted its fingerprint.") from error
