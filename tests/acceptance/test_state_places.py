"""Where the state is, and what a checkout can do about it: nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.config.places import RECORD
from reconciler.state.side_files import SideFiles
from reconciler.state.sqlite import SqliteStore
from tests.support.configurations import LOCAL
from tests.support.git import Git
from tests.support.journals import forge_journal, journal_naming
from tests.support.places import homes_below, places_of, state_of
from tests.support.projects import JANE, Project

ROOT = Path(__file__).parent.parent.parent
CONFIGURED = LOCAL + "    state: {url: 'sqlite:///.reconcile/local.db'}\n"
IN_PROJECT = ".reconcile/local.db"
EVIL = "DELETE FROM record"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "checkout", LOCAL, profiles={"jane": JANE})


@pytest.fixture
def released(project: Project) -> Project:
    """A project whose state an earlier version made in the project's folder. Jane is applied."""
    project.configure(CONFIGURED)
    done(project, "apply", "--auto-approve")
    project.configure(LOCAL)
    emulator = state_of(project.folder, "emulator.db")
    shutil.move(emulator, project.folder / ".reconcile" / "emulator.db")
    return project


def done(project: Project, *arguments: str, code: int = 0) -> str:
    """What a command prints that ends with a code."""
    ended, output = project.invoke(*arguments)
    assert ended == code, output
    return output


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder, with their content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.parts
    }


# --- the home ------------------------------------------------------------------------------------


def test_nothing_is_written_into_a_checkout(project: Project) -> None:
    before = tree(project.folder)
    done(project, "validate")
    done(project, "plan")
    done(project, "apply", "--auto-approve")
    done(project, "state", "list")
    assert tree(project.folder) == before
    assert "No changes." in done(project, "plan")
    assert state_of(project.folder).stat().st_mode & 0o777 == 0o600
    assert state_of(project.folder).parent.stat().st_mode & 0o777 == 0o700


def test_state_path_says_where_the_state_is(project: Project) -> None:
    assert done(project, "state", "path").strip() == str(state_of(project.folder))
    kept = json.loads(done(project, "state", "path", "--format", "json"))
    assert kept == {
        "state": str(state_of(project.folder)),
        "emulator": str(state_of(project.folder, "emulator.db")),
        "caches": str(places_of(project.folder).caches),
        "home": str(places_of(project.folder).homes.state),
    }


def test_two_clones_have_a_state_each(project: Project, tmp_path: Path) -> None:
    done(project, "apply", "--auto-approve")
    shutil.copytree(project.folder, tmp_path / "second")
    second = Project(tmp_path / "second", None)
    assert "1 to create" in done(second, "plan")
    assert "No changes." in done(project, "plan")


