"""Declarative end-user profiles for Adapty's server-side API: validate, plan, apply.

    from reconciler import Workspace

    with Workspace.open() as workspace:
        plan = workspace.plan()
        report = workspace.apply(plan)

Names are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.exports import exported, keep_importable

if TYPE_CHECKING:
    from reconciler.core.options import Rate, Selection
    from reconciler.core.outcomes import (
        ApplyReport,
        Drift,
        DriftKind,
        Failure,
        Halt,
        Outcome,
        Progress,
        Result,
    )
    from reconciler.core.plan import (
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
    from reconciler.core.records import Export, Fact, Header, Known, Presence, Record
    from reconciler.emulator import parse_fault
    from reconciler.emulator.api import Emulator
    from reconciler.emulator.server import EmulatorServer
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
    from reconciler.reports.markdown import plan_markdown
    from reconciler.reports.view import PlanView
    from reconciler.testing.handles import MakeProfile
    from reconciler.workspace.facade import Workspace
    from reconciler.workspace.results import Checked

__version__ = "0.1.0"

__all__ = [
    "Action",
    "ApplyReport",
    "Basis",
    "Change",
    "Checked",
    "Diagnostic",
    "Drift",
    "DriftKind",
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
    "MakeProfile",
    "Mode",
    "NotAuthorised",
    "Op",
    "Outcome",
    "Plan",
    "PlanView",
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
    "parse_fault",
    "plan_markdown",
]


__getattr__ = exported(
    __name__,
    {
        "reconciler.core.outcomes": "ApplyReport Drift DriftKind Failure Halt Outcome Progress Result",
        "reconciler.core.plan": "Action Basis Change FieldChange Hazard Mode Op Plan Request",
        "reconciler.core.options": "Rate Selection",
        "reconciler.core.records": "Export Fact Header Known Presence Record",
        "reconciler.emulator": "parse_fault",
        "reconciler.emulator.api": "Emulator",
        "reconciler.emulator.server": "EmulatorServer",
        "reconciler.errors": "Diagnostic ExitCode InputError Interrupted NotAuthorised ReconcileError "
        "Refused RemoteUnavailable Severity Source StateRefused UsageError",
        "reconciler.reports.markdown": "plan_markdown",
        "reconciler.reports.view": "PlanView",
        "reconciler.testing.handles": "MakeProfile",
        "reconciler.workspace.facade": "Workspace",
        "reconciler.workspace.results": "Checked",
    },
)

keep_importable(
    {
        "reconciler.faults": "reconciler.emulator",
        "reconciler.markdown": "reconciler.reports.markdown",
        "reconciler.pytest_plugin": "reconciler.testing",
        "reconciler.view": "reconciler.reports.view",
    }
)
