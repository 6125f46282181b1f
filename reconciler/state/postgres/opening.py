"""Opening the state in a schema of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from reconciler.state.location import PostgresAddress, StateLocation
from reconciler.state.postgres.link import Link, connected
from reconciler.state.postgres.reading import SchemaOptions
from reconciler.state.postgres.session import Session
from reconciler.state.postgres.store import PostgresStore
from reconciler.state.secret_command import printed_secret
from reconciler.state.store import LEASE


def open_store(location: StateLocation, *, environ: Mapping[str, str]) -> PostgresStore:
    """The store of a location. Nothing is connected before its first use."""
    address = postgres_address(location)
    return PostgresStore(
        open_session(location, environ=environ),
        SchemaOptions(location.environment, clock=None, lease=LEASE),
        place=place_of(address),
    )


def open_session(
    location: StateLocation, *, environ: Mapping[str, str], application: str = "reconcile"
) -> Session:
    """A session at a location; ``application`` is the name that the server's own views show."""
    address = postgres_address(location)
    return Session(
        linked(location, environ=environ, application=application),
        schema=address.schema,
        place=place_of(address),
    )


def linked(
    location: StateLocation, *, environ: Mapping[str, str], application: str
) -> Callable[[], Link]:
    """Makes connections to a location. The password is looked up for each of them: one that a cloud gives
    out ends after minutes."""

    def password() -> str | None:
        if location.password_command:
            return printed_secret(location.password_command, setting="password_command")
        return location.password(environ) or environ.get("PGPASSWORD")

    address = postgres_address(location)
    return partial(connected, address, password=password, application=application)


def postgres_address(location: StateLocation) -> PostgresAddress:
    """The address of a location of PostgreSQL."""
    address = location.address
    assert isinstance(address, PostgresAddress)
    return address


def place_of(address: PostgresAddress) -> str:
    """Where a state is, for people."""
    server = (
        "the local server" if address.host.startswith("/") else f"{address.host}:{address.port}"
    )
    return f"schema {address.schema} of {address.database} on {server}"
