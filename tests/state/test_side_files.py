"""What counts beside a database: only what this program left there."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import StateRefused
from reconciler.state.side_files import SideFiles
from tests.support.journals import journal_naming

DEAD = {"pid": 2**22 + 1, "process": None}
"""A process that cannot be: Linux numbers them up to 2**22."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A database in a checkout."""
    path = tmp_path / "checkout" / "x.db"
    path.parent.mkdir()
    path.write_bytes(b"database")
    return path


def of_home(home: Path | None, *, patience: float = 0.05) -> SideFiles:
    return SideFiles(home, patience=patience)


def beside(db: Path, suffix: str = "-journal") -> Path:
    path = Path(f"{db}{suffix}")
    path.write_bytes(b"")
    return path


def notes(home: Path) -> list[Path]:
    return [path for path in (home / "writers").rglob("*") if path.is_file()]


def left_note(side_files: SideFiles, db: Path, home: Path, **changes: Any) -> Path:
    """The note of a process that was killed while it worked on a database, with other members."""
    journal = beside(db)
    with side_files.noted(db):
        pass
    journal.unlink()
    (note,) = notes(home)
    content = json.loads(note.read_bytes())
    note.write_text(json.dumps({**content, **DEAD, **changes}))
    return note


def is_refused(side_files: SideFiles, db: Path, **options: bool) -> bool:
    try:
        side_files.refuse_foreign(db, **options)
    except StateRefused:
        return True
    return False


def test_a_journal_counts_while_its_writer_works_and_after_it_was_killed(
    db: Path, home: Path
) -> None:
    writer, reader = of_home(home), of_home(home)
    with writer.noted(db):
        journal = beside(db)
        assert not is_refused(reader, db)
    assert not is_refused(reader, db)
    assert len(notes(home)) == 1
    journal.unlink()


def test_a_writer_that_ends_well_leaves_nothing(db: Path, home: Path) -> None:
    with of_home(home).noted(db):
        assert len(notes(home)) == 1
        assert notes(home)[0].stat().st_mode & 0o777 == 0o600
    assert notes(home) == []
    beside(db)
    assert is_refused(of_home(home), db)


@contextmanager
def written_to(journal: Path, *, seconds: float = 60.0) -> Iterator[None]:
    """Meanwhile a writer works whose notes are in another home: its journal changes, for so long."""
    is_over = threading.Event()

    def write() -> None:
        for _ in range(int(seconds / 0.01)):
            with journal.open("ab") as file:
                file.write(b"page")
            if is_over.wait(0.01):
                break
        journal.unlink()

    journal.write_bytes(b"")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        is_over.set()
        writer.join()


def test_a_journal_that_somebody_writes_to_is_waited_for(db: Path, home: Path) -> None:
    with written_to(Path(f"{db}-journal"), seconds=1.0):
        assert not is_refused(of_home(home, patience=0.5), db)
    assert notes(home) == []


def test_a_journal_that_changes_without_end_is_refused(db: Path, home: Path) -> None:
    with written_to(Path(f"{db}-journal")):
        assert is_refused(of_home(home, patience=0.1), db)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_log_counts_only_for_a_database_that_has_one(db: Path, home: Path, suffix: str) -> None:
    with of_home(home).noted(db):
        beside(db, suffix)
        assert is_refused(of_home(home), db)
        assert not is_refused(of_home(home), db, uses_log=True)


def test_in_the_home_nothing_is_noted_and_what_lies_there_counts(home: Path) -> None:
    home.mkdir()
    db = home / "x.db"
    db.write_bytes(b"database")
    with of_home(home).noted(db):
        assert notes(home) == []
    journal = beside(db)
    assert not is_refused(of_home(home), db)
    journal.write_bytes(journal_naming("/somewhere"))
    assert is_refused(of_home(home), db)
    journal.unlink()
    journal.mkdir()
    assert is_refused(of_home(home), db)


