"""What the WinRM peer does instead of cmd.exe and powershell.exe: it runs the script by /bin/sh.

Where a host is played, no script is run: what was written down beforehand is answered. Elsewhere a batch file is run
as it is, with the line ends of Unix. Of a PowerShell script the assignments at its beginning, which our quoting
writes, are read by the rules of PowerShell (about_Quoting_Rules) and become variables of the environment; the rest is
run by /bin/sh. `"${name}"` happens to mean the same in both languages.
"""

import base64
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from msp.remote.consoles import powershell
from msp.remote.winrm import bootstrap

PASSED_ON = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/tmp", "LANG": "C.UTF-8"}
_LINE = re.compile(
    r"(?:set (MSP_STEP=[\w-]+)& )?powershell(?:\.exe)? .*-EncodedCommand ([A-Za-z0-9+/=]+)", re.IGNORECASE
)
_QUOTES = "'\u2018\u2019\u201a\u201b"  # any of them begins and ends a literal, and doubled stands for itself
_LITERAL = re.compile(rf"\$(\w+)=[{_QUOTES}]((?:[^{_QUOTES}]|([{_QUOTES}])[{_QUOTES}])*)[{_QUOTES}]\n")
_BASE64 = re.compile(r"\$(\w+)=&\$msp_text '([A-Za-z0-9+/=]*)'\n")
_SECRET = re.compile(r"\$(\w+)=&\$msp_text \$msp_in\[(\d+)\]\n")
_ALIVE = re.compile(r"\$t='(MSP_STEP=[\w-]+&)'\n.*Win32_Process")


@dataclass
class Job:
    """A process to start."""

    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    clixml: bool = False  # its standard error is to be wrapped


@dataclass(frozen=True)
class Answer:
    """What a script prints on a host that is played, and how it ends."""

    status: int = 0
    out: str = ""
    err: str = ""


@dataclass
class Awaited:
    """A script that has yet to come on standard input."""

    powershell: bool
    environment: dict[str, str]
    at_work: Callable[[], list[str]] = list  # command lines at work on this host
    played: Callable[[str, dict[str, str]], Answer] | None = None  # takes a script and its variables

    def read(self, data: bytes, folder: Path) -> Job:
        """Return the process for what came."""
        script, stdin = (base64.b64decode(line) for line in data.split(b"\n")[:2])
        if not self.powershell and self.played:
            return _answering(self.played(script.decode().replace("\r\n", "\n"), {}), clixml=False)
        if not self.powershell:
            return Job(_file(script.replace(b"\r\n", b"\n"), folder), self.environment, stdin)
        text = script.decode().removesuffix(bootstrap.ENDING)
        if found := _ALIVE.match(text):
            status = 0 if any(found[1] in line for line in self.at_work()) else 1
            return Job(["/bin/sh", "-c", f"exit {status}"])
        if text == powershell.LINE.partition("\n")[2]:
            return _line_of_console(stdin)
        values, body = assigned(text, stdin.decode().split("\n"))
        if self.played:
            return _answering(self.played(body, values), clixml=True)
        return Job(_file(body.encode(), folder), self.environment | values, clixml=True)


def understood(line: str) -> Awaited | None:
    """Return what a command line waits for if it is one of the two fixed ones, else None."""
    found = _LINE.fullmatch(line)
    if not found:
        return None
    kind = {bootstrap.POWERSHELL: True, bootstrap.CMD: False}[base64.b64decode(found[2]).decode("utf-16-le")]
    name, _, value = (found[1] or "").partition("=")
    return Awaited(kind, {name: value} if name else {})


def assigned(script: str, lines: list[str]) -> tuple[dict[str, str], str]:
    """Return the variables that a script assigns at its beginning, and the rest. lines: of its standard input."""
    values: dict[str, str] = {}
    while True:
        if found := _LITERAL.match(script):
            values[found[1]] = re.sub(f"([{_QUOTES}])[{_QUOTES}]", r"\1", found[2])
        elif found := _BASE64.match(script):
            values[found[1]] = base64.b64decode(found[2]).decode()
        elif found := _SECRET.match(script):
            values[found[1]] = base64.b64decode(lines[int(found[2])]).decode()
        else:
            return values, script
        script = script[found.end() :]


def _line_of_console(stdin: bytes) -> Job:
    """A line of a console, run by /bin/sh in its folder, which is told afterwards as PowerShell tells it."""
    where, line, wide = stdin.split(b"\n")
    script = 'cd "${0:-/}" || exit; eval "$1"; printf "\\035%s\\035" "$(pwd | tr -d "\\n" | base64 -w0)"'
    words = [base64.b64decode(where).decode(), base64.b64decode(line).decode()]
    return Job(["/bin/sh", "-c", script, *words], {"COLUMNS": wide.decode()}, clixml=True)


def _answering(answer: Answer, *, clixml: bool) -> Job:
    script = 'printf %s "$0"; printf %s "$1" >&2; exit "$2"'
    return Job(["/bin/sh", "-c", script, answer.out, answer.err, str(answer.status)], clixml=clixml)


def _file(script: bytes, folder: Path) -> list[str]:
    handle, path = tempfile.mkstemp(dir=folder, suffix=".cmd")
    with os.fdopen(handle, "wb") as file:
        file.write(script)
    interpreter = script[2:].split(b"\n")[0].decode().split() if script.startswith(b"#!") else ["/bin/sh"]
    return [*interpreter, path]
