"""What `msp run` prints: JSON lines for programs (fields: docs/reference/run.md), or progress for people."""

import sys
from collections.abc import Callable
from typing import Any

import click

from msp.remote.ledger import HostEnd, StepRecord
from msp.remote.outcome import Outcome
from msp.remote.output import shown
from msp.remote.runner import Report

MARKS = {"ok": ("✓", "green"), "skipped": ("-", None), "lost": ("?", "magenta"), "timeout": ("?", "magenta")}
LINES = 20  # of output shown to people when a step fails


def _ending(outcome: Outcome) -> dict[str, Any]:
    fields: dict[str, Any] = {"outcome": outcome.kind, "status": outcome.status}
    if outcome.reason:
        fields["reason"] = outcome.reason
    if outcome.signal:
        fields["signal"] = outcome.signal
    return fields | {"unknown": outcome.in_doubt, "detail": outcome.detail}


def step_line(record: StepRecord, *, rendered: bool = False) -> dict[str, Any]:
    """Return the JSON fields of one phase of one step on one host."""
    out, err = record.out, record.err
    line: dict[str, Any] = {
        "host": record.host,
        "step": record.key.step,
        "phase": record.key.phase,
        "name": record.name,
        "attempt": record.key.attempt,
        **_ending(record.outcome),
        "stdout": out.data.decode("utf-8", "backslashreplace"),
        "stderr": err.data.decode("utf-8", "backslashreplace"),
        "stdout_bytes": out.size,
        "stderr_bytes": err.size,
        "stdout_sha256": out.sha256,
        "stderr_sha256": err.sha256,
        "started_at": record.started_at.isoformat(),
        "seconds": round((record.finished_at - record.started_at).total_seconds(), 4),
    }
    for stream, captured in (("stdout", out), ("stderr", err)):
        if captured.kept is not None:
            line[f"{stream}_file"], line[f"{stream}_file_whole"] = captured.kept.file, not captured.kept.why
    if record.pictures:
        from msp.remote.pictures import proof

        line["pictures"] = [proof(shot) for shot in record.pictures]
    return line | ({"rendered": record.rendered} if rendered else {})


def host_line(end: HostEnd) -> dict[str, Any]:
    """Return the JSON fields of a host's end; its phase is `host`, and there is exactly one for every host."""
    began = end.started_at
    return {
        "host": end.host,
        "step": None,
        "phase": "host",
        "final": True,
        **_ending(end.outcome),
        "visit": end.visit,
        "started_at": began.isoformat() if began else None,
        "seconds": round((end.finished_at - began).total_seconds(), 4) if began else 0.0,
    }


def json_lines(*, rendered: bool = False) -> Callable[[StepRecord | HostEnd], None]:
    """Return a listener that writes a line as each thing happens."""
    import json

    write, encode = sys.stdout.write, json.JSONEncoder(separators=(",", ":")).encode

    def tell(what: StepRecord | HostEnd) -> None:
        line = step_line(what, rendered=rendered) if isinstance(what, StepRecord) else host_line(what)
        write(encode(line) + "\n")  # ASCII: nothing in it can steer a terminal
        if isinstance(what, HostEnd):
            sys.stdout.flush()

    return tell


def _styled(kind: str, text: str) -> str:
    mark, colour = MARKS.get(kind, ("✗", "red"))
    return click.style(f"{mark} {text}", fg=colour)


def people(total: int, *, dry_run: bool, output: bool) -> Callable[[StepRecord | HostEnd], None]:
    """Return a listener that tells people how it goes: one line a host, more where something went wrong."""
    done = 0

    def tell(what: StepRecord | HostEnd) -> None:
        nonlocal done
        if isinstance(what, HostEnd):
            done += 1
            took = (what.finished_at - what.started_at).total_seconds() if what.started_at else 0
            line = f"{what.host}: {what.outcome}  [{done}/{total}, {took:.1f} s]"
            click.echo(_styled(what.outcome.kind, line))
            if what.outcome.detail and not what.outcome.ok:
                click.echo(f"    {shown(what.outcome.detail.encode('utf-8', 'surrogateescape'))}")
            if what.visit:
                click.echo("    The playbook asks for a visit.")
            return
        if what.key.phase == "connect":
            return  # the end of the host says it
        bad = what.outcome.kind not in ("ok", "skipped")
        if dry_run and what.key.phase == "do":
            click.echo(f"{what.host}: step {what.key.step} {what.name}: {what.outcome.detail}")
            _indented(what.rendered.encode("utf-8", "surrogateescape"))
        elif bad or (output and what.key.phase == "do"):
            if bad:
                where = f"{what.host}: step {what.key.step} {what.name}, {what.key.phase}: {what.outcome}"
                click.echo(_styled(what.outcome.kind, where))
            else:
                click.echo(f"{what.host}: step {what.key.step} {what.name}")
            _indented(what.out.data)
            _indented(what.err.data)

    return tell


def _indented(data: bytes) -> None:
    lines = shown(data).splitlines()
    if len(lines) > LINES:
        lines = [f"... {len(lines) - LINES} lines before ...", *lines[-LINES:]]
    for line in lines:
        click.echo(f"    | {line}")


def summary(report: Report, total: int, seconds: float) -> str:
    """Return the last line: `3 hosts: 2 ok, 1 failed (4.2 s)`."""
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(report.counts().items(), key=lambda one: -one[1]))
    text = f"{total} host{'s' * (total != 1)}: {counts or 'nothing done'} ({seconds:.1f} s)"
    doubtful = [end.host for end in report.ends if end.outcome.in_doubt]
    if doubtful:
        text += (
            f"\nUnknown what happened on: {', '.join(doubtful[:10])}{' ...' * (len(doubtful) > 10)}. Look there first."
        )
    return text
