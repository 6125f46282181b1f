"""What is promised to stay (docs/stability.md) stays."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.support.frozen import TARGET, broken, frozen, text

BEFORE: dict[str, Any] = json.loads(TARGET.read_text("utf-8"))


def test_nothing_that_is_frozen_changed() -> None:
    assert broken(BEFORE, json.loads(json.dumps(frozen()))) == []


def test_what_was_added_is_recorded() -> None:
    assert TARGET.read_text("utf-8") == text(), "run `make frozen`, and read the diff"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (("commands", "reconcile plan", "--out"), "/commands/reconcile plan/--out is gone"),
        (("exit_codes", "REFUSED"), "/exit_codes/REFUSED is gone"),
        (("schemas", "plan", "changes[].address"), "/schemas/plan/changes[].address is gone"),
        (("library", "reconciler", "Workspace"), "/library/reconciler/Workspace is gone"),
    ],
)
def test_a_frozen_thing_that_goes_is_named(path: tuple[str, ...], problem: str) -> None:
    after = copy.deepcopy(BEFORE)
    *parents, last = path
    place = after
    for name in parents:
        place = place[name]
    del place[last]
    assert broken(BEFORE, after) == [problem]


def test_a_frozen_thing_that_changes_is_named_and_one_that_is_added_is_not() -> None:
    after = copy.deepcopy(BEFORE)
    after["exit_codes"]["REFUSED"] = 7
    after["fixtures"] = [*BEFORE["fixtures"][1:], "adapty_more"]
    after["commands"]["reconcile more"] = {}
    assert broken(BEFORE, after) == [
        "/exit_codes/REFUSED was 6 and is 7",
        f"/fixtures/{BEFORE['fixtures'][0]} is gone",
    ]
