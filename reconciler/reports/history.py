"""The history of applies as text and JSON: runs, the changes of a run, and the changes of a profile. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reconciler.core.lifetimes import utc
from reconciler.core.records import JournalEntry, JournalKind, Run
from reconciler.reports.wording import count, duration
from reconciler.values import Json, shown

_SHORT_COMMIT = 12
_SHORT_DIGEST = 19
"""Characters of a digest that tell it from others: sha256: and twelve digits."""


def runs_text(runs: Sequence[Run], *, more: int, interrupted: int) -> str:
    """Runs, the newest first, with two lines each. ``more``: how many older ones are not shown;
    ``interrupted``: how many profiles a run that was cut off since had under way."""
    lines = []
    if interrupted:
        lines.append(
            f"The last run was cut off; it had {count(interrupted, 'profile')} under way. The next apply "
            "takes them up."
        )
    for run in runs:
        lines += run_lines(run)
    if not lines:
        return "Nothing was applied yet.\n"
    if more:
        lines.append(f"{count(more, 'older run')} not shown; --last {more + len(runs)} shows all.")
    return "\n".join(lines) + "\n"


def run_lines(run: Run) -> Iterator[str]:
    """A run in two lines, or three in a build."""
    outcomes = ", ".join(f"{number:,} {shown(name)}" for name, number in run.outcomes.items())
    seconds = max(0.0, run.finished - run.started)
    yield f"{shown(run.run)}  {utc(run.started)}, {duration(seconds)}: {outcomes or 'no changes'}"
    starter = run.starter
    parts = [
        f"by {shown(starter.user)} on {shown(starter.host)}" if starter.user else "",
        f"commit {shown(starter.commit[:_SHORT_COMMIT])}" if starter.commit else "",
        f"plan {shown(run.digest[:_SHORT_DIGEST])}" if run.digest else "",
    ]
    yield f"  {', '.join(part for part in parts if part)}"
    if starter.ci:
        yield f"  {shown(starter.ci)}"


def entries_text(entries: Iterable[JournalEntry], *, with_run: bool) -> str:
    """Entries of the journal, one a line; with the run of each, or with its profile."""
    lines = []
    for entry in entries:
        name = entry.run if with_run else entry.address
        action = f"{entry.action} " if entry.action else ""
        detail = f"  ({shown(entry.detail)})" if entry.detail else ""
        lines.append(f"  {utc(entry.at)}  {shown(name)}: {shown(action)}{entry.kind}{detail}")
    return "".join(f"{line}\n" for line in lines)


def outcomes_of(entries: Iterable[JournalEntry]) -> list[JournalEntry]:
    """The outcomes among some entries, and the intents that no outcome followed."""
    last: dict[tuple[str, str], JournalEntry] = {}
    outcomes = []
    for entry in entries:
        if entry.kind is JournalKind.INTENT:
            last[(entry.run, entry.address)] = entry
        else:
            last.pop((entry.run, entry.address), None)
            outcomes.append(entry)
    return sorted([*outcomes, *last.values()], key=lambda entry: entry.at)


def history_json(
    runs: Iterable[Run], entries: Iterable[JournalEntry] | None, *, interrupted: Sequence[str] = ()
) -> Json:
    """Runs, and entries of the journal where those are asked for."""
    data: dict[str, Json] = {
        "format_version": 1,
        "runs": [_run_json(run) for run in runs],
        "interrupted": list(interrupted),
    }
    if entries is not None:
        data["entries"] = [_entry_json(entry) for entry in entries]
    return data


def _run_json(run: Run) -> Json:
    starter = run.starter
    return {
        "run": run.run,
        "started": run.started,
        "finished": run.finished,
        "digest": run.digest,
        "outcomes": dict(run.outcomes),
        "user": starter.user or None,
        "host": starter.host or None,
        "ci": starter.ci or None,
        "commit": starter.commit or None,
    }


def _entry_json(entry: JournalEntry) -> Json:
    return {**entry._asdict(), "kind": entry.kind.value}
