"""Runs the program as on a system that lacks what only POSIX has, with the arguments of the command line.

It is no Windows. It shows that nothing is asked for, while modules are imported or commands run, that
Windows does not have.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing.connection
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile

_NEEDS_THEM = (
    asyncio,
    concurrent.futures,
    multiprocessing.connection,
    shutil,
    sqlite3,
    subprocess,
    tempfile,
)
"""Modules of the standard library that have another implementation there."""
_MODULES = ("fcntl", "grp", "posix", "pwd", "pty", "resource", "syslog", "termios", "tty")
_SIGNALS = ("SIGHUP", "SIGALRM", "SIGCHLD", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_CALLS = (
    *("chown", "fchmod", "fchown", "fork", "getegid", "geteuid", "getgid", "getpgid", "getuid"),
    *("killpg", "mkfifo", "pread", "pwrite", "sched_getaffinity", "sched_setaffinity", "setsid"),
    *("statvfs", "sysconf", "uname", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK"),
)


def _take_away() -> None:
    for name in _MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in _SIGNALS:
        delattr(signal, name)
    for name in _CALLS:
        delattr(os, name)


if __name__ == "__main__":
    _take_away()
    from reconciler.__main__ import main

    main()
