"""The command that tells what was applied: history."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from reconciler.cli.app import App
from reconciler.cli.outputs import print_or_write, result_stream
from reconciler.cli.streams import json_text
from reconciler.commands import Command
from reconciler.core.records import JournalEntry, Run
from reconciler.errors import Message, Refused, UsageError
from reconciler.reports.history import (
    entries_text,
    history_json,
    outcomes_of,
    run_lines,
    runs_text,
)
from reconciler.state.store import Store
from reconciler.values import shown


def history(
    app: App,
    *,
    run_name: str | None,
    address: str | None,
    last: int,
    format_: str,
    json_out: Path | None,
) -> None:
    """Prints the runs that the state remembers, one of them with its changes, or the changes of a profile.

    Raises Refused for a run that the state does not know, UsageError where both are asked for.
    """
    if run_name is not None and address is not None:
        raise UsageError("a run and --address are asked for separately")
    with app.workspace() as workspace:
        stream = result_stream(json_out, workspace.config, format_=format_)
        store = workspace.store
        runs = [*store.runs()]
        runs.reverse()
        entries: list[JournalEntry] | None = None
        interrupted = [] if run_name or address else [*store.interrupted_addresses()]
        more = 0
        if run_name is not None:
            runs = [_named(run_name, runs)]
            entries = [*store.journal(run=runs[0].run)]
        elif address is not None:
            entries = _entries_of(address, store)
            involved = {entry.run for entry in entries}
            runs = [each for each in runs if each.run in involved]
        else:
            more = max(0, len(runs) - last)
            runs = [*islice(runs, last)]

    def text() -> str:
        if entries is None:
            return runs_text(runs, more=more, interrupted=len(interrupted))
        outcomes = outcomes_of(entries)
        if address is not None:
            return entries_text(outcomes, with_run=True) or f"{shown(address)}: nothing is kept.\n"
        changes = entries_text(outcomes, with_run=False)
        lines = [*run_lines(runs[0]), ""]
        return "\n".join(lines) + (changes or "The changes of this run are no longer kept.\n")

    print_or_write(
        stream,
        text=text,
        data=lambda: json_text(history_json(runs, entries, interrupted=interrupted)),
        format_=format_,
        json_out=json_out,
    )


def _named(name: str, runs: list[Run]) -> Run:
    """The run with a name, or with the only one that begins so.

    Raises Refused where there is none, or more than one.
    """
    found = [run for run in runs if run.run == name] or [
        run for run in runs if run.run.startswith(name)
    ]
    if len(found) != 1:
        problem = "knows no run" if not found else f"knows {len(found)} runs that begin with"
        raise Refused(
            f"the history {problem} {name}", hint=Message.of("See ", Command.of("history"), ".")
        )
    return found[0]


def _entries_of(address: str, store: Store) -> list[JournalEntry]:
    return [entry for entry in store.journal() if entry.address == address]
