"""Completion offers what the project has, and is silent about everything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli.completion import SHELLS
from reconciler.cli.main import main
from tests.support.command_line import environment
from tests.support.projects import JANE, Project

LOCAL = {
    "api": {"url": "emulator"},
    "state": {"url": "sqlite:///.reconcile/local.db"},
}
"""The state stays with the project, since each test has a home of its own."""

ZOE = "customer_user_id: zoe\nfirst_name: Zoe\nmeta: {labels: [smoke, staff]}\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Jane is recorded, and Zoe only declared."""
    config = {
        "version": 1,
        "environments": {"local": LOCAL, "qa": {"api": {"url": "emulator"}}},
        "default_environment": "local",
    }
    project = Project(tmp_path_factory.mktemp("completion"), config, profiles={"jane": JANE})
    with project.workspace() as workspace:
        workspace.apply(workspace.plan())
    project.profile("zoe", ZOE)
    project.profile("odd", 'customer_user_id: "a;b"\nfirst_name: A\n')
    return project


def offered(project: Project, line: str, shell: str = "bash") -> list[str]:
    """What is offered for the last word of a line."""
    words = line.split(" ")
    variables = {
        "_RECONCILE_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1),
        "RECONCILE_CONFIG": str(project.folder / "reconcile.yaml"),
    }
    result = CliRunner(env=variables).invoke(main, [], prog_name="reconcile")
    assert result.stderr == ""
    assert result.exit_code == 0
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("reconcile val", ["plain,validate"]),
        ("reconcile --env ", ["plain,local", "plain,qa"]),
        ("reconcile plan --env l", ["plain,local"]),
        ("reconcile plan --select ", ["plain,jane", "plain,zoe", "plain,label:"]),
        ("reconcile plan --select id:z", ["plain,id:zoe"]),
        ("reconcile plan --exclude label:s", ["plain,label:smoke", "plain,label:staff"]),
        ("reconcile state show ", ["plain,jane"]),
        ("reconcile state rm jane ", ["plain,jane"]),
        ("reconcile apply ", ["file,"]),
        ("reconcile completion f", ["plain,fish"]),
    ],
)
def test_words_and_values_are_offered(project: Project, line: str, expected: list[str]) -> None:
    assert offered(project, line) == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_and_answers(project: Project, shell: str) -> None:
    code, script = project.invoke("completion", shell)
    assert code == 0
    assert f"_RECONCILE_COMPLETE={shell}_complete" in script
    assert "validate" in "\n".join(offered(project, "reconcile val", shell))


def test_nothing_is_offered_and_nothing_said_where_something_is_wrong(tmp_path: Path) -> None:
    broken = Project(tmp_path, "version: [", profiles={"jane": JANE})
    for line in ("reconcile --env ", "reconcile state show ", "reconcile --env x --env y plan "):
        assert "plain,jane" not in offered(broken, line)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no bash")
def test_bash_gets_what_follows_its_word_breaks(project: Project) -> None:
    program = (
        f'reconcile() {{ "{sys.executable}" -c "import sys; sys.argv[0] = \'reconcile\'; '
        'from reconciler.__main__ import main; main()"; }\n'
        'eval "$(unset _RECONCILE_COMPLETE; '
        f'"{sys.executable}" -m reconciler completion bash)"\n'
        "compopt() { :; }\n"
        'ask() { COMP_LINE=$1; COMP_POINT=${#1}; _reconcile_completion reconcile; echo "${COMPREPLY[@]}"; }\n'
        'ask "reconcile plan --select=label:sm"; ask "reconcile state show j"\n'
    )
    done = subprocess.run(
        ["bash", "-c", program],
        cwd=project.folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["smoke", "jane"], done.stderr
