"""Commands on the recorded state: state list, show, rm, mv, pull, push, restore, new,
path, move, unlock."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from reconciler.cli.app import App
from reconciler.cli.outputs import print_or_write, read_input, result_stream
from reconciler.cli.streams import can_encode, json_text, print_json, print_result, stderr_line
from reconciler.commands import Command, arguments
from reconciler.config.settings import EMULATOR
from reconciler.core.record_codec import encode_export, encode_record
from reconciler.core.records import Export
from reconciler.errors import Message, ReconcileError, Refused
from reconciler.reports.text import backup_text, difference_text, record_text, records_text
from reconciler.values import shown
from reconciler.workspace.facade import Workspace
from reconciler.workspace.renaming import rename_record
from reconciler.workspace.state_admin import MISSING_CHANGES, parse_export

_WRITER = "reconcile_writer"
_READER = "reconcile_reader"
"""The roles that a printed script is written for, where none are named."""


def state_list(app: App, *, format_: str, json_out: Path | None, mask: bool | None) -> None:
    """Prints all records."""
    with app.workspace(mask=mask) as workspace:
        stream = result_stream(json_out, workspace.config, format_=format_)
        records = list(workspace.store.records())
    records = [app.any_mask().record(record) for record in records]
    print_or_write(
        stream,
        text=lambda: records_text(records, color=app.uses_color(stream)),
        data=lambda: json_text([encode_record(record) for record in records]),
        format_=format_,
        json_out=json_out,
    )


def state_show(
    app: App, *, address: str, format_: str, json_out: Path | None, mask: bool | None
) -> None:
    """Prints one record. Raises Refused if there is none."""
    with app.workspace(mask=mask) as workspace:
        stream = result_stream(json_out, workspace.config, format_=format_)
        record = workspace.store.record(address)
    if record is None:
        raise Refused(
            f"the state does not know {address}",
            hint=Message.of("See ", Command.of("state", "list"), "."),
        )
    masked = app.any_mask().record(record)
    print_or_write(
        stream,
        text=lambda: record_text(masked, color=app.uses_color(stream)),
        data=lambda: json_text(encode_record(masked)),
        format_=format_,
        json_out=json_out,
    )


def state_rm(app: App, *, addresses: Sequence[str]) -> None:
    """Removes records; sends nothing."""
    with app.workspace() as workspace:
        backup = workspace.forget(addresses)
    print_result("\n".join(f"forgot {shown(address)}" for address in addresses))
    _report_backup(backup)


def state_mv(app: App, *, former: str, address: str) -> None:
    """Renames one record; sends nothing."""
    with app.workspace() as workspace:
        backup = rename_record(
            former, address, state=workspace.state, sources=workspace.sources, now=time.time
        )
    print_result(f"renamed {shown(former)} to {shown(address)}")
    _report_backup(backup)


def state_pull(app: App) -> None:
    """Prints the whole state."""
    with app.workspace() as workspace:
        print_json(encode_export(workspace.export()))


def state_push(app: App, *, file: Path, force: bool) -> None:
    """Replaces the whole state, and prints what changed."""
    data = _read_export(file)
    with app.workspace() as workspace:
        before, backup = workspace.import_state(data, force=force)
        after = workspace.export()
    _report_replaced(app, before, after=after)
    _report_backup(backup)


def state_restore(app: App, *, file: str) -> None:
    """Puts a backup back, and prints what changed."""
    with _backup_file(file) as name, app.workspace() as workspace:
        restored = workspace.state.restore(name)
        after = workspace.export()
    if restored.before is not None:
        _report_replaced(app, restored.before, after=after)
    print_result(f"restored {len(after.records)} profiles, with serial {after.header.serial}")
    for path in restored.set_aside:
        stderr_line(f"the damaged state is in {shown(str(path))}")
    _report_backup(restored.backup)
    stderr_line(MISSING_CHANGES.for_invocation(app.invocation).text)


@contextmanager
def _backup_file(name: str) -> Iterator[str]:
    """The name of a backup. Standard input (``-``) becomes a file of the user alone, for as long as it is
    needed."""
    if name != "-":
        yield name
        return
    with NamedTemporaryFile(suffix=".json") as file:
        file.write(read_input(Path(name)))
        file.flush()
        yield file.name


def state_new(app: App) -> None:
    """Begins a state anew."""
    with app.workspace() as workspace:
        header = workspace.state.begin()
        name = workspace.state.name
    print_result(f"a new state begins in {name}: lineage {header.lineage}")


def state_path(app: App, *, format_: str, json_out: Path | None) -> None:
    """Prints where the state is, or, as JSON, where everything is that is kept of the project."""
    with app.workspace() as workspace:
        environment, places = workspace.environment, workspace.config.places
        state = workspace.state.address
        stream = result_stream(json_out, workspace.config, format_=format_)
    kept = {
        "state": state,
        "emulator": environment.emulator_db if environment.url == EMULATOR else None,
        "caches": places.caches,
        "home": places.homes.state,
    }
    paths = {name: None if path is None else str(path) for name, path in kept.items()}
    print_or_write(
        stream,
        text=lambda: shown(state),
        data=lambda: json_text(paths),
        format_=format_,
        json_out=json_out,
    )


def state_move(app: App, *, to: str, former: Path | None) -> None:
    """Takes the state into the home, into the project, or along with a folder that moved."""
    with app.workspace() as workspace:
        if former is not None:
            moved = workspace.relocation.along(former)
        elif to == "home":
            moved = workspace.relocation.to_home(now=time.time())
        else:
            moved = workspace.relocation.to_project(now=time.time())
        if not moved:
            file = workspace.environment.state.file
            folder = "" if file is None else shown(str(file.parent))
            print_result(f"The state lies in {folder} already.")
    for each in moved:
        print_result(f"{shown(str(each.source))} is now {shown(str(each.target))}")
        if each.former is not None:
            stderr_line(f"the file before is kept in {shown(str(each.former))}")


def state_setup(app: App, *, is_printed: bool, writer: str | None, reader: str | None) -> None:
    """Sets up the schema of a state, or prints the SQL that does. Raises Refused for another state."""
    with app.workspace() as workspace:
        schema, name = workspace.state.schema, workspace.state.name
        if schema is None:
            raise Refused(
                f"the state {name} needs no setup",
                hint="Only a state in PostgreSQL has roles and a schema; see docs/teams.md.",
            )
        if is_printed:
            script = schema.setup_script(writer=writer or _WRITER, reader=reader or _READER)
            print_result(script.rstrip("\n"))
            return
        schema.set_up(writer=writer, reader=reader)
    rights = [
        f"; {shown(role)} may {what}"
        for role, what in ((writer, "write"), (reader, "read"))
        if role
    ]
    print_result(f"The state is set up: {name}{''.join(rights)}")


def state_unlock(app: App, *, lock_id: str) -> None:
    """Removes a lock."""
    with app.workspace() as workspace:
        try:
            workspace.store.unlock(lock_id)
        except Refused:
            if holder := _environment_locked_by(lock_id, workspace):
                command = Command.of("state", "unlock", *arguments([lock_id]), env=holder)
                raise Refused(
                    f"this is the lock of environment {holder}, "
                    f"not of {workspace.environment.name}; nothing was unlocked",
                    hint=Message.of("Unlock it with ", command, "."),
                ) from None
            raise
    print_result("unlocked")


def _environment_locked_by(lock_id: str, workspace: Workspace) -> str | None:
    """The other environment whose state is locked by a lock."""
    for name, environment in workspace.config.environments.items():
        if name == workspace.environment.name:
            continue
        with suppress(ReconcileError), Workspace(workspace.config, environment) as other:
            lock = other.store.locked()
            if lock is not None and lock.id == lock_id:
                return name
    return None


def _read_export(file: Path) -> Any:
    """The JSON of a file, or of stdin for ``-``."""
    return parse_export(read_input(file))


def _report_replaced(app: App, before: Export, *, after: Export) -> None:
    before, after = app.any_mask().export(before), app.any_mask().export(after)
    is_ascii = not can_encode(sys.stdout, "→")
    print_result(difference_text(encode_export(before), encode_export(after), ascii=is_ascii))


def _report_backup(backup: str | None) -> None:
    if backup is not None:
        stderr_line(backup_text(backup))
