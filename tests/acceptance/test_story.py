"""The whole story with real git: a branch, an edit, a plan, its comment, the merge, and exactly that plan."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reconciler.emulator import Emulator
from tests.support.git import Git
from tests.support.places import state_of
from tests.support.projects import Project

CONFIG = (
    "version: 1\n"
    "environments:\n"
    "  local:\n"
    "    api: {url: emulator}\n"
    "    limits: {max_delete: 100%}\n"
    "    confirm: true\n"
)
JANE = "customer_user_id: qa-jane\nfirst_name: Jane\nemail: jane@example.com\nip_country: FR\n"
BOB = "customer_user_id: qa-bob\nfirst_name: Bob\nip_country: DE\ncustom_attributes: {tier: gold}\n"
EVE = "customer_user_id: qa-eve\nfirst_name: Eve\nip_country: US\n"


class Story(Project):
    """A repository with applied profiles on main, and a branch on which they are edited."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CONFIG)
        self.git = Git(folder)
        self.write(".gitignore", ".reconcile/\n*.plan\n*.md\n*.html\n*.json\n")
        for name, text in (("jane", JANE), ("bob", BOB), ("eve", EVE)):
            self.profile(name, text)
        self.git.commit("Users for QA", author="Ada Lovelace")
        self.apply(self.digest())
        self.git("checkout", "--quiet", "-b", "feature")
        self.write(
            "profiles/jane.yaml",
            JANE.replace("Jane\n", "Janet\n").replace("email: jane@example.com\n", ""),
        )
        (folder / "profiles" / "eve.yaml").unlink()
        self.git.commit("Jane is Janet, Eve leaves", author="Grace Hopper")

    def digest(self, *options: str) -> str:
        return str(self.plan(*options)["digest"])

    def apply(self, digest: str, *options: str, code: int = 0) -> str:
        return self.run("apply", "--auto-approve", "--digest", digest, *options, code=code)

    def remote(self) -> set[str]:
        api = Emulator(db=state_of(self.folder, "emulator.db"))
        found = {profile["customer_user_id"] for profile in api.profiles()}
        api.close()
        return found


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_from_an_edit_to_an_empty_plan(story: Story) -> None:
    story.run("validate")
    out = story.run(
        *(
            "plan",
            "--prune",
            "--since",
            "main",
            "--blame",
            "--detailed-exitcode",
            "--out",
            "reviewed.plan",
        ),
        *("--markdown-out", "plan.md", "--html-out", "plan.html", "--json-out", "plan.json"),
        code=2,
    )
    fork = story.git("rev-parse", "main")
    assert f"only profiles whose files changed since {fork[:12]}." in out
    assert re.search(
        r"- email +\"jane@example.com\" → cleared  \[removed by Grace Hopper in \w{12} on", out
    )
    assert re.search(
        r"~ first_name +\"Jane\" → \"Janet\"  \[written by Grace Hopper in \w{12} on", out
    )
    plan = json.loads((story.folder / "plan.json").read_text())
    assert [change["address"] for change in plan["changes"]] == ["qa-eve", "qa-jane"]
    assert plan["scope"] == {"since": fork}
    removed = {(one["address"], one["path"]) for one in plan["blame"] if one["removed"]}
    assert removed == {("qa-jane", "email"), ("qa-eve", "")}

    comment = (story.folder / "plan.md").read_text()
    assert comment.index("`qa-eve`: will be deleted") < comment.index("| profile |")
    command = re.search(r"```sh\nreconcile (.*)\n```", comment)
    assert command is not None
    for name in ("plan.md", "plan.html", "plan.json", "reviewed.plan"):
        assert (story.folder / name).stat().st_mode & 0o777 == 0o600

    story.git("checkout", "--quiet", "main")
    story.git("merge", "--quiet", "--no-ff", "-m", "Merge", "feature")
    story.run(*command[1].split(), code=0)
    assert story.remote() == {"qa-jane", "qa-bob"}
    assert "No changes." in story.run("plan", "--prune", "--detailed-exitcode")


def test_a_plan_changed_by_one_byte_is_refused(story: Story) -> None:
    digest = story.digest("--prune")
    story.write("profiles/bob.yaml", BOB.replace("gold", "bold"))
    story.apply(digest, "--prune", code=6)
    assert "not the one that was given" in story.err
    assert story.remote() == {"qa-jane", "qa-bob", "qa-eve"}


def test_a_state_that_moved_is_refused(story: Story) -> None:
    digest = story.digest("--prune")
    story.git("stash", "--quiet", "--include-untracked")
    story.write("profiles/zoe.yaml", "customer_user_id: zoe\nip_country: FR\n")
    story.apply(story.digest("--select", "zoe"), "--select", "zoe")
    (story.folder / "profiles" / "zoe.yaml").unlink()
    story.apply(digest, "--prune", code=6)


def test_other_options_make_another_plan(story: Story) -> None:
    story.apply(story.digest("--prune", "--since", "main"), "--prune", code=6)
    story.apply(story.digest("--prune"), code=6)


def test_an_empty_plan_has_a_digest_that_counts(story: Story) -> None:
    story.apply(story.digest("--prune"), "--prune")
    digest = story.digest("--prune")
    assert re.fullmatch("sha256:[0-9a-f]{64}", digest)
    story.apply(digest, "--prune")
    story.apply(f"sha256:{'0' * 64}", "--prune", code=6)


def test_an_environment_with_confirm_needs_the_digest(story: Story) -> None:
    story.run("apply", "--auto-approve", "--prune", code=6)
    told = story.err
    assert f"--digest {story.digest('--prune')}" in told


def test_files_alone_are_a_plan_without_any_secret_or_state(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another machine, where no state was seen."""
    monkeypatch.setenv("XDG_STATE_HOME", str(story.folder.parent / "another-machine"))
    out = story.run("plan", "--since", "main", "--format", "markdown")
    assert "1 to create" in out
    assert not state_of(story.folder).exists()


def test_since_leaves_untouched_profiles_out_of_orphans_too(story: Story) -> None:
    (story.folder / "profiles" / "bob.yaml").unlink()
    story.git.commit("Bob leaves")
    plan = json.loads(story.run("plan", "--since", "HEAD~1", "--format", "json"))
    assert plan["orphans"] == ["qa-bob"]
    assert plan["changes"] == []


def test_an_unknown_revision_is_a_usage_error(story: Story) -> None:
    story.run("plan", "--since", "nowhere", code=64)
    assert "does not know the revision" in story.err


def test_without_git_a_plan_needs_neither_since_nor_blame(tmp_path: Path) -> None:
    project = Project(tmp_path, None)
    project.run("init")
    project.run("plan", "--format", "markdown")
    project.run("plan", "--blame", code=1)
    assert "not a git repository" in project.err
