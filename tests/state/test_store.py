"""The contract of every store: records, journal, lock, and exports put in place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.digests import known_digest
from reconciler.core.records import (
    Export,
    Fact,
    Header,
    JournalKind,
    Known,
    Record,
    Run,
    RunStarter,
)
from reconciler.errors import Refused, Source, StateRefused
from reconciler.state.memory import MemoryStore
from reconciler.state.store import LEASE, Lock, Locked, LockLost, StateMoved, Store
from tests.support.clock import ManualClock
from tests.support.states import (
    JANE,
    OTHER_HOST,
    US,
    ZOE,
    OpenStore,
    entry,
    put,
)


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


def test_more_records_than_one_page_come_once_each(open_store: OpenStore) -> None:
    store = open_store(page_size=3)
    addresses = [f"qa-{number}" for number in range(9)]
    put(store, *map(Record, addresses))
    assert [record.address for record in store.records()] == addresses


def test_the_journal_reaches_back_as_many_runs_as_are_kept(open_store: OpenStore) -> None:
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
        writer.write(journal=[entry("run-1", "a", kind=JournalKind.APPLIED)])
        assert list(store.interrupted_addresses()) == ["b"]
        writer.finish(Run("run-1", 1.0, 2.0, "sha256:0", {}))
        assert list(store.interrupted_addresses()) == []
        writer.write(journal=[entry("run-2", "c")])
        assert list(store.interrupted_addresses()) == ["c"]


def test_records_of_some_addresses_are_read_together(store: Store) -> None:
    put(store, JANE, ZOE)
    selected = store.records_of(["qa-zoe", "nobody"])
    assert selected == {"qa-zoe": ZOE._replace(revision=1)}
    assert store.records_of([]) == {}


def test_more_journal_than_one_page_comes_once_each(open_store: OpenStore) -> None:
    store = open_store(page_size=2)
    entries = [entry(f"run-{number % 2}", f"qa-{number}") for number in range(9)]
    with store.lock(US) as writer:
        writer.write(journal=entries)
    assert list(store.journal()) == entries
    assert list(store.journal(run="run-1")) == entries[1::2]


@pytest.mark.parametrize("page_size", [1, 2, 10_000])
def test_known_digests_come_by_address_within_the_bounds(
    open_store: OpenStore, page_size: int
) -> None:
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


def test_writing_while_records_are_read_is_possible(open_store: OpenStore) -> None:
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
    starter = RunStarter("jane", "ci-7", "https://ci.example/1", "0123abc")
    runs = [
        Run("one", 1.0, 2.5, "sha256:0", {"applied": 3}, starter),
        Run("two", 3.0, 4.0, "sha256:1", {}),
    ]
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
                lambda: paused.mark_moved("sqlite:///elsewhere"),
                paused.backup,
                paused.renew,
            ):
                with pytest.raises(LockLost):
                    attempt()
    assert [record.address for record in store.records()] == ["qa-jane"]


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
    put(store, JANE, ZOE)
    export = exported(store)
    with store.lock(US) as writer:
        header = writer.replace(export._replace(records=export.records[:1]))
    assert [record.address for record in store.records()] == ["qa-jane"]
    assert header == store.header() == export.header._replace(serial=2)


def test_a_record_changed_by_a_push_gets_a_revision_never_seen(store: Store) -> None:
    put(store, JANE)
    put(store, JANE._replace(protect=True), ZOE)
    export = exported(store)
    with store.lock(US) as writer:
        writer.replace(export._replace(records=(JANE, export.records[1])))
    assert {record.address: record.revision for record in store.records()} == {
        "qa-jane": 3,
        "qa-zoe": 2,
    }


def test_a_push_of_an_older_export_is_refused_unless_forced(store: Store) -> None:
    put(store, JANE)
    export = exported(store)
    put(store, JANE._replace(protect=True), ZOE)
    with store.lock(US) as writer:
        with pytest.raises(StateRefused, match="its serial is 1, that of the state is 2"):
            writer.replace(export)
        assert [record.address for record in store.records()] == ["qa-jane", "qa-zoe"]
        writer.replace(export, force=True)
    assert [record.address for record in store.records()] == ["qa-jane"]


@given(
    writes=st.lists(st.sampled_from(["change", "remove"]), min_size=1, max_size=4),
    more=st.lists(st.sampled_from(["change", "remove"]), max_size=4),
    elsewhere=st.booleans(),
)
@settings(max_examples=30)
def test_serials_and_revisions_do_not_repeat_after_a_restore(
    writes: list[str], more: list[str], elsewhere: bool
) -> None:
    """A state goes on after it was exported; the export is restored, in its place or elsewhere, where
    nothing is known of what happened since; then that one goes on too."""
    clock = ManualClock(1_700_000_000.0)
    first = MemoryStore(environment="test", clock=clock)
    put(first, JANE, ZOE)
    export = exported(first)
    before = _numbers_while_going_on(first, writes)
    clock.time += 1
    second = MemoryStore(environment="test", clock=clock) if elsewhere else first
    with second.lock(US) as writer:
        writer.replace(export, force=True)
    assert [record.address for record in second.records()] == ["qa-jane", "qa-zoe"]
    after = _numbers_while_going_on(second, more)
    assert not before & after


def _numbers_while_going_on(store: Store, writes: list[str]) -> set[tuple[str, int]]:
    """The serials of the state and the revisions of its records, at first and after each write."""
    numbers: set[tuple[str, int]] = set()
    for number, write in enumerate(["nothing", *writes]):
        with store.lock(US) as writer:
            if write == "remove":
                writer.write(remove=["qa-jane"])
            elif write == "change":
                writer.write(put=[JANE._replace(platform=f"p{number}")])
        numbers.add(("", store.header().serial))
        numbers |= {(record.address, record.revision) for record in store.records()}
    return numbers


def test_renumbering_raises_the_serial_and_every_revision_above_all_before(store: Store) -> None:
    put(store, JANE)
    put(store, JANE._replace(protect=True), ZOE)
    before = exported(store)
    with store.lock(US) as writer:
        header = writer.renumber(above=2**52)
    assert header == store.header() == before.header._replace(serial=2**52 + 1)
    assert tuple(store.records()) == tuple(
        record._replace(revision=header.serial) for record in before.records
    )
    assert put(store, ZOE._replace(protect=True)).serial == header.serial + 1


# Stamps


def test_the_stamp_stays_with_everything_that_changes_no_record(store: Store) -> None:
    put(store, JANE)
    stamp = store.stamp()
    assert stamp is not None
    with store.lock(US) as writer:
        assert store.stamp() == stamp
        writer.renew()
        writer.write(put=[JANE], remove=["never-was"], journal=[entry("one")], application="app-1")
        writer.finish(Run("one", 1.0, 2.0, "sha256:0", {}))
        writer.backup()
    with store.lock(US):
        lock = store.locked()
        assert lock is not None
        store.unlock(lock.id)
    assert store.stamp() == stamp


def test_each_change_of_records_gives_a_stamp_that_was_never_there(store: Store) -> None:
    stamps = [store.stamp()]
    changed = JANE._replace(protect=True)

    def note() -> None:
        stamps.append(store.stamp())

    with store.lock(US) as writer:
        for write in (
            lambda: writer.write(put=[JANE]),
            lambda: writer.write(put=[changed]),
            lambda: writer.write(put=[JANE]),  # the same content as before, with another revision
            lambda: writer.write(remove=["qa-jane"]),
            lambda: writer.replace(Export(store.header(), (JANE, ZOE))),
            lambda: writer.renumber(above=0),
        ):
            write()
            note()
    assert len(set(stamps)) == len(stamps)


# Backups


def test_a_store_without_backups_lists_none(store: Store) -> None:
    with store.lock(US) as writer:
        assert writer.backup() is None
    assert list(store.backups()) == []


def test_a_backup_is_listed_and_can_be_put_back(store: Store, clock: ManualClock) -> None:
    put(store, JANE, ZOE)
    with store.lock(US) as writer:
        assert writer.backup()
    clock.time += 1
    put(store, JANE._replace(protect=True))
    with store.lock(US) as writer:
        writer.write(remove=["qa-zoe"])
        writer.backup()
    before = store.header()
    newest, first = store.backups()
    assert (newest.serial, first.serial) == (3, 1)
    assert (newest.made, first.made) == (clock.time, clock.time - 1)
    clock.time += 1
    with store.lock(US) as writer:
        header = writer.restore(first.id)
    assert [record.address for record in store.records()] == ["qa-jane", "qa-zoe"]
    assert [record.protect for record in store.records()] == [False, False]
    assert header == store.header()
    assert header.lineage == before.lineage
    assert header.serial > before.serial


def test_a_backup_that_there_is_not_is_refused_and_nothing_changes(store: Store) -> None:
    put(store, JANE)
    with store.lock(US) as writer, pytest.raises(Refused, match="there is no backup"):
        writer.restore("20231114T221320Z-7")
    assert store.header().serial == 1


# A state that was moved


def test_a_state_that_was_moved_is_locked_by_nobody_and_says_where_it_is(store: Store) -> None:
    put(store, JANE)
    assert store.moved_to() is None
    with store.lock(US) as writer:
        writer.mark_moved("s3://bucket/there")
        writer.renew()
    assert store.moved_to() == "s3://bucket/there"
    with pytest.raises(StateMoved, match="s3://bucket/there"), store.lock(US):
        pass
    with store.lock(US, even_moved=True) as writer:
        writer.mark_moved(None)
    assert store.moved_to() is None
    put(store, ZOE)


# Waiting


def test_the_lock_is_waited_for_until_it_is_free(open_store: OpenStore) -> None:
    store, other = open_store(), open_store()
    held = store.lock(US)
    held.__enter__()
    waits = []

    def release(lock: Lock) -> None:
        waits.append(lock.holder)
        held.__exit__(None, None, None)

    with other.lock(OTHER_HOST, wait=30.0, on_wait=release) as writer:
        writer.write(put=[JANE])
    assert waits == [US]


def test_the_wait_for_a_lock_ends(store: Store) -> None:
    waits = []
    with store.lock(US):
        with pytest.raises(Locked), store.lock(OTHER_HOST, wait=0.2, on_wait=waits.append):
            pass
        with pytest.raises(KeyError), store.lock(OTHER_HOST, wait=30.0, on_wait=_interrupted):
            pass
    assert len(waits) >= 1


def _interrupted(lock: Lock) -> None:
    raise KeyError


def test_a_push_of_what_is_there_changes_only_the_serial(store: Store) -> None:
    put(store, JANE)
    put(store, ZOE)
    export = exported(store)
    with store.lock(US) as writer:
        writer.replace(export)
    assert tuple(store.records()) == export.records
    assert store.header().serial == export.header.serial + 1


def test_a_push_into_an_empty_state_restores_lineage_and_records(store: Store) -> None:
    header = Header("lost", 7, "test", "app-1")
    with store.lock(US) as writer:
        restored = writer.replace(Export(header, (JANE._replace(revision=4),)))
    assert store.header() == restored == header._replace(serial=restored.serial)
    assert restored.serial > 1_000_000
    assert store.record("qa-jane") == JANE._replace(revision=restored.serial)


def test_a_push_of_another_lineage_is_refused_unless_forced(store: Store) -> None:
    put(store, ZOE)
    export = Export(Header("foreign", 3, "test"), (JANE,))
    with store.lock(US) as writer:
        with pytest.raises(StateRefused, match="lineage"):
            writer.replace(export)
        assert [record.address for record in store.records()] == ["qa-zoe"]
        header = writer.replace(export, force=True)
    assert header.lineage == "foreign"
    assert header.serial > 1_000_000
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
