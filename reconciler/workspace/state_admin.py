"""The state of a workspace: opening and locking it, and changing it by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from reconciler.authoring.documents import Document
from reconciler.authoring.json_schema import validate_value
from reconciler.commands import Command
from reconciler.config.places import ProjectPlaces
from reconciler.config.settings import Environment
from reconciler.config.trust import Trust
from reconciler.core.record_codec import EXPORT_FORMAT_VERSION, decode_export
from reconciler.core.records import Export, Header
from reconciler.core.transitions import put_back
from reconciler.errors import (
    InputError,
    Interrupted,
    Message,
    ReconcileError,
    Refused,
    Source,
    StateRefused,
)
from reconciler.resources import load_schema
from reconciler.state.location import StateLocation
from reconciler.state.side_files import SideFiles
from reconciler.state.sqlite import SqliteStore
from reconciler.state.sqlite_errors import StateDamaged
from reconciler.state.sqlite_file import SQLITE_MAGIC
from reconciler.state.store import (
    Holder,
    Lock,
    Locked,
    SchemaStore,
    StateMoved,
    Store,
    Writer,
    is_edited_copy,
    refuse_foreign,
)
from reconciler.values import shown
from reconciler.workspace.remote_state import RemoteState
from reconciler.workspace.sightings import Place, Sighting, Sightings
from reconciler.workspace.state_file import StateFile

MISSING_CHANGES = Message.of(
    "It does not know what was changed after it was saved: ",
    Command.of("refresh"),
    " reads what the API tells, ",
    Command.of("apply", "--reassert"),
    " sends all values again.",
)
"""To be read after a state was put back."""


class Restored(NamedTuple):
    """The result of putting a backup of the state back."""

    before: Export | None = None
    """The state before; ``None`` where it was put back by hand and only got new numbers."""
    backup: str | None = None
    """Where the backup is that was made of the state before."""
    set_aside: tuple[Path, ...] = ()
    """The files of a damaged state, by their new names."""


class StateAdmin:
    """The state of one environment.

    Every use of it is compared with what was last seen at its place: a state that is missing is not taken
    for one that never was. `restore`, `replace` and `begin` are the ways back, so they do not compare.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        places: ProjectPlaces,
        environ: Mapping[str, str],
        trust: Trust,
        now: Callable[[], float],
        store: Store | None,
        on_warning: Callable[[Message], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Without a ``store``, the one of the environment is opened on first use. ``places`` are those of the
        project. ``now`` gives Unix seconds. ``stop`` ends a wait for the lock."""
        self._environment = environment
        self.lock_wait = environment.state.lock_wait
        """Seconds to wait for the lock while somebody else has it."""
        self.on_lock_wait: Callable[[str], None] = lambda held: None
        """Is told who holds the lock that is waited for, at each look at it."""
        self._stop = stop
        self._home: StateFile | RemoteState | None = None
        location, file = environment.state, environment.state.file
        if store is None and file is not None:
            self._home = StateFile(file, environment, places=places, on_warning=on_warning)
        elif store is None:
            self._home = RemoteState(location, trust=trust, environ=environ)
        self.environ = environ
        self._now = now
        self._opened = store
        self._on_warning = on_warning
        self._sightings = Sightings(None) if store is not None else Sightings.of(places.homes)
        self._is_recognised = False
        self._is_put_back = False

    @property
    def store(self) -> Store:
        """The store of the state. Opening it creates nothing.

        Raises Refused where the state is missing that was seen at its place, or another one is there.
        """
        store = self._unchecked()
        if not self._is_recognised:
            self._recognise(store)
        return store

    def close(self) -> None:
        """Closes the store. The next use opens the file of the environment."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
            self._is_recognised = False

    @cached_property
    def _place(self) -> Place:
        if self._home is None:
            return Place("", self._environment.name)
        return self._home.place

    @property
    def _file(self) -> StateFile | None:
        return self._home if isinstance(self._home, StateFile) else None

    @property
    def name(self) -> str:
        """Where the state is, as messages show it."""
        return shown(self._environment.state.url) if self._home is None else self._home.name

    @property
    def address(self) -> str:
        """The path of the file, or the address of the state. It holds no password."""
        return self._environment.state.url if self._home is None else self._home.argument

    @property
    def schema(self) -> SchemaStore | None:
        """The store, where the owner of a database sets it up; ``None`` where nothing is to be set up. It is
        not compared with what was seen, since it may have to be made."""
        store = self._unchecked()
        return store if isinstance(store, SchemaStore) else None

    @property
    def exists(self) -> bool:
        """Whether anything was ever recorded."""
        return self.store.header().lineage is not None

    @contextmanager
    def locked(self, command: str) -> Iterator[Writer]:
        """Holds the lock of the state for a command, and gives the writer. A state that was put back by
        hand gets new numbers first.

        Raises Refused (`Locked`) where somebody else holds the lock, and where the state is missing.
        """
        sighting = self._recognise(self._unchecked())
        with self._lock(command) as writer:
            if self._is_put_back and sighting is not None:
                self._renumber(writer, above=sighting.serial)
            self._is_put_back = False
            yield writer

    def take_up(self, command: str) -> None:
        """Gives a state that was put back by hand new numbers, so that the plan that is made next has
        them."""
        if self.exists and self._is_put_back:
            with self.locked(command):
                pass

    # For moving it to another store

    @property
    def unchecked(self) -> Store:
        """The store of the state, which is not compared with what was seen at its place."""
        return self._unchecked()

    @property
    def location(self) -> StateLocation:
        """Where the state is, with its address. Raises InputError where a variable holds none."""
        if isinstance(self._home, RemoteState):
            return self._home.location
        return self._environment.state

    def note_moved(self, header: Header, *, is_here: bool) -> None:
        """Notes a state that was moved to its place here, or away from it."""
        with suppress(OSError, ReconcileError):
            self._sightings.forget(self._place)
            if is_here:
                self._note(header)

    @contextmanager
    def lock_of(self, store: Store, command: str, *, even_moved: bool = False) -> Iterator[Writer]:
        """Holds the lock of a store for a command, after the wait for it that was asked for."""
        with store.lock(
            self._holder(command),
            now=self._now,
            wait=self.lock_wait,
            on_wait=self._wait,
            even_moved=even_moved,
        ) as writer:
            yield writer

    # Comparing with the notes

    def _recognise(self, store: Store) -> Sighting | None:
        """Compares the state with what was last seen at its place, and returns that.

        Raises Refused where that one is missing, or another one is in its place.
        """
        # Read before the state, which can only go on meanwhile.
        sighting = self._sightings.last(self._place)
        header = store.header()
        if (address := store.moved_to()) is not None:
            raise StateMoved(address)
        if sighting is not None and header.lineage != sighting.lineage:
            sighting = self._sightings.last(self._place)  # somebody may have replaced it just now
        if header.lineage is None and self._file is not None and self._file.is_in_home:
            self._refuse_elsewhere(self._file)
        if sighting is not None and header.lineage != sighting.lineage:
            raise self._missing(sighting) if header.lineage is None else self._replaced(sighting)
        went_back = sighting is not None and header.serial < sighting.serial
        if went_back or (self._file is not None and self._file.is_copy()):
            if not self._is_put_back:
                self._on_warning(self._put_back_warning(header, sighting))
            self._is_put_back = True
        elif sighting is None or header.serial != sighting.serial:
            self._note(header)
        self._is_recognised = True
        return sighting

    def _note(self, header: Header) -> None:
        if header.lineage is not None:
            self._sightings.note(self._place, Sighting(header.lineage, header.serial))

    def _refuse_elsewhere(self, file: StateFile) -> None:
        """Raises Refused where there is no state because the folder was moved, or because it lay in the
        project's folder before: that is no first run."""
        file.refuse_moved_folder()
        former = file.former_place
        if (sighting := self._sightings.last(former)) is not None:
            raise self._missing(sighting, shown(former.address))

    def _missing(self, sighting: Sighting, path: str = "") -> Refused:
        return Refused(
            f"the state is missing: {path or self.name} was here before, with serial {sighting.serial}",
            hint=Message.of(
                "Put it back, or a backup of it: ",
                Command.of("state", "restore", "FILE"),
                ". To begin anew on purpose: ",
                Command.of("state", "new"),
                ".",
            ),
        )

    def _replaced(self, sighting: Sighting) -> Refused:
        return Refused(
            f"{self.name} is another state than the one that was here before, which had serial "
            f"{sighting.serial}: it has another lineage",
            hint=Message.of(
                "Put the former one back, or a backup of it. If the one that is there now is right: ",
                Command.of("state", "restore", self.address),
                ".",
            ),
        )

    def _put_back_warning(self, header: Header, sighting: Sighting | None) -> Message:
        reason = "it is a backup"
        if sighting is not None and header.serial < sighting.serial:
            reason = f"its serial is {header.serial}, and {sighting.serial} was seen here"
        return Message.of(f"the state {self.name} was put back: {reason}. ", MISSING_CHANGES)

    def _unchecked(self) -> Store:
        if self._opened is None:
            assert self._home is not None
            self._opened = self._home.open()
        return self._opened

    @contextmanager
    def locked_at(self, path: Path) -> Iterator[None]:
        """Holds the lock of a state of the environment, wherever its file lies."""
        assert self._file is not None
        with self._file.locked_at(path, self._holder("state move"), now=self._now):
            yield

    def _holder(self, command: str) -> Holder:
        from reconciler.workspace.holder import this_process  # no plan holds a lock

        return this_process(command, self.environ)

    def _wait(self, lock: Lock) -> None:
        if self._stop():
            raise Interrupted(
                "interrupted while waiting for the lock of the state; nothing was done"
            )
        self.on_lock_wait(Locked(lock).message)

    @contextmanager
    def _lock(self, command: str) -> Iterator[Writer]:
        store = self._unchecked()
        if self._file is not None:
            self._file.note_project()
        with self.lock_of(store, command) as writer:
            yield writer
        with suppress(ReconcileError):
            self._note(store.header())

    # By hand

    def forget(self, addresses: Iterable[str], *, backup: bool) -> str | None:
        """Removes records from the state, nothing at the API; returns where the backup of it is.

        Raises Refused for an address that the state does not know.
        """
        addresses = list(addresses)
        recorded = self.store.known_digests_of(addresses)
        unknown = [address for address in addresses if address not in recorded]
        if unknown:
            raise Refused(
                f"the state does not know {', '.join(unknown)}",
                hint=Message.of("See ", Command.of("state", "list"), "."),
            )
        with self.locked("state rm") as writer:
            path = writer.backup() if backup else None
            writer.write(remove=addresses)
            return path

    def export(self) -> Export:
        """The whole state as one value."""
        return _export_of(self.store)

    def replace(self, data: Any, *, force: bool) -> tuple[Export, str | None]:
        """Replaces the state by an export (JSON); returns the state before, and where the backup of it is.

        Raises StateRefused for anything that is not an export of this lineage and environment, and for one
        that is older than the state is, or was when it was last seen.
        """
        export = self._decoded(data)
        store, sighting = self._unchecked(), self._sightings.last(self._place)
        before = _export_of(store)
        if not is_edited_copy(before.header, export.header):
            export = export._replace(records=tuple(map(put_back, export.records)))
        if before.header.lineage is None and sighting is not None:
            last = Header(sighting.lineage, sighting.serial)
            refuse_foreign(last, export.header, environment=self._environment.name, force=force)
        with self._lock("state push") as writer:
            backup = writer.backup()
            writer.replace(export, force=force, above=sighting.serial if sighting else 0)
            return before, backup

    def restore(self, file: Path | str) -> Restored:
        """Puts a backup back: a file, the output of ``state pull``, or one that the store keeps, by its id.
        Serial and revisions go on after all that were ever given. A state that is damaged is set aside with
        its journal.

        With the state file itself as ``file``, or the state's address, what was put there by hand is taken
        for the state.

        Raises InputError for a file that cannot be read, StateRefused for what is no state of this
        environment.
        """
        if self._home is not None and self._home.is_at(file):
            if self._file is not None:
                self._file.vouch()
            with self._lock("state restore") as writer:
                self._renumber(writer, above=self._last_serial())
            return Restored()
        if self._file is not None:
            file = self._file.backup_file(str(file)) or file
        elif not os.path.lexists(file):
            return self._restored_by_id(str(file))
        export = self._backup(Path(file))
        try:
            return self._restored(export)
        except StateDamaged:
            if self._file is None:
                raise
            set_aside = self._file.set_aside()
        return self._restored(export)._replace(set_aside=set_aside)

    def begin(self) -> Header:
        """Begins a state where there is none, whatever was seen at its place; returns its header.

        Raises Refused where there is a state.
        """
        header = self._unchecked().header()
        if header.lineage is not None:
            raise Refused(
                f"there is a state in {self.name} already, with serial {header.serial}",
                hint="If all that it knows is to be forgotten, move it away first.",
            )
        self._sightings.forget(self._place)
        if self._file is not None:
            self._sightings.forget(self._file.former_place)
        with self._lock("state new") as writer:
            return writer.write()

    def _restored(self, export: Export) -> Restored:
        before = _export_of(self._unchecked())
        with self._lock("state restore") as writer:
            backup = writer.backup()
            records = tuple(map(put_back, export.records))
            writer.replace(export._replace(records=records), force=True, above=self._last_serial())
        return Restored(before, backup)

    def _restored_by_id(self, backup_id: str) -> Restored:
        store = self._unchecked()
        before = _export_of(store)
        with self._lock("state restore") as writer:
            writer.restore(backup_id, above=self._last_serial())
            newest = store.backups()[0] if before.header.lineage is not None else None
        return Restored(before, None if newest is None else f"backup {newest.id}")

    def _renumber(self, writer: Writer, *, above: int) -> None:
        """Makes the state go on after it was put back by hand."""
        writer.renumber(above=above)
        changed = [
            after
            for record in self._unchecked().records()
            if (after := put_back(record)) is not record
        ]
        if changed:
            writer.write(put=changed)

    def _last_serial(self) -> int:
        sighting = self._sightings.last(self._place)
        return sighting.serial if sighting else 0

    def _backup(self, file: Path) -> Export:
        try:
            with open(file, "rb") as opened:
                content = opened.read(len(SQLITE_MAGIC))
                if content != SQLITE_MAGIC:
                    return self._decoded(parse_export(content + opened.read()))
        except OSError as problem:
            raise InputError(f"cannot read {file}: {problem.strerror}") from None
        # A backup has no company: what lies beside it is somebody else's.
        store = SqliteStore(file, environment=self._environment.name, side_files=SideFiles(None))
        try:
            export = _export_of(store)
        finally:
            store.close()
        if export.header.lineage is None:
            raise StateRefused(
                f"nothing was ever recorded in {shown(str(file))}", hint="Choose another backup."
            )
        return export

    def _decoded(self, data: Any) -> Export:
        if isinstance(data, dict) and data.get("format_version") == EXPORT_FORMAT_VERSION:
            _refuse_malformed(data)
        export = decode_export(data)
        if export.header.environment not in (None, self._environment.name):
            raise Refused(
                f"the export is of environment {export.header.environment}, "
                f"not {self._environment.name}"
            )
        return export


def _export_of(store: Store) -> Export:
    return Export(store.header(), tuple(store.records()))


_OTHER_ENCODINGS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"{\0": "UTF-16",
    b"\0{": "UTF-16",
}
"""Encodings by what a JSON object in them begins with."""


def parse_export(content: bytes) -> Any:
    """The JSON of an export as a file holds it. A byte order mark is taken, since editors write it.

    Raises StateRefused for what is no JSON in UTF-8.
    """
    hint = Message.of("Give the JSON object that ", Command.of("state", "pull"), " printed.")
    for beginning, encoding in _OTHER_ENCODINGS.items():
        if content.startswith(beginning):
            raise StateRefused(
                f"the export is in {encoding}, not in UTF-8",
                hint="Convert it to UTF-8. The `>` of some shells writes UTF-16.",
            )
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise StateRefused("this is not a state export: it is not UTF-8", hint=hint) from None
    except (ValueError, RecursionError):
        raise StateRefused("this is not a state export: it is not JSON", hint=hint) from None


def _refuse_malformed(data: dict[str, Any]) -> None:
    export = Document(data, Source("the export"), {})
    flaws = validate_value(export, load_schema("state.schema"), prefix="state")
    if flaws:
        raise StateRefused(
            Message.of("this is not a state export: ", Message(flaws[0].message, flaws[0].values)),
            hint="Give an unedited export.",
        )
