"""Backups are listed by their ids, and put back by them; beside a damaged state too."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.places import state_of
from tests.support.projects import JANE, Project


def test_a_backup_is_put_back_by_its_id_beside_a_damaged_state_too(tmp_path: Path) -> None:
    project = Project(tmp_path, profiles={"jane": JANE})
    project.run("apply", "--auto-approve")
    assert project.run("state", "backups") == "There is no backup.\n"
    project.run("state", "rm", "jane")
    [backup] = json.loads(project.run("state", "backups", "--json"))
    assert backup["id"] in project.run("state", "backups")
    project.run("state", "restore", backup["id"])
    assert "jane" in project.run("state", "list")
    state_of(tmp_path).write_bytes(b"no state")
    project.run("state", "restore", backup["id"])
    assert "jane" in project.run("state", "list")
    project.run("state", "restore", "20260101T000000Z-1", code=3)
