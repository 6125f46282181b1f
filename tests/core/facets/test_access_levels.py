"""Access levels: what an answer shows, and plans that no program wrote."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.core.facets.access_levels import ACCESS_LEVELS, GRANT, REVOKE
from reconciler.core.facets.registry import check_change
from reconciler.core.plan import Action, Basis, Change, FieldChange, Op, Request
from reconciler.core.records import Fact
from reconciler.errors import StateRefused

LEVEL = {
    "access_level_id": "premium",
    "store": "adapty",
    "starts_at": None,
    "expires_at": "2027-01-31T00:00:00.000000+0000",
}


@pytest.mark.parametrize(
    ("level", "text"),
    [
        ({}, "until 2027-01-31T00:00:00Z"),
        ({"expires_at": None}, "lifetime"),
        ({"starts_at": "2027-01-01T00:00:00Z"}, "2027-01-01T00:00:00Z until 2027-01-31T00:00:00Z"),
        ({"store": "app_store"}, "until 2027-01-31T00:00:00Z, bought in app_store"),
        ({"store": None}, "until 2027-01-31T00:00:00Z"),
    ],
)
def test_a_level_of_an_answer_is_one_text(level: dict[str, Any], text: str) -> None:
    shown = ACCESS_LEVELS.shown({"access_levels": [{**LEVEL, **level}]})
    assert shown == {"access_levels.premium": text}


@pytest.mark.parametrize("data", [{}, {"access_levels": None}, {"access_levels": []}])
def test_no_levels_are_no_levels(data: dict[str, Any]) -> None:
    assert ACCESS_LEVELS.shown(data) == {}


@pytest.mark.parametrize(
    "levels",
    [5, [5], [{}], [LEVEL, LEVEL], [{**LEVEL, "expires_at": "soon"}], [{**LEVEL, "store": 5}]],
)
def test_what_is_no_list_of_levels_is_no_profile(levels: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        ACCESS_LEVELS.shown({"access_levels": levels})


def test_access_in_an_unknown_form_in_the_state_is_refused() -> None:
    fact = Fact.of("whenever")
    with pytest.raises(StateRefused):
        ACCESS_LEVELS.satisfies(fact, "lifetime", now=0.0)


def change(path: str, body: dict[str, Any], after: str = "lifetime") -> Change:
    field = FieldChange("access_levels.premium", Op.SET, None, after, Basis.NONE)
    request = Request("POST", path, {"adapty-customer-user-id": "jane"}, body)
    return Change("jane", Action.UPDATE, "", (field,), (request,))


def test_a_planned_change_is_well_formed() -> None:
    check_change(change(GRANT, {"access_level_id": "premium"}))
    check_change(
        change(
            GRANT, {"access_level_id": "premium", "expires_at": "<time of apply> + 30d"}, "for 30d"
        )
    )


@pytest.mark.parametrize(
    "flawed",
    [
        change(GRANT, {}),
        change(GRANT, {"access_level_id": "premium", "expires_at": "2027-02-31T00:00:00Z"}),
        change(REVOKE, {"access_level_id": "premium", "revoke_at": "soon"}),
        change(GRANT, {"access_level_id": "premium"}, "some day"),
        change(GRANT, {"access_level_id": "premium"}, "for ages"),
        change(GRANT, {"access_level_id": "premium", "expires_at": "<time of apply> + ages"}),
    ],
)
def test_a_change_that_no_program_planned_is_noticed(flawed: Change) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        check_change(flawed)
