"""The kept value of a configuration: when it is used, and when it is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.config import reader
from reconciler.config.reader import load_config
from reconciler.config.settings import Config
from reconciler.config.template import TEMPLATE
from reconciler.errors import Diagnostic, InputError
from tests.support.configurations import LOCAL


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """The path of the cache. Its folder exists, as it does after the first plan."""
    (tmp_path / ".reconcile").mkdir()
    return tmp_path / ".reconcile" / "reconcile.yaml.cache"


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


def _open(cached: Path) -> None:
    cached.chmod(0o644)


def _link(cached: Path) -> None:
    cached.rename(cached.with_name("real"))
    cached.symlink_to("real")


def _pipe(cached: Path) -> None:
    cached.unlink()
    os.mkfifo(cached)


def _swell(cached: Path) -> None:
    with cached.open("ab") as file:
        file.truncate(2**40)


@pytest.mark.parametrize("harm", [_forge, _cut, _empty, _spoil, _open, _link, _pipe, _swell])
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
) -> None:
    load(LOCAL)
    monkeypatch.setattr(os, "geteuid", lambda: cached.stat().st_uid + 1)
    load(LOCAL)
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


def test_nothing_is_cached_without_the_folder_or_with_a_finding(
    load: Callable[[str], Config], tmp_path: Path
) -> None:
    load(LOCAL)
    assert not (tmp_path / ".reconcile").exists()
    (tmp_path / ".reconcile").mkdir()
    load(LOCAL + "fake_seed: yes\n")
    assert list((tmp_path / ".reconcile").iterdir()) == []


def test_a_folder_at_the_path_of_the_cache_is_left_alone(
    load: Callable[[str], Config], cached: Path, parsed: list[str]
) -> None:
    cached.mkdir()
    assert load(LOCAL) == load(LOCAL)
    assert len(parsed) == 2
    assert list(cached.parent.iterdir()) == [cached]


def test_a_state_file_at_the_path_of_the_cache_is_left_alone(
    load: Callable[[str], Config], cached: Path
) -> None:
    cached.write_text("the state")
    text = LOCAL + "    state: {url: 'sqlite:///.reconcile/reconcile.yaml.cache'}\n"
    assert load(text).environment(None).state == cached
    assert cached.read_text() == "the state"


def test_a_value_that_aliases_make_large_is_not_cached(
    load: Callable[[str], Config], cached: Path
) -> None:
    aliases = "".join(f"  v{number}: *long\n" for number in range(200))
    load(f"{LOCAL}variables:\n  long: &long {'x' * 60_000}\n{aliases}")
    assert not cached.exists()


def test_an_error_that_depends_on_the_folder_is_found_after_a_move_with_its_line_number(
    load: Callable[[str], Config], cached: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    text = f"{LOCAL}    state: {{url: 'sqlite:///{moved}/.reconcile/emulator.db'}}\n"
    load(text)
    assert cached.exists()
    (moved / ".reconcile").mkdir(parents=True)
    (tmp_path / "reconcile.yaml").rename(moved / "reconcile.yaml")
    cached.rename(moved / ".reconcile" / cached.name)
    with pytest.raises(InputError) as caught:
        load_config(None, start=moved)
    [finding] = caught.value.diagnostics
    assert str(finding.source) == "reconcile.yaml:5:13"
