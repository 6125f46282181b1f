"""Tearing down: `destroy` deletes what is selected and what this tool created, as a prune would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.emulator import Emulator, EmulatorServer
from tests.support.projects import JANE, KEYS, Project, remote

E2E = "customer_user_id: e2e-{}\nfirst_name: A\nmeta: {{labels: [e2e]}}\n"
STAFF = "customer_user_id: staff\nfirst_name: S\nmeta: {labels: [e2e], protect: true}\n"
LIMITS = {"max_delete": "60%"}


@pytest.fixture
def api() -> Emulator:
    return Emulator()


@pytest.fixture
def project(tmp_path: Path, api: Emulator) -> Iterator[Project]:
    """Four recorded profiles: two of tests, one that is protected, and Jane, who was there before."""
    with EmulatorServer(api) as server:
        project = Project(tmp_path, remote(server.url, limits=LIMITS), profiles={"jane": JANE})
        headers = {"adapty-customer-user-id": "jane", "Authorization": "Api-Key k"}
        headers["Content-Type"] = "application/json"
        api.handle("POST", "/api/v2/server-side-api/profile/", headers=headers, body=b"{}")
        for name, text in (("one", E2E.format(1)), ("two", E2E.format(2)), ("staff", STAFF)):
            project.profile(name, text)
        with project.workspace(environ=KEYS) as workspace:
            workspace.apply(workspace.plan())
        yield project


def run(project: Project, *words: str, code: int = 0) -> str:
    exit_code, output = project.invoke(*words, **KEYS)
    assert exit_code == code, output
    return output


def recorded(project: Project) -> list[str]:
    return [record["address"] for record in json.loads(run(project, "state", "list", "--json"))]


def test_only_what_this_tool_created_and_nobody_protects_is_deleted(project: Project) -> None:
    output = run(project, "destroy", "--select", "*", "--auto-approve", code=6)
    assert "because protected: staff" in output
    assert "because this tool did not create them, or is not known to have: jane" in output
    assert "--include-adopted" not in output
    assert recorded(project) == ["jane", "staff"]


def test_a_later_plan_says_what_it_would_create_again(project: Project) -> None:
    output = run(project, "destroy", "--select", "e2e-*", "--auto-approve")
    assert "2 deleted" in output
    assert "what files still declare is created again by the next apply" in output
    plan = json.loads(run(project, "plan", "--json"))
    assert [(each["address"], each["action"]) for each in plan["changes"]] == [
        ("e2e-1", "create"),
        ("e2e-2", "create"),
    ]


def test_a_plan_is_saved_reviewed_and_applied_as_it_is(project: Project) -> None:
    file = str(project.folder / "teardown.plan")
    assert "apply exactly this" in run(project, "destroy", "--select", "id:e2e-1", "--out", file)
    shown = run(project, "show", file)
    assert "mode destroy" in shown or "destroy" in shown
    assert "only id:e2e-1" in shown
    assert len(recorded(project)) == 4
    run(project, "apply", file, "--auto-approve")
    assert recorded(project) == ["e2e-2", "jane", "staff"]
    markdown = run(project, "destroy", "--select", "e2e-2", "--dry-run", "--json")
    assert json.loads(markdown)["mode"] == "destroy"


def test_the_caps_of_a_prune_hold(project: Project, api: Emulator) -> None:
    project.configure(remote(project.workspace().environment.url, limits={"max_delete": 1}))
    output = run(project, "destroy", "--select", "e2e-*", "--auto-approve", code=6)
    assert "deletes 2 of 4 recorded profiles" in output
    run(project, "destroy", "--select", "e2e-*", "--auto-approve", "--max-changes", "1", code=6)
    assert len(recorded(project)) == 4


def test_a_project_of_test_users_alone_can_be_torn_down_whole(tmp_path: Path) -> None:
    with EmulatorServer(Emulator()) as server:
        project = Project(tmp_path, remote(server.url), profiles={"one": E2E.format(1)})
        run(project, "apply", "--auto-approve")
        words = ("destroy", "--select", "label:e2e", "--auto-approve")
        assert "limits.max_delete is 25%" in run(project, *words, code=6)
        project.configure(remote(server.url, limits={"max_delete": "100%"}))
        assert "1 deleted" in run(project, *words)
        assert recorded(project) == []


def test_with_confirm_the_digest_is_needed(project: Project) -> None:
    url = project.workspace().environment.url
    project.configure(remote(url, limits=LIMITS, confirm=True))
    run(project, "destroy", "--select", "e2e-1", "--auto-approve", code=6)
    plan = json.loads(run(project, "destroy", "--select", "e2e-1", "--dry-run", "--json"))
    words = ("destroy", "--select", "e2e-1", "--auto-approve", "--digest", plan["digest"])
    run(project, *words)
    assert "e2e-1" not in recorded(project)


def test_nothing_is_destroyed_without_a_selection(project: Project) -> None:
    assert "--select label:NAME" in run(project, "destroy", "--auto-approve", code=64)
    assert "plan" in run(project, "destroy", "--auto-approve", "--exclude", "jane", code=64)
    run(project, "destroy", "--select", "e2e-1", code=6)  # there is no terminal to ask at
    assert len(recorded(project)) == 4


def test_events_tell_a_program_what_was_deleted(project: Project) -> None:
    output = run(project, "destroy", "--select", "e2e-1", "--auto-approve", "--json", "--quiet")
    events = [json.loads(line) for line in output.splitlines()]
    assert [event["type"] for event in events][-2:] == ["change", "summary"]
    assert events[-1]["outcomes"]["deleted"] == 1
