"""Selections: an exact address always wins over a pattern."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.options import Selection

ADDRESSES = st.text(alphabet="ab1[]*?!-:.", min_size=1, max_size=6) | st.sampled_from(
    ["label:a", "id:a", "id:id:a", "label:*", "[a]", "a[1]", "a1"]
)


def taken(selection: Selection, addresses: set[str]) -> set[str]:
    exact = selection.exact(addresses.intersection)
    return {address for address in addresses if exact.takes(address, ["a"])}


@given(st.sets(ADDRESSES, min_size=1), st.data())
def test_the_address_of_a_profile_selects_that_one_only(
    addresses: set[str], data: st.DataObject
) -> None:
    address = data.draw(st.sampled_from(sorted(addresses)))
    if not (address.startswith("id:") and address[3:] in addresses):
        assert taken(Selection((address,)), addresses) == {address}
        assert taken(Selection((), (address,)), addresses) == addresses - {address}
    assert taken(Selection((f"id:{address}",)), addresses) == {address}
    assert taken(Selection((), (f"id:{address}",)), addresses) == addresses - {address}


@given(st.sets(ADDRESSES), ADDRESSES)
def test_a_pattern_that_is_no_address_is_a_glob(addresses: set[str], pattern: str) -> None:
    if pattern in addresses or pattern.startswith(("id:", "label:")):
        return
    assert taken(Selection((pattern,)), addresses) == {
        address for address in addresses if fnmatchcase(address, pattern)
    }


@given(st.sets(ADDRESSES), st.lists(ADDRESSES), st.lists(ADDRESSES))
def test_an_exact_selection_is_exact_already(
    addresses: set[str], select: list[str], exclude: list[str]
) -> None:
    once = Selection(tuple(select), tuple(exclude)).exact(addresses.intersection)
    again = once.exact(addresses.intersection)
    assert {a for a in addresses if once.takes(a, ())} == {
        a for a in addresses if again.takes(a, ())
    }


@pytest.mark.parametrize("pattern", ["jane", "qa-jane", "profile:3286abd3"])
def test_a_pattern_that_cannot_be_mistaken_asks_nobody(pattern: str) -> None:
    def known(addresses: object) -> set[str]:
        raise AssertionError

    selection = Selection((pattern,))
    assert selection.exact(known) is selection
