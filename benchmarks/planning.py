"""What a plan costs beside what nothing can go below, whole processes, in one run.

``python -m benchmarks.planning [--profiles N] [--layouts small,many,deep] [--rounds N]``
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.corpora import LAYOUTS, Corpus
from benchmarks.measuring import (
    FLOORS,
    Ratio,
    Table,
    command,
    cores,
    holds,
    numbers,
    parser,
    processors,
    publish,
    rounds,
    run,
    say,
    scratch,
    seconds,
)

COLD, FIRST, WARM, MORE = 2.1, 3.2, 1.6, 0.2
"""The targets: times the events over a recorded state and for its first plan, times the stat, and seconds
more for a hundred changed files. They are for 100,000 profiles."""
EXTRA = 100


def settle() -> None:
    """Lets the stamps of files become old enough to be trusted, and the disk have done with them."""
    if hasattr(os, "sync"):
        os.sync()
    time.sleep(2.1)


class Plans:
    """Plans of a corpus, timed."""

    def __init__(self, corpus: Corpus, *, memory: bool = False) -> None:
        self.corpus = corpus
        self.memory = memory
        self.peak: int | None = None
        """Bytes that the last one held at most, if ``memory`` was asked for."""

    def plan(self, *options: str, changes: bool = False) -> float:
        """Seconds; raises RuntimeError if there are changes and should be none, or the reverse."""
        words = command("plan", "--detailed-exitcode", *options)
        exits = [2 if changes else 0]
        ran = run(words, cwd=self.corpus.folder, keep=False, memory=self.memory, exits=exits)
        self.peak = ran.peak
        return ran.seconds

    def new(self, saved: Path, processes: int | None = None) -> float:
        """Of a workspace that never was planned or applied."""
        self.corpus.forget()
        with cores(processes or processors()):
            return self.plan("--out", str(saved), changes=True)

    def cold(self, processes: int) -> float:
        """Everything recorded and nothing changed, and no index."""
        self.corpus.forget_index()
        with cores(processes):
            return self.plan()

    def changed(self, count: int, *, cold: bool = False) -> float:
        """So many files changed since the last plan; or since the last apply, and no index."""
        self.corpus.change(count, version=1)
        settle()
        if cold:
            self.corpus.forget_index()
        taken, peak = self.plan(changes=True), self.peak
        self.corpus.change(count, version=0)
        settle()
        self.plan()
        self.peak = peak
        return taken

    def stat(self) -> float:
        return run([sys.executable, FLOORS, "stat", str(self.corpus.root)]).seconds

    def events(self, processes: int) -> float:
        words = [sys.executable, FLOORS, "events", str(self.corpus.root), str(processes)]
        with cores(processes):
            return run(words).seconds


def measure(corpus: Corpus, times: int, changed: list[int]) -> Table:
    plans = Plans(corpus)
    saved = corpus.folder / "saved.plan"
    many = processors()
    settle()
    plans.stat()  # so that the first round is not the one that reads from the disk
    say("first plans")
    first = rounds(
        times,
        {
            "events 1": lambda: plans.events(1),
            f"events {many}": lambda: plans.events(many),
            "new 1": lambda: plans.new(saved, 1),
            f"new {many}": lambda: plans.new(saved, many),
        },
    )
    say("recording what an apply would have")
    corpus.record(saved)
    saved.unlink()
    plans.plan()
    tasks: dict[str, Callable[[], float]] = {
        "stat": plans.stat,
        "events 1": lambda: plans.events(1),
        f"events {many}": lambda: plans.events(many),
        "cold 1": lambda: plans.cold(1),
        f"cold {many}": lambda: plans.cold(many),
        "no cache": lambda: plans.plan("--no-cache"),
        "warm": plans.plan,
    }
    changed = [count for count in changed if count <= corpus.profiles]
    for count in changed:
        tasks[f"warm {count}"] = lambda count=count: plans.changed(count)  # type: ignore[misc]
    say("cold and warm plans")
    took = rounds(times, tasks)

    table = Table(
        f"{corpus.profiles:,} profiles in {corpus.files:,} files ({corpus.layout}), "
        f"{corpus.bytes / 1e6:.0f} MB, {times} rounds",
        ("plan", "took", "floor", "took", "ratio, median (range)", "target", ""),
    )

    def row(what: str, taken: list[float], floor: str, by: list[float], most: float | None) -> None:
        ratio = Ratio.of(taken, by)
        target = ("", "") if most is None else (f"≤ {most:g}", holds(ratio.median, most=most))
        table.rows.append((what, seconds(taken), floor, seconds(by), str(ratio), *target))

    for number in sorted({1, many}):
        cold, events = took[f"cold {number}"], took[f"events {number}"]
        row(f"cold, all recorded, {number} core{'s' * (number > 1)}", cold, "events", events, COLD)
    for number in sorted({1, many}):
        new, events = first[f"new {number}"], first[f"events {number}"]
        what = f"cold, all new, printed and saved, {number} core{'s' * (number > 1)}"
        row(what, new, "events", events, FIRST)
    row("--no-cache", took["no cache"], "events", took[f"events {many}"], None)
    # Where many profiles share a file there is little to take the stat of.
    warm, extra = (None, None) if corpus.layout == "many" else (WARM, MORE)
    row("warm, nothing changed", took["warm"], "stat", took["stat"], warm)
    for count in changed:
        taken = took[f"warm {count}"]
        row(f"warm, {count} changed", taken, "stat", took["stat"], None)
        if count == EXTRA:
            more = [a - b for a, b in zip(taken, took["warm"], strict=True)]
            value = statistics.median(more)
            spread = f"{value:+.2f} s ({min(more):+.2f}–{max(more):+.2f})"
            target = ("", "") if extra is None else (f"≤ {extra:g} s", holds(value, most=extra))
            what = f"warm, {count} changed, more than none"
            table.rows.append((what, "", "", "", spread, *target))
    return table


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--profiles", type=int, default=100_000)
    options.add_argument("--layouts", default="small", help=f"Some of {','.join(LAYOUTS)}.")
    options.add_argument("--changed", type=numbers, default=[10, 100, 1000])
    given = options.parse_args(arguments)
    tables = []
    for layout in given.layouts.split(","):
        with scratch(given.folder) as folder:
            say(f"planning: making {given.profiles:,} profiles, {layout}")
            corpus = Corpus(folder / "corpus", given.profiles, layout)
            tables.append(measure(corpus, given.rounds, given.changed))
    publish("Planning", tables, write=given.write)


if __name__ == "__main__":
    main()
