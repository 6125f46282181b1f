"""The log of a state in a bucket: orders of requests explored at length, programs killed and stopped over a
real client, and a state of a million records in little memory."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from reconciler.core.records import Fact, Record
from reconciler.state.location import StateLocation
from reconciler.state.objects.opening import open_store
from reconciler.state.objects.sealing import KEY_BYTES, ObjectSealer
from reconciler.state.objects.store import ObjectStore
from reconciler.state.store import Holder, Locked, LockLost
from tests.support.exploration import Budget, explore
from tests.support.memory_bucket import FolderBucket
from tests.support.object_scenes import CROWDS, SCENES
from tests.support.object_server import BUCKET, shared_server
from tests.support.planted_objects import PLANTED
from tests.support.states import entry
from tests.torture.tally import Tally

MIB = 1024 * 1024
MOST_MEMORY = 512 * MIB


class Case(NamedTuple):
    """A scene, and how much may go wrong in it."""

    name: str
    budget: Budget


CASES = [
    *(Case(name, Budget()) for name in SCENES),
    *(
        Case(name, budget)
        for name, budget in product(
            SCENES,
            (
                Budget(losses=1, switches=2),
                Budget(kills=1, switches=2),
                Budget(losses=2, switches=1),
            ),
        )
    ),
    *(
        Case(name, budget)
        for name, budget in product(CROWDS, (Budget(switches=3), Budget(kills=1, switches=2)))
    ),
]


def explored(number: int, *, most_runs: int = 5_000) -> Tally:
    """One of `CASES`."""
    case, tally = CASES[number], Tally()
    report = explore({**SCENES, **CROWDS}[case.name], case.budget, most_runs=most_runs)
    tally.counts["schedules"] += report.runs
    tally.counts["states"] += report.states
    tally.counts["complete"] += report.is_complete
    tally.blame(f"objectlogs.explored({number}, {most_runs=})", report.problems)
    return tally


def planted(number: int, *, most_runs: int = 2_000) -> Tally:
    """A planted fault that no scene finds is the violation."""
    rule, tally = sorted(PLANTED)[number], Tally()
    with PLANTED[rule]():
        found = [
            name
            for name, scene in {**SCENES, **CROWDS}.items()
            if explore(scene, Budget(switches=2), most_runs=most_runs).problems
        ]
    tally.counts[f"{rule}: scenes that find it"] += len(found)
    if not found:
        tally.violations.append(f"a log without {rule} passed  [objectlogs.planted({number})]")
    return tally


# --- processes -----------------------------------------------------------------------------------


def _location(prefix: str, folder: Path) -> StateLocation:
    return StateLocation(f"s3://{BUCKET}/{prefix}", "test", folder)


def _store(prefix: str, folder: Path, *, lease: float) -> ObjectStore:
    store = open_store(_location(prefix, folder), environ=os.environ)
    store._options = store._options._replace(lease=lease)
    store._clock_margin = 1.0
    return store


def work(prefix: str, folder: str, lease: str) -> None:
    """A program that writes until it is killed, and says what it was told: a number for each write."""
    store = _store(prefix, Path(folder), lease=float(lease))
    holder = Holder("worker", f"host-{os.getpid()}", pid=1, command="work")
    while True:
        try:
            with store.lock(holder, wait=60.0) as writer:
                for _ in range(random.randrange(1, 30)):
                    mark = uuid4().hex
                    header = writer.write(
                        put=[Record("x", labels=(mark,))], journal=[entry("run", mark)]
                    )
                    print(header.serial, mark, flush=True)
        except (Locked, LockLost) as problem:
            print(type(problem).__name__, flush=True)


def _started(prefix: str, folder: Path, *, lease: float) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "tests.torture.objectlogs", prefix, str(folder), str(lease)]
    environ = os.environ | dict(shared_server().variables("s3"))
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environ)


def killed(seed: int, *, kills: int = 10) -> Tally:
    """Programs one after the other, each killed at some moment: the state has what each was told."""
    tally, rng, prefix = Tally(), random.Random(seed), f"killed/{uuid4().hex}"
    told: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(kills):
            worker = _started(prefix, Path(folder), lease=0.5)
            assert worker.stdout is not None
            told.append(worker.stdout.readline())
            time.sleep(rng.random() * 0.3)
            worker.kill()
            told += worker.stdout.readlines()
            worker.wait()
            tally.counts["kills"] += 1
        os.environ |= dict(shared_server().variables("s3"))
        store = _store(prefix, Path(folder) / "fresh", lease=0.5)
        there = {each.address: number for number, each in enumerate(store.journal(), 1)}
        serial = store.header().serial
        store.close()
    lines = [line.split() for line in told if line.endswith("\n") and " " in line]
    found = [f"{mark} is lost" for number, mark in lines if there.get(mark) != int(number)]
    if not len(there) == serial <= len(lines) + kills:
        found.append(f"{serial} writes, {len(there)} entries, {len(lines)} told")
    tally.counts["writes"] += len(lines)
    tally.blame(f"objectlogs.killed({seed}, {kills=})", found)
    return tally


def stopped(seed: int) -> Tally:
    """A program that is stopped past its lease while another one works and compacts, and goes on then."""
    tally, rng, prefix = Tally(), random.Random(seed), f"stopped/{uuid4().hex}"
    with tempfile.TemporaryDirectory() as folder:
        first = _started(prefix, Path(folder) / "a", lease=0.5)
        assert first.stdout is not None
        lines = [first.stdout.readline() for _ in range(rng.randrange(1, 40))]
        first.send_signal(signal.SIGSTOP)
        second = _started(prefix, Path(folder) / "b", lease=0.5)
        assert second.stdout is not None
        lines += [second.stdout.readline() for _ in range(150)]
        first.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        for worker in (first, second):
            worker.kill()
        for worker in (first, second):
            assert worker.stdout is not None
            lines += worker.stdout.readlines()
            worker.wait()
        os.environ |= dict(shared_server().variables("s3"))
        store = _store(prefix, Path(folder) / "fresh", lease=0.5)
        there = {each.address: number for number, each in enumerate(store.journal(), 1)}
        store.close()
    marks = [line.split() for line in lines if line.endswith("\n") and " " in line]
    found = [f"{mark} is lost" for number, mark in marks if there.get(mark) != int(number)]
    tally.counts["stopped"] += 1
    tally.counts["told that the lock was lost"] += sum("LockLost" in line for line in lines)
    tally.blame(f"objectlogs.stopped({seed})", found)
    return tally


# --- memory --------------------------------------------------------------------------------------


def large(records: int = 1_000_000) -> Tally:
    """A state is written, compacted, and read by a machine without a cache."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        for step in ("write", "read"):
            started = time.monotonic()
            program = [sys.executable, "-m", "tests.torture.objectlogs", step, folder, str(records)]
            ended = subprocess.run(program, capture_output=True, text=True, check=False)
            memory = int(ended.stdout or 0)
            tally.counts[f"{step}: MiB"] += memory // MIB
            tally.counts[f"{step}: seconds"] += int(time.monotonic() - started)
            if ended.returncode or memory > MOST_MEMORY:
                what = f"{step} took {memory // MIB} MiB {ended.stderr[-200:]}"
                tally.blame(f"objectlogs.large({records})", [what])
    return tally


