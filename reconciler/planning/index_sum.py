"""The checksum of an index file, in a file beside it. It is over all bytes, so that no damaged page is read.

SQLite finds out that a page is damaged only where the page makes no sense. A number or a letter in it that
changed on the disk would change a plan. So would an index that somebody else made: the checksum is keyed with
a secret of the user, for this project and environment, so nobody else can make it.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b, sha256
from pathlib import Path
from typing import NamedTuple

from reconciler.systems import can_read_in_threads, open_flags, read_at

_BLOCK = 1 << 20
_SHARED_BLOCKS = 8
"""Blocks from which a second thread computes some of the digests."""
_DIGEST_SIZE = 32
_COUNTER_AT, _COUNTER_SIZE = 24, 4
"""Where SQLite counts the transactions that changed a file (https://www.sqlite.org/fileformat2.html)."""


class _Opened(NamedTuple):
    """A descriptor of a file, and how many use it."""

    descriptor: int
    users: int


_guard = threading.Lock()
_opened: dict[tuple[int, int], _Opened] = {}
"""By device and inode. To close any descriptor of a file releases the locks that SQLite holds on it in this
process (https://www.sqlite.org/howtocorrupt.html), so there is one, which stays open for the last user."""


class FileSum:
    """The checksum of an index file.

    To be opened before the database and closed after it. Methods are called while the file is locked against
    writers; they raise OSError where it cannot be read.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        """Raises OSError where the file cannot be opened."""
        self._path = sum_path(path)
        self._secret = key
        self._changes = b""
        """SQLite's counter when the checksum was right."""
        with _guard:
            status = os.stat(path)
            self._key = status.st_dev, status.st_ino
            opened = _opened.get(self._key)
            if opened is None:
                flags = open_flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK")
                opened = _Opened(os.open(path, flags), 0)
            self._descriptor = opened.descriptor
            _opened[self._key] = opened._replace(users=opened.users + 1)

    def is_right(self) -> bool:
        """Whether the file is as it was when its checksum was noted. An empty one always is."""
        try:
            noted = self._noted()
        except OSError:
            noted = b""
        computed = self._compute()
        self._changes = self._counter()
        return computed in (noted, b"")

    def note(self) -> None:
        """Notes the checksum of the file as it is now, if it changed since it was right."""
        changes = self._counter()
        if changes == self._changes:
            return
        try:
            flags = open_flags("O_WRONLY", "O_CREAT", "O_TRUNC", "O_NOFOLLOW", "O_NONBLOCK")
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, self._compute())
            finally:
                os.close(descriptor)
            self._changes = changes
        except OSError:  # the next run believes nothing, and reads the files
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def close(self) -> None:
        with _guard:
            opened = _opened.get(self._key)
            if opened is None or opened.descriptor != self._descriptor:
                return
            if opened.users > 1:
                _opened[self._key] = opened._replace(users=opened.users - 1)
            else:
                del _opened[self._key]
                os.close(self._descriptor)
        self._descriptor = -1

    def _counter(self) -> bytes:
        return read_at(self._descriptor, _COUNTER_SIZE, offset=_COUNTER_AT)

    def _compute(self) -> bytes:
        """The checksum as it is noted; nothing for an empty file."""
        size = os.fstat(self._descriptor).st_size
        content = b"".join(_block_digests(self._descriptor, size))
        keyed = blake2b(content, key=self._secret, digest_size=_DIGEST_SIZE)
        return b"%s %d\n" % (keyed.hexdigest().encode(), size) if size else b""

    def _noted(self) -> bytes:
        """What was noted. Raises OSError."""
        descriptor = os.open(self._path, open_flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK"))
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return b""
            return os.read(descriptor, _BLOCK)
        finally:
            os.close(descriptor)


def _block_digests(descriptor: int, size: int) -> list[bytes]:
    """The digest of each block of an open file with ``size`` bytes. Raises OSError.

    Two threads share the blocks of a large file: digests are computed without the interpreter's lock.
    """
    digests = [b""] * -(-size // _BLOCK)

    def compute(numbers: Iterable[int]) -> None:
        for number in numbers:
            # Processors have instructions for SHA-256: it takes half of the time of a keyed digest.
            digests[number] = sha256(read_at(descriptor, _BLOCK, offset=number * _BLOCK)).digest()

    def compute_quietly(numbers: Iterable[int]) -> None:
        with suppress(OSError):
            compute(numbers)

    if len(digests) >= _SHARED_BLOCKS and can_read_in_threads():
        helper = threading.Thread(target=compute_quietly, args=(range(1, len(digests), 2),))
        helper.start()
        try:
            compute(range(0, len(digests), 2))
        finally:
            helper.join()
    compute(number for number, digest in enumerate(digests) if not digest)
    return digests


def sum_path(path: Path) -> Path:
    """The file that holds the checksum of an index file."""
    return path.with_name(f"{path.name}-sum")
