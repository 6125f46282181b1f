"""Writes ``docs/cli.md``: the help text of every command. ``python -m tests.support.update_help``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from reconciler.cli.main import main

TARGET = Path(__file__).parent.parent.parent / "docs" / "cli.md"
INTRODUCTION = """\
# Command line

This page lists the help text of every command. `make docs` writes it from the program itself.

- Options before the command, such as `--env`, apply to all commands. Options after it belong to that command.
- `[env var: …]` names the environment variable that sets an option.
- Results go to standard output, everything else to standard error. With a JSON format, standard output
  holds only JSON.
- The [README](../README.md#exit-codes) explains the exit codes.
"""


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, with their full names."""
    yield name, command
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            yield from commands(command.commands[child], f"{name} {child}")


def content() -> str:
    parts = [INTRODUCTION]
    for name, command in commands(main, "reconcile"):
        context = click.Context(
            command, info_name=name, terminal_width=100, **main.context_settings
        )
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(content(), "utf-8")
