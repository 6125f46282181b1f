"""How arguments are read: the options of the program may stand before and after the command, and help ends
with examples.

Examples are in a module of their own, which only help imports.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import click
from click.core import ParameterSource

_EARLIER = "reconciler.program_options"
"""Under this name, a context remembers the options of the program that stood after the command."""


def completed_by(values: str) -> Callable[..., Any]:
    """Completes a word with the values that a function of `completion_values` gives."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> Any:
        function = getattr(import_module("reconciler.cli.completion_values"), values)
        return function(context, incomplete)

    return complete


PROGRAM_OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "config": (
        ("--config",),
        {
            "metavar": "FILE",
            "help": "The configuration file; by default searched from this folder upwards.",
        },
    ),
    "env": (
        ("--env",),
        {
            "metavar": "NAME",
            "help": "The environment; by default the configured one.",
            "shell_complete": completed_by("environments"),
        },
    ),
    "color": (
        ("--color",),
        {
            "type": click.Choice(["auto", "always", "never"]),
            "default": "auto",
            "show_default": True,
            "help": "When to use colour; auto respects NO_COLOR.",
        },
    ),
    "quiet": (
        ("--quiet", "-q"),
        {"is_flag": True, "help": "Print results, warnings and errors; no progress and no notes."},
    ),
    "verbose": (
        ("--verbose", "-v"),
        {
            "is_flag": True,
            "help": "Print each request with its answer, time and Request-Id. No bodies, no key.",
        },
    ),
    "run": (("--run",), {"metavar": "NAME", "help": "The value of {run} in profile files."}),
    "worker": (
        ("--worker",),
        {"metavar": "NAME", "help": "The value of {worker} in profile files; main by default."},
    ),
    "allow_outside": (
        ("--allow-outside",),
        {"is_flag": True, "help": "Paths of reconcile.yaml may leave its project."},
    ),
    "env_prefix": (
        ("--env-prefix",),
        {
            "metavar": "PREFIX",
            "help": "Profile files may use the environment variables that begin with PREFIX. Needed in a "
            "build.",
        },
    ),
    "allowed_hosts": (
        ("--allowed-hosts",),
        {
            "metavar": "HOSTS",
            "help": "Hosts that the key may go to, HOST or HOST:PORT, separated by commas or blanks; besides "
            "api.adapty.io and this machine.",
        },
    ),
    "allowed_states": (
        ("--allowed-states",),
        {
            "metavar": "ADDRESSES",
            "help": "Addresses of states on other machines, or beginnings of such, that reconcile.yaml may "
            "name; separated by blanks.",
        },
    ),
    "allowed_commands": (
        ("--allowed-commands",),
        {
            "metavar": "COMMANDS",
            "help": "Commands that reconcile.yaml may name for the password or the key of a state, one a "
            "line.",
        },
    ),
    "lock_timeout": (
        ("--lock-timeout",),
        {
            "metavar": "SECONDS",
            "type": click.FloatRange(min=0, max=86400),
            "help": "Wait so long for the lock of the state while somebody else has it. Overrides "
            "`lock_wait` in reconcile.yaml.",
        },
    ),
}
"""The options of the program by their names: their declarations, and the arguments of `click.Option`."""


class ProgramCommand(click.Command):
    """A command that takes the options of the program too, and shows its examples in its help."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *_late_options()]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)


class ProgramGroup(click.Group):
    """A group of such commands."""

    command_class = ProgramCommand

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *_late_options()]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)


def write_examples(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Writes the examples of a command at the end of its help."""
    name = ctx.command_path.partition(" ")[2]
    examples = import_module("reconciler.cli.examples").EXAMPLES.get(name, ())
    if examples:
        with formatter.section("Examples"):
            for number, (line, text) in enumerate(examples):
                if number:
                    formatter.write_paragraph()
                indent = " " * formatter.current_indent
                formatter.write(f"{indent}# {text}\n{indent}{line}\n")


@cache
def _late_options() -> tuple[click.Option, ...]:
    """The options of the program as they may stand after a command. Their variables and defaults are
    read before it."""
    return tuple(
        click.Option(
            [name, *declarations],
            hidden=True,
            expose_value=False,
            callback=_take,
            **{
                key: value
                for key, value in settings.items()
                if key not in ("default", "show_default", "help")
            },
        )
        for name, (declarations, settings) in PROGRAM_OPTIONS.items()
    )


def _take(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Takes an option of the program that stands after the command.

    Raises UsageError where it was given before, with another value: nobody can tell which is meant.
    """
    name = parameter.name or ""
    if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
        return
    earlier: dict[str, Any] = context.meta.setdefault(_EARLIER, {})
    root = context.find_root()
    if root.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        earlier.setdefault(name, root.params.get(name))
    if earlier.setdefault(name, value) != value:
        raise click.UsageError(
            f"{parameter.opts[0]} is given twice: {earlier[name]} and {value}.", context
        )
    if context.obj is not None:
        context.obj.set_option(name, value)


def options_so_far(context: click.Context) -> dict[str, Any]:
    """The options of the program in a line that is not complete."""
    return {**context.find_root().params, **context.meta.get(_EARLIER, {})}


def with_program_options(
    declare: Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of the program, each made by ``declare``, for the group of all commands."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for declarations, settings in reversed(PROGRAM_OPTIONS.values()):
            function = declare(*declarations, **settings)(function)
        return function

    return decorate
