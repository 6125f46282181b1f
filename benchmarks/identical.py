"""Whether a plan is the same bytes however it was made: from the index or without one, by one process
or several, and in whatever order the files lie.

``python -m benchmarks.identical [--profiles N]``
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.corpora import LAYOUTS, STATE, Corpus
from benchmarks.measuring import (
    Table,
    command,
    cores,
    parser,
    processors,
    publish,
    run,
    say,
    scratch,
)
from benchmarks.planning import settle


def _edit(corpus: Corpus) -> None:
    """Has a plan say something: some profiles differ from what is recorded, one file is gone."""
    corpus.change(max(corpus.profiles // 50, 1), version=1)
    min(corpus.root.rglob("*.yaml")).unlink()


def _planned(corpus: Corpus, *options: str) -> str:
    """A digest of the saved plan, of what is printed as JSON, and of another plan's text."""
    saved = corpus.folder / "saved.plan"
    printed = [
        run(command("plan", *options, *more), cwd=corpus.folder).output
        for more in (("--out", saved.name, "--format", "json"), ("--prune",))
    ]
    parts = [saved.read_bytes(), *printed]
    saved.unlink()
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def measure(folder: Path, profiles: int, layout: str) -> Table:
    corpus = Corpus(folder / "corpus", profiles, layout)
    first = corpus.folder / "first.plan"
    run(command("plan", "--out", str(first)), cwd=corpus.folder)
    corpus.record(first)
    settle()
    run(command("plan"), cwd=corpus.folder)  # what the warm plan remembers
    _edit(corpus)
    settle()

    def copied(seed: int) -> str:
        """The same files, made in another order, beside the same state."""
        other = Corpus(folder / f"shuffled-{seed}", profiles, layout, seed=seed)
        _edit(other)
        shutil.copy(corpus.folder / STATE, other.folder / STATE)
        digest = _planned(other)
        other.remove()
        return digest

    def cold(processes: int) -> str:
        corpus.forget_index()
        with cores(processes):
            return _planned(corpus)

    ways: dict[str, Callable[[], str]] = {
        "warm, some files changed since": lambda: _planned(corpus),
        "warm, nothing changed since": lambda: _planned(corpus),
        "cold, one process": lambda: cold(1),
        "cold, all processors": lambda: cold(processors()),
        "--no-cache": lambda: _planned(corpus, "--no-cache"),
        "files made in another order": lambda: copied(1),
        "in yet another one": lambda: copied(2),
    }
    table = Table(
        f"Plans of {profiles:,} profiles ({layout}), a fiftieth changed, one file gone",
        ("made", "sha256 of what was saved and printed", ""),
    )
    expected = ""
    for name, way in ways.items():
        digest = way()
        expected = expected or digest
        table.rows.append((name, digest[:16], "same" if digest == expected else "DIFFERS"))
    return table


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--profiles", type=int, default=20_000)
    options.add_argument("--layouts", default=",".join(LAYOUTS))
    given = options.parse_args(arguments)
    # Elsewhere the order in which a folder is listed may have nothing to do with that of making.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    tables = []
    for layout in given.layouts.split(","):
        say(f"identical plans: {given.profiles:,} profiles, {layout}")
        with scratch(given.folder or memory) as folder:
            tables.append(measure(folder, given.profiles, layout))
    publish("Identical plans", tables, write=given.write)


if __name__ == "__main__":
    main()
