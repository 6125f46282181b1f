"""Everything works on a state that is not a file. Two machines share nothing but the store and the API, and
their folders hold nothing that could not be made anew."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.outcomes import Outcome
from reconciler.state.sqlite_file import SQLITE_MAGIC
from reconciler.testing import Sandbox
from tests.support.places import homes_below, state_of
from tests.support.postgres_server import new_schema, server
from tests.support.projects import JANE, KEY, Project, remote
from tests.support.states import OTHER_HOST, US
from tests.support.wire import Api, Serve

TEMP = "customer_user_id: temp\nip_country: FR\nmeta: {ttl: 1s}\n"
BOB = "customer_user_id: bob\nip_country: FR\n"


@pytest.fixture
def api(serve: Serve) -> Api:
    return serve()


class Machine(Project):
    """A machine with homes of its own, on which the project is checked out."""

    def __init__(self, root: Path, url: str, *, state: str, profiles: dict[str, str]) -> None:
        config = remote(url, api={"quiet_period": 0}, state=state, limits={"max_delete": "100%"})
        super().__init__(root / "checkout", config, profiles=profiles)
        self.homes = homes_below(root)

    def run(self, *arguments: str, **options: Any) -> str:
        return super().run(*arguments, **{**self.homes, "SECRET_KEY": KEY, **options})


def test_all_commands_work_on_two_machines_that_share_a_database(
    tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = server().url(new_schema())
    files = {"jane": JANE, "bob": BOB, "temp": TEMP}
    one, two = (
        Machine(tmp_path / name, api.server.url, state=state, profiles=files)
        for name in ("one", "two")
    )

    one.run("plan", "--out", "saved.plan", "--detailed-exitcode", code=2)
    one.run("apply", "saved.plan", "--auto-approve")
    for _ in range(2):  # cold, then warm
        two.run("plan", "--detailed-exitcode")
    two.profile("jane", JANE.replace("gold", "silver"))
    two.run("apply", "--auto-approve")
    one.run("plan", "--out", "saved.plan", "--detailed-exitcode", code=2)
    two.profile("jane", JANE.replace("gold", "bronze"))
    two.run("apply", "--auto-approve")
    one.run("apply", "saved.plan", "--auto-approve", code=6)  # stale: somebody was quicker
    one.profile("jane", JANE.replace("gold", "bronze"))

    one.run("refresh", "--detailed-exitcode")
    (one.folder / "profiles/bob.yaml").unlink()
    one.run("apply", "--auto-approve", "--prune")
    assert "bob" not in two.run("state", "list")
    two.run("state", "rm", "jane")
    assert "serial" in two.run("state", "backups")
    (two.folder / "profiles/jane.yaml").unlink()
    two.run("import", "jane")
    two.run("plan", "--select", "jane", "--detailed-exitcode")
    assert '"address": "jane"' in two.run("state", "pull").replace('"address":"', '"address": "')
    environ = {**one.homes, "SECRET_KEY": KEY}
    with one.workspace(environ=environ, now=lambda: time.time() + 10) as workspace:
        sweep = workspace.plan_sweep()
        assert [change.address for change in sweep.changes] == ["temp"]
        assert workspace.apply(sweep).counts[Outcome.DELETED] == 1

    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with Sandbox.of(one.folder, "remote") as sandbox:
        handle = sandbox.make({"customer_user_id": "from-a-test", "ip_country": "FR"})
        assert "from-a-test" in two.run("state", "list")
        assert handle.address == "from-a-test"
    assert "from-a-test" not in two.run("state", "list")

    for machine in (one, two):
        assert not state_of(machine.folder, "remote.db", environ=machine.homes).exists()
        _refuse_states_below(machine.folder)
        two.run("plan")


def _refuse_states_below(folder: Path) -> None:
    """No file of a checkout is a database."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            assert file.read(len(SQLITE_MAGIC)) != SQLITE_MAGIC, path


def test_the_caches_of_a_machine_may_go_at_any_time(tmp_path: Path, api: Api) -> None:
    state = server().url(new_schema())
    one = Machine(tmp_path / "one", api.server.url, state=state, profiles={"jane": JANE})
    one.run("apply", "--auto-approve")
    one.homes = homes_below(tmp_path / "elsewhere")
    one.run("plan", "--detailed-exitcode")
    one.run("apply", "--auto-approve", "--refresh")


def test_a_file_moves_into_a_database_and_the_lock_holds_there(tmp_path: Path, api: Api) -> None:
    project = Project(tmp_path, remote(api.server.url), profiles={"jane": JANE})
    project.run("apply", "--auto-approve", SECRET_KEY=KEY)
    state = server().url(new_schema())
    project.run("state", "migrate", "--to", state)
    project.run("plan", code=6)
    project.configure(remote(api.server.url, state=state))
    project.run("plan", "--detailed-exitcode")
    with project.workspace(environ=dict(os.environ)) as workspace:
        with workspace.state.unchecked.lock(OTHER_HOST):
            project.run("plan")
            project.run("state", "rm", "jane", "--lock-timeout", "0.01", code=6)
            assert project.err.count("waiting for up to 0.01 s") == 1
        with workspace.state.unchecked.lock(US):
            pass
    project.run("state", "migrate", "--to", "sqlite:///back.db")
    project.configure(remote(api.server.url, state="sqlite:///back.db"))
    project.run("plan", "--detailed-exitcode")
