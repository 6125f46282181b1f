"""The state in PostgreSQL under races, takeovers, kills, cut connections and crashes of the server.

Each write raises a counter in a record, and adds a line to the journal. So in the end the journal must hold
each number once and in order, up to the counter; and every number that a process was told is there.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from reconciler.core.records import Record
from reconciler.errors import ReconcileError
from reconciler.state.postgres import writer as writer_module
from reconciler.state.postgres.link import connected
from reconciler.state.postgres.store import PostgresStore
from reconciler.state.store import LockLost, Writer
from tests.support.postgres_server import (
    PostgresServer,
    binaries,
    new_schema,
    restarted,
    started,
    stop,
)
from tests.support.postgres_stores import pooled, postgres_store
from tests.support.relay import Cut, Relay
from tests.support.states import OTHER_HOST, US, entry
from tests.torture.tally import Tally

_COUNTER = "n"


def raise_counter(store: PostgresStore, writer: Writer) -> int:
    """One write: the counter as it is, plus one."""
    record = store.record(_COUNTER)
    number = int(record.labels[0]) + 1 if record else 0
    writer.write(put=[Record(_COUNTER, labels=(str(number),))], journal=[entry("run", str(number))])
    return number


def problems_of(url: str, *, told: int = -1) -> list[str]:
    """What is wrong in a state, where somebody was told that ``told`` was written."""
    store = postgres_store(url)
    record = store.record(_COUNTER)
    last = int(record.labels[0]) if record else -1
    lines = [int(each.address) for each in store.journal()]
    serial = store.header().serial
    store.close()
    found = []
    if lines != list(range(last + 1)):
        found.append(
            f"the journal has {len(lines)} lines and gaps or doubles, the counter is {last}"
        )
    if last < told:
        found.append(f"{told - last} confirmed writes are lost")
    if serial != last + 1:
        found.append(f"the serial is {serial} after {last + 1} writes")
    return found


# --- processes -----------------------------------------------------------------------------------


def work(url: str, *, way: str, turns: int, lease: float, doze: float, seed: int) -> None:
    """A process that takes the lock again and again, and prints each number that it was told."""
    rng = random.Random(seed)
    store = postgres_store(url, lease=lease, connect=pooled if way == "pool" else connected)
    left = turns
    while left:
        with contextlib.suppress(LockLost), store.lock(OTHER_HOST, wait=120) as writer:
            for _ in range(rng.randint(1, 3)):
                if doze and rng.random() < 0.3:
                    time.sleep(doze)
                print(raise_counter(store, writer), flush=True)
            left -= 1
    store.close()


def _started(url: str, **options: object) -> subprocess.Popen[str]:
    program = f"from tests.torture.databases import work; work({url!r}, **{options!r})"
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def race(server: PostgresServer, seed: int, *, turns: int, lease: float, doze: float) -> Tally:
    """Processes that race for the lock, and, with a short lease, overtake each other."""
    tally = Tally()
    for way in ("direct", "pool"):
        url = server.url(new_schema())
        options = {"way": way, "turns": turns, "lease": lease, "doze": doze}
        racers = [_started(url, **options, seed=seed + number) for number in range(3)]
        ended = [racer.communicate() for racer in racers]
        told = [int(number) for out, _ in ended for number in out.split()]
        found = problems_of(url, told=max(told))
        if len(set(told)) < len(told):
            found.append("two were told the same number")
        found += [f"a process failed: {err[-300:]}" for _, err in ended if err]
        tally.counts["raced writes"] += len(told)
        tally.blame(f"databases.unit({seed})", found)
    return tally


def kills(server: PostgresServer, seed: int, *, number: int) -> Tally:
    """A process that is killed at any moment, again and again, on one state."""
    tally = Tally()
    rng = random.Random(seed)
    url = server.url(new_schema())
    for kill in range(number):
        process = _started(url, way="direct", turns=100_000, lease=0.5, doze=0, seed=seed + kill)
        assert process.stdout is not None
        line = process.stdout.readline()
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        whole = (line + out).rpartition("\n")[0].split()  # a number may have been cut off
        told = int(whole[-1]) if whole else -1
        found = problems_of(url, told=told) + ([err[-300:]] if err else [])
        tally.counts["kills"] += 1
        tally.counts["writes confirmed"] += len(whole)
        tally.blame(f"databases.unit({seed})", found)
    return tally


# --- connections and crashes ---------------------------------------------------------------------


def cuts(server: PostgresServer, seed: int, *, writes: int) -> Tally:
    """One connection in ten messages is cut, before the message arrives or before its answer does."""
    tally = Tally()
    rng = random.Random(seed)
    relay = Relay(server.port)
    schema = new_schema()
    store = postgres_store(server.url(schema, port=relay.port))

    def decide() -> Cut | None:
        return rng.choice(list(Cut)) if rng.random() < 0.1 else None

    told = -1
    with store.lock(US) as writer:
        relay.decide = decide
        for _ in range(writes):
            told = raise_counter(store, writer)
        relay.decide = lambda: None
    store.close()
    relay.close()
    tally.counts["writes over cut connections"] += writes
    tally.counts["cuts"] += relay.cuts
    found = problems_of(server.url(schema), told=told)
    tally.blame(f"databases.unit({seed})", found)
    return tally


def crash(seed: int, *, seconds: float = 1.0) -> Tally:
    """The server is ended at once while a role writes that commits without waiting, and started again.
    Nothing that was confirmed is lost, and the writer goes on by itself."""
    tally = Tally()
    with started() as server:
        with server.connect() as db:
            db.execute("CREATE ROLE hasty SUPERUSER LOGIN")
            db.execute("ALTER ROLE hasty SET synchronous_commit = off")
        schema = new_schema()
        url = server.url(schema, user="hasty")
        store = postgres_store(url, deadline=60.0)
        told: list[int] = []
        over = threading.Event()

        def write() -> None:
            with contextlib.suppress(ReconcileError), store.lock(US) as writer:
                while not over.is_set():
                    told.append(raise_counter(store, writer))

        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(seconds * random.Random(seed).uniform(0.5, 1.0))
        stop(server.process, signal.SIGQUIT)
        confirmed = told[-1] if told else -1
        again = restarted(server)
        try:
            time.sleep(seconds)
            over.set()
            thread.join()
            found = problems_of(url, told=told[-1])
            if told[-1:] == [confirmed]:
                found.append("the writer did not go on")
        finally:
            stop(again.process)
        tally.counts["crashes"] += 1
        tally.counts["writes beside crashes"] += len(told)
        tally.blame(f"databases.crash({seed})", found)
    return tally


@contextlib.contextmanager
def planted(old: str, new: str) -> Iterator[None]:
    """Meanwhile the statement that writes is broken."""
    whole = writer_module.WRITE
    assert old in whole
    writer_module.WRITE = whole.replace(old, new)
    try:
        yield
    finally:
        writer_module.WRITE = whole


PLANTED: dict[str, tuple[str, str, Callable[[PostgresServer, int], Tally]]] = {
    "a token without a version": (
        "AND version = %(version)s::bigint",
        "",
        partial(cuts, writes=100),
    ),
    "commits that do not wait": (
        "set_config('synchronous_commit', 'on', true)",
        "''",
        lambda server, seed: crash(seed),
    ),
}
"""Each with the piece of the statement, its broken form, and what must find it."""


def unit(seed: int, *, kills_: int = 10, turns: int = 100, writes: int = 300) -> Tally:
    """All of it on one server."""
    total = Tally()
    if binaries() is None:
        return total
    with started() as server:
        total.add(race(server, seed, turns=turns, lease=60.0, doze=0.0))
        total.add(race(server, seed, turns=turns // 4, lease=0.03, doze=0.08))
        total.add(kills(server, seed, number=kills_))
        total.add(cuts(server, seed, writes=writes))
    total.add(crash(seed))
    return total


def controls(seed: int) -> Tally:
    """The planted bugs: one that is not found is the violation."""
    total = Tally()
    if binaries() is None:
        return total
    with started() as server:
        for name, (old, new, finds) in PLANTED.items():
            with planted(old, new):
                seen = bool(finds(server, seed).violations)
            total.counts["planted bugs found"] += seen
            if not seen:
                total.violations.append(f"{name} was not found  [databases.controls({seed})]")
    return total
