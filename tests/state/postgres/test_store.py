"""What only a store in PostgreSQL has: formats that follow one another, and schemas of somebody else."""

from __future__ import annotations

import pytest

from reconciler.core.records import Header
from reconciler.errors import StateRefused
from tests.support.postgres_server import PostgresServer
from tests.support.postgres_stores import postgres_store
from tests.support.states import JANE, OTHER_HOST, US, ZOE, put

NEWER = {"format": 2, "upgrades": {1: "ALTER TABLE {schema}.record ADD COLUMN note text;"}}


def test_reading_makes_nothing(postgres: PostgresServer, url: str, schema: str) -> None:
    store = postgres_store(url)
    assert store.header() == Header()
    assert store.stamp() is None
    assert store.locked() is None
    with postgres.connect() as db:
        query = "SELECT count(*) FROM pg_namespace WHERE nspname = %s"
        assert db.execute(query, (schema,)).fetchone() == (0,)
    store.close()


def test_the_lock_upgrades_an_older_schema_and_keeps_a_backup(url: str) -> None:
    old, new = postgres_store(url), postgres_store(url, **NEWER)
    put(old, JANE)
    with new.lock(US) as writer:
        assert [backup.serial for backup in new.backups()] == [1]
        writer.write(put=[ZOE])
    assert len(list(new.records())) == 2
    for read in (old.header, old.stamp, lambda: list(old.records()), lambda: put(old, JANE)):
        with pytest.raises(StateRefused, match="has format 2, this program reads up to 1"):
            read()
    old.close()
    new.close()


def test_a_reader_that_has_looked_before_notices_a_newer_format(url: str) -> None:
    old, new = postgres_store(url), postgres_store(url, **NEWER)
    put(old, JANE)
    assert old.record("qa-jane")
    put(new, ZOE)
    with pytest.raises(StateRefused, match="has format 2"):
        old.record("qa-zoe")
    old.close()
    new.close()


def test_a_writer_of_the_older_format_stops_once_the_schema_is_newer(
    postgres: PostgresServer, url: str, schema: str
) -> None:
    store = postgres_store(url)
    with store.lock(US) as writer:
        writer.write(put=[JANE])
        with postgres.connect() as db:
            db.execute(f"UPDATE {schema}.meta SET format = 2")
        with pytest.raises(StateRefused, match="has format 2"):
            writer.write(put=[ZOE])
    store.close()


def test_a_schema_of_another_environment_is_refused(url: str) -> None:
    put(postgres_store(url), JANE)
    other = postgres_store(url, environment="production")
    for read in (other.header, lambda: list(other.records()), lambda: put(other, ZOE)):
        with pytest.raises(StateRefused, match="of environment test, not of production"):
            read()
    other.close()


def test_a_row_that_was_changed_by_hand_is_noticed(
    postgres: PostgresServer, url: str, schema: str
) -> None:
    store = postgres_store(url)
    put(store, JANE)
    with postgres.connect() as db:
        db.execute(f"UPDATE {schema}.record SET body = replace(body, 'jane@', 'june@')")
    with pytest.raises(StateRefused, match="damaged"):
        list(store.records())
    with postgres.connect() as db:
        db.execute(f"DELETE FROM {schema}.meta")
    with pytest.raises(StateRefused, match="damaged"):
        list(store.records())
    store.close()


def test_an_address_that_no_column_can_hold_has_no_record(url: str) -> None:
    store = postgres_store(url)
    put(store, JANE)
    assert store.records_of(["qa-jane", "a\0b", "\ud800"]).keys() == {"qa-jane"}
    store.close()


def test_ten_backups_are_kept(url: str) -> None:
    store = postgres_store(url, kept_backups=3)
    with store.lock(US) as writer:
        for number in range(5):
            writer.write(put=[JANE._replace(labels=(str(number),))])
            writer.backup()
    assert [backup.serial for backup in store.backups()] == [5, 4, 3]
    with store.lock(OTHER_HOST) as writer:
        writer.restore(store.backups()[-1].id)
    record = store.record("qa-jane")
    assert record is not None
    assert record.labels == ("2",)
    store.close()
