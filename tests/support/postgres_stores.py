"""Stores in the PostgreSQL server of the tests, directly and through a pool of connections."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from reconciler.state.location import PostgresAddress, parse_address
from reconciler.state.postgres.link import Arguments, Link, Row, Statement, Step, connected
from reconciler.state.postgres.opening import place_of
from reconciler.state.postgres.reading import SchemaOptions
from reconciler.state.postgres.session import Session
from reconciler.state.postgres.store import PostgresStore
from reconciler.state.store import LEASE, Clock, NewId, new_id


class TransactionPool:
    """Hands each statement to another connection, as a pooler in transaction mode may. So nothing survives
    from one statement to the next, but what the database keeps. It is a `Link`."""

    def __init__(self, links: list[Link]) -> None:
        self._links = links
        self._turns = itertools.cycle(links)

    @property
    def is_open(self) -> bool:
        return all(link.is_open for link in self._links)

    def rows(self, statement: Statement, arguments: Arguments, *, seconds: float) -> list[Row]:
        return next(self._turns).rows(statement, arguments, seconds=seconds)

    def run(self, script: Statement, *, seconds: float) -> None:
        next(self._turns).run(script, seconds=seconds)

    def together(self, condition: Step, *steps: Step, seconds: float) -> bool:
        return next(self._turns).together(condition, *steps, seconds=seconds)

    def close(self) -> None:
        for link in self._links:
            link.close()


def pooled(address: PostgresAddress, *, size: int = 2) -> Link:
    """Several connections that look like one."""
    return TransactionPool([connected(address) for _ in range(size)])  # type: ignore[return-value]


def postgres_session(
    url: str,
    *,
    deadline: float = 20.0,
    connect: Callable[[PostgresAddress], Link] = connected,
) -> Session:
    """A session at an address."""
    address = parse_address(url)
    assert isinstance(address, PostgresAddress)
    return Session(
        lambda: connect(address),
        schema=address.schema,
        place=place_of(address),
        deadline=deadline,
    )


def postgres_store(
    url: str,
    *,
    environment: str = "test",
    clock: Clock | None = None,
    new_id: NewId = new_id,
    lease: float = LEASE,
    deadline: float = 20.0,
    connect: Callable[[PostgresAddress], Link] = connected,
    **options: Any,
) -> PostgresStore:
    """A store at an address. Further options are those of `SchemaOptions`."""
    session = postgres_session(url, deadline=deadline, connect=connect)
    settings = SchemaOptions(environment, clock, lease, **options)
    return PostgresStore(session, settings, place="the tests' database", new_id=new_id)
