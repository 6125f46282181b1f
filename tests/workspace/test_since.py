"""``--since``: whatever a profile was made from counts as a change of it, and so does what cannot be told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.git import Git
from tests.support.projects import Project

CONFIG = {
    "version": 1,
    "env_prefix": "QA_",
    "variables": {"tier": "gold", "other": "x"},
    "default_environment": "local",
    "environments": {
        "local": {"api": {"url": "emulator"}, "limits": {"max_delete": "100%"}},
        "second": {"api": {"url": "emulator"}, "variables": {"tier": "silver"}},
    },
}


def profile(name: str, more: str = "") -> str:
    return f"customer_user_id: {name}\nip_country: FR\n{more}"


class Branch(Project):
    """A repository with profiles that were applied on main, on a new branch."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CONFIG)
        self.write(".gitignore", ".reconcile/\nprofiles/ignored/\n")
        self.git = Git(folder)
        for name in ("anna", "bob"):
            self.profile(name, profile(name))
            self.profile(f"team/{name}", profile(f"team-{name}"))
        self.commit()

    def commit(self, *, apply: bool = False) -> None:
        self.git.commit("Profiles")
        if apply:
            self.run("apply", "--auto-approve")

    def changed(self, *options: str, env: str = "local") -> set[str]:
        """The profiles that a plan since the last commit looks at, which creates all of them."""
        command = (
            *options,
            "--env",
            env,
            "--run",
            "r",
            "plan",
            "--since",
            "HEAD",
            "--format",
            "json",
        )
        plans = [json.loads(self.run(*command, *cache)) for cache in ((), ("--no-cache",))]
        assert plans[0]["digest"] == plans[1]["digest"]
        return {change["address"] for change in plans[0]["changes"]}

    def configure_with(self, **changes: Any) -> None:
        self.configure({**CONFIG, **changes})


@pytest.fixture
def branch(tmp_path: Path) -> Branch:
    return Branch(tmp_path)


def test_nothing_changed(branch: Branch) -> None:
    os.utime(branch.folder / "profiles" / "bob.yaml")
    assert branch.changed() == set()


def test_a_file_that_changed(branch: Branch) -> None:
    branch.profile("bob", profile("bob", "first_name: Bob\n"))
    branch.profile("new", profile("new"))
    assert branch.changed() == {"bob", "new"}


def test_a_file_that_git_ignores_is_changed(branch: Branch) -> None:
    branch.profile("ignored/eve", profile("eve"))
    assert branch.changed() == {"eve"}


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_git_was_told_not_to_look_at_is_changed(branch: Branch, flag: str) -> None:
    branch.git("update-index", flag, "profiles/bob.yaml")
    branch.profile("bob", profile("bob", "first_name: Bob\n"))
    assert branch.changed() == {"bob"}


