"""Profiles for tests: made as declared, handed out, taken back.

A module imports only from those above it.

    sandbox (edge)        a workspace for tests, with an emulator or a configured environment
    pytest_plugin (edge)  the fixtures, marker and reports of pytest
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.exports import exported

if TYPE_CHECKING:
    from reconciler.testing.pytest_plugin import MakeProfile
    from reconciler.testing.sandbox import InstantClock, NotMade, ProfileHandle, Sandbox, Teardown

__all__ = [
    "InstantClock",
    "MakeProfile",
    "NotMade",
    "ProfileHandle",
    "Sandbox",
    "Teardown",
]

__getattr__ = exported(
    __name__,
    {
        "reconciler.testing.pytest_plugin": "MakeProfile",
        "reconciler.testing.sandbox": "InstantClock NotMade ProfileHandle Sandbox Teardown",
    },
)
