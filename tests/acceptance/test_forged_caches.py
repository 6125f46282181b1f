"""What a checkout brings as if this program had kept it: forged caches, homes, and places to keep things."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.config.cache import ConfigCache
from reconciler.resources import fingerprint
from tests.support.git import Git
from tests.support.places import homes_below, places_of
from tests.support.projects import JANE, KEY, Project, remote
from tests.support.wire import Api, Serve

APPLY = ("apply", "--auto-approve")
TOKEN = "ghs_canary0123456789canary0123456789"
HOME_IN_CHECKOUT = "home"


@pytest.fixture
def reviewed(serve: Serve) -> Api:
    """The API that the configuration names which was reviewed."""
    return serve()


@pytest.fixture
def thief(serve: Serve) -> Api:
    """The server of somebody who wants the key. The emulator takes any key, and answers well."""
    return serve()


@pytest.fixture
def forged(tmp_path: Path, reviewed: Api, thief: Api) -> Path:
    """A repository that brings a cache of its configuration in which the thief's server is the API. It is
    made for the place of the clone and by this program, with a secret that the repository brings as well."""
    folder = tmp_path / "upstream"
    Project(folder, remote(reviewed.server.url), profiles={"jane": JANE})
    # These homes lie outside of the clone, so they count while the cache is made.
    places = places_of(tmp_path / "clone", homes_below(folder / HOME_IN_CHECKOUT))
    cache = ConfigCache(places, "reconcile.yaml", program=fingerprint())
    data = (folder / "reconcile.yaml").read_bytes()
    cache.write(data, remote(thief.server.url))
    assert cache.path is not None
    (folder / ".reconcile").mkdir()
    shutil.copy(cache.path, folder / ".reconcile" / "reconcile.yaml.cache")
    shutil.copy(cache.path, folder / ".reconcile" / cache.path.name)
    git = Git(folder)
    git("add", "-f", "--all")
    git.commit("looks like a cache")
    return folder


def cloned(source: Path, clone: Path) -> None:
    """As a careful user clones: for themselves alone."""
    subprocess.run(
        ["sh", "-c", 'umask 077; git clone -q "$1" "$2"', "sh", str(source), str(clone)],
        check=True,
    )


def unpacked(source: Path, clone: Path) -> None:
    """As an archive brings files: with their modes."""
    clone.mkdir()
    archive = clone.with_suffix(".tar")
    subprocess.run(["tar", "-C", source, "--exclude=.git", "-cf", archive, "."], check=True)
    subprocess.run(["tar", "-C", clone, "-xf", archive], check=True)


@pytest.mark.parametrize("arrive", [cloned, unpacked])
@pytest.mark.parametrize("home", ["own", "in the checkout"])
def test_a_key_goes_where_the_reviewed_configuration_says(
    forged: Path, tmp_path: Path, reviewed: Api, thief: Api, home: str, arrive: object
) -> None:
    """`forged_cache_umask.sh`: mode and owner are no proof of who wrote a file."""
    assert callable(arrive)
    arrive(forged, tmp_path / "clone")
    project = Project(tmp_path / "clone", None)
    for name in (".reconcile/reconcile.yaml.cache", "home/xdg_state_home/reconcile/secret"):
        status = (project.folder / name).stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o600)
    variables = {"SECRET_KEY": KEY, "GITHUB_TOKEN": TOKEN}
    if home != "own":
        variables |= homes_below(project.folder / HOME_IN_CHECKOUT)
    for _ in range(2):
        project.run(*APPLY, **variables)
        assert "No changes." in project.run("plan", "--refresh", **variables)
    assert [entry.headers.get("authorization") for entry in reviewed.emulator.log]
    assert list(thief.emulator.log) == []


def test_the_forged_cache_of_these_tests_is_one_that_its_own_home_believes(
    forged: Path, tmp_path: Path, reviewed: Api, thief: Api
) -> None:
    """Otherwise the test above would show nothing."""
    cloned(forged, tmp_path / "clone")
    shutil.move(tmp_path / "clone" / HOME_IN_CHECKOUT, tmp_path / "homes")
    project = Project(tmp_path / "clone", None)
    project.run(*APPLY, SECRET_KEY=KEY, **homes_below(tmp_path / "homes"))
    assert list(thief.emulator.log)
    assert list(reviewed.emulator.log) == []


# --- places outside ------------------------------------------------------------------------------


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A folder of somebody's work, whose files have the names of what programs like this one keep. All is
    as before in the end, to the byte."""
    folder = tmp_path / "victim"
    folder.mkdir()
    suffixes = ["", "-journal", "-wal", "-shm", ".index", ".index-journal", ".index-sum", ".lock"]
    for suffix in (*suffixes, ".backup-1", ".damaged-1"):
        (folder / f"library{suffix}").write_text(f"years of work{suffix}")
    before = listing(folder)
    yield folder
    assert listing(folder) == before


def listing(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """The files of a folder: what they hold, their modes and times of change."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in folder.iterdir()
    }


@pytest.mark.parametrize("place", ["{victim}/library", "../victim/library", "link/library"])
def test_a_state_that_a_checkout_puts_outside_leaves_all_as_it_is_there(
    victim: Path, tmp_path: Path, place: str
) -> None:
    """`index_deletes_outside.sh`: an index beside that state was repaired by deletion."""
    local = {"api": {"url": "emulator"}, "state": {"url": f"sqlite:///{place}"}}
    text = json.dumps({"version": 1, "environments": {"local": local}})
    text = text.replace("{victim}", str(victim))
    project = Project(tmp_path / "repo", text, profiles={"jane": JANE})
    (project.folder / "link").symlink_to(victim)
    before = sorted(path.name for path in tmp_path.iterdir())
    for words in (
        ["validate"],
        ["plan"],
        ["plan", "--no-cache"],
        ["refresh"],
        list(APPLY),
        ["state", "list"],
        ["state", "move"],
        ["state", "new"],
    ):
        project.run(*words, code=3)
        assert "leads out of the project" in project.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