def test_the_same_size_and_time_of_modification_hide_no_change(branch: Branch) -> None:
    path = branch.folder / "profiles" / "bob.yaml"
    status = path.stat()
    path.write_text(path.read_text().replace("FR", "DE"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert branch.changed() == {"bob"}


@pytest.mark.parametrize("name", [b"caf\xe9.yaml", b"caf\xe9/x.yaml", "ü ber\n.yaml".encode()])
def test_a_file_whose_name_is_odd(branch: Branch, name: bytes) -> None:
    path = branch.folder / "profiles" / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(profile("eve"))
    branch.commit()
    assert branch.changed() == set()
    path.write_text(profile("eve", "first_name: Eve\n"))
    assert branch.changed() == {"eve"}
    branch.commit(apply=True)
    path.unlink()
    assert branch.plan("--since", "HEAD")["orphans"] == ["eve"]


# --- defaults ------------------------------------------------------------------------------------


def test_defaults_that_are_new_changed_or_gone(branch: Branch) -> None:
    path = branch.write("profiles/team/_defaults.yaml", "store: app_store\n")
    assert branch.changed() == {"team-anna", "team-bob"}
    branch.commit()
    assert branch.changed() == set()
    path.write_text("store: play_store\n")
    assert branch.changed() == {"team-anna", "team-bob"}
    path.unlink()
    assert branch.changed() == {"team-anna", "team-bob"}


def test_defaults_by_a_link_that_leads_elsewhere_or_whose_end_changed(branch: Branch) -> None:
    for name, store in (("a", "app_store"), ("b", "play_store")):
        branch.write(f"profiles/{name}.txt", f"store: {store}\n")
    link = branch.folder / "profiles" / "team" / "_defaults.yaml"
    link.symlink_to("../a.txt")
    branch.commit()
    assert branch.changed() == set()
    branch.write("profiles/a.txt", "store: stripe\n")
    assert branch.changed() == {"team-anna", "team-bob"}
    branch.git("checkout", "--quiet", ".")
    link.unlink()
    link.symlink_to("../b.txt")
    assert branch.changed() == {"team-anna", "team-bob"}


# --- links ---------------------------------------------------------------------------------------


def test_a_link_that_leads_elsewhere(branch: Branch) -> None:
    for name in ("one", "two"):
        branch.write(f"profiles/{name}.txt", profile("eve", f"first_name: {name}\n"))
    link = branch.folder / "profiles" / "eve.yaml"
    link.symlink_to("one.txt")
    branch.commit()
    assert branch.changed() == set()
    branch.write("profiles/two.txt", profile("eve"))
    assert branch.changed() == set()
    link.unlink()
    link.symlink_to("two.txt")
    assert branch.changed() == {"eve"}
    branch.commit()
    branch.write("profiles/two.txt", profile("eve", "first_name: x\n"))
    assert branch.changed() == {"eve"}


def test_a_profiles_folder_by_a_link(branch: Branch) -> None:
    (branch.folder / "profiles").rename(branch.folder / "a")
    (branch.folder / "b").mkdir()
    (branch.folder / "b" / "x.yaml").write_text(profile("x"))
    link = branch.folder / "profiles"
    link.symlink_to("a")
    branch.commit()
    assert branch.changed() == set()
    (branch.folder / "a" / "bob.yaml").write_text(profile("bob", "first_name: Bob\n"))
    assert branch.changed() == {"bob"}
    link.unlink()
    link.symlink_to("b")
    assert branch.changed() == {"x"}


def test_profiles_outside_of_the_repository_cannot_be_told(tmp_path: Path) -> None:
    branch = Branch(tmp_path / "repository")
    (branch.folder / "profiles").rename(tmp_path / "outside")
    branch.configure_with(profiles="../outside")
    branch.git.commit("Outside")
    assert branch.changed("--allow-outside") == {"anna", "bob", "team-anna", "team-bob"}


# --- values --------------------------------------------------------------------------------------


def test_a_variable_with_another_value_changes_what_uses_it(branch: Branch) -> None:
    for name, variable in (("a", "tier"), ("b", "other")):
        branch.profile(name, profile(name, f"custom_attributes: {{t: '${{var.{variable}}}'}}\n"))
    branch.commit()
    assert branch.changed() == set()
    branch.configure_with(variables={"tier": "platinum", "other": "x"})
    assert branch.changed() == {"a"}
    assert branch.changed(env="second") == set()


def test_a_variable_of_another_type_has_another_value(branch: Branch) -> None:
    branch.configure_with(variables={"tier": 1, "other": "x"})
    branch.profile("a", profile("a", "custom_attributes: {t: '${var.tier}'}\n"))
    branch.commit()
    branch.configure_with(variables={"tier": "1", "other": "x"})
    assert branch.changed() == {"a"}


def test_a_variable_in_defaults(branch: Branch) -> None:
    branch.write("profiles/team/_defaults.yaml", "custom_attributes: {t: '${var.tier}'}\n")
    branch.commit()
    branch.configure_with(variables={"tier": "platinum"})
    assert branch.changed() == {"team-anna", "team-bob"}


@pytest.mark.parametrize("value", ["${env.QA_X}", "{run}", "{worker}"])
def test_what_nobody_knows_the_former_value_of_counts_as_changed(
    branch: Branch, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QA_X", "x")
    branch.profile("a", profile("a", f"custom_attributes: {{t: '{value}'}}\n"))
    branch.commit()
    assert branch.changed() == {"a"}


def test_another_dialect_or_folder_changes_everything(branch: Branch) -> None:
    everything = {"anna", "bob", "team-anna", "team-bob"}
    local = {"api": {"url": "emulator", "dialect": "openapi"}}
    branch.configure_with(environments={"local": local})
    assert branch.changed() == everything
    branch.configure_with(profiles="./profiles", mask=["personal"])
    assert branch.changed() == set()
    branch.configure_with(profiles="profiles/team")
    assert branch.changed() == {"team-anna", "team-bob"}


@pytest.mark.parametrize("before", [None, "{broken", "- 1\n", "environments: 1\nvariables: []\n"])
def test_a_configuration_that_could_not_be_read_then_changes_everything(
    branch: Branch, before: str | None
) -> None:
    if before is None:
        (branch.folder / "reconcile.yaml").unlink()
    else:
        branch.write("reconcile.yaml", before)
    branch.git.commit("Broken")
    branch.configure(CONFIG)
    assert branch.changed() == {"anna", "bob", "team-anna", "team-bob"}


# --- what is gone --------------------------------------------------------------------------------


def test_a_file_that_went_since_is_an_orphan_and_a_colleagues_is_not(branch: Branch) -> None:
    """A colleague applied from a branch of their own: that file was never here."""
    branch.profile("colleague", profile("colleague"))
    branch.run("apply", "--auto-approve")
    (branch.folder / "profiles" / "colleague.yaml").unlink()
    (branch.folder / "profiles" / "bob.yaml").unlink()
    assert branch.plan("--since", "HEAD")["orphans"] == ["bob"]
    plan = branch.plan("--since", "HEAD", "--prune")
    assert "colleague" not in {change["address"] for change in plan["changes"]}


def test_a_submodule_keeps_its_own_history_so_its_profiles_count(
    branch: Branch, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    origin = Git(other)
    (other / "eve.yaml").write_text(profile("eve"))
    (other / "max.yaml").write_text(profile("max"))
    origin.commit("Eve and Max")
    allowed = ("-c", "protocol.file.allow=always")
    branch.git(*allowed, "submodule", "--quiet", "add", str(other), "profiles/sub")
    branch.commit(apply=True)
    (branch.folder / "profiles" / "sub" / "eve.yaml").write_text(profile("eve", "first_name: E\n"))
    (branch.folder / "profiles" / "sub" / "max.yaml").unlink()
    plan = branch.plan("--since", "HEAD")
    assert {change["address"] for change in plan["changes"]} == {"eve"}
    assert plan["orphans"] == ["max"]


# --- histories -----------------------------------------------------------------------------------


def test_in_a_shallow_clone_nobody_elses_change_is_reverted(branch: Branch, tmp_path: Path) -> None:
    branch.git("checkout", "--quiet", "-b", "feature")
    branch.profile("anna", profile("anna", "first_name: Anna\n"))
    branch.git.commit("Mine")
    branch.git("checkout", "--quiet", "main")
    branch.profile("bob", profile("bob", "first_name: Bob\n"))
    branch.git.commit("A colleague's")
    clone = tmp_path / "clone"
    options = ("--quiet", "--depth", "1", "--no-single-branch", "--branch", "feature")
    branch.git("clone", *options, f"file://{branch.folder}", str(clone))
    shallow = Project(clone, None)
    shallow.run("plan", "--since", "origin/main", code=6)
    assert "git fetch --unshallow" in shallow.err
    Git.__call__(branch.git, "-C", str(clone), "fetch", "--quiet", "--unshallow")
    changes = shallow.plan("--since", "origin/main")["changes"]
    assert [change["address"] for change in changes] == ["anna"]


def test_after_the_merge_the_commit_of_the_plan_gives_its_digest(branch: Branch) -> None:
    branch.run("apply", "--auto-approve")
    branch.git("checkout", "--quiet", "-b", "feature")
    branch.profile("anna", profile("anna", "first_name: Anna\n"))
    branch.git.commit("Mine")
    plan = branch.plan("--since", "main")
    branch.git("checkout", "--quiet", "main")
    branch.git("merge", "--quiet", "--no-ff", "-m", "Merge", "feature")
    given = ("--auto-approve", "--digest", plan["digest"])
    branch.run("apply", *given, "--since", "main", code=6)
    assert "--since takes the commit that the reviewed plan names" in branch.err
    branch.run("apply", *given, "--since", plan["scope"]["since"])


def test_explicit_profiles_with_a_placeholder_cannot_be_told(branch: Branch) -> None:
    branch.profile("a", profile("a", "custom_attributes: {t: '${var.tier}'}\n"))
    branch.profile("b", profile("b"))
    branch.write("profiles/team/_defaults.yaml", "custom_attributes: {t: '${var.tier}'}\n")
    branch.commit()
    with branch.workspace() as workspace:
        plan = workspace.plan(since="HEAD", profiles=workspace.desired())
        assert [change.address for change in plan.changes] == ["a", "team-anna", "team-bob"]
    assert json.loads(branch.run("plan", "--format", "json"))["summary"]["create"] == 6
