"""Where the emulator keeps profiles: in memory, or in an SQLite file that several emulators share.

Both stores do the same. Their callers let one thread at a time use a store.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import NoReturn, Protocol

from reconciler.emulator.access import AccessEvent
from reconciler.emulator.profile import StoredProfile
from reconciler.errors import ReconcileError, Refused

_APPLICATION_ID = 0x52434D55
_FORMAT = 2
"""Format 1 had no settings, no events, and profiles without access. It is upgraded when it is opened."""
_KEPT_EVENTS = 10_000
_BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process that is writing."""
_BUSY_RETRY = 0.005
"""Seconds between two attempts where SQLite itself does not wait."""
_KEY_COLUMNS = ("profile_id", "customer_user_id")
_CONTENT = tuple(each.name for each in fields(StoredProfile) if each.name not in _KEY_COLUMNS)
_NOTHING_TO_COMMIT = contextlib.nullcontext()


class ProfileStore(Protocol):
    """A place for profiles. Profiles are handed out as copies."""

    def app_id(self, requested: str | None, new_id: Callable[[], uuid.UUID]) -> str:
        """The application's id: ``requested`` if it is given, else the stored one, else a new one."""

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """A transaction: all changes inside are durable when it ends, or none is."""

    def by_profile(self, profile_id: str) -> StoredProfile | None: ...

    def by_customer(self, customer_user_id: str) -> StoredProfile | None: ...

    def all(self) -> list[StoredProfile]: ...

    def put(self, profile: StoredProfile) -> None:
        """Add the profile, or replace the one with its profile id."""

    def remove(self, profile_id: str) -> None: ...

    def setting(self, name: str) -> str | None:
        """A value of the application as a whole; None if it was never set."""

    def set_setting(self, name: str, value: str) -> None: ...

    def add_event(self, event: Callable[[int], AccessEvent]) -> None:
        """Keep an event, which is made with the next number. The oldest of many events are dropped."""

    def events_after(self, number: int) -> list[AccessEvent]:
        """The events that are kept and have a greater number, in their order."""

    def clear_events(self) -> None:
        """Drop all events. Numbers go on."""

    def close(self) -> None: ...


class MemoryProfiles:
    """Profiles that live as long as the process.

    A request changes the store in its last steps, none of which fails, so a transaction has nothing to
    roll back.
    """

    def __init__(self) -> None:
        self._profiles: dict[str, StoredProfile] = {}
        self._customers: dict[str, str] = {}
        self._settings: dict[str, str] = {}
        self._events: deque[AccessEvent] = deque(maxlen=_KEPT_EVENTS)
        self._last_event = 0

    def app_id(self, requested: str | None, new_id: Callable[[], uuid.UUID]) -> str:
        return requested or str(new_id())

    def writing(self) -> contextlib.AbstractContextManager[None]:
        return _NOTHING_TO_COMMIT

    def by_profile(self, profile_id: str) -> StoredProfile | None:
        profile = self._profiles.get(profile_id)
        return profile and profile.copy()

    def by_customer(self, customer_user_id: str) -> StoredProfile | None:
        return self.by_profile(self._customers.get(customer_user_id, ""))

    def all(self) -> list[StoredProfile]:
        return [profile.copy() for profile in self._profiles.values()]

    def put(self, profile: StoredProfile) -> None:
        self._profiles[profile.profile_id] = profile.copy()
        if profile.customer_user_id is not None:
            self._customers[profile.customer_user_id] = profile.profile_id

    def remove(self, profile_id: str) -> None:
        customer = self._profiles.pop(profile_id).customer_user_id
        if customer is not None:
            del self._customers[customer]

    def setting(self, name: str) -> str | None:
        return self._settings.get(name)

    def set_setting(self, name: str, value: str) -> None:
        self._settings[name] = value

    def add_event(self, event: Callable[[int], AccessEvent]) -> None:
        self._last_event += 1
        self._events.append(event(self._last_event))

    def events_after(self, number: int) -> list[AccessEvent]:
        return [event for event in self._events if event.number > number]

    def clear_events(self) -> None:
        self._events.clear()

    def close(self) -> None:
        """Nothing to release."""


