"""Every format, byte for byte, over plans that hold everything a plan can hold."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator

from reconciler.core.plan import Action, Basis, HazardKind, Op
from reconciler.resources import load_schema
from tests.support.golden import FOLDER, VIEWS, rendered
from tests.support.plans import EMPTY, EVERYTHING, SMALL

FILES = rendered()
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_format_matches_its_golden_file(name: str) -> None:
    assert FILES[name] == (FOLDER / name).read_text("utf-8"), "if it is meant, run `make golden`"


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(FILES)


def test_other_hash_seeds_and_locales_give_the_same_bytes() -> None:
    program = (
        "import sys; from tests.support.golden import rendered; sys.stdout.write(repr(rendered()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "77", "LC_ALL": "C", "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ast.literal_eval(done.stdout) == FILES


def test_the_plans_hold_every_action_operation_and_basis() -> None:
    changes = [*EVERYTHING.changes, *SMALL.changes]
    fields = [field for change in changes for field in change.fields]
    assert {change.action for change in changes} == set(Action)
    assert {field.op for field in fields} == set(Op)
    assert {field.basis for field in fields} == set(Basis)


def test_the_plans_hold_every_kind_of_hazard() -> None:
    hazards = [hazard for change in EVERYTHING.changes for hazard in change.hazards]
    assert {hazard.kind for hazard in (*hazards, *EVERYTHING.hazards)} == set(HazardKind)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(("json", "sarif"))])
def test_json_is_json(name: str) -> None:
    json.loads(FILES[name])


@pytest.mark.parametrize("name", VIEWS)
def test_a_plan_in_json_keeps_to_its_schema(name: str) -> None:
    schema = Draft202012Validator(load_schema("plan.schema"))
    assert [str(e.message) for e in schema.iter_errors(json.loads(FILES[f"{name}.json"]))] == []


def test_findings_in_json_keep_to_their_schema() -> None:
    schema = Draft202012Validator(load_schema("findings.schema"))
    assert list(schema.iter_errors(json.loads(FILES["findings.json"]))) == []


def test_every_format_of_a_plan_shows_its_digest() -> None:
    for name, plan in (("everything", EVERYTHING), ("empty", EMPTY), ("masked", EVERYTHING)):
        for ending in ("txt", "json", "md", "html", "github.txt"):
            assert plan.digest in FILES[f"{name}.{ending}"], (name, ending)


def test_masked_formats_hold_no_personal_value() -> None:
    personal = ("Anna", "Janet", "jane@example", "p@example.com", "2000-12-31", "11111111-2222")
    for ending in ("txt", "json", "md", "html", "github.txt", "gitlab.json"):
        text = FILES[f"masked.{ending}"]
        assert [value for value in personal if value in text] == []
        assert all(value in FILES["everything.json"] for value in personal)


def test_junit_counts_what_failed() -> None:
    suite = ElementTree.fromstring(FILES["findings.junit.xml"])
    cases = {case.get("name"): case.find("failure") is not None for case in suite}
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    assert cases == {
        "profiles/qa/jane.yaml": True,
        "profiles/empty.yaml": True,
        "3 documents read": False,
    }
