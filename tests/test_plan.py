"""A plan written down: its schema, its digest, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.errors import Refused
from reconciler.plan import Plan, encode, from_lines, to_lines
from reconciler.resources import load_schema
from reconciler.state import Export, decode_export, encode_export
from tests.worlds import World

DEVICE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"


def worked_world() -> tuple[World, Plan]:
    """A world with a history, and a plan that holds every action and operation."""
    world = World()
    anonymous = world.emulator.add_anonymous()
    many = [{"customer_user_id": f"u{number}", "first_name": "U"} for number in range(6)]
    jane = {
        "customer_user_id": "jane",
        "birthday": "2000-12-31",
        "custom_attributes": {"tier": "gold", "old": "x"},
        "installation_meta": {"device_id": DEVICE, "locale": "en"},
    }
    world.reach(jane, {"profile_id": anonymous, "first_name": "A"}, *many)
    plan = world.plan(
        {
            "customer_user_id": "jane",
            "custom_attributes": {"tier": 5, "old": None},
            "installation_meta": {"device_id": DEVICE},
            "meta": {"forget": ["birthday"], "labels": ["qa"], "protect": True},
        },
        {"profile_id": anonymous, "customer_user_id": "ann", "first_name": "A"},
        {"customer_user_id": "new"},
        *many[1:],
        prune=True,
    )
    return world, plan


WORLD, PLAN = worked_world()
LINES = "".join(to_lines(PLAN))


def test_the_plan_covers_the_actions() -> None:
    assert {change.action.value for change in PLAN.changes} == {
        "create",
        "update",
        "link",
        "delete",
    }


def test_a_plan_is_what_its_schema_says() -> None:
    Draft202012Validator(load_schema("plan.schema")).validate(encode(PLAN))


def test_a_state_export_is_what_its_schema_says_and_reads_back() -> None:
    export = Export(WORLD.store.header(), tuple(WORLD.store.records()))
    data = encode_export(export)
    Draft202012Validator(load_schema("state.schema")).validate(data)
    assert decode_export(json.loads(json.dumps(data))) == export


def test_both_formats_read_back_as_the_same_plan() -> None:
    assert from_lines(LINES.splitlines()) == PLAN
    assert from_lines(json.dumps(encode(PLAN), indent=2).splitlines()) == PLAN


def test_a_body_read_back_keeps_its_order() -> None:
    again = from_lines(LINES.splitlines())
    assert [json.dumps(r.body) for c in again.changes for r in c.requests] == [
        json.dumps(r.body) for c in PLAN.changes for r in c.requests
    ]


@given(st.integers(0, len(LINES) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_plan_with_one_other_character_is_refused_or_means_the_same(
    position: int, other: str
) -> None:
    altered = LINES[:position] + other + LINES[position + 1 :]
    try:
        again = from_lines(altered.splitlines())
    except Refused:
        return
    assert again == PLAN


@given(st.integers(0, len(LINES) - 2))
def test_a_truncated_plan_is_refused(length: int) -> None:
    with pytest.raises(Refused):
        from_lines(LINES[:length].splitlines())


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", "5", '{"format_version": 1}', "[" * 100_000, "garbage"]
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        from_lines(text.splitlines())


def test_a_newer_format_asks_for_an_upgrade() -> None:
    data: dict[str, Any] = {**encode(PLAN), "format_version": 2}
    with pytest.raises(Refused, match="format 2"):
        from_lines([json.dumps(data)])


def test_a_change_that_is_dropped_is_noticed() -> None:
    lines = LINES.splitlines()
    with pytest.raises(Refused, match="altered"):
        from_lines([lines[0], *lines[2:]])


def test_an_empty_plan_has_a_digest_too() -> None:
    assert World().plan().digest.startswith("sha256:")
