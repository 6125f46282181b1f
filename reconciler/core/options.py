"""The options of a plan: selection, caps, and how requests are rendered. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeAlias

from reconciler.core.contract import Clear


class ReadScope(StrEnum):
    """The recorded profiles that are read at the API before a plan. Profiles that are declared and not
    recorded are looked up as well."""

    ALL = "all"
    """All that are selected."""
    CHANGED = "changed"
    """Those that the plan would write."""


class RequestOptions(NamedTuple):
    """How the requests of an environment are rendered."""

    delete_attribute_with: Clear = Clear.NULL
    send_ip_country_always: bool = True
    """Whether a declared ip_country goes along in every PATCH and POST of its profile: the API may take the
    country from the sender's address where a request has none (adapty-api 3.2)."""
    refuse_existing: bool = False
    """Whether a profile that the state does not record is looked up before it is written, and refused if it
    exists."""


class Rate(NamedTuple):
    """How many requests a second may leave; ``None`` is no limit. With ``auto`` it is where learning
    begins."""

    per_second: float | None
    auto: bool = False

    def __str__(self) -> str:
        if self.per_second is None:
            return "no rate limit"
        return f"{self.per_second * 60:g}/min"


@dataclass(frozen=True, slots=True)
class Count:
    """A cap on deletions as a number of profiles."""

    profiles: int

    def allows(self, count: int, recorded: int) -> bool:
        """Whether ``count`` of ``recorded`` profiles may be deleted."""
        return count <= self.profiles

    def __str__(self) -> str:
        return str(self.profiles)


@dataclass(frozen=True, slots=True)
class Share:
    """A cap on deletions as a whole percentage of the recorded profiles."""

    percent: int

    def allows(self, count: int, recorded: int) -> bool:
        """Whether ``count`` of ``recorded`` profiles may be deleted."""
        return count * 100 <= recorded * self.percent

    def __str__(self) -> str:
        return f"{self.percent}%"


Cap: TypeAlias = Count | Share


_ID = "id:"
_LABEL = "label:"


class Selection(NamedTuple):
    """Which profiles a plan is about: address globs, ``label:NAME`` with a glob for the name, or
    ``id:ADDRESS``, which names one profile literally.

    Without ``select`` all are; ``exclude`` wins. ``within`` limits it further, to some addresses.
    Addresses may hold any visible ASCII character, so a pattern may be one as well: see `exact`.
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    within: frozenset[str] | None = None

    def takes(self, address: str, labels: Sequence[str]) -> bool:
        def matches(pattern: str) -> bool:
            if pattern.startswith(_ID):
                return address == pattern.removeprefix(_ID)
            if pattern.startswith(_LABEL):
                name = pattern.removeprefix(_LABEL)
                return any(fnmatchcase(label, name) for label in labels)
            return fnmatchcase(address, pattern)

        return (
            (self.within is None or address in self.within)
            and (not self.select or any(map(matches, self.select)))
            and not any(map(matches, self.exclude))
        )

    def exact(self, known: Callable[[Collection[str]], Collection[str]]) -> Selection:
        """The selection in which each pattern that is the address of a profile means that one only.

        ``known`` gives those of some addresses that profiles have. It is not called where no pattern
        can be mistaken: ``user[1]`` is an address, and a pattern that takes ``user1``.
        """
        ambiguous = [
            pattern
            for pattern in (*self.select, *self.exclude)
            if pattern.startswith((_ID, _LABEL)) or any(sign in pattern for sign in "*?[")
        ]
        if not ambiguous:
            return self
        addresses = frozenset(
            known({*ambiguous, *(pattern.removeprefix(_ID) for pattern in ambiguous)})
        )

        def literal(pattern: str) -> str:
            if pattern.startswith(_ID) and pattern.removeprefix(_ID) in addresses:
                return pattern
            is_address = pattern in ambiguous and pattern in addresses
            return f"{_ID}{pattern}" if is_address else pattern

        return self._replace(
            select=tuple(map(literal, self.select)), exclude=tuple(map(literal, self.exclude))
        )


class Target(NamedTuple):
    """Where the requests of a plan go, how they are understood there, and with whose right."""

    address: str
    """The base address of the API, or ``emulator``."""
    dialect: str
    key_env: str | None = None
    """The name of the variable that holds the secret key."""
    proxy: str | None = None
    proxy_env: str | None = None
    """The name of the variable that holds the proxy with its login."""
    ca_bundle: str | None = None
    """The file of trusted certificates, relative to the configuration."""
    on_existing: str | None = None
    """``refuse`` where profiles that exist and are not recorded are not adopted."""


class Options(NamedTuple):
    """Everything that a plan depends on besides files and state."""

    environment: str = "local"
    target: Target | None = None
    """Where the requests go; the plan names it."""
    prune: bool = False
    include_adopted: bool = False
    """Whether ``prune`` also deletes profiles that this tool did not create."""
    is_teardown: bool = False
    """Whether a ``prune`` deletes what is selected although files may declare it."""
    reassert: bool = False
    selection: Selection = Selection()
    requests: RequestOptions = RequestOptions()
    since: str | None = None
    """The commit behind ``selection.within``, to be named in the plan."""
    paths: tuple[str, ...] = ()
    """The files and folders behind ``selection.within``, to be named in the plan."""
    refreshed: ReadScope | None = None
    """Which recorded profiles were read at the API for this plan; ``None`` if it was not read."""
    read: int = 0
    """Recorded profiles that were read."""
    read_apart: int = 0
    """Requests beside those, which read what no answer about a profile shows."""
    looked_up: int = 0
    """Declared profiles that the state does not record and that were looked up."""
    now: float = 0.0
    """Unix time in seconds: it decides which access is active."""
    max_changes: int | None = None
    """More changes than this is a hazard that apply refuses."""
    max_delete: Cap = Share(100)
    """More deletions than this is a hazard that apply refuses."""
    committed_only: bool = False
    """Whether apply deletes orphans of a file that still exists only if git has it committed."""
