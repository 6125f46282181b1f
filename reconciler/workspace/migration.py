"""Takes the state of an environment to another store, and back. An edge.

Both states are locked. Until the copy is complete and was compared, the new place is marked as moved to the
old one; then the old place is marked as moved to the new one, and the first mark goes. So at no time two
places take writes, and a move that was cut off is carried on by the same command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from reconciler.commands import Command
from reconciler.config.settings import Environment
from reconciler.core.records import Export, Header
from reconciler.errors import Message, Refused, StateRefused, UsageError
from reconciler.state.location import (
    SQLITE_PREFIX,
    AddressFlaw,
    StateLocation,
    is_file_address,
    parse_address,
)
from reconciler.state.opening import open_store
from reconciler.state.store import RUNS, StateMoved, Store, Writer
from reconciler.values import shown
from reconciler.workspace.state_admin import StateAdmin


class Migrated(NamedTuple):
    """A state that was taken elsewhere."""

    source: str
    target: str
    profiles: int
    header: Header
    """The header at the new place."""


class _StoreAt(NamedTuple):
    """A store, and its address without a password."""

    store: Store
    url: str

    @property
    def name(self) -> str:
        return shown(self.url)


class Migration:
    """Takes the state between the configured place and another one. The person who runs the command names the
    other place, so no list has to allow it."""

    def __init__(self, environment: Environment, *, admin: StateAdmin, root: Path) -> None:
        """``root`` is the folder from which the paths of files are relative."""
        self._environment = environment
        self._admin = admin
        self._root = root

    def to(self, url: str) -> Migrated:
        """From the configured place to another one. Raises as `from_` does."""
        with self._other(url) as other:
            return self._moved(self._configured(), other)

    def from_(self, url: str) -> Migrated:
        """From another place to the configured one, with all of its settings.

        Raises UsageError for an address that is none. Refused where there is nothing to move, where another
        state is in the new place, where the old one was moved elsewhere, and where a run was cut off;
        StateRefused where the copy is not like the state.
        """
        with self._other(url) as other:
            return self._moved(other, self._configured())

    def _configured(self) -> _StoreAt:
        location = self._admin.location
        return _StoreAt(self._admin.unchecked, location.url)

    @contextmanager
    def _other(self, url: str) -> Iterator[_StoreAt]:
        location = self._location(url)
        if location.identity == self._admin.location.identity:
            raise UsageError("the state is at this address already", hint="Name another one.")
        store = open_store(location, environ=self._admin.environ)
        try:
            yield _StoreAt(store, location.url)
        finally:
            store.close()

    def _location(self, url: str) -> StateLocation:
        name = self._environment.name
        if is_file_address(url):
            path = url.removeprefix(SQLITE_PREFIX)
            if path == url or not path.strip("/"):
                raise UsageError("this is not the address of a file", hint="Write sqlite:///PATH.")
            return StateLocation.of_file(self._root / path, name)
        try:
            address = parse_address(url)
        except AddressFlaw as flaw:
            raise UsageError(f"the address {flaw.message}", hint=flaw.hint) from None
        return StateLocation(address.url, name, self._environment.state.cache_folder)

    # --- moving ------------------------------------------------------------------------------

    def _moved(self, source: _StoreAt, target: _StoreAt) -> Migrated:
        self._refuse_source(source, target)
        with (
            self._admin.lock_of(source.store, "state migrate", even_moved=True) as old,
            self._admin.lock_of(target.store, "state migrate", even_moved=True) as new,
        ):
            self._refuse_source(source, target)  # somebody may have been quicker
            export = Export(source.store.header(), tuple(source.store.records()))
            self._refuse_target(source, target, header=export.header)
            if source.store.moved_to() is None:
                new.mark_moved(source.url)
                self._copy(source, target, writer=new, export=export, renew=old.renew)
            self._compare(export, target)
            old.mark_moved(target.url)
            new.mark_moved(None)
        header = target.store.header()
        self._admin.note_moved(header, is_here=target.store is self._admin.unchecked)
        return Migrated(source.url, target.url, len(export.records), header)

    @staticmethod
    def _refuse_source(source: _StoreAt, target: _StoreAt) -> None:
        moved = source.store.moved_to()
        # With both marks, a move was cut off just before its end.
        if moved is not None and (moved != target.url or target.store.moved_to() != source.url):
            raise StateMoved(moved)
        if source.store.header().lineage is None:
            raise Refused(
                f"there is no state in {source.name}",
                hint="There is nothing to move. A first apply makes a state at the configured place.",
            )
        if interrupted := source.store.interrupted_addresses():
            raise Refused(
                f"the last run was cut off, and {len(interrupted)} of its profiles have an unknown outcome",
                hint=Message.of("Run ", Command.of("apply"), " first; it finds out."),
            )

    @staticmethod
    def _refuse_target(source: _StoreAt, target: _StoreAt, *, header: Header) -> None:
        """Raises Refused for a place with a state that is not an older one of this."""
        there = target.store.header()
        if there.lineage is None:
            return
        if there.lineage != header.lineage:
            raise Refused(
                f"there is another state in {target.name}, with serial {there.serial}; nothing was moved",
                hint="Choose an empty place.",
            )
        if target.store.moved_to() != source.url:
            raise Refused(
                f"there is a state in {target.name} already, with serial {there.serial}, and nothing says "
                f"that it was moved to {source.name}; nothing was moved",
                hint="Only you can say which of the two is right: move the other one away.",
            )

    @staticmethod
    def _copy(
        source: _StoreAt,
        target: _StoreAt,
        *,
        writer: Writer,
        export: Export,
        renew: Callable[[], None],
    ) -> None:
        if target.store.header().lineage is not None:
            writer.backup()
        writer.replace(export, force=True)
        known = {run.run for run in target.store.runs()}
        for run in list(source.store.runs())[-RUNS:]:
            if run.run not in known:
                writer.finish(run)
                renew()

    @staticmethod
    def _compare(export: Export, target: _StoreAt) -> None:
        """Reads everything back. Raises StateRefused where it is not the same; revisions are given anew."""
        header = target.store.header()
        is_same = (header.lineage, header.application) == (
            export.header.lineage,
            export.header.application,
        )
        copies = target.store.records()
        for record in export.records:
            copy = next(copies, None)
            if copy is None or copy._replace(revision=0) != record._replace(revision=0):
                is_same = False
                break
        if not is_same or next(copies, None) is not None:
            raise StateRefused(
                f"the copy in {target.name} is not like the state; the state stays where it was",
                hint="Run the command again.",
            )
