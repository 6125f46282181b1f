"""Profiles as documents, and documents with fields that a test overrides."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.authoring.declare import profile_of
from reconciler.authoring.documents import Document
from reconciler.core.contract_files import load_contract
from reconciler.errors import Source
from reconciler.testing.documents import document_of, in_full, overridden


@pytest.mark.parametrize(
    "value",
    [
        {"customer_user_id": "jane", "first_name": "Jane"},
        {"customer_user_id": "jane", "custom_attributes": {"tier": "gold", "level": 3.0}},
        {
            "customer_user_id": "jane",
            "platform": "ios",
            "email": None,
            "meta": {
                "labels": ["qa"],
                "protect": True,
                "forget": ["first_name"],
                "exclusive": ["custom_attributes"],
                "ttl": "1h",
            },
        },
    ],
)
def test_the_document_of_a_profile_declares_the_same_profile(value: dict[str, Any]) -> None:
    source, contract = Source("jane.yaml", 1, 1), load_contract()
    profile = profile_of(Document(value, source, {}), contract)
    again = profile_of(Document(document_of(profile), source, {}), contract)
    assert again == profile


def test_overridden_mappings_are_joined_and_other_values_are_replaced() -> None:
    document = {"first_name": "Jane", "custom_attributes": {"tier": "gold", "level": 1}}
    fields = {"first_name": "Joan", "custom_attributes": {"level": 2}, "email": None}
    assert overridden(document, fields) == {
        "first_name": "Joan",
        "custom_attributes": {"tier": "gold", "level": 2},
        "email": None,
    }
    assert document == {"first_name": "Jane", "custom_attributes": {"tier": "gold", "level": 1}}


def test_placeholders_in_a_value_stay_text() -> None:
    source, contract = Source("jane.yaml", 1, 1), load_contract()
    value = {"customer_user_id": "jane", "first_name": "{run}"}
    profile = profile_of(Document(value, source, {}), contract)
    assert document_of(profile)["first_name"] != "{run}"


def test_short_forms_are_as_in_files() -> None:
    levels = {"a": "1h", "b": "lifetime", "c": None, "d": {"for": "2d"}, "e": "1 h", "f": 5}
    document = {"customer_user_id": "1h", "access_levels": levels, "custom_attributes": {"a": "1h"}}

    full = in_full(document)

    assert full["access_levels"] == {**levels, "a": {"for": "1h"}}
    assert {**full, "access_levels": levels} == document
    assert in_full({"access_levels": "1h"}) == {"access_levels": "1h"}
