"""What editors check by: the lines that `init` writes, the schemas that are printed, the files to copy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from reconciler.authoring.documents import Document
from reconciler.authoring.json_schema import validate_value
from reconciler.authoring.loader import parse_yaml
from reconciler.commands import CONFIG_NAME
from reconciler.resources import load_schema
from tests.support.projects import Project

ROOT = Path(__file__).parent.parent.parent
EDITORS = ROOT / "examples" / "editors"
NAMES = ("profile", "config", "plan", "findings", "drift", "state", "trust")


def parsed(path: Path) -> Document:
    document, findings = parse_yaml(path.read_bytes(), path.name)
    assert document is not None, findings
    return document


def test_init_names_schemas_by_which_its_files_are_valid(tmp_path: Path) -> None:
    project = Project(tmp_path, None)
    project.run("init")
    for file in (tmp_path / CONFIG_NAME, tmp_path / "profiles" / "jane.yaml"):
        line = file.read_text("utf-8").splitlines()[0]
        named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", line)
        assert named is not None, line
        schema: Any = json.loads((file.parent / named[1]).read_text("utf-8"))
        assert validate_value(parsed(file), schema, prefix="x") == []
    assert "1 profile valid." in project.run("validate")


def test_init_leaves_schemas_alone_that_are_there(tmp_path: Path) -> None:
    mine = tmp_path / "schemas" / "config.schema.json"
    mine.parent.mkdir()
    mine.write_text("{}", "utf-8")
    Project(tmp_path, None).run("init")
    assert mine.read_text("utf-8") == "{}"


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_of_this_version_is_printed(tmp_path: Path, name: str) -> None:
    code, output = Project(tmp_path).invoke("schema", name)
    assert code == 0
    assert json.loads(output) == load_schema(f"{name}.schema")


def test_the_other_dialect_has_a_schema_of_its_own(tmp_path: Path) -> None:
    _, output = Project(tmp_path).invoke("schema", "profile", "--dialect", "openapi")
    assert json.loads(output) == load_schema("profile.openapi.schema")


def test_the_settings_of_an_editor_name_the_files_that_init_writes(tmp_path: Path) -> None:
    Project(tmp_path, None).run("init")
    settings = json.loads((EDITORS / "settings.json").read_text("utf-8"))
    for schema in settings["yaml.schemas"]:
        assert (tmp_path / schema).is_file(), schema
    entry = json.loads((EDITORS / "schemastore.json").read_text("utf-8"))
    assert entry["fileMatch"] == [CONFIG_NAME]
    assert {"name", "description", "url"} <= entry.keys()
    assert json.loads((EDITORS / "extensions.json").read_text("utf-8"))["recommendations"]