def _large(step: str, folder: str, records: str) -> None:
    """Prints how much memory it took in bytes."""
    bucket = FolderBucket(Path(folder) / "bucket")
    sealer = ObjectSealer(b"k" * KEY_BYTES)
    cache, count = Path(folder) / step / "cache.db", int(records)
    store = ObjectStore(bucket, sealer, environment="test", cache=cache)
    if step == "write":
        holder = Holder("worker", "host", pid=os.getpid(), command="work")
        with store.lock(holder) as writer:
            for start in range(0, count, 5000):
                writer.write(put=map(_record, range(start, min(count, start + 5000))))
    else:
        assert sum(1 for _ in store.known_digests()) == count
    store.close()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _record(number: int) -> Record:
    facts = {
        "email": Fact.of(f"person-{number}@example.com"),
        "first_name": Fact.of(f"Name {number}"),
        "last_name": Fact.of("Example"),
        "birthday": Fact.of("1990-01-01"),
        "phone_number": Fact.of(f"+49170{number:07d}"),
        "custom_attributes.tier": Fact.of("gold", observed=True),
        "custom_attributes.level": Fact.of(1.5 * number, observed=True),
    }
    address = f"qa-{number:07d}"
    return Record(address, customer_user_id=address, labels=("qa", "team"), facts=facts)


def main(arguments: Sequence[str]) -> None:
    if arguments[0] in ("write", "read"):
        _large(*arguments)
    else:
        work(*arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
