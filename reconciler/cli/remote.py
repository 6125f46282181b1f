"""The command that reads the API: refresh."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from reconciler.cli.app import App
from reconciler.cli.outputs import print_or_write, result_stream
from reconciler.cli.stopping import stopping_on_signals
from reconciler.cli.streams import can_encode, columns
from reconciler.config.settings import parse_rate
from reconciler.core.options import Selection
from reconciler.core.outcomes import DriftKind, Progress
from reconciler.errors import ExitCode
from reconciler.planning.limits import ProgressEvent
from reconciler.reports.json import drift_json
from reconciler.reports.progress import RequestMeter, open_bar
from reconciler.reports.text import drift_text


class _ReadingBar:
    """The progress bar of a refresh."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._bar = open_bar(stream, total, verb="reading")
        self._meter = RequestMeter()
        self._began = time.monotonic()

    def show(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        progress = Progress(
            event.total or 0,
            event.done,
            failed=0,
            under_way=0,
            requests=0,
            rate=event.rate,
            waiting_for=event.waiting_for,
        )
        pace = self._meter.measure(now, event.done)
        self._bar.show(progress, seconds=now - self._began, pace=pace)

    def close(self) -> None:
        self._bar.close()


def refresh(
    app: App,
    *,
    select: Sequence[str],
    exclude: Sequence[str],
    rate: str | None,
    format_: str,
    json_out: Path | None,
    detailed_exitcode: bool,
    no_progress: bool,
    mask: bool | None,
) -> int:
    """Records what the API shows, and prints how it differs from the state before."""
    rate_option = parse_rate(rate) if rate is not None else None
    if not (no_progress or os.environ.get("CI")):
        app.status.make_bar = _ReadingBar
    with stopping_on_signals(app), app.workspace(mask=mask) as workspace:
        stream = result_stream(json_out, workspace.config, format_=format_)
        selection = Selection(tuple(select), tuple(exclude))
        drifts = workspace.reader.run(selection, record=True, complete=False, rate=rate_option)
    masked = [app.any_mask().drift(drift) for drift in drifts]
    print_or_write(
        stream,
        text=lambda: drift_text(
            masked,
            color=app.uses_color(stream),
            ascii=not can_encode(stream, "→"),
            width=columns(stream),
            invocation=app.invocation,
        ),
        data=lambda: drift_json(masked),
        format_=format_,
        json_out=json_out,
    )
    kinds = {drift.kind for drift in masked}
    if DriftKind.UNREAD in kinds:
        return ExitCode.FAILED
    differs = bool(kinds - {DriftKind.SAME})
    return ExitCode.CHANGES if detailed_exitcode and differs else ExitCode.DONE
