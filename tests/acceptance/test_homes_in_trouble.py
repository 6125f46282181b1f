"""A home that is full, that cannot be written, or that several first runs make at once.

After each of them the next run, of a home as it should be, goes on as if nothing had been.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.config.places import RECORD
from tests.support.command_line import environment
from tests.support.configurations import LOCAL
from tests.support.places import HOMES, homes_below, places_of, state_of
from tests.support.projects import JANE, Project

APPLY = ("apply", "--auto-approve")

FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from reconciler.cli.main import main
main()
"""
"""The program, on a disk that takes no file above a size."""

MODES = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: modes are for root, too
    getattr(ctypes.CDLL(None), "prctl", lambda *_: 0)(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "reconciler", *sys.argv[1:]])
"""
"""The program, as a user for whom modes count."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "checkout", LOCAL, profiles={"jane": JANE})


@pytest.fixture
def home() -> Path:
    """The state home, which is not there yet."""
    return Path(os.environ["XDG_STATE_HOME"], "reconcile")


def ended(
    project: Project, code: str, *arguments: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A process that ran code in the project to its end, without a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=project.folder,
        env=environment(**(variables or {})),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def files_of(folder: Path) -> set[str]:
    """The files below a folder, but for backups."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and ".backup-" not in path.name
    }


def check_home(project: Project, home: Path) -> None:
    """Whether the home holds one whole file of each kind, and nothing else."""
    states = state_of(project.folder).parent
    assert states.is_relative_to(home)
    assert json.loads((states / RECORD).read_bytes())["root"] == str(project.folder)
    names = {f"projects/{states.name}/{name}" for name in ("local.db", "emulator.db", RECORD)}
    (note,) = (home / "states").iterdir()
    assert files_of(home) == {*names, "secret", f"states/{note.name}"}
    assert (home / "secret").stat().st_size == 32
    assert json.loads(note.read_bytes())["serial"] > 0


# --- full ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 16, 40, 100, 1000, 5000, 20_000, 40_000, 70_000])
def test_a_first_run_on_a_full_disk_says_so_and_spoils_nothing(
    project: Project, home: Path, size: int
) -> None:
    """From the size that not even the secret has to one at which the state is nearly made."""
    done = ended(project, FULL, str(size), *APPLY)
    # 5: the emulator, which is the API here, answers 500 where its own file is full.
    assert done.returncode in (0, 1, 5), done.stderr
    if done.returncode == 1:
        assert "disk" in done.stderr or "file too large" in done.stderr.lower()
    assert not [name for name in files_of(home) if "/." in name or name.startswith(".")]
    project.run(*APPLY)
    check_home(project, home)
    assert "No changes." in project.run("plan", "--refresh")


# --- several at once -----------------------------------------------------------------------------


def test_first_runs_that_race_make_one_of_each(project: Project, home: Path) -> None:
    """Of the secret, the note whose states they are, the state, and the file of the emulator."""
    for number in range(3):
        project.profile(f"p{number}", f"customer_user_id: p{number}\nfirst_name: P\n")
    racers = [project.start(*APPLY) for _ in range(4)]
    for racer in racers:
        out, err = racer.communicate(timeout=120)
        assert "Traceback" not in err
        assert racer.returncode in (0, 6), out + err
        assert racer.returncode == 0 or "lock" in err, err
    assert 0 in [racer.returncode for racer in racers]
    check_home(project, home)
    assert "No changes." in project.run("plan", "--refresh")
    assert len(json.loads(project.run("state", "pull"))["profiles"]) == 4


# --- not to be written ---------------------------------------------------------------------------


def test_a_home_without_write_permission_holds_nothing_new(project: Project, home: Path) -> None:
    home.mkdir(parents=True)
    home.chmod(0o500)
    for words in (APPLY, ("plan",), ("state", "list")):
        done = ended(project, MODES, *words)
        if (home / "secret").exists():
            pytest.skip("modes do not count for this user")
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr
    assert "No changes." in ended(project, MODES, "plan").stdout
    moved = ended(project, MODES, "state", "move")
    assert moved.returncode == 6
    assert str(home) in moved.stderr
    assert (project.folder / ".reconcile" / "local.db").exists()
    assert files_of(home) == set()


def test_a_state_in_a_home_without_write_permission_is_read_and_not_changed(
    project: Project, home: Path
) -> None:
    project.run(*APPLY)
    project.profile("joe", JANE.replace("jane", "joe"))
    states = state_of(project.folder).parent
    before = {path: path.read_bytes() for path in states.iterdir()}
    for path in (home, *home.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    done = ended(project, MODES, "plan")
    changed = ended(project, MODES, *APPLY)
    for path in (home, *home.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    if changed.returncode == 0:
        pytest.skip("modes do not count for this user")
    assert done.returncode == 0, done.stderr
    assert "1 to create" in done.stdout
    assert changed.returncode in (1, 6), changed.stderr
    assert str(states) in changed.stderr
    assert {path: path.read_bytes() for path in states.iterdir()} == before
    project.run(*APPLY)
    assert "No changes." in project.run("plan", "--refresh")


# --- none ----------------------------------------------------------------------------------------


def test_a_home_that_comes_and_goes_is_noticed(project: Project, home: Path) -> None:
    """A run without HOME, as in some builds, begins a state in the project. With a home that has another
    one, both are known, and none is taken for the other."""
    homeless = dict.fromkeys((*HOMES, "HOME"), "")
    project.run(*APPLY, **homeless)
    assert "No changes." in project.run("plan", **homeless)
    assert not home.exists()
    assert "No changes." in project.run("plan")
    project.run("state", "move")
    assert "No changes." in project.run("plan", "--refresh")
    project.run(*APPLY, **homeless)
    project.run("plan", code=6)
    assert "two states" in project.err


def test_homes_of_two_users_hold_a_state_each(project: Project, tmp_path: Path) -> None:
    other = homes_below(tmp_path / "other")
    project.run(*APPLY)
    project.run(*APPLY, **other)
    assert "No changes." in project.run("plan")
    first, second = (places_of(project.folder, each) for each in (os.environ, other))
    assert first.homes.secret() != second.homes.secret()
    assert not (project.folder / ".reconcile").exists()
