"""Commands that change profiles: apply, sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconciler.cli.app import App
from reconciler.cli.options import PlanOptions
from reconciler.cli.outputs import read_plan_file
from reconciler.cli.planning import plan_files
from reconciler.cli.questions import ask
from reconciler.cli.render import capture_for, print_plan, view_of
from reconciler.cli.stopping import stopping_on_signals
from reconciler.cli.streams import is_smart_terminal
from reconciler.config.settings import parse_rate
from reconciler.core.outcomes import ApplyReport, Halt, Outcome
from reconciler.core.plan import HazardKind, Plan
from reconciler.core.profiles import Profile
from reconciler.errors import ExitCode, ReconcileError, Refused, UsageError
from reconciler.reports.progress import ApplyReporter, EventReporter, LineReporter
from reconciler.values import shown
from reconciler.workspace.facade import Workspace

_SINCE_HINT = (
    " --since takes the commit that the reviewed plan names: after the merge, a branch is another "
    "commit."
)


def apply(
    app: App,
    *,
    file: Path | None,
    auto_approve: bool,
    plan_options: PlanOptions,
    show_requests: bool,
    parallelism: int | None,
    rate: str | None,
    max_changes: int | None,
    digest: str | None,
    json_: bool,
    no_progress: bool,
    mask: bool | None,
) -> int:
    """Applies a saved plan, or the plan of the files."""
    rate_option = parse_rate(rate) if rate is not None else None
    if file is not None and not plan_options.is_default:
        raise UsageError("a saved plan is applied as it is: plan options do not go with it")
    reporter = _reporter(app, json_=json_, bar=not no_progress)
    with (
        stopping_on_signals(app),
        _reporting_errors(reporter),
        app.workspace(mask=mask) as workspace,
    ):
        profiles: Iterable[Profile] | None = None
        capture = None
        if file is not None:
            plan = read_plan_file(file)
        else:
            workspace.state.take_up("apply")
            plan, capture = plan_files(
                app,
                workspace,
                options=plan_options,
                capture=capture_for(
                    app, workspace, stream=sys.stdout, with_text=not (json_ or show_requests)
                ),
                record=True,
            )
            profiles = workspace.declared
        workspace.check(plan, max_changes=max_changes)
        shown_rate = workspace.environment.rate if rate_option is None else rate_option
        tally = None if capture is None else capture.tally
        view = view_of(app, plan, tally=tally, rate=shown_rate)
        if not json_:
            print_plan(app, view, show_requests=show_requests, capture=capture)
        _approve(app, workspace, plan=plan, auto_approve=auto_approve, digest=digest)
        code = _carry_out(
            app,
            workspace,
            reporter=reporter,
            plan=plan,
            max_changes=max_changes,
            rate=rate_option,
            parallelism=parallelism,
            profiles=profiles,
        )
    return code if code or not reporter.broken else ExitCode.FAILED


def sweep(
    app: App,
    *,
    auto_approve: bool,
    dry_run: bool,
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    max_changes: int | None,
    digest: str | None,
    json_: bool,
) -> int:
    """Deletes expired profiles that this tool created."""
    reporter = _reporter(app, json_=json_, bar=True)
    with stopping_on_signals(app), _reporting_errors(reporter), app.workspace() as workspace:
        if not dry_run:
            workspace.state.take_up("sweep")
        plan = workspace.plan_sweep(select=select, exclude=exclude)
        if not json_:
            print_plan(app, view_of(app, plan, rate=workspace.environment.rate))
        if dry_run:
            return ExitCode.DONE
        workspace.check(plan, max_changes=max_changes)
        _approve(app, workspace, plan=plan, auto_approve=auto_approve, digest=digest)
        code = _carry_out(
            app, workspace, reporter=reporter, plan=plan, max_changes=max_changes, profiles=()
        )
    return code if code or not reporter.broken else ExitCode.FAILED


def _carry_out(
    app: App, workspace: Workspace, *, reporter: ApplyReporter, plan: Plan, **options: Any
) -> ExitCode:
    """Applies an approved plan, reported by the reporter from first to last. ``options`` are those of
    `Workspace.apply`."""
    reporter.begin(plan)
    report = workspace.apply(
        plan,
        on_result=lambda result: reporter.result(app.result(result)),
        on_progress=reporter.progress,
        on_backup=reporter.backup,
        **options,
    )
    code = _exit_code(report, plan)
    problems = tuple(map(app.result, report.problems))
    reporter.end(report._replace(problems=problems), code)
    return code


def _reporter(app: App, *, json_: bool, bar: bool) -> ApplyReporter:
    if json_:
        return EventReporter(sys.stdout)
    return LineReporter(
        sys.stdout,
        sys.stderr,
        color=app.uses_color(sys.stdout),
        bar=bar and is_smart_terminal(sys.stderr) and not os.environ.get("CI"),
    )


@contextmanager
def _reporting_errors(reporter: ApplyReporter) -> Iterator[None]:
    """Within, an error is reported by the reporter too."""
    try:
        yield
    except ReconcileError as problem:
        reporter.fail(problem)
        raise


def _approve(
    app: App, workspace: Workspace, *, plan: Plan, auto_approve: bool, digest: str | None
) -> None:
    """Asks for approval unless it was given by options; the only accepted answer is ``yes``.

    Raises Refused if the digest is another one, or if nobody can be asked.
    """
    if digest is not None and digest != plan.digest:
        raise Refused(
            f"the plan has digest {plan.digest}, not the one that was given",
            hint="Plan again, have it reviewed, and apply with its digest."
            + (_SINCE_HINT if plan.scope.since else ""),
        )
    if plan.is_empty:
        return
    if auto_approve:
        if workspace.environment.confirm and digest is None:
            raise Refused(
                f"environment {workspace.environment.name} asks for more than --auto-approve",
                hint=f"Give the digest of the reviewed plan too: --digest {plan.digest}",
            )
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            "there is no terminal to ask at, and --auto-approve was not given; nothing was sent",
            hint=f"Give --auto-approve --digest {plan.digest}.",
        )
    name = shown(workspace.environment.name)
    question = f'Apply these changes to "{name}"? Only "yes" is accepted: '
    if ask(question, is_stopping=app.is_stopping) != "yes":
        raise Refused("not approved; nothing was sent")


def _exit_code(report: ApplyReport, plan: Plan) -> ExitCode:
    """The exit code of an apply: why it halted, else its worst result."""
    match report.halt:
        case Halt.KEY:
            return ExitCode.NOT_AUTHORISED
        case Halt.APPLICATION:
            return ExitCode.REFUSED
        case Halt.INTERRUPTED:
            return ExitCode.INTERRUPTED
        case _:
            pass
    counts = report.counts
    if report.failed or counts[Outcome.SKIPPED]:
        has_success = report.applied or counts[Outcome.ALREADY]
        is_away = not has_success and all(
            result.unavailable or result.outcome is Outcome.STALE for result in report.problems
        )
        return ExitCode.UNAVAILABLE if is_away else ExitCode.FAILED
    is_protected = any(hazard.kind == HazardKind.PROTECTED for hazard in plan.hazards)
    return ExitCode.REFUSED if counts[Outcome.STALE] or is_protected else ExitCode.DONE
