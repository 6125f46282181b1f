"""The rules of access levels that need more than a file: the levels that the configuration lists."""

from __future__ import annotations

from typing import Any

from reconciler.authoring.documents import Document
from reconciler.authoring.facets.registry import listed_findings
from reconciler.authoring.formatter import format_text
from reconciler.core.contract import Contract
from reconciler.errors import Diagnostic, Source


def findings(contract: Contract, levels: dict[str, Any], *names: str) -> list[Diagnostic]:
    document = Document({"access_levels": levels}, Source("jane.yaml", 1, 1), {})
    listed = {"access_levels": names} if names else {}
    return [*listed_findings([document], contract, listed=listed)]


def test_a_level_that_the_configuration_does_not_list_is_an_error(contract: Contract) -> None:
    (finding,) = findings(contract, {"pro": None, "tiral": "lifetime"}, "pro", "trial")
    assert (finding.rule, finding.is_error) == ("access/level", True)
    assert finding.hint == 'Did you mean "trial"?'


def test_a_level_like_no_other_is_to_be_listed(contract: Contract) -> None:
    (finding,) = findings(contract, {"zebra": "lifetime"}, "pro")
    assert "list it under `access_levels`" in finding.hint


def test_premium_need_not_be_listed(contract: Contract) -> None:
    assert findings(contract, {"premium": "lifetime"}, "pro") == []


def test_without_a_list_any_level_may_be_named(contract: Contract) -> None:
    assert findings(contract, {"zebra": "lifetime"}) == []


def test_a_period_begins_with_its_beginning_once_it_is_formatted(contract: Contract) -> None:
    text = (
        "customer_user_id: jane\naccess_levels:\n"
        '  pro: {expires_at: "2027-02-01T00:00:00Z", starts_at: "2027-01-01T00:00:00Z"}\n'
        "  beta: {for: 30d}\n"
    )
    assert format_text(text, "jane.yaml", contract=contract) == (
        "customer_user_id: jane\naccess_levels:\n"
        "  beta: {for: 30d}\n"
        '  pro: {starts_at: "2027-01-01T00:00:00Z", expires_at: "2027-02-01T00:00:00Z"}\n'
    )
