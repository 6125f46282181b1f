"""Draws what the terminal shows in the README: ``make picture``.

It runs the program on the example profiles and the embedded emulator, and writes its coloured output as SVG.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parent.parent.parent
TARGET = ROOT / "docs" / "pictures" / "plan.svg"
COLUMNS = 80
FILE = "profiles/qa/jane.yaml"
STEPS = (
    ("first_name: Jane", "first_name: Joan"),
    ("  favourite_sport: yoga\n", ""),
    ("\nmeta:\n", "\naccess_levels: {premium: {for: 30d}}\nmeta:\n"),
)
"""What is edited in the file of the picture."""


def shown(*words: str, folder: Path) -> str:
    """A command line and its coloured output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILE_")}
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", *words],
        cwd=folder / "project",
        env={
            **kept,
            "PYTHONPATH": str(ROOT),
            "FORCE_COLOR": "1",
            "COLUMNS": str(COLUMNS),
            "RECONCILE_STATE_DIR": str(folder / "state"),
            "RECONCILE_CACHE_DIR": str(folder / "cache"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stdout)
    return f"\x1b[1m$ reconcile {' '.join(words)}\x1b[0m\n{done.stdout}"


def story(folder: Path) -> str:
    """What the picture shows."""
    project = folder / "project"
    shutil.copytree(ROOT / "profiles", project / "profiles")
    shutil.copy(ROOT / "reconcile.yaml", project)
    shown("apply", "--auto-approve", folder=folder)
    file = project / FILE
    text = file.read_text("utf-8")
    for before, after in STEPS:
        assert before in text, before
        text = text.replace(before, after)
    file.write_text(text, "utf-8")
    plan = shown("plan", folder=folder)
    command, _, output = shown("apply", "--auto-approve", folder=folder).partition("\n")
    outcomes = output.splitlines(keepends=True)[-3:]
    return "".join([plan, "\n", command, "\n", "…\n", *outcomes])


def drawn(text: str) -> str:
    """Coloured text as SVG. It loads no font from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text))
    svg = console.export_svg(title="reconcile", theme=MONOKAI, unique_id="reconcile")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        TARGET.write_text(drawn(story(Path(folder))), "utf-8")


if __name__ == "__main__":
    main()
