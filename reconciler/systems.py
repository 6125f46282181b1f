"""What operating systems have, and what is done where one lacks it: signals, flags and owners of files.

Windows has no ``SIGHUP``, no owners of files, and no ``O_NOFOLLOW``. Modules that need such things ask here,
so that the program starts everywhere.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
"""The signals by which people, systems and terminals ask a program to end."""


def open_flags(*names: str) -> int:
    """Flags of `os.open` by name. Those that the system lacks are left out; files are opened as bytes, and
    not for child processes."""
    flags = 0
    for name in (*names, "O_BINARY", "O_CLOEXEC", "O_NOINHERIT"):
        flags |= getattr(os, name, 0)
    return flags


_MOST_LINKS = 40
"""Links on the way to one file: more are a circle."""


def trail(path: str) -> Iterator[str]:
    """What opening a path depends on: each link on the way, and the file at its end."""
    pending = os.path.abspath(path).split(os.sep)[::-1]
    here, links = pending.pop() + os.sep, 0
    while pending:
        part = pending.pop()
        if part in ("", os.curdir):
            continue
        if part == os.pardir:
            here = os.path.dirname(here)
            continue
        here = os.path.join(here, part)
        try:
            target = os.readlink(here)
        except (OSError, ValueError):
            continue
        links += 1
        yield here
        if links > _MOST_LINKS:
            return
        here = (
            os.path.splitdrive(target)[0] + os.sep
            if os.path.isabs(target)
            else os.path.dirname(here)
        )
        pending += os.path.splitdrive(target)[1].split(os.sep)[::-1]
    yield here


def user_id() -> int | None:
    """The effective user of this process; ``None`` where files have no such owners."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def host_name() -> str:
    """The name of this machine; empty where the system has none to give."""
    return os.uname().nodename if hasattr(os, "uname") else ""


def set_mode(descriptor: int, mode: int) -> None:
    """Sets the permissions of an open file, where the system has them."""
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, mode)


def can_read_in_threads() -> bool:
    """Whether threads may call `read_at` on one descriptor at a time."""
    return hasattr(os, "pread")


def read_at(descriptor: int, size: int, *, offset: int) -> bytes:
    """At most ``size`` bytes of an open file from an offset on."""
    if can_read_in_threads():
        return os.pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)


def is_process_gone(pid: int) -> bool:
    """Whether no process has a number. Where the system cannot be asked without an effect, the answer is no:
    on Windows, signal 0 is Ctrl-C."""
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False
