"""Bad input as data: a folder holds profile files and the findings that they must give.

``expected.txt`` has a line per finding: severity, rule, file:line:column.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reconciler.cli.main import main
from reconciler.config.template import TEMPLATE
from reconciler.workspace.results import Checked
from tests.support.places import state_of
from tests.support.projects import Project

CASES = sorted(
    path for path in (Path(__file__).parent.parent / "bad_input").iterdir() if path.is_dir()
)


@pytest.fixture
def project(case: Path, tmp_path: Path) -> Project:
    shutil.copytree(case / "profiles", tmp_path / "profiles")
    return Project(tmp_path, TEMPLATE)


def check(project: Project) -> Checked:
    with project.workspace() as workspace:
        return workspace.validate()


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 65


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_problem_is_found_where_it_is(case: Path, project: Project) -> None:
    found = [f"{item.severity} {item.rule} {item.source}" for item in check(project).diagnostics]
    assert found == (case / "expected.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_finding_says_what_to_do(case: Path, project: Project) -> None:
    assert all(item.message and item.hint for item in check(project).diagnostics), case.name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_error_stops_apply_before_anything_is_sent(
    case: Path, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    if check(project).valid:
        pytest.skip("warnings only")
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(project.folder / "reconcile.yaml"), "apply", "--auto-approve"])
    assert ended.value.code == 3
    assert not state_of(project.folder).exists()
    assert "Traceback" not in capsys.readouterr().err
