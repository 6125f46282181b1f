"""Git's answers, from repositories made here: who wrote a line, who removed it, and when git cannot tell."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.plan import LineAuthor
from reconciler.git import Repository
from reconciler.reports.blame import LineHistory, folder_in_repository
from reconciler.reports.wording import author_text
from tests.support.git import Git
from tests.support.projects import Project

Write = Callable[[str, str], Path]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path)


UNCOMMITTED = LineAuthor("", "", "", "not committed yet")
JANE = "customer_user_id: jane\nfirst_name: Jane\nemail: j@example.com\n"


def test_a_line_has_the_author_and_commit_that_wrote_it(git: Git, write: Write) -> None:
    write("profiles/jane.yaml", JANE)
    first = git.commit("First", author="Ada Lovelace")
    write("profiles/jane.yaml", JANE.replace("Jane", "Janet"))
    second = git.commit("Janet <b>now</b>", author="Grace Hopper")
    history = LineHistory(Repository.around(git.folder))
    assert {line: history.author("profiles/jane.yaml", line) for line in range(1, 5)} == {
        1: LineAuthor(first, "Ada Lovelace", "2026-11-02", "First"),
        2: LineAuthor(second, "Grace Hopper", "2026-11-03", "Janet <b>now</b>"),
        3: LineAuthor(first, "Ada Lovelace", "2026-11-02", "First"),
        4: None,
    }


def test_a_line_that_is_not_committed_says_so(git: Git, write: Write) -> None:
    write("profiles/jane.yaml", JANE)
    git.commit("First")
    write("profiles/jane.yaml", JANE.replace("Jane", "Janet"))
    origin = LineHistory(Repository.around(git.folder)).author("profiles/jane.yaml", 2)
    assert origin is not None
    assert (origin.commit, origin.summary) == ("", "not committed yet")


def test_a_removed_field_has_the_commit_that_removed_it(git: Git, write: Write) -> None:
    other = "---\ncustomer_user_id: anna\nemail: a@example.com\n"
    write("profiles/a.yaml", JANE + other)
    git.commit("First")
    write("profiles/a.yaml", JANE.replace("email: j@example.com\n", "") + other)
    removal = git.commit("No mail for Jane", author="Grace")
    write("profiles/a.yaml", JANE.replace("email: j@example.com\n", "") + other + "# x\n")
    git.commit("Later")
    repository = LineHistory(Repository.around(git.folder))
    author = repository.removal("profiles/a.yaml", address="jane", field="email")
    assert author == LineAuthor(removal, "Grace", "2026-11-03", "No mail for Jane", removed=True)
    assert repository.removal("profiles/a.yaml", address="jane", field="last_name") is None


def test_a_removed_file_has_the_commit_that_removed_it(git: Git, write: Write) -> None:
    path = write("profiles/jane.yaml", JANE)
    git.commit("First")
    path.unlink()
    removal = git.commit("Jane leaves")
    author = LineHistory(Repository.around(git.folder)).removal(
        "profiles/jane.yaml", address="jane", field=""
    )
    assert author is not None
    assert (author.commit, author.removed) == (removal, True)


def test_a_removal_that_is_not_committed_says_so(git: Git, write: Write) -> None:
    write("profiles/jane.yaml", JANE)
    git.commit("First")
    write("profiles/jane.yaml", "customer_user_id: jane\n")
    author = LineHistory(Repository.around(git.folder)).removal(
        "profiles/jane.yaml", address="jane", field="email"
    )
    assert author == LineAuthor("", "", "", "not committed yet", removed=True)


def test_removed_attributes_are_found_in_both_notations(git: Git, write: Write) -> None:
    listed = "customer_user_id: x\ncustom_attributes:\n  - {key: a, value: 1}\n"
    write("profiles/x.yaml", listed + "  - {key: b, value: 2}\n")
    git.commit("First")
    write("profiles/x.yaml", "customer_user_id: x\ncustom_attributes: {a: 1}\n")
    removal = git.commit("Without b")
    author = LineHistory(Repository.around(git.folder)).removal(
        "profiles/x.yaml", address="x", field="custom_attributes.b"
    )
    assert author is not None
    assert author.commit == removal


def test_a_version_that_does_not_parse_does_not_stop_the_search(git: Git, write: Write) -> None:
    write("profiles/x.yaml", JANE)
    git.commit("First")
    write("profiles/x.yaml", "{broken")
    broken = git.commit("Oops")
    write("profiles/x.yaml", "customer_user_id: jane\n")
    git.commit("Mended")
    author = LineHistory(Repository.around(git.folder)).removal(
        "profiles/x.yaml", address="jane", field="email"
    )
    assert author is not None
    assert author.commit == broken


def test_a_folder_is_named_from_the_root_of_its_repository(git: Git, write: Write) -> None:
    write("apps/shop/reconcile.yaml", "")
    assert folder_in_repository(git.folder / "apps" / "shop") == "apps/shop/"
    assert folder_in_repository(git.folder) == ""


# --- not committed, or unknown -------------------------------------------------------------------


def test_every_line_is_uncommitted_before_the_first_commit(git: Git, write: Write) -> None:
    write("profiles/jane.yaml", JANE)
    history = LineHistory(Repository.around(git.folder))
    assert history.author("profiles/jane.yaml", 1) == UNCOMMITTED
    assert history.removal("profiles/jane.yaml", address="jane", field="email") is None


def test_a_file_that_git_does_not_have_yet_is_uncommitted(git: Git, write: Write) -> None:
    git.commit("First")
    write("profiles/jane.yaml", JANE)
    history = LineHistory(Repository.around(git.folder))
    assert history.author("profiles/jane.yaml", 1) == UNCOMMITTED


def test_where_blame_fails_the_author_is_unknown_with_the_reason(git: Git, write: Write) -> None:
    write("profiles/jane.yaml", JANE)
    git.commit("First")
    git("config", "blame.ignoreRevsFile", "nowhere")
    author = LineHistory(Repository.around(git.folder)).author("profiles/jane.yaml", 1)
    assert author is not None
    assert author.problem == "could not open object name list: nowhere"
    assert author_text(author).startswith("git cannot tell who wrote it: could not open")


def test_in_a_shallow_clone_its_end_is_nobody(git: Git, write: Write, tmp_path: Path) -> None:
    write("profiles/jane.yaml", JANE)
    git.commit("First", author="Ada")
    write("profiles/jane.yaml", JANE.replace("Jane", "Janet").replace("email", "last_name"))
    end = git.commit("Second", author="Grace")
    write("profiles/jane.yaml", JANE.replace("Jane", "Joan").replace("email", "last_name"))
    last = git.commit("Third", author="Linus")
    shallow = tmp_path / "shallow"
    git("clone", "--quiet", "--depth", "2", f"file://{git.folder}", str(shallow))
    history = LineHistory(Repository.around(shallow))
    authors = [history.author("profiles/jane.yaml", line) for line in (1, 2)]
    assert [author and (author.commit, author.problem) for author in authors] == [
        ("", f"the history of this shallow clone ends at {end[:12]}"),
        (last, ""),
    ]
    removal = history.removal("profiles/jane.yaml", address="jane", field="email")
    assert removal is not None
    assert removal.problem == "the history of this shallow clone ends before"


class Blamed(Project):
    """A project in a repository."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.write(".gitignore", ".reconcile/\n")
        self.git = Git(folder)

    def authors(self, *arguments: str) -> dict[tuple[str, str], dict[str, Any]]:
        plan = self.plan("--blame", *arguments)
        return {(each["address"], each["path"]): each for each in plan["blame"]}


