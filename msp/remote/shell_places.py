"""Where a value stands in a POSIX shell script: bare, in quotes, in a here-document. Pure.

The lexer decides only how a *reference* to a variable is written ("${v}" bare, ${v} inside double quotes).
A shell never parses an expanded variable again, so even a place misjudged cannot run what a value says.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

MARK = "\0"  # stands for one value; a shell script cannot hold this character itself
Place = Literal["bare", "double", "single", "document", "literal", "comment", "arithmetic"]

_HEREDOC = re.compile(r"<<(-?)[ \t]*('[^'\n]*'|\"[^\"\n]*\"|\\?[\w.-]+)")


@dataclass(frozen=True, slots=True)
class Places:
    """A script cut at its values: `pieces[0] value pieces[1] value ...`, and the place of each value.

    words: delimiters of here-documents that do not expand, whose values are written out.
    """

    pieces: tuple[str, ...]
    places: tuple[Place, ...]
    words: tuple[str, ...] = ()


class _Lexer:
    """Walks a script once. `stack` holds what is open: code `(`, double quotes, braces, arithmetic, backticks."""

    def __init__(self, script: str) -> None:
        self.script, self.at = script, 0
        self.places: list[Place] = []
        self.documents: list[tuple[str, bool, bool]] = []  # delimiter, may be indented by tabs, expands
        self.words: list[str] = []

    def walk(self) -> tuple[Place, ...]:
        stack: list[str] = ["code"]
        text, size = self.script, len(self.script)
        while self.at < size:
            char, top = text[self.at], stack[-1]
            if char == MARK:
                self.places.append("arithmetic" if top == "arith" else "double" if "double" in top else "bare")
            elif char == "\\":
                self.at += 0 if text[self.at + 1 : self.at + 2] == MARK else 1
            elif char == '"':
                if top == "double":
                    stack.pop()
                else:
                    stack.append("double")
            elif char == "$" and text.startswith("$((", self.at):
                stack += ["arith", "arith"]  # closed by two parentheses
                self.at += 2
            elif char == "$" and text.startswith("$(", self.at):
                stack.append("code")
                self.at += 1
            elif char == "$" and text.startswith("${", self.at):
                stack.append("double brace" if "double" in top else "brace")
                self.at += 1
            elif char == "}" and "brace" in top:
                stack.pop()
            elif char == "`":
                if "ticks" in stack:
                    while stack.pop() != "ticks":
                        pass
                else:
                    stack.append("ticks")
            elif top in ("code", "ticks", "brace", "arith"):
                self._code(char, stack)
            self.at += 1
        return tuple(self.places)

    def _code(self, char: str, stack: list[str]) -> None:
        text = self.script
        if char == "'":
            end = text.find("'", self.at + 1)
            end = len(text) if end < 0 else end
            self._marks(text[self.at : end], "single")
            self.at = end
        elif char == "(":
            stack.append(stack[-1] if stack[-1] == "arith" else "code")
        elif char == ")" and len(stack) > 1 and stack[-1] in ("code", "arith"):
            stack.pop()
        elif char == "#" and (self.at == 0 or text[self.at - 1] in " \t\n;&|()"):
            end = text.find("\n", self.at)
            end = len(text) if end < 0 else end
            self._marks(text[self.at : end], "comment")
            self.at = end - 1
        elif char == "<" and text.startswith("<<", self.at) and not text.startswith("<<<", self.at):
            if found := _HEREDOC.match(text, self.at):
                word = found[2]
                if word != word.strip("'\"\\"):
                    self.words.append(word.strip("'\"\\"))
                self.documents.append((word.strip("'\"\\"), bool(found[1]), word == word.strip("'\"\\")))
                self.at = found.end() - 1
        elif char == "<" and text.startswith("<<<", self.at):
            self.at += 2
        elif char == "\n" and self.documents:
            self._bodies()

    def _bodies(self) -> None:
        """Skip the here-documents that begin after this line."""
        for word, tabs, expands in self.documents:
            while self.at < len(self.script):
                begin = self.at + 1
                end = self.script.find("\n", begin)
                end = len(self.script) if end < 0 else end
                line = self.script[begin:end]
                self.at = end
                if (line.lstrip("\t") if tabs else line) == word:
                    break
                self._marks(line, "document" if expands else "literal")
        self.documents = []
        self.at -= 1 if self.at < len(self.script) else 0  # the newline itself is read as code

    def _marks(self, text: str, place: Place) -> None:
        self.places += [place] * text.count(MARK)


@lru_cache(maxsize=1024)
def places(script: str) -> Places:
    """Return where each MARK of a script stands. The same for all hosts of a step, so it is kept."""
    lexer = _Lexer(script)
    return Places(tuple(script.split(MARK)), lexer.walk(), tuple(lexer.words))
