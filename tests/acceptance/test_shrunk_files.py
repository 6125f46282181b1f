"""A file that was cut between two documents: its other profiles are orphans of a file that still exists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.git import Git
from tests.support.projects import Project

CONFIG: dict[str, Any] = {
    "version": 1,
    "variables": {"many": "3"},
    "environments": {
        "local": {"api": {"url": "emulator"}, "limits": {"max_delete": "100%"}},
    },
}
TEAM = "profiles/team.yaml"


def team(*names: str) -> str:
    return "---\n".join(f"customer_user_id: {name}\nip_country: FR\n" for name in names)


def configuration(*, confirm: bool) -> dict[str, Any]:
    local = CONFIG["environments"]["local"] | {"confirm": confirm}
    return CONFIG | {"environments": {"local": local}}


def shrunk(plan: dict[str, Any]) -> list[tuple[str, int]]:
    return [
        (hazard["file"], hazard["number"])
        for hazard in plan["hazards"]
        if hazard["kind"] == "file_shrank"
    ]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a file of three profiles and one of one, applied."""
    files = {"team": team("ada", "bob", "eve"), "kept": team("kept")}
    project = Project(tmp_path, configuration(confirm=False), profiles=files)
    project.run("apply", "--auto-approve")
    return project


@pytest.fixture
def guarded(project: Project) -> Project:
    """The same project, in a git repository; its environment asks for confirmation."""
    project.configure(configuration(confirm=True))
    project.write(".gitignore", ".reconcile/\n")
    Git(project.folder).commit("Profiles")
    return project


def prune(project: Project, *, code: int) -> str:
    digest = project.plan("--prune")["digest"]
    return project.run("apply", "--prune", "--auto-approve", "--digest", digest, code=code)


def recorded(project: Project) -> list[str]:
    with project.workspace() as workspace:
        return [record.address for record in workspace.store.records()]


# --- the plan ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [(), ("--prune",)])
@pytest.mark.parametrize("cache", [(), ("--no-cache",)])
def test_a_file_that_lost_documents_is_named_with_their_number(
    project: Project, mode: tuple[str, ...], cache: tuple[str, ...]
) -> None:
    project.profile("team", team("ada"))
    for _ in range(2):  # the second plan is warm
        assert shrunk(project.plan(*mode, *cache)) == [(TEAM, 2)]


def test_every_format_says_it(project: Project) -> None:
    project.profile("team", team("ada"))
    sentence = "still exists, but 2 profiles of it are no longer declared"
    for output in ("text", "markdown", "html", "github", "json"):
        assert sentence in project.run("plan", "--format", output), output
    assert "2 of them come from a file that still exists" in project.run("plan")
    assert f"::warning file={TEAM},title=file_shrank" in project.run("plan", "--format", "github")


def test_the_saved_plan_says_it_when_it_is_shown(project: Project) -> None:
    project.profile("team", team("ada"))
    project.run("plan", "--prune", "--out", "saved.plan")
    assert "team.yaml still exists" in project.run("show", "saved.plan")


def test_a_file_that_is_gone_did_not_shrink(project: Project) -> None:
    (project.folder / TEAM).unlink()
    plan = project.plan()
    assert (plan["orphans"], shrunk(plan)) == (["ada", "bob", "eve"], [])


def test_a_profile_that_moved_to_another_file_is_no_orphan(project: Project) -> None:
    project.profile("team", team("ada", "bob"))
    project.profile("other", team("eve"))
    assert shrunk(project.plan("--prune")) == []


def test_a_file_that_was_renamed_has_no_orphans(project: Project) -> None:
    (project.folder / TEAM).rename(project.folder / "profiles" / "crew.yaml")
    plan = project.plan("--prune")
    assert (plan["changes"], plan["hazards"]) == ([], [])


def test_a_template_with_a_shorter_list_shrank_its_file(project: Project) -> None:
    template = "for_each: [%s]\ncustomer_user_id: qa-{item}\nip_country: FR\n"
    project.profile("qa", template % "a, b, c")
    project.run("apply", "--auto-approve")
    project.profile("qa", template % "a")
    assert shrunk(project.plan("--prune")) == [("profiles/qa.yaml", 2)]


@pytest.mark.parametrize("target", ["kept.yaml", "../elsewhere.yaml", "nowhere.yaml"])
def test_a_file_that_became_a_link_is_an_error(project: Project, target: str) -> None:
    project.write("elsewhere.yaml", team("zoe"))
    (project.folder / TEAM).unlink()
    (project.folder / TEAM).symlink_to(target)
    assert project.invoke("plan", "--prune")[0] == 3


