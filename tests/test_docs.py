"""The documents say what the program does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from reconciler.cli import main
from reconciler.errors import ExitCode
from reconciler.resources import generated
from tests.update_help import TARGET, content

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def commands() -> list[str]:
    lines = re.findall(r"^\$ (reconcile .*)$", README, re.MULTILINE)
    return [line.split("  #")[0].strip() for line in lines]


def test_the_readme_shows_commands() -> None:
    assert len(commands()) > 15


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_readme_parses(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = main
    context = click.Context(main, info_name="reconcile", **main.context_settings)
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)  # type: ignore[assignment]
        assert command is not None, name
    command.make_context(line, words, parent=context)


def test_the_exit_codes_are_those_of_the_program() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \| ", README, re.MULTILINE)}
    assert told == {int(code) for code in ExitCode}


def test_the_help_texts_are_current() -> None:
    assert TARGET.read_text("utf-8") == content(), "run `make docs`"


@pytest.mark.parametrize("name", sorted(generated()))
def test_the_generated_files_are_current(name: str) -> None:
    assert (ROOT / name).read_text("utf-8") == generated()[name], "run `make schemas`"


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_variable_of_an_option_follows_the_rule() -> None:
    def walk(command: click.Command) -> None:
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.envvar:
                long = max(parameter.opts, key=len).removeprefix("--")
                assert parameter.envvar == "RECONCILE_" + long.upper().replace("-", "_")
        if isinstance(command, click.Group):
            for child in command.commands.values():
                walk(child)

    walk(main)
