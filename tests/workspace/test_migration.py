"""The state is taken to another store and back: as a whole, and so that one place at a time takes writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.records import JournalKind, Record, Run
from reconciler.errors import Refused, StateRefused, UsageError
from reconciler.state.memory import MemoryStore
from reconciler.state.store import Holder, Locked, StateMoved, Store
from reconciler.workspace import migration
from reconciler.workspace.facade import Workspace
from reconciler.workspace.migration import Migration
from tests.support.projects import JANE, Project
from tests.support.states import US, entry, put

BUCKET = "s3://team-bucket/reconcile"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """The store at an address of a bucket."""
    store = MemoryStore()
    opened = migration.open_store

    def open_(location: Any, **options: Any) -> Store:
        return opened(location, **options) if location.file is not None else store

    monkeypatch.setattr(migration, "open_store", open_)
    return store


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    project = Project(tmp_path, profiles={"jane": JANE})
    project.run("apply", "--auto-approve")
    with Workspace.open(start=tmp_path) as opened:
        yield opened


def migration_of(workspace: Workspace) -> Migration:
    return Migration(workspace.environment, admin=workspace.state, root=workspace.config.root)


def bare(store: Store) -> list[Record]:
    return [record._replace(revision=0) for record in store.records()]


def test_a_state_goes_to_another_store_and_back(workspace: Workspace, bucket: MemoryStore) -> None:
    old = workspace.state.unchecked
    records, before, runs = bare(old), old.header(), list(old.runs())
    moved = migration_of(workspace).to(BUCKET)
    assert (bare(bucket), list(bucket.runs())) == (records, runs)
    assert (bucket.header().lineage, moved.profiles) == (before.lineage, 1)
    assert bucket.moved_to() is None
    with pytest.raises(StateMoved, match=BUCKET):
        workspace.plan()
    with pytest.raises(StateMoved), workspace.state.locked("test"):
        pass
    with pytest.raises(StateMoved):
        migration_of(workspace).to("s3://team-bucket/other")
    put(bucket, Record("zoe"))
    migration_of(workspace).from_(BUCKET)
    assert [record.address for record in workspace.store.records()] == ["jane", "zoe"]
    assert workspace.plan().summary["delete"] == 0
    with pytest.raises(StateMoved), bucket.lock(US):
        pass


def test_a_move_that_is_cut_off_anywhere_is_carried_on(
    workspace: Workspace, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = workspace.state.unchecked
    records = bare(old)
    cut = _Cut()
    for kind in {type(writer) for writer in _writers(old, bucket)}:
        for name in ("mark_moved", "replace", "finish"):
            monkeypatch.setattr(kind, name, cut.before(getattr(kind, name)))
    for left in range(5):
        cut.left = left
        with suppress(KeyboardInterrupt):
            migration_of(workspace).to(BUCKET)
        assert sum(map(_takes_writes, (old, bucket))) <= 1
    cut.left = 100
    if _takes_writes(old) or bucket.moved_to() is not None:
        migration_of(workspace).to(BUCKET)
    assert bare(bucket) == records
    assert (_takes_writes(old), _takes_writes(bucket)) == (False, True)


class _Cut:
    """Lets some calls through, and interrupts the next one."""

    def __init__(self) -> None:
        self.left = 0

    def before(self, function: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return function(*arguments, **options)

        return counted


def _writers(*stores: Store) -> list[Any]:
    writers = []
    for store in stores:
        with store.lock(US) as writer:
            writers.append(writer)
    return writers


def _takes_writes(store: Store) -> bool:
    return store.moved_to() is None and store.header().lineage is not None


def test_nothing_moves_while_a_run_is_unsettled_or_another_state_is_there(
    workspace: Workspace, bucket: MemoryStore
) -> None:
    old = workspace.state.unchecked
    put(bucket, Record("somebody else"))
    with pytest.raises(Refused, match="there is another state in s3://team-bucket/reconcile"):
        migration_of(workspace).to(BUCKET)
    with old.lock(US) as writer:
        writer.write(journal=[entry("cut off", "jane", kind=JournalKind.INTENT)])
    with pytest.raises(Refused, match="the last run was cut off, and 1 of its profiles"):
        migration_of(workspace).to(BUCKET)
    with old.lock(US) as writer:
        writer.finish(Run("cut off", 1.0, 2.0, "", {}))
    other = Holder("bob", "elsewhere", 1, "reconcile apply")
    with bucket.lock(other), pytest.raises(Locked):
        migration_of(workspace).to(BUCKET)
    with pytest.raises(UsageError):
        migration_of(workspace).to("mysql://x")
    assert old.moved_to() is None


def test_a_copy_that_is_not_like_the_state_leaves_it_where_it_was(
    workspace: Workspace, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryStore, "records", lambda store: iter([Record("jane")]))
    with pytest.raises(StateRefused, match="is not like the state"):
        migration_of(workspace).to(BUCKET)
    assert (bucket.moved_to() is None, workspace.state.unchecked.moved_to()) == (False, None)


def test_the_command_moves_a_file_and_says_what_to_do(tmp_path: Path) -> None:
    project = Project(tmp_path, profiles={"jane": JANE})
    project.run("apply", "--auto-approve")
    told = project.run("state", "migrate", "--to", "sqlite:///elsewhere/state.db")
    assert told.startswith("1 profile moved from sqlite:///")
    assert "Name the new place in `state` of reconcile.yaml" in project.err
    project.run("plan", code=6)
    assert "this state was moved to" in project.err
    config = (tmp_path / "reconcile.yaml").read_text()
    project.configure(f"{config}    state: sqlite:///elsewhere/state.db\n")
    project.run("plan", "--detailed-exitcode")
    project.run("state", "migrate", code=64)
