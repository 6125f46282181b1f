"""The kept value of a configuration: when it is used, and when it is not."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.config import reader
from reconciler.config.reader import load_config
from reconciler.config.settings import Config
from reconciler.config.template import TEMPLATE
from reconciler.errors import Diagnostic
from reconciler.homes import Homes
from tests.support.configurations import LOCAL
from tests.support.places import config_cache_of


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """The path of the cache."""
    return config_cache_of(tmp_path)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the configurations that are parsed from now on."""
    names: list[str] = []
    parse = reader.parse_yaml

    def parse_yaml(data: bytes, name: str) -> Any:
        names.append(name)
        return parse(data, name)

    monkeypatch.setattr(reader, "parse_yaml", parse_yaml)
    return names


FULL = TEMPLATE + (
    "variables: {tier: gold, big: 123456789012345678901234567890, half: 0.5, flag: true}\n"
    "public_attributes: ['Zoë \\', \"\\u00e9\"]\n"
)


@pytest.mark.parametrize("text", [LOCAL, TEMPLATE, FULL])
def test_a_valid_configuration_is_parsed_once(
    load: Callable[[str], Config], cached: Path, parsed: list[str], text: str
) -> None:
    first = load(text)
    assert cached.stat().st_mode & 0o777 == 0o600
    assert repr(load(text)) == repr(first)
    assert parsed == ["reconcile.yaml"]
    assert [path.name for path in cached.parent.iterdir()] == [cached.name]


def test_each_configuration_file_has_its_own_cache(
    tmp_path: Path, cached: Path, parsed: list[str]
) -> None:
    for name in ("a.yaml", "b.yaml", "a.yaml", "b.yaml"):
        (tmp_path / name).write_text(LOCAL.replace("local", name[0]))
        assert load_config(tmp_path / name, start=tmp_path).default_environment == name[0]
    assert parsed == ["a.yaml", "b.yaml"]


