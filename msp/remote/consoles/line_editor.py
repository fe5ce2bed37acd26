"""A line that is typed where no terminal edits it: keys in, what to show out, and the line once it is entered. Pure.

Keys are those of an xterm (ECMA-48); the line may be longer than the window is wide.
"""

import re
import unicodedata

ENTER, BREAK = "\r", "\x03"
MOST_KEPT = 200  # lines of the history
LONGEST = 32_000  # characters of a line
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|\x1b[^\[O]|\r\n|[\s\S]")
_BEGUN = re.compile(r"\x1b(?:\[[0-9;]*|O)?\Z")
_MOVES = {
    "\x1b[D": "left", "\x1b[C": "right", "\x1bOD": "left", "\x1bOC": "right", "\x02": "left", "\x06": "right",
    "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home", "\x01": "home",
    "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end", "\x05": "end",
    "\x1b[A": "older", "\x1bOA": "older", "\x10": "older", "\x1b[B": "newer", "\x1bOB": "newer", "\x0e": "newer",
    "\x7f": "rubout", "\x08": "rubout", "\x1b[3~": "delete", "\x15": "kill", "\x0b": "kill_end", "\x17": "kill_word",
}  # fmt: skip


def width(text: str) -> int:
    """Return how many columns a text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


class LineEditor:
    """Edits one line after another in a window of so many columns."""

    def __init__(self, columns: int) -> None:
        self._columns = max(columns, 2)
        self._prompt = self._text = ""
        self._at = self._row = 0  # the cursor: in the text, and in rows below the prompt
        self._history: list[str] = []
        self._place = 0  # in the history

    def resize(self, columns: int) -> None:
        """Note how wide the window is now."""
        self._columns = max(columns, 2)

    def begin(self, prompt: str) -> str:
        """Begin a new line and return what shows its prompt."""
        self._prompt, self._text, self._at, self._row, self._place = prompt, "", 0, 0, len(self._history)
        return self._shown()

    def feed(self, keys: str) -> tuple[str, str | None, str]:
        """Take keys up to the one that enters the line. Return what to show, the line or None, and the keys left over.

        Ctrl+C gives up what is typed, as an empty line.
        """
        begun = _BEGUN.search(keys)  # a key of which the rest is still to come
        whole = keys[: begun.start()] if begun else keys
        shown: list[str] = []
        for found in _KEY.finditer(whole):
            key = found[0]
            if key not in (ENTER, "\n", "\r\n", BREAK):
                shown.append(self._key(key))
                continue
            line = "" if key == BREAK else self._text
            self._at = len(self._text)
            shown.append(self._shown() + ("^C" if key == BREAK else "") + "\r\n")
            if line.strip() and self._history[-1:] != [line]:
                self._history = [*self._history, line][-MOST_KEPT:]
            return "".join(shown), line, keys[found.end() :]
        return "".join(shown), None, keys[len(whole) :]

    def _key(self, key: str) -> str:
        if (move := _MOVES.get(key)) is not None:
            before = self._text, self._at
            getattr(self, f"_{move}")()
            return self._shown() if before != (self._text, self._at) else "\a"
        if not key.isprintable() or len(key) != 1 or len(self._text) >= LONGEST:
            return "\a"
        self._text = self._text[: self._at] + key + self._text[self._at :]
        self._at += 1
        taken = width(self._prompt + self._text)
        if self._at == len(self._text) and taken % self._columns > 1:  # well within its row: no need to draw it all
            return key
        return self._shown()

    def _left(self) -> None:
        self._at = max(self._at - 1, 0)

    def _right(self) -> None:
        self._at = min(self._at + 1, len(self._text))

    def _home(self) -> None:
        self._at = 0

    def _end(self) -> None:
        self._at = len(self._text)

    def _rubout(self) -> None:
        if self._at:
            self._text, self._at = self._text[: self._at - 1] + self._text[self._at :], self._at - 1

    def _delete(self) -> None:
        self._text = self._text[: self._at] + self._text[self._at + 1 :]

    def _kill(self) -> None:
        self._text, self._at = self._text[self._at :], 0

    def _kill_end(self) -> None:
        self._text = self._text[: self._at]

    def _kill_word(self) -> None:
        head = re.sub(r"\S*\s*\Z", "", self._text[: self._at])
        self._text, self._at = head + self._text[self._at :], len(head)

    def _older(self) -> None:
        self._recall(self._place - 1)

    def _newer(self) -> None:
        self._recall(self._place + 1)

    def _recall(self, place: int) -> None:
        if 0 <= place <= len(self._history):
            self._place = place
            self._text = self._history[place] if place < len(self._history) else ""
            self._at = len(self._text)

    def _shown(self) -> str:
        """Return what draws prompt and line anew, wherever the cursor stands within them."""
        whole, here = width(self._prompt + self._text), width(self._prompt + self._text[: self._at])
        up = f"\x1b[{self._row}A" if self._row else ""
        drawn = f"{up}\r\x1b[J{self._prompt}{self._text}"
        if whole and whole % self._columns == 0:
            drawn += "\r\n"  # a terminal goes to the next row only with the next character
        self._row, column = divmod(here, self._columns)
        back = whole // self._columns - self._row
        drawn += f"\x1b[{back}A" if back else ""
        return drawn + "\r" + (f"\x1b[{column}C" if column else "")
