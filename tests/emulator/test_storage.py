"""Profiles in a database: durable, shared between processes, and in a file of their own."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import stat
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from reconciler.emulator import (
    GRANT_PATH,
    IDENTIFIERS_PATH,
    PROFILE_PATH,
    Emulator,
)
from reconciler.errors import ReconcileError, Refused
from tests.support.wire import (
    Serve,
    attribute_pairs,
)


def test_profiles_outlive_the_emulator(tmp_path: Path, serve: Serve) -> None:
    db = tmp_path / "deep" / "emulator.db"
    first = serve(Emulator(db=db))
    profile = first.create({"first_name": "Jane", **attribute_pairs(level=5)})
    stamp = first.send("GET").data["timestamp"]
    app = first.emulator.app_id
    first.server.stop()
    first.emulator.close()

    second = serve(Emulator(db=db))
    reply = second.send("GET")
    assert (reply.data["profile_id"], reply.attributes) == (profile, {"level": 5.0})
    assert reply.data["app_id"] == app
    assert reply.data["timestamp"] > stamp
    assert second.stored()["fields"] == {"first_name": "Jane"}


def test_the_database_is_for_its_owner_only(tmp_path: Path) -> None:
    db = tmp_path / "folder" / "emulator.db"
    Emulator(db=db).add_anonymous()
    assert {stat.S_IMODE(each.stat().st_mode) for each in db.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(db.parent.stat().st_mode) == 0o700


def test_a_write_is_committed_before_it_is_answered(tmp_path: Path, serve: Serve) -> None:
    api = serve(Emulator(db=tmp_path / "e.db"))
    api.create({"first_name": "Jane"})
    with closing(Emulator(db=tmp_path / "e.db")) as other:
        assert other.content() == api.emulator.content() != []
        api.grant()
        api.send("POST", {"branch_id": "b"}, path=IDENTIFIERS_PATH)
        assert other.profiles() == api.emulator.profiles()
        assert [each.cause for each in other.access_events] == ["grant"]


def test_a_file_that_is_no_database_is_refused_and_not_changed(tmp_path: Path) -> None:
    db = tmp_path / "e.db"
    db.write_text("not a database, but long enough to look like a file with something in it" * 20)
    before = db.read_bytes()
    with pytest.raises(ReconcileError, match="cannot use its database"):
        Emulator(db=db)
    assert db.read_bytes() == before


def test_the_database_of_another_program_is_refused_and_not_changed(tmp_path: Path) -> None:
    db = tmp_path / "state.db"
    other = sqlite3.connect(db)
    other.execute("CREATE TABLE precious (x)")
    other.commit()
    other.close()
    before = db.read_bytes()
    with pytest.raises(Refused, match="not an emulator's database"):
        Emulator(db=db)
    assert db.read_bytes() == before


def test_a_database_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReconcileError) as caught:
        Emulator(db=tmp_path / "file" / "e.db")
    assert "--db" in caught.value.hint


def _write_many(db: Path, worker: int, count: int, ready: Barrier) -> None:
    ready.wait(30)
    emulator = Emulator(db=db)
    for number in range(count):
        headers = {
            "authorization": "Api-Key k",
            "adapty-customer-user-id": "shared",
            "content-type": "application/json",
        }
        body = json.dumps(
            attribute_pairs(**{f"w{worker}": number, f"w{worker}.{number % 5}": "x"})
        ).encode()
        assert emulator.handle("POST", PROFILE_PATH, headers=headers, body=body).status == 200
    emulator.close()


def test_two_processes_share_a_database_without_losing_a_write(tmp_path: Path) -> None:
    db = tmp_path / "e.db"
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(2)
    workers = [context.Process(target=_write_many, args=(db, n, 400, ready)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    with closing(Emulator(db=db)) as emulator:
        (only,) = emulator.content()
    expected = {f"w{w}.{n}": "x" for w in range(2) for n in range(5)} | {"w0": 399.0, "w1": 399.0}
    assert only["custom_attributes"] == expected


def format_1(db: Path) -> None:
    """A database as format 1 had it: without settings, events, and access in profiles."""
    with closing(sqlite3.connect(db)) as old:
        old.execute(
            "CREATE TABLE profile (profile_id TEXT PRIMARY KEY, "
            "customer_user_id TEXT UNIQUE, content TEXT NOT NULL) WITHOUT ROWID"
        )
        old.execute("CREATE TABLE app (app_id TEXT NOT NULL)")
        old.execute("PRAGMA application_id = 0x52434D55")
        old.execute("PRAGMA user_version = 1")
        content = {
            "fields": {"first_name": "Jane"},
            "attributes": {"level": 5.0},
            "installations": {},
            "country": "FR",
            "country_source": "explicit",
            "timestamp": 1736425645861,
        }
        row = ("3286abd3-48b0-4e9c-a5f6-ac0a006804a6", "jane", json.dumps(content))
        old.execute("INSERT INTO profile VALUES (?, ?, ?)", row)
        old.execute("INSERT INTO app VALUES ('app')")
        old.commit()


def test_a_file_of_format_1_keeps_its_profiles_and_gets_what_it_lacks(
    tmp_path: Path, serve: Serve
) -> None:
    format_1(tmp_path / "e.db")
    api = serve(Emulator(db=tmp_path / "e.db"))
    data = api.send("GET").data
    assert (data["profile_id"], data["app_id"]) == ("3286abd3-48b0-4e9c-a5f6-ac0a006804a6", "app")
    assert data["access_levels"] == data["subscriptions"] == data["non_subscriptions"] == []
    assert api.stored()["fields"] == {"first_name": "Jane"}
    assert len(api.grant().data["access_levels"]) == 1
    assert len(api.emulator.access_events) == 1


def _open(db: Path, ready: Barrier) -> None:
    ready.wait(30)
    Emulator(db=db).close()


def test_processes_that_upgrade_a_file_at_once_agree(tmp_path: Path) -> None:
    db = tmp_path / "e.db"
    format_1(db)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(3)
    workers = [context.Process(target=_open, args=(db, ready)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with closing(Emulator(db=db)) as emulator:
        assert [each["customer_user_id"] for each in emulator.profiles()] == ["jane"]


def test_the_file_of_a_newer_emulator_is_refused_and_not_changed(tmp_path: Path) -> None:
    db = tmp_path / "e.db"
    Emulator(db=db).close()
    with closing(sqlite3.connect(db)) as sql:
        sql.execute("PRAGMA user_version = 3")
    before = db.read_bytes()
    with pytest.raises(Refused, match="another version's database"):
        Emulator(db=db)
    assert db.read_bytes() == before


def test_access_events_and_purchases_outlive_the_emulator(tmp_path: Path, serve: Serve) -> None:
    first = serve(Emulator(db=tmp_path / "e.db", access_levels=["pro"]))
    first.create()
    first.grant(expires_at="2099-01-01T00:00:00Z")
    first.grant("pro")
    bought = {"store": "app_store", "store_product_id": "x", "expires_at": "now+1d"}
    first.emulator.plant({"profiles": [{"customer_user_id": "jane", "purchases": [bought]}]})
    before = first.emulator.profiles(), first.emulator.access_events
    first.emulator.close()
    second = serve(Emulator(db=tmp_path / "e.db"))
    assert (second.emulator.profiles(), second.emulator.access_events) == before
    assert second.revoke("pro").status == 200
    assert [each.number for each in second.emulator.access_events] == [1, 2, 3]


@pytest.mark.parametrize("is_file", [False, True])
def test_the_oldest_of_many_events_are_dropped_and_numbers_go_on(
    tmp_path: Path, is_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.emulator.storage._KEPT_EVENTS", 5)
    emulator = Emulator(db=tmp_path / "e.db" if is_file else None)
    emulator.plant({"profiles": [{"customer_user_id": "jane"}]})
    headers = {
        "authorization": "Api-Key k",
        "adapty-customer-user-id": "jane",
        "content-type": "application/json",
    }

    def grant() -> int:
        body = b'{"access_level_id": "premium"}'
        return emulator.handle("POST", GRANT_PATH, headers=headers, body=body).status

    assert {grant() for _ in range(8)} == {200}
    assert [each.number for each in emulator.access_events] == [4, 5, 6, 7, 8]
    emulator.clear(keep=["jane"])
    assert emulator.access_events == []
    assert grant() == 200
    assert [each.number for each in emulator.access_events] == [9]
    emulator.close()


def test_a_refused_grant_leaves_neither_event_nor_access(tmp_path: Path, serve: Serve) -> None:
    api = serve(Emulator(db=tmp_path / "e.db"))
    api.create()
    assert api.grant("gold").status == 400
    assert api.emulator.access_events == []
    assert api.send("GET").data["access_levels"] == []
