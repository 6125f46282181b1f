"""Instants: the spellings that are read, the ones that are not, and the one that is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.emulator.instants import format_instant, is_instant, parse_instant, plain_instant

ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=ZONES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-12-24T10:50:23+00:00", "2024-12-24T10:50:23+00:00"),
        ("2025-01-05T13:27:47.461425+00:00", "2025-01-05T13:27:47.461425+00:00"),
        ("2022-10-12T09:42:50.000000+0000", "2022-10-12T09:42:50+00:00"),
        ("2024-12-24T10:50:23Z", "2024-12-24T10:50:23+00:00"),
        ("2024-12-24 10:50", "2024-12-24T10:50:00+00:00"),
        ("2024-12-24T10:50:23.5+02:30", "2024-12-24T08:20:23.500000+00:00"),
        ("2024-02-29T00:00:00-0130", "2024-02-29T01:30:00+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
    ],
)
def test_a_spelling_is_read(text: str, expected: str) -> None:
    instant = parse_instant(text)
    assert instant is not None
    assert format_instant(instant) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2024-12-24", "2024-12-24T10", "2024-12-24T24:00:00Z", "2024-12-24T10:60:00Z"),
        *(
            "2024-12-24T10:50:60Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "0000-01-01T00:00Z",
        ),
        *(
            "2024-12-24T10:50:23.1234567Z",
            "2024-12-24T10:50:23+24:00",
            "2024-12-24T10:50:23+0",
            "1700000000",
        ),
        *("0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", " 2024-12-24T10:50:23Z"),
        *("2024-12-24T10:50:23Z\n", "٢٠٢٤-12-24T10:50:23Z"),
        *(None, 1700000000, 1.5, True, ["2024-12-24T10:50:23Z"]),
    ],
)
def test_anything_else_is_no_instant(text: object) -> None:
    assert parse_instant(text) is None


@given(MOMENTS)
def test_reading_agrees_with_the_standard_library(moment: datetime) -> None:
    instant = parse_instant(moment.isoformat())
    assert instant is not None
    assert (instant - (parse_instant("1970-01-01T00:00:00Z") or 0)) * timedelta(
        microseconds=1
    ) == moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert format_instant(instant) == moment.astimezone(UTC).isoformat()
    assert plain_instant(instant) == str(moment.astimezone(UTC))


def test_the_last_instant_has_a_text() -> None:
    last = parse_instant("9999-12-31T23:59:59.999999Z")
    assert last is not None
    assert is_instant(last)
    assert not is_instant(last + 1)
