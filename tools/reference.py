"""Write docs/reference/settings.md and commands.md from the code. `--check` fails when they are stale."""

import sys
from dataclasses import fields
from pathlib import Path

import click

from msp.console import COMMANDS, main
from msp.settings import Settings

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


def settings_page() -> str:
    """Return the page of every setting."""
    rows = [
        f"| `{item.name}` | `MSP_{item.name.upper()}` | `{item.default!s}` | {item.metadata['explains']} |"
        for item in fields(Settings)
    ]
    head = (
        "# Settings\nOne file `msp.toml` (or the one that `MSP_CONFIG` or `--config` names);\n"
        "a variable wins over the file.\n"
        "An unknown key is an error. `msp settings check` tells whether everything is in order.\n\n"
        "| setting | variable | default | meaning |\n|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def commands_page() -> str:
    """Return the page of every command with its options, as `--help` prints them."""
    text = [
        "# Commands\nAs `--help` prints them. Exit statuses: 0 done; 1 the answer is no; 2 the request cannot mean",
        "what it says; 3 something is in doubt; 4 refused by contract or role. Some have their own and say so.\n",
    ]
    root = click.Context(main, info_name="msp")
    for name in COMMANDS:
        command = main.get_command(root, name)
        if command is None:
            raise SystemExit(f"{name} is listed in msp/console.py and does not exist")
        text += _describe(command, click.Context(command, info_name=name, parent=root), 2)
    return "\n".join(text)


def _describe(command: click.Command, context: click.Context, level: int) -> list[str]:
    lines = [f"{'#' * level} {context.command_path}", "```", command.get_help(context), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                lines += _describe(child, click.Context(child, info_name=name, parent=context), min(level + 1, 4))
    return lines


def main_() -> int:
    """Write the pages, or compare them."""
    stale = []
    for name, text in (("settings.md", settings_page()), ("commands.md", commands_page())):
        path = REFERENCE / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text)
    if stale and "--check" in sys.argv:
        print(f"stale: {', '.join(stale)}; run python tools/reference.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main_())
