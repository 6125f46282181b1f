"""A plan written down: its schema, its digest, and what is refused."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.core.plan import Action, Basis, Change, FieldChange, Hazard, Op, Plan
from reconciler.core.plan_format import encode, from_lines, line_of, to_lines
from reconciler.core.record_codec import decode_export, encode_export
from reconciler.core.records import Export
from reconciler.errors import ReconcileError, Refused
from reconciler.planning.planfile import read_plan, write_plan
from reconciler.resources import load_schema
from tests.support.plans import FIELDS
from tests.support.worlds import World

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


@given(FIELDS, st.text())
@example([FieldChange("a", Op.SET, -0.0, 0.0, Basis.NONE, 1)], '"fields":[]')
def test_a_line_is_spelled_as_the_encoder_of_json_does(
    fields: list[FieldChange], text: str
) -> None:
    change = Change(text, Action.UPDATE, text, tuple(fields), hazards=(Hazard(text, text),))
    data = {
        "address": text,
        "action": "update",
        "reason": text,
        "hazards": [{"kind": text, "message": text}],
        "source": None,
        "revision": None,
        "fields": [
            {
                "path": field.path,
                "op": field.op.value,
                "before": field.before,
                "after": field.after,
                "basis": field.basis.value,
                "line": field.line,
                **({} if field.file is None else {"file": field.file}),
            }
            for field in fields
        ],
        "requests": [],
    }
    assert line_of(change).decode() == json.dumps(data, separators=(",", ":")) + "\n"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_hold_is_in_no_line(value: float) -> None:
    field = FieldChange("custom_attributes.tier", Op.SET, None, value, Basis.NONE)
    with pytest.raises(ValueError, match="JSON"):
        line_of(Change("jane", Action.UPDATE, "because", (field,)))


def test_an_empty_plan_has_a_digest_too() -> None:
    assert World().plan().digest.startswith("sha256:")


# --- forged ---------------------------------------------------------------------------------------

WHERE = {
    "headers": ("requests", 0, "headers"),
    "header": ("requests", 0, "headers", "adapty-customer-user-id"),
    "another header": ("requests", 0, "headers", "Authorization"),
    "method": ("requests", 0, "method"),
    "path": ("requests", 0, "path"),
    "body": ("requests", 0, "body"),
    "attributes": ("requests", 0, "body", "custom_attributes"),
    "address": ("address",),
    "hazards": ("hazards",),
    "labels": ("labels",),
    "revision": ("revision",),
    "source": ("source",),
    "after": ("fields", 0, "after"),
}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("headers", []),
        ("headers", {}),
        ("header", 5),
        ("header", "a\r\nX-Y: z"),
        ("another header", "Api-Key x"),
        ("method", "PUT"),
        ("path", "/api/v2/server-side-api/purchase/set/transaction/"),
        ("path", "/api/v2/server-side-api/purchase/profile/grant/access-level/"),  # with its body
        ("body", "x"),
        ("attributes", 5),
        ("address", 5),
        ("hazards", [{"kind": 1, "message": 2}]),
        ("labels", "abc"),
        ("revision", "1"),
        ("source", {"file": 5, "line": "x"}),
        ("after", [1]),
    ],
)
def test_a_digest_does_not_make_a_plan_of_what_has_not_its_form(
    tmp_path: Path, place: str, value: Any
) -> None:
    """A value of the wrong type would otherwise end up in the state, and make it unreadable."""
    lines = [json.loads(line) for line in LINES.splitlines()]
    *way, last = WHERE[place]
    spot: Any = next(line for line in lines[1:-1] if line["fields"] and line["requests"])
    for step in way:
        spot = spot[step]
    spot[last] = value
    del lines[-1]["digest"]
    text = [json.dumps(line, separators=(",", ":")) + "\n" for line in lines]
    lines[-1]["digest"] = f"sha256:{sha256(''.join(text).encode()).hexdigest()}"
    path = tmp_path / "forged.plan"
    path.write_text("".join([*text[:-1], json.dumps(lines[-1], separators=(",", ":")) + "\n"]))
    with pytest.raises(Refused, match="not a plan that reconcile wrote"):
        read_plan(path)


# --- as a stream ---------------------------------------------------------------------------------


def test_a_saved_plan_is_the_same_plan_and_can_be_gone_through_again(tmp_path: Path) -> None:
    path = tmp_path / "saved.plan"
    write_plan(PLAN, path)
    again = read_plan(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [*again.changes] == [*again.changes] == [*PLAN.changes]
    assert len(again.changes) == len(PLAN.changes)
    assert (again.digest, again.summary) == (PLAN.digest, PLAN.summary)
    assert [*to_lines(again)] == [*to_lines(PLAN)]


def test_two_passes_over_a_saved_plan_do_not_disturb_each_other(tmp_path: Path) -> None:
    write_plan(PLAN, tmp_path / "saved.plan")
    changes = read_plan(tmp_path / "saved.plan").changes
    assert [(a, b) for a, b in zip(changes, changes, strict=True)] == [(c, c) for c in PLAN.changes]


def test_the_one_object_is_read_from_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(encode(PLAN), indent=2), "utf-8")
    again = read_plan(path)
    assert ([*again.changes], again.digest) == ([*PLAN.changes], PLAN.digest)


def test_another_file_put_in_the_place_of_a_checked_plan_is_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "saved.plan"
    write_plan(PLAN, path)
    again = read_plan(path)
    write_plan(replace(PLAN, changes=()), path)
    assert [*again.changes] == [*PLAN.changes]


def test_a_plan_altered_after_its_check_gives_no_altered_change(tmp_path: Path) -> None:
    path = tmp_path / "saved.plan"
    write_plan(PLAN, path)
    again = read_plan(path)
    second = list(PLAN.changes)[1].address
    with path.open("r+b") as file:
        content = file.read()
        file.seek(content.index(f'"address":"{second}"'.encode()) + len('"address":"'))
        file.write(b"X")
    given: list[Change] = []
    with pytest.raises(Refused, match="altered while it was in use"):
        given.extend(again.changes)
    assert given == [*PLAN.changes][:1]


def test_a_plan_cut_off_after_its_check_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "saved.plan"
    write_plan(PLAN, path)
    again = read_plan(path)
    os.truncate(path, 500)
    with pytest.raises(Refused, match="altered while it was in use"):
        list(again.changes)


def test_a_plan_may_come_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(LINES,))
    writer.start()
    assert read_plan(pipe) == PLAN
    writer.join()


def test_a_plan_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(ReconcileError, match="cannot write"):
        write_plan(PLAN, tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
