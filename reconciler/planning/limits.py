"""Tunables of planning, and the progress that it reports. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Limits(NamedTuple):
    """Sizes and times that planning works with. The defaults were measured (benchmarks/README.md)."""

    files_per_batch: int = 256
    """Files that a process reads at a time."""
    bytes_per_batch: int = 512 * 1024
    """Bytes of files that a process reads at a time."""
    bytes_per_process: int = 4 * 1024 * 1024
    """Bytes to read for which another process saves more time than it takes to start."""
    profiles_per_batch: int = 150
    """Profiles that a process plans at a time."""
    profiles_per_process: int = 5_000
    """Profiles to plan for which another process saves more time than it takes to start."""
    profiles_held: int = 2_000
    """Profiles that a validation holds in memory. More are read from the index each time."""
    changes_held: int = 5_000
    """Changes of a plan that are held in memory. A larger plan is decoded from its lines."""
    text_held: int = 16 * 1024 * 1024
    """Bytes of a plan's lines that are held in memory. Longer ones go into a file."""
    racy_ns: int = 2_000_000_000
    """Nanoseconds for which a stamp is too young to be trusted. Within one tick of a file system's clock
    (two seconds on the coarsest) a file may change again and keep its stamp, as git's index knows too."""
    processors: int | None = None
    """Processors to use; ``None``: those that the process may run on."""


class ProgressPhase(StrEnum):
    """The work that takes time before there is a plan."""

    READING = "reading"
    PLANNING = "planning"
    ASKING = "reading the API"


class ProgressEvent(NamedTuple):
    """How far a phase is: files read, profiles planned or profiles read at the API, and how many there are
    if that is known."""

    phase: ProgressPhase
    done: int
    total: int | None = None
    waiting_for: str = ""
    """The reason why all requests wait, for people."""
    rate: float | None = None
    """Requests per second that may leave at present; ``None`` for no limit."""

    @property
    def asks_api(self) -> bool:
        """Whether it is about the API, which may take long."""
        return self.phase is ProgressPhase.ASKING
