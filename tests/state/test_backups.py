"""Copies of a state file beside it."""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.state.backups import BACKUPS
from reconciler.state.sqlite import SqliteStore
from tests.support.clock import ManualClock
from tests.support.states import (
    JANE,
    US,
    put,
)


def test_a_backup_is_a_state_of_its_own_named_by_time_and_serial(
    path: Path, clock: ManualClock
) -> None:
    store = SqliteStore(path, environment="test", clock=clock)
    put(store, JANE)
    with store.lock(US) as writer:
        copy = writer.backup()
        writer.write(remove=["qa-jane"])
    assert copy == f"{path}.backup-20231114T221320Z-1"
    assert list(SqliteStore(Path(copy), environment="test").records()) == [
        JANE._replace(revision=1)
    ]


def test_a_backup_copied_into_the_place_of_its_state_is_noticed_and_numbered_anew(
    path: Path, clock: ManualClock
) -> None:
    store = SqliteStore(path, environment="test", clock=clock)
    put(store, JANE)
    with store.lock(US) as writer:
        backup = writer.backup()
    assert backup is not None
    before = put(store, JANE._replace(protect=True))
    store.close()
    path.write_bytes(Path(backup).read_bytes())
    assert store.is_copy()
    assert store.header().serial < before.serial
    with store.lock(US):
        pass
    assert not store.is_copy()
    (record,) = store.records()
    assert record == JANE._replace(revision=store.header().serial)
    assert record.revision > 1_000_000


def test_a_damaged_state_is_set_aside_with_its_journal(path: Path, clock: ManualClock) -> None:
    store = SqliteStore(path, environment="test", clock=clock)
    names = []
    for _ in range(2):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no state")
        path.with_name("test.db-journal").write_bytes(b"its journal")
        names.append([name.name for name in store.set_aside()])
    first = "test.db.damaged-20231114T221320Z"
    assert names == [[first, f"{first}-journal"], [f"{first}-2", f"{first}-2-journal"]]
    assert not path.exists()
    put(store, JANE)


def test_there_is_nothing_to_back_up_before_the_first_write(path: Path) -> None:
    with SqliteStore(path, environment="test").lock(US) as writer:
        assert writer.backup() is None
    assert os.listdir(path.parent) == ["test.db"]


def test_only_the_newest_backups_are_kept_and_other_files_are_left_alone(
    path: Path, clock: ManualClock
) -> None:
    store = SqliteStore(path, environment="test", clock=clock)
    put(store, JANE)
    other = path.with_name("test.db.backup-of-mine")
    other.write_text("keep")
    created = []
    for _ in range(BACKUPS + 3):
        clock.time += 1
        with store.lock(US) as writer:
            created.append(writer.backup())
    assert sorted(map(str, path.parent.glob("test.db.backup-2*"))) == created[3:]
    assert other.exists()


def test_a_backup_just_made_survives_rotation_though_the_clock_went_back(
    path: Path, clock: ManualClock
) -> None:
    store = SqliteStore(path, environment="test", clock=clock)
    put(store, JANE)
    for _ in range(BACKUPS + 1):
        clock.time -= 1000
        with store.lock(US) as writer:
            copy = writer.backup()
        assert copy is not None
        assert os.path.exists(copy)
