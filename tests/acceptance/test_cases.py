"""Acceptance cases as data: ``before`` is applied, then ``after`` must take exactly ``requests.json``.

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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case(case: Path) -> None:
    world = World()
    world.reach(*values(case / "before"))
    after = values(case / "after")
    plan = world.plan(*after)
    requests = [
        {"method": r.method, "headers": dict(r.headers), "body": r.body}
        for change in plan.changes
        for r in change.requests
    ]
    assert requests == json.loads((case / "requests.json").read_text("utf-8"))
    world.apply(plan, *after)
    assert world.plan(*after).is_empty
    assert countries(world) == {
        value["customer_user_id"]: (value["ip_country"], "explicit")
        for value in after
        if "ip_country" in value
    }
    if not any(value.get("meta") for value in after):
        fresh = World()
        fresh.reach(*after)
        assert world.emulator.content() == fresh.emulator.content()
