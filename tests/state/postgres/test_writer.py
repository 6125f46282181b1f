"""Writes: made once each, whatever happens to connections; and never by a holder that was overtaken."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reconciler.core.records import Record, Run
from reconciler.errors import StateRefused
from reconciler.state.postgres import writer as writer_module
from reconciler.state.postgres.link import Link, Row
from reconciler.state.postgres.store import PostgresStore
from reconciler.state.store import CommitUnknown, Locked, LockLost, StateUnreachable, Writer
from tests.support.postgres_server import PostgresServer
from tests.support.postgres_stores import pooled, postgres_store
from tests.support.relay import Cut, Relay
from tests.support.states import JANE, OTHER_HOST, US, entry, put


def count(writer: Writer, number: int) -> None:
    """One write that can be counted: in a record, and as a line of the journal."""
    writer.write(put=[Record("n", labels=(str(number),))], journal=[entry("run", str(number))])


def lines(store: PostgresStore) -> list[str]:
    return [each.address for each in store.journal()]


def with_cuts(url: str, relay: Relay, postgres: PostgresServer, *, number: int) -> list[str]:
    """The lines of the journal after so many writes, of which every third loses its connection."""
    store = postgres_store(url.replace(f":{postgres.port}/", f":{relay.port}/"))
    cuts = itertools.cycle([None, Cut.AFTER, Cut.BEFORE])
    with store.lock(US) as writer:
        for index in range(number):
            if cut := next(cuts):
                relay.cut_next(cut)
            count(writer, index)
    assert relay.cuts == number * 2 // 3
    store.close()
    plain = postgres_store(url)
    try:
        return lines(plain)
    finally:
        plain.close()


def test_a_write_whose_answer_is_lost_is_made_once(
    url: str, relay: Relay, postgres: PostgresServer
) -> None:
    expected = [str(index) for index in range(30)]
    assert with_cuts(url, relay, postgres, number=30) == expected


def test_a_token_without_a_version_would_make_writes_twice(
    url: str, relay: Relay, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted bug, which the test above finds."""
    broken = writer_module.WRITE.replace("AND version = %(version)s::bigint", "")
    assert broken != writer_module.WRITE
    monkeypatch.setattr(writer_module, "WRITE", broken)
    written = with_cuts(url, relay, postgres, number=30)
    assert len(written) > len(set(written))


def unflushed(postgres: PostgresServer, url: str) -> bool:
    """Whether a crash right after a write would undo it, in a role that commits without waiting."""
    with postgres.connect() as db:
        hasty = f"hasty_{url.rpartition('=')[2]}"
        db.execute(f"CREATE ROLE {hasty} SUPERUSER LOGIN")
        db.execute(f"ALTER ROLE {hasty} SET synchronous_commit = off")
        store = postgres_store(url.replace("postgres@", f"{hasty}@"))
        try:
            put(store, JANE)  # makes the tables
            with store.lock(US) as writer:
                db.execute("SELECT 1")
                count(writer, 1)
                query = "SELECT pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()"
                row = db.execute(query).fetchone()
        finally:
            store.close()
    assert row is not None
    return bool(row[0])


def test_a_write_waits_for_the_disk_whatever_the_role_says(
    postgres: PostgresServer, url: str
) -> None:
    assert not unflushed(postgres, url)


def test_without_that_a_confirmed_write_could_be_forgotten(
    postgres: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted bug, which the test above finds."""
    broken = writer_module.WRITE.replace("set_config('synchronous_commit', 'on', true)", "''")
    assert broken != writer_module.WRITE
    monkeypatch.setattr(writer_module, "WRITE", broken)
    assert unflushed(postgres, url)


def test_a_terminated_connection_costs_nothing(postgres: PostgresServer, url: str) -> None:
    store = postgres_store(url, connect=pooled)
    with store.lock(US) as writer, postgres.connect() as db:
        for index in range(6):
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'reconcile'"
            )
            count(writer, index)
    assert lines(store) == [str(index) for index in range(6)]
    store.close()


@contextmanager
def hanging(postgres: PostgresServer) -> Iterator[None]:
    """Meanwhile the server's processes of our connections do nothing, though the system answers."""
    with postgres.connect() as db:
        rows = db.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'reconcile'"
        ).fetchall()
    for (pid,) in rows:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for (pid,) in rows:
            os.kill(pid, signal.SIGCONT)


