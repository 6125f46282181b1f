"""Opening the store of a location. What a kind needs is loaded when the first store of it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple, Protocol

from reconciler.errors import UsageError
from reconciler.state.location import StateKind, StateLocation
from reconciler.state.side_files import SideFiles
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Store


class Opener(Protocol):
    """The function ``open_store`` in the module ``opening`` of a package of stores."""

    def __call__(self, location: StateLocation, *, environ: Mapping[str, str]) -> Store:
        """A store; nothing is connected before its first use. ``environ`` holds the credentials."""
        ...


class _Extra(NamedTuple):
    """What has to be installed for a kind of store."""

    module: str
    name: str
    libraries: Mapping[str, str]
    """What pip installs for each library that is imported."""


_POSTGRES = _Extra(
    "reconciler.state.postgres.opening", "postgres", {"psycopg": "psycopg[binary]>=3.2.13"}
)
_OBJECTS = _Extra(
    "reconciler.state.objects.opening",
    "objects",
    {"obstore": "obstore>=0.12,<0.13", "cryptography": "cryptography"},
)
_EXTRAS: Mapping[StateKind, _Extra] = {
    StateKind.POSTGRESQL: _POSTGRES,
    StateKind.S3: _OBJECTS,
    StateKind.GS: _OBJECTS,
    StateKind.AZ: _OBJECTS,
}


def open_store(
    location: StateLocation, *, environ: Mapping[str, str], side_files: SideFiles | None = None
) -> Store:
    """The store of a location, whose address is known (see `StateLocation.resolved`). ``environ`` holds the
    credentials. ``side_files`` says what counts beside a SQLite file; ``None``: whatever fits.

    Opening creates and connects nothing. Raises UsageError where a library is not installed.
    """
    file = location.file
    if file is not None:
        return SqliteStore(file, environment=location.environment, side_files=side_files)
    assert location.kind is not None
    return _opener(location.kind)(location, environ=environ)


def _opener(kind: StateKind) -> Opener:
    extra = _EXTRAS[kind]
    try:
        opener: Opener = import_module(extra.module).open_store
    except ImportError as problem:
        library = (problem.name or "").partition(".")[0]
        if library not in extra.libraries:
            raise
        raise UsageError(
            f"a state at {kind}:// needs the library {library}, which is not installed",
            hint=f"Install it: pip install '{extra.libraries[library]}'. It is the extra `{extra.name}` of "
            "adapty-reconciler.",
        ) from None
    return opener
