"""Profiles for tests: made as they are declared, handed out, and taken back.

A module imports only from those above it.

    clock (edge)          a clock by which waiting takes no time
    documents             profiles as the documents that would declare them
    handles               the profiles that a sandbox hands out
    restoration           what a profile was before a test, and how it becomes that again
    claims (edge)         keeps a profile for one test process at a time
    sandbox (edge)        a workspace for tests, with an emulator or a configured environment
    pytest_plugin (edge)  the fixtures, marker and reports of pytest
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.exports import exported

if TYPE_CHECKING:
    from reconciler.testing.clock import InstantClock
    from reconciler.testing.handles import MakeProfile, NotMade, ProfileHandle, Teardown
    from reconciler.testing.sandbox import Sandbox

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
        "reconciler.testing.clock": "InstantClock",
        "reconciler.testing.handles": "MakeProfile NotMade ProfileHandle Teardown",
        "reconciler.testing.sandbox": "Sandbox",
    },
)
