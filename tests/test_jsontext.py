"""JSON that only this program reads again."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.jsontext import packed, unpacked, unpacked_exactly

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
