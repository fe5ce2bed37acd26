"""Acting as another account by sudo: the command line, and the talk with sudo before the command begins. Pure.

The password goes over standard input and only when sudo asks for it: it stands on no command line, and an account
that needs none (NOPASSWD) never gets it into the command's own input. `-k` makes sudo ask although it was asked
before, so that a run does not live on somebody's earlier log-in.
"""

import secrets
from dataclasses import dataclass, field

from msp.remote.outcome import Outcome
from msp.secret import Secret

#: Said by our side of sudo when it has let us in: prints the mark, then becomes the command.
_BEGIN = 'printf %s "$1" >&2; shift; exec "$@"'
KEPT = 64 * 1024  # bytes that sudo may say before the command begins


@dataclass(frozen=True, slots=True)
class Become:
    """The account to act as, and what sudo is told when it asks."""

    user: str = "root"
    password: Secret | None = None


@dataclass(slots=True)
class Dialogue:
    """One command under sudo. Feed it what comes on the error stream; it says what to answer."""

    become: Become
    stdin: bytes = b""
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    began: bool = False
    _asked: int = 0
    _said: bytes = b""

    def line(self, words: list[str]) -> list[str]:
        """Return the words of the whole command line for a command given in words."""
        how = ["-n"] if self.become.password is None else ["-S", "-k", "-p", self._prompt]
        begin = ["/bin/sh", "-c", _BEGIN, "sh", self._begun, *words]
        return ["sudo", *how, "-H", "-u", self.become.user, "--", *begin]

    @property
    def _prompt(self) -> str:
        return f"[msp-ask-{self.mark}]"

    @property
    def _begun(self) -> str:
        return f"[msp-begin-{self.mark}]"

    def hear(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Take what sudo or the command wrote; return (what belongs to the command, what to send, end of input).

        After the command has begun everything belongs to it. A second question means that the password is wrong:
        the input ends, so that sudo counts one failed attempt and no more.
        """
        if self.began:
            return data, b"", False
        self._said = (self._said + data)[-KEPT:]
        before, begun, after = self._said.partition(self._begun.encode())
        if begun:
            self.began, self._said = True, b""
            return after, self.stdin, True
        questions = before.count(self._prompt.encode())
        if questions <= self._asked:
            return b"", b"", False
        self._asked = questions
        if questions == 1 and self.become.password is not None:
            return b"", self.become.password.value.encode("utf-8", "surrogateescape") + b"\n", False
        return b"", b"", True

    @property
    def said(self) -> str:
        """What sudo said while the command had not begun, without its questions."""
        return self._said.replace(self._prompt.encode(), b"").decode("utf-8", "backslashreplace").strip()

    def outcome(self, status: int | None) -> Outcome:
        """Return how a command ended that never began: nothing of it ran."""
        said = " ".join(self.said.split())
        user = self.become.user
        if status == 127:
            return Outcome("failed", status=status, detail=f"There is no sudo on the host, so nothing ran as {user}.")
        if self._asked > 1:
            detail = f"sudo did not take the password; nothing ran as {user}."
        elif self.become.password is None and "password" in said:
            detail = f"sudo wants a password to act as {user} and none is stored; nothing ran."
        else:
            detail = f"sudo did not let us act as {user}; nothing ran. It said: {said[:300] or 'nothing'}"
        return Outcome("auth_failed", detail=detail)
