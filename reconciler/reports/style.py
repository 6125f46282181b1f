"""Colours and arrows of text for a terminal. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

RED, GREEN, YELLOW, BOLD, DIM = "31", "32", "33", "1", "2"
"""Parameters of the escape sequence that selects how a terminal prints (ECMA-48, SGR)."""

MARK_COLORS = {"+": GREEN, "~": YELLOW, "-": RED, "x": DIM}
"""By the mark of a change or of a field."""


_WORDS = re.compile(r"(?:[^\s`]*`[^`]*`\S*|\S+)").findall


class Pen(NamedTuple):
    """The abilities of the output: colour, and characters beyond ASCII."""

    color: bool
    ascii: bool = False
    """Whether the output cannot encode arrows."""
    width: int | None = None
    """Columns of the terminal; ``None`` for an output that is no terminal: a sentence is one line there."""

    def __call__(self, text: str, *codes: str) -> str:
        """The text, in colour if the output has colours."""
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self.color and codes else text

    def wrap(self, text: str, indent: str = "") -> str:
        """A sentence, broken between words where the terminal is narrower; ``indent`` begins the further
        lines. A command between back quotes stays in one piece, so that it can be pasted."""
        if self.width is None or len(text) <= self.width:
            return text
        start = text[: len(text) - len(text.lstrip())]
        lines, line = [], start
        for word in _WORDS(text):
            if line.strip() and len(line) + len(word) + 1 > self.width:
                lines.append(line)
                line = indent + word
            else:
                line += word if not line.strip() else f" {word}"
        return "\n".join([*lines, line])

    @property
    def arrow(self) -> str:
        return "->" if self.ascii else "→"
