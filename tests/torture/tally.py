"""What a campaign counted and which promises it saw broken, and how work spreads over processes."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts by name, and a line for every violation: what, and how to see it again."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.counts.update(other.counts)
        self.violations += other.violations

    def blame(self, reproduction: str, found: Iterable[str]) -> None:
        """Notes violations of one case."""
        self.violations += [f"{what}  [{reproduction}]" for what in found]


def spread(unit: Callable[[int], Tally], seeds: Iterable[int], jobs: int) -> Tally:
    """The tallies of all units together, ``jobs`` processes at a time.

    A process is spawned rather than forked: a unit starts threads.
    """
    total = Tally()
    if jobs == 1:
        for seed in seeds:
            total.add(unit(seed))
        return total
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for tally in pool.map(unit, seeds):
            total.add(tally)
    return total
