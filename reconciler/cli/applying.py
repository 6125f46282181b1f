"""Commands that change profiles: apply, sweep, destroy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from reconciler.cli.app import App
from reconciler.cli.options import OutputOptions, PlanOptions
from reconciler.cli.outputs import (
    check_outputs,
    events_stream,
    open_events,
    read_plan_file,
    text_stream,
)
from reconciler.cli.planning import plan as show_plan
from reconciler.cli.planning import plan_files, save_plan, show
from reconciler.cli.questions import ask
from reconciler.cli.render import capture_for, deliver_plan, print_plan, view_of
from reconciler.cli.stopping import stopping_on_signals
from reconciler.cli.streams import columns, is_smart_terminal
from reconciler.commands import Command, file_argument
from reconciler.config.settings import parse_rate
from reconciler.core.options import Selection
from reconciler.core.outcomes import ApplyReport, Halt, Outcome
from reconciler.core.plan import HazardKind, Plan
from reconciler.core.profiles import Profile
from reconciler.errors import ExitCode, Message, ReconcileError, Refused, UsageError
from reconciler.reports.progress import ApplyReporter, EventReporter, LineReporter, TeeReporter
from reconciler.reports.view import PlanView
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
    dry_run: bool,
    json_: bool,
    json_out: Path | None,
    no_progress: bool,
    mask: bool | None,
) -> int:
    """Applies a saved plan, or the plan of the files."""
    rate_option = parse_rate(rate) if rate is not None else None
    if file is not None and not plan_options.is_default:
        raise UsageError("a saved plan is applied as it is: plan options do not go with it")
    if dry_run:
        output = OutputOptions.of(
            "json" if json_ else "text", json_out, show_requests=show_requests
        )
        if file is not None:
            show(app, file=file, output=output, mask=mask)
            return ExitCode.DONE
        return show_plan(
            app,
            paths=(),
            out=None,
            output=output,
            plan_options=plan_options,
            mask=mask,
            blame=False,
            no_cache=False,
            detailed_exitcode=False,
        )
    stream = events_stream(json_out, json_=json_)
    reporter = _reporter(app, stream=stream, json_=json_, bar=not no_progress)
    with (
        ExitStack() as stack,
        stopping_on_signals(app),
        _reporting_errors(reporter),
        app.workspace(mask=mask) as workspace,
    ):
        _add_event_file(reporter, json_out, workspace=workspace, stack=stack)
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
                    app, workspace, stream=stream, with_text=not (json_ or show_requests)
                ),
                record=True,
            )
            profiles = workspace.declared
        workspace.check(plan, max_changes=max_changes)
        shown_rate = workspace.environment.rate if rate_option is None else rate_option
        tally = None if capture is None else capture.tally
        saved = None if file is None else str(file)
        view = view_of(app, plan, tally=tally, rate=shown_rate, saved=saved)
        if not json_:
            print_plan(app, view, show_requests=show_requests, stream=stream, capture=capture)
        _approve(app, workspace, plan=plan, view=view, auto_approve=auto_approve, digest=digest)
        reporter.again = (
            view.again
            if file is None
            else Command.of("apply", file_argument(str(file))).text(app.invocation)
        )
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
    json_out: Path | None,
) -> int:
    """Deletes expired profiles that this tool created."""
    removal = _Removal(
        "sweep",
        lambda workspace: workspace.plan_sweep(select=select, exclude=exclude),
        json=json_,
        json_out=json_out,
    )
    if dry_run:
        _show_removal(app, removal)
        return ExitCode.DONE
    _, code = _remove(
        app, removal, auto_approve=auto_approve, digest=digest, max_changes=max_changes
    )
    return code


def destroy(
    app: App,
    *,
    out: Path | None,
    auto_approve: bool,
    dry_run: bool,
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    show_requests: bool,
    max_changes: int | None,
    digest: str | None,
    json_: bool,
    json_out: Path | None,
) -> int:
    """Deletes the selected profiles that this tool created, or saves the plan that does.

    Raises UsageError where nothing is selected.
    """
    if not select:
        raise UsageError(
            "destroy deletes what is selected, and nothing is",
            hint=Message.of(
                "Name the profiles: ",
                Command.of("destroy", "--select", "label:NAME"),
                ". To delete what no file declares: ",
                Command.of("plan", "--prune"),
                ".",
            ),
        )
    selection = Selection(select, exclude)
    removal = _Removal(
        "destroy",
        lambda workspace: workspace.plans.destroy(selection),
        json=json_,
        json_out=json_out,
        show_requests=show_requests,
    )
    if dry_run or out is not None:
        plan = _show_removal(app, removal, out=out)
        if out is not None:
            save_plan(app, plan, out=out)
        return ExitCode.DONE
    plan, code = _remove(
        app, removal, auto_approve=auto_approve, digest=digest, max_changes=max_changes
    )
    if not plan.is_empty:
        again = Command.of("plan").text(app.invocation)
        app.note(
            f"what files still declare is created again by the next apply; see it with: {again}"
        )
    return code


class _Removal(NamedTuple):
    """A command that deletes profiles: how it makes its plan, and how that is shown."""

    name: str
    plan: Callable[[Workspace], Plan]
    json: bool
    json_out: Path | None
    show_requests: bool = False


def _show_removal(app: App, removal: _Removal, *, out: Path | None = None) -> Plan:
    """Shows the plan, and changes nothing. ``out`` is the file that it will be saved to."""
    output = OutputOptions.of(
        "json" if removal.json else "text", removal.json_out, show_requests=removal.show_requests
    )
    outputs = [*output.paths(), *([out] if out is not None else [])]
    with stopping_on_signals(app), app.workspace() as workspace:
        check_outputs(outputs, workspace.config)
        plan = removal.plan(workspace)
        view = view_of(app, plan, rate=workspace.environment.rate)
        deliver_plan(app, view, output=output, stream=text_stream(outputs))
    return plan


def _remove(
    app: App,
    removal: _Removal,
    *,
    auto_approve: bool,
    digest: str | None,
    max_changes: int | None,
) -> tuple[Plan, int]:
    """Shows the plan, has it approved, and carries it out; returns it and the exit code."""
    stream = events_stream(removal.json_out, json_=removal.json)
    reporter = _reporter(app, stream=stream, json_=removal.json, bar=True)
    with (
        ExitStack() as stack,
        stopping_on_signals(app),
        _reporting_errors(reporter),
        app.workspace() as workspace,
    ):
        _add_event_file(reporter, removal.json_out, workspace=workspace, stack=stack)
        workspace.state.take_up(removal.name)
        plan = removal.plan(workspace)
        view = view_of(app, plan, rate=workspace.environment.rate)
        if not removal.json:
            print_plan(app, view, show_requests=removal.show_requests, stream=stream)
        workspace.check(plan, max_changes=max_changes)
        _approve(app, workspace, plan=plan, view=view, auto_approve=auto_approve, digest=digest)
        reporter.again = view.again
        code = _carry_out(
            app, workspace, reporter=reporter, plan=plan, max_changes=max_changes, profiles=()
        )
    return plan, code if code or not reporter.broken else ExitCode.FAILED


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


def _reporter(app: App, *, stream: TextIO, json_: bool, bar: bool) -> TeeReporter:
    if json_:
        return TeeReporter(EventReporter(stream))
    has_bar = bar and is_smart_terminal(sys.stderr) and not (os.environ.get("CI") or app.verbose)
    return TeeReporter(
        LineReporter(
            stream,
            sys.stderr,
            color=app.uses_color(stream),
            width=columns(stream),
            bar=has_bar,
            quiet=app.quiet,
        )
    )


def _add_event_file(
    reporter: TeeReporter, path: Path | None, *, workspace: Workspace, stack: ExitStack
) -> None:
    """Has the events written into a file too, as they come, until the stack ends."""
    if path is not None:
        reporter.add(EventReporter(open_events(path, workspace.config, stack=stack)))


@contextmanager
def _reporting_errors(reporter: ApplyReporter) -> Iterator[None]:
    """Within, an error is reported by the reporter too."""
    try:
        yield
    except ReconcileError as problem:
        reporter.fail(problem)
        raise


def _approve(
    app: App,
    workspace: Workspace,
    *,
    plan: Plan,
    view: PlanView,
    auto_approve: bool,
    digest: str | None,
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
                hint=f"Give the digest of the reviewed plan too: {view.command}",
            )
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            "there is no terminal to ask at, and --auto-approve was not given; nothing was sent",
            hint=f"Give --auto-approve (here with --digest): {view.command}",
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
