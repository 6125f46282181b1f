"""Access over time: its one form, and the way from one access to another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.access import Access, AccessStep, access_of, declared_access, step

NOW = 1_800_000_000
SECONDS = st.integers(NOW - 1000, NOW + 1000)
PERIOD = st.builds(
    Access,
    st.none() | SECONDS,
    st.none() | SECONDS,
    span=st.just(""),
    store=st.sampled_from(["", "stripe"]),
)
SPAN = st.sampled_from(["30d", "1h", "5m"]).map(lambda span: Access(span=span))


@given(PERIOD | SPAN)
def test_the_one_form_reads_back(access: Access) -> None:
    assert access_of(access.text) == access


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("lifetime", "lifetime"),
        ("2027-01-31T02:00:00+02:00", "until 2027-01-31T00:00:00Z"),
        ({"for": "30d"}, "for 30d"),
        (
            {"starts_at": "2027-01-01T00:00:00Z", "expires_at": "2027-01-15T00:00:00Z"},
            "2027-01-01T00:00:00Z until 2027-01-15T00:00:00Z",
        ),
        (
            {"starts_at": "2027-01-01T00:00:00Z", "expires_at": "lifetime"},
            "lifetime from 2027-01-01T00:00:00Z",
        ),
        ("until 2027-01-31T00:00:00Z", "until 2027-01-31T00:00:00Z"),
    ],
)
def test_a_file_says_access_in_several_forms(value: object, text: str) -> None:
    assert declared_access(value).text == text


@given(present=st.none() | PERIOD, wanted=st.none() | PERIOD | SPAN)
def test_once_access_is_as_wanted_nothing_is_to_be_done(
    present: Access | None, wanted: Access | None
) -> None:
    """The step is taken as the emulator takes it: a grant extends and moves the start, a revoke ends."""
    for _ in range(2):  # one that moves the start and shortens takes two requests
        match step(present, wanted, now=NOW):
            case AccessStep.NOTHING:
                return
            case AccessStep.REVOKE:
                assert present is not None
                present = present._replace(end=max(NOW, present.start or NOW))
            case AccessStep.SHORTEN:
                assert present is not None
                assert wanted is not None
                present = present._replace(end=wanted.end)
            case _:
                assert wanted is not None
                end = NOW + 60 if wanted.span else wanted.end
                if present is not None and not present.is_over(NOW):
                    end = None if None in (present.end, end) else max(present.end or 0, end or 0)
                present = Access(wanted.start, end)
    assert step(present, wanted, now=NOW) is AccessStep.NOTHING


@given(present=PERIOD, seconds=st.integers(-1, 1))
def test_instants_within_a_second_are_the_same(present: Access, seconds: int) -> None:
    if present.is_over(NOW) or present.end is None:
        return
    wanted = present._replace(end=present.end + seconds, store="")
    if not wanted.is_over(NOW):
        assert step(present, wanted, now=NOW) is AccessStep.NOTHING


@given(PERIOD)
def test_access_that_is_over_is_not_active(access: Access) -> None:
    assert not (access.is_over(NOW) and access.is_active(NOW))


@pytest.mark.parametrize(("after", "way"), [(0.0, AccessStep.GRANT), (-0.1, AccessStep.NOTHING)])
def test_access_that_was_ended_just_now_is_no_access(after: float, way: AccessStep) -> None:
    """The end in the answer to a revoke may be known as the second after it, since instants are rounded."""
    assert step(Access(end=NOW + 1), Access(span="1h"), now=NOW + after) is way
    is_revoked = step(Access(end=NOW + 1), None, now=NOW + after) is AccessStep.REVOKE
    assert is_revoked == (way is AccessStep.NOTHING)
    wanted = Access(end=NOW + 1)
    assert step(wanted, wanted, now=NOW + after) is AccessStep.NOTHING


@pytest.mark.parametrize(("ahead", "way"), [(1, AccessStep.NOTHING), (2, AccessStep.GRANT)])
def test_access_that_begins_within_a_second_has_begun(ahead: int, way: AccessStep) -> None:
    for present, wanted in [(None, NOW + ahead), (NOW + ahead, None)]:
        assert step(Access(present), Access(wanted), now=NOW) is way
