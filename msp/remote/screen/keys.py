"""Keys of a screen by name or character, as X keysyms (RFC 6143, 7.5.4). Pure."""

from typing import Final

#: Keys by name; a name is written in any case.
NAMED: Final[dict[str, int]] = {
    "backspace": 0xFF08, "tab": 0xFF09, "return": 0xFF0D, "enter": 0xFF0D, "pause": 0xFF13, "scroll_lock": 0xFF14,
    "sys_req": 0xFF15, "escape": 0xFF1B, "esc": 0xFF1B, "home": 0xFF50, "left": 0xFF51, "up": 0xFF52, "right": 0xFF53,
    "down": 0xFF54, "page_up": 0xFF55, "pageup": 0xFF55, "page_down": 0xFF56, "pagedown": 0xFF56, "end": 0xFF57,
    "print": 0xFF61, "insert": 0xFF63, "ins": 0xFF63, "menu": 0xFF67, "num_lock": 0xFF7F, "kp_enter": 0xFF8D,
    "shift": 0xFFE1, "ctrl": 0xFFE3, "control": 0xFFE3, "caps_lock": 0xFFE5, "meta": 0xFFE7, "alt": 0xFFE9,
    "altgr": 0xFE03, "super": 0xFFEB, "win": 0xFFEB, "delete": 0xFFFF, "del": 0xFFFF, "space": 0x20, "minus": 0x2D,
    **{f"f{number}": 0xFFBD + number for number in range(1, 25)},
}  # fmt: skip
LAST_ASCII: Final = 0x7E
_WRITTEN: Final = {"\n": 0xFF0D, "\t": 0xFF09}


def of_character(character: str) -> int:
    """Return the keysym that writes a character. Raises ValueError for one that no key can write."""
    if character in _WRITTEN:
        return _WRITTEN[character]
    code = ord(character)
    if code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE:
        raise ValueError(f"there is no key for the character U+{code:04X}")
    return code if code < 0x100 else 0x0100_0000 + code


def of_text(text: str, *, any_letter: bool = False) -> list[int]:
    """Return the keysyms that write a text; a line break is the Return key. Raises ValueError.

    any_letter: also letters beyond ASCII, which a server's keyboard may lack.
    """
    found = [of_character(character) for character in text.replace("\r\n", "\n")]
    strange = next((character for character in text if ord(character) > LAST_ASCII), "")
    if strange and not any_letter:
        raise ValueError(f"not every keyboard has {strange!r} (U+{ord(strange):04X})")
    return found


def of_combination(written: str) -> list[int]:
    """Return the keys of `ctrl-alt-del`, `Return`, `a` or `ctrl--`, in the order in which they go down.

    Raises ValueError for a name that is not known.
    """
    if len(written) == 1:
        return [of_character(written)]
    words = [*written.removesuffix("--").split("-"), "-"] if written.endswith("--") else written.split("-")
    return [_named(word, written) for word in words]


def _named(word: str, written: str) -> int:
    if len(word) == 1:
        return of_character(word)
    if word.lower() in NAMED:
        return NAMED[word.lower()]
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), NAMED, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; keys are named as in return, tab, f2, ctrl-alt-del"
    raise ValueError(f"there is no key {word!r} in {written!r}{hint}")
