"""What an owner sets up, and what roles may do then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.core.records import Export, Run
from reconciler.errors import Refused
from reconciler.state.postgres.session import Session
from reconciler.state.postgres.setup import Roles, set_up, setup_script
from tests.support.postgres_server import PostgresServer
from tests.support.postgres_stores import postgres_session, postgres_store
from tests.support.states import JANE, US, ZOE, entry, put


@pytest.fixture
def roles(postgres: PostgresServer, schema: str) -> Iterator[Roles]:
    names = Roles(f"writer of {schema}", f"reader of {schema}")
    with postgres.connect() as db:
        for name in names:
            db.execute(f'CREATE ROLE "{name}" LOGIN')
        yield names
        for name in names:
            db.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')


@pytest.fixture
def owner(url: str) -> Iterator[Session]:
    session = postgres_session(url)
    yield session
    session.close()


def as_role(url: str, role: str | None) -> str:
    assert role is not None
    return url.replace("postgres@", f"{role.replace(' ', '%20')}@")


def test_the_printed_script_makes_what_the_command_makes(
    postgres: PostgresServer, owner: Session, url: str, schema: str, roles: Roles
) -> None:
    script = setup_script(schema, "test", roles=roles)
    assert f'GRANT UPDATE ON "{schema}".meta TO "{roles.writer}";' in script
    with postgres.connect() as db:
        for _ in range(2):  # it can be run again
            db.execute(script)  # type: ignore[call-overload]
    store = postgres_store(as_role(url, roles.writer))
    assert put(store, JANE).serial == 1
    store.close()
    set_up(owner, environment="test", roles=roles)
    assert put(postgres_store(url), ZOE).serial == 2


def test_a_writer_needs_no_right_to_change_tables(
    owner: Session, url: str, schema: str, roles: Roles
) -> None:
    set_up(owner, environment="test", roles=roles)
    store = postgres_store(as_role(url, roles.writer))
    with store.lock(US) as writer:
        writer.write(put=[JANE, ZOE], journal=[entry("run")], application="app")
        writer.backup()
        writer.write(remove=["qa-zoe"])
        writer.replace(Export(store.header(), (ZOE,)))
        writer.renumber(above=0)
        writer.restore(store.backups()[0].id)
        writer.finish(Run("run", 1.0, 2.0, "d", {}))
        writer.mark_moved(None)
    with store.lock(US):
        lock = store.locked()
        assert lock is not None
        store.unlock(lock.id)
    assert [record.address for record in store.records()] == ["qa-jane", "qa-zoe"]
    store.close()


def test_a_reader_reads_and_is_told_that_it_may_not_write(
    owner: Session, url: str, schema: str, roles: Roles
) -> None:
    set_up(owner, environment="test", roles=roles)
    put(postgres_store(url), JANE)
    store = postgres_store(as_role(url, roles.reader))
    assert store.header().serial == 1
    assert store.stamp()
    assert [record.address for record in store.records()] == ["qa-jane"]
    assert list(store.journal()) == list(store.runs()) == list(store.backups()) == []
    assert store.locked() is None
    with pytest.raises(Refused, match="may not do this") as refused, store.lock(US):
        pass
    assert "42501" in refused.value.message
    assert "reconcile state setup --print" in refused.value.hint
    store.close()


def test_a_role_without_rights_makes_no_schema(
    postgres: PostgresServer, url: str, roles: Roles
) -> None:
    store = postgres_store(as_role(url, roles.writer))
    assert list(store.records()) == []  # reading makes nothing
    with pytest.raises(Refused, match="may not do this"), store.lock(US):
        pass
    store.close()
