"""The states that a torture runs over: a file, a schema of PostgreSQL, a prefix in a bucket.

The servers are started once in a process and end with it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from tests.support.object_server import shared_server, url_for
from tests.support.postgres_server import new_schema, server

STORES = ("sqlite", "postgresql", "objects")
"""Every kind."""
_prefixes = itertools.count(1)


class SharedState(NamedTuple):
    """The address of an empty state, and the variables by which it is reached."""

    url: str = ""
    """Empty for a file of the project."""
    variables: Mapping[str, str] = {}


@contextmanager
def shared_state(kind: str) -> Iterator[SharedState]:
    """An empty state of a kind."""
    if kind == "sqlite":
        yield SharedState()
    elif kind == "postgresql":
        yield SharedState(server().url(new_schema()))
    else:
        variables = shared_server().variables("s3")
        yield SharedState(url_for("s3", f"torture/{os.getpid()}/{next(_prefixes)}"), variables)
