"""A stand-in for the API, over HTTP. It imports nothing of ours but `errors`, `values` and `resources`.

A module imports only from those above it.

    http (edge)            an HTTP server on this machine that sends the bytes that it is given
    routes                 the paths of the API, and their methods
    instants               instants as texts
    profile                the profile that the emulator stores
    judge                  the verdict on a request: its headers and its body against the contract
    access                 access levels: the verdict on grants and revokes, and their effect
    subresources           integration identifiers and refund preferences
    planting               seeds: content that no request can make
    responses (edge)       the API's answers: results, and the error body
    faults                 a fault, and the text that describes it
    catalogue              the emulator's account of what it implements
    active_faults (edge)   the active faults: which of them strike a request, and what they do to it
    wire (edge)            answers as bytes and pauses, altered by faults
    traffic (edge)         the log of requests, and the watch over their rate
    storage (edge)         profiles in memory, or in an SQLite file
    application (edge)     the application: profiles, access levels, the clock, and what requests do to them
    debug                  the debug endpoint
    api (edge)             the API without HTTP: keys, rates, the log, and the application
    server (edge)          the API on a port, with faults in front of it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.exports import exported

if TYPE_CHECKING:
    from reconciler.emulator.access import AccessEvent
    from reconciler.emulator.active_faults import Faults
    from reconciler.emulator.api import Emulator
    from reconciler.emulator.debug import DEBUG_PATH
    from reconciler.emulator.faults import Fault, FaultKind, parse_fault
    from reconciler.emulator.http import Answer, End, Reply
    from reconciler.emulator.judge import Switches
    from reconciler.emulator.routes import (
        GRANT_PATH,
        IDENTIFIERS_PATH,
        PROFILE_PATH,
        REFUND_SAVER_PATH,
        REVOKE_PATH,
    )
    from reconciler.emulator.server import FAULT_HEADER, EmulatorServer, FaultChooser, FaultHook
    from reconciler.emulator.traffic import RateLimit, RateMode, Received, Sent, Violation

__all__ = [
    "DEBUG_PATH",
    "FAULT_HEADER",
    "GRANT_PATH",
    "IDENTIFIERS_PATH",
    "PROFILE_PATH",
    "REFUND_SAVER_PATH",
    "REVOKE_PATH",
    "AccessEvent",
    "Answer",
    "Emulator",
    "EmulatorServer",
    "End",
    "Fault",
    "FaultChooser",
    "FaultHook",
    "FaultKind",
    "Faults",
    "RateLimit",
    "RateMode",
    "Received",
    "Reply",
    "Sent",
    "Switches",
    "Violation",
    "parse_fault",
]

__getattr__ = exported(
    __name__,
    {
        "reconciler.emulator.active_faults": "Faults",
        "reconciler.emulator.access": "AccessEvent",
        "reconciler.emulator.api": "Emulator",
        "reconciler.emulator.debug": "DEBUG_PATH",
        "reconciler.emulator.faults": "Fault FaultKind parse_fault",
        "reconciler.emulator.http": "Answer End Reply",
        "reconciler.emulator.judge": "Switches",
        "reconciler.emulator.routes": (
            "GRANT_PATH IDENTIFIERS_PATH PROFILE_PATH REFUND_SAVER_PATH REVOKE_PATH"
        ),
        "reconciler.emulator.server": "FAULT_HEADER EmulatorServer FaultChooser FaultHook",
        "reconciler.emulator.traffic": "RateLimit RateMode Received Sent Violation",
    },
)
