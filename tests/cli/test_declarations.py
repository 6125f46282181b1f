"""Each declared command fits the function that carries it out, which only running the command imports."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
import pytest

from reconciler.cli.app import implementation
from reconciler.cli.main import main
from reconciler.cli.options import OutputOptions, PlanOptions

GROUPED = {"output": OutputOptions, "plan_options": PlanOptions}


def commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from commands(command)
        else:
            yield command


@pytest.mark.parametrize(
    "command", list(commands(main)), ids=lambda command: command.callback.__name__
)
def test_a_command_passes_the_arguments_that_its_function_takes(command: click.Command) -> None:
    assert command.callback is not None
    function = implementation(command.callback)
    app, *parameters = inspect.signature(function).parameters.values()
    assert app.name == "app"
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    expected = {parameter.name for parameter in parameters}
    for name, group in GROUPED.items():
        if name in expected:
            expected = expected - {name} | set(group._fields)
    assert {option.name for option in command.params if option.expose_value} == expected