@pytest.fixture
def blamed(tmp_path: Path) -> Blamed:
    return Blamed(tmp_path / "project")


def test_a_file_in_a_submodule_has_the_authors_of_its_own_repository(
    blamed: Blamed, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    origin = Git(other)
    (other / "eve.yaml").write_text("customer_user_id: eve\n")
    commit = origin.commit("Eve", author="Grace")
    blamed.profile("jane", "customer_user_id: jane\n")
    blamed.git.commit("Jane")
    allowed = ("-c", "protocol.file.allow=always")
    blamed.git(*allowed, "submodule", "--quiet", "add", str(other), "profiles/team")
    blamed.git.commit("A team")
    assert blamed.authors()["eve", ""]["commit"] == commit


def test_a_file_whose_name_is_not_utf_8_has_authors(blamed: Blamed) -> None:
    path = blamed.folder / "profiles" / os.fsdecode(b"caf\xe9.yaml")
    path.parent.mkdir()
    path.write_text(JANE)
    commit = blamed.git.commit("Jane", author="Grace")
    assert blamed.authors()["jane", "first_name"]["commit"] == commit
    blamed.run("apply", "--auto-approve")
    path.write_text("customer_user_id: jane\nfirst_name: Jane\n")
    removal = blamed.git.commit("No mail")
    assert blamed.authors()["jane", "email"]["commit"] == removal


def test_the_remover_of_an_orphan_is_named(blamed: Blamed) -> None:
    path = blamed.profile("jane", JANE)
    blamed.profile("anna", "customer_user_id: anna\n---\ncustomer_user_id: bob\n")
    blamed.git.commit("Both", author="Ada")
    blamed.run("apply", "--auto-approve")
    path.unlink()
    removal = blamed.git.commit("Jane leaves", author="Grace")
    blamed.profile("anna", "customer_user_id: anna\n")
    second = blamed.git.commit("Bob leaves", author="Linus")
    authors = blamed.authors()
    assert (authors["jane", ""]["commit"], authors["bob", ""]["commit"]) == (removal, second)
    text = blamed.run("plan", "--blame")
    assert f"    jane  [removed by Grace in {removal[:12]} on" in text
    markdown = blamed.run("plan", "--blame", "--format", "markdown")
    assert f"`jane` (removed by Grace in `{removal[:12]}` on" in markdown


def test_a_removed_default_has_the_commit_that_removed_it(blamed: Blamed) -> None:
    blamed.write("profiles/_defaults.yaml", "last_name: Doe\nstore: app_store\n")
    blamed.profile("jane", JANE)
    blamed.git.commit("First")
    blamed.run("apply", "--auto-approve")
    blamed.write("profiles/_defaults.yaml", "store: app_store\n")
    removal = blamed.git.commit("No last names", author="Grace")
    assert blamed.authors()["jane", "last_name"]["commit"] == removal


def test_a_heading_and_an_annotation_name_the_changed_line(blamed: Blamed) -> None:
    blamed.profile("jane", JANE)
    blamed.git.commit("First", author="Ada")
    blamed.run("apply", "--auto-approve")
    blamed.profile("jane", JANE.replace("j@example.com", "jane@example.com"))
    commit = blamed.git.commit("Another address", author="Grace")
    author = f"written by Grace in {commit[:12]} on 2026-11-03"
    assert f"    # {author}\n" in blamed.run("plan", "--blame")
    annotation = blamed.run("plan", "--blame", "--format", "github").splitlines()[1]
    assert annotation.startswith("::notice file=profiles/jane.yaml,line=3,title=update jane::")
    assert annotation.endswith(f"; {author}")


def test_an_annotation_points_at_the_default_that_changed(blamed: Blamed) -> None:
    blamed.write("profiles/_defaults.yaml", "\nlast_name: Doe\n")
    blamed.profile("jane", JANE)
    blamed.run("apply", "--auto-approve")
    blamed.write("profiles/_defaults.yaml", "\nlast_name: Roe\n")
    out = blamed.run("plan", "--format", "github")
    assert "file=profiles/_defaults.yaml,line=2,title=update jane::" in out