def test_a_neighbour_of_the_home_is_not_in_it(tmp_path: Path) -> None:
    db = tmp_path / "home-of-another" / "x.db"
    db.parent.mkdir()
    db.write_bytes(b"database")
    beside(db)
    assert is_refused(of_home(tmp_path / "home"), db)


def test_a_person_may_say_that_a_journal_is_theirs(db: Path, home: Path) -> None:
    beside(db)
    side_files = of_home(home)
    side_files.vouch(db)
    assert not is_refused(side_files, db)
    other = db.with_name("y.db")
    beside(other)
    assert is_refused(side_files, other)
    assert is_refused(of_home(home), db)


def test_without_a_home_nothing_counts(db: Path) -> None:
    side_files = of_home(None)
    with side_files.noted(db):
        assert not is_refused(side_files, db)
        beside(db)
        assert is_refused(side_files, db)


def test_a_note_of_the_dead_ends_with_a_look_that_finds_nothing_of_theirs(
    db: Path, home: Path
) -> None:
    note = left_note(of_home(home), db, home)
    journal = beside(db)
    assert not is_refused(of_home(home), db)
    assert note.exists()
    journal.unlink()
    assert not is_refused(of_home(home), db)
    assert not note.exists()
    beside(db)
    assert is_refused(of_home(home), db)


@pytest.mark.parametrize("changes", [{"pid": "1"}, {"pid": True}, {"process": 1}, {"host": []}])
def test_a_note_with_members_of_another_type_says_nothing(
    db: Path, home: Path, changes: dict[str, Any]
) -> None:
    left_note(of_home(home), db, home, **changes)
    assert not is_refused(of_home(home), db)
    beside(db)
    assert is_refused(of_home(home), db)


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"pid": os.getpid()}])
def test_a_note_of_a_process_that_may_live_is_kept(
    db: Path, home: Path, changes: dict[str, Any]
) -> None:
    note = left_note(of_home(home), db, home, **changes)
    assert not is_refused(of_home(home), db)
    assert note.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{", b'{"pid": 1}', b"\xff", b"[" * 100_000, b" " * 5000 + b"{}"],
)
def test_a_note_that_cannot_be_read_says_nothing(db: Path, home: Path, content: bytes) -> None:
    left_note(of_home(home), db, home).write_bytes(content)
    beside(db)
    assert is_refused(of_home(home), db)


def test_a_note_that_is_a_link_or_a_pipe_says_nothing(db: Path, home: Path) -> None:
    note = left_note(of_home(home), db, home)
    note.rename(home / "real")
    note.symlink_to(home / "real")
    beside(db)
    assert is_refused(of_home(home), db)
    note.unlink()
    os.mkfifo(note)
    assert is_refused(of_home(home), db)


@contextmanager
def in_use(db: Path, home: Path) -> Iterator[Path]:
    """A database with a write-ahead log that is open; the log."""
    with of_home(home).used_with_log(db):
        yield Path(f"{db}-wal")


def test_a_file_with_a_log_is_created_for_the_user_alone(tmp_path: Path, home: Path) -> None:
    db = tmp_path / "new" / "e.db"
    with in_use(db, home):
        assert db.stat().st_mode & 0o777 == 0o600
        assert len(notes(home)) == 1
    assert notes(home) == []


def test_of_several_users_of_a_log_the_last_one_leaves_no_note(db: Path, home: Path) -> None:
    """The note of the first one stays, because there is a log when it ends."""
    with in_use(db, home) as log:
        (last,) = notes(home)
        log.write_bytes(b"")
        with in_use(db, home):
            pass
        (first,) = set(notes(home)) - {last}
        first.write_text(json.dumps({**json.loads(first.read_bytes()), **DEAD}))
        log.unlink()
    assert notes(home) == []
    beside(db, "-wal")
    with pytest.raises(StateRefused, match="was not left there"), in_use(db, home):
        pass