class SqliteProfiles:
    """Profiles in an SQLite file.

    Nothing is cached, so each request sees the writes of other processes. Raises ReconcileError if the
    file cannot be used, and Refused if it is another program's database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._sql = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error, ValueError) as problem:
            self._raise_unusable(problem)
        # Owners may drop an emulator without closing it: the interpreter would complain.
        weakref.finalize(self, self._sql.close)
        try:
            self._prepare()
        except sqlite3.Error as problem:
            self._sql.close()
            self._raise_unusable(problem)
        except Refused:
            self._sql.close()
            raise

    def _raise_unusable(self, problem: Exception) -> NoReturn:
        raise ReconcileError(
            f"the emulator cannot use its database {self._path}: {problem}",
            hint="give another --db, or remove the file to start with no profiles",
        ) from None

    def _prepare(self) -> None:
        with self._transaction("BEGIN"):
            self._present_format()
        self._use_write_ahead_log()
        with self.writing():
            present = self._present_format()
            if present < 1:
                self._sql.execute(
                    "CREATE TABLE profile (profile_id TEXT PRIMARY KEY, "
                    "customer_user_id TEXT UNIQUE, content TEXT NOT NULL) WITHOUT ROWID"
                )
                self._sql.execute("CREATE TABLE app (app_id TEXT NOT NULL)")
                self._sql.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            if present < 2:
                self._sql.execute(
                    "CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
                )
                self._sql.execute(
                    "CREATE TABLE event (number INTEGER PRIMARY KEY AUTOINCREMENT, content TEXT)"
                )
                self._sql.execute(f"PRAGMA user_version = {_FORMAT}")

    def _use_write_ahead_log(self) -> None:
        """Make writes survive a killed process. An emulator owes no more than that.

        SQLite does not wait when the journal mode changes, so this method does: another process may be
        creating the same file.
        """
        deadline = time.monotonic() + _BUSY_TIMEOUT
        while True:
            try:
                self._sql.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as problem:
                busy = problem.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(_BUSY_RETRY)
        self._sql.execute("PRAGMA synchronous = NORMAL")

    def _present_format(self) -> int:
        """The format of the file; 0 for an empty one. Call it inside a transaction, so that it sees one
        moment.

        Raises Refused for a database that is not an emulator's, and for one of a newer program.
        """
        (owner,) = self._sql.execute("PRAGMA application_id").fetchone()
        (version,) = self._sql.execute("PRAGMA user_version").fetchone()
        (tables,) = self._sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            return 0
        if owner != _APPLICATION_ID or not 1 <= version <= _FORMAT:
            whose = "another version's" if owner == _APPLICATION_ID else "not an emulator's"
            raise Refused(
                f"{self._path} is {whose} database", hint="give the emulator a file of its own"
            )
        return int(version)

    def writing(self) -> contextlib.AbstractContextManager[None]:
        return self._transaction("BEGIN IMMEDIATE")

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._sql.execute(begin)
        try:
            yield
            self._sql.execute("COMMIT")
        except BaseException:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            raise

    def app_id(self, requested: str | None, new_id: Callable[[], uuid.UUID]) -> str:
        with self.writing():
            row = self._sql.execute("SELECT app_id FROM app").fetchone()
            app_id = requested or (row[0] if row else str(new_id()))
            if row is None or row[0] != app_id:
                self._sql.execute("DELETE FROM app")
                self._sql.execute("INSERT INTO app VALUES (?)", (app_id,))
        return str(app_id)

    def by_profile(self, profile_id: str) -> StoredProfile | None:
        return self._one("profile_id", profile_id)

    def by_customer(self, customer_user_id: str) -> StoredProfile | None:
        return self._one("customer_user_id", customer_user_id)

    def _one(self, column: str, value: str) -> StoredProfile | None:
        row = self._sql.execute(f"SELECT * FROM profile WHERE {column} = ?", (value,)).fetchone()
        return None if row is None else _from_row(row)

    def all(self) -> list[StoredProfile]:
        return [_from_row(row) for row in self._sql.execute("SELECT * FROM profile").fetchall()]

    def put(self, profile: StoredProfile) -> None:
        # What is empty is left out: it is the default of `StoredProfile`.
        members = {name: value for name in _CONTENT if (value := getattr(profile, name))}
        content = json.dumps(members, separators=(",", ":"))
        self._sql.execute(
            "INSERT INTO profile VALUES (?, ?, ?) ON CONFLICT (profile_id) DO UPDATE SET "
            "customer_user_id = excluded.customer_user_id, content = excluded.content",
            (profile.profile_id, profile.customer_user_id, content),
        )

    def remove(self, profile_id: str) -> None:
        self._sql.execute("DELETE FROM profile WHERE profile_id = ?", (profile_id,))

    def setting(self, name: str) -> str | None:
        row = self._sql.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_setting(self, name: str, value: str) -> None:
        self._sql.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

    def add_event(self, event: Callable[[int], AccessEvent]) -> None:
        number = self._sql.execute("INSERT INTO event (content) VALUES (NULL)").lastrowid or 0
        content = json.dumps(asdict(event(number)), separators=(",", ":"))
        self._sql.execute("UPDATE event SET content = ? WHERE number = ?", (content, number))
        self._sql.execute("DELETE FROM event WHERE number <= ?", (number - _KEPT_EVENTS,))

    def events_after(self, number: int) -> list[AccessEvent]:
        rows = self._sql.execute(
            "SELECT content FROM event WHERE number > ? ORDER BY number", (number,)
        )
        return [AccessEvent(**json.loads(content)) for (content,) in rows.fetchall()]

    def clear_events(self) -> None:
        self._sql.execute("DELETE FROM event")

    def close(self) -> None:
        self._sql.close()


def _from_row(row: tuple[str, str | None, str]) -> StoredProfile:
    profile_id, customer_user_id, content = row
    return StoredProfile(profile_id, customer_user_id, **json.loads(content))
