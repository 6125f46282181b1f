"""The value of a valid configuration, kept beside the state.

A YAML parser and a JSON Schema validator take longer to import than a plan of a few profiles takes. So the
value of a valid file is kept, under one digest of the file, of this program and of the value itself. It keeps
values but no line numbers: if there is an error to report, the file is parsed again to find the line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from reconciler.atomicfile import is_ours_alone, write_whole
from reconciler.errors import ReconcileError
from reconciler.systems import open_flags
from reconciler.values import Json

MOST_BYTES = 1024 * 1024
"""The size of the largest value that is kept: aliases make much of little."""


def cache_path(path: Path) -> Path:
    """Where the value of a configuration file is kept."""
    return path.absolute().parent / ".reconcile" / f"{path.name}.cache"


def read_cache(path: Path, data: bytes, *, program: str) -> dict[str, Json] | None:
    """The value of a configuration file with the content ``data``, or None if it is not kept.

    It counts only where nobody but the user of this process can have written it, and the same
    ``program`` (its fingerprint) wrote it.
    """
    try:
        fd = os.open(cache_path(path), open_flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK"))
        try:
            status = os.fstat(fd)
            if not is_ours_alone(status) or status.st_size > 2 * MOST_BYTES:
                return None
            digest, _, text = os.read(fd, status.st_size).partition(b"\n")
        finally:
            os.close(fd)
        if digest.decode() != _digest(data, text, program=program):
            return None
        value: dict[str, Json] = json.loads(text)
    except (OSError, ValueError):
        return None
    return value


def write_cache(path: Path, data: bytes, *, value: Mapping[str, Json], program: str) -> None:
    """Keeps the value of a valid configuration file.

    Does nothing where the folder does not exist, the value is too large, or writing fails.
    """
    target = cache_path(path)
    if not target.parent.is_dir():
        return
    text = ""
    for part in json.JSONEncoder(separators=(",", ":")).iterencode(value):
        text += part
        if len(text) > MOST_BYTES:
            return
    with suppress(ReconcileError):
        write_whole(target, (_digest(data, text.encode(), program=program), "\n", text))


def _digest(data: bytes, text: bytes, *, program: str) -> str:
    parts = (program.encode(), data, text)
    return sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()
