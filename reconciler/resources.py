"""The packaged schemas, read once, and the fingerprint of this program.

In a wheel the schemas are ``reconciler/_schemas``; in a checkout the top-level ``schemas`` folder.
"""

from __future__ import annotations

import json
import os
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from reconciler import __version__

# By their paths: `importlib.resources` takes longer to import than all of them to read.
_HERE = Path(__file__).parent


@cache
def _folder() -> Path:
    packaged = _HERE / "_schemas"
    return packaged if packaged.is_dir() else _HERE.parent / "schemas"


def schema_text(name: str) -> str:
    """The text of a file of ``schemas/`` by its name without ``.json``."""
    return (_folder() / f"{name}.json").read_text("utf-8")


@cache
def load_schema(name: str) -> Any:
    """A file of ``schemas/`` by its name without ``.json``."""
    return json.loads(schema_text(name))


@cache
def fingerprint() -> str:
    """A digest of this program's own files and its schemas. A cached result holds until it changes."""
    return fingerprint_of(_HERE, _folder())


def fingerprint_of(*roots: Path) -> str:
    """A digest of the version, and of path, size and time of change (in nanoseconds) of every Python and
    JSON file below some folders."""
    sha = sha256(__version__.encode())
    for number, root in enumerate(roots):
        folders = [""]
        while folders:
            folder = folders.pop()
            for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name):
                path = f"{folder}{entry.name}"
                if entry.is_dir():
                    folders.append(f"{path}/")
                elif entry.name.endswith((".py", ".json")):
                    status = entry.stat()
                    sha.update(f"\n{number} {path} {status.st_size} {status.st_mtime_ns}".encode())
    return sha.hexdigest()
