"""The rules of members with a path of their own. Their findings are folders below tests/bad_input."""

from __future__ import annotations

from reconciler.authoring.facets.integrations import INTEGRATION_RULES
from reconciler.authoring.facets.refund_saver import REFUND_RULES
from reconciler.core.contract import Contract
from reconciler.resources import load_schema


def test_members_are_written_in_the_order_of_the_contract(contract: Contract) -> None:
    facets = load_schema("contract")["facets"]
    for rules in (INTEGRATION_RULES, REFUND_RULES):
        assert rules.ordered_keys(contract) == [*facets[rules.group]["fields"]]


def test_members_and_whole_groups_can_be_forgotten(contract: Contract) -> None:
    for path in ("integrations", "integrations.branch_id"):
        assert INTEGRATION_RULES.can_be_forgotten(path, contract)
    assert not INTEGRATION_RULES.can_be_forgotten("integrations.nope", contract)
    assert REFUND_RULES.can_be_forgotten("refund_saver.preference", contract)
    assert not REFUND_RULES.can_be_forgotten("refund_saver.custom_preference", contract)