def test_a_changed_configuration_is_parsed_again_although_size_and_time_are_the_same(
    load: Callable[[str], Config], cached: Path, tmp_path: Path, parsed: list[str]
) -> None:
    load(LOCAL)
    status = (tmp_path / "reconcile.yaml").stat()
    other = LOCAL.replace("local", "lucal")
    (tmp_path / "reconcile.yaml").write_text(other)
    os.utime(tmp_path / "reconcile.yaml", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load_config(None, start=tmp_path).default_environment == "lucal"
    assert len(parsed) == 2


def test_an_error_has_a_line_number_although_an_earlier_version_was_cached(
    load: Callable[[str], Config], refused: Callable[[str], list[Diagnostic]], cached: Path
) -> None:
    load(LOCAL)
    [finding] = refused(LOCAL + "profile: x\n")
    assert str(finding.source) == "reconcile.yaml:5:1"
    [finding] = refused(LOCAL + "default_environment: other\n")
    assert str(finding.source) == "reconcile.yaml:5:1"


def _forge(cached: Path) -> None:
    cached.write_text(cached.read_text().replace("emulator", "emulatos"))


def _cut(cached: Path) -> None:
    cached.write_bytes(cached.read_bytes()[:-1])


def _empty(cached: Path) -> None:
    cached.write_bytes(b"")


def _spoil(cached: Path) -> None:
    cached.write_bytes(b"\xff" * 200)


def _swell(cached: Path) -> None:
    with cached.open("ab") as file:
        file.truncate(2**40)


@pytest.mark.parametrize("harm", [_forge, _cut, _empty, _spoil, _swell])
def test_a_forged_or_damaged_cache_is_ignored_and_written_again(
    load: Callable[[str], Config], cached: Path, parsed: list[str], harm: Callable[[Path], None]
) -> None:
    first = load(LOCAL)
    content = cached.read_bytes()
    harm(cached)
    assert load(LOCAL) == first
    assert len(parsed) == 2
    assert (cached.read_bytes(), cached.lstat().st_mode & 0o777) == (content, 0o600)


def test_a_cache_of_another_owner_is_ignored(
    load: Callable[[str], Config],
    cached: Path,
    parsed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    load(LOCAL)
    monkeypatch.setattr(os, "geteuid", lambda: cached.stat().st_uid + 1)
    load_config(tmp_path / "reconcile.yaml", start=tmp_path)
    assert len(parsed) == 2


def test_a_cache_of_another_program_is_ignored(
    load: Callable[[str], Config], cached: Path, parsed: list[str], tmp_path: Path
) -> None:
    load(LOCAL)
    for _ in range(2):
        load_config(None, start=tmp_path, program="another")
    assert len(parsed) == 2


def test_without_the_cache_it_is_neither_read_nor_written(
    load: Callable[[str], Config], tmp_path: Path, cached: Path, parsed: list[str]
) -> None:
    (tmp_path / "reconcile.yaml").write_text(LOCAL)
    first = load_config(None, start=tmp_path, cache=False)
    assert not cached.exists()
    assert load(LOCAL) == first
    assert load_config(None, start=tmp_path, cache=False) == first
    assert len(parsed) == 3


def test_nothing_is_cached_with_a_finding(load: Callable[[str], Config], cached: Path) -> None:
    load(LOCAL + "fake_seed: yes\n")
    assert not cached.exists()


@pytest.mark.parametrize(
    "variables", [{}, {"HOME": "/nonexistent"}, {"XDG_CACHE_HOME": "/dev/null/x"}]
)
def test_without_a_home_nothing_is_cached(
    tmp_path: Path, parsed: list[str], variables: dict[str, str]
) -> None:
    (tmp_path / "reconcile.yaml").write_text(LOCAL)
    for _ in range(2):
        load_config(None, start=tmp_path, environ=variables)
    assert len(parsed) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["reconcile.yaml"]


def test_a_home_that_is_full_or_read_only_stops_nothing(
    load: Callable[[str], Config], cached: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[str]
) -> None:
    def full(*arguments: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", full)
        assert load(LOCAL) == load(LOCAL)
    assert load(LOCAL) == load(LOCAL)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        cached.unlink()
        assert load(LOCAL) == load(LOCAL)
    assert not cached.exists()


def test_a_cache_counts_only_with_the_secret_of_its_user(
    load: Callable[[str], Config], cached: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form is known, and so is the program: only the secret is not."""
    load(LOCAL)
    digest, text = cached.read_bytes().split(b"\n")
    other = text.replace(b"emulator", b"http://127.0.0.1:9")
    assert other != text
    for secret in (bytes(32), b"x" * 32):
        with monkeypatch.context() as patch:
            patch.setattr(Homes, "secret", lambda homes, secret=secret: secret)
            cached.unlink()
            load(LOCAL)
        forged = cached.read_bytes().split(b"\n")[0]
        cached.write_bytes(forged + b"\n" + other)
        assert load(LOCAL).environment(None).url == "emulator"
    cached.write_bytes(digest + b"\n" + other)
    assert load(LOCAL).environment(None).url == "emulator"


def test_a_cache_of_another_project_or_user_does_not_count(
    tmp_path: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "reconcile.yaml").write_text(LOCAL)
        load_config(None, start=tmp_path / name)
    ours, theirs = (config_cache_of(tmp_path / name) for name in ("ours", "theirs"))
    shutil.copy2(theirs, ours)
    load_config(None, start=tmp_path / "ours")
    assert len(parsed) == 3
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another-user"))
    load_config(None, start=tmp_path / "ours")
    assert len(parsed) == 4


@pytest.mark.parametrize("umask", [0o077, 0o022])
def test_a_cache_that_comes_with_a_checkout_is_not_looked_at(
    load: Callable[[str], Config], cached: Path, tmp_path: Path, umask: int
) -> None:
    """As a clone brings it: with our owner, and with mode 0600 under umask 077."""
    load(LOCAL)
    (tmp_path / ".reconcile").mkdir()
    before = os.umask(umask)
    try:
        planted = tmp_path / ".reconcile" / "reconcile.yaml.cache"
        planted.write_bytes(cached.read_bytes().replace(b"emulator", b"http://127.0.0.1:9"))
    finally:
        os.umask(before)
    cached.unlink()
    content = planted.read_bytes()
    assert load(LOCAL).environment(None).url == "emulator"
    assert planted.read_bytes() == content


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_of_ours_is_neither_opened_nor_replaced(
    load: Callable[[str], Config], cached: Path, tmp_path: Path, kind: str
) -> None:
    first = load(LOCAL)
    cached.rename(tmp_path / "real")
    content = (tmp_path / "real").read_bytes()
    cached.symlink_to(tmp_path / "real") if kind == "link" else os.mkfifo(cached)
    for _ in range(2):
        assert load(LOCAL) == first
    assert (tmp_path / "real").read_bytes() == content
    assert cached.is_symlink() or cached.is_fifo()


def test_a_folder_at_the_path_of_the_cache_is_left_alone(
    load: Callable[[str], Config], cached: Path, parsed: list[str]
) -> None:
    cached.mkdir(parents=True)
    assert load(LOCAL) == load(LOCAL)
    assert len(parsed) == 2
    assert list(cached.parent.iterdir()) == [cached]


def test_a_value_that_aliases_make_large_is_not_cached(
    load: Callable[[str], Config], cached: Path
) -> None:
    aliases = "".join(f"  v{number}: *long\n" for number in range(200))
    load(f"{LOCAL}variables:\n  long: &long {'x' * 60_000}\n{aliases}")
    assert not cached.exists()
