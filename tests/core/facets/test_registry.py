"""Facets: the one normaliser, and which module may name them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.facets.registry import normalise
from reconciler.values import Scalar


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("custom_attributes.a", True, 1.0),
        ("custom_attributes.a", False, 0.0),
        ("custom_attributes.a", 1, 1.0),
        ("custom_attributes.a", 5.5, 5.5),
        ("custom_attributes.a", "5", "5"),
        ("custom_attributes.a", "", None),
        ("custom_attributes.a", None, None),
        ("installation_meta.os", "", None),
        ("installation_meta.os", "14", "14"),
        ("email", "a@b.c", "a@b.c"),
        ("analytics_disabled", False, False),
        ("att_status", 0, 0),
        ("email", None, None),
    ],
)
def test_a_value_has_one_form(path: str, value: Scalar | None, expected: Scalar | None) -> None:
    result = normalise(path, value)
    assert (type(result), result) == (type(expected), expected)


def test_there_is_one_zero() -> None:
    assert str(normalise("custom_attributes.a", -0.0)) == "0.0"


@given(
    path=st.sampled_from(["email", "custom_attributes.a", "installation_meta.os"]),
    value=st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
)
def test_normalising_twice_changes_nothing(path: str, value: Scalar | None) -> None:
    once = normalise(path, value)
    twice = normalise(path, once)
    assert (type(twice), twice) == (type(once), once)