@pytest.mark.parametrize("variables", [{}, {"HOME": "/nonexistent/ann"}])
def test_without_a_home_the_state_is_in_the_project(
    project: Project, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*homes_below(""), "HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done(project, "apply", "--auto-approve")
    assert (project.folder / IN_PROJECT).exists()
    output = done(project, "plan")
    assert "No changes." in output
    assert "warning" not in output


def test_a_home_that_cannot_be_written_is_none(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for name, folder in homes_below(tmp_path / "file").items():
        monkeypatch.setenv(name, folder)
    done(project, "apply", "--auto-approve")
    assert (project.folder / IN_PROJECT).exists()
    assert "No changes." in done(project, "plan")


def test_a_home_variable_inside_of_the_project_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILE_STATE_DIR", str(project.folder / "x"))
    assert "RECONCILE_STATE_DIR" in done(project, "plan", code=64)
    monkeypatch.setenv("RECONCILE_STATE_DIR", "x")
    assert "absolute" in done(project, "plan", code=64)


# --- what git tracks -----------------------------------------------------------------------------


@pytest.mark.parametrize("config", [LOCAL, CONFIGURED], ids=["default", "configured"])
@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm", ".backup-20300101T000000Z-1"])
def test_a_state_that_git_tracks_is_refused_before_it_is_opened(
    project: Project, config: str, suffix: str
) -> None:
    project.configure(CONFIGURED)
    done(project, "apply", "--auto-approve")
    project.configure(config)
    git = Git(project.folder)
    project.write(".gitignore", ".reconcile/\n")
    git.commit("one")
    assert "No changes." in done(project, "plan")
    place = project.folder / (IN_PROJECT + suffix)
    if suffix:
        place.write_bytes(b"planted")
    git("add", "-f", str(place))
    before = tree(project.folder)
    for words in (["plan"], ["apply", "--auto-approve"], ["state", "list"], ["state", "move"]):
        output = done(project, *words, code=6)
        if words == ["state", "move"] and config == CONFIGURED:
            assert "state.url" in output
            continue
        assert f"git tracks {IN_PROJECT}{suffix}" in output
        assert "git rm --cached" in output
    assert tree(project.folder) == before
    git("rm", "-q", "--cached", str(place))
    if suffix:
        place.unlink()
    assert "No changes." in done(project, "plan")


def test_a_branch_that_tracks_a_state_changes_nothing_that_is_known(project: Project) -> None:
    """`git_overwrites_state.sh`: git takes ignored files for expendable."""
    project.write(".gitignore", ".reconcile/\n")
    git = Git(project.folder)
    git.commit("one")
    done(project, "apply", "--auto-approve")
    git("checkout", "-q", "-b", "pr")
    (project.folder / ".reconcile").mkdir()
    shutil.copy(state_of(project.folder), project.folder / IN_PROJECT)
    with closing(sqlite3.connect(project.folder / IN_PROJECT, isolation_level=None)) as db:
        db.execute("UPDATE meta SET lineage = 'attacker', serial = 99")
        db.execute("DELETE FROM record")
    git("add", "-f", IN_PROJECT)
    git.commit("looks like a cache")
    for words in (["plan"], ["apply", "--auto-approve"], ["state", "pull"]):
        assert f"git tracks {IN_PROJECT}" in done(project, *words, code=6)
    git("checkout", "-q", "-")
    assert "jane" in done(project, "state", "list")
    assert "No changes." in done(project, "plan")


def test_a_state_in_the_project_that_git_replaced_and_removed_is_missed(released: Project) -> None:
    released.write(".gitignore", ".reconcile/\n")
    git = Git(released.folder)
    git.commit("one")
    done(released, "plan")
    git("checkout", "-q", "-b", "pr")
    git("add", "-f", IN_PROJECT)
    git.commit("pr")
    git("checkout", "-q", "-")
    assert not (released.folder / IN_PROJECT).exists()
    assert "the state is missing" in done(released, "plan", code=6)


def test_git_is_not_asked_where_the_index_holds_no_such_name(
    released: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = Git(released.folder)
    git("add", "reconcile.yaml", "profiles")
    git("commit", "-qm", "one")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "No changes." in done(released, "plan")
    index = released.folder / ".git" / "index"
    index.write_bytes(index.read_bytes() + IN_PROJECT.upper().encode())
    assert "git is not installed" in done(released, "plan", code=6)


# --- two states ----------------------------------------------------------------------------------


def test_of_two_states_none_is_taken(project: Project) -> None:
    done(project, "apply", "--auto-approve")
    (project.folder / ".reconcile").mkdir()
    shutil.copy(state_of(project.folder), project.folder / IN_PROJECT)
    with closing(sqlite3.connect(project.folder / IN_PROJECT, isolation_level=None)) as db:
        db.execute("UPDATE meta SET serial = 99")
    output = done(project, "plan", code=6)
    assert "two states of local" in output
    assert "another file in" in done(project, "state", "move", code=6)
    (project.folder / IN_PROJECT).unlink()
    assert "No changes." in done(project, "plan")


# --- state move ----------------------------------------------------------------------------------


def test_a_state_in_the_project_goes_on_and_can_be_moved(released: Project) -> None:
    output = done(released, "plan")
    assert "No changes." in output
    assert output.count("state move") == 1
    before = done(released, "state", "pull")
    done(released, "state", "move")
    assert not (released.folder / IN_PROJECT).exists()
    assert sorted(path.name.partition(".moved-")[0] for path in state_folder(released)) == [
        "emulator.db",
        "local.db",
    ]
    output = done(released, "plan", "--refresh")
    assert "No changes." in output
    assert "warning" not in output
    assert json.loads(done(released, "state", "pull"))["profiles"] == pulled(before)["profiles"]
    assert "already" in done(released, "state", "move")
    done(released, "state", "move", "--to", "project")
    assert "No changes." in done(released, "plan", "--refresh")
    assert (released.folder / IN_PROJECT).exists()
    done(released, "apply", "--auto-approve")


def pulled(output: str) -> dict[str, object]:
    """The export in the output of a command, after its warnings."""
    export: dict[str, object] = json.loads(output[output.index("{") :])
    return export


def state_folder(project: Project) -> Iterator[Path]:
    return (project.folder / ".reconcile").iterdir()


def test_a_configured_state_is_not_moved(project: Project) -> None:
    project.configure(CONFIGURED)
    done(project, "apply", "--auto-approve")
    assert "state.url" in done(project, "state", "move", code=6)
    assert "No changes." in done(project, "plan")


def test_what_was_moved_is_noticed_when_it_is_put_back(released: Project) -> None:
    done(released, "state", "move")
    (moved,) = (released.folder / ".reconcile").glob("local.db.moved-*")
    moved.rename(released.folder / IN_PROJECT)
    assert "two states" in done(released, "plan", code=6)
    done(released, "state", "move")
    assert "No changes." in done(released, "plan")


KILLED = """
import os, signal, sys
from reconciler.workspace import relocation
steps = int(sys.argv.pop(1))
def counted(module, name):
    real = getattr(module, name)
    def call(*arguments, **options):
        global steps
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(module, name, call)
for name in ("rename", "link", "fsync", "unlink", "mkdir"):
    counted(os, name)
for name in ("mark_as_backup", "_content", "_retire"):
    counted(relocation, name)
from reconciler.cli.main import main
main()
"""


def test_a_move_that_is_killed_at_any_step_goes_on_from_there(
    released: Project, tmp_path: Path
) -> None:
    before = pulled(done(released, "state", "pull"))["profiles"]
    shutil.copytree(released.folder, tmp_path / "kept")
    kept_homes = Path(os.environ["XDG_STATE_HOME"])
    shutil.copytree(kept_homes, tmp_path / "kept-homes")
    killed = steps = 0
    for steps in range(0, 100, 3):
        shutil.rmtree(kept_homes)
        shutil.copytree(tmp_path / "kept-homes", kept_homes)
        shutil.rmtree(released.folder / ".reconcile")
        shutil.copytree(tmp_path / "kept" / ".reconcile", released.folder / ".reconcile")
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, str(steps), "state", "move"],
            cwd=released.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        killed += ended.returncode == -9
        code, output = released.invoke("state", "pull")
        if code == 0:
            assert pulled(output)["profiles"] == before, steps
        else:
            assert (code, "two states" in output) == (6, True), output
        if places_of(released.folder).kept_file("local.db").other is not None:
            done(released, "state", "move")
        assert pulled(done(released, "state", "pull"))["profiles"] == before, steps
        assert "No changes." in done(released, "plan"), steps
        if ended.returncode == 0:
            break
    assert killed > 5
    assert steps < 97


def test_a_folder_that_was_moved_is_no_first_run(project: Project, tmp_path: Path) -> None:
    done(project, "apply", "--auto-approve")
    project.folder.rename(tmp_path / "elsewhere")
    moved = Project(tmp_path / "elsewhere", None)
    for words in (["plan"], ["apply", "--auto-approve"], ["state", "list"]):
        output = done(moved, *words, code=6)
        assert f"state move --from {project.folder}" in output
    done(moved, "state", "move", "--from", str(tmp_path), code=6)
    done(moved, "state", "move", "--from", str(tmp_path / "nowhere"), code=6)
    done(moved, "state", "move", "--from", str(project.folder))
    assert "No changes." in done(moved, "plan", "--refresh")
    record = json.loads((state_of(moved.folder).parent / RECORD).read_bytes())
    assert record["root"] == str(moved.folder)

    moved.folder.rename(project.folder)  # and back, where a state was seen before
    assert f"state move --from {moved.folder}" in done(project, "plan", code=6)
    done(project, "state", "move", "--from", str(moved.folder))
    assert "No changes." in done(project, "plan", "--refresh")


def test_a_new_folder_with_the_number_of_a_removed_one_is_a_first_run(
    project: Project, tmp_path: Path
) -> None:
    done(project, "apply", "--auto-approve")
    files = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    project.folder.rename(tmp_path / "new")
    for path, content in files.items():
        new = tmp_path / "new" / path.relative_to(project.folder)
        new.unlink()
        new.write_bytes(content)
    assert "1 to create" in done(Project(tmp_path / "new", None), "plan")


def test_a_moved_folder_may_begin_anew_on_purpose(project: Project, tmp_path: Path) -> None:
    done(project, "apply", "--auto-approve")
    project.folder.rename(tmp_path / "elsewhere")
    moved = Project(tmp_path / "elsewhere", None)
    done(moved, "state", "new")
    assert "1 to create" in done(moved, "plan")


# --- what lies beside a state --------------------------------------------------------------------


@pytest.fixture
def configured(project: Project) -> Project:
    """A project whose state is configured to be in its folder. Jane is applied."""
    project.configure(CONFIGURED)
    done(project, "apply", "--auto-approve")
    return project


def test_a_forged_journal_is_never_rolled_back(configured: Project) -> None:
    """Its counters are those of the state, so that nothing but its origin tells it from ours."""
    state = configured.folder / IN_PROJECT
    content = state.read_bytes()
    journal = forge_journal(state, EVIL)
    forged = journal.read_bytes()
    for words in (["plan"], ["apply", "--auto-approve"], ["state", "list"], ["refresh"]):
        assert "was not left there by this program" in done(configured, *words, code=6)
        assert (state.read_bytes(), journal.read_bytes()) == (content, forged)
    journal.unlink()
    assert "No changes." in done(configured, "plan")


def test_the_forged_journal_of_these_tests_is_one_that_sqlite_rolls_back(
    configured: Project,
) -> None:
    """Otherwise the test above would show nothing. A user may also say that it is theirs."""
    forge_journal(configured.folder / IN_PROJECT, EVIL)
    done(configured, "state", "restore", str(configured.folder / IN_PROJECT))
    assert "jane" not in done(configured, "state", "list")


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["file", "link", "pipe", "folder"])
def test_nothing_that_lies_beside_a_state_is_opened(
    configured: Project, tmp_path: Path, suffix: str, kind: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("years of work")
    place = configured.folder / (IN_PROJECT + suffix)
    match kind:
        case "file":
            place.write_bytes(journal_naming(str(victim)))
        case "link":
            place.symlink_to(victim)
        case "pipe":
            os.mkfifo(place)
        case _:
            place.mkdir()
    assert "was not left there by this program" in done(configured, "plan", code=6)
    assert victim.read_text() == "years of work"


def test_a_state_that_is_a_link_is_refused(configured: Project) -> None:
    state = configured.folder / IN_PROJECT
    state.rename(state.with_name("real.db"))
    state.symlink_to("real.db")
    assert "is a link" in done(configured, "plan", code=6)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_lies_beside_the_file_of_the_emulator_does_not_count_either(
    configured: Project, suffix: str
) -> None:
    shutil.move(
        state_of(configured.folder, "emulator.db"), configured.folder / ".reconcile/emulator.db"
    )
    assert "No changes." in done(configured, "plan", "--refresh")
    (configured.folder / f".reconcile/emulator.db{suffix}").write_bytes(b"planted")
    assert "was not left there" in done(configured, "plan", "--refresh", code=6)


WRITER = """
import os, signal, sys
from pathlib import Path
from reconciler.state.side_files import SideFiles
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Holder
path, home, hot = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "hot"
store = SqliteStore(path, environment="local", side_files=SideFiles(home))
with store.lock(Holder("t", "h", os.getpid(), "t")):
    if hot:
        with store._file.transaction(trusted=True) as db:
            db.execute("PRAGMA cache_size = 1")
            db.execute("UPDATE meta SET serial = serial + 1")
            db.execute("CREATE TABLE big AS SELECT randomblob(200000) AS x")
            os.kill(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_writer(state: Path, home: Path, *, hot: bool) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WRITER, str(state), str(home), "hot" if hot else ""],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == -9


def test_the_journal_of_our_own_killed_writer_is_rolled_back(configured: Project) -> None:
    state, home = configured.folder / IN_PROJECT, places_of(configured.folder).homes.state
    assert home is not None
    kill_a_writer(state, home, hot=True)
    assert Path(f"{state}-journal").stat().st_size > 0
    assert "No changes." in done(configured, "plan")
    assert not Path(f"{state}-journal").exists()


def test_a_note_of_a_killed_writer_ends_with_the_next_look(configured: Project) -> None:
    state, home = configured.folder / IN_PROJECT, places_of(configured.folder).homes.state
    assert home is not None
    kill_a_writer(state, home, hot=False)
    assert len([*(home / "writers").rglob("*-*")]) == 1
    done(configured, "state", "list")
    assert [*(home / "writers").rglob("*-*")] == []
    forge_journal(state, EVIL)
    assert "was not left there" in done(configured, "plan", code=6)


def test_a_note_says_nothing_about_another_file_at_its_place(configured: Project) -> None:
    state, home = configured.folder / IN_PROJECT, places_of(configured.folder).homes.state
    assert home is not None
    kill_a_writer(state, home, hot=True)
    shutil.copy(state, state.with_name("other"))
    os.replace(state.with_name("other"), state)
    assert "was not left there" in done(configured, "plan", code=6)


def test_of_another_user_no_note_counts(configured: Project, tmp_path: Path) -> None:
    kill_a_writer(configured.folder / IN_PROJECT, tmp_path / "another-user", hot=True)
    assert "was not left there" in done(configured, "plan", code=6)


def test_a_writer_that_ends_well_leaves_no_note(configured: Project) -> None:
    home = places_of(configured.folder).homes.state
    assert home is not None
    assert [*(home / "writers").rglob("*-*")] == []


def test_a_note_that_cannot_be_written_stops_no_writer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = SqliteStore(
        tmp_path / "s.db", environment="local", side_files=SideFiles(tmp_path / "file")
    )
    from reconciler.state.store import Holder

    with store.lock(Holder("t", "h", 1, command="t")) as writer:
        writer.write()
    store.close()
