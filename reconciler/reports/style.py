"""Colours and arrows of text for a terminal. Pure."""

from __future__ import annotations

from typing import NamedTuple

RED, GREEN, YELLOW, BOLD, DIM = "31", "32", "33", "1", "2"
"""Parameters of the escape sequence that selects how a terminal prints (ECMA-48, SGR)."""

MARK_COLORS = {"+": GREEN, "~": YELLOW, "-": RED, "x": DIM}
"""By the mark of a change or of a field."""


class Pen(NamedTuple):
    """The abilities of the output: colour, and characters beyond ASCII."""

    color: bool
    ascii: bool = False
    """Whether the output cannot encode arrows."""

    def __call__(self, text: str, *codes: str) -> str:
        """The text, in colour if the output has colours."""
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self.color and codes else text

    @property
    def arrow(self) -> str:
        return "->" if self.ascii else "→"
