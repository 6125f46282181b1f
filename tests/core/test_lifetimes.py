"""How long profiles may live."""

from __future__ import annotations

import pytest

from reconciler.core.lifetimes import expiry, is_time, seconds_of

DAY = 86400.0


@pytest.mark.parametrize(
    ("lifetime", "created", "end"),
    [
        ("1970-01-01", None, DAY),  # the whole day
        ("1970-01-02T00:01Z", None, DAY + 60),
        ("1970-01-01T23:59:59Z", 5.0, DAY - 1),
        ("2h", 100.0, 7300.0),
        ("14d", 0.0, 14 * DAY),
        ("1w", 0.0, 7 * DAY),
        ("30s", 1.5, 31.5),
        ("2h", None, None),
        ("2026-02-30", None, None),
        ("soon", 1.0, None),
    ],
)
def test_when_it_ends(lifetime: str, created: float | None, end: float | None) -> None:
    assert expiry(lifetime, created) == end


@pytest.mark.parametrize(
    "text", ["2026-02-29", "2026-13-01", "0000-01-01", "2026-01-01T24:00Z", "14d"]
)
def test_what_is_no_time(text: str) -> None:
    assert not is_time(text)


@pytest.mark.parametrize("text", ["", "1", "0d", "1y", "-1d", "1.5h", "1 h"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="is not a span"):
        seconds_of(text)
