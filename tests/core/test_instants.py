"""Instants: the spellings of the API and of files, and what names none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.instants import NoTime, NoZone, instant_of, instant_text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2024-12-24T10:50:23+00:00", "2024-12-24T10:50:23Z"),
        ("2025-01-05T13:27:47.461425+00:00", "2025-01-05T13:27:47Z"),
        ("2022-10-12T09:42:50.000000+0000", "2022-10-12T09:42:50Z"),
        ("2027-01-31T02:00+02:00", "2027-01-31T00:00:00Z"),
        ("2027-01-30T19:00:00-0500", "2027-01-31T00:00:00Z"),
        ("2027-01-31 00:00:00z", "2027-01-31T00:00:00Z"),
        ("2027-01-31T00:00:00.5Z", "2027-01-31T00:00:01Z"),
    ],
)
def test_an_instant_has_one_spelling(text: str, same: str) -> None:
    assert instant_text(instant_of(text)) == same


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2027-01-31T00:00:00", NoZone),
        ("2027-01-31", NoTime),
        ("2027-02-31T00:00:00Z", ValueError),
        ("2027-02-31", ValueError),
        ("2027-01-31T24:00:00Z", ValueError),
        ("2027-01-31T00:60Z", ValueError),
        ("2027-01-31T00:00:00+15:00", ValueError),
        ("2027-01-31T00:00:00+01:75", ValueError),
        ("1700000000", ValueError),
        ("soon", ValueError),
        ("", ValueError),
    ],
)
def test_what_names_no_instant_is_refused(text: str, problem: type[ValueError]) -> None:
    with pytest.raises(ValueError) as refused:
        instant_of(text)
    assert refused.type is problem or problem is ValueError
    assert problem is ValueError or refused.type is problem


@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_an_instant_reads_back(at: int) -> None:
    assert instant_of(instant_text(at)) == at
