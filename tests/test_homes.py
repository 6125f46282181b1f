"""Where a user's own files lie, and the secret in there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.errors import UsageError
from reconciler.homes import Homes, derived_key, homes_of, place_name, secret_in, work_tree

ROOT = Path(__file__).parent.parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "ann"
    folder.mkdir()
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def below(base: Path, state: str, cache: str, config: str) -> Homes:
    return Homes(*(base / name / "reconcile" for name in (state, cache, config)))


def test_homes_are_where_the_system_has_such_files(home: Path, project: Path) -> None:
    def homes(platform: str, **variables: str) -> Homes:
        return homes_of(variables, project=project, platform=platform)

    assert homes("linux", HOME=str(home)) == below(home, ".local/state", ".cache", ".config")
    support = "Library/Application Support"
    assert homes("darwin", HOME=str(home)) == below(home, support, "Library/Caches", support)
    windows = homes("win32", LOCALAPPDATA=str(home / "l"), APPDATA=str(home / "r"))
    assert windows == below(home, "l", "l/Cache", "r")
    xdg = {f"XDG_{name}_HOME": str(home / name) for name in ("STATE", "CACHE", "CONFIG")}
    assert homes("linux", **xdg) == below(home, "STATE", "CACHE", "CONFIG")


@pytest.mark.parametrize(
    "variables", [{}, {"HOME": ""}, {"HOME": "relative"}, {"HOME": "/nonexistent/ann"}]
)
def test_a_user_may_have_no_homes(project: Path, variables: Mapping[str, str]) -> None:
    assert homes_of(variables, project=project, platform="linux") == Homes()
    assert Homes().secret() is None


def test_a_relative_variable_of_the_system_is_passed_over(home: Path, project: Path) -> None:
    variables = {"HOME": str(home), "XDG_STATE_HOME": "state"}
    homes = homes_of(variables, project=project, platform="linux")
    assert homes.state == home / ".local/state/reconcile"


def test_our_variables_name_other_homes(home: Path, project: Path) -> None:
    variables = {
        "HOME": str(home),
        "RECONCILE_STATE_DIR": str(home / "s"),
        "RECONCILE_CACHE_DIR": str(home / "c"),
    }
    homes = homes_of(variables, project=project, platform="linux")
    assert homes == Homes(home / "s", home / "c", home / ".config" / "reconcile")


@pytest.mark.parametrize("variable", ["RECONCILE_STATE_DIR", "RECONCILE_CACHE_DIR"])
@pytest.mark.parametrize("place", ["relative", "./x", "{project}", "{project}/.x", "{link}/y"])
def test_our_variables_name_absolute_folders_outside_of_the_project(
    project: Path, tmp_path: Path, variable: str, place: str
) -> None:
    (tmp_path / "link").symlink_to(project)
    text = place.format(project=project, link=tmp_path / "link")
    with pytest.raises(UsageError, match=variable):
        homes_of({variable: text}, project=project)


def test_a_home_inside_of_the_work_tree_is_none(tmp_path: Path) -> None:
    (tmp_path / "tree" / ".git").mkdir(parents=True)
    project = tmp_path / "tree" / "qa"
    project.mkdir()
    inside = {"HOME": str(tmp_path / "tree")}
    assert homes_of(inside, project=project, platform="linux") == Homes()
    (tmp_path / "tree" / ".git").rmdir()
    assert homes_of(inside, project=project, platform="linux").state is not None
    with_link = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "link")}
    (tmp_path / "link").symlink_to(project)
    assert homes_of(with_link, project=project, platform="linux").state is None


def test_a_work_tree_is_the_nearest_folder_with_a_git_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / ".git").write_text("gitdir: elsewhere")
    assert work_tree(tmp_path / "a" / "b" / "c") == tmp_path / "a"
    (tmp_path / "a" / "b" / ".git").mkdir()
    assert work_tree(tmp_path / "a" / "b" / "c") == tmp_path / "a" / "b"


# --- the secret ----------------------------------------------------------------------------------


def test_a_secret_is_made_once_and_for_the_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "state"
    secret = secret_in(folder)
    assert secret is not None
    assert len(secret) == 32
    assert secret_in(folder) == secret
    assert [path.name for path in folder.iterdir()] == ["secret"]
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert secret_in(tmp_path / "other") != secret


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o660])
def test_a_secret_that_others_can_read_or_write_does_not_count(tmp_path: Path, mode: int) -> None:
    assert secret_in(tmp_path) is not None
    (tmp_path / "secret").chmod(mode)
    assert secret_in(tmp_path) is None


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_secret_of_another_size_does_not_count(tmp_path: Path, size: int) -> None:
    (tmp_path / "secret").write_bytes(b"x" * size)
    (tmp_path / "secret").chmod(0o600)
    assert secret_in(tmp_path) is None


def test_a_link_a_folder_or_a_pipe_is_no_secret(tmp_path: Path) -> None:
    secret = secret_in(tmp_path / "real")
    assert secret is not None
    for name in ("link", "folder", "pipe", "nowhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "link" / "secret").symlink_to(tmp_path / "real" / "secret")
    (tmp_path / "nowhere" / "secret").symlink_to(tmp_path / "absent")
    (tmp_path / "folder" / "secret").mkdir()
    os.mkfifo(tmp_path / "pipe" / "secret")
    for name in ("link", "folder", "pipe", "nowhere"):
        assert secret_in(tmp_path / name) is None
    assert not (tmp_path / "absent").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_secret_of_another_user_does_not_count(tmp_path: Path) -> None:
    assert secret_in(tmp_path) is not None
    os.chown(tmp_path / "secret", 12345, 12345)
    assert secret_in(tmp_path) is None


def test_there_is_no_secret_where_none_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert secret_in(tmp_path / "file") is None
    assert secret_in(tmp_path / "file" / "below") is None


def test_processes_that_race_get_the_same_secret(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from reconciler.homes import secret_in\n"
        "sys.stdin.readline(); print(secret_in(Path(sys.argv[1])).hex())"
    )
    for number in range(3):
        folder = tmp_path / str(number)
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(folder)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        assert len({racer.communicate()[0] for racer in racers}) == 1
        assert [path.name for path in folder.iterdir()] == ["secret"]


def test_names_and_keys_tell_lists_of_texts_apart() -> None:
    assert place_name("a", "b") != place_name("ab")
    assert place_name("a", "b") != place_name("ab", "")
    assert place_name("a", "\udcff") == place_name("a", "\udcff")
    secret = b"s" * 32
    keys = {
        derived_key(secret, "index", "p"),
        derived_key(secret, "index", "q"),
        derived_key(secret, "configuration", "p"),
        derived_key(b"t" * 32, "index", "p"),
    }
    assert len(keys) == 4
