"""Signs that files were encrypted before they were backed up. Pure; judges samples by what their names promise.

Raw entropy says nothing (archives and pictures are random by nature), so a sample is judged against its type: text
that is not text any more, a document without its magic bytes, a known name with a strange new ending. One odd file
is nobody's business; a share of them is.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache

from msp.backup.compare import Tally
from msp.backup.manifest import shown
from msp.backup.verdict import Finding, Weight


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


TEXT = _words(
    "txt csv tsv log md rst json xml html htm css js ts py sh c h cpp java php rb go rs sql ini conf cfg cnf yml yaml "
    "toml env eml ics vcf tex svg bat ps1 service pem crt"
)
ZIP, OLE = (b"PK\x03\x04", b"PK\x05\x06"), (b"\xd0\xcf\x11\xe0",)
MAGIC: dict[str, tuple[bytes, ...]] = {
    **dict.fromkeys(("docx", "xlsx", "pptx", "odt", "ods", "odp", "zip", "jar", "epub"), ZIP),
    **dict.fromkeys(("doc", "xls", "ppt", "msg"), OLE),
    **dict.fromkeys(("jpg", "jpeg"), (b"\xff\xd8\xff",)),
    **dict.fromkeys(("gz", "tgz"), (b"\x1f\x8b",)),
    **dict.fromkeys(("sqlite", "sqlite3"), (b"SQLite format 3\0",)),
    **dict.fromkeys(("tif", "tiff"), (b"II*\0", b"MM\0*")),
    "pdf": (b"%PDF",),
    "png": (b"\x89PNG",),
    "gif": (b"GIF8",),
    "bz2": (b"BZh",),
    "xz": (b"\xfd7zXZ",),
    "zst": (b"\x28\xb5\x2f\xfd",),
    "7z": (b"7z\xbc\xaf",),
    "rar": (b"Rar!",),
    "exe": (b"MZ",),
    "dll": (b"MZ",),
    "psd": (b"8BPS",),
    "rtf": (b"{\\rtf",),
    "pst": (b"!BDN",),
}
#: Endings that people put after a name themselves, by compressing, signing, encrypting or rotating.
HONEST = _words(
    "gz bz2 xz zst lz4 lzma br z 7z zip rar gpg pgp asc sig age p7m bak old orig tmp swp part new save dist sample "
    "example template in out"
)
KNOWN = TEXT | frozenset(MAGIC) | _words("db dat bin mp3 mp4 avi mov wav bmp vmdk qcow2 vhdx mdb accdb dwg")
PRINTABLE = bytes({*range(32, 127), 7, 8, 9, 10, 11, 12, 13, 27, *range(128, 256)})
ASCII = bytes({*range(32, 127), 7, 8, 9, 10, 11, 12, 13, 27})
LEAST = 48  # bytes; less is not enough to judge
FEW, SHARE, MANY = 3, 0.1, 20


@lru_cache(maxsize=1024)
def entropy_of_noise(size: int) -> float:
    """Return the entropy that `size` uniform random bytes show on average, in bits a byte; 8 only without end.

    It is log2(size) less the mean of log2(1 + K), with K Poisson of mean (size - 1) / 256.
    """
    mean = (size - 1) / 256
    chance, lost = math.exp(-mean), 0.0
    for count in range(1, int(mean + 12 * math.sqrt(mean) + 12)):
        chance *= mean / count
        lost += chance * math.log2(1 + count)
    return math.log2(size) - lost


def noisy(sample: bytes) -> bool:
    """Say whether a sample is as random as encrypted data of its length would be."""
    if len(sample) < LEAST:
        return False
    counts = Counter(sample)
    entropy = -sum(n / len(sample) * math.log2(n / len(sample)) for n in counts.values())
    return entropy > entropy_of_noise(len(sample)) - 0.3


def no_text(sample: bytes) -> bool:
    """Say whether what should be text is not: neither ASCII, UTF-8, UTF-16 nor an 8-bit code page."""
    if len(sample) < LEAST:
        return False
    if len(sample.translate(None, PRINTABLE)) < len(sample) * 0.05:  # few control characters
        return False
    return len(sample.translate(None, ASCII)) > len(sample) * 0.4 and noisy(sample)


def endings(name: bytes) -> tuple[str, str]:
    """Return the last and the last but one ending of a file name, in lower case."""
    parts = name.decode("utf-8", "replace").lower().rsplit(".", 2)
    if len(parts) == 3:
        return parts[2], parts[1]
    return (parts[1], "") if len(parts) == 2 else ("", "")


@dataclass(slots=True)
class Suspicion:
    """Collects files that look encrypted, among those whose names promise something."""

    judged: int = 0
    files: int = 0
    scrambled: Tally = field(default_factory=Tally)
    renamed: Counter[str] = field(default_factory=Counter)
    renamed_named: dict[str, list[str]] = field(default_factory=dict)

    def observe(self, path: bytes, sample: bytes) -> None:
        """Take one regular file; `sample` is its beginning, perhaps with a piece of its middle."""
        self.files += 1
        name = path.rpartition(b"/")[2]
        last, before = endings(name)
        if last in MAGIC:
            self._judge(path, not sample.startswith(MAGIC[last]) and noisy(sample))
        elif last in TEXT:
            self._judge(path, no_text(sample))
        elif before in KNOWN and last not in HONEST and not last.isdigit() and noisy(sample) and not _known(sample):
            self.renamed[last] += 1
            places = self.renamed_named.setdefault(last, [])
            if len(places) < 10:
                places.append(shown(path))

    def trust(self) -> None:
        """Count one file whose content is known to be right."""
        self.files += 1
        self.judged += 1

    def _judge(self, path: bytes, bad: bool) -> None:
        self.judged += 1
        if bad:
            self.scrambled.add(shown(path))

    def findings(self) -> list[Finding]:
        found = []
        advice = "Treat the source as encrypted: keep older snapshots from expiring and compare with them."
        if self.scrambled.count >= FEW:
            enough = self.scrambled.count >= min(MANY, SHARE * self.judged)
            found.append(
                Finding(
                    "ransomware",
                    f"{self.scrambled.count} of {self.judged} files are random where their type is not.",
                    "; ".join(self.scrambled.named),
                    advice,
                    Weight.FAIL if enough else Weight.WARN,
                )
            )
        for ending, count in self.renamed.most_common(1):
            if count >= FEW and count >= 0.05 * self.files:
                found.append(
                    Finding(
                        "ransomware",
                        f"{count} of {self.files} files got the new ending .{ending} and are random.",
                        "; ".join(self.renamed_named[ending]),
                        advice,
                    )
                )
        return found


def _known(sample: bytes) -> bool:
    return any(sample.startswith(magic) for magics in MAGIC.values() for magic in magics)
