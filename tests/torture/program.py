"""The program with something changed: broken on purpose, as a control that the checker must fail, or
with a shorter lease.

``python -m tests.torture.program VARIANT ARGUMENT...``, a variant being one of `BROKEN` or
``lease=SECONDS``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from reconciler.cli.main import main
from reconciler.core.records import Header, JournalEntry, JournalKind, Record, Run
from reconciler.state import sqlite, store

_WRITER: Any = sqlite._SqliteWriter


def record_after_success() -> None:
    """No intent is written: a request that was not answered leaves no trace."""
    write = _WRITER.write

    def without_intents(
        self: Any,
        *,
        put: Iterable[Record] = (),
        remove: Iterable[str] = (),
        journal: Iterable[JournalEntry] = (),
        application: str | None = None,
    ) -> Header:
        entries = list(journal)
        intended = {entry.address for entry in entries if entry.kind is JournalKind.INTENT}
        settled = {entry.address for entry in entries if entry.kind is not JournalKind.INTENT}
        header: Header = write(
            self,
            put=[record for record in put if record.address not in intended - settled],
            remove=remove,
            journal=[entry for entry in entries if entry.kind is not JournalKind.INTENT],
            application=application,
        )
        return header

    _WRITER.write = without_intents


def save_at_the_end() -> None:
    """Everything is written when the run is over."""
    write, finish = _WRITER.write, _WRITER.finish
    kept: list[dict[str, Any]] = []

    def later(self: Any, **what: Any) -> Header:
        kept.append(
            {name: list(v) if v and name != "application" else v for name, v in what.items()}
        )
        return Header()

    def at_last(self: Any, run: Run) -> None:
        for what in kept:
            write(self, **what)
        finish(self, run)

    _WRITER.write, _WRITER.finish = later, at_last


BROKEN: dict[str, Callable[[], None]] = {
    "record-after-success": record_after_success,
    "save-at-the-end": save_at_the_end,
}


def change(variant: str) -> None:
    name, _, value = variant.partition("=")
    if name == "lease":
        lease = float(value)
        sqlite.SqliteStore.__init__.__kwdefaults__["lease"] = lease
        store.LEASE = lease  # the engine's heartbeat follows it
    else:
        BROKEN[name]()


if __name__ == "__main__":
    change(sys.argv.pop(1))
    main()
