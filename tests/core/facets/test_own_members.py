"""Members with a path of their own: what is the same for all groups of them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from reconciler.core.contract import Contract, Dialect
from reconciler.core.contract_files import load_contract
from reconciler.core.facets.facet import Situation
from reconciler.core.facets.integrations import INTEGRATIONS
from reconciler.core.facets.own_members import OwnMembers
from reconciler.core.facets.refund_saver import REFUND_SAVER
from reconciler.core.facets.registry import check_change, is_readable, is_shown, readings
from reconciler.core.plan import Action, Basis, Change, FieldChange, Op, Request
from reconciler.resources import load_schema
from tests.support.worlds import profiles_of

NAMED = {"adapty-customer-user-id": "jane"}
GROUPS = (INTEGRATIONS, REFUND_SAVER)


@pytest.mark.parametrize("facet", GROUPS, ids=lambda facet: facet.group)
def test_a_group_is_as_the_contract_says(facet: OwnMembers) -> None:
    block = load_schema("contract")["facets"][facet.group]
    assert {block["read"]["path"], block["write"]["path"]} == {facet.address} == facet.paths
    assert block["read"]["within"] == ([facet.within] if facet.within else [])
    assert block["write"]["answer"] == (facet.within or "empty")
    renamed = {
        name: facts["api_name"] for name, facts in block["fields"].items() if "api_name" in facts
    }
    assert facet.api_names == renamed


@pytest.mark.parametrize("dialect", Dialect)
def test_each_dialect_has_all_members(dialect: Dialect) -> None:
    contract: Contract = load_contract(dialect)
    assert [len(contract.members(facet.group)) for facet in GROUPS] == [16, 2]


def test_each_group_of_a_profile_takes_one_read() -> None:
    paths = ["first_name", "integrations.branch_id", "integrations.appsflyer_id"]
    assert [request.path for _, request in readings(paths, NAMED)] == [INTEGRATIONS.address]
    both = [*paths, "refund_saver.consent"]
    assert [facet for facet, _ in readings(both, NAMED)] == [*GROUPS]
    assert readings(["first_name", "custom_attributes.a"], NAMED) == []


def test_the_members_are_readable_although_no_profile_shows_them() -> None:
    assert is_readable("refund_saver.consent")
    assert not is_shown("refund_saver.consent")
    assert not is_readable("first_name")


def change(facet: OwnMembers, body: dict[str, Any]) -> Change:
    field = FieldChange(f"{facet.group}.consent", Op.SET, None, True, Basis.NONE)
    request = Request("POST", facet.address, NAMED, body)
    return Change("jane", Action.UPDATE, "", (field,), (request,))


@pytest.mark.parametrize("value", [5, 1.5, [], {}, "\ud800"])
def test_a_change_that_no_program_planned_is_noticed(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        check_change(change(INTEGRATIONS, {"branch_id": value}))


def test_a_cleared_member_is_sent_as_the_contract_says() -> None:
    """How a member is cleared is assumed (adapty-api 1.2), so it is data."""
    data = deepcopy(load_schema("contract"))
    data["facets"]["integrations"]["fields"]["branch_id"]["clear"] = "empty"
    situation = Situation(
        profiles_of([{"customer_user_id": "jane"}])[0], None, Contract.of(data), 0.0
    )
    cleared = [
        FieldChange(f"integrations.{name}", Op.CLEAR, "x", None, Basis.RECORDED)
        for name in ("branch_id", "appsflyer_id")
    ]
    (request,) = INTEGRATIONS.requests(cleared, situation, named=NAMED)
    assert request.body == {"branch_id": "", "appsflyer_id": None}
    assert dict(INTEGRATIONS.written_by(request)) == {
        "integrations.branch_id": None,
        "integrations.appsflyer_id": None,
    }
