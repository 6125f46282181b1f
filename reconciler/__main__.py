"""The program: ``reconcile``, and ``python -m reconciler``."""

from __future__ import annotations

import gc
import os
import signal
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from reconciler.systems import STOP_SIGNALS

_INTERRUPTED = 130
_OBJECTS_PER_COLLECTION = 100_000
"""New objects after which the garbage collector runs."""


def main() -> NoReturn:
    """Runs the command line and ends the process.

    A signal ends it with 130 at any time, also while modules are imported and after the command. The
    process ends without the interpreter's shutdown, which would wait for calls that the program has
    given up, and fail on streams that are closed.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _interrupted_early)
    # Starting creates many objects and no garbage. The default threshold costs a twentieth of the
    # time of a small plan.
    gc.set_threshold(_OBJECTS_PER_COLLECTION, *gc.get_threshold()[1:])
    from reconciler.cli.main import main as command

    code: object = None
    try:
        command()
    except SystemExit as ended:
        for number in STOP_SIGNALS:
            signal.signal(number, _interrupted)
        code = ended.code
    os._exit(code if isinstance(code, int) else 1)


def _interrupted_early(number: int, frame: FrameType | None) -> NoReturn:
    with suppress(OSError):
        os.write(2, b"\ninterrupted; nothing was done\n")
    os._exit(_INTERRUPTED)


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
