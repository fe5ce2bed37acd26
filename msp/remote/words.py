"""The command that runs a script, as words and as one line for a log-in shell. Pure."""

import shlex


def words_of(script: str) -> list[str]:
    """Return the words of the command that runs `script`: sh, or what its #! line names."""
    first, _, _ = script.partition("\n")
    return [*(first[2:].split() if first.startswith("#!") else ["/bin/sh"]), "-c", script]


def command_line(script: str) -> str:
    """Return the one line that a log-in shell needs to run `script`."""
    *interpreter, _ = words_of(script)
    return f"exec {' '.join(interpreter)} {shlex.quote(script)}"
