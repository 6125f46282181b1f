"""A clock of the API that jumped hides no drift, is told, and is forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.emulator import Emulator, EmulatorServer, parse_fault
from tests.support.projects import KEYS, Project, remote

JANE = "customer_user_id: jane\nfirst_name: Jane\ncustom_attributes: {tier: gold}\n"
JUMPED = "the API's clock jumped"


@pytest.fixture
def api() -> Iterator[EmulatorServer]:
    with EmulatorServer(Emulator()) as server:
        yield server


@pytest.fixture
def shop(tmp_path: Path, api: EmulatorServer) -> Project:
    """A project whose first apply got answers from years ahead."""
    shop = Project(tmp_path, remote(api.url, api={"rate": "100/s"}), profiles={"jane": JANE})
    api.faults.add(parse_fault("clock=+1000000000:method=POST:times=1"))
    shop.run("apply", "--auto-approve", **KEYS)
    return shop


def by_others(api: EmulatorServer, tier: str) -> None:
    """Somebody else sets the tier of jane."""
    headers = {
        "adapty-customer-user-id": "jane",
        "Authorization": f"Api-Key {KEYS['SECRET_KEY']}",
        "Content-Type": "application/json",
    }
    body = {"custom_attributes": [{"key": "tier", "value": tier}]}
    api.emulator.handle(
        "PATCH",
        "/api/v2/server-side-api/profile/",
        headers=headers,
        body=json.dumps(body).encode(),
    )


def test_an_answer_from_years_ahead_hides_no_drift(shop: Project, api: EmulatorServer) -> None:
    by_others(api, "lead")
    plan = json.loads(shop.run("plan", "--refresh", "--format", "json", **KEYS))
    (change,) = plan["changes"]
    assert [field["path"] for field in change["fields"]] == ["custom_attributes.tier"]
    text = shop.run("refresh", **KEYS)
    assert JUMPED in text
    assert "custom_attributes.tier" in text
    assert JUMPED not in shop.run("refresh", **KEYS)


def test_a_clock_that_went_back_is_told_once_though_nothing_else_changed(shop: Project) -> None:
    first = json.loads(shop.run("refresh", "--format", "json", **KEYS))
    second = json.loads(shop.run("refresh", "--format", "json", **KEYS))
    assert [each["clock_went_back"] for each in first["profiles"]] == [True]
    assert [each["clock_went_back"] for each in second["profiles"]] == [False]


def test_an_apply_compares_its_own_answer_and_tells_of_the_clock(
    shop: Project, api: EmulatorServer
) -> None:
    by_others(api, "lead")
    shop.profile("jane", JANE.replace("Jane", "Joan"))
    text = shop.run("apply", "--auto-approve", **KEYS)
    assert JUMPED in text
    assert "custom_attributes.tier: the API holds another value" in text
    last = json.loads(shop.run("apply", "--auto-approve", "--json", **KEYS).splitlines()[-1])
    assert last["clock_jumps"] == 0
    assert last["outcomes"]["updated"] == 1


@pytest.mark.parametrize(
    "command", [["plan"], ["plan", "--format", "json"], ["apply", "--auto-approve", "--json"]]
)
def test_a_plan_that_reads_the_api_warns_of_its_clock_once(
    shop: Project, command: list[str]
) -> None:
    shop.run(*command, "--refresh", **KEYS)
    assert shop.err.count(JUMPED) == 1


def test_what_an_apply_recorded_of_a_clock_is_not_told_again(shop: Project) -> None:
    shop.run("apply", "--auto-approve", "--refresh", **KEYS)
    shop.run("plan", "--refresh", **KEYS)
    assert JUMPED not in shop.err
