"""Speak with a device line by line: one line is sent, and what it says is read until its prompt stands there again.

Knows no deadline: whoever started the process ends it. Reads line by line, so that much output needs little memory.
"""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from msp.remote.network.platforms import Answers, Platform

SETTLE = 0.03  # seconds without further output after what looks like a prompt
QUIET = 1.0  # seconds after which an unknown question is taken for one
CHUNK = 65536
ABORT = "\x03"  # Ctrl-C
QUOTE = "\x16"  # Ctrl-V: the next character is meant as itself

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78DEHM])|[\x00\x07]")
_MORE = re.compile(
    r"(-+ ?\(?more\)?( \d+%)?\)? ?-*|<-+ ?more ?-+>|press any key to continue.*|lines \d+-\d+.*)$", re.IGNORECASE
)
_QUESTION = re.compile(r"(\[[^\]]*\]|\([^)]*[/|][^)]*\)|\?|password|confirm)[\s:?]*$", re.IGNORECASE)


class Channel(Protocol):
    """What paramiko.Channel offers of it."""

    def settimeout(self, seconds: float | None) -> None: ...
    def recv(self, size: int) -> bytes: ...
    def sendall(self, data: bytes) -> None: ...


class HungUp(Exception):
    """The device closed the connection, or it broke; the text, if any, says more."""


@dataclass(slots=True)
class Answer:
    """What a device said to one line. `question`: it asked what nobody could answer, and was interrupted."""

    lines: list[str] = field(default_factory=list)
    question: str = ""


Listener = Callable[[str], None]


class Dialogue:
    """One open command line.

    `log` hears every line that came, prompts and echoes included; `idle` is called when nothing comes for a moment.
    """

    def __init__(
        self, channel: Channel, platform: Platform, prompt: str, log: Listener, idle: Callable[[], None]
    ) -> None:
        """prompt: as the device shows it outside configuration, without its last sign."""
        self._channel, self._platform, self._log, self._idle = channel, platform, log, idle
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._prompt = re.compile(
            re.escape(prompt[:16]) + r"[\w.:/@~*-]{0,60}(\([^()]{1,80}\))?[\w~/\[\]: -]{0,20}[#>$%]\s?$"
        )
        self._tail = ""
        self._shown = ""  # the prompt that stands there

    def ask(self, text: str, *, answers: Answers = (), heard: Listener | None = None, keep: bool = True) -> Answer:
        """Send one line and return what the device said until its prompt.

        heard: is told every line of the answer as it comes. keep: False leaves them out of the Answer.
        Raises HungUp. `text` holds no control characters; the caller has seen to that.
        """
        self._drain()
        quoted = text.replace("?", QUOTE + "?") if self._platform.quotes else text
        self._send(quoted + "\n")
        answer, echo = Answer(), text.strip()
        self._tail = ""

        def one(line: str) -> None:
            nonlocal echo
            self._log(self._shown + line)
            self._shown = ""
            if echo and line.rstrip().replace(QUOTE, "").endswith(echo):
                echo = ""
                return
            echo = ""
            if keep:
                answer.lines.append(line)
            if heard:
                heard(line)

        idle = 0.0
        asked: set[int] = set()
        while True:
            chunk = self._read(SETTLE if self._at_prompt() else 0.25)
            if chunk:
                idle = 0.0
                self._take(chunk, one)
                continue
            idle += 0.25
            self._idle()
            tail = self._shown_tail()
            if self._at_prompt():
                self._shown = tail
                return answer
            if _MORE.search(tail):
                self._tail = ""
                self._send(" ")
                continue
            known = next(
                (n for n, (question, _) in enumerate(answers) if re.search(question, tail, re.IGNORECASE)), None
            )
            if known is not None and known not in asked:
                asked.add(known)
                self._answer(tail, answers[known][1], one)
            elif idle >= QUIET and tail and _QUESTION.search(tail):
                if not answer.question:
                    answer.question = tail.strip()
                    self._answer(tail, ABORT, one, ending="")
                else:
                    self._answer(tail, "", one)
                idle = 0.0

    def _answer(self, tail: str, text: str, one: Listener, ending: str = "\n") -> None:
        one(tail)
        self._tail = ""
        self._send(text + ending)

    def _drain(self) -> None:
        """Throw away what came unasked: messages of the device's log."""
        while self._read(0.0):
            pass

    def _read(self, wait: float) -> str:
        self._channel.settimeout(wait)
        try:
            data = self._channel.recv(CHUNK)
        except TimeoutError:
            return ""
        except (OSError, EOFError) as error:
            raise HungUp from error
        if not data:
            raise HungUp
        return self._decoder.decode(data)

    def _send(self, text: str) -> None:
        self._channel.settimeout(None)
        try:
            self._channel.sendall(text.encode("utf-8", "surrogateescape"))
        except (OSError, EOFError) as error:
            raise HungUp from error

    def _take(self, chunk: str, one: Listener) -> None:
        *whole, self._tail = (self._tail + chunk).split("\n")
        for line in whole:
            one(cleaned(line))

    def _shown_tail(self) -> str:
        return cleaned(self._tail)

    def _at_prompt(self) -> bool:
        return len(self._tail) < 400 and bool(self._prompt.match(self._shown_tail()))


def cleaned(line: str) -> str:
    """Return a line as a person would see it: without escapes, and with what was written over what."""
    text = _ESCAPES.sub("", line).rstrip("\r")
    if "\x08" not in text and "\r" not in text:
        return text
    seen: list[str] = []
    at = 0
    for sign in text:
        if sign == "\x08":
            at = max(at - 1, 0)
        elif sign == "\r":
            at = 0
        else:
            seen[at : at + 1] = sign
            at += 1
    return "".join(seen).rstrip(" ")
