"""A stand-in for the API, over HTTP. It imports nothing of ours but `errors`, `values` and `resources`.

A module imports only from those above it.

    http (edge)     an HTTP server on this machine that sends whatever bytes it is told to
    faults (edge)   faults on request: text → fault, which requests it strikes, how an answer is broken
    traffic (edge)  the log of requests, and the rate at which they came
    api (edge)      the API: requests judged by the contract, answers, storage
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.exports import exported

if TYPE_CHECKING:
    from reconciler.emulator.api import Emulator, EmulatorServer, FaultHook, Switches
    from reconciler.emulator.faults import Fault, FaultKind, parse_fault
    from reconciler.emulator.http import Answer
    from reconciler.emulator.traffic import RateLimit, RateMode, Received, Sent, Violation

__all__ = [
    "Answer",
    "Emulator",
    "EmulatorServer",
    "Fault",
    "FaultHook",
    "FaultKind",
    "RateLimit",
    "RateMode",
    "Received",
    "Sent",
    "Switches",
    "Violation",
    "parse_fault",
]

__getattr__ = exported(
    __name__,
    {
        "reconciler.emulator.api": "Emulator EmulatorServer FaultHook Switches",
        "reconciler.emulator.faults": "Fault FaultKind parse_fault",
        "reconciler.emulator.http": "Answer",
        "reconciler.emulator.traffic": "RateLimit RateMode Received Sent Violation",
    },
)
