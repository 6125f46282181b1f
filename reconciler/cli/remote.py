"""The command that reads the API: refresh."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reconciler.cli.app import App
from reconciler.cli.stopping import stopping_on_signals
from reconciler.cli.streams import print_result
from reconciler.core.outcomes import DriftKind
from reconciler.errors import ExitCode
from reconciler.reports.json import drift_json
from reconciler.reports.text import drift_text


def refresh(
    app: App,
    *,
    select: Sequence[str],
    exclude: Sequence[str],
    format_: str,
    detailed_exitcode: bool,
    mask: bool | None,
) -> int:
    """Records what the API shows, and prints how it differs from the state before."""
    with stopping_on_signals(app), app.workspace(mask=mask) as workspace:
        drifts = workspace.refresh(select=select, exclude=exclude)
    drifts = [app.any_mask().drift(drift) for drift in drifts]
    if format_ == "json":
        print_result(drift_json(drifts))
    else:
        print_result(drift_text(drifts, color=app.uses_color(sys.stdout)))
    kinds = {drift.kind for drift in drifts}
    if DriftKind.UNREAD in kinds:
        return ExitCode.FAILED
    differs = bool(kinds - {DriftKind.SAME})
    return ExitCode.CHANGES if detailed_exitcode and differs else ExitCode.DONE
