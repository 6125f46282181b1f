"""Git's answers, from repositories made here: who wrote a line, who removed it, what changed since."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.core.plan import LineAuthor
from reconciler.errors import ReconcileError, UsageError
from reconciler.reports.blame import Repository, folder_in_repository
from tests.support.git import Git

Write = Callable[[str, str], Path]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path)


JANE = "customer_user_id: jane\nfirst_name: Jane\nemail: j@example.com\n"


def test_a_line_has_the_author_and_commit_that_wrote_it(git: Git, write: Write) -> None:
    write("profiles/jane.yaml", JANE)
    first = git.commit("First", author="Ada Lovelace")
    write("profiles/jane.yaml", JANE.replace("Jane", "Janet"))
    second = git.commit("Janet <b>now</b>", author="Grace Hopper")
    lines = Repository.around(git.folder).blame("profiles/jane.yaml")
    assert lines == {
        1: LineAuthor(first, "Ada Lovelace", "2026-11-02", "First"),
        2: LineAuthor(second, "Grace Hopper", "2026-11-03", "Janet <b>now</b>"),
        3: LineAuthor(first, "Ada Lovelace", "2026-11-02", "First"),
    }


def test_a_line_that_is_not_committed_says_so(git: Git, write: Write) -> None:
    write("profiles/jane.yaml", JANE)
    git.commit("First")
    write("profiles/jane.yaml", JANE.replace("Jane", "Janet"))
    origin = Repository.around(git.folder).blame("profiles/jane.yaml")[2]
    assert (origin.commit, origin.summary) == ("", "not committed yet")


def test_a_removed_field_has_the_commit_that_removed_it(git: Git, write: Write) -> None:
    other = "---\ncustomer_user_id: anna\nemail: a@example.com\n"
    write("profiles/a.yaml", JANE + other)
    git.commit("First")
    write("profiles/a.yaml", JANE.replace("email: j@example.com\n", "") + other)
    removal = git.commit("No mail for Jane", author="Grace")
    write("profiles/a.yaml", JANE.replace("email: j@example.com\n", "") + other + "# x\n")
    git.commit("Later")
    repository = Repository.around(git.folder)
    author = repository.removal("profiles/a.yaml", address="jane", field="email")
    assert author == LineAuthor(removal, "Grace", "2026-11-03", "No mail for Jane", removed=True)
    assert repository.removal("profiles/a.yaml", address="jane", field="last_name") is None


def test_a_removed_file_has_the_commit_that_removed_it(git: Git, write: Write) -> None:
    path = write("profiles/jane.yaml", JANE)
    git.commit("First")
    path.unlink()
    removal = git.commit("Jane leaves")
    author = Repository.around(git.folder).removal("profiles/jane.yaml", address="jane", field="")
    assert author is not None
    assert (author.commit, author.removed) == (removal, True)


def test_a_removal_that_is_not_committed_says_so(git: Git, write: Write) -> None:
    write("profiles/jane.yaml", JANE)
    git.commit("First")
    write("profiles/jane.yaml", "customer_user_id: jane\n")
    author = Repository.around(git.folder).removal(
        "profiles/jane.yaml", address="jane", field="email"
    )
    assert author == LineAuthor("", "", "", "not committed yet", removed=True)


def test_removed_attributes_are_found_in_both_notations(git: Git, write: Write) -> None:
    listed = "customer_user_id: x\ncustom_attributes:\n  - {key: a, value: 1}\n"
    write("profiles/x.yaml", listed + "  - {key: b, value: 2}\n")
    git.commit("First")
    write("profiles/x.yaml", "customer_user_id: x\ncustom_attributes: {a: 1}\n")
    removal = git.commit("Without b")
    author = Repository.around(git.folder).removal(
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
    author = Repository.around(git.folder).removal("profiles/x.yaml", address="jane", field="email")
    assert author is not None
    assert author.commit == broken


def test_changed_since_compares_with_the_fork_point(git: Git, write: Write) -> None:
    write("profiles/a.yaml", JANE)
    write("profiles/gone.yaml", JANE)
    write("profiles/moved.yaml", JANE)
    fork = git.commit("First")
    git("checkout", "--quiet", "-b", "feature")
    write("profiles/ü ber.yaml", JANE)
    (git.folder / "profiles/gone.yaml").unlink()
    (git.folder / "profiles/moved.yaml").rename(git.folder / "profiles/new name.yaml")
    git.commit("On the branch")
    write("profiles/fresh.yaml", JANE)
    git("checkout", "--quiet", "main")
    write("profiles/b.yaml", JANE)
    git("add", "profiles/b.yaml")
    git.day += 1
    git("commit", "--quiet", "-m", "Meanwhile")
    git("checkout", "--quiet", "feature")
    commit, files = Repository.around(git.folder).changed_since("main")
    assert commit == fork
    assert files == {
        "profiles/ü ber.yaml",
        "profiles/gone.yaml",
        "profiles/moved.yaml",
        "profiles/new name.yaml",
        "profiles/fresh.yaml",
    }


@pytest.mark.parametrize("revision", ["nowhere", "--output=x", "", "HEAD; rm -rf /", "a\x00b"])
def test_an_unknown_revision_is_a_usage_error(git: Git, revision: str) -> None:
    git.commit("First")
    with pytest.raises(UsageError, match="does not know"):
        Repository.around(git.folder).changed_since(revision)
    assert not (git.folder / "x").exists()


def test_without_a_repository_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReconcileError, match="not a git repository"):
        Repository.around(tmp_path)
    assert folder_in_repository(tmp_path) == ""


def test_without_git_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReconcileError, match="git is not installed"):
        Repository.around(tmp_path)


def test_a_folder_is_named_from_the_root_of_its_repository(git: Git, write: Write) -> None:
    write("apps/shop/reconcile.yaml", "")
    assert folder_in_repository(git.folder / "apps" / "shop") == "apps/shop/"
    assert folder_in_repository(git.folder) == ""
