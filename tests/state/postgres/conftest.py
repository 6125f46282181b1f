"""A schema, and a relay in front of its server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres_server import PostgresServer, new_schema, server
from tests.support.relay import Relay


@pytest.fixture
def postgres() -> PostgresServer:
    return server()


@pytest.fixture
def schema() -> str:
    return new_schema()


@pytest.fixture
def url(postgres: PostgresServer, schema: str) -> str:
    return postgres.url(schema)


@pytest.fixture
def relay(postgres: PostgresServer) -> Iterator[Relay]:
    new = Relay(postgres.port)
    yield new
    new.close()
