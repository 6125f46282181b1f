"""A command waits for the lock of the state as long as it was told to, and says who holds it; a plan never
waits."""

from __future__ import annotations

from pathlib import Path

from reconciler.state.sqlite import SqliteStore
from tests.support.places import state_of
from tests.support.projects import JANE, Project
from tests.support.states import OTHER_HOST

HOLDER = OTHER_HOST._replace(ci="https://ci.example/run/7")


def test_a_lock_is_waited_for_and_its_holder_is_told(tmp_path: Path) -> None:
    project = Project(tmp_path, profiles={"jane": JANE})
    project.run("apply", "--auto-approve")
    project.profile("jane", JANE.replace("gold", "silver"))
    store = SqliteStore(state_of(tmp_path), environment="local")
    with store.lock(HOLDER):
        project.run("plan", "--lock-timeout", "60", "--detailed-exitcode", code=2)
        assert "waiting" not in project.err
        project.run("apply", "--auto-approve", "--lock-timeout", "0.01", code=6)
        assert project.err.count("waiting for up to 0.01 s") == 1
        assert "bob on elsewhere (process 1, CI run https://ci.example/run/7)" in project.err
        project.run("state", "rm", "jane", code=6)
        assert "waiting" not in project.err
    store.close()
    project.run("apply", "--auto-approve", "--lock-timeout", "60")


def test_the_configuration_says_how_long_to_wait(tmp_path: Path) -> None:
    project = Project(tmp_path, profiles={"jane": JANE})
    project.run("apply", "--auto-approve")
    config = (tmp_path / "reconcile.yaml").read_text() + "    state: {lock_wait: 0.02}\n"
    project.configure(config)
    store = SqliteStore(state_of(tmp_path), environment="local")
    with store.lock(HOLDER):
        project.run("state", "rm", "jane", code=6)
        assert project.err.count("waiting for up to 0.02 s") == 1
    store.close()
