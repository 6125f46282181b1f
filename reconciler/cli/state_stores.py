"""Commands on where the state is kept: state backups, migrate."""

from __future__ import annotations

from pathlib import Path

from reconciler.cli.app import App
from reconciler.cli.outputs import print_or_write, result_stream
from reconciler.cli.streams import json_text, print_result, stderr_line
from reconciler.errors import UsageError
from reconciler.state.store import Backup, utc_text
from reconciler.values import shown
from reconciler.workspace.migration import Migration


def state_backups(app: App, *, format_: str, json_out: Path | None) -> None:
    """Lists the backups of the state."""
    with app.workspace() as workspace:
        stream = result_stream(json_out, workspace.config, format_=format_)
        backups = workspace.state.unchecked.backups()
    print_or_write(
        stream,
        text=lambda: "".join(map(_line, backups)) or "There is no backup.\n",
        data=lambda: json_text([backup._asdict() for backup in backups]),
        format_=format_,
        json_out=json_out,
    )


def state_migrate(app: App, *, to: str | None, source: str | None) -> None:
    """Takes the state to another store. Raises UsageError unless one place is named."""
    if (to is None) == (source is None):
        raise UsageError("name one place: the new one by --to, or the present one by --from")
    with app.workspace() as workspace:
        migration = Migration(
            workspace.environment, admin=workspace.state, root=workspace.config.root
        )
        moved = migration.to(to) if to is not None else migration.from_(source or "")
    count = moved.profiles
    print_result(
        f"{count} profile{'' if count == 1 else 's'} moved from {shown(moved.source)} to "
        f"{shown(moved.target)}, with serial {moved.header.serial}"
    )
    if to is not None:
        stderr_line("Name the new place in `state` of reconcile.yaml: the old one is refused now.")


def _line(backup: Backup) -> str:
    size = "" if backup.size is None else f", {backup.size:,} bytes"
    made = utc_text(backup.made, "%Y-%m-%d %H:%M:%S")
    return f"{shown(backup.id)}  made {made} UTC, serial {backup.serial}{size}\n"
