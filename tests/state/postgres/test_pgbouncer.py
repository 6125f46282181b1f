"""The state through a real pooler in transaction mode, where PgBouncer is installed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from reconciler.state.postgres.store import PostgresStore
from tests.support.postgres_server import PostgresServer, pgbouncer
from tests.support.postgres_stores import postgres_store
from tests.support.states import US
from tests.torture.databases import problems_of, raise_counter


@pytest.fixture
def through(postgres: PostgresServer, schema: str) -> Iterator[str]:
    with pgbouncer(postgres) as port:
        yield postgres.url(schema, port=port)


def test_a_pooler_in_transaction_mode_breaks_no_promise(through: str) -> None:
    """Three writers share three connections, and each statement may go to another one of them."""
    problems: list[Exception] = []

    def work(store: PostgresStore) -> None:
        try:
            for _ in range(8):
                with store.lock(US, wait=60) as writer:
                    raise_counter(store, writer)
        except Exception as problem:
            problems.append(problem)

    stores = [postgres_store(through) for _ in range(3)]
    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert stores[0].header().serial == 24
    assert problems_of(through, told=23) == []
    for store in stores:
        store.close()