def test_where_one_process_of_the_server_hangs_another_makes_the_write_once(
    postgres: PostgresServer, url: str
) -> None:
    store = postgres_store(url, deadline=2.0)
    with store.lock(US) as writer:
        count(writer, 0)
        with hanging(postgres):
            count(writer, 1)
        count(writer, 2)
    assert lines(store) == ["0", "1", "2"]
    store.close()


def test_a_write_in_doubt_is_settled_before_the_next(
    postgres: PostgresServer, url: str, schema: str
) -> None:
    store = postgres_store(url, deadline=2.0)
    with store.lock(US) as writer:
        count(writer, 0)
        with postgres.connect() as db, db.transaction():
            db.execute(f"SELECT FROM {schema}.meta FOR UPDATE")
            with pytest.raises(CommitUnknown, match="not known whether"):
                count(writer, 1)
        count(writer, 2)
        assert writer.backup() is not None
    assert store.header().serial == len(lines(store))
    assert set(lines(store)) >= {"0", "2"}
    store.close()


def test_a_write_that_was_made_after_all_is_known_to_the_next(
    relay: Relay, postgres: PostgresServer, url: str
) -> None:
    store = postgres_store(url.replace(f":{postgres.port}/", f":{relay.port}/"), deadline=2.0)
    with store.lock(US) as writer:
        count(writer, 0)
        relay.decide = lambda: Cut.AFTER
        with pytest.raises(CommitUnknown):
            count(writer, 1)
        relay.decide = lambda: None
        assert writer.write(put=[JANE]).serial == 3
    assert lines(store) == ["0", "1"]
    store.close()


