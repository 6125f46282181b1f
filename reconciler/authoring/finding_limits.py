"""Bounds on findings, so that a file with a million mistakes costs no more than one with a hundred. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

from reconciler.errors import Diagnostic

MOST_OF_A_RULE = 100
"""Findings of one rule that are listed for a file."""


class LimitedFindings:
    """Collects findings. For each file and rule it keeps the first ones and counts the others."""

    def __init__(self, most: int = MOST_OF_A_RULE, *, distinct: bool = False) -> None:
        """With ``distinct``, a finding that repeats a rule at the same place is neither kept nor counted.

        The profiles of a template share their places, and all profiles of a folder share its defaults.
        """
        self._most = most
        self._distinct = distinct
        self._kept: list[Diagnostic] = []
        self._places: set[Hashable] = set()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._last: dict[tuple[str, str], int] = {}

    def __bool__(self) -> bool:
        return bool(self._kept)

    def add(self, finding: Diagnostic) -> None:
        key = (finding.source.file, finding.rule)
        if self._distinct:
            place = (finding.source, finding.rule)
            if place in self._places:
                return
            if not self.is_full(*key):
                self._places.add(place)
        if not self.is_full(*key):
            self._last[key] = len(self._kept)
            self._kept.append(finding)
        self.count(*key)

    def extend(self, findings: Iterable[Diagnostic]) -> None:
        for finding in findings:
            self.add(finding)

    def is_full(self, file: str, rule: str) -> bool:
        """Whether another finding of this rule about this file would only be counted."""
        return self._counts[file, rule] >= self._most

    def count(self, file: str, rule: str) -> None:
        """Counts a finding that need not be worded, because its rule is full."""
        self._counts[file, rule] += 1

    def listed(self) -> list[Diagnostic]:
        """The findings that were kept, in their order. The last one of a file and rule says how many more
        there are."""
        listed = list(self._kept)
        for key, position in self._last.items():
            more = self._counts[key] - self._most
            if more > 0:
                last = listed[position]
                listed[position] = last._replace(
                    message=f"{last.message}; and {more:,} more like it"
                )
        return listed