def test_a_folder_that_became_a_link_is_not_followed_and_its_files_are_named(
    project: Project,
) -> None:
    project.profile("crew/zoe", team("zoe"))
    project.run("apply", "--auto-approve")
    shutil.move(project.folder / "profiles" / "crew", project.folder / "moved")
    (project.folder / "profiles" / "crew").symlink_to("../moved")
    assert shrunk(project.plan("--prune")) == [("profiles/crew/zoe.yaml", 1)]


def test_selection_and_since_count_the_orphans_that_they_take(guarded: Project) -> None:
    guarded.profile("team", team("ada"))
    assert shrunk(guarded.plan("--prune", "--select", "bob")) == [(TEAM, 1)]
    assert shrunk(guarded.plan("--prune", "--since", "HEAD")) == [(TEAM, 2)]
    assert shrunk(guarded.plan("--prune", "--select", "kept")) == []


def test_a_protected_orphan_is_counted_and_kept(project: Project) -> None:
    project.profile("team", team("ada", "bob") + "meta: {protect: true}\n")
    project.run("apply", "--auto-approve")
    project.profile("team", team("ada"))
    plan = project.plan("--prune")
    assert shrunk(plan) == [(TEAM, 2)]
    assert [change["address"] for change in plan["changes"]] == ["eve"]


def test_a_sweep_is_not_concerned(project: Project) -> None:
    project.profile("team", team("ada"))
    assert "file_shrank" not in project.run("sweep", "--dry-run")
    assert "still exists" not in project.run("sweep", "--dry-run")


# --- the apply -----------------------------------------------------------------------------------


def test_without_confirm_the_prune_goes_on(project: Project) -> None:
    project.profile("team", team("ada"))
    project.run("apply", "--prune", "--auto-approve")
    assert recorded(project) == ["ada", "kept"]


def test_with_confirm_an_uncommitted_file_is_refused_and_a_committed_one_is_applied(
    guarded: Project,
) -> None:
    guarded.profile("team", team("ada"))
    prune(guarded, code=6)
    assert f"{TEAM} no longer declares, and git does not have it committed" in guarded.err
    assert "Restore what is missing" in guarded.err
    assert recorded(guarded) == ["ada", "bob", "eve", "kept"]
    Git(guarded.folder).commit("Smaller team")
    prune(guarded, code=0)
    assert recorded(guarded) == ["ada", "kept"]


def test_a_saved_plan_is_held_to_the_file_as_it_is_when_it_is_applied(guarded: Project) -> None:
    guarded.profile("team", team("ada"))
    Git(guarded.folder).commit("Smaller team")
    guarded.run("plan", "--prune", "--out", "saved.plan")
    guarded.profile("team", team("ada") + "# cut\n")
    digest = json.loads(guarded.run("show", "saved.plan", "--format", "json"))["digest"]
    guarded.run("apply", "saved.plan", "--auto-approve", "--digest", digest, code=6)
    Git(guarded.folder).commit("As it is")
    guarded.run("apply", "saved.plan", "--auto-approve", "--digest", digest)
    assert recorded(guarded) == ["ada", "kept"]


def test_git_that_was_told_not_to_look_is_not_believed(guarded: Project) -> None:
    Git(guarded.folder)("update-index", "--assume-unchanged", TEAM)
    guarded.profile("team", team("ada"))
    prune(guarded, code=6)


def test_an_added_but_not_committed_file_is_refused(guarded: Project) -> None:
    guarded.profile("team", team("ada"))
    Git(guarded.folder)("add", TEAM)
    prune(guarded, code=6)


def test_a_commit_with_other_ends_of_lines_is_the_same_file(guarded: Project) -> None:
    guarded.profile("team", team("ada"))
    Git(guarded.folder).commit("Smaller team")
    (guarded.folder / TEAM).write_bytes(team("ada").replace("\n", "\r\n").encode())
    prune(guarded, code=0)


def test_without_a_repository_it_is_refused_with_a_way_out(project: Project) -> None:
    project.configure(configuration(confirm=True))
    project.profile("team", team("ada"))
    prune(project, code=6)
    assert "git cannot tell whether it is committed" in project.err
    assert "reconcile state rm ADDRESS" in project.err
    assert recorded(project) == ["ada", "bob", "eve", "kept"]


def test_a_plan_that_keeps_all_orphans_needs_no_commit(guarded: Project) -> None:
    guarded.profile("team", team("ada") + "first_name: Ada\n")
    digest = guarded.plan()["digest"]
    guarded.run("apply", "--auto-approve", "--digest", digest)


def test_a_file_that_is_gone_needs_no_commit(guarded: Project) -> None:
    (guarded.folder / TEAM).unlink()
    prune(guarded, code=0)
    assert recorded(guarded) == ["kept"]
