"""How a terminal's width and colours shape a text."""

from __future__ import annotations

import pytest

from reconciler.reports.style import Pen

SENTENCE = "! a b `reconcile --env local plan --prune`, then d"


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (None, [SENTENCE]),
        (80, [SENTENCE]),
        (45, ["! a b `reconcile --env local plan --prune`,", "  then d"]),
        (10, ["! a b", "  `reconcile --env local plan --prune`,", "  then d"]),
    ],
)
def test_a_sentence_is_broken_between_words_and_never_in_a_command(
    width: int | None, expected: list[str]
) -> None:
    assert Pen(False, width=width).wrap(SENTENCE, "  ").split("\n") == expected


def test_a_word_longer_than_the_line_and_a_lone_back_quote_are_kept_whole() -> None:
    word = "x" * 90
    assert Pen(False, width=40).wrap(f"  {word} `y", "  ") == f"  {word}\n  `y"
