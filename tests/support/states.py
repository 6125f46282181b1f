"""Records, lock holders and writes for the tests of stores."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from reconciler.core.records import Fact, Header, JournalEntry, JournalKind, Record
from reconciler.state.sqlite_format import STATE_FORMAT_VERSION
from reconciler.state.store import Holder, Store

US = Holder(user="ann", host="here", pid=os.getpid(), command="reconcile apply")
OTHER_HOST = US._replace(user="bob", host="elsewhere", pid=1)
JANE = Record("qa-jane", customer_user_id="qa-jane", facts={"email": Fact.of("jane@example.com")})
ZOE = Record("qa-zoe", customer_user_id="qa-zoe")
NEWER = STATE_FORMAT_VERSION + 1
"""The format of a state that a later program wrote."""

OpenStore = Callable[..., Store]


def put(store: Store, *records: Record) -> Header:
    """Takes the lock and puts records."""
    with store.lock(US) as writer:
        return writer.write(put=records)


def entry(
    run: str, address: str = "qa-jane", *, kind: JournalKind = JournalKind.INTENT
) -> JournalEntry:
    return JournalEntry(
        run, address, kind=kind, at=1.5, action="update", request="sha256:0", detail="id 7"
    )


def user_version(path: Path) -> int:
    """The format that a state file says it has."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
