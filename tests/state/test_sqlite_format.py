"""Older formats of a state file: reading leaves them, the first lock upgrades them, failures change nothing.

The states in ``tests/data/state_format_1`` were written by the program that had format 1.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.digests import known_digest
from reconciler.core.record_codec import encode_export
from reconciler.core.records import Export, Fact, Known, Presence, Record
from reconciler.errors import ReconcileError, StateRefused
from reconciler.state.memory import MemoryStore
from reconciler.state.sqlite import SqliteStore
from reconciler.state.sqlite_format import STATE_FORMAT_VERSION, UPGRADES, Upgrade
from reconciler.state.store import Store, checksum, encode
from tests.support.clock import ManualClock
from tests.support.command_line import ROOT, CommandLine
from tests.support.states import JANE, NEWER, US, ZOE, put, user_version

FORMAT_1 = ROOT / "tests" / "data" / "state_format_1"
STATES = sorted(path.name for path in FORMAT_1.iterdir() if path.is_dir())


class Released:
    """A project as the program of format 1 left it, in a folder of its own, and what that program said."""

    def __init__(self, folder: Path, name: str) -> None:
        shutil.copytree(FORMAT_1 / name, folder)
        self.folder = folder
        self.state = folder / "state.db"
        self.bytes = self.state.read_bytes()
        self.export = (folder / "export.json").read_text("utf-8")
        self.plans: Mapping[str, list[str]] = json.loads((folder / "plans.json").read_text("utf-8"))

    def store(self, **options: Any) -> SqliteStore:
        return SqliteStore(self.state, environment="local", **options)

    def add(self, number: int) -> None:
        """Adds records to the file as it is, so full pages have no room for a digest."""
        names = [f"more-{n:05}" for n in range(number)]
        facts = {"email": Fact.of("more@example.com")}
        contents = encode(Record(name, customer_user_id=name, facts=facts) for name in names)
        with contextlib.closing(sqlite3.connect(self.state)) as db, db:
            db.executemany(
                "INSERT INTO record (address, revision, body, checksum) VALUES (?, 1, ?, ?)",
                [(name, c.body, checksum(name, c.body) + 1) for name, c in contents.items()],
            )
        self.bytes = self.state.read_bytes()
        store = self.store()
        self.export = json.dumps(encode_export(Export(store.header(), tuple(store.records()))))
        store.close()

    def backups(self) -> list[Path]:
        """Newest last."""
        return sorted(self.folder.glob("state.db.backup-*"))

    def check_export(self) -> None:
        """The state says what it said to the program of format 1."""
        store = self.store()
        export = Export(store.header(), tuple(store.records()))
        assert without_origins(encode_export(export)) == without_origins(json.loads(self.export))
        assert dict(store.known_digests()) == {
            record.address: known_digest(record) for record in export.records
        }
        store.close()

    def check_plans(self) -> None:
        """Every plan decides what the program of format 1 decided, given the same options."""
        program = CommandLine(self.folder)
        for config in self.folder.glob("*.yaml"):
            text = config.read_text("utf-8")
            if "send_ip_country" not in text:
                text = text.replace("{url: emulator,", "{url: emulator, send_ip_country: changed,")
                config.write_text(text, "utf-8")
        for name, command in self.plans.items():
            option = ["--include-adopted"] if "--prune" in command else []
            plan = json.loads(program.run(*command, *option))
            assert decisions(plan) == decisions(json.loads((self.folder / name).read_text())), name

    def check_untouched(self) -> None:
        """The state has format 1 and says what it said."""
        self.check_export()
        assert user_version(self.state) == 1
        assert self.state.read_bytes() == self.bytes
        assert not list(self.folder.glob(".state.db*"))


def without_origins(export: Any) -> Any:
    """An export without the origins of profiles, which format 1 did not have."""
    profiles = [
        {name: value for name, value in profile.items() if name != "origin"}
        for profile in export["profiles"]
    ]
    return {**export, "profiles": profiles}


def decisions(plan: Any) -> Any:
    """The decisions of a plan in JSON: the removals, the changes of fields and the requests for them. The
    program of format 1 did not say what a removed profile held."""
    changes = [
        "removed"
        if change["source"] and change["action"] in ("delete", "forget")
        else [
            change["action"],
            change["fields"],
            [(each["method"], each["headers"], each.get("body")) for each in change["requests"]],
        ]
        for change in plan["changes"]
    ]
    addresses = [change["address"] for change in plan["changes"]]
    return addresses, changes, plan["orphans"], plan["summary"]["unchanged"]


@pytest.fixture(params=STATES)
def released(request: pytest.FixtureRequest, tmp_path: Path) -> Released:
    return Released(tmp_path / request.param, request.param)


@pytest.fixture
def applied(tmp_path: Path) -> Released:
    """The largest of them."""
    return Released(tmp_path / "applied", "applied")


# --- reading -------------------------------------------------------------------------------------


def test_reading_format_1_says_the_same_and_leaves_the_file(released: Released) -> None:
    program = CommandLine(released.folder)
    pulled, expected = json.loads(program.run("state", "pull")), json.loads(released.export)
    assert without_origins(pulled) == without_origins(expected)
    assert {record["address"] for record in pulled["profiles"] if "origin" in record} == {
        record["address"] for record in expected["profiles"] if "created_at" in record
    }
    assert program.run("state", "list") == (released.folder / "list.txt").read_text("utf-8")
    released.check_plans()
    released.check_untouched()


def test_known_digests_of_format_1_are_computed(applied: Released) -> None:
    store = applied.store(page_size=3)
    expected = {record.address: known_digest(record) for record in store.records()}
    assert any(expected.values())
    assert list(store.known_digests()) == sorted(expected.items())
    assert store.known_digests_of(expected) == expected
    some = sorted(expected)[2:5]
    assert [address for address, _ in store.known_digests(some[0], some[-1])] == some[:-1]


def test_a_damaged_record_of_format_1_has_no_known_digest(applied: Released) -> None:
    address, *_ = (address for address, known in applied.store().known_digests() if known)
    with contextlib.closing(sqlite3.connect(applied.state)) as db, db:
        db.execute("UPDATE record SET checksum = checksum + 1 WHERE address = ?", (address,))
    store = applied.store()
    assert store.known_digests_of([address]) == {address: None}
    with store.lock(US):
        assert store.known_digests_of([address]) == {address: None}
    with pytest.raises(StateRefused, match="damaged"):
        store.record(address)


# --- upgrading -----------------------------------------------------------------------------------


def test_the_first_lock_upgrades_format_1_in_place_and_keeps_a_backup(released: Released) -> None:
    before = released.backups()
    store = released.store()
    with store.lock(US):
        pass
    store.close()
    assert user_version(released.state) == STATE_FORMAT_VERSION
    released.check_export()
    (backup,) = set(released.backups()) - set(before)
    assert user_version(backup) == 1
    shutil.copy(backup, released.state)
    released.check_export()


def test_plans_after_the_upgrade_are_those_of_the_released_program(released: Released) -> None:
    store = released.store()
    with store.lock(US):
        pass
    store.close()
    released.check_plans()


def test_a_second_lock_upgrades_nothing(released: Released) -> None:
    store = released.store()
    with store.lock(US):
        pass
    backups = released.backups()
    again = released.store(upgrades={1: _must_not_run})
    with again.lock(US):
        pass
    assert released.backups() == backups


def _must_not_run(db: sqlite3.Connection) -> None:
    raise AssertionError("a state of the present format was upgraded")


def test_an_upgraded_file_has_the_columns_of_a_new_one(applied: Released, tmp_path: Path) -> None:
    new = SqliteStore(tmp_path / "new.db", environment="local")
    for store in (new, applied.store()):
        with store.lock(US):
            pass
    assert _columns(applied.state) == _columns(new.path)


def _columns(path: Path) -> dict[str, list[str]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        return {
            table: [f"{row[1:]}" for row in db.execute(f"PRAGMA table_info({table})")]
            for table in tables
        }


def test_the_history_and_the_journal_survive_the_upgrade(released: Released) -> None:
    store = released.store()
    before = [*store.journal(), *store.runs(), *store.interrupted_addresses()]
    with store.lock(US):
        assert [*store.journal(), *store.runs(), *store.interrupted_addresses()] == before


# --- upgrades that fail --------------------------------------------------------------------------


def test_an_upgrade_killed_in_the_middle_leaves_format_1(applied: Released) -> None:
    """The process dies with changed pages in the file, and SQLite's journal to undo them."""
    applied.add(500)
    script = """
import os, signal, sys
from pathlib import Path
from reconciler.state.sqlite import SqliteStore
from reconciler.state.sqlite_format import UPGRADES
from reconciler.state.store import Holder

def upgrade(db):
    db.execute("PRAGMA cache_size = 1")
    UPGRADES[1](db)
    os.kill(os.getpid(), signal.SIGKILL)

store = SqliteStore(Path(sys.argv[1]), environment="local", upgrades={1: upgrade})
with store.lock(Holder("ann", "here", os.getpid(), "test")):
    pass
"""
    done = subprocess.run([sys.executable, "-c", script, str(applied.state)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert applied.state.with_name("state.db-journal").exists()
    assert applied.state.read_bytes() != applied.bytes
    applied.check_untouched()
    with applied.store().lock(US):
        pass
    applied.check_export()
    assert user_version(applied.state) == STATE_FORMAT_VERSION


def test_a_disk_that_fills_up_during_the_upgrade_leaves_format_1(applied: Released) -> None:
    def without_room(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA max_page_count = 1")  # as many as there are
        UPGRADES[1](db)

    applied.add(500)
    store = applied.store(upgrades={1: without_room})
    with pytest.raises(ReconcileError, match="disk is full"), store.lock(US):
        pass
    store.close()
    applied.check_untouched()
    with applied.store().lock(US):
        pass
    assert user_version(applied.state) == STATE_FORMAT_VERSION


def test_a_disk_without_room_for_the_backup_leaves_format_1(applied: Released) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from reconciler.errors import ReconcileError
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Holder

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (16384, resource.RLIM_INFINITY))
try:
    with SqliteStore(Path(sys.argv[1]), environment="local").lock(Holder("ann", "here", 1, "test")):
        pass
except ReconcileError as problem:
    print(problem.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(applied.state)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("the disk ")
    assert not applied.backups()
    applied.check_untouched()


# --- later formats -------------------------------------------------------------------------------


def later(path: Path, upgrade: Upgrade, *, clock: ManualClock) -> SqliteStore:
    """The store of a later program, whose format is one higher."""
    upgrades = {STATE_FORMAT_VERSION: upgrade}
    return SqliteStore(path, environment="test", version=NEWER, upgrades=upgrades, clock=clock)


def add_table(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE label (x)")


def test_the_lock_upgrades_an_older_state_and_keeps_a_copy(
    file: SqliteStore, clock: ManualClock
) -> None:
    put(later(file.path, add_table, clock=clock), ZOE)
    assert user_version(file.path) == NEWER
    copy = file.path.with_name("test.db.backup-20231114T221320Z-1")
    assert user_version(copy) == STATE_FORMAT_VERSION
    assert list(SqliteStore(copy, environment="test").records()) == [JANE._replace(revision=1)]
    assert len(list(later(file.path, add_table, clock=clock).records())) == 2


def test_an_upgrade_that_fails_changes_nothing(file: SqliteStore, clock: ManualClock) -> None:
    def broken(db: sqlite3.Connection) -> None:
        add_table(db)
        db.execute("SELECT * FROM nowhere")

    with pytest.raises(StateRefused):
        put(later(file.path, broken, clock=clock), ZOE)
    assert user_version(file.path) == STATE_FORMAT_VERSION
    assert list(file.records()) == [JANE._replace(revision=1)]
    assert file.locked() is None


# --- the property --------------------------------------------------------------------------------

SCALARS = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
FACTS = SCALARS.map(Fact.of) | st.builds(
    Fact, st.sampled_from(Known), value=st.none() | SCALARS, attempt=st.none() | SCALARS
)
RECORDS = st.fixed_dictionaries(
    {
        "address": st.sampled_from(["jane", "Zoë", "profile:1", "\U0001f600"]),
        "customer_user_id": st.sampled_from(["jane", "Zoë", None]),
        "profile_id": st.sampled_from(["1", "2", None]),
        "presence": st.sampled_from([Presence.PRESENT, *Presence]),
        "facts": st.dictionaries(
            st.sampled_from(["email", "custom_attributes.a"]), FACTS, max_size=2
        ),
        "protect": st.booleans(),
        "deleting": st.booleans(),
        "linking": st.booleans(),
    }
).map(lambda members: Record(**members))
WRITES = st.lists(st.lists(RECORDS, max_size=3), min_size=1, max_size=3)


@settings(max_examples=15)
@given(WRITES)
def test_a_store_gives_the_known_digest_of_every_record(writes: list[list[Record]]) -> None:
    """After puts, an export put in place, an upgrade from format 1, and an export restored elsewhere."""
    with TemporaryDirectory() as folder:
        for store, other in _stores(Path(folder)):
            for records in writes:
                put(store, *records)
                _check_digests(store)
            export = Export(store.header(), tuple(store.records()))
            changed = [record._replace(facts={}) for record in export.records]
            with store.lock(US) as writer:
                writer.write(put=changed[1:], remove=[record.address for record in changed[:1]])
                _check_digests(store)
                writer.replace(export, force=True)
            _check_digests(store)
            if isinstance(store, SqliteStore):
                _downgrade(store)
                _check_digests(store)
                with store.lock(US):
                    _check_digests(store)
            with other.lock(US) as writer:
                writer.replace(export)
            _check_digests(other)
            store.close()
            other.close()


def _stores(folder: Path) -> Iterator[tuple[Store, Store]]:
    yield MemoryStore(environment="test"), MemoryStore(environment="test")
    yield (
        SqliteStore(folder / "a.db", environment="test"),
        SqliteStore(folder / "b.db", environment="test"),
    )


def _check_digests(store: Store) -> None:
    expected = {record.address: known_digest(record) for record in store.records()}
    assert dict(store.known_digests()) == expected
    assert store.known_digests_of(expected) == expected


def _downgrade(store: SqliteStore) -> None:
    """Gives the file format 1, as the program of that format would have written it."""
    store.close()
    with contextlib.closing(sqlite3.connect(store.path)) as db, db:
        for column in (
            "record DROP COLUMN known",
            "meta DROP COLUMN content",
            "meta DROP COLUMN moved",
            "history DROP COLUMN starter",
        ):
            db.execute(f"ALTER TABLE {column}")
        db.execute("PRAGMA user_version = 1")
