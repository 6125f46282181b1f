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
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import NoReturn, Protocol

from reconciler.emulator.profile import StoredProfile
from reconciler.errors import ReconcileError, Refused

_APPLICATION_ID = 0x52434D55
_FORMAT = 1
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

    def close(self) -> None: ...


class MemoryProfiles:
    """Profiles that live as long as the process.

    A request puts or removes one profile, as its last step, so a transaction has nothing to roll back.
    """

    def __init__(self) -> None:
        self._profiles: dict[str, StoredProfile] = {}
        self._customers: dict[str, str] = {}

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
            self._has_tables()
        self._use_write_ahead_log()
        with self.writing():
            if self._has_tables():
                return
            self._sql.execute(
                "CREATE TABLE profile (profile_id TEXT PRIMARY KEY, "
                "customer_user_id TEXT UNIQUE, content TEXT NOT NULL) WITHOUT ROWID"
            )
            self._sql.execute("CREATE TABLE app (app_id TEXT NOT NULL)")
            self._sql.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
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

    def _has_tables(self) -> bool:
        """Whether the tables exist. Call it inside a transaction, so that it sees one moment.

        Raises Refused for a database that is not an emulator's.
        """
        (owner,) = self._sql.execute("PRAGMA application_id").fetchone()
        (version,) = self._sql.execute("PRAGMA user_version").fetchone()
        (tables,) = self._sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (owner, version) != (_APPLICATION_ID, _FORMAT):
            whose = "another version's" if owner == _APPLICATION_ID else "not an emulator's"
            raise Refused(
                f"{self._path} is {whose} database", hint="give the emulator a file of its own"
            )
        return bool(tables)

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
        content = json.dumps(
            {name: getattr(profile, name) for name in _CONTENT}, separators=(",", ":")
        )
        self._sql.execute(
            "INSERT INTO profile VALUES (?, ?, ?) ON CONFLICT (profile_id) DO UPDATE SET "
            "customer_user_id = excluded.customer_user_id, content = excluded.content",
            (profile.profile_id, profile.customer_user_id, content),
        )

    def remove(self, profile_id: str) -> None:
        self._sql.execute("DELETE FROM profile WHERE profile_id = ?", (profile_id,))

    def close(self) -> None:
        self._sql.close()


def _from_row(row: tuple[str, str | None, str]) -> StoredProfile:
    profile_id, customer_user_id, content = row
    return StoredProfile(profile_id, customer_user_id, **json.loads(content))
