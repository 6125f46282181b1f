"""What the history tells: who applied what, when, where, from which commit, and what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.record_codec import decode_starter, encode_starter
from reconciler.core.records import JournalEntry, JournalKind, RunStarter
from reconciler.reports.history import outcomes_of
from reconciler.workspace.holder import run_starter
from tests.support.git import Git
from tests.support.projects import JANE, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path, profiles={"jane": JANE})
    for name in ("Jane", "Joan"):
        project.profile("jane", JANE.replace("Jane", name))
        with project.workspace() as workspace:
            workspace.apply(workspace.plan())
    return project


def told(project: Project, *words: str) -> dict[str, Any]:
    code, output = project.invoke("history", "--json", *words)
    assert code == 0, output
    data: dict[str, Any] = json.loads(output)
    return data


def test_runs_are_listed_newest_first(project: Project) -> None:
    runs = told(project)["runs"]
    assert [run["outcomes"] for run in runs] == [{"updated": 1}, {"created": 1}]
    assert runs[0]["user"]
    assert runs[0]["host"]
    assert [run["run"] for run in told(project, "--last", "1")["runs"]] == [runs[0]["run"]]
    _, text = project.invoke("history", "--last", "1")
    assert "1 updated" in text
    assert "1 older run not shown" in text


def test_a_run_shows_its_changes_and_may_be_shortened(project: Project) -> None:
    run = told(project)["runs"][1]["run"]
    told_run = told(project, run[:-1])
    assert [run["outcomes"] for run in told_run["runs"]] == [{"created": 1}]
    kinds = [entry["kind"] for entry in told_run["entries"]]
    assert (kinds[0], kinds[-1]) == ("intent", "applied")
    _, text = project.invoke("history", run)
    assert text.count("jane: create applied") == 1
    code, output = project.invoke("history", "run-")
    assert code == 6
    assert "2 runs that begin with" in output


def test_a_profile_shows_what_happened_to_it(project: Project) -> None:
    _, text = project.invoke("history", "--address", "jane")
    assert [line.split(": ")[1].split("  ")[0] for line in text.splitlines()] == [
        "create applied",
        "update applied",
    ]
    assert "nothing is kept" in project.invoke("history", "--address", "zoe")[1]


def test_no_value_is_in_the_history(project: Project) -> None:
    everything = json.dumps([told(project), told(project, "--address", "jane")])
    assert "Joan" not in everything
    assert "gold" not in everything


def test_nothing_was_applied_before_the_first_apply(tmp_path: Path) -> None:
    assert "Nothing was applied yet." in Project(tmp_path).invoke("history")[1]


def test_the_commit_of_the_checkout_is_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    commit = Git(folder).commit("first")
    starter = run_starter(folder, {"CI_JOB_URL": "https://ci.example/1"})
    assert starter.commit == commit
    assert starter.ci == "https://ci.example/1"
    assert run_starter(tmp_path, {}).commit == ""


def test_the_start_of_a_run_is_kept_as_text_and_read_back() -> None:
    starter = RunStarter("jané\n", "host", "", "0123abc")
    assert decode_starter(encode_starter(starter)) == starter
    assert decode_starter("{}") == RunStarter()
    assert decode_starter('{"host": "a", "newer": 1}') == RunStarter(host="a")
    for text in ("[]", '{"user": 1}', "x"):
        with pytest.raises((ValueError, TypeError)):
            decode_starter(text)


def test_an_intent_without_an_outcome_is_shown() -> None:
    def entry(kind: JournalKind, at: float) -> JournalEntry:
        return JournalEntry("run-1", "jane", kind, at)

    intent, applied = entry(JournalKind.INTENT, 1), entry(JournalKind.APPLIED, 2)
    assert outcomes_of([intent, applied]) == [applied]
    assert outcomes_of([intent, applied, intent]) == [intent, applied]
