"""The state of a workspace: opening and locking it, and changing it by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconciler.authoring.documents import Document
from reconciler.authoring.json_schema import validate_value
from reconciler.commands import Command
from reconciler.config.buildinfo import build_info
from reconciler.config.settings import Environment
from reconciler.core.record_codec import EXPORT_FORMAT_VERSION, decode_export
from reconciler.core.records import Export
from reconciler.errors import Message, Refused, Source, StateRefused
from reconciler.resources import load_schema
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Holder, Store, Writer


class StateAdmin:
    """The state of one environment."""

    def __init__(
        self,
        environment: Environment,
        *,
        environ: Mapping[str, str],
        now: Callable[[], float],
        store: Store | None,
    ) -> None:
        """Without a ``store``, the SQLite file of the environment is opened on first use. ``now`` gives
        Unix seconds."""
        self._environment = environment
        self._environ = environ
        self._now = now
        self._store = store

    @property
    def store(self) -> Store:
        """The store of the state. Opening it creates nothing."""
        if self._store is None:
            self._store = SqliteStore(self._environment.state, environment=self._environment.name)
        return self._store

    def close(self) -> None:
        """Closes the store. The next use opens the file of the environment."""
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def exists(self) -> bool:
        """Whether anything was ever recorded."""
        return self.store.header().lineage is not None

    @contextmanager
    def locked(self, command: str) -> Iterator[Writer]:
        """Holds the lock of the state for a command, and gives the writer.

        Raises Refused (`Locked`) where somebody else holds it.
        """
        import socket

        holder = Holder(
            user=_user(),
            host=socket.gethostname(),
            pid=os.getpid(),
            command=command,
            ci=build_info(self._environ).url,
        )
        with self.store.lock(holder, now=self._now) as writer:
            yield writer

    def forget(self, addresses: Iterable[str], *, backup: bool) -> Path | None:
        """Removes records from the state, nothing at the API; returns the backup made before, if any.

        Raises Refused for an address that the state does not know.
        """
        addresses = list(addresses)
        unknown = [address for address in addresses if self.store.record(address) is None]
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
        return Export(self.store.header(), tuple(self.store.records()))

    def replace(self, data: Any, *, force: bool) -> tuple[Export, Path | None]:
        """Replaces the state by an export (JSON); returns the state before, and the backup made of it.

        Raises StateRefused for anything that is not an export of this lineage and environment.
        """
        if isinstance(data, dict) and data.get("format_version") == EXPORT_FORMAT_VERSION:
            _refuse_malformed(data)
        export = decode_export(data)
        if export.header.environment not in (None, self._environment.name):
            raise Refused(
                f"the export is of environment {export.header.environment}, "
                f"not {self._environment.name}"
            )
        before = self.export()
        with self.locked("state push") as writer:
            backup = writer.backup()
            writer.replace(export, force=force)
            return before, backup


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


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no name in the variables, and no list of users
        return "unknown"
