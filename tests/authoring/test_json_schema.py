"""A JSON Schema is judged by one engine and explained by another, which agree."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from reconciler.authoring.json_schema import _explaining, _tame, validate_value, verdict_of
from reconciler.core.contract import Dialect
from reconciler.core.contract_files import load_contract
from reconciler.core.profile_schema import profile_schema
from reconciler.resources import load_schema
from tests.support.documents import UUID, document, mutated


@pytest.mark.parametrize("dialect", list(Dialect))
@settings(deadline=None, max_examples=150)
@given(value=mutated())
def test_both_engines_give_the_same_verdict(dialect: Dialect, value: Any) -> None:
    schema = profile_schema(load_contract(dialect.value))
    assert verdict_of(schema)(value) is _explaining()(schema).is_valid(_tame(value))


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("date", "2024-02-29", True),
        ("date", "2023-02-29", False),
        ("date", "0000-01-01", False),
        ("date", "20001231", False),
        ("date", "2000-12-31\n", False),
        ("uuid", UUID, True),
        ("uuid", UUID.upper(), True),
        ("uuid", UUID + "\n", False),
        ("uuid", UUID.replace("-", ""), False),
        ("uuid", f"{{{UUID}}}", False),
        ("ipv4", "203.0.113.7", True),
        ("ipv4", "203.0.113.07", False),
        ("ipv4", "256.0.0.1", False),
        ("ipv4", "203.0.113", False),
    ],
)
def test_both_engines_enforce_a_format(name: str, text: str, valid: bool) -> None:
    schema = {"format": name}
    assert [verdict_of(schema)(text), _explaining()(schema).is_valid(text)] == [valid, valid]


@pytest.mark.parametrize("pattern", [r"^[^@\s]+@[^@\s]+$", r"^[!-~]+$", r"^(?!profile:)[!-~]+$"])
def test_both_engines_read_a_pattern_alike_for_every_character(pattern: str) -> None:
    schema = {"pattern": pattern}
    compiled, explaining = verdict_of(schema), _explaining()(schema)
    texts = [f"a{chr(code)}@b{tail}" for code in range(0x3100) for tail in ("", chr(code))]
    assert [text for text in texts if compiled(text) is not explaining.is_valid(text)] == []


def test_a_value_that_is_write_only_is_not_quoted() -> None:
    schema = {"properties": {"key": {"pattern": "^[a-z]+$", "writeOnly": True}}}
    [finding] = validate_value(document({"key": "HUNTER2"}), schema, prefix="config")
    assert "HUNTER2" not in finding.message + finding.hint


def test_references_leave_no_schema(tmp_path: Any) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps({"type": "object"}))
    schema = {"$ref": outside.as_uri()}
    with pytest.raises(Exception, match=r"(?i)offline|resolv|retriev|not"):
        validate_value(document({}), schema, prefix="x")


@pytest.mark.parametrize("name", ["config", "plan", "state"])
def test_our_schemas_are_valid(name: str) -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(load_schema(f"{name}.schema"))
