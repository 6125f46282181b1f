"""A rate that is shared, from the configuration to the requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import InputError, Refused
from reconciler.state.memory import MemoryStore
from reconciler.workspace.facade import Workspace
from tests.support.postgres_server import PostgresServer, new_schema, server
from tests.support.projects import JANE, Project

RATE = "6000/min"


def shared(folder: Path, state: str | None, **api: Any) -> Project:
    environment: dict[str, Any] = {"api": {"url": "emulator", "rate_shared": True, **api}}
    if state is not None:
        environment["state"] = state
    config = {"version": 1, "environments": {"local": environment}}
    return Project(folder, config, profiles={"jane": JANE})


@pytest.fixture
def postgres() -> PostgresServer:
    return server()


def test_jobs_with_one_state_keep_to_one_rate(postgres: PostgresServer, tmp_path: Path) -> None:
    schema = new_schema()
    project = shared(tmp_path, postgres.url(schema), rate=RATE)
    for _ in range(2):  # the first run makes the state, so it keeps to the rate by itself
        project.profile("jane", JANE.replace("Jane", "June"))
        code, output = project.invoke("apply", "--auto-approve")
        assert code == 0, output
    with postgres.connect() as db:
        rows = db.execute(f"SELECT name, rate, next > 0 FROM {schema}.pace").fetchall()
    assert rows == [("local", 100.0, True)]


def test_a_state_in_a_file_keeps_no_rate_for_others(tmp_path: Path) -> None:
    project = shared(tmp_path, None, rate=RATE)
    with pytest.raises(InputError) as refused:
        Workspace.open(project.folder / "reconcile.yaml")
    (problem,) = refused.value.diagnostics
    assert problem.message == (
        "`environments.local.api.rate_shared` needs a state in PostgreSQL, whose clock and locks order the "
        "processes"
    )
    assert problem.source.line > 0


def test_there_must_be_a_rate_to_share(tmp_path: Path) -> None:
    project = shared(tmp_path, "postgresql://db.internal/ops?schema=qa")
    with pytest.raises(InputError) as refused:
        Workspace.open(project.folder / "reconcile.yaml")
    (problem,) = refused.value.diagnostics
    assert "stands without a rate" in problem.message


def test_a_program_that_keeps_the_state_itself_is_told(tmp_path: Path) -> None:
    project = shared(tmp_path, "postgresql://db.internal/ops?schema=qa", rate=RATE)
    workspace = Workspace.open(project.folder / "reconcile.yaml", store=MemoryStore())
    with pytest.raises(Refused, match="this state can keep none"), workspace.connection():
        pass
