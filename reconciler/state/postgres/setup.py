"""Setting up a schema by its owner: tables, and the rights of those who write and read."""

from __future__ import annotations

from typing import NamedTuple

from reconciler.state.postgres.layout import (
    CREATE_SCHEMA,
    CREATE_TABLES,
    FORMAT,
    GRANT_READER,
    GRANT_WRITER,
    LIMIT_WRITER,
)
from reconciler.state.postgres.link import grant, printed, statement
from reconciler.state.postgres.session import Session


class Roles(NamedTuple):
    """Roles of a database that get rights on a schema; ``None`` for nobody."""

    writer: str | None = None
    reader: str | None = None


def setup_script(schema: str, environment: str, *, roles: Roles) -> str:
    """All that the owner of a schema has to run, as SQL. It can be run again."""
    tables = statement(
        CREATE_SCHEMA + CREATE_TABLES, schema, format=FORMAT, environment=environment
    )
    parts = [printed(tables)]
    if roles.writer is not None:
        parts.append(printed(grant(GRANT_WRITER, schema, writer=roles.writer)))
        parts.append(printed(grant(LIMIT_WRITER, schema, writer=roles.writer)))
    if roles.reader is not None:
        parts.append(printed(grant(GRANT_READER, schema, reader=roles.reader)))
    return "".join(f"{part.strip()}\n" for part in parts)


def set_up(session: Session, *, environment: str, roles: Roles) -> None:
    """Makes what is missing of a schema, and grants. Limits on roles are left to those who own the roles.

    Raises Refused where the role of the session may not.
    """
    session.create(environment)
    schema = session.schema
    if roles.writer is not None:
        session.run(grant(GRANT_WRITER, schema, writer=roles.writer))
    if roles.reader is not None:
        session.run(grant(GRANT_READER, schema, reader=roles.reader))
