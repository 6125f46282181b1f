"""Every field of either dialect: set, changed, and cleared or refused, with exactly its minimal body."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.core.contract import Clear
from reconciler.core.contract_files import load_contract
from reconciler.core.options import Options
from reconciler.core.planner import make_plan
from reconciler.core.records import by_address
from reconciler.resources import load_schema
from tests.support.worlds import World, profiles_of

DEVICE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
VALUES: dict[str, tuple[Any, Any]] = {
    "first_name": ("Jane", "Janet"),
    "last_name": ("Doe", "Roe"),
    "gender": ("f", "m"),
    "email": ("jane@example.com", "janet@example.com"),
    "phone_number": ("+12025550123", "+12025550124"),
    "birthday": ("2000-12-31", "1999-01-01"),
    "ip_country": ("FR", "NO"),
    "store_country": ("US", "NO"),
    "store": ("app_store", "stripe"),
    "analytics_disabled": (True, False),
    "ip_v4_address": ("192.0.2.1", "192.0.2.2"),
    "store_account_token": (DEVICE, "ea7583cd-a667-48bc-b806-42ecb2b48333"),
    "att_status": (0, 3),
    "refund_saver.consent": (False, True),
    "refund_saver.preference": ("grant", "decline"),
}
APART = {
    name: facts["fields"]
    for name, facts in load_schema("contract")["facets"].items()
    if "fields" in facts
}
"""The members with a path of their own, which are the only ones in its requests."""
FIELDS = [
    (dialect, path)
    for dialect in ("guide", "openapi")
    for path in load_contract(dialect).fields
    if path != "installation_meta.device_id"
]


def declared(path: str, value: Any) -> dict[str, Any]:
    name, _, member = path.partition(".")
    if member:
        content = {} if name in APART else {"device_id": DEVICE}
        content |= {} if value is None else {member: value}
        return {"customer_user_id": "jane", name: content}
    return {"customer_user_id": "jane"} | ({} if value is None else {name: value})


def body(path: str, value: Any) -> dict[str, Any]:
    name, _, member = path.partition(".")
    if name in APART:
        return {APART[name][member].get("api_name", member): value}
    if member:
        return {name: {"device_id": DEVICE, member: "" if value is None else value}}
    return {name: value}


@pytest.mark.parametrize(("dialect", "path"), FIELDS)
def test_a_field_is_set_changed_and_cleared_by_its_minimal_body(dialect: str, path: str) -> None:
    first, second = VALUES.get(path, ("one", "two"))
    if path == "installation_meta.platform":
        first, second = "iOS", "web"
    world = World(dialect)
    contract = load_contract(dialect)
    for value in (first, second):
        (change,) = world.plan(declared(path, value)).changes
        sent = [request.body for request in change.requests if request.method != "GET"]
        assert sent == [body(path, value)]
        world.reach(declared(path, value))
        assert world.plan(declared(path, value)).is_empty
    if contract.field(path).clear is Clear.NEVER:
        findings = make_plan(
            profiles_of([declared(path, None)], dialect),
            by_address(world.store.records()),
            header=world.store.header(),
            contract=contract,
            options=Options(),
        )
        assert isinstance(findings, list)
        assert [finding.rule for finding in findings] == ["profile/cannot-clear"]
        return
    (change,) = world.plan(declared(path, None)).changes
    assert [request.body for request in change.requests] == [body(path, None)]
    world.reach(declared(path, None))
    assert world.plan(declared(path, None)).is_empty


def test_both_dialects_have_a_value_for_every_field() -> None:
    standard = {path for _, path in FIELDS if "." not in path}
    assert standard == {path for path in VALUES if "." not in path}
