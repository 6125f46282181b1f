"""git as it is run here: which repository counts, what its configuration cannot do, and what it is asked."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import ReconcileError, Refused, UsageError
from reconciler.git import GitFailed, Repository
from tests.support.git import Git
from tests.support.projects import Project

Write = Callable[[str, str], Path]
JANE = "customer_user_id: jane\nfirst_name: Jane\n"


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path)


# --- which repository ----------------------------------------------------------------------------


def test_without_a_repository_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReconcileError, match="not a git repository"):
        Repository.around(tmp_path)


def test_without_git_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReconcileError, match="git is not installed"):
        Repository.around(tmp_path)


def test_a_git_of_the_work_tree_or_of_a_relative_folder_is_not_run(
    git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (git.folder, git.folder / "bin"):
        folder.mkdir(exist_ok=True)
        trap = folder / "git"
        trap.write_text(f"#!/bin/sh\ntouch {git.folder}/ran\n")
        trap.chmod(0o755)
    monkeypatch.chdir(git.folder)
    monkeypatch.setenv("PATH", f".:bin::{git.folder}/bin:{os.environ['PATH']}")
    Repository.around(git.folder)
    assert not (git.folder / "ran").exists()


def test_a_bare_repository_among_the_files_is_passed_over(git: Git) -> None:
    inner = git.folder / "apps"
    inner.mkdir()
    Git(inner)
    for path in (inner / ".git").iterdir():
        path.rename(inner / path.name)
    (inner / ".git").rmdir()
    (inner / "config").write_text("[core]\n\tbare = false\n\tworktree = .\n")
    assert Repository.around(inner).root == git.folder


def test_a_repository_that_calls_another_folder_its_work_tree_is_none(
    git: Git, tmp_path: Path
) -> None:
    git("config", "core.worktree", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ReconcileError, match="git finds no repository"):
        Repository.around(git.folder)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_repository_of_another_owner_is_not_trusted(git: Git) -> None:
    for path in (git.folder, git.folder / ".git"):
        os.chown(path, 65534, 65534)
    with pytest.raises(ReconcileError, match="git does not trust the repository") as caught:
        Repository.around(git.folder)
    assert "safe.directory" in caught.value.hint


@pytest.mark.parametrize("content", [None, "", "gitdir: /nowhere", "\0"])
def test_a_git_folder_that_is_none_is_an_error_and_nothing_above_is_asked(
    git: Git, content: str | None
) -> None:
    inner = git.folder / "inner"
    inner.mkdir()
    if content is None:
        (inner / ".git").mkdir()
    else:
        (inner / ".git").write_text(content)
    with pytest.raises(ReconcileError, match="git finds no repository"):
        Repository.around(inner)


def test_a_linked_work_tree_is_one_also_within_its_hooks(
    git: Git, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("profiles/jane.yaml", JANE)
    commit = git.commit("First")
    git("worktree", "add", "--quiet", "-b", "linked", str(tmp_path / "linked"))
    linked = tmp_path / "linked"
    directory = git("-C", "linked", "rev-parse", "--absolute-git-dir")
    for name, value in {
        "GIT_DIR": directory,
        "GIT_INDEX_FILE": f"{directory}/nowhere",
        "GIT_WORK_TREE": "/",
        "GIT_PREFIX": "x/",
        "GIT_OBJECT_DIRECTORY": "/nowhere",
        "GIT_COMMON_DIR": "/nowhere",
        "GIT_CONFIG_PARAMETERS": "'core.worktree=/'",
        "GIT_EXTERNAL_DIFF": "false",
        "GIT_CEILING_DIRECTORIES": str(linked),
        "GIT_ATTR_NOSYSTEM": "x",
        "GIT_TRACE": str(tmp_path / "trace"),
        "GIT_LITERAL_PATHSPECS": "0",
        "GIT_GLOB_PATHSPECS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    repository = Repository.around(linked / "profiles")
    assert repository.root == linked
    comparison = repository.compared(commit, ["profiles"])
    assert comparison.same == {"profiles/jane.yaml"}
    assert not comparison.different
    assert not (tmp_path / "trace").exists()


# --- what is run ---------------------------------------------------------------------------------


@pytest.fixture
def trapped(tmp_path: Path) -> tuple[Project, Path]:
    """A project whose repository names a command in every way that is known, and a file that they leave."""
    project = Project(tmp_path / "project")
    canary = tmp_path / "ran"
    git = Git(project.folder)
    project.write(".gitattributes", "*.yaml diff=x filter=x\n*.yaml merge=x\n")
    project.profile("jane", JANE)
    git.commit("First")
    project.profile("jane", JANE.replace("Jane", "Janet"))
    trap = tmp_path / "trap"
    trap.write_text(f'#!/bin/sh\necho "$0 $*" >> {canary}\ncat\n')
    trap.chmod(0o755)
    for hook in ("post-index-change", "pre-auto-gc", "reference-transaction", "fsmonitor"):
        path = project.folder / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(trap.read_text())
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    settings = {
        "core.fsmonitor": str(trap),
        "core.hooksPath": str(project.folder / ".git" / "hooks"),
        "core.pager": str(trap),
        "core.editor": str(trap),
        "core.sshCommand": str(trap),
        "core.gitProxy": str(trap),
        "core.askPass": str(trap),
        "core.alternateRefsCommand": str(trap),
        "credential.helper": f"!{trap}",
        "diff.external": str(trap),
        "diff.x.command": str(trap),
        "diff.x.textconv": str(trap),
        "filter.x.clean": str(trap),
        "filter.x.smudge": str(trap),
        "filter.x.process": str(trap),
        "filter.x.required": "true",
        "filter.X y.clean": str(trap),
        "gpg.program": str(trap),
        "interactive.diffFilter": str(trap),
        "log.showSignature": "true",
        "merge.x.driver": str(trap),
        "pager.blame": str(trap),
        "pager.diff": str(trap),
        "pager.log": str(trap),
        "remote.origin.url": f"ext::{trap}",
        "remote.origin.promisor": "true",
        "remote.origin.uploadpack": str(trap),
        "protocol.ext.allow": "always",
        "protocol.allow": "always",
        "sequence.editor": str(trap),
        "alias.blame": f"!{trap}",
        "alias.diff": f"!{trap}",
    }
    for key, value in settings.items():
        git("config", key, value)
    git("config", "extensions.partialClone", "origin")
    git("config", "core.repositoryFormatVersion", "1")
    canary.unlink(missing_ok=True)
    return project, canary


def test_nothing_that_a_repository_names_is_run(trapped: tuple[Project, Path]) -> None:
    project, canary = trapped
    for path in (project.folder / "profiles").iterdir():
        os.utime(path)
    project.run("plan", "--blame", "--since", "HEAD", "--format", "markdown")
    project.run("plan", "--blame", "--since", "HEAD", "--format", "html")
    assert not canary.exists(), canary.read_text()


def test_an_object_that_a_partial_clone_lacks_is_not_fetched(
    trapped: tuple[Project, Path],
) -> None:
    project, canary = trapped
    objects = project.folder / ".git" / "objects"
    for path in objects.glob("??/*"):
        path.chmod(0o600)
        path.unlink()
    project.run("plan", "--blame")
    project.run("plan", "--since", "HEAD", code=64)
    assert not canary.exists(), canary.read_text()


def test_a_filter_with_a_name_that_cannot_be_switched_off_is_refused(git: Git) -> None:
    git.commit("First")
    git("config", "filter.a=b.clean", "touch ran")
    with pytest.raises(GitFailed, match="a filter with an odd name"):
        Repository.around(git.folder).output("diff")


def test_no_variable_of_the_environment_reaches_git_but_a_few(
    git: Git, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nenv\n")
    program.chmod(0o755)
    monkeypatch.setenv("ADAPTY_SECRET_KEY", "canary")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "http.extraHeader")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Authorization: canary")
    monkeypatch.setenv("GIT_CONFIG_KEY_1", "safe.directory")
    monkeypatch.setenv("GIT_CONFIG_VALUE_1", "/somewhere")
    repository = Repository(git.folder, str(program))
    names = repository._output([]).decode()
    assert "canary" not in names
    assert "GIT_CONFIG_VALUE_0=/somewhere" in names
    assert "PATH=" in names


# --- what it is asked ----------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["nowhere", "--output=x", "", "HEAD; rm -rf /", "a\x00b"])
def test_an_unknown_revision_is_a_usage_error(git: Git, revision: str) -> None:
    git.commit("First")
    with pytest.raises(UsageError, match="does not know"):
        Repository.around(git.folder).fork_point(revision)
    assert not (git.folder / "x").exists()


def test_the_work_tree_is_compared_with_the_fork_point(git: Git, write: Write) -> None:
    for name in ("a", "gone", "moved", "hidden", "skipped"):
        write(f"profiles/{name}.yaml", JANE)
    write("else.yaml", JANE)
    fork = git.commit("First")
    git("checkout", "--quiet", "-b", "feature")
    write("profiles/ü ber.yaml", JANE)
    (git.folder / "profiles/gone.yaml").unlink()
    (git.folder / "profiles/moved.yaml").rename(git.folder / "profiles/new name.yaml")
    git.commit("On the branch")
    write("profiles/fresh.yaml", JANE)
    git("update-index", "--assume-unchanged", "profiles/hidden.yaml")
    git("update-index", "--skip-worktree", "profiles/skipped.yaml")
    git("checkout", "--quiet", "main")
    write("profiles/b.yaml", JANE)
    git("add", "profiles/b.yaml")
    git.day += 1
    git("commit", "--quiet", "-m", "Meanwhile")
    git("checkout", "--quiet", "feature")
    repository = Repository.around(git.folder)
    assert repository.fork_point("main") == fork
    comparison = repository.compared(fork, ["profiles"])
    assert comparison.same == {"profiles/a.yaml"}
    assert comparison.different == {
        "profiles/ü ber.yaml",
        "profiles/gone.yaml",
        "profiles/moved.yaml",
        "profiles/new name.yaml",
    }


def test_a_shallow_clone_without_the_fork_point_is_refused_naming_the_fetch(
    git: Git, write: Write, tmp_path: Path
) -> None:
    write("profiles/a.yaml", JANE)
    git.commit("First")
    git("branch", "feature")
    git.commit("A colleague's")
    git("checkout", "--quiet", "feature")
    git.commit("Mine")
    shallow = tmp_path / "shallow"
    url = f"file://{git.folder}"
    git(
        "clone",
        "--quiet",
        "--depth",
        "1",
        "--no-single-branch",
        "--branch",
        "feature",
        url,
        str(shallow),
    )
    with pytest.raises(Refused, match="this clone is shallow") as caught:
        Repository.around(shallow).fork_point("origin/main")
    assert "git fetch --unshallow" in caught.value.hint


def test_histories_without_a_common_commit_are_refused(git: Git) -> None:
    git.commit("First")
    git("checkout", "--quiet", "--orphan", "other")
    git.commit("Another")
    with pytest.raises(Refused, match="no common history"):
        Repository.around(git.folder).fork_point("main")


def test_a_trail_names_each_link_on_the_way(git: Git, write: Write) -> None:
    write("..1/a.yaml", JANE)
    (git.folder / "..data").symlink_to("..1")
    (git.folder / "a.yaml").symlink_to("./..data/../..data/a.yaml")
    (git.folder / "out").symlink_to("/etc")
    (git.folder / "loop").symlink_to("loop")
    repository = Repository.around(git.folder)
    trail = [*repository.trail(str(git.folder / "a.yaml"))]
    assert trail == ["a.yaml", "..data", "..data", "..1/a.yaml"]
    assert [*repository.trail(str(git.folder / "out" / "x"))] == ["out", None]
    assert len([*repository.trail(str(git.folder / "loop"))]) == 41


# --- what is committed ---------------------------------------------------------------------------


def test_committed_is_only_what_head_has_with_the_same_bytes(git: Git, write: Write) -> None:
    same = write("same.yaml", JANE)
    paths = [write(f"{name}.yaml", JANE) for name in ("cut", "staged", "hidden", "same-size")]
    git.commit("First")
    for path in paths[:3]:
        path.write_text("customer_user_id: jane\n")
    git("add", "staged.yaml")
    git("update-index", "--assume-unchanged", "hidden.yaml")
    status = paths[3].stat()
    paths[3].write_text(JANE.replace("Jane", "Joan"))
    os.utime(paths[3], ns=(status.st_atime_ns, status.st_mtime_ns))
    paths += [write("new.yaml", JANE), git.folder / "absent.yaml", git.folder.parent / "outside"]
    repository = Repository.around(git.folder)
    assert repository.uncommitted([same, *paths]) == paths


def test_attributes_and_filters_of_the_checkout_make_nothing_committed(
    git: Git, write: Write
) -> None:
    path = write("a.yaml", JANE)
    git.commit("First")
    write(".gitattributes", "* filter=trap diff=trap text ident working-tree-encoding=UTF-16\n")
    git("config", "filter.trap.clean", f"touch {git.folder}/ran; printf '%s' '{JANE}'")
    path.write_text("customer_user_id: jane\n")
    assert Repository.around(git.folder).uncommitted([path]) == [path]
    assert not (git.folder / "ran").exists()


def test_links_are_committed_if_each_of_them_is(git: Git, write: Write) -> None:
    write("real/a.yaml", JANE)
    write("other/a.yaml", JANE)
    link, swapped, plain = (git.folder / name for name in ("link", "swapped", "plain"))
    link.symlink_to("real/a.yaml")
    swapped.symlink_to("real/a.yaml")
    plain.write_text(JANE)
    git.commit("First")
    swapped.unlink()
    swapped.symlink_to("other/a.yaml")
    plain.unlink()
    plain.symlink_to("real/a.yaml")
    assert Repository.around(git.folder).uncommitted([link, swapped, plain]) == [swapped, plain]


def test_pipes_and_folders_are_not_committed_and_not_waited_for(git: Git, write: Write) -> None:
    paths = [write("pipe", JANE), write("folder", JANE)]
    git.commit("First")
    for path in paths:
        path.unlink()
    os.mkfifo(paths[0])
    paths[1].mkdir()
    assert Repository.around(git.folder).uncommitted(paths) == paths


def test_before_the_first_commit_nothing_is_committed(git: Git, write: Write) -> None:
    path = write("a.yaml", JANE)
    assert Repository.around(git.folder).uncommitted([path]) == [path]


def test_names_of_every_kind_and_objects_of_sha256_are_compared(tmp_path: Path) -> None:
    folder = tmp_path / "sha256"
    folder.mkdir()
    git = Git(folder)
    shutil.rmtree(folder / ".git")
    git("init", "--quiet", "--object-format=sha256", "--initial-branch=main")
    paths = [folder / name for name in ("ü ber.yaml", ":(glob)*.yaml", "-x.yaml", "a\tb.yaml")]
    for path in paths:
        path.write_text(JANE)
    git.commit("First")
    assert Repository.around(folder).uncommitted(paths) == []
