"""Writers who share a bucket, over servers that lose and refuse, and over servers that others wrote."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import NamedTuple
from uuid import uuid4

from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from reconciler.core.records import JournalEntry, JournalKind, Record
from reconciler.state.objects.bucket import BucketPlace, ObjectBucket, Timing, open_bucket
from reconciler.state.objects.protocol import Created
from reconciler.state.objects.sealing import KEY_BYTES, ObjectSealer
from reconciler.state.objects.store import ObjectStore
from reconciler.state.store import CommitUnknown, Holder, Locked, StateUnreachable
from tests.support.object_programs import AZURITE, MOTO, SEAWEED, azurite, moto, seaweed
from tests.support.object_server import (
    ACCOUNT,
    BUCKET,
    Faults,
    ObjectServer,
    only_variables,
    shared_server,
    variables_for,
)
from tests.torture.tally import Tally

KINDS = ("s3", "gs", "az")
LOSSES = {
    "lost_answers": 0.12,
    "lost_requests": 0.05,
    "conflicts": 0.03,
    "throttled": 0.03,
    "throttled_but_done": 0.03,
    "unavailable": 0.05,
}
"""As in state-backends 3.4."""
WRITES = 300
"""Of a unit."""


def _opened(kind: str, prefix: str, *, waits: float = 1.0) -> ObjectBucket:
    """A bucket on the server that the environment names. ``waits`` shortens the waits between tries."""
    place = BucketPlace(kind, BUCKET, prefix, ACCOUNT if kind == "az" else "")
    timing = Timing(sleep=lambda seconds: time.sleep(seconds * waits))
    return open_bucket(place, environ=os.environ, timing=timing)


# --- losses --------------------------------------------------------------------------------------


def lossy(
    seed: int,
    *,
    kind: str = "s3",
    writers: int = 3,
    writes: int = 100,
    variant: type[ObjectBucket] = ObjectBucket,
) -> Tally:
    """Several writers append to one log and count up one object, while answers, requests and patience are
    lost. Each writer counts what it was told; the log and the counter must say the same."""
    server = shared_server()
    tally = Tally()
    with only_variables(server.variables(kind)), server.faults(**LOSSES, seed=seed):
        prefix = f"lossy/{uuid4().hex}"
        buckets = [_opened(kind, prefix, waits=0.02) for _ in range(writers)]
        for bucket in buckets:
            bucket.__class__ = variant
        runs = [_Writer(bucket, number) for number, bucket in enumerate(buckets)]
        threads = [threading.Thread(target=run.append, args=(writes,)) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.cloud.set_faults(Faults())
        _compare(runs, _opened(kind, prefix), tally)
    tally.counts[f"{kind}: writes"] += sum(len(run.own) for run in runs)
    tally.counts[f"{kind}: conflicts"] += sum(run.conflicts for run in runs)
    tally.counts[f"{kind}: unknown"] += sum(run.unknown for run in runs)
    return tally


class _Writer:
    """Appends segments, and knows which are its own."""

    def __init__(self, bucket: ObjectBucket, number: int) -> None:
        self.bucket = bucket
        self.number = number
        self.own: dict[int, bytes] = {}
        self.counted = 0
        self.conflicts = 0
        self.unknown = 0
        """Replacements that may have been made."""

    def append(self, writes: int) -> None:
        position = 1
        while len(self.own) < writes:
            data = f"{self.number} {uuid4().hex}".encode()
            created = self._settled(f"log/{position:06}", data)
            if created is Created.DONE:
                self.own[position] = data
                self._count()
            else:
                self.conflicts += 1
            position += 1

    def _settled(self, name: str, data: bytes) -> Created:
        while True:
            try:
                return self.bucket.create(name, data)
            except CommitUnknown:
                continue

    def _count(self) -> None:
        while True:
            there = self.bucket.get("count")
            number = int(there.data.split()[0]) if there else 0
            data = f"{number + 1} {uuid4().hex}".encode()
            try:
                tag = self.bucket.replace("count", data, tag=there.tag if there else None)
            except CommitUnknown:
                self.unknown += 1
                return
            if tag is not None:
                self.counted += 1
                return


def _compare(runs: list[_Writer], bucket: ObjectBucket, tally: Tally) -> None:
    own = [(position, data) for run in runs for position, data in run.own.items()]
    log = [int(name.rpartition("/")[2]) for name in bucket.list("log")]
    if log != list(range(1, len(own) + 1)):
        tally.violations.append(f"the log has {len(log)} segments, {len(own)} were confirmed")
    for position, data in own:
        there = bucket.get(f"log/{position:06}")
        if there is None or there.data != data:
            tally.violations.append(f"segment {position} is not the one that was confirmed")
    count = bucket.get("count")
    number = int(count.data.split()[0]) if count else 0
    sure = sum(run.counted for run in runs)
    most = sure + sum(run.unknown for run in runs)
    if not sure <= number <= most:
        tally.violations.append(f"{sure} to {most} replacements were made, and {number} counted")


class TakesRefusalsAtTheirWord(ObjectBucket):
    """A planted fault: "already exists" counts as a conflict, even after an answer was lost."""

    def _write(self, name: str, data: bytes, *, tag: str | None, is_final: bool) -> str | None:
        for _ in self._tries():
            try:
                return self._put(name, data, tag=tag)
            except (AlreadyExistsError, PreconditionError):
                return None
            except BaseError:
                continue
        raise CommitUnknown("")


class CallsUnknownAConflict(ObjectBucket):
    """A planted fault: what replaced our replacement counts as what was there instead of it."""

    def replace(self, name: str, data: bytes, *, tag: str | None) -> str | None:
        return self._write(name, data, tag=tag, is_final=True)


PLANTED = (TakesRefusalsAtTheirWord, CallsUnknownAConflict)


# --- locks over losses ---------------------------------------------------------------------------


def locked(seed: int, *, kind: str = "s3", workers: int = 2, turns: int = 50) -> Tally:
    """Processes take turns: each takes the lock, counts up a record, and compacts now and then, while answers
    and requests are lost (T5 of state-backends). The record and the journal say how often that was done."""
    server = shared_server()
    tally = Tally()
    prefix = f"locked/{uuid4().hex}"

    def opened() -> ObjectStore:
        sealer = ObjectSealer(b"k" * KEY_BYTES)
        bucket = _opened(kind, prefix, waits=0.02)
        return ObjectStore(bucket, sealer, environment="test", compact_after=9)

    with only_variables(server.variables(kind)), server.faults(**LOSSES, seed=seed):
        runs = [_Worker(opened(), f"worker-{number}") for number in range(workers)]
        threads = [threading.Thread(target=run.work, args=(turns,)) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.cloud.set_faults(Faults())
        reader = opened()
        record = reader.record("count")
        written = [entry.detail for entry in reader.journal()]
        reader.close()
    sure, unknown = (
        sum(counts) for counts in zip(*((r.done, r.unknown) for r in runs), strict=True)
    )
    counted = int(record.labels[0]) if record else 0
    if not sure <= counted <= sure + unknown:
        tally.violations.append(
            f"{sure} writes were confirmed, {unknown} unknown, {counted} counted"
        )
    if written != [str(number) for number in range(1, counted + 1)]:
        tally.violations.append("the journal has a gap, or an entry twice")
    tally.violations += [flaw for run in runs for flaw in run.flaws]
    tally.counts[f"{kind}: locks"] += sure
    tally.counts[f"{kind}: locks, unknown"] += unknown
    return tally


class _Worker:
    """Takes the lock and counts."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self.store = store
        self.holder = Holder(name, name, 1, "reconcile apply")
        self.done = self.unknown = 0
        self.flaws: list[str] = []

    def work(self, turns: int) -> None:
        try:
            while self.done + self.unknown < turns:
                self._turn()
        except Exception as problem:  # a thread must not end without a word
            self.flaws.append(f"{type(problem).__name__}: {problem}")
        self.store.close()

    def _turn(self) -> None:
        with suppress(StateUnreachable, Locked), self.store.lock(self.holder, wait=60) as writer:
            there = self.store.record("count")
            number = str(int(there.labels[0]) + 1 if there else 1)
            entry = JournalEntry("run", "count", JournalKind.APPLIED, 0.0, "update", "", number)
            try:
                writer.write(put=[Record("count", labels=(number,))], journal=[entry])
                self.done += 1
            except CommitUnknown:
                self.unknown += 1


