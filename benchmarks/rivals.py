"""A plan beside one of octoDNS for as many records, from YAML to YAML, whole processes, in one run.

``python -m benchmarks.rivals [--sizes 10000,50000] [--rounds N] [--octodns FOLDER]``. Without a virtual
environment that has octoDNS it makes one, from ``octodns.txt``, and removes it again.
"""

from __future__ import annotations

import venv
from collections.abc import Callable
from pathlib import Path

from benchmarks.corpora import LAYOUTS, Corpus
from benchmarks.measuring import (
    MIB,
    ROOT,
    Ratio,
    Table,
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
from benchmarks.planning import Plans, settle

COLD, WARM = 4.0, 30.0
"""The targets: times faster."""
_CONFIG = """\
providers:
  source:
    class: octodns.provider.yaml.YamlProvider
    directory: ./source
  target:
    class: octodns.provider.yaml.YamlProvider
    directory: ./target
zones:
  bench.example.:
    sources: [source]
    targets: [target]
"""


def installed(folder: Path) -> Path:
    """A virtual environment with octoDNS in it."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    requirements = str(ROOT / "benchmarks" / "octodns.txt")
    run([*pip, "--disable-pip-version-check", "-r", requirements])
    return folder


class OctoDns:
    """A zone with so many records in a source and in a target, of which some differ."""

    def __init__(self, folder: Path, program: Path, records: int) -> None:
        self.folder = folder
        self.memory = False
        self.peak: int | None = None
        self._program = program
        self._records = records
        for place in ("source", "target"):
            (folder / place).mkdir(parents=True)
        (folder / "config.yaml").write_text(_CONFIG, "utf-8")
        self._write("target", 0)

    def _write(self, place: str, changed: int) -> None:
        step = self._records // changed if changed else 0
        lines = ["---\n"]
        for number in range(self._records):
            differs = step and number % step == 0 and number < step * changed
            address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            lines.append(
                f"record-{number:07}:\n  ttl: {600 if differs else 300}\n  type: A\n"
                f"  values:\n  - {address}\n"
            )
        (self.folder / place / "bench.example.yaml").write_text("".join(lines), "utf-8")

    def plan(self, changed: int) -> float:
        """Seconds; raises RuntimeError if it finds another number of changes."""
        self._write("source", changed)
        words = [str(self._program / "bin" / "octodns-sync"), "--config-file=config.yaml"]
        ran = run(words, cwd=self.folder, memory=self.memory)
        self.peak = ran.peak
        expected = f"Updates={changed}," if changed else "No changes were planned"
        if expected.encode() not in ran.errors:
            raise RuntimeError(f"octoDNS did not find {changed} changes: {ran.errors[-500:]!r}")
        return ran.seconds


def measure(folder: Path, program: Path, records: int, layout: str, times: int) -> Table:
    octodns = OctoDns(folder / "octodns", program, records)
    corpus = Corpus(folder / "corpus", records, layout)
    plans = Plans(corpus)
    saved = corpus.folder / "saved.plan"
    settle()
    plans.new(saved)
    corpus.record(saved)
    saved.unlink()
    plans.plan()
    some = records // 100
    tasks: dict[str, tuple[Plans | OctoDns, Callable[[], float]]] = {
        "octoDNS, 0 %": (octodns, lambda: octodns.plan(0)),
        "cold, 0 %": (plans, lambda: plans.cold(processors())),
        "warm, 0 %": (plans, plans.plan),
        "octoDNS, 1 %": (octodns, lambda: octodns.plan(some)),
        "cold, 1 %": (plans, lambda: plans.changed(some, cold=True)),
        "warm, 1 %": (plans, lambda: plans.changed(some)),
    }
    taken = rounds(times, {name: plan for name, (_, plan) in tasks.items()})
    peaks: dict[str, int] = {}
    for name, (of, plan) in tasks.items():  # apart, since looking at memory takes time
        of.memory = True
        plan()
        peaks[name] = of.peak or 0
    table = Table(
        f"{records:,} records in one zone, and as many profiles ({layout}), {times} rounds",
        ("plan, changed", "took", "times faster than octoDNS, median (range)", "target", "",
         "MiB", "less memory"),
    )  # fmt: skip
    for name, each in taken.items():
        kind, share = name.split(", ")
        rival = f"octoDNS, {share}"
        memory = f"{peaks[name] / MIB:.0f}"
        if name == rival:
            table.rows.append((name, seconds(each), "", "", "", memory, ""))
            continue
        faster = Ratio.of(taken[rival], each)
        least = {"cold": COLD, "warm": WARM}[kind]
        verdict = holds(faster.median, least=least)
        less = holds(peaks[name] or None, most=peaks[rival])
        table.rows.append((name, seconds(each), str(faster), f"≥ {least:g}", verdict, memory, less))
    return table


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", type=numbers, default=[10_000, 50_000])
    options.add_argument("--layout", choices=LAYOUTS, default="small")
    options.add_argument("--octodns", type=Path, help="A virtual environment that has it.")
    given = options.parse_args(arguments)
    tables = []
    with scratch(given.folder) as folder:
        if given.octodns is None:
            say("installing octoDNS into an environment of its own")
        program = given.octodns or installed(folder / "environment")
        for size in given.sizes:
            say(f"rivals: {size:,} records")
            with scratch(str(folder)) as inner:
                tables.append(measure(inner, program.absolute(), size, given.layout, given.rounds))
    publish("Beside octoDNS", tables, write=given.write)


if __name__ == "__main__":
    main()
