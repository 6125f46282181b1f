"""One state file: created whole, opened once it is known to be ours, read and written in transactions.

Reading neither creates nor changes the file. There is one exception: SQLite rolls back a transaction that
a killed writer left behind when the file is opened next.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reconciler.atomicfile import new_file
from reconciler.errors import Message, ReconcileError, StateRefused
from reconciler.state.backups import back_up, sync_folder
from reconciler.state.rollback_journal import has_foreign_journal
from reconciler.state.side_files import SideFiles
from reconciler.state.sqlite_errors import (
    RESTORE_HINT,
    StateDamaged,
    damaged,
    from_sqlite,
    from_system,
    not_storable,
    vanished,
)
from reconciler.state.sqlite_format import (
    APPLICATION_ID,
    SCHEMA,
    Upgrade,
    connect,
    is_ours,
    version_of,
)
from reconciler.values import shown

SQLITE_MAGIC = b"SQLite format 3\0"
"""The first bytes of a SQLite file."""
BUSY_SECONDS = 10.0
"""Seconds to wait for another process's transaction; ours take milliseconds."""


class SqliteFile:
    """A SQLite file and the one connection to it. Threads take turns.

    ``version`` is the format to have, and ``upgrades`` lead to it from older ones. Methods raise
    `ReconcileError` only, except where they say otherwise.
    """

    def __init__(
        self,
        path: Path,
        *,
        environment: str,
        version: int,
        upgrades: Mapping[int, Upgrade],
        busy_seconds: float,
        side_files: SideFiles | None,
    ) -> None:
        """``side_files`` says what counts beside the file; ``None``: whatever fits."""
        if "\0" in str(path):
            raise StateRefused("the path of the state holds a NUL", hint="Check `state.url`.")
        self.path = path.absolute()
        self.version = version
        self._environment = environment
        self._upgrades = upgrades
        self._busy_seconds = busy_seconds
        self._side_files = side_files
        self._guard = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        """Device and inode of the file that ``_db`` is connected to."""

    # Transactions

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection to read from; ``None`` where there is no state yet. The file has the present format
        or an older one."""
        with self._guard, self.translated():
            db = self._connection()
            if db is not None:
                self.accepted_version(db)
            yield db

    @contextmanager
    def transaction(self, *, trusted: bool = False) -> Iterator[sqlite3.Connection]:
        """One durable write, or none. IMMEDIATE: a read that turns into a write cannot wait.

        ``trusted`` is for a writer, who compares token and format in a statement of its own.
        """
        with self._guard, self.translated():
            db = self._db if trusted and self._db is not None else self._connection()
            if db is None:
                raise vanished(self.name)
            db.execute("BEGIN IMMEDIATE")
            try:
                if not trusted:
                    self.accepted_version(db)
                yield db
                # SQLite alone would go on committing into an unlinked file.
                if self._identity_on_disk() != self._identity:
                    raise vanished(self.name)
                db.execute("COMMIT")
            except BaseException:
                try:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                except sqlite3.Error:
                    self.close()
                raise

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Around writing: a process that is killed within leaves a note that what it left is ours."""
        if self._side_files is None:
            yield
            return
        with self._side_files.noted(self.path):
            yield

    def close(self) -> None:
        """Close the connection. The next transaction opens a new one."""
        with self._guard:
            if self._db is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._db.close()
            self._db = self._identity = None

    # The format

    def accepted_version(self, db: sqlite3.Connection) -> int:
        """The format of the file. A newer program may raise it while we have the file open; then this
        raises StateRefused."""
        version = version_of(db)
        if version > self.version:
            raise StateRefused(
                f"{self.name} has format {version}, this program reads up to {self.version}",
                hint="Upgrade reconcile; a newer version wrote this state.",
            )
        return version

    def upgrade(self, db: sqlite3.Connection) -> None:
        """Bring the file to the present format, within the transaction that is open on ``db``."""
        for step in range(version_of(db), self.version):
            self._upgrades[step](db)
            db.execute(f"PRAGMA user_version = {step + 1}")

    def back_up(
        self, db: sqlite3.Connection, *, now: float, kept: int, marked: bool = True
    ) -> Path:
        """Copy what is committed; ``db`` may be inside a transaction that has not written yet. Raises
        OSError or sqlite3.Error."""
        serial = int(db.execute("SELECT serial FROM meta").fetchone()[0])
        return back_up(
            self.path,
            serial=serial,
            now=now,
            kept=kept,
            busy_seconds=self._busy_seconds,
            marked=marked,
        )

    # The file

    def create(self) -> None:
        """Make the file if there is none, and close it to everybody but its owner: the state holds
        personal data. The file appears complete, so no reader sees half of one."""
        with self.translated():
            if self._status() is None:
                self._create()
            status = self._status()
            if status is not None and status.st_mode & 0o077:
                os.chmod(self.path, 0o600)

    def status(self) -> os.stat_result | None:
        """The file's status; ``None`` where there is no file yet. Raises StateRefused for what cannot be
        a state file."""
        with self.translated():
            return self._status()

    def _create(self) -> None:
        folder = self.path.parent
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = new_file(folder, prefix=f".{self.path.name}.")
        try:
            with contextlib.closing(self._connect(temporary)) as db:
                db.executescript(
                    f"PRAGMA application_id = {APPLICATION_ID}; BEGIN IMMEDIATE; {SCHEMA}"
                )
                db.execute(f"PRAGMA user_version = {self.version}")
                db.execute(
                    "INSERT INTO meta (one, environment, serial, token) VALUES (1, ?, 0, 0)",
                    (self._environment,),
                )
                db.execute("COMMIT")
            self._put_in_place(temporary)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        sync_folder(folder)

    def _put_in_place(self, temporary: Path) -> None:
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            # Another process was quicker, and its file is as good, unless it is a link to nothing.
            if self._status() is None:
                raise StateRefused(
                    f"{self.name} is a link to a file that does not exist",
                    hint="Remove the link, or restore the file it points to.",
                ) from None
        except OSError as problem:
            if problem.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            # No hard links here. Should two processes race, the one replaced notices by the inode.
            if self._status() is None:
                os.replace(temporary, self.path)

    def _status(self) -> os.stat_result | None:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            if not os.path.lexists(f"{self.path}-journal"):
                return None
            try:
                # Another process may have made the file, and begun to write, since the first look.
                status = os.stat(self.path)
            except FileNotFoundError:
                # SQLite would roll this journal back into whatever file comes next.
                raise StateDamaged(
                    f"{self.name} is missing, but the journal of an unfinished write is there",
                    hint=Message.of(
                        "Put the state file back beside its -journal file. ",
                        RESTORE_HINT,
                        " To begin anew, move the -journal file away.",
                    ),
                ) from None
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise StateRefused(
                f"the state cannot be kept in {self.name}: it is {kind}",
                hint="Name a file in `state.url` in reconcile.yaml.",
            )
        if status.st_size == 0:
            raise StateDamaged(
                f"{self.name} is empty (0 bytes), which no state ever is",
                hint=Message.of(RESTORE_HINT, " If there never was a state, remove the file."),
            )
        return status

    def _identity_on_disk(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return None
        return (status.st_dev, status.st_ino)

    # The connection

    def _connect(self, path: Path) -> sqlite3.Connection:
        return connect(f"{path.as_uri()}?mode=rw", busy_seconds=self._busy_seconds)

    def _connection(self) -> sqlite3.Connection | None:
        status = self._status()
        if status is None:
            self.close()
            return None
        if self._side_files is not None:
            self._side_files.refuse_foreign(self.path)
        identity = (status.st_dev, status.st_ino)
        if self._db is not None and self._identity == identity:
            return self._db
        self.close()
        if not os.access(self.path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if has_foreign_journal(self.path):
            raise StateDamaged(
                f"beside {self.name} lies the journal of another file, which would be mixed into it",
                hint=f"The state was put back by hand beside the journal of an unfinished write. Move "
                f"{self.name}-journal away, and run again.",
            )
        db = self._connect(self.path)
        try:
            self._check(db)
        except BaseException:
            db.close()
            raise
        self._db, self._identity = db, identity
        return db

    def _check(self, db: sqlite3.Connection) -> None:
        """Raises StateRefused for a file that is not a state of this environment."""
        if not is_ours(db):
            raise StateRefused(
                f"{self.name} is a database of another program",
                hint="Give the state a file of its own: `state.url` in reconcile.yaml.",
            )
        version = self.accepted_version(db)
        if any(step not in self._upgrades for step in range(version, self.version)):
            raise StateRefused(
                f"{self.name} has format {version}, which cannot be upgraded to {self.version}",
                hint=RESTORE_HINT,
            )
        row = db.execute("SELECT environment FROM meta").fetchone()
        if row is None:
            raise damaged(self.name)
        if row[0] != self._environment:
            raise StateRefused(
                f"{self.name} is the state of environment {shown(str(row[0]))}, "
                f"not of {shown(self._environment)}",
                hint="Give each environment its own `state.url` in reconcile.yaml.",
            )

    # Errors

    @property
    def name(self) -> str:
        """The path as messages show it."""
        return shown(str(self.path))

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Within, errors of SQLite and of the system become `ReconcileError`."""
        try:
            yield
        except sqlite3.Error as problem:
            raise self._from_sqlite(problem) from None
        except OSError as problem:
            raise from_system(problem, state=self.name) from None
        except (OverflowError, UnicodeError):
            raise not_storable() from None

    def _from_sqlite(self, problem: sqlite3.Error) -> ReconcileError:
        # Errors that the sqlite3 module raises itself carry no code.
        return from_sqlite(
            getattr(problem, "sqlite_errorcode", None),
            state=self.name,
            code_name=getattr(problem, "sqlite_errorname", ""),
            busy_seconds=self._busy_seconds,
        )
