"""Taking a state elsewhere: what is there before and after each way, and where a disk is full."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.config.places import RECORD
from reconciler.state.sqlite_format import is_backup
from tests.support.command_line import environment
from tests.support.configurations import LOCAL
from tests.support.places import places_of
from tests.support.projects import JANE, Project

FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from reconciler.cli.main import main
main()
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Jane is applied, with the state in the project's folder."""
    project = Project(tmp_path / "checkout", LOCAL, profiles={"jane": JANE})
    run(project, "apply", "--auto-approve")
    run(project, "state", "move", "--to", "project")
    return project


def run(project: Project, *arguments: str, code: int = 0) -> str:
    ended, output = project.invoke(*arguments)
    assert ended == code, output
    return output


def inside(project: Project) -> Path:
    return project.folder / ".reconcile"


def states(project: Project) -> Path:
    folder = places_of(project.folder).states
    assert folder is not None
    return folder


def present(folder: Path) -> list[str]:
    """The files of a folder that are in use, and whatever was left half done."""
    return sorted(path.name for path in folder.iterdir() if ".moved-" not in path.name)


def test_both_files_go_and_what_stays_is_a_marked_copy(project: Project) -> None:
    run(project, "state", "move")
    assert present(states(project)) == ["emulator.db", "local.db", RECORD]
    assert present(inside(project)) == []
    (former,) = inside(project).glob("local.db.moved-*")
    with closing(sqlite3.connect(former)) as db:
        assert is_backup(db)
    with closing(sqlite3.connect(states(project) / "local.db")) as db:
        assert not is_backup(db)
        assert db.execute("SELECT count(*) FROM lock").fetchone() == (0,)


def test_a_move_may_be_made_again_and_again(project: Project) -> None:
    for _ in range(3):
        run(project, "state", "move")
        run(project, "state", "move", "--to", "project")
    assert len([*inside(project).glob("local.db.moved-*")]) == 3
    assert "No changes." in run(project, "plan", "--refresh")


def test_a_state_that_another_process_has_locked_is_not_moved(project: Project) -> None:
    with closing(sqlite3.connect(inside(project) / "local.db", isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        before = (inside(project) / "local.db").read_bytes()
        assert "busy" in run(project, "state", "move", code=1)
    assert (inside(project) / "local.db").read_bytes() == before
    assert "local.db" not in present(states(project))
    run(project, "state", "move")
    assert "No changes." in run(project, "plan", "--refresh")


def test_a_damaged_state_is_not_moved(project: Project) -> None:
    state = inside(project) / "local.db"
    state.write_bytes(state.read_bytes()[:100] + b"jane" * 1000)
    assert "is damaged" in run(project, "state", "move", code=6)
    assert state.exists()


@pytest.mark.parametrize("size", [0, 5000, 20_000])
def test_a_full_disk_leaves_the_state_where_it_is(project: Project, size: int) -> None:
    before = (inside(project) / "local.db").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(size), "state", "move"],
        cwd=project.folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 1, done.stderr
    assert not [name for name in present(states(project)) if name.startswith(".")]
    assert (inside(project) / "local.db").read_bytes() == before or size > 0
    assert "No changes." in run(project, "plan", "--refresh")
    run(project, "state", "move")
    assert "No changes." in run(project, "plan", "--refresh")


def test_what_was_half_moved_with_a_folder_is_taken_along_whole(
    project: Project, tmp_path: Path
) -> None:
    run(project, "state", "move")
    former = states(project)
    (former / "local.db.backup-20300101T000000Z-1").write_bytes(b"kept")
    project.folder.rename(tmp_path / "elsewhere")
    moved = Project(tmp_path / "elsewhere", None)
    states(moved).mkdir(parents=True)
    os.rename(former / "emulator.db", states(moved) / "emulator.db")
    run(moved, "state", "move", "--from", str(project.folder))
    assert not former.exists()
    assert present(states(moved)) == [
        "emulator.db",
        "local.db",
        "local.db.backup-20300101T000000Z-1",
        RECORD,
    ]
    assert "No changes." in run(moved, "plan", "--refresh")


def test_nothing_goes_along_over_what_is_there(project: Project, tmp_path: Path) -> None:
    run(project, "state", "move")
    former = states(project)
    project.folder.rename(tmp_path / "elsewhere")
    moved = Project(tmp_path / "elsewhere", None)
    states(moved).mkdir(parents=True)
    (states(moved) / "local.db").write_bytes(b"another")
    before = present(former)
    assert "exists already" in run(moved, "state", "move", "--from", str(project.folder), code=6)
    assert present(former) == before
    assert (states(moved) / "local.db").read_bytes() == b"another"
