"""Prints a plan or findings in the format that the options name, and writes the files that they name."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TextIO

from reconciler.cli.app import App
from reconciler.cli.options import OutputOptions
from reconciler.cli.outputs import write_file
from reconciler.cli.streams import can_encode, columns, print_document, stderr_line, write
from reconciler.core.plan import ENVIRONMENT, Plan
from reconciler.errors import Diagnostic, InputError
from reconciler.planning.limits import Limits
from reconciler.planning.planfile import Spool
from reconciler.reports.capture import PlanCapture
from reconciler.reports.json import diagnostics_json, plan_json_parts
from reconciler.reports.plan_text import plan_text_parts
from reconciler.reports.style import Pen
from reconciler.reports.tally import Tally
from reconciler.reports.view import Links, PlanView

if TYPE_CHECKING:
    from reconciler.workspace.facade import Workspace

_LINKED_FORMATS = frozenset({"markdown", "html", "github", "gitlab", "sarif"})
"""Formats that name files from the root of the repository, or link to them."""

_CHARACTERS_AT_ONCE = 1 << 18


def _formats() -> ModuleType:
    """The formats for reviews and builds, which a text plan does not need."""
    from reconciler.cli import formats

    return formats


def links_for(formats: Iterable[str], root: Path, *, base: str | None) -> Links | None:
    """Links to the files below a folder, if a format shows links. ``base``: see `links_to_files`."""
    if _LINKED_FORMATS.isdisjoint(formats):
        return None
    links: Links = _formats().links_to_files(root, base)
    return links


def time_text(seconds: float) -> str:
    """A Unix time for a reader: ``2026-11-29 04:10 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def view_of(app: App, plan: Plan, *, tally: Tally | None = None, **settings: Any) -> PlanView:
    """The view of a plan: values from the environment are masked, and personal ones if that is asked for.
    ``settings`` are those of `PlanView.of`."""
    settings["invocation"] = app.invocation
    tally = tally or Tally.of(plan.changes)
    if app.mask is None and not tally.any_from_environment:
        return PlanView.of(plan, tally=tally, **settings)
    mask = app.any_mask()
    kinds = (
        *([mask.kind] if app.mask is not None else []),
        *([ENVIRONMENT] if tally.any_from_environment else []),
    )
    return PlanView.of(mask.plan(plan), masked=kinds, **settings)


def deliver_plan(
    app: App,
    view: PlanView,
    *,
    output: OutputOptions,
    stream: TextIO,
    capture: PlanCapture | None = None,
) -> None:
    """Prints a plan to a stream, and writes the files that the options name."""
    for format_, path in output.files():
        write_file(path, _plan_parts(view, output, format_=format_))
    if output.format_ == "text":
        print_plan(app, view, show_requests=output.show_requests, stream=stream, capture=capture)
    else:
        print_document(_plan_parts(view, output, format_=output.format_), stream=stream)


def capture_for(
    app: App, workspace: Workspace, *, stream: TextIO, with_text: bool = True
) -> PlanCapture:
    """Gathers the sums of a plan while it is made, and ``with_text`` the text of its changes for a stream.
    Requests and authors are no part of that text, and a mask replaces values only once the plan is whole."""
    folder = workspace.environment.cache
    return PlanCapture(
        _pen(app, stream) if with_text and app.mask is None else None,
        partial(Spool, "the text of the plan", folder, held=Limits().text_held),
    )


def _pen(app: App, stream: TextIO) -> Pen:
    return Pen(app.uses_color(stream), not can_encode(stream, "→"), columns(stream))


def print_plan(
    app: App,
    view: PlanView,
    *,
    show_requests: bool = False,
    stream: TextIO | None = None,
    capture: PlanCapture | None = None,
) -> None:
    """Prints a plan as text; by default to stdout. ``capture`` is what was gathered while it was made."""
    stream = stream or sys.stdout
    parts = plan_text_parts(
        view,
        _pen(app, stream),
        show_requests=show_requests,
        captured=None if capture is None else capture.texts(),
    )
    pending, size = [], 0
    for part in parts:
        pending.append(part)
        size += len(part)
        if size >= _CHARACTERS_AT_ONCE:
            write(stream, "".join(pending))
            pending, size = [], 0
    write(stream, "".join(pending))


def deliver_findings(
    app: App,
    problem: InputError,
    *,
    output: OutputOptions,
    links: Links | None,
    environment: str,
    stream: TextIO,
) -> None:
    """Shows a reviewer the findings in place of a plan that cannot be made."""

    def text(format_: str) -> str:
        return findings_text(
            format_,
            app.findings(problem.diagnostics),
            links=links,
            environment=environment,
            limit=output.max_bytes,
        )

    if not problem.diagnostics:
        return
    if output.markdown_out is not None:
        write_file(output.markdown_out, [text("markdown")])
    if output.format_ in ("markdown", "github"):
        print_document([text(output.format_)], stream=stream)


def findings_text(
    format_: str,
    findings: Sequence[Diagnostic],
    *,
    links: Links | None,
    environment: str,
    documents: int = 0,
    limit: int | None = None,
) -> str:
    """Findings in any format except text. ``documents``: how many documents were checked; ``limit``: the
    most bytes of Markdown, by default what GitHub takes."""
    if format_ == "json":
        return diagnostics_json(findings)
    text: str = _formats().findings_in_format(
        format_,
        findings,
        links=links,
        environment=environment,
        documents=documents,
        limit=limit,
    )
    return text


def warn(app: App, findings: Sequence[Diagnostic]) -> None:
    """Prints findings to stderr, masked if that is asked for."""
    stderr_line(app.findings_text(app.findings(findings), stream=sys.stderr).rstrip("\n"))


def _plan_parts(view: PlanView, output: OutputOptions, *, format_: str) -> Iterable[str]:
    """A plan in any format except text, in parts."""
    if format_ == "json":
        return plan_json_parts(view)
    return [_formats().plan_in_format(view, output, format_=format_)]
