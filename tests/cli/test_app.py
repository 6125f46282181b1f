"""The one error door: what ends the program, and with which message."""

from __future__ import annotations

import click
import pytest

from reconciler.cli.app import ErrorHandlingGroup
from reconciler.errors import ExitCode


@pytest.mark.parametrize(
    "problem",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        ImportError("x.so: failed to map segment from shared object"),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_too_little_memory_is_an_error_with_a_message(
    problem: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    @click.group(cls=ErrorHandlingGroup)
    def program() -> None: ...

    @program.command()
    def work() -> None:
        raise problem

    with pytest.raises(SystemExit) as ended:
        program.main(["work"])
    assert ended.value.code == ExitCode.FAILED
    assert "error: there is not enough memory" in capfd.readouterr().err


def test_another_error_of_the_program_is_not_taken_for_a_lack_of_memory() -> None:
    @click.group(cls=ErrorHandlingGroup)
    def program() -> None: ...

    @program.command()
    def work() -> None:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        program.main(["work"])
