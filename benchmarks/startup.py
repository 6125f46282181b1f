"""What it costs to start, beside importing click, whole processes, in one run.

``python -m benchmarks.startup [--rounds N]``
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from benchmarks.corpora import Corpus
from benchmarks.measuring import (
    Ratio,
    Table,
    command,
    holds,
    parser,
    publish,
    rounds,
    run,
    say,
    scratch,
    seconds,
)
from benchmarks.planning import settle

MOST = 1.5
"""The target: times the import of click."""
COMPLETING = {
    "_RECONCILE_COMPLETE": "bash_complete",
    "COMP_WORDS": "reconcile plan --de",
    "COMP_CWORD": "2",
}
# The program by the name under which the variables above ask for completion, however it is started.
AS_RECONCILE = "import sys; sys.argv[0] = 'reconcile'; from reconciler.__main__ import main; main()"


def measure(folder: Path, times: int) -> Table:
    corpus = Corpus(folder / "corpus", 10)
    saved = corpus.folder / "saved.plan"
    run(command("plan", "--out", str(saved)), cwd=corpus.folder)
    corpus.record(saved)
    settle()
    run(command("plan"), cwd=corpus.folder)

    def task(
        *words: str, variables: Mapping[str, str] | None = None, prints: bytes = b""
    ) -> Callable[[], float]:
        def once() -> float:
            ran = run(words, cwd=corpus.folder, variables=variables)
            if prints not in ran.output:
                raise RuntimeError(f"{words} printed {ran.output[:200]!r}")
            return ran.seconds

        return once

    floor = "import click"
    tasks = {
        "python -c pass": task(sys.executable, "-c", "pass"),
        floor: task(sys.executable, "-c", floor),
        "--version": task(*command("--version"), prints=b"reconcile"),
        "--help": task(*command("--help"), prints=b"Usage"),
        "plan --help": task(*command("plan", "--help"), prints=b"Usage"),
        "completion": task(
            sys.executable, "-c", AS_RECONCILE, variables=COMPLETING, prints=b"--detailed-exitcode"
        ),
        "warm plan of ten profiles": task(*command("plan"), prints=b"No changes"),
    }
    taken = rounds(times, tasks)
    table = Table(
        f"Start-up, {times} rounds, beside `{floor}`",
        ("what", "took", "best", "ratio, median", "of the best", "target", ""),
        notes="Beyond the standard library and itself, the warm plan imports: "
        + ", ".join(_imported(corpus.folder, "plan")),
    )
    for name, each in taken.items():
        ratio = Ratio.of(each, taken[floor])
        at_best = min(each) / min(taken[floor])
        is_target = name in ("--version", "--help", "completion")
        table.rows.append(
            (name, seconds(each), f"{1000 * min(each):.0f} ms", f"{ratio.median:.2f}",
             f"{at_best:.2f}", *((f"≤ {MOST:g}", holds(ratio.median, most=MOST)) if is_target else ("", "")))
        )  # fmt: skip
    return table


def _imported(folder: Path, *words: str) -> list[str]:
    """The packages that the program imports from elsewhere."""
    told = run([sys.executable, "-X", "importtime", "-c", AS_RECONCILE, *words], cwd=folder).errors
    names = {line.rpartition(b"|")[2].split(b".")[0].strip().decode() for line in told.splitlines()}
    own = {*sys.stdlib_module_names, "reconciler", "sitecustomize", "_distutils_hack"}
    return sorted(
        name for name in names - own if name.isidentifier() and find_spec(name) is not None
    )


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.set_defaults(rounds=20)
    given = options.parse_args(arguments)
    say("start-up")
    with scratch(given.folder) as folder:
        publish("Start-up", [measure(folder, given.rounds)], write=given.write)


if __name__ == "__main__":
    main()
