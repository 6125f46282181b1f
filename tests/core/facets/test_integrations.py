"""Integration identifiers: what their answers say."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.core.contract_files import load_contract
from reconciler.core.facets.integrations import INTEGRATIONS
from reconciler.core.plan import Request

NAMED = {"adapty-customer-user-id": "jane"}
GET = Request("GET", INTEGRATIONS.address, NAMED)
POST = Request("POST", INTEGRATIONS.address, NAMED, {"branch_id": "key"})
NONE: dict[str, Any] = dict.fromkeys(INTEGRATIONS.keys_of(load_contract().members("integrations")))


def test_an_empty_answer_to_a_post_says_that_it_took_effect_and_shows_nothing() -> None:
    assert INTEGRATIONS.own_answer(POST, None) == {}


def test_an_answer_to_a_get_shows_what_is_set() -> None:
    shown = INTEGRATIONS.own_answer(GET, {**NONE, "branch_id": "key", "appsflyer_id": ""})
    assert shown == {"integrations.branch_id": "key"}


def test_a_member_that_a_later_api_adds_does_no_harm() -> None:
    assert INTEGRATIONS.own_answer(GET, {**NONE, "new_service_id": "x"}) == {
        "integrations.new_service_id": "x"
    }


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        5,
        {},
        {"status": "maintenance"},
        {"errors": ["Profile not found"]},
        {**NONE, "branch_id": 5},
        {**NONE, "branch_id": ["key"]},
        {**NONE, "branch_id": "\ud800"},
    ],
)
def test_what_is_no_list_of_identifiers_is_no_answer(content: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        INTEGRATIONS.own_answer(GET, content)
