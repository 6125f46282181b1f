"""One registry of stores, so that every test of the contract runs over each kind.

A kind is a context manager. It is given a folder of its own and a clock, and yields a function that opens
stores of one state, of environment ``test``. Options that a kind does not have (a page size in memory) are
left out. Another kind is added with `store_kind`, in this module, so that every suite meets it.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from reconciler.state.location import PostgresAddress
from reconciler.state.memory import MemoryStore
from reconciler.state.objects.bucket import BucketPlace, open_bucket
from reconciler.state.objects.sealing import KEY_BYTES, ObjectSealer
from reconciler.state.objects.store import ObjectStore
from reconciler.state.postgres.link import Link, connected
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Store
from tests.support.clock import ManualClock
from tests.support.memory_bucket import Objects, memory_store
from tests.support.object_server import BUCKET, only_variables, shared_server
from tests.support.postgres_server import new_schema, server
from tests.support.postgres_stores import pooled, postgres_store
from tests.support.states import OpenStore

Kind = Callable[[Path, ManualClock], AbstractContextManager[OpenStore]]

STORES: dict[str, Kind] = {}
"""Every kind by its name."""


def store_kind(name: str) -> Callable[[Kind], Kind]:
    """Adds a kind to the registry."""

    def added(kind: Kind) -> Kind:
        STORES[name] = kind
        return kind

    return added


def common_options(clock: ManualClock) -> Mapping[str, Any]:
    """The options of all stores of a state in a test: ids that repeat in no two of them."""
    ids = (f"id-{number}" for number in itertools.count(1))
    return {"environment": "test", "new_id": lambda: next(ids), "clock": clock}


@store_kind("sqlite")
@contextmanager
def sqlite_stores(folder: Path, clock: ManualClock) -> Iterator[OpenStore]:
    common = common_options(clock)
    with ExitStack() as stack:

        def open_(*, page_size: int | None = None, **options: Any) -> Store:
            paged = {} if page_size is None else {"page_size": page_size}
            store = SqliteStore(folder / "state" / "test.db", **common, **options, **paged)
            stack.callback(store.close)
            return store

        yield open_


@store_kind("memory")
@contextmanager
def memory_stores(folder: Path, clock: ManualClock) -> Iterator[OpenStore]:
    common = common_options(clock)
    opened: list[MemoryStore] = []

    def open_(*, page_size: int | None = None, **options: Any) -> Store:
        """The one store that there is: its state ends with it."""
        if not opened:
            opened.append(MemoryStore(**common, **options))
        return opened[0]

    yield open_


@store_kind("objects")
@contextmanager
def object_stores(folder: Path, clock: ManualClock) -> Iterator[OpenStore]:
    """Of those that are opened, the first one has the file of the cache."""
    common = common_options(clock)
    objects = Objects(clock)
    with ExitStack() as stack:

        def open_(**options: Any) -> Store:
            store = memory_store(objects, **common, cache=folder / "objects.db", **options)
            stack.callback(store.close)
            return store

        yield open_


def _postgres_kind(connect: Callable[[PostgresAddress], Link]) -> Kind:
    @contextmanager
    def stores(folder: Path, clock: ManualClock) -> Iterator[OpenStore]:
        url = server().url(new_schema())
        common = common_options(clock)
        with ExitStack() as stack:

            def open_(**options: Any) -> Store:
                given = {name: value for name, value in options.items() if value is not None}
                store = postgres_store(url, connect=connect, **common, **given)
                stack.callback(store.close)
                return store

            yield open_

    return stores


STORES["postgres"] = _postgres_kind(connected)
STORES["postgres through a pool"] = _postgres_kind(pooled)


@store_kind("bucket")
@contextmanager
def bucket_stores(folder: Path, clock: ManualClock) -> Iterator[OpenStore]:
    """As above, over the real client and an encrypted prefix of the test server's S3."""
    common = common_options(clock)
    server = shared_server()
    place = BucketPlace("s3", BUCKET, f"contract/{uuid4().hex}")
    server.cloud.clock = clock
    with ExitStack() as stack:
        stack.callback(setattr, server.cloud, "clock", time.time)
        stack.enter_context(only_variables(server.variables("s3")))

        def open_(**options: Any) -> Store:
            bucket = open_bucket(place, environ=os.environ)
            sealer = ObjectSealer(b"k" * KEY_BYTES)
            own = {"cache": folder / "bucket.db", "clock_margin": 0.0}
            store = ObjectStore(bucket, sealer, **common, **own, **options)
            stack.callback(store.close)
            return store

        yield open_
