"""What tests of buckets share: a server, and an environment in which nothing but the test leads to one."""

from __future__ import annotations

import os
from collections.abc import Callable
from uuid import uuid4

import pytest

from reconciler.state.objects.bucket import BucketPlace, ObjectBucket, Timing, open_bucket
from tests.support.object_server import ACCOUNT, BUCKET, ObjectServer, shared_server

Opener = Callable[..., ObjectBucket]


@pytest.fixture(autouse=True)
def _no_clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> ObjectServer:
    return shared_server()


class SkippedTime:
    """A clock that moves on by waiting alone, so that a deadline takes no time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def opened(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Opens a bucket of the server in a place of its own."""

    def open_one(kind: str = "s3", prefix: str = "") -> ObjectBucket:
        for name, value in server.variables(kind).items():
            monkeypatch.setenv(name, value)
        time = SkippedTime()
        place = BucketPlace(
            kind, BUCKET, prefix or f"states/{uuid4().hex}", ACCOUNT if kind == "az" else ""
        )
        timing = Timing(monotonic=lambda: time.seconds, sleep=time.sleep)
        return open_bucket(place, environ=os.environ, timing=timing)

    return open_one
