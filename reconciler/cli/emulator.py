"""The command that runs the local API: emulator."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import sleep

from reconciler.authoring.documents import Document
from reconciler.authoring.loader import parse_yaml
from reconciler.cli.app import App
from reconciler.cli.outputs import check_outputs, is_standard_output
from reconciler.cli.stopping import stopping_on_signals
from reconciler.cli.streams import print_result, stderr_line
from reconciler.config.reader import find_config, load_config, plain_config
from reconciler.config.settings import Config
from reconciler.config.trust_file import read_trust
from reconciler.emulator.api import Emulator
from reconciler.emulator.catalogue import catalogue_text
from reconciler.emulator.faults import parse_fault
from reconciler.emulator.server import EmulatorServer
from reconciler.emulator.traffic import RateLimit, RateMode
from reconciler.errors import ExitCode, InputError, ReconcileError
from reconciler.homes import work_tree
from reconciler.state.side_files import SideFiles
from reconciler.values import shown

_POLL_SECONDS = 0.1


def emulator(
    app: App,
    *,
    port: int,
    db: Path | None,
    fault: Sequence[str],
    seed: str | None,
    access_level: Sequence[str],
    fault_seed: int | None,
    header_faults: bool,
    rate_limit: Sequence[str],
    rate_mode: str,
    log: Path | None,
    dialect: str,
    debug: bool,
    is_list: bool,
) -> int:
    """Serves the local API until a signal comes, or prints what it implements.

    Raises InputError for a bad seed, and ReconcileError if the log cannot be written.
    """
    if is_list:
        print_result(catalogue_text().rstrip("\n"))
        return ExitCode.DONE
    if seed is not None and seed.isascii() and seed.isdecimal():
        fault_seed, seed = int(seed) if fault_seed is None else fault_seed, None
    document = None if seed is None else _read_seed(Path(seed))
    if log is not None:
        check_outputs([log], _config_here(app))
    faults = [parse_fault(text) for text in fault]
    with ExitStack() as stack:
        api = Emulator(
            dialect=dialect,
            db=None if db is None else _file_in_use(db, app, stack=stack),
            debug=debug,
            access_levels=access_level,
            rate_limits=[RateLimit.parse(text) for text in rate_limit],
            rate_mode=RateMode(rate_mode),
            log_file=Path("-") if is_standard_output(log) else log,
        )
        stack.callback(api.close)
        if document is not None:
            api.plant(document.value, place=document.at)
        server = EmulatorServer(
            api, port=port, faults=faults, seed=fault_seed or 0, header_faults=header_faults
        )
        stack.enter_context(stopping_on_signals(app))
        stack.enter_context(server)
        (stderr_line if is_standard_output(log) else print_result)(f"listening on {server.url}")
        while not app.is_stopping:
            sleep(_POLL_SECONDS)
            if api.log_problem is not None:
                raise ReconcileError(api.log_problem)
    return ExitCode.INTERRUPTED


def _file_in_use(db: Path, app: App, *, stack: ExitStack) -> Path:
    """The file of the emulator, in use until the stack ends. A link is followed: the user named it.

    Raises StateRefused where a checkout may have brought what SQLite would take into it, and ReconcileError
    for a file that cannot be used.
    """
    config = _config_here(app)
    if config is None:
        here = Path.cwd()
        config = plain_config(work_tree(here) or Path(here.anchor), os.environ)
    try:
        path = Path(os.path.realpath(db))
        stack.enter_context(SideFiles(config.places.homes.state).used_with_log(path))
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or "that is not a path"
        raise ReconcileError(
            f"the emulator cannot use its database {shown(str(db))}: {reason}",
            hint="Give another --db, or remove the file to start with no profiles.",
        ) from None
    return path


def _read_seed(path: Path) -> Document:
    """The document in a file of seeds. Raises InputError with findings for an unreadable or malformed one."""
    name = str(path)
    try:
        data = sys.stdin.buffer.read() if name == "-" else path.read_bytes()
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or "that is not a path"
        raise InputError(
            f"the seed {name} cannot be read: {reason}",
            hint="Give --seed a file as docs/emulator.md describes it.",
        ) from None
    document, findings = parse_yaml(data, name)
    problems = [finding for finding in findings if finding.is_error]
    if document is None or problems:
        raise InputError(
            f"the seed {name} cannot be used",
            diagnostics=problems,
            hint="Give it `profiles:`, as docs/emulator.md describes it.",
        )
    return document


def _config_here(app: App) -> Config | None:
    """The configuration of this folder, if there is one; of an invalid one, what it names by default."""
    here = Path.cwd()
    path = Path(app.config) if app.config else find_config(here, os.environ)
    if path is None:
        return None
    try:
        trust = read_trust(os.environ, **app.permissions._asdict())
        return load_config(path, start=here, trust=trust, environ=os.environ)
    except ReconcileError:
        return plain_config(path.absolute().parent, os.environ)._replace(path=path)
