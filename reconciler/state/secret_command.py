"""A secret that a command prints: a password or a key, from a vault or the tools of a cloud."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from reconciler.errors import ReconcileError
from reconciler.values import shown

_SECONDS = 30.0


def printed_secret(command: Sequence[str], *, setting: str) -> str:
    """The text that a command prints, without the line's end. No shell reads the command. ``setting`` is the
    setting that names it, for messages; they repeat nothing that the command prints.

    Raises ReconcileError where the command cannot be run, fails, or prints no line or several.
    """
    what = f"the command in `{setting}` ({shown(command[0])})"
    hint = "Run it by hand; it has to print the secret and nothing else."
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=_SECONDS, check=False
        )
    except OSError as problem:
        raise ReconcileError(f"{what} cannot be run: {problem.strerror}", hint=hint) from None
    except subprocess.TimeoutExpired:
        raise ReconcileError(f"{what} took longer than {_SECONDS:.0f} s", hint=hint) from None
    if done.returncode:
        raise ReconcileError(f"{what} ended with exit code {done.returncode}", hint=hint)
    try:
        lines = done.stdout.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1 or not lines[0].strip():
        raise ReconcileError(f"{what} did not print one line", hint=hint)
    return lines[0].strip()
