"""Plain scalars that other tools read in another way."""

from __future__ import annotations

import pytest

from reconciler.authoring.yaml_scalars import is_ambiguous, read_elsewhere


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NO", "false"),
        ("on", "true"),
        ("Null", "null"),
        ("007", "the number 7"),
        ("012", "the number 10"),
        ("08", "the number 8"),
        ("+1234567890", "the number 1234567890"),
        ("-0x1F", "the number -31"),
        ("1_000", "the number 1000"),
        ("12:30", "the number 750"),
        (".5", "the number 0.5"),
        ("-.inf", "minus infinity"),
        ("2000-12-31", "a date"),
        ("2001-12-14t21:59:43.10-05:00", "a date with a time"),
        ("+" + "9" * 5_000, "a number"),
        ("<<", "a merge"),
    ],
)
def test_what_other_tools_read_is_named(text: str, expected: str) -> None:
    assert is_ambiguous(text)
    assert read_elsewhere(text) == expected
