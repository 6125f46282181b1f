"""Outputs: devices and pipes are written into, links stay, a mounted file is written in place."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.atomicfile import write_new, write_output, write_whole
from reconciler.errors import ReconcileError


def no_leftovers(folder: Path) -> bool:
    return not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_regular_file_is_replaced_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "plan"
    file.write_text("old")
    before = file.stat().st_ino

    write_output(file, ["new"])

    assert file.read_text() == "new"
    assert file.stat().st_ino != before
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed_and_stays(tmp_path: Path, exists: bool, depth: int) -> None:
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "plan"
    if exists:
        target.write_text("old")
    link = target
    for number in range(depth):
        link = tmp_path / f"link{number}"
        link.symlink_to(target if number == 0 else tmp_path / f"link{number - 1}")

    write_output(link, ["new"])

    assert link.is_symlink()
    assert target.read_text() == "new"
    assert no_leftovers(tmp_path)
    assert no_leftovers(target.parent)


def test_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ReconcileError, match="cannot write"):
        write_output(tmp_path / "a", ["new"])
    assert (tmp_path / "a").is_symlink()


def test_the_null_device_stays_a_device() -> None:
    write_output(Path("/dev/null"), ["new"])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_device_of_ones_own_and_a_link_to_it_stay(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        descriptor = os.open(device, os.O_WRONLY)
    except OSError:
        pytest.skip("only root makes devices")
    os.close(descriptor)
    (tmp_path / "link").symlink_to(device)

    write_output(device, ["new"])
    write_output(tmp_path / "link", ["new"])

    assert stat.S_ISCHR(device.lstat().st_mode)
    assert (tmp_path / "link").is_symlink()


def test_a_full_device_is_an_error() -> None:
    with pytest.raises(ReconcileError, match="No space left"):
        write_output(Path("/dev/full"), ["new"])


def test_a_pipe_gets_the_text(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()

    write_output(pipe, ["a", "b"])

    reader.join()
    assert received == ["ab"]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_an_open_descriptor_is_written_where_it_stands(tmp_path: Path, form: str) -> None:
    file = tmp_path / "log"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"before ")

    write_output(Path(form.format(descriptor)), ["after"])

    os.close(descriptor)
    assert file.read_text() == "before after"


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EPERM, errno.EXDEV])
def test_a_file_that_cannot_be_replaced_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    file = tmp_path / "plan"
    file.write_text("something longer than the new text")
    before = file.stat()
    monkeypatch.setattr(os, "replace", refuse)

    write_output(file, ["new"])

    assert file.read_text() == "new"
    assert file.stat().st_ino == before.st_ino
    assert file.stat().st_mode == before.st_mode
    assert no_leftovers(tmp_path)


def test_a_file_in_a_folder_that_takes_no_other_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse_new(path: Any, flags: int, *more: Any, **extra: Any) -> int:
        if flags & os.O_CREAT and Path(path).parent == tmp_path:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *more, **extra)

    file = tmp_path / "plan"
    file.write_text("something longer than the new text")
    monkeypatch.setattr(os, "open", refuse_new)

    write_output(file, ["new"])

    assert file.read_text() == "new"
    with pytest.raises(ReconcileError, match="Read-only"):
        write_output(tmp_path / "other", ["new"])


def test_a_mounted_file_is_written_in_place(tmp_path: Path) -> None:
    source, file = tmp_path / "source", tmp_path / "plan"
    source.write_text("something longer than the new text")
    file.touch()
    mounted = subprocess.run(["mount", "--bind", source, file], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root mounts")
    try:
        write_output(file, ["new"])
        assert source.read_text() == "new"
        assert no_leftovers(tmp_path)
    finally:
        subprocess.run(["umount", file], check=True)


@pytest.mark.parametrize("write", [write_output, write_whole])
def test_parts_that_fail_leave_the_file_as_it_was(tmp_path: Path, write: Any) -> None:
    def parts() -> Iterator[str]:
        yield "new"
        raise KeyError

    file = tmp_path / "plan"
    file.write_text("old")
    with pytest.raises(KeyError):
        write(file, parts())
    assert file.read_text() == "old"
    assert no_leftovers(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "/", "missing/plan", "folder"])
def test_a_name_that_cannot_be_written_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ReconcileError, match="cannot write"):
        write_output(Path(name) if name in ("", ".", "/") else tmp_path / name, ["new"])


def test_a_long_name_is_written(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 255)
    write_output(file, ["new"])
    assert file.read_text() == "new"


def test_a_new_file_is_written_whole_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    assert write_new(path, "a: 1\n")
    assert not write_new(path, "a: 2\n")
    assert path.read_text() == "a: 1\n"
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "nowhere")
    assert not write_new(link, "a: 1\n")
    assert not (tmp_path / "nowhere").exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.yaml", "new.yaml"]
    with pytest.raises(ReconcileError, match="cannot write"):
        write_new(tmp_path / "missing" / "x.yaml", "a: 1\n")
