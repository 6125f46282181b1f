"""The command that makes profile files of what exists: import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from reconciler.cli.app import App
from reconciler.cli.outputs import events_stream, open_events, read_input
from reconciler.cli.render import warn
from reconciler.cli.stopping import stopping_on_signals
from reconciler.cli.streams import write
from reconciler.errors import ExitCode, InputError, ReconcileError, UsageError
from reconciler.reports.wording import count
from reconciler.values import shown, spelled
from reconciler.workspace.facade import Workspace
from reconciler.workspace.importing import (
    Importing,
    ImportOutcome,
    ImportRequest,
    ImportResult,
    write_table,
)

_PERSONAL = (
    "note: custom attributes may be data of real people, and whoever can read the repository can read "
    "the files; look at them before you commit them"
)


def import_profiles(
    app: App,
    *,
    ids: Sequence[str],
    ids_file: Path | None,
    table: Path | None,
    folder: Path | None,
    groups: Sequence[str],
    dry_run: bool,
    json_: bool,
    json_out: Path | None,
    mask: bool | None,
) -> int:
    """Writes a file for each profile, and records it."""
    addresses = [*ids, *(_listed(ids_file) if ids_file is not None else ())]
    if table is not None and (addresses or groups):
        raise UsageError(
            "--csv goes neither with ids nor with --with", hint="Leave one of them out."
        )
    if not addresses and table is None:
        raise UsageError(
            "no profile is named", hint="Give customer ids, profile:UUID, or --ids FILE."
        )
    names = [each for group in groups for each in group.replace(",", " ").split()]
    counts: Counter[ImportOutcome] = Counter()
    stream = events_stream(json_out, json_=json_)
    event_streams = [stream] if json_ else []

    def tell_programs(event: dict[str, Any]) -> None:
        for each in event_streams:
            write(each, spelled(event) + "\n")

    def tell(result: ImportResult) -> None:
        app.status.clear()
        if not counts[ImportOutcome.IMPORTED] and result.outcome is ImportOutcome.IMPORTED:
            app.note(_PERSONAL)
        counts[result.outcome] += 1
        tell_programs(_event(result, dry_run))
        if not json_:
            write(stream, _line(result, dry_run) + "\n")
        if result.findings:
            warn(app, result.findings)

    with ExitStack() as stack, stopping_on_signals(app), app.workspace(mask=mask) as workspace:
        if json_out is not None:
            event_streams.append(open_events(json_out, workspace.config, stack=stack))
        tell_programs({"type": "version", "format_version": 1})
        request = ImportRequest(addresses, folder, names, dry_run)
        try:
            _carry_out(workspace, request, table=table, on_result=tell)
        except ReconcileError as problem:
            tell_programs(_summary(counts, problem.exit_code, problem=problem))
            raise
        is_fine = all(outcome.is_fine for outcome in counts)
        code = ExitCode.DONE if is_fine else ExitCode.FAILED
        tell_programs(_summary(counts, code))
    if not json_:
        outcomes = {each.value: counts[each] for each in ImportOutcome if counts[each]}
        parts = [f"{number:,} {outcome}" for outcome, number in outcomes.items()]
        write(stream, f"{count(counts.total(), 'profile')}: {', '.join(parts)}.\n")
    return code


def _carry_out(
    workspace: Workspace,
    request: ImportRequest,
    *,
    table: Path | None,
    on_result: Callable[[ImportResult], None],
) -> None:
    if table is not None:
        write_table(
            _text(table),
            "standard input" if str(table) == "-" else str(table),
            request=request,
            config=workspace.config,
            sources=workspace.sources,
            on_result=on_result,
        )
        return
    importing = Importing(
        workspace.config,
        sources=workspace.sources,
        state=workspace.state,
        refresh=workspace.reader,
    )
    importing.run(request, on_result)


def _summary(
    counts: Counter[ImportOutcome], code: int, *, problem: ReconcileError | None = None
) -> dict[str, Any]:
    """The last event, also after an error."""
    return {
        "type": "summary",
        "outcomes": {each.value: counts[each] for each in ImportOutcome if counts[each]},
        "exit_code": int(code),
        "error": None if problem is None else problem.message,
        "hint": None if problem is None else problem.hint,
    }


def _listed(path: Path) -> Iterator[str]:
    """The ids of a file, one a line. ``#`` begins a comment at the beginning of a line and after a blank,
    since a customer id may hold one."""
    for line in _text(path).split("\n"):
        before, _, _ = f" {line}".replace("\t#", " #").partition(" #")
        if before.strip():
            yield before.strip()


def _text(path: Path) -> str:
    """The text of a file; ``-`` is standard input.

    Raises InputError for a file that cannot be read.
    """
    try:
        return read_input(path).decode("utf-8-sig")
    except ValueError:
        raise InputError(f"{path} is not UTF-8", hint="Save it as UTF-8.") from None


def _line(result: ImportResult, dry_run: bool) -> str:
    would = "would be " if dry_run and result.outcome.is_fine else ""
    would = "" if result.outcome is ImportOutcome.ALREADY else would
    parts = [f"{shown(result.address)}: {would}{result.outcome}"]
    if result.file:
        parts.append(f"  {shown(result.file)}")
    if result.reason:
        parts.append(f"  ({shown(result.reason)})")
    lines = ["".join(parts)]
    lines += [f"  not declared: {shown(path)}" for path, _ in result.omitted]
    return "\n".join(lines)


def _event(result: ImportResult, dry_run: bool) -> dict[str, Any]:
    return {
        "type": "profile",
        "address": result.address,
        "outcome": result.outcome.value,
        "file": result.file or None,
        "reason": result.reason,
        "omitted": [path for path, _ in result.omitted],
        "dry_run": dry_run,
    }
