"""The command that checks what an operator would: doctor."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from reconciler.cli.app import App
from reconciler.cli.outputs import result_stream, write_file
from reconciler.cli.streams import json_text, write
from reconciler.commands import Invocation
from reconciler.config.reader import find_config, load_config
from reconciler.config.settings import Config
from reconciler.config.trust_file import read_trust
from reconciler.errors import ExitCode, InputError, ReconcileError
from reconciler.reports.style import DIM, GREEN, RED, YELLOW, Pen
from reconciler.values import Json, shown
from reconciler.workspace.doctor import Check, CheckVerdict, Doctor, exit_code, installed

_STYLES = {
    CheckVerdict.OK: GREEN,
    CheckVerdict.WARNING: YELLOW,
    CheckVerdict.FAILURE: RED,
    CheckVerdict.SKIPPED: DIM,
}


def doctor(app: App, *, format_: str, json_out: Path | None) -> int:
    """Makes all checks, prints each as it is made, and ends with the exit code of the first failure."""
    made: list[Check] = []
    config = None
    try:
        trust = read_trust(os.environ, **app.permissions._asdict())
        here = Path.cwd()
        path = Path(app.config) if app.config else find_config(here, os.environ)
        config = load_config(path, start=here, trust=trust, environ=os.environ)
        environment = config.environment(app.env)
        if len(config.environments) > 1:
            app.environment = environment.name
    except ReconcileError as problem:
        stream = result_stream(json_out, config, format_=format_)
        checks = iter([installed(), _of_configuration(problem)])
    else:
        stream = result_stream(json_out, config, format_=format_)
        doctor_ = Doctor(
            config,
            environment,
            environ=os.environ,
            trust=trust,
            now=time.time,
            on_exchange=app.print_exchange if app.verbose else lambda exchange: None,
        )
        checks = _all(config, environment.name, doctor=doctor_)
    for check in checks:
        made.append(check)
        if format_ == "text":
            _print(check, stream, app=app)
    code = exit_code(made)
    data = json_text(_json(made, code, invocation=app.invocation))
    if json_out is not None:
        write_file(json_out, [data])
    if format_ == "json":
        write(stream, data)
    return code


def _all(config: Config, environment: str, *, doctor: Doctor) -> Iterator[Check]:
    yield installed()
    yield Check.ok("configuration", f"{config.path} is valid; environment {environment}")
    yield from doctor.checks()


def _of_configuration(problem: ReconcileError) -> Check:
    """The check of a configuration that cannot be used; nothing else can be looked at then."""
    check = Check.of_error("configuration", problem)
    findings = problem.diagnostics if isinstance(problem, InputError) else ()
    if not findings:
        return check
    first = findings[0]
    return check._replace(text=f"{problem.message}; the first: {first.source}: {first.message}")


def _print(check: Check, stream: TextIO, *, app: App) -> None:
    pen = Pen(app.uses_color(stream))
    verdict = pen(f"{check.verdict:8}", _STYLES[check.verdict])
    write(stream, f"{verdict} {check.name:14} {shown(check.text)}\n")
    hint = check.hint.for_invocation(app.invocation).text
    if hint:
        write(stream, f"{'':24}{shown(hint)}\n")


def _json(checks: list[Check], code: ExitCode, *, invocation: Invocation) -> Json:
    return {
        "format_version": 1,
        "checks": [
            {
                "check": check.name,
                "verdict": check.verdict.value,
                "text": check.text,
                "hint": check.hint.for_invocation(invocation).text or None,
            }
            for check in checks
        ],
        "exit_code": int(code),
    }
