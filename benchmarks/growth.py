"""How time and memory grow with the number of profiles: cost must grow with work.

``python -m benchmarks.growth [--sizes 1000,10000,100000,1000000] [--layout LAYOUT] [--rounds N]``.
Above `MANY` profiles there is one round only.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.corpora import LAYOUTS, Corpus
from benchmarks.measuring import (
    MIB,
    ROOT,
    Seconds,
    Table,
    holds,
    numbers,
    parser,
    processors,
    publish,
    rounds,
    say,
    scratch,
)
from benchmarks.planning import Plans, settle
from benchmarks.plot import Points, svg

PLOT = ROOT / "benchmarks" / "growth.svg"
MOST = 1.05
"""The target for the exponent."""
MOST_MEMORY = {"cold, all new": 512, "warm, nothing changed": 256}
"""The targets in MiB, for ``TARGETED`` profiles."""
TARGETED = 1_000_000
MANY = 200_000


def exponent(points: Points) -> float | None:
    """Of the power of x that fits best, by least squares of the logarithms; ``None`` for one point."""
    if len(points) < 2:
        return None
    xs = [math.log(x) for x, _ in points]
    ys = [math.log(y) for _, y in points]
    return statistics.linear_regression(xs, ys).slope


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


class Grown:
    """Seconds (the median of the rounds) and bytes at most, by what was done and how many profiles."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[tuple[float, float]]] = {}
        self.peaks: dict[str, dict[int, int | None]] = {}

    def measure(self, folder: Path, profiles: int, layout: str, times: int) -> None:
        say(f"growth: making {profiles:,} profiles, {layout}")
        corpus = Corpus(folder / str(profiles), profiles, layout)
        plans, many = Plans(corpus, memory=True), processors()
        saved = corpus.folder / "saved.plan"
        times = 1 if profiles > MANY else times

        def watched(name: str, plan: Callable[[], float]) -> Callable[[], float]:
            def once() -> float:
                taken = plan()
                self._peak(name, profiles, plans.peak)
                return taken

            return once

        settle()
        plans.stat()  # so that nothing measured is what reads from the disk first
        say("first plans")
        new = "cold, all new"
        self._add(profiles, rounds(times, {new: watched(new, lambda: plans.new(saved))}))
        say("recording what an apply would have")
        corpus.record(saved)
        saved.unlink()
        say("cold and warm plans")
        recorded, warm = "cold, all recorded", "warm, nothing changed"
        tasks = {
            recorded: watched(recorded, lambda: plans.cold(many)),
            warm: watched(warm, plans.plan),
            "events alone": lambda: plans.events(many),
            "scandir and stat alone": plans.stat,
        }
        self._add(profiles, rounds(times, tasks))
        corpus.remove()

    def _add(self, profiles: int, taken: Seconds) -> None:
        for name, each in taken.items():
            self.seconds.setdefault(name, []).append((profiles, statistics.median(each)))

    def _peak(self, name: str, profiles: int, peak: int | None) -> None:
        peaks = self.peaks.setdefault(name, {})
        peaks[profiles] = max(peak or 0, peaks.get(profiles) or 0) or None

    def time_table(self, sizes: Sequence[int], about: str) -> Table:
        table = Table(
            f"Seconds by number of profiles, {about}",
            (
                "plan",
                *(f"{size:,}" for size in sizes),
                "exponent",
                "of the last step",
                "target",
                "",
            ),
        )
        for name, points in self.seconds.items():
            whole, last = (exponent(each) for each in (points, points[-2:]))
            target = ("", "") if "alone" in name else (f"≤ {MOST:g}", holds(whole, most=MOST))
            times = [f"{taken:.2f}" for _, taken in points]
            table.rows.append((name, *times, *(_cell(whole), _cell(last)), *target))
        return table

    def memory_table(self, sizes: Sequence[int], about: str) -> Table:
        table = Table(
            f"Most memory in MiB, of the process and its children together, {about}; "
            f"the targets are for {TARGETED:,}",
            ("plan", *(f"{size:,}" for size in sizes), "target", ""),
        )
        for name, peaks in self.peaks.items():
            cells = [f"{peak / MIB:.0f}" if (peak := peaks[size]) else "?" for size in sizes]
            most = MOST_MEMORY.get(name)
            known = [peak / MIB for peak in peaks.values() if peak]
            target = ("", "")
            if most is not None:
                # A smaller corpus can miss the target, but not reach it.
                verdict = holds(max(known, default=None), most=most)
                enough = verdict == "MISSED" or max(sizes) >= TARGETED
                target = (f"≤ {most} MiB", verdict if enough else "not measured")
            table.rows.append((name, *cells, *target))
        return table


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", type=numbers, default=[1000, 10_000, 100_000, 1_000_000])
    options.add_argument("--layout", choices=LAYOUTS, default="many")
    given = options.parse_args(arguments)
    grown = Grown()
    with scratch(given.folder) as folder:
        for size in given.sizes:
            grown.measure(folder, size, given.layout, given.rounds)
    about = f"{given.layout}, {processors()} cores"
    tables = [grown.time_table(given.sizes, about), grown.memory_table(given.sizes, about)]
    if given.write:
        PLOT.write_text(svg(f"Seconds to plan ({about})", grown.seconds), "utf-8")
    shown = f"![Seconds to plan against the number of profiles]({PLOT.name})"
    publish("Growth", tables, write=given.write, after=shown)


if __name__ == "__main__":
    main()
