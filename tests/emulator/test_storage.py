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