# --- conformance ---------------------------------------------------------------------------------


class ServerKind(NamedTuple):
    """A server that is tried, and whether it is installed."""

    kind: str
    start: Callable[[], AbstractContextManager[str]]
    is_installed: bool
    at_once: int = 8
    """Creations of one name at a time. SeaweedFS makes each wait a second for the one before."""


@contextmanager
def _ours() -> Iterator[str]:
    server = ObjectServer()
    try:
        yield server.endpoint
    finally:
        server.close()


SERVERS = {
    "our S3": ServerKind("s3", _ours, True),
    "our Google": ServerKind("gs", _ours, True),
    "our Azure": ServerKind("az", _ours, True),
    "SeaweedFS": ServerKind("s3", seaweed, SEAWEED is not None, at_once=3),
    "moto": ServerKind("s3", moto, MOTO is not None),
    "Azurite": ServerKind("az", azurite, AZURITE is not None),
}


def conformance(name: str, *, races: int = 150) -> Tally:
    """What the library and a server make of conditions (state-backends 3.7), so that a new version of either
    shows."""
    server = SERVERS[name]
    tally = Tally()
    if not server.is_installed:
        tally.counts[f"{name}: not installed"] += 1
        return tally
    with server.start() as endpoint, only_variables(variables_for(server.kind, endpoint)):
        bucket = _opened(server.kind, f"conformance/{uuid4().hex}")
        bucket.self_test()
        for flaw in _flaws(bucket):
            tally.violations.append(f"{name}: {flaw}")
        with ThreadPoolExecutor(server.at_once) as threads:
            for race in range(races):
                tally.violations += _race(bucket, race, threads=threads, at_once=server.at_once)
        tally.counts[f"{name}: races"] += 2 * races
    return tally


