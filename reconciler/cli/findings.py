"""Findings as text for a terminal or a log, with the lines of files that they are about."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from reconciler.cli.streams import columns
from reconciler.commands import Invocation
from reconciler.errors import Diagnostic, Source
from reconciler.reports.findings_text import diagnostics_text
from reconciler.reports.masking import Mask

_MOST_BYTES = 8 << 20
"""Of a file of which a line is shown. A larger one is not read again for a line of it."""
_LONGEST = 20_000
"""Characters of a line that are looked at."""
_KEY = re.compile(r"([ ]*(?:- )?)([a-z_]+):(?:[ ]|$)").match


def text_of_findings(
    findings: Sequence[Diagnostic],
    stream: TextIO,
    *,
    color: bool,
    root: Path,
    mask: Mask | None,
    everything: bool,
    invocation: Invocation,
) -> str:
    """Findings for a stream. ``root`` is the folder that the names of files in them are relative to."""
    return diagnostics_text(
        findings,
        color=color,
        width=columns(stream),
        excerpts=SourceLines(root, mask),
        everything=everything,
        invocation=invocation,
    )


class SourceLines:
    """Gives the lines of the files below a folder, with their values masked if there is a mask."""

    def __init__(self, root: Path, mask: Mask | None) -> None:
        """``root`` is the folder that the names of files in findings are relative to."""
        self._root = root
        self._mask = mask
        self._read = lru_cache(maxsize=4)(_lines)

    def __call__(self, source: Source) -> str:
        """The line of a source; empty where there is none, or none that may be shown."""
        lines = self._read(self._root / source.file)
        if not 1 <= source.line <= len(lines):
            return ""
        line = lines[source.line - 1][:_LONGEST].removesuffix("\r")
        return line if self._mask is None else _masked(line, self._mask)


def _lines(path: Path) -> list[str]:
    """The lines of a file; none where it cannot be read, or is no regular file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            return []
        return path.read_bytes().decode("utf-8-sig", "replace").split("\n")
    except (OSError, ValueError):
        return []


def _masked(line: str, mask: Mask) -> str:
    """A line with the name of its field and nothing else. A line of a longer text may look like a field, so
    only the names that the contract has are shown."""
    match = _KEY(line)
    if match is None or mask.contract is None or match[2] not in _names(mask):
        return ""
    return f"{match[1]}{match[2]}: (masked)"


def _names(mask: Mask) -> frozenset[str]:
    fields = () if mask.contract is None else mask.contract.fields
    parts = (part for path in fields for part in path.split("."))
    return frozenset(parts) | {"customer_user_id", "profile_id", "platform", "meta"}
