"""A setting, command, route or playbook field without its line of documentation fails here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from msp.console import COMMANDS, main

ROOT = Path(__file__).parent.parent


def test_the_reference_pages_are_those_of_the_code() -> None:
    command = [sys.executable, "tools/reference.py", "--check"]
    environment = {**os.environ, "PYTHONPATH": ".:web", "COLUMNS": "100", "LANG": "C.UTF-8"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_shows_an_example(name: str) -> None:
    root = click.Context(main, info_name="msp")
    command = main.get_command(root, name)
    assert command is not None

    def walk(command: click.Command, context: click.Context) -> None:
        assert "Example:" in command.get_help(context), context.command_path
        if isinstance(command, click.Group):
            for child_name in command.list_commands(context):
                child = command.get_command(context, child_name)
                assert child is not None
                walk(child, click.Context(child, info_name=child_name, parent=context))

    walk(command, click.Context(command, info_name=name, parent=root))


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("playbooks/*.md")]
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs/decisions").glob("0*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
