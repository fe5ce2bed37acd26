"""Where a value stands in a POSIX shell script: bare, in quotes, in a here-document. Pure.

The lexer decides only how a *reference* to a variable is written ("${v}" bare, ${v} inside double quotes).
A shell never parses an expanded variable again. Exceptions: arithmetic, where bash runs what a text says, so only
numbers go there; here-documents whose delimiter is quoted, where values are written out. Where shells differ about
what they read, or we are not sure, only plain words go.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

MARK = "\0"  # stands for one value; a shell script cannot hold this character itself
Place = Literal["bare", "double", "single", "document", "literal", "comment", "arithmetic", "unsure"]

_HEREDOC = re.compile(r"<<(-?)[ \t]*('[^'\n]*'|\"[^\"\n]*\"|\\?[\w.-]+)")
_BRACE = re.compile(r"\$\{([#!]?\w+(?:\[|:(?![-+=?])))?")  # of bash: a subscript, or a part of a text by numbers
_CASE = re.compile(r"(?:case(?=[\s\0])|esac(?![\w-]))")
_BEFORE_COMMAND = re.compile(r"(?:^|[\s;&|(){])(?:then|do|else|elif|if|while|until|!|time|in)$")
_EVALUATED = re.compile(
    r"(?:^|[\s;&|({])(?:\w+\[(?:[\"']|[^]\s\"'`]*)|let\s[^;&|]*)$"
)  # bash computes what stands there
_NUMBERS = re.compile(r"\s-(?:eq|ne|lt|le|gt|ge)\s")
_CODE = ("code", "ticks", "case")
_QUOTED = ("double", "double brace", "document")
_AFTER_WORD = ("", " ", "\t", "\n", ";", "&", "|", "<", ">", ")")


@dataclass(frozen=True, slots=True)
class Places:
    """A script cut at its values: `pieces[0] value pieces[1] value ...`, and the place of each value.

    words: delimiters of here-documents, which no value written out may repeat.
    An `unsure` place takes plain words only.
    """

    pieces: tuple[str, ...]
    places: tuple[Place, ...]
    words: tuple[str, ...] = ()


class _Lexer:
    """Walks a script once. `stack` holds what is open: code `(`, case, double quotes, braces, arithmetic, backticks.

    unsure: from here on shells may differ, or this lexer may be wrong, about what stands in quotes.
    """

    def __init__(self, script: str) -> None:
        self.script, self.at = script, 0
        self.places: list[Place] = []
        self.documents: list[tuple[str, bool, bool]] = []  # delimiter, may be indented by tabs, expands
        self.words: list[str] = []
        self.unsure = False
        self.escaped: set[int] = set()
        self.shifts = False  # what means something else in commands was read as arithmetic

    def walk(self, outermost: str = "code") -> list[Place]:
        """outermost: code, or document for the body of a here-document that expands."""
        stack: list[str] = [outermost]
        text, size = self.script, len(self.script)
        while self.at < size:
            char, top = text[self.at], stack[-1]
            if char == MARK:
                self.places.append(self._place(stack))
            elif char == "\\":
                self._escape(stack)
            elif char == '"':
                self._quote(stack)
            elif char == "$" and text.startswith("$((", self.at):
                stack += ["arith", "arith"]  # closed by two parentheses
                self.shifts = False
                self.at += 2
            elif char == "$" and text.startswith("$(", self.at):
                stack.append("code")
                self.at += 1
            elif char == "$" and text.startswith("$[", self.at):
                self.unsure = True  # arithmetic to bash alone
            elif char == "$" and (found := _BRACE.match(text, self.at)):
                kind = "arith brace" if found[1] else "brace" if top not in _QUOTED else "double brace"
                stack.append(kind)
                self.at += 1
            elif char == "}" and "brace" in top:
                stack.pop()
            elif char == "`":
                self._ticks(stack)
            elif top in _CODE:
                self._code(char, stack)
            elif "arith" in top:
                self._arithmetic(char, stack)
            elif char == "'" and top in ("brace", "double brace"):
                if top == "brace":
                    self._single()
                else:
                    self.unsure = True  # a quote to some operators, a character to others
            elif char == "\n" and self.documents:
                self.unsure = True
            self.at += 1
        if len(stack) > 1:
            self.places = ["unsure"] * len(self.places)
        return self.places

    def _place(self, stack: list[str]) -> Place:
        text, top = self.script, stack[-1]
        nearest = next((kind for kind in reversed(stack) if kind in _CODE or "arith" in kind), "")
        if "arith" in nearest:
            return "arithmetic"
        if self.unsure or self.at - 1 in self.escaped or text[self.at - 1 : self.at] in ("$", "\\"):
            return "unsure"
        begin = text.rfind("\n", 0, self.at) + 1
        if (before := text[begin : self.at]) and (_EVALUATED.search(before) or self._compared(before)):
            return "arithmetic"
        return "document" if top == "document" else "double" if "double" in top else "bare"

    def _compared(self, before: str) -> bool:
        """Return whether the place is in `[[ ]]` with a comparison of numbers, which evaluates text."""
        opened = before.rfind("[[")
        if opened <= before.rfind("]]"):
            return False
        rest = self.script[self.at :].split("]]", 1)[0].split("\n", 1)[0]
        return bool(_NUMBERS.search(before[opened:] + rest))

    def _escape(self, stack: list[str]) -> None:
        after = self.script[self.at + 1 : self.at + 2]
        if "ticks" in stack and after and after in "`$\\\"'":
            self.unsure = True  # read twice
        if after != MARK:
            self.at += 1
            self.escaped.add(self.at)

    def _quote(self, stack: list[str]) -> None:
        if stack[-1] == "double":
            stack.pop()
        elif stack[-1] == "double brace" or "arith" in stack[-1]:
            self.unsure = True
        elif stack[-1] != "document":
            if "ticks" in stack and "double" in stack[: stack.index("ticks")]:
                self.unsure = True  # shells differ about quotes in backticks in quotes
            stack.append("double")

    def _ticks(self, stack: list[str]) -> None:
        if self.documents:
            self.unsure = True
        if "ticks" not in stack:
            stack.append("ticks")
            return
        if stack[-1] != "ticks":
            self.unsure = True
        while stack.pop() != "ticks":
            pass

    def _arithmetic(self, char: str, stack: list[str]) -> None:
        if "brace" in stack[-1]:
            return
        if char == "(":
            stack.append("arith")
        elif char == ")":
            stack.pop()
            if (
                stack[-1] == "arith"
                and len(stack) > 1
                and stack[-2] != "arith"
                and self.script[self.at + 1 : self.at + 2] != ")"
            ):
                self.unsure = True  # a subshell in a substitution after all
        elif char == "'":
            self.unsure = True
        elif char in "#;" or self.script.startswith("<<", self.at):
            self.shifts = True
        elif char == "\n" and self.shifts:
            self.unsure = True  # a comment, or a here-document, if it is no arithmetic after all

    def _single(self) -> None:
        text = self.script
        end = text.find("'", self.at + 1)
        if end < 0:
            self.unsure = True
            end = len(text)
        inside = text[self.at : end]
        ansi = (
            text[self.at - 1 : self.at] == "$" and self.at - 1 not in self.escaped
        )  # bash: backslashes mean something
        if ansi and "\\" in inside:
            self.unsure = True
        self._marks(inside, "unsure" if self.unsure else "single")
        self.at = end

    def _begins_command(self) -> bool:
        before = self.script[: self.at].replace("\\\n", "").rstrip(" \t")
        return not before or before[-1] in "\n;&|(){`" or bool(_BEFORE_COMMAND.search(before))

    def _begins_word(self) -> bool:
        at = self.at - 1
        while at in self.escaped and self.script[at] == "\n":
            at -= 2
        return at < 0 or (self.script[at] in " \t\n;&|()<>`" and at not in self.escaped)

    def _code(self, char: str, stack: list[str]) -> None:
        text = self.script
        if char == "'":
            begin = self.at
            self._single()
            if "ticks" in stack and "`" in text[begin : self.at]:
                self.unsure = True
        elif char == "(":
            if text.startswith("((", self.at) and self._begins_command():
                stack += ["arith", "arith"]
                self.shifts = False
                self.at += 1
            else:
                stack.append("code")
        elif char == ")" and stack[-1] == "code":
            if len(stack) > 1 and not self.documents:
                stack.pop()
            else:
                self.unsure = True
        elif char == "#" and self._begins_word():
            end = text.find("\n", self.at)
            end = len(text) if end < 0 else end
            if "ticks" in stack and "`" in text[self.at : end]:
                self.unsure = True
            self._marks(text[self.at : end], "comment")
            self.at = end - 1
        elif char in "ce" and self._begins_word() and (found := _CASE.match(text, self.at)):
            if found[0] == "case" and self._begins_command():
                stack.append("case")
            elif found[0] == "esac" and stack[-1] == "case":
                stack.pop()
        elif char == "<" and text.startswith("<<<", self.at):
            self.at += 2
        elif char == "<" and text.startswith("<<", self.at):
            self._here(stack)
        elif char == "\n" and self.documents:
            self._bodies()

    def _here(self, stack: list[str]) -> None:
        """Note a here-document that begins after this line."""
        found = _HEREDOC.match(self.script, self.at)
        if found is None or MARK in found[0] or self.script[found.end() : found.end() + 1] not in _AFTER_WORD:
            self.unsure = True
            return
        word = found[2].strip("'\"\\")
        self.words.append(word)
        self.documents.append((word, bool(found[1]), word == found[2]))
        self.unsure = self.unsure or "ticks" in stack
        self.at = found.end() - 1

    def _bodies(self) -> None:
        """Skip the here-documents that begin after this line."""
        for word, tabs, expands in self.documents:
            lines = []
            while self.at < len(self.script):
                begin = self.at + 1
                end = self.script.find("\n", begin)
                end = len(self.script) if end < 0 else end
                line = self.script[begin:end]
                self.at = end
                if (line.lstrip("\t") if tabs else line) == word:
                    break
                lines.append(line)
            body = "\n".join(lines)
            if self.unsure or not expands:
                self._marks(body, "unsure" if self.unsure else "literal")
            else:
                inner = _Lexer(body)
                self.places += inner.walk("document")
                self.words += inner.words
        self.documents = []
        self.at -= 1 if self.at < len(self.script) else 0  # the newline itself is read as code

    def _marks(self, text: str, place: Place) -> None:
        self.places += [place] * text.count(MARK)


@lru_cache(maxsize=1024)
def places(script: str) -> Places:
    """Return where each MARK of a script stands. The same for all hosts of a step, so it is kept."""
    lexer = _Lexer(script)
    return Places(tuple(script.split(MARK)), tuple(lexer.walk()), tuple(lexer.words))
