"""Whichever statement of the state fails: an error that says so, and the next run sees what is true."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.plan_format import to_lines
from reconciler.emulator import Emulator, EmulatorServer
from reconciler.errors import ReconcileError
from reconciler.state import sqlite_file
from reconciler.testing import InstantClock
from tests.support.failing_sqlite import FailingConnection, SqliteFault
from tests.support.projects import KEYS, Project, remote

QUICK = {"quiet_period": 0, "rate": "100000/s"}
FAULTS = {
    "the disk is full": (sqlite3.SQLITE_FULL, True),
    "the disk fails": (sqlite3.SQLITE_IOERR, False),
    "busy": (sqlite3.SQLITE_BUSY, False),
    "damaged": (sqlite3.SQLITE_CORRUPT, False),
}


def applied(project: Project) -> None:
    with project.workspace(environ=KEYS, clock=InstantClock()) as workspace:
        workspace.apply(workspace.plan(prune=True), parallelism=1)


def declared(version: str) -> str:
    return f"customer_user_id: jane\nfirst_name: {version}\nmeta: {{labels: [{version.lower()}]}}\n"


@pytest.mark.parametrize(
    ("kind", "lasting"),
    [
        ("the disk is full", False),
        ("the disk fails", True),
        ("busy", False),
        ("damaged", True),
    ],
)
def test_whichever_statement_of_the_state_fails_the_next_run_converges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, lasting: bool
) -> None:
    code, rolls_back = FAULTS[kind]
    connect = sqlite_file.connect
    with EmulatorServer(Emulator()) as server:
        project = Project(
            tmp_path,
            remote(server.url, api=QUICK),
            profiles={"jane": declared("Old")},
        )
        applied(project)
        for number in range(1000):
            project.profile("jane", declared(f"V{number}"))
            fault = SqliteFault(number, code, rolls_back=rolls_back, lasting=lasting)

            def failing(database: str, fault: SqliteFault = fault, **options: Any) -> Any:
                return FailingConnection(connect(database, **options), fault)

            with monkeypatch.context() as patch:
                patch.setattr(sqlite_file, "connect", failing)
                with suppress(ReconcileError):
                    applied(project)
            with project.workspace(environ=KEYS) as workspace:
                if (held := workspace.store.locked()) is not None:  # its release failed
                    workspace.store.unlock(held.id)
            applied(project)
            with project.workspace(environ=KEYS) as workspace:
                assert '"update":0' in [*to_lines(workspace.plan())][-1], number
                record = workspace.store.record("jane")
            assert record is not None
            assert record.facts["first_name"].value == f"V{number}", number
            assert record.labels == (f"v{number}",), number
            if not fault.has_struck:
                break
        assert number > 10
