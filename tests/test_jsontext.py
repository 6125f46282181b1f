"""JSON that only this program reads again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.jsontext import packed, spelled_alike, unpacked, unpacked_exactly
from reconciler.values import Tag

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
@example(2**63)
@example(-(2**63) - 1)
@example([2**70, -(2**70), 1.5e300, -0.0, "1" * 30, "\ud800"])
def test_every_integer_is_read_exactly(value: object) -> None:
    for text in (packed(value), json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert repr(unpacked_exactly(text)) == repr(json.loads(text))


def test_what_fits_into_64_bits_is_read_back() -> None:
    assert unpacked(packed([2**64 - 1, -(2**63), "\ud800"])) == [2**64 - 1, -(2**63), "\ud800"]


@given(st.dictionaries(st.text(), VALUES) | st.lists(VALUES))
@example({"a": [1e16, 1e15, 1e-4, 1e-5, -0.0, 0.5], "b": '\x7f\x00\b\f\n\r\t\\"/Ü\u2028😀'})
@example({"a": 1e16})
@example({"a": 123456789012345.0})
@example({"a": 0.0001})
@example({"a": 0.00001})
@example({"a": -1e-300, "b": 2**63})
@example([[1e16]])
def test_what_is_spelled_alike_is_spelled_as_the_standard_library_does(value: Any) -> None:
    spelled = spelled_alike(value)
    assert spelled in (None, json.dumps(value, separators=(",", ":")))


def test_what_bodies_hold_is_spelled_alike() -> None:
    body = {
        "first_name": "Zoë",
        "custom_attributes": [{"key": "level", "value": 17.0}, {"b": True}],
    }
    assert spelled_alike(body) == json.dumps(body, separators=(",", ":"))
    assert spelled_alike({"a": Tag("(personal #1)")}) == '{"a":"(personal #1)"}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_what_may_have_been_no_number_is_left_to_the_standard_library(value: object) -> None:
    for holding in ({"a": value}, [value], ["a", value], {"a": [{"b": value}]}):
        assert spelled_alike(holding) is None
