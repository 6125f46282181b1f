"""Whether git tracks the files of a state. The bytes of the index answer, and git where they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import Refused
from reconciler.workspace.tracked import refuse_tracked
from tests.support.git import Git


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """A repository with one commit."""
    folder = tmp_path / "tree"
    (folder / "kept").mkdir(parents=True)
    repository = Git(folder)
    (folder / "README").write_text("")
    repository.commit("one")
    return repository


def state_in(git: Git) -> Path:
    return git.folder / "kept" / "local.db"


def track(git: Git, name: str) -> None:
    path = git.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    git("add", "-f", name)


def is_refused(state: Path) -> bool:
    try:
        refuse_tracked(state)
    except Refused:
        return True
    return False


@pytest.mark.parametrize("name", ["local.db", "local.db-journal", "local.db.backup-1"])
def test_the_files_of_a_state_are_refused(git: Git, name: str) -> None:
    track(git, f"kept/{name}")
    with pytest.raises(Refused, match=f"git tracks kept/{name}"):
        refuse_tracked(state_in(git))
    git("rm", "-q", "--cached", f"kept/{name}")
    refuse_tracked(state_in(git))


@pytest.mark.parametrize(
    "name",
    ["kept/local.db2", "kept/my-local.db", "other/local.db", "local.db", "kept/local.db.d/x"],
)
def test_other_files_are_not(git: Git, name: str) -> None:
    track(git, name)
    refuse_tracked(state_in(git))


def test_capitals_make_no_other_file_of_it(git: Git) -> None:
    track(git, "kept/LOCAL.DB-JOURNAL")
    assert is_refused(state_in(git))


def test_outside_of_a_work_tree_nothing_is_tracked(tmp_path: Path) -> None:
    refuse_tracked(tmp_path / "local.db")
    refuse_tracked(tmp_path / "not" / "there" / "local.db")


def test_a_folder_that_is_a_link_is_followed(git: Git, tmp_path: Path) -> None:
    track(git, "kept/local.db")
    (tmp_path / "link").symlink_to(git.folder / "kept")
    assert is_refused(tmp_path / "link" / "local.db")


def test_a_linked_work_tree_has_an_index_of_its_own(git: Git, tmp_path: Path) -> None:
    git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    (tmp_path / "linked" / "kept").mkdir()
    track(git, "kept/local.db")
    refuse_tracked(tmp_path / "linked" / "kept" / "local.db")
    git("-C", str(tmp_path / "linked"), "reset", "-q")
    (tmp_path / "linked" / "kept" / "local.db").write_text("")
    git("-C", str(tmp_path / "linked"), "add", "-f", "kept/local.db")
    git("rm", "-q", "--cached", "kept/local.db")
    refuse_tracked(state_in(git))
    assert is_refused(tmp_path / "linked" / "kept" / "local.db")


def version_4(git: Git) -> None:
    """Names are written as what differs from the name before."""
    track(git, "kept/local.d")
    git("update-index", "--index-version", "4")


def split(git: Git) -> None:
    """Names are in another file."""
    git("update-index", "--split-index")


def sparse(git: Git) -> None:
    """An index that may list folders in the place of their files."""
    git.commit("two")
    git("sparse-checkout", "set", "--cone", "--sparse-index", "elsewhere")


@pytest.mark.parametrize("kind", [version_4, split, sparse])
def test_git_is_asked_where_the_index_does_not_spell_each_name(
    git: Git, kind: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(kind)
    kind(git)
    refuse_tracked(state_in(git))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        with pytest.raises(Refused, match="git does not tell"):
            refuse_tracked(state_in(git))
    if kind is sparse:
        git("sparse-checkout", "disable")
    track(git, "kept/local.db")
    kind(git)
    assert is_refused(state_in(git))


@pytest.mark.parametrize("content", [b"", b"DIRC", b"XXXX\0\0\0\2", b"DIRC\0\0\0\x09"])
def test_an_index_that_cannot_be_read_is_no_answer(git: Git, content: bytes) -> None:
    (git.folder / ".git" / "index").write_bytes(content)
    with pytest.raises(Refused, match="git does not tell"):
        refuse_tracked(state_in(git))


def test_where_nothing_was_ever_added_nothing_is_tracked(
    git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    (git.folder / ".git" / "index").unlink()
    monkeypatch.setenv("PATH", "/nonexistent")
    refuse_tracked(state_in(git))
