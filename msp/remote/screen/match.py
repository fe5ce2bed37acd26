"""Is this image on the screen, and where? Pixels are compared at their places, with a tolerance; never histograms."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    Pixels = NDArray[np.int16]  # height x width x 3

SAMPLES = 48  # pixels of the image that are compared everywhere before a place is looked at closely
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
        down, across = screen.height - self.height + 1, screen.width - self.width + 1
        if down < 1 or across < 1:
            return None
        pixels = np.asarray(screen.convert("RGB"), dtype=np.int16)
        best: tuple[float, int, int] | None = None
        for y, x in self._candidates(pixels, down, across):
            agree = self._agree(pixels[self._rows + y, self._columns + x], self._values)
            share = float(agree.mean())
            if min(share, float(agree[self._at_edge].mean())) < self._share:
                continue
            if best is None or share > best[0]:
                best = (share, x, y)
            if share == 1:
                break
        return best and best[1:]

    def _agree(self, seen: "Pixels", wanted: "Pixels") -> "NDArray[np.bool_]":
        agree: NDArray[np.bool_] = np.abs(seen - wanted).max(axis=-1) <= self._tolerance
        return agree

    def _candidates(self, pixels: "Pixels", down: int, across: int) -> "NDArray[np.int64]":
        """Return places (y, x) at which a sample of the image agrees, the likeliest first."""
        chosen = self._sample()
        score = np.zeros((down, across), dtype=np.int16)
        first = chosen[:8]
        for number in first:
            y, x = int(self._rows[number]), int(self._columns[number])
            score += self._agree(pixels[y : y + down, x : x + across], self._values[number])
        places = np.argwhere(score >= int(len(first) * 0.6))
        scores = score[places[:, 0], places[:, 1]].astype(np.int32)
        for number in chosen[8:]:
            y, x = int(self._rows[number]), int(self._columns[number])
            scores += self._agree(pixels[places[:, 0] + y, places[:, 1] + x], self._values[number])
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
