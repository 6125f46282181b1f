"""Options of the program stand anywhere, and each command shows examples that parse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from reconciler.cli.examples import EXAMPLES
from reconciler.cli.grammar import PROGRAM_OPTIONS
from reconciler.cli.main import main
from tests.support.projects import JANE, Project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    api = {"api": {"url": "emulator"}}
    config = {"version": 1, "environments": {"local": api, "qa": api}, "default_environment": "qa"}
    return Project(tmp_path_factory.mktemp("grammar"), config, profiles={"jane": JANE})


def commands(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for child, inner in command.commands.items():
            yield from commands(inner, f"{name} {child}".strip())


ALL = dict(commands(main))


@pytest.mark.parametrize(
    "words",
    [
        "--env local plan",
        "plan --env local",
        "plan --env=local --prune",
        "state --env local path",
        "state path --env local",
    ],
)
def test_an_option_of_the_program_may_stand_anywhere(project: Project, words: str) -> None:
    code, output = project.invoke(*words.split())
    assert code == 0, output
    assert "local" in output


def test_an_option_that_is_given_twice_is_refused_where_the_values_differ(project: Project) -> None:
    code, output = project.invoke("--env", "local", "plan", "--env", "qa")
    assert code == 64
    assert "--env is given twice: local and qa" in output
    assert project.invoke("state", "--env", "qa", "path", "--env", "local")[0] == 64
    assert project.invoke("--env", "qa", "plan", "--env", "qa")[0] == 0


def test_an_option_after_the_command_wins_over_its_variable(project: Project) -> None:
    _, output = project.invoke("state", "path", "--env", "local", RECONCILE_ENV="qa")
    assert "local" in output


@pytest.mark.parametrize("name", ALL)
def test_every_command_takes_every_option_of_the_program(name: str) -> None:
    own = {option for each in ALL[name].params for option in each.opts}
    context = click.Context(ALL[name], info_name=name, **main.context_settings)
    taken = {option for each in ALL[name].get_params(context) for option in each.opts}
    program = {option for declared, _ in PROGRAM_OPTIONS.values() for option in declared}
    assert program <= taken
    names = {each.name for each in ALL[name].params}
    assert name == "" or (own.isdisjoint(program) and names.isdisjoint(PROGRAM_OPTIONS))


def test_every_command_has_examples_and_no_other_has() -> None:
    assert EXAMPLES.keys() == ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_examples_are_of_their_command_and_parse(name: str) -> None:
    context = click.Context(main, info_name="reconcile", **main.context_settings)
    context.obj = None
    for line, text in EXAMPLES[name]:
        assert re.fullmatch(r"[A-Z].*[.?]", text)
        words = shlex.split(re.sub(r"^.*?\breconcile |\)?\"$| [|>] .*| && .*", "", line))
        command, parent = main, context
        path = []
        while isinstance(command, click.Group):
            child, command, words = command.resolve_command(parent, words)  # type: ignore[assignment]
            assert child is not None
            path.append(child)
            if isinstance(command, click.Group):
                parent = click.Context(command, info_name=child, parent=parent)
        command.make_context(line, words, parent=parent)
        assert " ".join(path).startswith(name), line


@pytest.mark.parametrize("group", ["", "state"])
def test_a_list_of_commands_is_not_cut_at_80_columns(project: Project, group: str) -> None:
    _, output = project.invoke(*group.split(), "--help", COLUMNS="80")
    listed = output.partition("Commands:")[2].partition("Examples:")[0]
    assert listed.count("\n") > 10
    assert "..." not in listed


def test_help_of_a_command_ends_with_examples(project: Project) -> None:
    code, output = project.invoke("help", "state", "rm")
    assert code == 0
    assert output == project.invoke("state", "rm", "--help")[1]
    assert output.endswith("  reconcile state rm qa-jane\n")
    assert project.invoke("help")[1] == project.invoke("--help")[1]
    code, output = project.invoke("help", "plam")
    assert code == 64
    assert "plan" in output
