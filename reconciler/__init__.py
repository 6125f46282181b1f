"""Declarative end-user profiles for Adapty's server-side API: validate, plan, apply.

    from reconciler import Workspace

    with Workspace.open() as workspace:
        plan = workspace.plan()
        report = workspace.apply(plan)

Names are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconciler.emulator import Emulator, EmulatorServer
    from reconciler.errors import (
        Diagnostic,
        ExitCode,
        InputError,
        Interrupted,
        NotAuthorised,
        ReconcileError,
        Refused,
        RemoteUnavailable,
        Severity,
        Source,
        StateRefused,
        UsageError,
    )
    from reconciler.outcomes import ApplyReport, Drift, Failure, Halt, Outcome, Progress, Result
    from reconciler.plan import (
        Action,
        Basis,
        Change,
        FieldChange,
        Hazard,
        Mode,
        Op,
        Plan,
        Request,
    )
    from reconciler.planner import Selection
    from reconciler.protocol import Rate
    from reconciler.state import Export, Fact, Header, Known, Presence, Record
    from reconciler.workspace import Checked, Workspace

__version__ = "0.1.0"

_HOMES = {
    "emulator": "Emulator EmulatorServer",
    "errors": "Diagnostic ExitCode InputError Interrupted NotAuthorised ReconcileError Refused "
    "RemoteUnavailable Severity Source StateRefused UsageError",
    "outcomes": "ApplyReport Drift Failure Halt Outcome Progress Result",
    "plan": "Action Basis Change FieldChange Hazard Mode Op Plan Request",
    "planner": "Selection",
    "protocol": "Rate",
    "state": "Export Fact Header Known Presence Record",
    "workspace": "Checked Workspace",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Action",
    "ApplyReport",
    "Basis",
    "Change",
    "Checked",
    "Diagnostic",
    "Drift",
    "Emulator",
    "EmulatorServer",
    "ExitCode",
    "Export",
    "Fact",
    "Failure",
    "FieldChange",
    "Halt",
    "Hazard",
    "Header",
    "InputError",
    "Interrupted",
    "Known",
    "Mode",
    "NotAuthorised",
    "Op",
    "Outcome",
    "Plan",
    "Presence",
    "Progress",
    "Rate",
    "ReconcileError",
    "Record",
    "Refused",
    "RemoteUnavailable",
    "Request",
    "Result",
    "Selection",
    "Severity",
    "Source",
    "StateRefused",
    "UsageError",
    "Workspace",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
