"""The value of a valid configuration, kept in the user's cache home.

A YAML parser and a JSON Schema validator take longer to import than a plan of a few profiles takes. So the
value of a valid file is kept, under one digest of the file, of this program and of the value itself. The
digest is keyed with a secret of the user: whoever can bring files, with whatever modes and owner, cannot make
it. It keeps values but no line numbers: if there is an error to report, the file is parsed again to find the
line.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b, sha256
from pathlib import Path

from reconciler.atomicfile import write_whole
from reconciler.config.places import ProjectPlaces
from reconciler.errors import ReconcileError
from reconciler.systems import open_flags
from reconciler.values import Json

MOST_BYTES = 1024 * 1024
"""The size of the largest value that is kept: aliases make much of little."""
_PURPOSE = "configuration"
_DIGEST_BYTES = 32


class ConfigCache:
    """The value that is kept of one configuration file. It counts only for the ``program`` (its
    fingerprint) that wrote it."""

    def __init__(self, places: ProjectPlaces, name: str, *, program: str) -> None:
        """``name`` is that of the file in the project's folder."""
        self._places = places
        self._name = name
        self._program = program
        self.path = places.cache(_PURPOSE, name)
        """Where the value is kept; ``None`` where nothing is."""

    def read(self, data: bytes) -> dict[str, Json] | None:
        """The value of a configuration file with the content ``data``, or None if it is not kept."""
        if self.path is None:
            return None
        try:
            content = _content(self.path)
            if content is None:
                return None
            digest, _, text = content.partition(b"\n")
            if digest.decode() != self._digest(data, text):
                return None
            value: dict[str, Json] = json.loads(text)
        except (OSError, ValueError):
            return None
        return value

    def write(self, data: bytes, value: Mapping[str, Json]) -> None:
        """Keeps the value of a valid configuration file. Does nothing where the value is too large, or
        writing fails."""
        if self.path is None:
            return
        text = ""
        for part in json.JSONEncoder(separators=(",", ":")).iterencode(value):
            text += part
            if len(text) > MOST_BYTES:
                return
        digest = self._digest(data, text.encode())
        if digest is None or (os.path.lexists(self.path) and not _is_file(self.path)):
            return
        with suppress(ReconcileError, OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self.path, (digest, "\n", text))

    def _digest(self, data: bytes, text: bytes) -> str | None:
        key = self._places.key(_PURPOSE, self._name, self._program)
        if key is None:
            return None
        parts = b"".join(sha256(part).digest() for part in (data, text))
        return blake2b(parts, key=key, digest_size=_DIGEST_BYTES).hexdigest()


def _is_file(path: Path) -> bool:
    """Whether a name is that of a file, and of no link to one."""
    return path.is_file() and not path.is_symlink()


def _content(path: Path) -> bytes | None:
    """The bytes of a cache; ``None`` for what no cache can be. Raises OSError."""
    fd = os.open(path, open_flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK"))
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > 2 * MOST_BYTES:
            return None
        return os.read(fd, status.st_size)
    finally:
        os.close(fd)
