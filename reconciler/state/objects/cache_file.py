"""Where the cache of a state lies: in a file of this user that one process at a time owns, or in a private
one of SQLite's own, which ends with the process."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from sqlite3 import connect

from reconciler.atomicfile import is_ours_alone
from reconciler.state.objects.cache import Cache, NotOurs
from reconciler.state.rollback_journal import names_another_file
from reconciler.systems import open_flags

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

_PRIVATE = ""
"""What SQLite calls a database of its own: in memory while it is small, else in a temporary file without a
name."""


class CacheFile:
    """The cache of one state. It is opened on first use, and can be thrown away.

    ``path`` is its file; ``None``: none is kept. A file that is not of this user alone is not looked at. One
    that came with a checkout does not count: it does not have the name of the time since this machine's
    start, which is random. Where the system has no such name, no file is kept.
    """

    def __init__(self, path: Path | None, *, environment: str) -> None:
        self._path = path
        self._environment = environment
        self._cache: Cache | None = None
        self._claim: int | None = None
        """The descriptor whose lock says that the file is ours."""

    @property
    def path(self) -> Path | None:
        return self._path

    def open(self) -> Cache:
        """The cache. Raises sqlite3.Error where not even a private one can be had."""
        if self._cache is None:
            self._cache = self._shared() or self._connect(_PRIVATE, boot=None)
        return self._cache

    def discard(self) -> None:
        """Throws a cache away that is in doubt. The next one is empty."""
        path = self._path if self._claim is not None else None
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        if path is not None:
            with contextlib.suppress(OSError):
                _remove(path)

    def close(self) -> None:
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        self._release()

    def _shared(self) -> Cache | None:
        """The cache in the file; ``None`` where it is another process's, or cannot be kept."""
        path = self._path
        boot = _time_since_start()
        if path is None or not boot or not self._claimed(path):
            return None
        with contextlib.suppress(OSError, sqlite3.Error, NotOurs):
            if _is_usable(path):
                try:
                    return self._connect(str(path), boot=boot)
                except sqlite3.Error:  # damaged, or of another version
                    _remove(path)
                    return self._connect(str(path), boot=boot)
        self._release()
        return None

    def _connect(self, database: str, *, boot: str | None) -> Cache:
        db = connect(database, timeout=0.5, isolation_level=None, check_same_thread=False)
        try:
            return Cache(db, environment=self._environment, boot=boot)
        except BaseException:
            db.close()
            raise

    def _claimed(self, path: Path) -> bool:
        """Whether the file is ours until `close`. The lock lies beside it: to close a descriptor of the file
        itself would release the locks of SQLite."""
        if self._claim is not None:
            return True
        if fcntl is None:
            return False
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = open_flags("O_RDWR", "O_CREAT", "O_NOFOLLOW", "O_NONBLOCK")
            claim = os.open(path.with_name(f"{path.name}-claim"), flags, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(claim)
            return False
        self._claim = claim
        return True

    def _release(self) -> None:
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None


def _is_usable(path: Path) -> bool:
    """Whether a file can be our cache; it is made, for us alone, if there is none. Raises OSError."""
    if names_another_file(path):
        return False
    flags = open_flags("O_RDWR", "O_CREAT", "O_NOFOLLOW", "O_NONBLOCK")
    descriptor = os.open(path, flags, 0o600)
    try:
        return is_ours_alone(os.fstat(descriptor)) and not os.path.lexists(f"{path}-wal")
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Removes a cache and what SQLite keeps beside it. Raises OSError."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def _time_since_start() -> str:
    """A random name for the time since this machine started; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
