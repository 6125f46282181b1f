"""Wheels of what is installed, so that a test installs packages without a package index."""

from __future__ import annotations

import hashlib
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

UNPACKED = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"}
"""Files that the installation wrote."""


def repacked(name: str, folder: Path) -> Path:
    """Writes the wheel of an installed distribution into a folder; returns its path."""
    installed = distribution(name)
    path = folder / _file_name(installed)
    record = []
    with zipfile.ZipFile(path, "w") as wheel:
        for file in installed.files or []:
            if ".." in file.parts or file.suffix == ".pyc" or file.name in UNPACKED:
                continue
            wheel.writestr(file.as_posix(), file.locate().read_bytes())  # type: ignore[attr-defined]
            record.append(f"{file.as_posix()},,\n")
            if file.parent.name.endswith(".dist-info"):
                metadata = file.parent
        listing = f"{metadata.as_posix()}/RECORD"
        wheel.writestr(listing, "".join([*record, f"{listing},,\n"]))
    return path


def _file_name(installed: Distribution) -> str:
    tags = [
        line.removeprefix("Tag: ")
        for line in (installed.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ]
    interpreters, abis, platforms = zip(*(tag.split("-") for tag in tags), strict=True)
    parts = [".".join(dict.fromkeys(part)) for part in (interpreters, abis, platforms)]
    name = installed.metadata["Name"].replace("-", "_")
    return f"{name}-{installed.version}-{'-'.join(parts)}.whl"


def requirement(name: str, wheel: Path) -> str:
    """A line of requirements that admits this wheel only."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name}=={distribution(name).version} --hash=sha256:{digest}\n"
