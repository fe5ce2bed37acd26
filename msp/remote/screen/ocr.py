"""Text on a screen, read by Debian's tesseract: enlarged, in one thread, compared with forgiveness.

Blanks do not count, and one letter in ten may be wrong: a clean 14-point terminal still reads `tigervne`.
"""

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL.Image import Image

Box = tuple[int, int, int, int]
LAYOUTS = (6, 11)  # tesseract --psm: one block of text, then text anywhere
SCALE = 2
SHORT = 5  # letters below which none may be wrong
TIME = 20  # seconds for one picture


class NoReader(Exception):
    """The program or the language that is to read the screen is not there."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word as read, and where it stands in the picture."""

    text: str
    box: Box


def allowed(text: str) -> int:
    """Return how many letters of a text may be read wrong."""
    letters = len(squeezed(text))
    return 0 if letters < SHORT else max(1, letters // 10)


def squeezed(text: str) -> str:
    """Return a text without its blanks."""
    return "".join(text.split())


def find(wanted: str, words: "Sequence[Word]") -> Box | None:
    """Return the box around `wanted` among words in reading order, or None. The likest place counts."""
    needle, joined, owner = squeezed(wanted), "", []
    for number, word in enumerate(words):
        letters = squeezed(word.text)
        joined += letters
        owner += [number] * len(letters)
    span = _likest(needle, joined, allowed(wanted))
    if span is None:
        return None
    boxes = [words[number].box for number in sorted(set(owner[span[0] : span[1]]))]
    return (min(box[0] for box in boxes), min(box[1] for box in boxes),
            max(box[2] for box in boxes), max(box[3] for box in boxes))  # fmt: skip


def _likest(needle: str, hay: str, most: int) -> tuple[int, int] | None:
    """Return (start, end) of the part of `hay` with the least edit distance to `needle`, at most `most` (Sellers)."""
    if not needle:
        return None
    at = hay.find(needle)
    if at >= 0:
        return at, at + len(needle)
    costs = list(range(len(needle) + 1))
    starts = [0] * (len(needle) + 1)
    best: tuple[int, int, int] | None = None
    for end, letter in enumerate(hay, 1):
        new_costs, new_starts = [0], [end]
        for row, wanted in enumerate(needle, 1):
            ways = (
                (costs[row - 1] + (letter != wanted), starts[row - 1]),
                (costs[row] + 1, starts[row]),
                (new_costs[row - 1] + 1, new_starts[row - 1]),
            )
            cost, start = min(ways, key=lambda way: way[0])
            new_costs.append(cost)
            new_starts.append(start)
        costs, starts = new_costs, new_starts
        if costs[-1] <= most and (best is None or costs[-1] < best[0]):
            best = (costs[-1], starts[-1], end)
    return best and (best[1], best[2])


def readings(picture: "Image", language: str, seconds: float = TIME) -> "Iterator[list[Word]]":
    """Yield the words of a picture, once for each way of looking at its layout. Raises NoReader.

    seconds: that one way may take; one that takes longer has read nothing.
    """
    grey = picture.convert("L")
    big = grey.resize((grey.width * SCALE, grey.height * SCALE), 1)  # 1: Lanczos
    data = f"P5 {big.width} {big.height} 255\n".encode() + big.tobytes()
    for layout in LAYOUTS:
        yield _words(_tesseract(data, language, layout, min(seconds, TIME)))


def _tesseract(data: bytes, language: str, layout: int, seconds: float) -> str:
    command = ["tesseract", "-", "-", "--psm", str(layout), "-l", language, "--dpi", "192", "tsv"]
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=seconds, check=False, env=environment)
    except FileNotFoundError as error:
        raise NoReader("tesseract is not installed here; install the package tesseract-ocr") from error
    except subprocess.TimeoutExpired:
        return ""
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        if any("Failed loading language" in line or "Error opening data file" in line for line in said):
            raise NoReader(f"tesseract has no language {language}; install the package tesseract-ocr-{language}")
        raise NoReader(f"tesseract failed: {said[-1] if said else done.returncode}")
    return done.stdout.decode("utf-8", "replace")


def _words(table: str) -> list[Word]:
    """Return the words of tesseract's table, in reading order."""
    words = []
    for line in table.splitlines()[1:]:
        cells = line.split("\t")
        if len(cells) == 12 and cells[11].strip() and cells[0] == "5":
            left, top, width, height = (int(cell) // SCALE for cell in cells[6:10])
            words.append(Word(cells[11], (left, top, left + width, top + height)))
    return words
