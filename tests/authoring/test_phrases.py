"""How findings suggest names."""

from __future__ import annotations

import pytest

from reconciler.authoring.phrases import did_you_mean


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Email", "email"), ("first-name", "first_name"), ("zzz", None), ("e" * 70_000, None)],
)
def test_did_you_mean_looks_past_case_and_dashes(name: str, expected: str | None) -> None:
    assert did_you_mean(name, ["email", "first_name"]) == expected
