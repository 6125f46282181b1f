"""JSON that only this program reads again."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.jsontext import packed, spelled_exactly, unpacked, unpacked_exactly

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
        data = text.encode("utf-8", "surrogatepass")
        assert repr(unpacked_exactly(data)) == repr(json.loads(text))


@given(VALUES)
@example([1e-4, 9.9e-5, 1e15, 1e16, 1e17, 1.5e300, -0.0, {"a": ({"b": 1e-7},)}])
@example([2**64, -(2**63) - 1, "\x7f\x80\u2028\U0001f600\ud800", {"\x7f\xe9": '\\xe9"/'}])
@example(["\x00\x1b\x7f\x80\x9f\u2028\ufeff\U0001f600", {"\x7f\xe9": '\\xe9"/\b'}])
def test_json_is_spelled_as_the_standard_library_does(value: object) -> None:
    assert spelled_exactly(value, numbers=[value]).decode() == json.dumps(
        value, separators=(",", ":")
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_of_json_is_not_spelled(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        spelled_exactly({"a": [value]}, numbers=[[value]])


def test_what_fits_into_64_bits_is_read_back() -> None:
    assert unpacked(packed([2**64 - 1, -(2**63), "\ud800"])) == [2**64 - 1, -(2**63), "\ud800"]
