"""Runs the program: in processes of its own, or inside the process of the test."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from click.testing import CliRunner

from reconciler.cli.main import main
from tests.support.places import homes_below

ROOT = Path(__file__).parent.parent.parent
PROGRAM = (sys.executable, "-m", "reconciler")


def environment(**variables: str) -> dict[str, str]:
    """The variables of this process, in which nothing steers the program except ``variables``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILE_")}
    homes = homes_below(os.path.join(tempfile.gettempdir(), "reconcile-tests"))
    return {**homes, **kept, "PYTHONPATH": str(ROOT), **variables}


class CommandLine:
    """Runs the program in a folder. ``outputs`` holds all that it printed, ``err`` the last stderr."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs: list[str] = []
        self.err = ""

    def start(
        self,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.PIPE,
        **variables: str,
    ) -> subprocess.Popen[str]:
        """Starts the program and does not wait for it."""
        return subprocess.Popen(
            [*PROGRAM, *arguments],
            cwd=self.folder,
            env=environment(**variables),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *arguments: str, code: int = 0, given: str | None = None, **variables: str
    ) -> str:
        """Runs the program to its end, which must have the exit code ``code``; returns its stdout. Its stdin
        is the text that is ``given``."""
        stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
        process = self.start(*arguments, stdin=stdin, **variables)
        out, self.err = process.communicate(given, timeout=60)
        self.outputs += [out, self.err]
        assert "Traceback" not in self.err, self.err
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{out}\n{self.err}"
        return out

    def invoke(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Runs a command inside this process; returns its exit code and all that it printed."""
        config = ["--config", str(self.folder / "reconcile.yaml")]
        result = CliRunner(env=variables).invoke(main, [*config, *arguments])
        return result.exit_code, result.output