def _flaws(bucket: ObjectBucket) -> Iterator[str]:
    def data() -> bytes:
        return uuid4().bytes

    first = data()
    if bucket.get("a/1") is not None:
        yield "a missing object is there"
    if bucket.create("a/1", first) is not Created.DONE:
        yield "an object was not created"
    if bucket.create("a/1", data()) is not Created.CONFLICT:
        yield "an object was created twice"
    there = bucket.get("a/1")
    if there is None or there.data != first:
        yield "an object is not what was created"
        return
    second = bucket.replace("a/1", data(), tag=there.tag)
    if second is None:
        yield "an object was not replaced"
    if bucket.replace("a/1", data(), tag=there.tag) is not None:
        yield "an object was replaced under an old tag"
    if bucket.replace("a/2", data(), tag=there.tag) is not None:
        yield "a missing object was replaced"
    if abs(bucket.store_time() - time.time()) > 60:
        yield "its clock is wrong"
    bucket.delete(["a/0", "a/1"])
    if bucket.list("") != [] or bucket.create("a/1", data()) is not Created.DONE:
        yield "a deleted name cannot be created again"


def _race(
    bucket: ObjectBucket, race: int, *, threads: ThreadPoolExecutor, at_once: int
) -> list[str]:
    """Several create one name at once, and then replace it at once; each time one succeeds."""
    name = f"race/{race}"

    def create(_: int) -> bool:
        return bucket.create(name, uuid4().bytes) is Created.DONE

    created = sum(threads.map(create, range(at_once)))
    there = bucket.get(name)
    tag = there.tag if there else ""

    def replace(_: int) -> bool:
        return bucket.replace(name, uuid4().bytes, tag=tag) is not None

    replaced = sum(threads.map(replace, range(at_once)))
    return [
        f"{count} of {at_once} {what} {name}"
        for what, count in (("created", created), ("replaced", replaced))
        if count != 1
    ]


def unit(seed: int) -> Tally:
    """A lossy run of a random number of writers, over the dialect that the seed chooses."""
    writers = random.Random(seed).choice((2, 3, 4))
    return lossy(seed, kind=KINDS[seed % len(KINDS)], writers=writers, writes=WRITES // writers)
