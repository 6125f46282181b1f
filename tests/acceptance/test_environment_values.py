"""A value from a variable of the environment is in no output, whatever the options; apply sends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.git import Git
from tests.support.projects import Project

VALUE, LATER, DEVICE = "Hunter-Zwei", "Hunter-Drei", "3fa85f64-5717-4562-b3fc-2c963f66afa6"
VARIABLES = {"QA_X": VALUE, "QA_D": DEVICE}
CONFIG = "version: 1\nenv_prefix: QA_\nenvironments: {local: {api: {url: emulator}}}\n"
JANE = (
    "customer_user_id: jane\nfirst_name: '${env.QA_X}'\nlast_name: Doe\n"
    "custom_attributes: {a: 'x ${env.QA_X} y', b: plain}\n"
    "installation_meta: {device_id: '${env.QA_D}', locale: en}\n"
)
TEMPLATE = (
    "for_each: 3\ncustomer_user_id: t-{index}\nfirst_name: '${env.QA_X}'\n"
    "custom_attributes: [{key: a, value: '${env.QA_X}{index}'}]\n"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    git = Git(tmp_path)
    project = Project(tmp_path, CONFIG, profiles={"jane": JANE, "team": TEMPLATE})
    git.commit("All")
    return project


def told(project: Project, *arguments: str, code: int = 0, **variables: str) -> str:
    """What a command prints, run inside of this process."""
    ended, out = project.invoke(*arguments, **variables)
    project.outputs.append(out)
    assert ended == code, out
    return out


FORMATS = ["text", "json", "markdown", "html", "github", "gitlab"]
MASKS = [(), ("--no-mask",), ("--mask",)]


def assert_hidden(project: Project) -> None:
    told = "".join(project.outputs)
    for value in (VALUE, LATER, DEVICE):
        assert value.lower() not in told.lower()


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_no_format_of_a_plan_shows_it(project: Project, mask: tuple[str, ...]) -> None:
    for format_ in FORMATS:
        out = told(
            project,
            *("plan", "--format", format_, "--show-requests", "--blame", *mask),
            **VARIABLES,
        )
        assert "environment #1" in out or format_ in ("github", "gitlab")
    told(project, "plan", "--html-out", "a.html", "--markdown-out", "a.md", "--json-out", "a.json",
                *mask, **VARIABLES)  # fmt: skip
    for name in ("a.html", "a.md", "a.json"):
        project.outputs.append((project.folder / name).read_text("utf-8"))
    assert_hidden(project)


def test_a_saved_plan_holds_it_and_is_applied_and_shown_without_it(project: Project) -> None:
    told(project, "plan", "--out", "a.plan", **VARIABLES)
    assert VALUE in (project.folder / "a.plan").read_text("utf-8")
    for format_ in FORMATS:
        told(project, "show", "a.plan", "--format", format_, "--show-requests", "--no-mask")
    told(project, "apply", "a.plan", "--auto-approve", "--show-requests", "--no-mask")
    assert_hidden(project)
    with project.workspace(environ=VARIABLES) as workspace:
        record = workspace.store.record("jane")
        assert record is not None
        assert record.facts["first_name"].value == VALUE
        assert record.from_environment == (
            "custom_attributes.a", "first_name", "installation_meta.device_id"
        )  # fmt: skip
        assert workspace.plan().is_empty


def test_a_plan_as_json_with_hidden_values_is_refused_by_apply(project: Project) -> None:
    out = project.run("plan", "--format", "json", **VARIABLES)
    assert json.loads(out)["masked"] == ["environment"]
    project.write("a.json", out)
    out = told(project, "apply", "a.json", "--auto-approve", code=6, **VARIABLES)
    assert "this plan is masked" in out


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_the_value_before_is_hidden_too(project: Project, mask: tuple[str, ...]) -> None:
    told(project, "apply", "--auto-approve", **VARIABLES)
    project.profile("jane", JANE.replace("'${env.QA_X}'", "Open").replace("x ${env.QA_X} y", "z"))
    for format_ in FORMATS:
        told(
            project, "plan", "--format", format_, "--show-requests", *mask, QA_X=LATER, QA_D=DEVICE
        )
    assert_hidden(project)
    assert mask == ("--mask",) or '"Open"' in told(project, "plan", **VARIABLES)
    told(project, "apply", "--auto-approve", *mask, QA_X=LATER, QA_D=DEVICE)
    assert_hidden(project)
    with project.workspace(environ=VARIABLES) as workspace:
        record = workspace.store.record("jane")
        assert record is not None
        assert record.from_environment == ("installation_meta.device_id",)


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_no_other_command_shows_it(project: Project, mask: tuple[str, ...]) -> None:
    for format_ in ("yaml", "json"):
        out = told(project, "render", "--format", format_, *mask, **VARIABLES)
        assert "(from the environment)" in out
    told(project, "apply", "--auto-approve", "--json", *mask, **VARIABLES)
    for format_ in ("text", "json"):
        told(project, "state", "list", "--format", format_, *mask)
        told(project, "state", "show", "jane", "--format", format_, *mask)
    with project.workspace(environ=VARIABLES) as workspace:
        export = workspace.export()
    assert any(record.from_environment for record in export.records)
    for format_ in ("text", "json"):
        told(project, "refresh", "--format", format_, *mask)
    assert_hidden(project)


def test_state_pull_and_push_keep_it_and_print_no_difference_of_it(project: Project) -> None:
    told(project, "apply", "--auto-approve", **VARIABLES)
    exported = project.run("state", "pull")
    assert VALUE in exported
    project.outputs.clear()
    project.write("a.json", exported.replace(VALUE, LATER))
    told(project, "state", "push", "a.json")
    assert_hidden(project)


@pytest.mark.parametrize(
    "format_", ["text", "json", "markdown", "github", "gitlab", "sarif", "junit"]
)
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_no_finding_quotes_it(tmp_path: Path, format_: str, mask: tuple[str, ...]) -> None:
    project = Project(tmp_path, CONFIG, profiles={
        "wrong": "customer_user_id: wrong\ngender: '${env.QA_X}'\nbirthday: '${env.QA_X}'\n"
        "custom_attributes: {'a': ['${env.QA_X}']}\nstore: '${env.QA_X}'\nip_country: '${env.QA_X}'\n"
        "installation_meta: {device_id: '${env.QA_X}'}\nphone_number: '${env.QA_X}'\n",
        "twins": "for_each: 2\ncustomer_user_id: t-{index}\n"
        "installation_meta: {device_id: '${env.QA_D}'}\n",
    })  # fmt: skip
    out = told(project, "validate", "--format", format_, *mask, code=3, **VARIABLES)
    assert "gender" in out
    (project.folder / "profiles" / "wrong.yaml").unlink()
    out = told(project, "validate", "--format", format_, *mask, **VARIABLES)
    assert "device_id" in out
    told(project, "plan", **VARIABLES)
    assert_hidden(project)


@pytest.mark.parametrize(
    "line",
    ["customer_user_id: 'u-${env.QA_X}'", "profile_id: '${env.QA_D}'",
     "customer_user_id: u\nplatform: '${env.QA_X}'",
     "customer_user_id: u\nmeta: {labels: ['${env.QA_X}']}"],
)  # fmt: skip
def test_what_every_output_shows_cannot_come_from_the_environment(
    tmp_path: Path, line: str
) -> None:
    project = Project(tmp_path, CONFIG, profiles={"a": f"{line}\nfirst_name: A\n"})
    out = told(project, "validate", code=3, **VARIABLES)
    assert "a variable of the environment cannot stand here" in out
    assert_hidden(project)


def test_a_literal_in_its_place_is_shown_once_it_was_applied(project: Project) -> None:
    told(project, "apply", "--auto-approve", **VARIABLES)
    project.profile("jane", JANE.replace("'${env.QA_X}'", VALUE).replace("${env.QA_X}", VALUE))
    assert "No changes" in told(project, "plan", **VARIABLES)
    told(project, "apply", "--auto-approve", **VARIABLES)
    project.profile("jane", JANE.replace("'${env.QA_X}'", "New").replace("${env.QA_X}", "New"))
    with project.workspace(environ=VARIABLES) as workspace:
        record = workspace.store.record("jane")
        assert record is not None
        assert "first_name" not in record.from_environment


def test_values_that_did_not_come_from_the_environment_are_shown(project: Project) -> None:
    out = told(project, "plan", "--show-requests", **VARIABLES)
    assert '"Doe"' in out
    assert '"plain"' in out
