"""The command that runs the local API: emulator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import sleep

from reconciler.cli.app import App
from reconciler.cli.outputs import check_outputs, is_standard_output
from reconciler.cli.stopping import stopping_on_signals
from reconciler.cli.streams import print_result, stderr_line
from reconciler.config.reader import find_config, load_config, plain_config
from reconciler.config.settings import Config
from reconciler.emulator.api import Emulator
from reconciler.emulator.faults import parse_fault
from reconciler.emulator.server import EmulatorServer
from reconciler.emulator.traffic import RateLimit, RateMode
from reconciler.errors import ExitCode, ReconcileError

_POLL_SECONDS = 0.1


def emulator(
    app: App,
    *,
    port: int,
    db: Path | None,
    fault: Sequence[str],
    seed: int,
    header_faults: bool,
    rate_limit: Sequence[str],
    rate_mode: str,
    log: Path | None,
    dialect: str,
    debug: bool,
) -> int:
    """Serves the local API until a signal comes. Raises ReconcileError if its log cannot be written."""
    if log is not None:
        check_outputs([log], _config_here(app))
    faults = [parse_fault(text) for text in fault]
    api = Emulator(
        dialect=dialect,
        db=db,
        debug=debug,
        rate_limits=[RateLimit.parse(text) for text in rate_limit],
        rate_mode=RateMode(rate_mode),
        log_file=Path("-") if is_standard_output(log) else log,
    )
    server = EmulatorServer(api, port=port, faults=faults, seed=seed, header_faults=header_faults)
    with stopping_on_signals(app), server:
        (stderr_line if is_standard_output(log) else print_result)(f"listening on {server.url}")
        while not app.is_stopping:
            sleep(_POLL_SECONDS)
            if api.log_problem is not None:
                raise ReconcileError(api.log_problem)
    return ExitCode.INTERRUPTED


def _config_here(app: App) -> Config | None:
    """The configuration of this folder, if there is one; of an invalid one, what it names by default."""
    here = Path.cwd()
    path = Path(app.config) if app.config else find_config(here)
    if path is None:
        return None
    try:
        return load_config(path, start=here)
    except ReconcileError:
        return plain_config(path.absolute().parent)._replace(path=path)
