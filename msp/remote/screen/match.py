"""Is this image on the screen, and where? Pixels are compared at their places, with a tolerance; never histograms."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    Pixels = NDArray[np.int16]  # height x width x 3

SAMPLES = 64  # pixels of the image that are compared everywhere before a place is looked at closely
BATCH = 8  # of them at once; what agrees too little then is not looked at again
SLACK = 0.3  # by how much less than the share they may agree
CLOSE = 400  # places that are looked at closely


class Blank(ValueError):
    """An image in which nothing can be recognised."""


class Template:
    """An image to look for. Its transparent pixels agree with everything.

    tolerance: by how much each of the three colours of a pixel may differ, of 255. share: of the pixels that must
    agree; it must also be met by the pixels at edges alone, so that an empty area is no match for fine print.
    """

    def __init__(self, image: "Image", *, tolerance: int, share: float) -> None:
        """Raises Blank for an image of one colour."""
        self._pixels = np.asarray(image.convert("RGB"), dtype=np.int16)
        self._tolerance, self._share = tolerance, share
        opaque = np.asarray(image.convert("RGBA"))[:, :, 3] > 127
        self._rows, self._columns = np.nonzero(opaque)
        self._values = self._pixels[self._rows, self._columns]
        edges = _edges(self._pixels, tolerance) & opaque
        self._at_edge = edges[self._rows, self._columns]
        if not self._at_edge.any():
            raise Blank("it shows one colour only, so there is nothing to recognise")
        self.width, self.height = image.size

    def find(self, screen: "Image") -> tuple[int, int] | None:
        """Return the left upper corner of the best match on `screen`, or None."""
        matches = self.matches(screen)
        return matches[0] if matches else None

    def matches(self, screen: "Image") -> list[tuple[int, int]]:
        """Return the left upper corners of all matches that do not overlap a better one, the best first."""
        down, across = screen.height - self.height + 1, screen.width - self.width + 1
        if down < 1 or across < 1:
            return []
        pixels = np.asarray(screen.convert("RGB"), dtype=np.int16)
        found: list[tuple[float, int, int]] = []
        for y, x in self._candidates(pixels, down, across):
            agree = self._agree(pixels[self._rows + y, self._columns + x], self._values)
            share = float(agree.mean())
            if min(share, float(agree[self._at_edge].mean())) >= self._share:
                found.append((share, int(x), int(y)))
        kept: list[tuple[int, int]] = []
        for _, x, y in sorted(found, key=lambda one: -one[0]):
            if all(abs(x - left) >= self.width or abs(y - top) >= self.height for left, top in kept):
                kept.append((x, y))
        return kept

    def _agree(self, seen: "Pixels", wanted: "Pixels") -> "NDArray[np.bool_]":
        agree: NDArray[np.bool_] = np.abs(seen - wanted).max(axis=-1) <= self._tolerance
        return agree

    def _candidates(self, pixels: "Pixels", down: int, across: int) -> "NDArray[np.int64]":
        """Return places (y, x) at which a sample of the image agrees, the likeliest first.

        Compares brightness only: where all three colours agree within the tolerance, their mean does.
        """
        grey = pixels.sum(axis=2, dtype=np.int16)
        values, most = self._values.sum(axis=1), 3 * self._tolerance
        chosen = self._sample()
        score = np.zeros((down, across), dtype=np.uint8)
        for number in chosen[:BATCH]:
            y, x = int(self._rows[number]), int(self._columns[number])
            score += np.abs(grey[y : y + down, x : x + across] - values[number]) <= most
        places = np.argwhere(score >= len(chosen[:BATCH]) * (self._share - SLACK))
        scores = score[places[:, 0], places[:, 1]].astype(np.int32)
        for done in range(BATCH, len(chosen), BATCH):
            for number in chosen[done : done + BATCH]:
                y, x = int(self._rows[number]), int(self._columns[number])
                scores += np.abs(grey[places[:, 0] + y, places[:, 1] + x] - values[number]) <= most
            still = scores >= len(chosen[: done + BATCH]) * (self._share - SLACK * BATCH / done)
            places, scores = places[still], scores[still]
        order = np.argsort(-scores, kind="stable")
        return places[order][:CLOSE]

    def _sample(self) -> "NDArray[np.int64]":
        """Return numbers of pixels spread over the image, most of them at edges, always the same ones."""
        chance = np.random.default_rng(1)
        edges, rest = np.flatnonzero(self._at_edge), np.flatnonzero(~self._at_edge)
        many = min(len(edges), SAMPLES * 3 // 4)
        few = min(len(rest), SAMPLES - many)
        picked = [chance.choice(edges, many, replace=False), chance.choice(rest, few, replace=False)]
        mixed: NDArray[np.int64] = chance.permutation(np.concatenate(picked))
        return mixed


def _edges(pixels: "Pixels", tolerance: int) -> "NDArray[np.bool_]":
    """Return which pixels differ from their neighbour to the right or below by more than the tolerance."""
    found = np.zeros(pixels.shape[:2], dtype=bool)
    right = np.abs(np.diff(pixels, axis=1)).max(axis=2) > 2 * tolerance
    below = np.abs(np.diff(pixels, axis=0)).max(axis=2) > 2 * tolerance
    found[:, :-1] |= right
    found[:, 1:] |= right
    found[:-1] |= below
    found[1:] |= below
    return found
