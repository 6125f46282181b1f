"""Folders and files: which are read, which are refused, and that none is passed over in silence."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.authoring import walk as files
from reconciler.authoring.loader import load


def of_folder(root: Path) -> list[str]:
    loaded = load(root, display=lambda path: path.relative_to(root).as_posix())
    return [f"{item.severity} {item.rule} {item.source}" for item in loaded.diagnostics]


def test_a_missing_root_is_an_error(root: Path) -> None:
    assert of_folder(root / "no") == ["error file/missing ."]


def test_a_folder_without_profiles_is_an_error(root: Path) -> None:
    (root / "good.yaml").rename(root / ".good.yaml")
    assert of_folder(root) == ["error file/no-profiles ."]


def test_an_upper_case_ending_is_a_warning(root: Path) -> None:
    (root / "a.YAML").write_text("a: 1\n")
    assert of_folder(root) == ["warning file/ending a.YAML"]


def test_a_pipe_is_refused_without_waiting_for_it(root: Path) -> None:
    os.mkfifo(root / "pipe.yaml")
    assert of_folder(root) == ["error file/not-regular pipe.yaml"]
    assert [item.rule for item in load(root / "pipe.yaml").diagnostics] == ["file/not-regular"]


def test_a_pipe_that_took_the_place_of_a_file_is_refused(root: Path) -> None:
    os.mkfifo(root / "pipe.yaml")
    with pytest.raises(files._UnreadableFile, match="named pipe"):
        files._read(str(root / "pipe.yaml"))


def test_a_socket_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.yaml")
        assert of_folder(root) == ["error file/not-regular s.yaml"]


def test_a_device_is_refused() -> None:
    assert [item.rule for item in load(Path("/dev/zero")).diagnostics] == ["file/not-regular"]


def test_a_link_to_a_file_inside_is_read(root: Path) -> None:
    (root / "link.yaml").symlink_to("good.yaml")
    assert (of_folder(root), load(root).files) == ([], 2)


@pytest.mark.parametrize("target", ["../outside.yaml", "/dev/zero", "/etc/passwd"])
def test_a_link_that_leads_outside_is_an_error(root: Path, target: str) -> None:
    (root.parent / "outside.yaml").write_text("a: 1\n")
    (root / "link.yaml").symlink_to(target)
    assert of_folder(root) == ["error file/link-outside link.yaml"]


def test_a_folder_whose_name_begins_like_the_root_is_outside(root: Path) -> None:
    (root.parent / "profiles-old").mkdir()
    (root.parent / "profiles-old" / "x.yaml").write_text("a: 1\n")
    (root / "link.yaml").symlink_to("../profiles-old/x.yaml")
    assert of_folder(root) == ["error file/link-outside link.yaml"]


@pytest.mark.parametrize("target", ["nowhere.yaml", "link.yaml"])
def test_a_dangling_or_looping_link_is_an_error(root: Path, target: str) -> None:
    (root / "link.yaml").symlink_to(target)
    assert of_folder(root) == ["error file/link-broken link.yaml"]


def test_a_link_to_a_folder_is_not_followed(root: Path) -> None:
    (root / "loop").symlink_to(".")
    assert (of_folder(root), load(root).files) == (["warning file/link-folder loop"], 1)


def test_an_unreadable_file_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: str, flags: int, *rest: int) -> int:
        if path.endswith("good.yaml"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    assert of_folder(root) == ["error file/unreadable good.yaml"]


def test_an_unreadable_folder_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "locked").mkdir()
    real = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert of_folder(root) == ["error file/unreadable locked"]


def test_a_file_that_vanishes_before_it_is_opened_is_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files._read

    def vanish(path: str) -> bytes:
        Path(path).unlink()
        return real(path)

    monkeypatch.setattr(files, "_read", vanish)
    assert of_folder(root) == ["error file/unreadable good.yaml"]


def test_a_huge_sparse_file_is_refused_unread(root: Path) -> None:
    with (root / "huge.yaml").open("wb") as file:
        file.truncate(50 * 2**30)
    started = time.perf_counter()
    assert of_folder(root) == ["error file/too-large huge.yaml"]
    assert time.perf_counter() - started < 2


def test_a_file_without_a_true_size_is_read_to_its_end() -> None:
    assert files._read("/proc/self/status")[0].startswith(b"Name:")


@pytest.mark.parametrize("name", [b"\xff\xfe.yaml", b"a\nb.yaml", b"\x1b[31m.yaml", b"-rf.yaml"])
def test_any_file_name_is_read_and_its_source_is_valid_unicode(root: Path, name: bytes) -> None:
    (Path(os.fsdecode(os.fsencode(root) + b"/" + name))).write_text("a: [\n")
    loaded = load(root)
    assert [item.rule for item in loaded.diagnostics] == ["yaml/syntax"]
    loaded.diagnostics[0].source.file.encode("utf-8")
