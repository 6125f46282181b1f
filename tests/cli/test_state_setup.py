"""`state setup`: the schema of a state in PostgreSQL, and the rights on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.postgres_server import PostgresServer, new_schema, server
from tests.support.projects import JANE, Project


@pytest.fixture
def postgres() -> PostgresServer:
    return server()


def project(folder: Path, state: str) -> Project:
    environment = {"api": {"url": "emulator"}, "state": state}
    config = {"version": 1, "environments": {"local": environment}}
    return Project(folder, config, profiles={"jane": JANE})


def test_the_owner_sets_up_what_a_writer_and_a_reader_use(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    schema = new_schema()
    with postgres.connect() as db:
        db.execute(f"CREATE ROLE w_{schema} LOGIN")
        db.execute(f"CREATE ROLE r_{schema} LOGIN")
    owner = project(tmp_path / "owner", postgres.url(schema))
    roles = ("--writer", f"w_{schema}", "--reader", f"r_{schema}")
    code, output = owner.invoke("state", "setup", *roles)
    assert code == 0, output
    assert f"w_{schema} may write; r_{schema} may read" in output
    writer = project(tmp_path / "writer", postgres.url(schema, user=f"w_{schema}"))
    reader = project(tmp_path / "reader", postgres.url(schema, user=f"r_{schema}"))
    assert reader.invoke("plan", "--detailed-exitcode")[0] in (0, 2)
    assert writer.invoke("apply", "--auto-approve")[0] == 0
    code, output = reader.invoke("plan")
    assert (code, "No changes" in output) == (0, True), output
    code, output = reader.invoke("state", "rm", "jane")
    assert code == 6
    assert "may not do this" in output
    assert "state setup --print" in output


def test_the_script_is_printed_without_a_connection(tmp_path: Path) -> None:
    url = "postgresql://ann@db.invalid/ops?schema=qa"
    code, output = project(tmp_path, url).invoke(
        "state", "setup", "--print", RECONCILE_ALLOWED_STATES="postgresql://ann@db.invalid:5432/ops"
    )
    assert code == 0, output
    for line in (
        'CREATE SCHEMA IF NOT EXISTS "qa";',
        'GRANT UPDATE ON "qa".meta TO "reconcile_writer";',
        'GRANT SELECT ON ALL TABLES IN SCHEMA "qa" TO "reconcile_reader";',
    ):
        assert line in output


def test_a_state_in_a_file_needs_no_setup(tmp_path: Path) -> None:
    code, output = project(tmp_path, "sqlite:///.reconcile/local.db").invoke("state", "setup")
    assert code == 6
    assert "needs no setup" in output
