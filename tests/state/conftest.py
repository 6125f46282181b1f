"""Stores of every kind, and a state file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Store
from tests.support.clock import ManualClock
from tests.support.states import JANE, OpenStore, put
from tests.support.stores import STORES


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "test.db"


@pytest.fixture(params=sorted(STORES))
def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> Iterator[OpenStore]:
    """Opens stores of one state, of each kind that there is."""
    with STORES[request.param](tmp_path, clock) as open_:
        yield open_


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
