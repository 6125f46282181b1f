"""Stores of every kind, and a state file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.state.memory import MemoryStore
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Store
from tests.support.clock import ManualClock
from tests.support.states import JANE, OpenStore, put


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "test.db"


@pytest.fixture(params=["sqlite", "memory"])
def open_store(
    request: pytest.FixtureRequest, path: Path, clock: ManualClock
) -> Iterator[OpenStore]:
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
def store(open_store: OpenStore) -> Store:
    return open_store()


@pytest.fixture
def file(path: Path) -> Iterator[SqliteStore]:
    """A store whose file exists and holds one profile."""
    new = SqliteStore(path, environment="test")
    put(new, JANE)
    yield new
    new.close()
