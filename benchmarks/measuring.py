"""Whole processes measured in turns, and the tables that show what came of it."""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
FLOORS = str(ROOT / "benchmarks" / "floors.py")
_OFTEN, _SELDOM = 0.01, 0.05  # seconds between two looks at memory: in the first second, and later
MIB = 1024 * 1024


# --- processes -----------------------------------------------------------------------------------


def command(*words: str) -> list[str]:
    """The real program: the installed console script where there is one."""
    script = Path(sys.executable).with_name("reconcile")
    return [*([str(script)] if script.exists() else [sys.executable, "-m", "reconciler"]), *words]


def environment() -> dict[str, str]:
    """The variables of what is measured: no settings of ours, and the code of this very checkout."""
    kept = {
        name: value
        for name, value in os.environ.items()
        # Installed, a program has its byte code beside it; so it must have after the first round.
        if not name.startswith("RECONCILE_") and name != "PYTHONDONTWRITEBYTECODE"
    }
    homes = {
        name: os.path.join(tempfile.gettempdir(), "reconcile-benchmarks", name)
        for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME")
    }
    return kept | {"PYTHONPATH": str(ROOT), **homes}


@dataclass(frozen=True, slots=True)
class Ran:
    """What a process took. ``peak`` is in bytes, of it and its children at one moment; only where it
    was asked for, and can be told (Linux)."""

    seconds: float
    output: bytes
    errors: bytes
    peak: int | None = None


def run(
    words: Sequence[str],
    *,
    cwd: Path | None = None,
    keep: bool = True,
    memory: bool = False,
    variables: Mapping[str, str] | None = None,
    exits: Sequence[int] = (0,),
) -> Ran:
    """Runs a program to its end; its output goes to a file, and is lost unless it is to be kept.

    Raises RuntimeError where it ends otherwise than expected.
    """
    with tempfile.TemporaryFile(dir=cwd) as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            words,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={**environment(), **(variables or {})},
        )
        try:
            with _watched(process.pid) if memory else nullcontext(list[int]()) as samples:
                process.wait()
        finally:
            process.kill()
        seconds = time.perf_counter() - began
        output.seek(0)
        errors.seek(0)
        said = errors.read()
        if process.returncode not in exits:
            raise RuntimeError(f"{words} ended with {process.returncode}: {said[-2000:]!r}")
        told = output.read() if keep else b""
        return Ran(seconds, told, said, max(samples, default=0) or None)


@contextmanager
def _watched(pid: int) -> Iterator[list[int]]:
    """Bytes that a process and its children hold, looked at again and again meanwhile."""
    samples: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_OFTEN if len(samples) < 1 / _OFTEN else _SELDOM):
            samples.append(_memory(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _memory(pid: int) -> int:
    """Bytes that a process and its children hold: memory that several share is counted once."""
    total = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as children:
                total += sum(_memory(int(child)) for child in children.read().split())
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            found = re.search(r"^Pss: +(\d+) kB", rollup.read(), re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    except OSError:  # gone meanwhile, or no Linux
        pass
    return total


@contextmanager
def cores(number: int) -> Iterator[None]:
    """Whatever starts inside has only so many processors, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- rounds --------------------------------------------------------------------------------------

Seconds: TypeAlias = dict[str, list[float]]


def rounds(number: int, tasks: Mapping[str, Callable[[], float]]) -> Seconds:
    """Seconds by task and round. Every round does all tasks, beginning with another one each time,
    so that a machine that slows down or speeds up does it to all of them."""
    names = list(tasks)
    taken: Seconds = {name: [] for name in names}
    for number_of_round in range(number):
        at = number_of_round % len(names)
        for name in names[at:] + names[:at]:
            taken[name].append(tasks[name]())
    return taken


@dataclass(frozen=True, slots=True)
class Ratio:
    """How much longer one task took than another, by round."""

    each: tuple[float, ...]

    @classmethod
    def of(cls, taken: Sequence[float], floor: Sequence[float]) -> Ratio:
        return cls(tuple(a / b for a, b in zip(taken, floor, strict=True)))

    @property
    def median(self) -> float:
        return statistics.median(self.each)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({min(self.each):.2f}–{max(self.each):.2f})"


def best(task: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of a few rounds, inside of this process."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        task()
        taken.append(time.perf_counter() - start)
    return min(taken)


# --- tables --------------------------------------------------------------------------------------


def holds(value: float | None, *, most: float = math.inf, least: float = -math.inf) -> str:
    """Whether a target holds, as a cell."""
    if value is None:
        return "not measured"
    return "holds" if least <= value <= most else "MISSED"


def seconds(taken: Sequence[float]) -> str:
    value = statistics.median(taken)
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: str = ""

    def text(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.heads, *self.rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.heads, *self.rows)
        ]
        return "\n".join([self.title, *(f"  {line}" for line in lines), *_lines(self.notes)]) + "\n"

    def markdown(self) -> str:
        rows = (self.heads, ("---",) * len(self.heads), *self.rows)
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([f"{self.title}:", "", *lines, *(["", self.notes] if self.notes else [])])


def _lines(notes: str) -> list[str]:
    return [f"  {notes}"] if notes else []


# --- programs ------------------------------------------------------------------------------------


def parser(text: str | None) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--folder", default=None, help="Where corpora and states are kept meanwhile.")
    made.add_argument("--write", action="store_true", help="Write the results into RESULTS.md.")
    return made


def numbers(text: str) -> list[int]:
    """``1000,10_000`` as numbers, smallest first."""
    return sorted(int(word) for word in text.split(",") if word)


@contextmanager
def scratch(folder: str | None) -> Iterator[Path]:
    """A folder that is removed afterwards, also when the program is asked to end."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as name:
            yield Path(name)
    finally:
        signal.signal(signal.SIGTERM, before)


def say(text: str) -> None:
    """What is being done now, for who waits."""
    print(f"[{datetime.now(UTC):%H:%M:%S}] {text}", file=sys.stderr, flush=True)


def publish(section: str, tables: Sequence[Table], *, write: bool, after: str = "") -> None:
    """Prints tables; and, if asked to, puts them in the place of what RESULTS.md has under this heading,
    with the machine, the date and the commit."""
    print(machine())
    for table in tables:
        print(table.text(), flush=True)
    if write:
        body = [machine(), *(table.markdown() for table in tables), *([after] if after else [])]
        text = RESULTS.read_text("utf-8")
        RESULTS.write_text(replaced(text, section, "\n\n".join(body)), "utf-8")


def replaced(text: str, section: str, body: str) -> str:
    """A Markdown text with another body below a heading of the second level, added if it lacks."""
    new = f"## {section}\n\n{body}\n"
    pattern = re.compile(rf"^## {re.escape(section)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(text) is None:
        return f"{text.rstrip()}\n\n{new}"
    return f"{pattern.sub(lambda found: new + chr(10), text, count=1).rstrip()}\n"


def machine() -> str:
    """One line: when, where, what."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {_commit()}; {processors()} processors "
        f"({_model()}), {_total_memory()} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; load {os.getloadavg()[0]:.1f} at the end."
    )


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "reconciler")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def _model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _total_memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3)
