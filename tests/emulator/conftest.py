"""An emulator on a port, in each dialect."""

from __future__ import annotations

import pytest

from reconciler.emulator import Emulator
from tests.support.wire import Api, Serve


@pytest.fixture(params=["guide", "openapi"])
def api(request: pytest.FixtureRequest, serve: Serve) -> Api:
    """The API in each dialect, for the behaviour that both share."""
    return serve(Emulator(dialect=request.param))


@pytest.fixture
def guide(serve: Serve) -> Api:
    return serve(Emulator(dialect="guide"))


@pytest.fixture
def openapi(serve: Serve) -> Api:
    return serve(Emulator(dialect="openapi"))
