"""The program: ``reconcile``, and ``python -m reconciler``."""

from __future__ import annotations

import gc
import os
import signal
from types import FrameType
from typing import NoReturn

_INTERRUPTED = 130
_SELDOM = 100_000
"""New objects after which garbage is looked for."""


def main() -> NoReturn:
    """Runs the command line and ends the process.

    A signal ends it with 130 from the first moment on, before anything that takes time is imported,
    and after the last. It ends without the interpreter's own farewell, which would wait for calls
    that nobody waits for any more, and stumble over streams that are gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    # To start makes many objects and no garbage; looking for some as often as usual takes a
    # twentieth of the time of a small plan.
    gc.set_threshold(_SELDOM, *gc.get_threshold()[1:])
    from reconciler.cli.main import main as command

    code: object = None
    try:
        command()
    except SystemExit as ended:
        code = ended.code
    os._exit(code if isinstance(code, int) else 1)


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
