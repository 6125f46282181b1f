"""Commands that show a plan: plan, show."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from reconciler import __version__
from reconciler.cli.app import App
from reconciler.cli.options import OutputOptions, PlanOptions
from reconciler.cli.outputs import (
    check_outputs,
    is_standard_output,
    read_plan_file,
    text_stream,
)
from reconciler.cli.render import (
    capture_for,
    deliver_findings,
    deliver_plan,
    links_for,
    time_text,
    view_of,
    warn,
)
from reconciler.cli.stopping import stopping_on_signals
from reconciler.cli.streams import print_document, stderr_line
from reconciler.commands import Command, file_argument
from reconciler.config.reader import find_config, load_config
from reconciler.config.trust_file import read_trust
from reconciler.core.contract_files import load_contract
from reconciler.core.options import Selection
from reconciler.core.plan import Plan
from reconciler.core.plan_format import to_lines
from reconciler.errors import Diagnostic, ExitCode, InputError, Interrupted, UsageError
from reconciler.planning.planfile import write_plan
from reconciler.reports.capture import PlanCapture
from reconciler.values import shown
from reconciler.workspace.facade import Workspace
from reconciler.workspace.plans import PlanRequest


def plan(
    app: App,
    *,
    paths: Sequence[Path],
    out: Path | None,
    output: OutputOptions,
    plan_options: PlanOptions,
    mask: bool | None,
    blame: bool,
    no_cache: bool,
    detailed_exitcode: bool,
) -> int:
    """Prints the plan of the files; touches neither state nor API."""
    outputs = [*output.paths(), *([out] if out is not None else [])]
    stream = text_stream(outputs)
    is_piped = is_standard_output(out)
    with stopping_on_signals(app), app.workspace(mask=mask, cache=not no_cache) as workspace:
        check_outputs(outputs, workspace.config)
        links = links_for(output.formats(), workspace.config.root, base=output.links)
        try:
            plan_, capture = plan_files(
                app,
                workspace,
                options=plan_options,
                paths=paths,
                out=None if is_piped else out,
                capture=capture_for(
                    app,
                    workspace,
                    stream=stream,
                    with_text=output.format_ == "text" and not (output.show_requests or blame),
                ),
            )
        except InputError as problem:
            environment = workspace.environment.name
            deliver_findings(
                app, problem, output=output, links=links, environment=environment, stream=stream
            )
            raise
        view = view_of(
            app,
            plan_,
            tally=capture.tally,
            rate=workspace.environment.rate,
            blame=workspace.blame(plan_) if blame else None,
            links=links,
            saved=None if out is None or is_piped else str(out),
            planned=f"Planned {time_text(time.time())} with reconcile {__version__}",
        )
        if is_piped:
            print_document(to_lines(plan_))
        deliver_plan(app, view, output=output, stream=stream, capture=capture)
    if out is not None and output.format_ == "text" and out.is_file():
        _note_saved(app, out)
    elif _has_reader(output) and out is None and not (plan_.is_empty or view.is_refused):
        app.note(f"Apply it with: {view.again}")
    pending = detailed_exitcode and not plan_.is_empty
    return ExitCode.CHANGES if pending else ExitCode.DONE


def _has_reader(output: OutputOptions) -> bool:
    """Whether a person reads the plan at a terminal."""
    return output.format_ == "text" and sys.stdout.isatty() and sys.stderr.isatty()


def plan_files(
    app: App,
    workspace: Workspace,
    *,
    options: PlanOptions,
    capture: PlanCapture,
    paths: Sequence[Path] = (),
    out: Path | None = None,
    record: bool = False,
) -> tuple[Plan, PlanCapture]:
    """The plan of the profile files, and what a capture like the given one gathered; warnings go to stderr.
    With ``record``, the state records what is read of recorded profiles.

    Raises UsageError for options that contradict each other, Interrupted if a signal came meanwhile.
    """
    if options.include_adopted and not options.prune:
        raise UsageError("--include-adopted goes with --prune")

    def on_findings(findings: Sequence[Diagnostic]) -> None:
        app.status.clear()
        warn(app, findings)

    request = PlanRequest(
        refresh=options.refresh,
        record=record,
        reassert=options.reassert,
        prune=options.prune,
        include_adopted=options.include_adopted,
        selection=Selection(options.select, options.exclude),
        since=options.since,
        paths=paths,
        out=out,
        on_findings=on_findings,
    )
    plan_, capture = workspace.plans.make(request, capture)
    app.status.clear()
    if app.is_stopping:
        raise Interrupted("interrupted; nothing was planned")
    if (
        (options.is_selecting or paths)
        and plan_.is_empty
        and not (plan_.unchanged or plan_.orphans)
    ):
        stderr_line("warning: --select, --exclude, --since and paths leave no profile")
    return plan_, capture


def save_plan(app: App, plan: Plan, *, out: Path) -> None:
    """Saves a plan into the file of ``--out``, and says how it is applied."""
    if is_standard_output(out):
        print_document(to_lines(plan))
        return
    write_plan(plan, out)
    if out.is_file():
        _note_saved(app, out)


def _note_saved(app: App, out: Path) -> None:
    line = Command.of("apply", file_argument(str(out))).text(app.invocation)
    app.note(f"saved to {shown(str(out))}; apply exactly this with: {line}")


def show(app: App, *, file: Path, output: OutputOptions, mask: bool | None) -> None:
    """Prints a saved plan; needs a configuration only for its choice of masking."""
    plan_ = read_plan_file(file)
    here = Path.cwd()
    path = Path(app.config) if app.config else find_config(here, os.environ)
    trust = read_trust(os.environ, **app.permissions._asdict())
    config = load_config(path, start=here, trust=trust, environ=os.environ) if path else None
    check_outputs(output.paths(), config, source=file)
    if (config is not None and config.mask) if mask is None else mask:
        # A plan does not name its dialect. The later dialect knows every field; all others are masked.
        app.mask_values(load_contract("openapi"), config.public_attributes if config else ())
    root = config.root if config else here
    links = links_for(output.formats(), root, base=output.links)
    stream = text_stream(output.paths())
    saved = str(file) if file.is_file() else None
    when = f"Saved {time_text(file.stat().st_mtime)}, shown" if saved else "Shown"
    view = view_of(
        app, plan_, links=links, saved=saved, planned=f"{when} with reconcile {__version__}"
    )
    deliver_plan(app, view, output=output, stream=stream)
