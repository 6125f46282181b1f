"""The local copy of a state in a bucket: whatever happens to it, the state is that of the bucket."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import ReconcileError
from reconciler.state.objects import cache_file
from reconciler.state.store import StateUnreachable
from tests.support.clock import ManualClock
from tests.support.failing_sqlite import FailingConnection, SqliteFault
from tests.support.memory_bucket import Objects, memory_store
from tests.support.states import JANE, US, ZOE, put


@pytest.fixture
def objects() -> Objects:
    return Objects(ManualClock(1_700_000_000.0))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "state.db"


def addresses(objects: Objects, cache: Path | None) -> list[str]:
    with closing(memory_store(objects, cache=cache)) as store:
        return [record.address for record in store.records()]


def test_the_file_is_for_the_user_alone_and_spares_requests(objects: Objects, cache: Path) -> None:
    put(memory_store(objects), JANE, ZOE)
    assert addresses(objects, cache) == ["qa-jane", "qa-zoe"]
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.parent.stat().st_mode) == 0o700
    objects.requests.clear()
    assert addresses(objects, cache) == ["qa-jane", "qa-zoe"]
    assert objects.requests["get"] == 3


def _truncates(cache: Path) -> None:
    os.truncate(cache, cache.stat().st_size // 2)


def _garbles(cache: Path) -> None:
    with open(cache, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))


def _is_no_database(cache: Path) -> None:
    cache.write_bytes(b"no database at all" * 500)


def _is_of_another_start(cache: Path) -> None:
    with closing(sqlite3.connect(cache)) as db:
        db.execute("UPDATE place SET boot = 'before'")
        db.execute("DELETE FROM record")
        db.commit()


def _is_of_another_environment(cache: Path) -> None:
    with closing(sqlite3.connect(cache)) as db:
        db.execute("UPDATE meta SET environment = 'other'")
        db.execute("DELETE FROM record")
        db.commit()


@pytest.mark.parametrize(
    "damage",
    [_truncates, _garbles, _is_no_database, _is_of_another_start, _is_of_another_environment],
)
def test_a_cache_in_doubt_is_made_anew(
    objects: Objects, cache: Path, damage: Callable[[Path], None]
) -> None:
    put(memory_store(objects), JANE, ZOE)
    addresses(objects, cache)
    damage(cache)
    with suppress(StateUnreachable):  # "thrown away": a damage that is met while rows are read
        assert addresses(objects, cache) == ["qa-jane", "qa-zoe"]
    assert addresses(objects, cache) == ["qa-jane", "qa-zoe"]


def test_a_file_of_somebody_else_is_neither_used_nor_touched(objects: Objects, cache: Path) -> None:
    put(memory_store(objects), JANE)
    cache.parent.mkdir(parents=True)
    for make in (
        lambda: cache.symlink_to(cache.parent / "elsewhere"),
        lambda: (cache.write_bytes(b"open to all"), cache.chmod(0o644)),
        cache.mkdir,
        lambda: _foreign_database(cache),
    ):
        make()
        before = _look(cache)
        assert addresses(objects, cache) == ["qa-jane"]
        assert _look(cache) == before
        cache.rmdir() if cache.is_dir() else cache.unlink()


def _look(path: Path) -> tuple[int, ...]:
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns


def _foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
    path.chmod(0o600)


def test_without_a_name_for_the_start_of_the_machine_no_file_is_kept(
    objects: Objects, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory_store(objects), JANE)
    monkeypatch.setattr(cache_file, "_time_since_start", lambda: "")
    assert addresses(objects, cache) == ["qa-jane"]
    assert not cache.exists()


def test_a_second_process_works_beside_the_first(objects: Objects, cache: Path) -> None:
    put(memory_store(objects), JANE)
    cache.parent.mkdir(parents=True)
    claim = cache.with_name("state.db-claim")
    program = "import fcntl,sys;f=open(sys.argv[1],'w');fcntl.flock(f,2);print(flush=True);input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(claim)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert addresses(objects, cache) == ["qa-jane"]
        assert not cache.exists()
        other.communicate(b"\n")
    assert addresses(objects, cache) == ["qa-jane"]
    assert cache.exists()


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT])
def test_whichever_statement_fails_what_was_acknowledged_is_there(
    cache: Path, monkeypatch: pytest.MonkeyPatch, code: int, lasting: bool
) -> None:
    for number in range(0, 400, 7):
        objects = Objects(ManualClock(1_700_000_000.0))
        fault = SqliteFault(number, code, rolls_back=code == sqlite3.SQLITE_FULL, lasting=lasting)

        def failing(*arguments: Any, fault: SqliteFault = fault, **options: Any) -> Any:
            return FailingConnection(sqlite3.connect(*arguments, **options), fault)

        path = cache.with_name(f"{number}.db")
        acknowledged = 0
        with monkeypatch.context() as patch:
            patch.setattr(cache_file, "connect", failing)
            store = memory_store(objects, cache=path, compact_after=2)
            try:
                for _ in range(2):
                    with store.lock(US) as writer:
                        for _ in range(2):
                            label = str(acknowledged + 1)
                            writer.write(put=[JANE._replace(labels=(label,))])
                            acknowledged += 1
            except ReconcileError:
                pass
            store.close()
        fresh = memory_store(objects)
        assert acknowledged <= fresh.header().serial <= acknowledged + 1, number
        record = fresh.record("qa-jane")
        assert (record is None) == (fresh.header().serial == 0)
        assert record is None or record.labels == (str(fresh.header().serial),), number
        if not fault.has_struck:
            break
    assert number > 50
