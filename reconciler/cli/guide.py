"""Commands about the program itself: help, schema."""

from __future__ import annotations

from collections.abc import Sequence

import click

from reconciler.cli.app import App
from reconciler.cli.streams import print_document, print_result
from reconciler.resources import schema_text


def help_(app: App, *, words: Sequence[str]) -> None:
    """Prints the help of the program, or of a command."""
    context = click.get_current_context().find_root()
    command = context.command
    for position, word in enumerate(words):
        child = command.get_command(context, word) if isinstance(command, click.Group) else None
        if child is None:
            name = " ".join(words[: position + 1])
            names = command.list_commands(context) if isinstance(command, click.Group) else []
            raise click.exceptions.NoSuchCommand(name, possibilities=names, ctx=context)
        command = child
        context = click.Context(command, info_name=word, parent=context)
    print_result(command.get_help(context))


def schema(app: App, *, name: str, dialect: str) -> None:
    """Prints a schema of the installed version."""
    is_other = name == "profile" and dialect == "openapi"
    print_document([schema_text(f"{'profile.openapi' if is_other else name}.schema")])
