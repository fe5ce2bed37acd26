"""Recognising images and texts, and covering what a secret left."""

import pytest
from PIL import Image, ImageDraw

from msp.remote.screen import ocr
from msp.remote.screen.match import Blank, Template
from msp.remote.screen.picture import LARGEST, Veil, changed, png


def desktop(seed: int = 1, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """A picture full of boxes and letters."""
    import random

    chance = random.Random(seed)
    image = Image.new("RGB", size, (200, 200, 210))
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = chance.randrange(size[0] - 60), chance.randrange(size[1] - 30)
        colour = tuple(chance.randrange(256) for _ in range(3))
        draw.rectangle((x, y, x + chance.randrange(20, 60), y + chance.randrange(10, 30)), fill=colour)
        draw.text((x, y), chance.choice(["OK", "Cancel", "Help", "Disk full"]), fill="black")
    return image


def template(image: Image.Image, tolerance: int = 16, share: float = 0.98) -> Template:
    return Template(image, tolerance=tolerance, share=share)


@pytest.mark.parametrize("seed", range(8))
def test_part_of_a_screen_is_found_where_it_was_cut_out(seed: int) -> None:
    screen = desktop(seed)
    box = (40 + seed * 50, 60 + seed * 30, 140 + seed * 50, 100 + seed * 30)
    x, y = template(screen.crop(box)).find(screen) or (-1, -1)
    assert screen.crop((x, y, x + 100, y + 40)).tobytes() == screen.crop(box).tobytes()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("turn", [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180])
def test_mirrored_or_turned_part_is_not_found(seed: int, turn: Image.Transpose) -> None:
    screen = desktop(seed)
    assert template(screen.crop((40, 60, 240, 160)).transpose(turn)).find(screen) is None


def test_slight_differences_of_colour_are_tolerated_and_larger_ones_are_not() -> None:
    screen = desktop()
    part = screen.crop((40, 60, 240, 160))
    assert template(part.point(lambda value: min(255, value + 10))).find(screen) == (40, 60)
    assert template(part.point(lambda value: min(255, value + 40))).find(screen) is None
    assert template(part.point(lambda value: min(255, value + 40)), tolerance=48).find(screen) == (40, 60)


def test_empty_area_is_no_match_for_fine_print() -> None:
    page = Image.new("RGB", (400, 300), "white")
    note = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(note).text((10, 10), "no", fill="black")
    assert template(note, share=0.9).find(page) is None
    page.paste(note, (50, 60))
    assert template(note, share=0.9).find(page) == (50, 60)


def test_transparent_pixels_agree_with_everything() -> None:
    screen = desktop()
    part = screen.crop((100, 100, 220, 180)).convert("RGBA")
    part.paste((0, 0, 0, 0), (30, 20, 90, 60))
    assert template(part).find(screen) == (100, 100)


def test_every_match_is_told_and_none_where_it_is_larger_than_the_screen() -> None:
    screen = Image.new("RGB", (300, 200), "white")
    mark = desktop().crop((40, 60, 140, 110))
    for place in ((10, 10), (180, 20), (120, 130)):
        screen.paste(mark, place)
    assert sorted(template(mark).matches(screen)) == [(10, 10), (120, 130), (180, 20)]
    assert template(desktop()).find(screen) is None
    with pytest.raises(Blank):
        template(Image.new("RGB", (20, 20), "red"))


def words(text: str) -> list[ocr.Word]:
    return [ocr.Word(word, (number * 50, 0, number * 50 + 40, 10)) for number, word in enumerate(text.split())]


@pytest.mark.parametrize(
    ("wanted", "seen", "found"),
    [
        ("tigervnc login:", "welcome to tigervne login:", True),  # one letter of fourteen
        ("hello-x11vnc", "hel lo-x11vnc", True),  # blanks do not count
        ("Save", "Sane", False),  # a short word must be read as it is
        ("Restart", "Restort", True),
        ("Restart", "Restore", False),
        ("a text of twenty-some letters", "a tezt of twenty-some 1etters", True),
        ("a text of twenty-some letters", "o tezt 0f twenty-some 1etters", False),
        ("Login", "Logout", False),
        ("absent", "", False),
    ],
)
def test_text_is_compared_with_one_letter_in_ten_forgiven(wanted: str, seen: str, *, found: bool) -> None:
    assert (ocr.find(wanted, words(seen)) is not None) == found


def test_box_of_a_text_is_that_of_its_words() -> None:
    assert ocr.find("two three", words("one two three four")) == (50, 0, 140, 10)


def by_hand(left: str, right: str) -> int:
    """Edit distance, written the slow way."""
    if not left or not right:
        return len(left) + len(right)
    return min(
        by_hand(left[1:], right[1:]) + (left[0] != right[0]),
        by_hand(left[1:], right) + 1,
        by_hand(left, right[1:]) + 1,
    )


@pytest.mark.parametrize("hay", ["restxrt", "rstart", "xxresstartyy", "ratsert", "estar"])
def test_likest_part_agrees_with_trying_every_part(hay: str) -> None:
    needle = "restart"[:5]
    parts = {hay[a:b] for a in range(len(hay)) for b in range(a, min(len(hay), a + 7) + 1)}
    least = min(by_hand(needle, part) for part in parts)
    for most in range(4):
        assert (ocr._likest(needle, hay, most) is not None) == (least <= most)


def test_pictures_stay_small() -> None:
    import random

    noise = Image.frombytes("RGB", (800, 600), random.Random(1).randbytes(800 * 600 * 3))
    assert len(png(noise)) <= LARGEST
    assert len(png(desktop())) < 60_000


def test_what_changed_is_boxed() -> None:
    before = Image.new("RGB", (200, 100), "white")
    after = before.copy()
    assert list(changed(before, after)) == []
    after.putpixel((100, 50), (255, 255, 254))
    assert list(changed(before, after)) == [(96, 48, 112, 64)]


def test_secret_is_covered_while_it_is_typed_and_wherever_it_moves() -> None:
    before = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(before).text((10, 100), "Password:", fill="black")
    typed = before.copy()
    ImageDraw.Draw(typed).text((80, 100), "hunter2", fill="black")
    scrolled = Image.new("RGB", (300, 200), "white")
    scrolled.paste(typed.crop((0, 40, 300, 200)), (0, 0))
    veil = Veil()
    veil.secret_follows(before)
    veil.secret_typed(typed)
    echo = typed.crop((78, 98, 125, 115))
    for after_step in (False, True):
        for screen in (typed, scrolled):
            assert template(echo, share=0.9).find(screen)
            assert template(echo, share=0.9).find(veil.over(screen)) is None
        if not after_step:
            veil.step_is_over()
    assert veil.over(before).tobytes() == before.tobytes()  # nothing to cover
    assert veil.over(typed).crop((0, 90, 70, 120)).tobytes() == typed.crop((0, 90, 70, 120)).tobytes()
    blind = Veil(blind=True).over(typed)
    assert len(blind.getcolors() or ()) == 1
