"""Acceptance cases as data: ``before`` is applied, then ``after`` must take exactly ``requests.json``.

Where a case has them, ``seed.json`` is planted in the emulator before, and ``changes.json`` says what the
changes are.

For every case: afterwards the emulator holds what a fresh one holds that was only given the last files
(forgotten fields aside, which stay by design), and planning again yields no change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.authoring.loader import load
from reconciler.authoring.validation import validate_documents
from reconciler.core.contract_files import load_contract
from reconciler.core.endpoints import PATH
from reconciler.core.instants import instant_of
from reconciler.core.plan import Plan
from reconciler.core.plan_format import to_lines
from tests.support.clock import ManualClock
from tests.support.worlds import World

CASES = sorted(path for path in (Path(__file__).parent.parent / "cases").iterdir() if path.is_dir())


def values(folder: Path) -> list[dict[str, Any]]:
    loaded = load(folder)
    findings = [*loaded.diagnostics, *validate_documents(loaded.documents, load_contract())]
    assert not [finding for finding in findings if finding.is_error]
    return [document.value for document in loaded.documents]


def countries(world: World) -> dict[str, tuple[str, str]]:
    """The country of each profile that a request gave one, and where it comes from."""
    return {
        each["customer_user_id"]: (each["country"], each["country_source"])
        for each in world.emulator.profiles()
        if each["country_source"] == "explicit"
    }


def times(case: Path) -> tuple[float, float]:
    """When the files from before are applied, and when those from after: ``time.json``, where time counts."""
    file = case / "time.json"
    if not file.exists():
        return 1_000_000.0, 1_000_000.0
    data = json.loads(file.read_text("utf-8"))
    return instant_of(data["before"]), instant_of(data["after"])


def world_at(time: float) -> World:
    return World(clock=ManualClock(time))


def content_of(world: World, values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content of the emulator. The end of access for a span depends on when it was granted."""
    content = world.emulator.content()
    spans = [
        (value["customer_user_id"], level)
        for value in values
        for level, access in value.get("access_levels", {}).items()
        if isinstance(access, dict) and "for" in access
    ]
    for profile in content:
        for customer, level in spans:
            if profile["customer_user_id"] == customer:
                del profile["access"][level]["expires_at"]
    return content


def lines_of(plan: Plan) -> list[Any]:
    return [json.loads(line) for line in to_lines(plan)][1:-1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case(case: Path) -> None:
    begin, end = times(case)
    world = world_at(begin)
    if (seed := case / "seed.json").exists():
        world.emulator.plant(json.loads(seed.read_text("utf-8")))
    world.reach(*values(case / "before"))
    after = values(case / "after")
    world.clock.time = end
    plan = world.plan(*after)
    requests = [
        {
            "method": r.method,
            **({} if r.path == PATH else {"path": r.path}),
            "headers": dict(r.headers),
            "body": r.body,
        }
        for change in plan.changes
        for r in change.requests
    ]
    assert requests == json.loads((case / "requests.json").read_text("utf-8"))
    if (changes := case / "changes.json").exists():
        members = ("address", "action", "renamed_from")
        shown = [{name: line[name] for name in members if name in line} for line in lines_of(plan)]
        assert shown == json.loads(changes.read_text("utf-8"))
    world.apply(plan, *after)
    assert world.plan(*after).is_empty
    assert countries(world) == {
        value["customer_user_id"]: (value["ip_country"], "explicit")
        for value in after
        if "ip_country" in value
    }
    if not any(value.get("meta") for value in after):
        fresh = world_at(end)
        fresh.reach(*after)
        assert content_of(world, after) == content_of(fresh, after)
