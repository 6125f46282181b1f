"""A store in a bucket, beyond what all stores promise: requests, large writes, backups, several processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.records import Export, Record, Run
from reconciler.errors import ReconcileError, StateRefused
from reconciler.state.objects.names import HEAD
from reconciler.state.objects.sealing import ObjectSealer
from reconciler.state.objects.store import ObjectStore
from reconciler.state.store import (
    CommitUnknown,
    Locked,
    LockLost,
    StateUnreachable,
)
from tests.support.clock import ManualClock
from tests.support.memory_bucket import Lost, MemoryBucket, Objects, Request, memory_store
from tests.support.states import JANE, OTHER_HOST, US, ZOE, entry, put


@pytest.fixture
def objects() -> Objects:
    return Objects(ManualClock(1_700_000_000.0))


def many(count: int, mark: str = "") -> list[Record]:
    return [Record(f"qa-{number:04d}", labels=(mark, "x" * 50)) for number in range(count)]


# Requests, which are the cost


def test_each_write_is_one_request(objects: Objects) -> None:
    with memory_store(objects).lock(US) as writer:
        objects.requests.clear()
        for number in range(5):
            writer.write(put=[JANE._replace(labels=(str(number),))], journal=[entry("r")])
        writer.finish(Run("r", 1.0, 2.0, "sha256:0", {}))
        assert dict(objects.requests) == {"create": 6}


def test_a_plan_with_a_cache_reads_three_objects_and_a_new_machine_some_more(
    objects: Objects, tmp_path: Path
) -> None:
    put(memory_store(objects, compact_after=1), JANE)
    for cache, expected in ((tmp_path / "c.db", None), (tmp_path / "c.db", 3)):
        objects.requests.clear()
        store = memory_store(objects, cache=cache)
        assert store.header().serial == 1
        list(store.known_digests())
        store.close()
        if expected is None:
            # Head, manifest, records; what comes after the snapshot, 16 at a time; head.
            assert dict(objects.requests) == {"get": 1 + 2 + 16 + 1}
        else:
            assert dict(objects.requests) == {"get": expected}


def test_a_lock_and_its_release_are_a_few_requests(objects: Objects) -> None:
    store = memory_store(objects)
    put(store, JANE)
    objects.requests.clear()
    with store.lock(US):
        pass
    assert dict(objects.requests) == {"get": 5, "list": 1, "create": 2}


def test_reading_changes_nothing_in_the_bucket(objects: Objects) -> None:
    store = memory_store(objects)
    assert store.stamp() is None
    assert store.locked() is None
    assert list(store.records()) == []
    assert objects.blobs == {}
    put(memory_store(objects), JANE)
    before = dict(objects.blobs)
    reader = memory_store(objects)
    assert reader.record("qa-jane") is not None
    reader.stamp(), list(reader.journal()), list(reader.backups()), reader.interrupted_addresses()
    assert objects.blobs == before


def test_a_store_that_ignores_conditions_is_refused_before_anything_is_written(
    objects: Objects,
) -> None:
    class Unfit(MemoryBucket):
        def self_test(self) -> None:
            raise StateRefused("unfit")

    store = ObjectStore(Unfit(objects), ObjectSealer(), environment="test")
    with pytest.raises(StateRefused, match="unfit"), store.lock(US):
        pass
    assert objects.blobs == {}


def test_the_store_is_tested_once(objects: Objects) -> None:
    bucket = MemoryBucket(objects)
    store = ObjectStore(bucket, ObjectSealer(), environment="test", clock=objects.clock)
    for _ in range(3):
        put(store, JANE)
    assert bucket.tests == 1


# Writes whose answer was lost


class Loses:
    """Loses the answers to requests that create objects while it is switched on, and those to all reads after
    them. ``takes_effect``: the objects are there all the same."""

    def __init__(self, *, takes_effect: bool) -> None:
        self._takes_effect = takes_effect
        self.is_on = False
        self._is_away = False

    def __call__(self, request: Request, effect: Callable[[], Any]) -> Any:
        if not self.is_on:
            self._is_away = False
        elif request.kind == "create":
            self._is_away = True
            if self._takes_effect:
                effect()
            raise Lost
        elif self._is_away and request.kind == "get":
            raise CommitUnknown("nobody knows")
        return effect()


@pytest.mark.parametrize("takes_effect", [True, False])
@pytest.mark.parametrize("later", ["write", "renew", "release"])
def test_a_write_of_unknown_outcome_is_settled_before_any_other(
    objects: Objects, takes_effect: bool, later: str
) -> None:
    loses = Loses(takes_effect=takes_effect)
    store = memory_store(objects, pass_=loses)
    with store.lock(US) as writer:
        writer.write(put=[ZOE])
        loses.is_on = True
        for _ in range(2):
            with pytest.raises(CommitUnknown):
                writer.write(put=[JANE], journal=[entry("r")])
        loses.is_on = False
        if later != "release":
            getattr(writer, later)()
    fresh = memory_store(objects)
    assert [record.address for record in fresh.records()] == ["qa-jane", "qa-zoe"]
    assert list(fresh.journal()) == [entry("r")]
    assert fresh.header().serial == 2 + (later == "write")
    assert fresh.locked() is None
    assert fresh.stamp() == store.stamp()


def test_a_lock_of_unknown_outcome_is_taken_by_the_next_attempt(objects: Objects) -> None:
    loses = Loses(takes_effect=True)
    store = memory_store(objects, pass_=loses)
    put(store, JANE)
    loses.is_on = True
    with pytest.raises(CommitUnknown), store.lock(US):
        pass
    loses.is_on = False
    with pytest.raises(Locked), memory_store(objects).lock(OTHER_HOST):
        pass
    put(store, ZOE)
    assert memory_store(objects).record("qa-zoe") is not None


def test_a_state_that_cannot_be_reached_is_not_written(objects: Objects) -> None:
    def fails(request: Request, effect: Callable[[], Any]) -> Any:
        if request.kind == "create" and "/log/" in request.name and writes[0]:
            raise StateUnreachable("away")
        return effect()

    writes = [False]
    with memory_store(objects, pass_=fails).lock(US) as writer:
        writes[0] = True
        with pytest.raises(StateUnreachable):
            writer.write(put=[JANE])
        writes[0] = False
        writer.write(put=[ZOE])
    assert [record.address for record in memory_store(objects).records()] == ["qa-zoe"]


def test_what_no_reader_could_apply_never_gets_into_the_log(objects: Objects) -> None:
    with memory_store(objects).lock(US) as writer:
        for bad in (entry("\ud800"), entry("r")._replace(at=float("nan"))):
            with pytest.raises(ReconcileError, match="cannot be stored"):
                writer.write(put=[JANE], journal=[bad])
        writer.write(put=[ZOE])
    assert [record.address for record in memory_store(objects).records()] == ["qa-zoe"]


# Large writes


def test_a_large_write_goes_into_objects_of_its_own_which_end_with_its_segment(
    objects: Objects,
) -> None:
    options = {"segment_bytes": 1000, "part_bytes": 1000, "compact_after": 1}
    store = memory_store(objects, **options)
    put(store, *many(50))
    bodies = [name for name in objects.blobs if "/body/" in name]
    assert len(bodies) > 5
    assert list(memory_store(objects).records()) == [r._replace(revision=1) for r in many(50)]
    assert list(memory_store(objects).known_digests()) == list(store.known_digests())
    put(store, *many(3, "new"))
    assert list(memory_store(objects).records()) == list(store.records())
    put(store, ZOE)
    assert not any("/body/" in name for name in objects.blobs)
    assert [record.address for record in memory_store(objects).records()][-1] == "qa-zoe"


def test_a_large_export_is_put_in_place_and_a_small_edit_of_it_is_a_small_segment(
    objects: Objects,
) -> None:
    options = {"segment_bytes": 1000, "part_bytes": 1000}
    store = memory_store(objects, **options)
    with store.lock(US) as writer:
        writer.replace(Export(store.header(), tuple(many(50))))
        bodies = sum("/body/" in name for name in objects.blobs)
        export = Export(store.header(), tuple(store.records()))
        edited = export.records[0]._replace(protect=True)
        writer.replace(export._replace(records=(edited, *export.records[2:])))
    assert sum("/body/" in name for name in objects.blobs) == bodies
    fresh = memory_store(objects)
    assert list(fresh.records()) == list(store.records())
    assert len(list(fresh.records())) == 49
    assert fresh.header() == store.header()


# Backups


def test_ten_backups_are_kept_and_the_objects_of_older_ones_go(objects: Objects) -> None:
    store = memory_store(objects)
    for number in range(12):
        objects.clock.time += 60  # type: ignore[attr-defined]
        with store.lock(US) as writer:
            writer.write(put=[JANE._replace(labels=(str(number),))])
            words = writer.backup()
    backups = store.backups()
    assert [backup.serial for backup in backups] == list(range(12, 2, -1))
    assert all(backup.size for backup in backups)
    assert words is not None
    assert backups[0].id in words
    kept = {name.split("/")[2].rpartition("-")[0] for name in objects.blobs if "/backup/" in name}
    assert kept == {backup.id for backup in backups}


def test_a_damaged_backup_is_refused(objects: Objects) -> None:
    store = memory_store(objects)
    with store.lock(US) as writer:
        writer.write(put=[JANE])
        writer.backup()
        for name, blob in list(objects.blobs.items()):
            if "/backup/" in name:
                objects.put(name, blob.data[:-1])
        with pytest.raises(StateRefused, match=r"backup .* is damaged"):
            writer.restore(store.backups()[0].id)
        assert store.record("qa-jane") is not None


def test_objects_that_a_killed_program_left_are_removed_and_nothing_else(objects: Objects) -> None:
    store = memory_store(objects, compact_after=1, segment_bytes=1000, part_bytes=1000)
    for number in range(3):
        put(store, *many(20, str(number)))
    with store.lock(US) as writer:
        writer.backup()
    incarnation = str(store.stamp()).partition(":")[0]
    needed = dict(objects.blobs)
    for name in (
        "snap/000000000099-dead",
        "snap/000000000099-dead/records/00000",
        "body/dead/00000",
    ):
        objects.put(f"{incarnation}/{name}", b"x")
    objects.put(f"{incarnation}/log/{1:012d}", b"x")
    before = list(store.records())
    with memory_store(objects, compact_after=1, tidy_after=1).lock(US):
        pass
    assert list(store.records()) == before
    assert set(needed) - set(objects.blobs) <= {
        name for name in needed if "/snap/" in name or "/log/" in name or "/body/" in name
    }
    assert not any("dead" in name for name in objects.blobs)
    assert list(memory_store(objects).records()) == list(store.records())
    assert HEAD in objects.blobs


# Several at once


def test_reads_beside_writes_and_compactions_see_all_that_was_confirmed(objects: Objects) -> None:
    confirmed, is_over = [0], threading.Event()
    store = memory_store(objects, compact_after=3)

    def writes() -> None:
        for number in range(60):
            with store.lock(US) as writer:
                for part in range(3):
                    header = writer.write(put=[JANE._replace(labels=(f"{number}-{part}",))])
                    confirmed[0] = header.serial
        is_over.set()

    thread = threading.Thread(target=writes)
    thread.start()
    warm, reads = memory_store(objects), 0
    while not is_over.is_set():
        for reader in (warm, memory_store(objects)):
            floor = confirmed[0]
            reader.stamp()
            assert reader.header().serial >= floor
            reader.close() if reader is not warm else None
            reads += 1
    thread.join()
    assert reads > 5


def test_processes_take_turns_and_count_without_a_gap(objects: Objects) -> None:
    def turns(number: int) -> None:
        store = memory_store(objects, compact_after=10)
        holder = US._replace(host=f"host-{number}", pid=1)
        for turn in range(15):
            with store.lock(holder, wait=60.0) as writer:
                record = store.record("counter")
                count = int(record.labels[0]) if record else 0
                writer.write(
                    put=[Record("counter", labels=(str(count + 1),))],
                    journal=[entry("r", f"{number}-{turn}")],
                )

    threads = [threading.Thread(target=turns, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    final = memory_store(objects)
    record = final.record("counter")
    assert record is not None
    assert record.labels == ("45",)
    assert sorted(each.address for each in final.journal()) == sorted(
        f"{number}-{turn}" for number in range(3) for turn in range(15)
    )


def test_two_stores_with_one_cache_file_do_not_disturb_each_other(
    objects: Objects, tmp_path: Path
) -> None:
    cache = tmp_path / "cache.db"
    first, second = memory_store(objects, cache=cache), memory_store(objects, cache=cache)
    put(first, JANE)
    put(second, ZOE)
    assert [record.address for record in second.records()] == ["qa-jane", "qa-zoe"]
    assert first.stamp() == second.stamp()
    assert [record.address for record in first.records()] == ["qa-jane", "qa-zoe"]
    first.close(), second.close()


def test_an_overtaken_writer_neither_writes_nor_backs_up_nor_releases(objects: Objects) -> None:
    clock = objects.clock
    late = memory_store(objects)
    with late.lock(US) as writer:
        writer.write(put=[JANE])
        clock.time += 60  # type: ignore[attr-defined]
        with memory_store(objects, compact_after=1).lock(OTHER_HOST) as other:
            for attempt in (writer.renew, writer.backup, lambda: writer.write(put=[ZOE])):
                with pytest.raises(LockLost):
                    attempt()
            other.write(put=[ZOE._replace(protect=True)])
    assert memory_store(objects).record("qa-zoe") == ZOE._replace(protect=True, revision=2)


# Sealed objects


def test_no_altered_or_exchanged_object_is_believed_under_a_key(objects: Objects) -> None:
    key = os.urandom(32)
    sealed = {"sealer": ObjectSealer(key)}
    put(memory_store(objects, **sealed), JANE)
    put(memory_store(objects, **sealed), ZOE)
    whole = dict(objects.blobs)
    assert not any(b"jane" in blob.data or b"ann" in blob.data for blob in whole.values())
    segments = sorted(name for name in whole if "/log/" in name)

    def refused(sealer: ObjectSealer) -> None:
        with pytest.raises(StateRefused):
            list(memory_store(objects, sealer=sealer).records())
        objects.blobs = dict(whole)

    for name in (HEAD, segments[1]):
        data = whole[name].data
        for place in range(0, len(data), 97):
            objects.put(name, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            refused(ObjectSealer(key))
    objects.blobs[segments[1]] = whole[segments[4]]
    refused(ObjectSealer(key))
    refused(ObjectSealer(os.urandom(32)))
    refused(ObjectSealer())
    newer = ObjectSealer(os.urandom(32), older=[key])
    put(memory_store(objects, sealer=newer), JANE._replace(protect=True))
    assert memory_store(objects, sealer=newer).record("qa-zoe") == ZOE._replace(revision=2)


def test_a_plain_state_is_refused_under_a_key(objects: Objects) -> None:
    put(memory_store(objects, sealer=ObjectSealer()), JANE)
    with pytest.raises(StateRefused):
        memory_store(objects, sealer=ObjectSealer(os.urandom(32))).header()
