"""The log of a state in a bucket: no order of requests, no lost answer and no kill loses, mixes or invents a
write; and each rule of the log is needed for that."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from reconciler.errors import StateRefused
from reconciler.state.objects.names import HEAD, segment_name
from reconciler.state.store import Locked
from tests.support.clock import ManualClock
from tests.support.exploration import Budget, Scene, explore
from tests.support.memory_bucket import Objects, memory_store
from tests.support.object_scenes import CROWDS, SCENES, scene, writes
from tests.support.planted_objects import PLANTED
from tests.support.states import JANE, OTHER_HOST, US, ZOE, put


@pytest.mark.parametrize("name", sorted(SCENES))
def test_no_order_of_requests_loses_mixes_or_invents_a_write(name: str) -> None:
    report = explore(SCENES[name], Budget(switches=2), most_runs=2000)
    assert report.problems == ()
    assert report.is_complete


@pytest.mark.parametrize(
    "programs",
    [scene(writes, writes), scene(writes, writes, is_new=True)],
    ids=["a state", "a new one"],
)
@pytest.mark.parametrize(
    "budget", [Budget(losses=1, switches=0), Budget(kills=1, switches=1)], ids=["lost", "killed"]
)
def test_no_lost_answer_and_no_kill_at_any_request_does_so(programs: Scene, budget: Budget) -> None:
    report = explore(programs, budget, most_runs=2000)
    assert report.problems == ()
    assert report.is_complete


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("O2", "one that overtakes itself"),
        ("O4", "two that write"),
        ("O6", "one that reads"),
        ("O7", "two that write"),
        ("tidying", "two that tidy up"),
    ],
)
def test_each_rule_is_needed(rule: str, name: str) -> None:
    with PLANTED[rule]():
        report = explore({**SCENES, **CROWDS}[name], Budget(switches=2), most_runs=1000)
    told = ("acknowledged", "did not see", "cannot be read")
    assert any(words in each for each in report.problems for words in told)


# Damage


class Bucket:
    """A state with some writes, of which segments can be taken away."""

    def __init__(self, *, sessions: int = 3, **options: int) -> None:
        self.clock = ManualClock(1_700_000_000.0)
        self.objects = Objects(self.clock)
        for number in range(sessions):
            put(memory_store(self.objects, **options), JANE._replace(labels=(str(number),)))

    @property
    def incarnation(self) -> str:
        return str(json.loads(self.objects.blobs[HEAD].data)["id"])

    def remove(self, positions: Sequence[int]) -> None:
        for position in positions:
            del self.objects.blobs[segment_name(self.incarnation, position)]


def test_a_missing_segment_before_others_is_refused_by_readers_and_by_the_lock() -> None:
    """As a lifecycle rule deletes them. Three sessions are nine segments."""
    for first in (1, 2, 5):
        bucket = Bucket()
        bucket.remove(range(first, 6))
        store = memory_store(bucket.objects)
        with pytest.raises(StateRefused, match=f"segment {first} .* is missing"):
            store.header()
        with pytest.raises(StateRefused, match="missing"), store.lock(US):
            pass


def test_a_gap_that_is_wider_than_what_is_read_at_once_is_found_before_anything_is_written() -> (
    None
):
    bucket = Bucket(sessions=20)
    bucket.remove(range(10, 58))
    before = dict(bucket.objects.blobs)
    with pytest.raises(StateRefused, match="segment 10 "), memory_store(bucket.objects).lock(US):
        pass
    assert bucket.objects.blobs == before


def test_a_gap_before_the_newest_snapshot_is_none() -> None:
    bucket = Bucket(compact_after=1)
    reader = memory_store(bucket.objects)
    reader.header()
    put(memory_store(bucket.objects, compact_after=1), ZOE)
    bucket.remove([10])
    assert reader.stamp() is not None
    assert [record.address for record in reader.records()] == ["qa-jane", "qa-zoe"]


def test_an_altered_segment_is_refused() -> None:
    for sought, other in ((b'"kind":"write"', b'"kind":"other"'), (b'"n":', b'"m":'), (b"{", b"[")):
        bucket = Bucket()
        name = segment_name(bucket.incarnation, 2)
        blob = bucket.objects.blobs[name]
        bucket.objects.put(name, blob.data.replace(sought, other, 1))
        with pytest.raises(StateRefused, match=r"segment 2 .* is damaged"):
            memory_store(bucket.objects).header()


def test_a_segment_that_follows_another_one_is_refused() -> None:
    bucket = Bucket()
    name = segment_name(bucket.incarnation, 4)
    data = bucket.objects.blobs[name].data
    bucket.objects.put(name, data.replace(b'"token":2', b'"token":9'))
    with pytest.raises(StateRefused, match=r"segment 5 .* is damaged"):
        memory_store(bucket.objects).header()


def test_a_bucket_that_was_put_back_is_refused_by_whoever_saw_more() -> None:
    bucket = Bucket()
    before = dict(bucket.objects.blobs)
    seen = memory_store(bucket.objects)
    put(seen, ZOE)
    bucket.objects.blobs = before
    with pytest.raises(StateRefused, match="older than the one"), seen.lock(US):
        pass
    put(memory_store(bucket.objects), JANE)
    put(memory_store(bucket.objects), JANE._replace(protect=True))
    with (
        pytest.raises(StateRefused, match="or another one"),
        seen.lock(US),
    ):
        pass
    assert memory_store(bucket.objects).record("qa-zoe") is None


def test_a_lost_head_is_not_taken_for_a_first_run() -> None:
    bucket = Bucket()
    del bucket.objects.blobs[HEAD]
    with (
        pytest.raises(StateRefused, match=r"head .* is missing"),
        memory_store(bucket.objects).lock(US),
    ):
        pass


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (b'"id":"', b'"id":"../production'),
        (b'"first":6', b'"first":-1000000000000'),
        (b"/snap/", b"/../../production/log/"),
        (b"[[5,", b"[[-5,"),
    ],
)
def test_a_head_that_leads_elsewhere_is_refused_and_nothing_is_deleted(
    ours: bytes, theirs: bytes
) -> None:
    """Whoever may write to one prefix must not have a program delete objects of another one."""
    bucket = Bucket(compact_after=1)
    data = bucket.objects.blobs[HEAD].data
    assert ours in data
    bucket.objects.put(HEAD, data.replace(ours, theirs, 1))
    before = dict(bucket.objects.blobs)
    store = memory_store(bucket.objects, compact_after=1, tidy_after=1)
    with pytest.raises(StateRefused, match="damaged"), store.lock(US):
        pass
    assert bucket.objects.blobs == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format":2}', "newer format"),
        (b"{}", "damaged"),
        (b"\xff", "damaged"),
        (b'{"format":1,"environment":"other","id":"i","first":1,"snapshots":[],"backups":[]}',
         "environment other, not of test"),
    ],
)  # fmt: skip
def test_a_head_that_is_not_ours_is_refused(content: bytes, message: str) -> None:
    bucket = Bucket()
    bucket.objects.put(HEAD, content)
    for attempt in (memory_store(bucket.objects).header, memory_store(bucket.objects).stamp):
        with pytest.raises(StateRefused, match=message):
            attempt()


def test_snapshots_that_are_gone_are_named_and_an_older_one_serves() -> None:
    bucket = Bucket(compact_after=1)
    snapshots = sorted(name for name in bucket.objects.blobs if "/snap/" in name)
    newest = max(name.split("/")[2] for name in snapshots)
    for name in snapshots:
        if newest in name:
            del bucket.objects.blobs[name]
    assert memory_store(bucket.objects).header().serial == 3
    for name in snapshots:
        bucket.objects.blobs.pop(name, None)
    with pytest.raises(StateRefused, match=r"snapshots .* are missing or damaged"):
        memory_store(bucket.objects).header()


def test_a_state_that_was_removed_and_begun_anew_is_another_one() -> None:
    bucket = Bucket()
    late = memory_store(bucket.objects)
    with late.lock(US) as writer:
        bucket.objects.blobs.clear()
        put(memory_store(bucket.objects), ZOE)
        writer.write(put=[JANE._replace(protect=True)])
    assert [record.address for record in memory_store(bucket.objects).records()] == ["qa-zoe"]
    assert late.stamp() == memory_store(bucket.objects).stamp()


# Clocks


@pytest.mark.parametrize("minutes", [10, -10])
def test_the_clock_of_the_store_decides_whether_a_lease_is_over(minutes: int) -> None:
    """Whatever that of the seeker says. One that is behind looks on for a lease first."""
    bucket = Bucket()
    wrong = ManualClock(bucket.clock.time + 60 * minutes)
    seeker = memory_store(bucket.objects, clock=wrong, clock_margin=2.0)
    with memory_store(bucket.objects).lock(US) as holder:
        with pytest.raises(Locked), seeker.lock(OTHER_HOST):
            pass
        bucket.clock.time += 61.0
        with pytest.raises(Locked), seeker.lock(OTHER_HOST):
            pass
        bucket.clock.time += 1.0
        wrong.time += 20 * 60.0
        with seeker.lock(OTHER_HOST) as other:
            other.write(put=[ZOE])
        assert not holder.holds()
