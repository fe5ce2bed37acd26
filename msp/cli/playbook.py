"""`msp playbook`: check, show, list and begin playbooks."""

from pathlib import Path

import click

from msp import console

BEGINNING = """\
# yaml-language-server: $schema=./playbook.schema.json
name: {name}
version: "1"
summary: Say in one line what is true on the host when this has run.
action_class: change            # read, change, disruptive or access: the contract decides by it
parameters:
  path: {{type: string, default: /tmp/{name}.txt, pattern: "/[^\\\\0]+", summary: File to write}}
limits: {{connect: 20s, step: 60s}}
steps:
  - name: write the file
    probe: test ! -e {{{{ path }}}}          # 0: needed, 1: not needed; reads only
    do: |
      date > {{{{ path }}}}
    check: test -s {{{{ path }}}}            # 0: done; nothing else proves it
    undo: rm -f {{{{ path }}}}
"""


@click.group(epilog="Example: msp playbook check restart-service.yml")
def playbook() -> None:
    """Check, show and start playbooks."""


@playbook.command(epilog="Example: msp playbook check my-playbook.yml playbooks/linux/*.yml")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON line for every fault.")
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...], as_json: bool) -> None:
    """Check FILES and tell every fault as file:line:column: message. Exit 1 if there is one.

    NAME.test.yml is checked as cases by which a playbook is tried.
    """
    from msp.remote import cases, catalogue
    from msp.remote.playbook import load
    from msp.remote.yaml_source import Fault, Faulty

    own = console.settings().playbooks
    found = 0
    for name in files:
        path = Path(name)
        beside = path.parent
        try:
            if path.name.endswith(catalogue.CASES):
                cases.load(path.read_bytes())
            else:
                load(
                    path.read_bytes(),
                    known=lambda other, beside=beside: catalogue.is_known(other, own, beside),  # type: ignore[misc]
                    has_file=lambda other, beside=beside: (beside / other).is_file(),  # type: ignore[misc]
                    class_of=lambda other, beside=beside: catalogue.class_of(other, own, beside),  # type: ignore[misc]
                )
            faults: list[Fault] = []
        except Faulty as error:
            faults = list(error.faults)
        except OSError as error:
            faults = [Fault(1, 1, f"The file cannot be read: {error.strerror}.")]
        for fault in faults:
            if as_json:
                console.print_json({"file": name, "line": fault.line, "column": fault.column, "message": fault.message})
            else:
                click.echo(f"{name}:{fault}")
        if not faults and not as_json:
            click.echo(f"{name}: ok")
        found += len(faults)
    ctx.exit(1 if found else 0)


@playbook.command("test", epilog="Example: msp playbook test free-disk-space")
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON line for every case.")
@click.pass_context
def try_cases(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Try playbooks by the cases beside them (NAME.test.yml). Exit 1 if one fails; without NAMES all that have some.

    Cases on `local` really run on this machine, as you, each in a new folder below the temporary folder.
    """
    from msp.remote import cases, catalogue

    own = console.settings().playbooks
    paths = [catalogue.locate(name, own) for name in names]
    if not names:
        paths = [path for _, path in catalogue.files(own) if cases.beside(path).exists()]
    failed = 0
    for path in paths:
        for tried in cases.try_all(path, own):
            failed += bool(tried.faults)
            if as_json:
                console.print_json({"playbook": tried.playbook, "case": tried.case, "ok": tried.ok,
                                    "faults": list(tried.faults), "left_out": tried.left_out})  # fmt: skip
                continue
            said = f"left out, {tried.left_out}" if tried.left_out else "ok" if tried.ok else "FAILED"
            click.echo(f"{tried.playbook}: {tried.case}: {said}")
            for fault in tried.faults:
                click.echo(f"  {fault}")
    ctx.exit(1 if failed else 0)


@playbook.command("list", epilog="Example: msp playbook list --json")
@click.option("--json", "as_json", is_flag=True, help="One JSON line for every playbook.")
def list_all(as_json: bool) -> None:
    """List the playbooks that can be run by name: yours first, then those shipped."""
    from msp.errors import MspError
    from msp.remote import catalogue

    own = console.settings().playbooks
    rows = []
    for name, path in catalogue.files(own):
        try:
            book = catalogue.find(str(path), own).playbook
            row = {"name": name, "action_class": book.action_class, "parameters": list(book.parameters)}
            row |= {"summary": book.summary, "summary_ru": book.summary_ru, "platform": list(book.applies_to.platform)}
            row |= {"symptoms": list(book.symptoms)}
        except MspError:
            row = {
                "name": name,
                "action_class": "faulty",
                "parameters": [],
                "summary": "Has faults: msp playbook check",
            }
        row["file"] = str(path)
        rows.append(row)
    if as_json:
        for row in rows:
            console.print_json(row)
        return
    columns = ("name", "action_class", "summary")
    console.print_table(("playbook", "class", "what it does"), ([row[key] for key in columns] for row in rows))


@playbook.command(epilog="Example: msp playbook show free-disk-space")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The playbook as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show what playbook NAME (or a file) takes and does."""
    from msp.remote import catalogue

    found = catalogue.find(name, console.settings().playbooks)
    book = found.playbook
    if as_json:
        console.print_json(book.model_dump(mode="json", by_alias=True, exclude_unset=True))
        return
    click.echo(f"{book.name} {book.version}: {book.summary}")
    if book.summary_ru:
        click.echo(book.summary_ru)
    click.echo(f"Class {book.action_class}; step limit {book.limits.step}; applies to "
               f"{', '.join(book.applies_to.platform) or 'any platform'}.")  # fmt: skip
    for key, parameter in book.parameters.items():
        default = "required" if parameter.required else f"default {parameter.default!r}"
        click.echo(f"  --param {key}=...  {parameter.type}, {default}. {parameter.summary}")
    for number, step in enumerate(book.steps, 1):
        phases = [phase for phase in ("probe", "check", "undo") if getattr(step, phase)]
        extra = f" with {', '.join(phases)}" if phases else ""
        click.echo(f"{number}. {step.name or step.do.kind} ({step.do.kind}{extra})")


@playbook.command(epilog="Example: msp playbook new restart-printer-spooler")
@click.argument("name")
@click.option("-o", "--output", type=click.Path(), help="File to write (default: NAME.yml here).")
def new(name: str, output: str | None) -> None:
    """Write the beginning of a playbook called NAME; it passes check as it is."""
    import re

    from msp.errors import Conflict, Misconfigured

    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", name):
        raise Misconfigured(f"{name!r} cannot be a name.", advice="Use small letters, digits and hyphens.")
    path = Path(output or f"{name}.yml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(BEGINNING.format(name=name))
    except FileExistsError as error:
        raise Conflict(f"{path} exists already.", advice="Choose another name; nothing was written.") from error
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}.", advice="Name another file.") from error
    click.echo(f"{path} written; edit it, then: msp playbook check {path}")


@playbook.command(epilog="Example: msp playbook schema > playbook.schema.json")
def schema() -> None:
    """Print the JSON Schema of playbooks, for completion and checking in editors."""
    import json

    from msp.remote import playbook as language

    click.echo(json.dumps(language.schema(), indent=2, ensure_ascii=False))
