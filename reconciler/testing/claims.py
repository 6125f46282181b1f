"""Claims: a profile of a shared environment is for one test process of this machine at a time."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from reconciler.config.settings import Environment
from reconciler.systems import open_flags
from reconciler.testing.handles import NotMade


@contextmanager
def claimed(address: str, environment: Environment, *, patience: float) -> Iterator[None]:
    """Keeps a profile of an environment from other processes of this machine that test with it. A killed
    process claims nothing.

    Raises NotMade after ``patience`` seconds in which another process held the claim.
    """
    folder = environment.cache / f"{environment.name}.db.claims"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = hashlib.blake2b(address.encode(), digest_size=16).hexdigest()
    with open(folder / name, "ab", opener=_private) as file:
        _wait_for(file, address, patience=patience)
        yield


def _wait_for(file: IO[bytes], address: str, *, patience: float) -> None:
    try:
        import fcntl
    except ImportError:  # pragma: no cover - without file locks, names must be unique
        return
    until = time.monotonic() + patience
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > until:
            raise NotMade(
                f"{address} is in use by another test process",
                hint="Give each its own: put {run}-{worker} into customer_user_id.",
            )
        time.sleep(0.01)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | open_flags(), 0o600)
