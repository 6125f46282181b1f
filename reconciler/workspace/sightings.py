"""The lineage and the serial that each state had when this user account last used it.

A state that is missing looks like one that never was, and one that was put back looks like one that is
newest. So the program notes what it saw by the place of the state, outside of the checkout: cleaning or
cloning a checkout anew leaves the notes. A note that cannot be read or written is left out; then a state is
taken as it is.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from reconciler.atomicfile import new_file
from reconciler.homes import Homes

FORMAT_VERSION = 1
_SIZE = 16


class Sighting(NamedTuple):
    """The state as it was last seen."""

    lineage: str
    serial: int


class Place(NamedTuple):
    """Where a state is."""

    address: str
    """Its file as an absolute path, links of its folder resolved."""
    environment: str

    @classmethod
    def of(cls, state: Path, environment: str) -> Place:
        """The place of a state file, which need not exist."""
        folder = os.path.realpath(state.parent)
        return cls(os.path.join(folder, state.name), environment)


class Sightings:
    """The notes of a user: a file for each place, mode 0600, in a folder of mode 0700."""

    def __init__(self, folder: Path | None) -> None:
        """``None``: nothing is known and nothing is noted."""
        self._folder = folder

    @classmethod
    def of(cls, homes: Homes) -> Sightings:
        """The notes of a user, in the state home."""
        return cls(None if homes.state is None else homes.state / "states")

    def last(self, place: Place) -> Sighting | None:
        """The state as it was last seen at a place; ``None`` where there is no readable note."""
        file = self._file(place)
        if file is None:
            return None
        try:
            data = json.loads(file.read_bytes())
            sighting = Sighting(data["lineage"], data["serial"])
            is_ours = (
                data["format_version"] == FORMAT_VERSION
                and Place(data["address"], data["environment"]) == place
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        is_whole = isinstance(sighting.lineage, str) and type(sighting.serial) is int
        return sighting if is_ours and is_whole else None

    def note(self, place: Place, sighting: Sighting) -> None:
        """Note what is seen at a place. It need not be durable: a note that is lost says nothing wrong."""
        file = self._file(place)
        if file is None:
            return
        content = {"format_version": FORMAT_VERSION, **place._asdict(), **sighting._asdict()}
        with suppress(OSError):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = new_file(file.parent, prefix=f".{file.name}.")
            try:
                Path(temporary).write_text(json.dumps(content) + "\n", "ascii")
                os.replace(temporary, file)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)

    def forget(self, place: Place) -> None:
        """Forget what was seen at a place. Raises OSError."""
        file = self._file(place)
        if file is not None:
            file.unlink(missing_ok=True)

    def _file(self, place: Place) -> Path | None:
        if self._folder is None:
            return None
        name = "\0".join(place).encode("utf-8", "surrogateescape")
        return self._folder / f"{blake2b(name, digest_size=_SIZE).hexdigest()}.json"
