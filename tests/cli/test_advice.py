"""Typos, and habits of those who come from terraform, gh, kubectl, git and ruff: each line works, or is
answered with the right way."""

from __future__ import annotations

import pytest

from tests.support.projects import JANE, Project

LOCAL = {
    "api": {"url": "emulator"},
    "state": {"url": "sqlite:///.reconcile/local.db"},
}
"""The state stays with the project, since each test has a home of its own."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(
        tmp_path_factory.mktemp("advice"),
        {"version": 1, "environments": {"local": LOCAL}},
        profiles={"jane": JANE},
    )
    with project.workspace() as workspace:
        workspace.apply(workspace.plan())
    return project


HABITS = {
    # terraform
    "init -upgrade": (64, "nothing to upgrade"),
    "validate": (0, "1 profile valid."),
    "fmt -check": (64, "Long options have two dashes: --check"),
    "plan -out=x.plan": (64, "Long options have two dashes: --out=x.plan"),
    "plan -target=jane": (64, "--select ADDRESS"),
    "plan -destroy": (64, "destroy --dry-run --select GLOB"),
    "plan -refresh-only": (64, "refresh"),
    "plan -var tier=gold": (64, "`variables` of an environment"),
    "plan -detailed-exitcode": (64, "--detailed-exitcode"),
    "plan --detailed-exitcode": (0, "No changes."),
    "plan -json": (64, "Long options have two dashes: --json"),
    "plan --json": (0, '"format_version": 1'),
    "apply -auto-approve": (64, "Long options have two dashes: --auto-approve"),
    "apply --auto-approve": (0, "No changes."),
    "apply -input=false": (64, "give --auto-approve"),
    "apply -lock=false": (64, "always locked"),
    "apply -no-color": (64, "--color never"),
    "taint jane": (64, "apply --reassert --select ADDRESS"),
    "workspace select qa": (64, "--env NAME"),
    "force-unlock 1": (64, "state unlock ID"),
    "state list": (0, "jane"),
    "state show jane": (0, "jane"),
    "state mv none joan": (6, "none"),
    "destroy -auto-approve": (64, "Long options have two dashes: --auto-approve"),
    "destroy": (64, "destroy --select label:NAME"),
    "destroy jane": (64, "destroy --select ADDRESS"),
    "output": (64, "state show ADDRESS"),
    "version": (64, "reconcile --version"),
    # kubectl
    "apply -f profiles/jane.yaml": (64, "plan FILE --out a.plan"),
    "apply --dry-run": (0, "No changes."),
    "get profiles": (64, "state list"),
    "get profiles -o json": (64, "state list"),
    "describe jane": (64, "state show ADDRESS"),
    "delete jane": (64, "destroy --select ADDRESS"),
    "diff": (64, "plan"),
    "plan -n qa": (64, "--env NAME"),
    "plan --context qa": (64, "--env NAME"),
    "plan -l smoke": (64, "--select label:NAME"),
    # git
    "status": (64, "plan"),
    "log": (64, "history"),
    "push": (64, "apply"),
    "blame": (64, "plan --blame"),
    "-C /tmp plan": (64, "--config"),
    # gh
    "auth status": (64, "doctor"),
    "run list": (64, "history"),
    # ruff
    "check": (64, "validate"),
    "validate --fix": (64, "fmt"),
    "format": (64, "fmt"),
    "validate --output-format json": (64, "--format NAME"),
    "rule yaml/syntax": (64, "explain RULE"),
    "explain yaml/syntax": (0, "yaml/syntax"),
    "config": (64, "schema config"),
    # typos, and what looks like an argument
    "plam": (64, "Did you mean 'plan'?"),
    "aply": (64, "Did you mean 'apply'?"),
    "vaildate": (64, "Did you mean 'validate'?"),
    "desribe jane": (64, "state show ADDRESS"),
    "plan --slect jane": (64, "Did you mean '--select'?"),
    "plan --enviroment qa": (64, "--env NAME"),
    "refresh jane": (64, "refresh --select ADDRESS"),
    "sweep jane": (64, "sweep --select ADDRESS"),
    "state lst": (64, "Did you mean 'list'?"),
    "apply --yes": (64, "--auto-approve"),
    "plan --no-colour": (64, "--color never"),
    "help plan": (0, "Examples:"),
}


@pytest.mark.parametrize("line", HABITS)
def test_a_habit_works_or_is_answered_with_the_right_way(project: Project, line: str) -> None:
    code, expected = HABITS[line]
    exit_code, output = project.invoke(*line.split())
    assert (exit_code, expected in output) == (code, True), output


def test_there_are_forty_of_them_at_least() -> None:
    assert len(HABITS) >= 40


def test_advice_repeats_the_options_of_the_program(project: Project) -> None:
    _, output = project.invoke("--env", "local", "refresh", "jane")
    assert "--env local refresh --select ADDRESS" in output
