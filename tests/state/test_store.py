"""The state store: one contract for both stores, then what only a file can do or suffer."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.digests import known_digest
from reconciler.core.records import (
    Export,
    Fact,
    Header,
    JournalEntry,
    JournalKind,
    Known,
    Record,
    Run,
)
from reconciler.errors import ReconcileError, Refused, Source, StateRefused
from reconciler.state.backups import BACKUPS
from reconciler.state.memory import MemoryStore
from reconciler.state.sqlite import SqliteStore
from reconciler.state.sqlite_format import STATE_FORMAT_VERSION
from reconciler.state.store import LEASE, Holder, Locked, LockLost
from tests.support.clock import ManualClock

ROOT = Path(__file__).parent.parent.parent
US = Holder(user="ann", host="here", pid=os.getpid(), command="reconcile apply")
OTHER_HOST = US._replace(user="bob", host="elsewhere", pid=1)
JANE = Record("qa-jane", customer_user_id="qa-jane", facts={"email": Fact.of("jane@example.com")})
NEWER = STATE_FORMAT_VERSION + 1
ZOE = Record("qa-zoe", customer_user_id="qa-zoe")

Store = SqliteStore | MemoryStore


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "test.db"


Open = Callable[..., Store]


@pytest.fixture(params=["sqlite", "memory"])
def open_store(request: pytest.FixtureRequest, path: Path, clock: ManualClock) -> Iterator[Open]:
    """Opens a store of each kind. Options that one kind does not have (a page size in memory) are left
    out."""
    stores: list[Store] = []

    def open_(*, page_size: int | None = None, **options: Any) -> Store:
        ids = (f"id-{number}" for number in itertools.count(1))
        options |= {"environment": "test", "new_id": lambda: next(ids), "clock": clock}
        if request.param == "sqlite":
            paged = {} if page_size is None else {"page_size": page_size}
            stores.append(SqliteStore(path, **options, **paged))
        else:
            stores.append(MemoryStore(**options))
        return stores[-1]

    yield open_
    for each in stores:
        each.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


@pytest.fixture
def file(path: Path) -> Iterator[SqliteStore]:
    """A store whose file exists and holds one profile."""
    new = SqliteStore(path, environment="test")
    put(new, JANE)
    yield new
    new.close()


def put(store: Store, *records: Record) -> Header:
    with store.lock(US) as writer:
        return writer.write(put=records)


def entry(
    run: str, address: str = "qa-jane", kind: JournalKind = JournalKind.INTENT
) -> JournalEntry:
    return JournalEntry(
        run, address, kind, at=1.5, action="update", request="sha256:0", detail="id 7"
    )


# --- the contract --------------------------------------------------------------------------------


def test_a_store_without_writes_has_an_empty_header(store: Store) -> None:
    assert store.header() == Header()
    assert list(store.records()) == []
    assert list(store.journal()) == []
    assert list(store.runs()) == []
    assert store.record("qa-jane") is None
    assert store.locked() is None


def test_a_lock_alone_does_not_begin_a_lineage(store: Store) -> None:
    with store.lock(US):
        pass
    assert store.header() == Header()


def test_the_first_write_begins_the_lineage_and_later_ones_keep_it(store: Store) -> None:
    first, second = put(store, JANE), put(store, ZOE)
    assert first.lineage is not None
    assert (first.serial, second.serial) == (1, 2)
    assert second.lineage == first.lineage
    assert store.header() == second == first._replace(serial=2)
    assert second.environment == "test"


def test_a_record_comes_back_as_it_was_put(store: Store) -> None:
    record = Record(
        "profile:3fa85f64-5717-4562-b3fc-2c963f66afa6",
        profile_id="3fa85f64-5717-4562-b3fc-2c963f66afa6",
        facts={
            "custom_attributes.level": Fact.of(5.0, observed=True),
            "analytics_disabled": Fact.of(True),
            "email": Fact(Known.UNCERTAIN, value="a@example.com", attempt="b@example.com"),
            "last_name": Fact.of(None),
            "first_name": Fact.of("Zoë \0 \U0001f600"),
        },
        forgotten=frozenset({"birthday"}),
        unmanaged=("other",),
        protect=True,
        labels=("qa",),
        platform="iOS",
        source=Source("profiles/jane.yaml", 3),
        unknown_at=12.5,
        unknown_write={"email": "b@example.com", "last_name": None},
    )
    put(store, record)
    assert store.record(record.address) == record._replace(revision=1)
    assert list(store.records()) == [record._replace(revision=1)]


def test_records_come_by_address_in_code_point_order(store: Store) -> None:
    addresses = ["b", "a", "Z", "profile:1", "a.b", "a b"]
    put(store, *map(Record, addresses))
    assert [record.address for record in store.records()] == sorted(addresses)


def test_more_records_than_one_page_come_once_each(open_store: Open) -> None:
    store = open_store(page_size=3)
    addresses = [f"qa-{number}" for number in range(9)]
    put(store, *map(Record, addresses))
    assert [record.address for record in store.records()] == addresses


def test_the_journal_reaches_back_as_many_runs_as_are_kept(open_store: Open) -> None:
    store = open_store(kept_runs=3)
    with store.lock(US) as writer:
        for number in range(5):
            writer.write(
                journal=[entry(f"run-{number}"), entry(f"run-{number}", kind=JournalKind.APPLIED)]
            )
            writer.finish(Run(f"run-{number}", 1.0, 2.0, "sha256:0", {"applied": 1}))
        writer.write(journal=[entry("run-5")])
    assert [each.run for each in store.journal()] == [
        "run-2", "run-2", "run-3", "run-3", "run-4", "run-4", "run-5",
    ]  # fmt: skip
    assert len(list(store.runs())) == 5


def test_interrupted_addresses_are_those_that_the_last_run_began_and_did_not_end(
    store: Store,
) -> None:
    assert list(store.interrupted_addresses()) == []
    with store.lock(US) as writer:
        writer.write(journal=[entry("run-1", "a"), entry("run-1", "b")])
        writer.write(journal=[entry("run-1", "a", JournalKind.APPLIED)])
        assert list(store.interrupted_addresses()) == ["b"]
        writer.finish(Run("run-1", 1.0, 2.0, "sha256:0", {}))
        assert list(store.interrupted_addresses()) == []
        writer.write(journal=[entry("run-2", "c")])
        assert list(store.interrupted_addresses()) == ["c"]


def test_records_of_some_addresses_are_read_together(store: Store) -> None:
    put(store, JANE, ZOE)
    found = store.records_of(["qa-zoe", "nobody"])
    assert found == {"qa-zoe": ZOE._replace(revision=1)}
    assert store.records_of([]) == {}


def test_more_journal_than_one_page_comes_once_each(open_store: Open) -> None:
    store = open_store(page_size=2)
    entries = [entry(f"run-{number % 2}", f"qa-{number}") for number in range(9)]
    with store.lock(US) as writer:
        writer.write(journal=entries)
    assert list(store.journal()) == entries
    assert list(store.journal(run="run-1")) == entries[1::2]


@pytest.mark.parametrize("page_size", [1, 2, 10_000])
def test_known_digests_come_by_address_within_the_bounds(open_store: Open, page_size: int) -> None:
    store = open_store(page_size=page_size)
    records = [Record(address, customer_user_id=address) for address in ("b", "a", "Z", "é", "😀")]
    uncertain = JANE._replace(facts={"email": Fact(Known.UNCERTAIN, attempt="a@b.c")})
    put(store, *records, uncertain)
    expected = {record.address: known_digest(record) for record in [*records, uncertain]}
    assert expected["qa-jane"] is None
    assert list(store.known_digests()) == sorted(expected.items())
    assert [address for address, _ in store.known_digests("a", "qa-jane")] == ["a", "b"]
    assert [address for address, _ in store.known_digests("qa-jane")] == ["qa-jane", "é", "😀"]
    assert store.known_digests_of(["b", "nobody", "qa-jane"]) == {
        "b": expected["b"],
        "qa-jane": None,
    }


def test_a_store_without_records_has_no_known_digests(store: Store) -> None:
    assert list(store.known_digests()) == []
    assert store.known_digests_of(["qa-jane"]) == {}


def test_a_known_digest_follows_its_record(store: Store) -> None:
    """Put, changed, uncertain, certain again, removed, and replaced by an export."""
    attempt = Fact(Known.UNCERTAIN, value="jane@example.com", attempt="j@example.com")
    moves = [
        JANE,
        JANE._replace(facts={"email": Fact.of("j@example.com")}),
        JANE._replace(facts={"email": attempt}),
        JANE._replace(facts={}),
        JANE._replace(facts={}, protect=True),
    ]
    for record in moves:
        put(store, record)
        assert store.known_digests_of(["qa-jane"]) == {"qa-jane": known_digest(record)}
    with store.lock(US) as writer:
        writer.write(remove=["qa-jane"])
        assert list(store.known_digests()) == []
        writer.replace(Export(store.header(), (JANE, ZOE)))
    assert list(store.known_digests()) == [
        ("qa-jane", known_digest(JANE)),
        ("qa-zoe", known_digest(ZOE)),
    ]


def test_writing_while_records_are_read_is_possible(open_store: Open) -> None:
    store = open_store(page_size=1)
    put(store, JANE, ZOE)
    reading = store.records()
    next(reading)
    put(store, JANE._replace(protect=True))
    assert [record.address for record in reading] == ["qa-zoe"]


def test_a_changed_record_gets_the_next_revision(store: Store) -> None:
    put(store, JANE)
    put(store, JANE._replace(protect=True, revision=0))
    record = store.record("qa-jane")
    assert record is not None
    assert (record.protect, record.revision) == (True, 2)


def test_an_unchanged_record_keeps_its_revision(store: Store) -> None:
    put(store, JANE)
    put(store, JANE._replace(revision=9))
    assert store.record("qa-jane") == JANE._replace(revision=1)


def test_types_of_equal_numbers_make_a_difference(store: Store) -> None:
    put(store, JANE._replace(facts={"a": Fact.of(True)}))
    put(store, JANE._replace(facts={"a": Fact.of(1.0)}))
    record = store.record("qa-jane")
    assert record is not None
    assert type(record.facts["a"].value) is float
    assert record.revision == 2


def test_a_revision_never_repeats_after_removal(store: Store) -> None:
    put(store, JANE)
    put(store, JANE._replace(protect=True))
    with store.lock(US) as writer:
        writer.write(remove=["qa-jane"])
    put(store, JANE)
    record = store.record("qa-jane")
    assert record is not None
    assert record.revision > 2


def test_removed_records_are_gone_and_unknown_ones_do_not_matter(store: Store) -> None:
    put(store, JANE, ZOE)
    with store.lock(US) as writer:
        writer.write(remove=["qa-jane", "never-was"])
    assert [record.address for record in store.records()] == ["qa-zoe"]


def test_an_address_both_removed_and_put_is_put_anew(store: Store) -> None:
    put(store, JANE)
    with store.lock(US) as writer:
        writer.write(put=[JANE], remove=["qa-jane"])
    assert store.record("qa-jane") == JANE._replace(revision=2)


def test_the_journal_keeps_its_order_and_can_be_read_by_run(store: Store) -> None:
    with store.lock(US) as writer:
        writer.write(journal=[entry("one"), entry("two")])
        writer.write(journal=[entry("one", kind=JournalKind.APPLIED)])
    assert list(store.journal()) == [
        entry("one"),
        entry("two"),
        entry("one", kind=JournalKind.APPLIED),
    ]
    assert list(store.journal(run="one")) == [entry("one"), entry("one", kind=JournalKind.APPLIED)]


def test_the_history_lists_runs_and_leaves_the_serial(store: Store) -> None:
    runs = [Run("one", 1.0, 2.5, "sha256:0", {"applied": 3}), Run("two", 3.0, 4.0, "sha256:1", {})]
    put(store, JANE)
    with store.lock(US) as writer:
        for run in runs:
            writer.finish(run)
    assert list(store.runs()) == runs
    assert store.header().serial == 1


def test_the_application_is_recorded_once_learned(store: Store) -> None:
    with store.lock(US) as writer:
        writer.write(application="app-1")
        writer.write(put=[JANE])
    assert store.header().application == "app-1"


def test_another_application_is_refused_and_nothing_is_written(store: Store) -> None:
    with store.lock(US) as writer:
        writer.write(application="app-1")
        with pytest.raises(StateRefused, match="another application"):
            writer.write(put=[JANE], application="app-2")
    assert store.record("qa-jane") is None
    assert store.header().serial == 1


@pytest.mark.parametrize(
    "bad",
    [
        Record("a", facts={"x": Fact.of(float("nan"))}),
        Record("\ud800"),
    ],
    ids=["not a number", "lone surrogate"],
)
def test_what_cannot_be_stored_is_refused_and_nothing_is_written(store: Store, bad: Record) -> None:
    with store.lock(US) as writer, pytest.raises(StateRefused, match="cannot be stored"):
        writer.write(put=[JANE, bad])
    assert store.header() == Header()
    assert list(store.records()) == []


def test_a_failing_source_of_records_leaves_nothing_behind(store: Store) -> None:
    def records() -> Iterator[Record]:
        yield JANE
        raise KeyError

    with store.lock(US) as writer, pytest.raises(KeyError):
        writer.write(put=records())
    assert store.header() == Header()


# The lock


def test_a_held_lock_says_who_where_and_since(store: Store, clock: ManualClock) -> None:
    with store.lock(US):
        lock = store.locked()
        assert lock is not None
        assert (lock.holder, lock.since, lock.expires) == (US, clock.time, clock.time + LEASE)


def test_a_second_lock_is_refused_naming_holder_host_since_and_the_way_out(store: Store) -> None:
    with store.lock(US), pytest.raises(Locked) as refused, store.lock(OTHER_HOST):
        pass
    assert refused.value.message == (
        f"the state is locked by ann on here (process {os.getpid()}) "
        "since 2023-11-14 22:13:20 UTC: reconcile apply"
    )
    assert f"`reconcile state unlock {refused.value.lock.id}`" in refused.value.hint


def test_a_holder_with_terminal_escapes_is_shown_not_obeyed(store: Store) -> None:
    with store.lock(US._replace(user="\x1b[2J")), pytest.raises(Locked) as refused, store.lock(US):
        pass
    assert "\x1b" not in refused.value.message


def test_the_lock_is_free_after_leaving_it_by_an_error(store: Store) -> None:
    with pytest.raises(KeyError), store.lock(US):
        raise KeyError
    assert store.locked() is None


def test_a_writer_is_worth_nothing_after_its_lock(store: Store) -> None:
    with store.lock(US) as writer:
        pass
    with pytest.raises(LockLost):
        writer.write(put=[JANE])


def test_a_lock_whose_lease_ran_out_is_taken_over_and_its_holder_cannot_write(
    store: Store, clock: ManualClock
) -> None:
    with store.lock(US) as paused:
        clock.time += LEASE
        with store.lock(OTHER_HOST) as writer:
            writer.write(put=[JANE])
            assert (paused.holds(), writer.holds()) == (False, True)
            for attempt in (
                lambda: paused.write(put=[ZOE]),
                lambda: paused.finish(Run("r", 0, 0, "", {})),
                lambda: paused.replace(Export(Header(), ())),
                paused.backup,
                paused.renew,
            ):
                with pytest.raises(LockLost):
                    attempt()
    assert [record.address for record in store.records()] == ["qa-jane"]


def test_the_token_stops_an_overtaken_holder_even_if_lock_ids_repeat(
    path: Path, clock: ManualClock
) -> None:
    store = SqliteStore(path, environment="test", new_id=lambda: "same", clock=clock)
    with store.lock(US) as paused:
        clock.time += LEASE
        with store.lock(OTHER_HOST), pytest.raises(LockLost):
            paused.write(put=[JANE])


def test_a_holder_who_was_overtaken_does_not_free_the_new_lock(
    store: Store, clock: ManualClock
) -> None:
    old = store.lock(US)
    old.__enter__()
    clock.time += LEASE
    with store.lock(OTHER_HOST):
        old.__exit__(None, None, None)
        lock = store.locked()
        assert lock is not None
        assert lock.holder == OTHER_HOST


def test_a_holder_past_its_lease_whom_nobody_overtook_may_write(
    store: Store, clock: ManualClock
) -> None:
    with store.lock(US) as writer:
        clock.time += 10 * LEASE
        writer.write(put=[JANE])
    assert store.header().serial == 1


@pytest.mark.parametrize("sign", ["write", "renew"])
def test_signs_of_life_extend_the_lease(store: Store, clock: ManualClock, sign: str) -> None:
    with store.lock(US) as writer:
        clock.time += LEASE - 1
        getattr(writer, sign)()
        assert writer.holds()
        clock.time += LEASE - 1
        with pytest.raises(Locked), store.lock(OTHER_HOST):
            pass


def test_a_lock_of_a_dead_process_of_this_host_is_taken_over(store: Store) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    abandoned = store.lock(US._replace(pid=dead.pid))
    abandoned.__enter__()
    dead.wait()
    with store.lock(US) as writer:
        writer.renew()


def test_a_lock_of_an_unknown_process_of_another_host_waits_for_its_lease(store: Store) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with (
        store.lock(OTHER_HOST._replace(pid=dead.pid)),
        pytest.raises(Locked),
        store.lock(US),
    ):
        pass


def test_unlock_takes_the_id_and_stops_the_old_holder(store: Store) -> None:
    with store.lock(US) as writer:
        lock = store.locked()
        assert lock is not None
        store.unlock(lock.id)
        assert store.locked() is None
        with pytest.raises(LockLost):
            writer.write(put=[JANE])


def test_unlock_with_another_id_is_refused_and_changes_nothing(store: Store) -> None:
    with store.lock(US) as writer:
        with pytest.raises(Refused, match="another lock"):
            store.unlock("wrong")
        writer.write(put=[JANE])


def test_unlock_without_a_lock_is_refused(store: Store) -> None:
    with pytest.raises(Refused, match="not locked"):
        store.unlock("any")


# Pushing an export


def exported(store: Store) -> Export:
    return Export(store.header(), tuple(store.records()))


def test_a_pushed_export_takes_the_place_of_all_records(store: Store) -> None:
    put(store, JANE)
    export = exported(store)
    put(store, JANE._replace(protect=True), ZOE)
    with store.lock(US) as writer:
        header = writer.replace(export)
    assert [record.address for record in store.records()] == ["qa-jane"]
    assert header == store.header() == export.header._replace(serial=3)


def test_a_record_changed_by_a_push_gets_a_revision_never_seen(store: Store) -> None:
    put(store, JANE)
    export = exported(store)
    put(store, JANE._replace(protect=True))
    with store.lock(US) as writer:
        writer.replace(export)
    record = store.record("qa-jane")
    assert record is not None
    assert record.revision > 2


def test_a_push_of_what_is_there_changes_only_the_serial(store: Store) -> None:
    put(store, JANE)
    put(store, ZOE)
    export = exported(store)
    with store.lock(US) as writer:
        writer.replace(export)
    assert tuple(store.records()) == export.records
    assert store.header().serial == export.header.serial + 1


def test_a_push_into_an_empty_state_restores_lineage_records_and_revisions(store: Store) -> None:
    header = Header("lost", 7, "test", "app-1")
    with store.lock(US) as writer:
        writer.replace(Export(header, (JANE._replace(revision=4),)))
    assert store.header() == header._replace(serial=8)
    assert store.record("qa-jane") == JANE._replace(revision=4)


def test_a_push_of_another_lineage_is_refused_unless_forced(store: Store) -> None:
    put(store, ZOE)
    export = Export(Header("foreign", 3, "test"), (JANE,))
    with store.lock(US) as writer:
        with pytest.raises(StateRefused, match="lineage"):
            writer.replace(export)
        assert [record.address for record in store.records()] == ["qa-zoe"]
        header = writer.replace(export, force=True)
    assert (header.lineage, header.serial) == ("foreign", 4)
    assert [record.address for record in store.records()] == ["qa-jane"]


@pytest.mark.parametrize("force", [False, True])
def test_a_push_of_another_environment_is_always_refused(store: Store, force: bool) -> None:
    with store.lock(US) as writer, pytest.raises(StateRefused, match="environment"):
        writer.replace(Export(Header("l", 1, "production"), (JANE,)), force=force)


def test_a_push_of_another_application_is_refused(store: Store) -> None:
    with store.lock(US) as writer:
        header = writer.write(application="app-1")
        with pytest.raises(StateRefused, match="application"):
            writer.replace(Export(header._replace(application="app-2"), ()))


@pytest.mark.parametrize("serial", [-1, 2**53, 10**30])
def test_a_push_with_an_impossible_serial_is_refused(store: Store, serial: int) -> None:
    with store.lock(US) as writer, pytest.raises(StateRefused, match="serial"):
        writer.replace(Export(Header("l", serial, "test"), ()))


# --- the file ------------------------------------------------------------------------------------


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
    modes = [stat.S_IMODE(item.stat().st_mode) for item in (path.parent, path, copy)]
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


# Backups


def test_a_backup_is_a_state_of_its_own_named_by_time_and_serial(
    path: Path, clock: ManualClock
) -> None:
    store = SqliteStore(path, environment="test", clock=clock)
    put(store, JANE)
    with store.lock(US) as writer:
        copy = writer.backup()
        writer.write(remove=["qa-jane"])
    assert copy == path.with_name("test.db.backup-20231114T221320Z-1")
    assert list(SqliteStore(copy, environment="test").records()) == [JANE._replace(revision=1)]


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
    made = []
    for _ in range(BACKUPS + 3):
        clock.time += 1
        with store.lock(US) as writer:
            made.append(writer.backup())
    assert sorted(path.parent.glob("test.db.backup-2*")) == made[3:]
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
        assert copy.exists()


# What is refused


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


# Upgrades


def newer(path: Path, upgrade: object, clock: ManualClock) -> SqliteStore:
    """The store of a later program, whose format is one higher."""
    upgrades: Any = {STATE_FORMAT_VERSION: upgrade}
    return SqliteStore(path, environment="test", version=NEWER, upgrades=upgrades, clock=clock)


def add_label(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE label (x)")


def user_version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_the_lock_upgrades_an_older_state_and_keeps_a_copy(
    file: SqliteStore, clock: ManualClock
) -> None:
    put(newer(file.path, add_label, clock), ZOE)
    assert user_version(file.path) == NEWER
    copy = file.path.with_name("test.db.backup-20231114T221320Z-1")
    assert user_version(copy) == STATE_FORMAT_VERSION
    assert list(SqliteStore(copy, environment="test").records()) == [JANE._replace(revision=1)]
    assert len(list(newer(file.path, add_label, clock).records())) == 2


def test_an_upgrade_that_fails_changes_nothing(file: SqliteStore, clock: ManualClock) -> None:
    def broken(db: sqlite3.Connection) -> None:
        add_label(db)
        db.execute("SELECT * FROM nowhere")

    with pytest.raises(StateRefused):
        put(newer(file.path, broken, clock), ZOE)
    assert user_version(file.path) == STATE_FORMAT_VERSION
    assert list(file.records()) == [JANE._replace(revision=1)]
    assert file.locked() is None


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
