"""The command that runs the local API: emulator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import sleep

from reconciler.cli.app import App
from reconciler.cli.stopping import stopping_on_signals
from reconciler.cli.streams import print_result
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
    faults = [parse_fault(text) for text in fault]
    api = Emulator(
        dialect=dialect,
        db=db,
        debug=debug,
        rate_limits=[RateLimit.parse(text) for text in rate_limit],
        rate_mode=RateMode(rate_mode),
        log_file=log,
    )
    server = EmulatorServer(api, port=port, faults=faults, seed=seed, header_faults=header_faults)
    with stopping_on_signals(app), server:
        print_result(f"listening on {server.url}")
        while not app.is_stopping:
            sleep(_POLL_SECONDS)
            if api.log_problem is not None:
                raise ReconcileError(api.log_problem)
    return ExitCode.INTERRUPTED
