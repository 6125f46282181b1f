"""A store in a file: what the file allows and refuses, and several processes at work."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reconciler.core.records import (
    Fact,
    Record,
)
from reconciler.errors import ReconcileError, Refused, StateRefused
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import LEASE, Locked, LockLost
from tests.support.clock import ManualClock
from tests.support.command_line import ROOT
from tests.support.states import (
    JANE,
    NEWER,
    OTHER_HOST,
    US,
    ZOE,
    put,
)


def test_reading_and_refused_unlocking_do_not_create_the_file(path: Path) -> None:
    store = SqliteStore(path, environment="test")
    store.header(), list(store.records()), list(store.journal()), list(store.runs())
    with contextlib.suppress(Refused):
        store.unlock("x")
    assert not path.parent.exists()


def test_reading_does_not_change_the_file(file: SqliteStore) -> None:
    file.close()
    before = (file.path.read_bytes(), file.path.stat().st_mtime_ns, os.listdir(file.path.parent))
    list(file.records()), file.header(), file.locked(), list(file.journal())
    file.close()
    after = (file.path.read_bytes(), file.path.stat().st_mtime_ns, os.listdir(file.path.parent))
    assert after == before


def test_file_and_folder_are_for_the_owner_alone_under_an_open_umask(path: Path) -> None:
    old = os.umask(0o022)
    try:
        store = SqliteStore(path, environment="test")
        with store.lock(US) as writer:
            writer.write(put=[JANE])
            copy = writer.backup()
    finally:
        os.umask(old)
    assert copy is not None
    modes = [stat.S_IMODE(item.stat().st_mode) for item in (path.parent, path, Path(copy))]
    assert modes == [0o700, 0o600, 0o600]


def test_a_file_that_others_may_read_is_tightened_by_the_next_lock(file: SqliteStore) -> None:
    file.path.chmod(0o644)
    put(file, ZOE)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_nothing_but_the_state_is_left_in_the_folder(file: SqliteStore) -> None:
    assert os.listdir(file.path.parent) == [file.path.name]


def test_a_removed_value_leaves_no_residue(file: SqliteStore) -> None:
    many = [Record(f"qa-{n}", facts={"email": Fact.of(f"residue-{n}@x.y")}) for n in range(200)]
    put(file, *many)
    assert b"residue-" in file.path.read_bytes()
    with file.lock(US) as writer:
        writer.write(remove=[record.address for record in many])
    assert b"residue-" not in file.path.read_bytes()


def test_a_relative_path_stays_the_same_after_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore(Path("s.db"), environment="test")
    monkeypatch.chdir("/")
    put(store, JANE)
    assert (tmp_path / "s.db").exists()


def test_odd_characters_in_the_path_are_taken_literally(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=ro#b%20c ü.db"
    put(SqliteStore(path, environment="test"), JANE)
    assert os.listdir(tmp_path) == [path.name]


def test_another_store_of_the_same_file_sees_what_was_written(file: SqliteStore) -> None:
    other = SqliteStore(file.path, environment="test")
    assert list(other.records()) == [JANE._replace(revision=1)]
    put(file, ZOE)
    assert other.header().serial == 2


def test_threads_may_share_a_writer(file: SqliteStore) -> None:
    with file.lock(US) as writer:
        threads = [
            threading.Thread(target=lambda n=n: writer.write(put=[Record(f"t-{n}")]))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert file.header().serial == 9
    assert len(list(file.records())) == 9


def test_the_token_stops_an_overtaken_holder_even_if_lock_ids_repeat(
    path: Path, clock: ManualClock
) -> None:
    store = SqliteStore(path, environment="test", new_id=lambda: "same", clock=clock)
    with store.lock(US) as paused:
        clock.time += LEASE
        with store.lock(OTHER_HOST), pytest.raises(LockLost):
            paused.write(put=[JANE])


# Values that are refused


def refused(path: Path, environment: str = "test") -> str:
    """The one message that reading and locking give."""
    messages = []
    for attempt in (
        lambda store: store.header(),
        lambda store: list(store.records()),
        lambda store: put(store, JANE),
    ):
        with pytest.raises(ReconcileError) as caught:
            attempt(SqliteStore(path, environment=environment))
        assert caught.value.hint
        messages.append(caught.value.message)
    assert len(set(messages)) == 1, messages
    return messages[0]


def test_a_file_that_is_not_sqlite_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_text("hello, I am not a database\n" * 100)
    assert "not a SQLite file" in refused(path)
    assert path.read_text().startswith("hello")


def test_an_empty_file_is_refused_and_not_taken_for_no_profiles(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.touch()
    assert "0 bytes" in refused(path)


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE meta (x)")
    assert "another program" in refused(path)


def test_a_newer_format_is_refused(file: SqliteStore) -> None:
    with contextlib.closing(sqlite3.connect(file.path)) as db:
        db.execute(f"PRAGMA user_version = {NEWER}")
    assert f"format {NEWER}" in refused(file.path)


def test_a_format_that_got_newer_while_open_is_refused(file: SqliteStore) -> None:
    with file.lock(US) as writer:
        with contextlib.closing(sqlite3.connect(file.path)) as db:
            db.execute(f"PRAGMA user_version = {NEWER}")
        with pytest.raises(StateRefused, match=f"format {NEWER}"):
            writer.write(put=[ZOE])
    with pytest.raises(StateRefused, match=f"format {NEWER}"):
        file.header()


def test_a_format_from_which_no_way_leads_here_is_refused(file: SqliteStore) -> None:
    with contextlib.closing(sqlite3.connect(file.path)) as db:
        db.execute("PRAGMA user_version = 0")
    assert "cannot be upgraded" in refused(file.path)


def test_the_state_of_another_environment_is_refused(file: SqliteStore) -> None:
    assert "environment test, not of production" in refused(file.path, "production")


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    assert "a folder" in refused(tmp_path)


def test_a_fifo_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.db")
    assert "not a regular file" in refused(tmp_path / "s.db")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    assert "cannot be used" in refused(tmp_path / "a" / "s.db")


def test_a_dangling_link_is_refused_by_the_lock(tmp_path: Path) -> None:
    (tmp_path / "s.db").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StateRefused, match="link"):
        put(SqliteStore(tmp_path / "s.db", environment="test"), JANE)
    assert os.listdir(tmp_path) == ["s.db"]


def test_a_journal_without_its_state_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("test.db-journal").write_bytes(b"x" * 600)
    assert "journal of an unfinished write" in refused(path)


def test_a_truncated_file_is_refused(file: SqliteStore) -> None:
    put(file, *(Record(f"qa-{n}", labels=("x" * 500,)) for n in range(100)))
    file.close()
    os.truncate(file.path, file.path.stat().st_size // 2)
    with pytest.raises(StateRefused, match="damaged"):
        list(file.records())
    with pytest.raises(StateRefused, match="damaged"):
        put(file, ZOE)


def test_a_flipped_letter_in_a_value_is_noticed(file: SqliteStore) -> None:
    file.close()
    content = file.path.read_bytes()
    assert content.count(b"jane@example.com") == 1
    file.path.write_bytes(content.replace(b"jane@example.com", b"jade@example.com"))
    with pytest.raises(StateRefused, match="damaged"):
        list(file.records())


def test_no_flip_of_a_byte_ends_in_a_raw_exception_or_a_wrong_record(file: SqliteStore) -> None:
    file.close()
    content = bytearray(file.path.read_bytes())
    expected = JANE._replace(revision=1)
    for position in range(0, len(content), 97):
        content[position] ^= 0xFF
        file.path.write_bytes(content)
        with contextlib.suppress(ReconcileError):
            store = SqliteStore(file.path, environment="test")
            assert all(record == expected for record in store.records())
            store.header(), store.locked(), list(store.runs()), list(store.journal())
            put(store, ZOE)
        content[position] ^= 0xFF


def test_a_file_removed_while_in_use_is_an_error_and_nothing_is_acknowledged(
    file: SqliteStore,
) -> None:
    with file.lock(US) as writer:
        file.path.unlink()
        with pytest.raises(ReconcileError, match="removed or replaced"):
            writer.write(put=[ZOE])
    assert not file.path.exists()


def test_a_file_removed_in_the_middle_of_a_write_is_noticed_before_it_counts(path: Path) -> None:
    def remove() -> str:
        """Called for the lock, when there is no file yet, and for the lineage, inside the write."""
        path.unlink(missing_ok=True)
        return "id"

    store = SqliteStore(path, environment="test", new_id=remove)
    with (
        store.lock(US) as writer,
        pytest.raises(ReconcileError, match="removed or replaced"),
    ):
        writer.write(put=[JANE])


def test_a_file_replaced_while_in_use_loses_the_lock_and_stays_as_it_is(
    file: SqliteStore, tmp_path: Path
) -> None:
    other = SqliteStore(tmp_path / "other.db", environment="test")
    put(other, ZOE)
    with file.lock(US) as writer:
        os.replace(other.path, file.path)
        with pytest.raises(ReconcileError):
            writer.write(put=[JANE])
    assert [record.address for record in file.records()] == ["qa-zoe"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(file: SqliteStore) -> None:
    file.close()
    file.path.chmod(0)
    with pytest.raises(StateRefused, match="permission"):
        file.header()


def test_a_full_disk_is_an_error_that_says_so_and_keeps_the_state(path: Path) -> None:
    script = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteStore(Path(sys.argv[1]), environment="test")
with store.lock(us()) as writer:
    writer.write(put=[Record("first")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
    try:
        writer.write(put=[Record(f"r{n}", labels=("x" * 900,)) for n in range(200)])
    except ReconcileError as problem:
        print(problem.exit_code.name, problem.message)
"""
    result = subprocess.run(
        [*child(script), str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("FAILED the disk ")
    assert [r.address for r in SqliteStore(path, environment="test").records()] == ["first"]


def test_a_full_database_is_called_a_full_disk(file: SqliteStore) -> None:
    with file.lock(US) as writer:
        assert file._file._db is not None
        file._file._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(ReconcileError, match="disk is full") as caught:
            writer.write(put=[Record(f"r{n}", labels=("x" * 900,)) for n in range(200)])
    assert not isinstance(caught.value, Refused)
    assert list(file.records()) == [JANE._replace(revision=1)]


def test_a_long_transaction_of_another_process_is_waited_for_then_reported(
    file: SqliteStore,
) -> None:
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ReconcileError, match="busy for 0 seconds"):
            put(SqliteStore(file.path, environment="test", busy_seconds=0.05), ZOE)


def test_no_message_quotes_a_stored_value(file: SqliteStore) -> None:
    with contextlib.closing(sqlite3.connect(file.path)) as db, db:
        db.execute("UPDATE record SET body = CAST(x'ff6a616e65' AS TEXT)")
    with pytest.raises(StateRefused) as caught:
        list(file.records())
    assert "jane" not in caught.value.message + caught.value.hint


# --- processes -----------------------------------------------------------------------------------

PRELUDE = """
import os, sys, time
from pathlib import Path
from reconciler.errors import *
from reconciler.core.records import *
from reconciler.state.sqlite import *
from reconciler.state.store import *
def us(): return Holder("ann", "here", os.getpid(), "test")
"""


def child(script: str) -> list[str]:
    return [sys.executable, "-c", PRELUDE + script]


def test_a_process_killed_while_writing_leaves_a_readable_state_with_all_it_acknowledged(
    path: Path,
) -> None:
    script = """
store = SqliteStore(Path(sys.argv[1]), environment="test")
with store.lock(us()) as writer:
    while True:
        header = writer.write(put=[
            Record(f"r{n:03}", labels=(str(store.header().serial), "x" * 300)) for n in range(300)
        ])
        print(header.serial, flush=True)
"""
    serial = 0
    for number in range(10):
        process = subprocess.Popen(
            [*child(script), str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        acknowledged = [process.stdout.readline()]
        time.sleep(0.003 * number)
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        store = SqliteStore(path, environment="test")
        records = list(store.records())
        assert len(records) == 300
        assert len({record.labels[0] for record in records}) == 1, "half a write is visible"
        complete = [int(line) for line in acknowledged if line.endswith("\n")]
        assert store.header().serial >= max(complete) > serial
        serial = store.header().serial
        store.close()


def test_of_processes_racing_for_the_lock_exactly_one_works_at_a_time(path: Path) -> None:
    """Each winner marks its stay with a file that must not be there yet."""
    script = """
path, mark, won = Path(sys.argv[1]), Path(sys.argv[2]), 0
store = SqliteStore(path, environment="test")
while won < 3:
    try:
        with store.lock(us()) as writer:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            writer.write(put=[Record(f"{os.getpid()}-{won}")])
            won += 1
            os.unlink(mark)
    except Locked:
        time.sleep(0.002)
"""
    mark = path.parent.parent / "mark"
    racers = [
        subprocess.Popen(
            [*child(script), str(path), str(mark)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    errors = [racer.communicate(timeout=60)[1] for racer in racers]
    assert errors == [""] * 8
    store = SqliteStore(path, environment="test")
    assert store.header().serial == 24
    assert len(list(store.records())) == 24


def test_a_stopped_holder_that_wakes_after_being_overtaken_cannot_write(path: Path) -> None:
    script = """
store = SqliteStore(Path(sys.argv[1]), environment="test")
try:
    with store.lock(us()) as writer:
        writer.write(put=[Record("before")])
        print("ready", flush=True)
        sys.stdin.readline()
        writer.write(put=[Record("after")])
except LockLost:
    print("lost", flush=True)
"""
    process = subprocess.Popen(
        [*child(script), str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGSTOP)
    store = SqliteStore(path, environment="test")
    with pytest.raises(Locked), store.lock(US):
        pass
    with store.lock(US, now=lambda: time.time() + LEASE + 1) as writer:
        os.kill(process.pid, signal.SIGCONT)
        assert process.communicate("go\n", timeout=20)[0] == "lost\n"
        writer.write(put=[ZOE])
    assert [record.address for record in store.records()] == ["before", "qa-zoe"]


def test_a_lock_dies_with_a_killed_holder_before_its_lease(path: Path) -> None:
    script = """
with SqliteStore(Path(sys.argv[1]), environment="test").lock(us()):
    print("ready", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [*child(script), str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    put(SqliteStore(path, environment="test"), JANE)