def test_a_write_that_was_interrupted_is_settled_before_the_next(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = postgres_store(url)
    whole = Link.rows

    def interrupted(self: Link, *arguments: Any, **options: Any) -> list[Row]:
        whole(self, *arguments, **options)
        raise KeyboardInterrupt

    with store.lock(US) as writer:
        count(writer, 0)
        monkeypatch.setattr(Link, "rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            count(writer, 1)
        monkeypatch.setattr(Link, "rows", whole)
        count(writer, 2)
    assert lines(store) == ["0", "1", "2"]
    store.close()


def test_a_commit_that_no_standby_confirmed_is_unknown(postgres: PostgresServer, url: str) -> None:
    store = postgres_store(url)
    with store.lock(US) as writer, postgres.connect() as db:
        count(writer, 0)
        set_standbys(db, "nobody")
        cancel = threading.Thread(target=cancel_wait, args=(postgres,))
        cancel.start()
        try:
            with pytest.raises(CommitUnknown, match="stopped waiting for its standby"):
                count(writer, 1)
        finally:
            cancel.join()
            set_standbys(db, "")
        count(writer, 2)
    assert lines(store) == ["0", "1", "2"]
    store.close()


def set_standbys(db: object, names: str) -> None:
    db.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")  # type: ignore[attr-defined]
    db.execute("SELECT pg_reload_conf()")  # type: ignore[attr-defined]
    time.sleep(0.1)


def cancel_wait(postgres: PostgresServer) -> None:
    with postgres.connect() as db:
        for _ in range(200):
            done = db.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            ).fetchall()
            if done:
                return
            time.sleep(0.02)


def test_a_server_that_forgot_confirmed_writes_is_refused(
    postgres: PostgresServer, url: str, schema: str
) -> None:
    store = postgres_store(url)
    with store.lock(US) as writer:
        count(writer, 0)
        with postgres.connect() as db:
            db.execute(f"UPDATE {schema}.meta SET version = version - 1, last_write = 'x'")
        with pytest.raises(StateRefused, match="lost writes that it had confirmed"):
            count(writer, 1)
        with pytest.raises(LockLost):
            count(writer, 2)
    store.close()


def race(
    stores: list[PostgresStore], *, turns: int, work: Callable[[Writer], None], name: str
) -> int:
    """Threads take turns at the lock; each turn reads a counter and raises it. Returns how often the lock
    was lost in between."""
    lost, problems = itertools.count(), []

    def run(store: PostgresStore) -> None:
        left = turns
        while left:
            try:
                with store.lock(OTHER_HOST, wait=30) as writer:
                    work(writer)
                    record = store.record(name)
                    number = int(record.labels[0]) + 1 if record else 0
                    writer.write(
                        put=[Record(name, labels=(str(number),))],
                        journal=[entry("run", str(number))],
                    )
                    left -= 1
            except LockLost:
                next(lost)
            except Exception as problem:
                problems.append(problem)
                return

    threads = [threading.Thread(target=run, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    return next(lost)


def test_of_writers_that_race_one_works_at_a_time(url: str) -> None:
    stores = [postgres_store(url, connect=connect) for connect in (pooled, pooled)]
    assert race(stores, turns=12, work=lambda writer: None, name="n") == 0
    assert lines(stores[0]) == [str(number) for number in range(24)]
    for store in stores:
        store.close()


def test_holders_that_doze_past_their_lease_are_overtaken_and_write_nothing(url: str) -> None:
    """Nothing of an overtaken holder lies between the writes of others: the counter has no gap."""
    random_ = random.Random(1)
    stores = [postgres_store(url, lease=0.03) for _ in range(3)]
    lost = race(
        stores, turns=8, work=lambda writer: time.sleep(random_.choice([0, 0, 0.08])), name="n"
    )
    assert lost > 0
    assert lines(stores[0]) == [str(number) for number in range(24)]
    for store in stores:
        store.close()


_HOLDER = """
import sys
from reconciler.core.records import Record
from reconciler.state.store import LockLost
from tests.support.postgres_stores import postgres_store
from tests.support.states import OTHER_HOST
try:
    with postgres_store(sys.argv[1], lease=0.5).lock(OTHER_HOST) as writer:
        writer.write(put=[Record("before")])
        print("ready", flush=True)
        sys.stdin.readline()
        print("holds", writer.holds(), flush=True)
        writer.write(put=[Record("after")])
        print("confirmed", flush=True)
except LockLost:
    print("lost", flush=True)
"""


def test_a_process_that_was_stopped_past_its_lease_writes_nothing_more(url: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    holder.send_signal(signal.SIGSTOP)
    store = postgres_store(url)
    with pytest.raises(Locked), store.lock(US):
        pass
    with store.lock(US, wait=10) as writer:
        count(writer, 0)
    holder.send_signal(signal.SIGCONT)
    assert holder.communicate("go\n", timeout=30)[0] == "holds False\nlost\n"
    assert [record.address for record in store.records()] == ["before", "n"]
    store.close()


def test_a_killed_process_leaves_whole_writes_and_a_lock_that_ends(url: str) -> None:
    program = _HOLDER.replace("sys.stdin.readline()", "import os; os.kill(os.getpid(), 9)")
    killed = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True)
    assert killed.stdout == "ready\n"
    store = postgres_store(url)
    with store.lock(US, wait=10):
        assert [record.address for record in store.records()] == ["before"]
    store.close()


def test_a_database_that_cannot_be_reached_is_said_soon(
    relay: Relay, url: str, postgres: PostgresServer
) -> None:
    relay.close()
    store = postgres_store(url.replace(f":{postgres.port}/", f":{relay.port}/"))
    started = time.monotonic()
    with pytest.raises(StateUnreachable, match="does not answer"):
        store.header()
    assert time.monotonic() - started < 10


def test_what_a_run_ends_with_is_in_history_and_journal(url: str) -> None:
    store = postgres_store(url, kept_runs=2)
    with store.lock(US) as writer:
        for number in range(4):
            writer.write(journal=[entry(f"run-{number}")])
            writer.finish(Run(f"run-{number}", 1.0, 2.0, "d", {}))
    assert [each.run for each in store.journal()] == ["run-2", "run-3"]
    store.close()


def test_strange_characters_in_a_detail_do_not_lose_an_outcome(url: str) -> None:
    store = postgres_store(url)
    with store.lock(US) as writer:
        writer.write(journal=[entry("run")._replace(detail="a\0b\ud800c")])
    assert [each.detail for each in store.journal()] == ["a\ufffdb?c"]
    store.close()
