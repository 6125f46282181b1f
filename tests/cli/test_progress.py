"""Commands that read the API show how far they are, and end when they are interrupted."""

from __future__ import annotations

import io
import os
import pty
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.cli.streams import StatusLine
from reconciler.emulator import Answer, Emulator, EmulatorServer, Received
from reconciler.planning.limits import ProgressEvent, ProgressPhase
from tests.support.command_line import PROGRAM, ROOT, environment
from tests.support.projects import KEY, Project, remote

READING = [("refresh",), ("plan", "--refresh"), ("apply", "--refresh", "--auto-approve")]


class HeldReads:
    """Keeps the answers to reads back until they are released."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go_on = threading.Event()

    def around(self, received: Received, answer: Callable[[], Answer]) -> Answer:
        if received.method == "GET":
            self.began.set()
            self.go_on.wait(60)
        return answer()


@contextmanager
def reads_held(folder: Path) -> Iterator[tuple[Project, HeldReads]]:
    """A project whose four profiles are recorded, at an API that keeps reads waiting."""
    held = HeldReads()
    with EmulatorServer(Emulator(), faults=held) as server:
        project = Project(folder, remote(server.url, api={"rate": "100/s", "timeout": 60}))
        for name in "abcd":
            project.profile(name, f"customer_user_id: {name}\nfirst_name: A\n")
        project.run("apply", "--auto-approve", SECRET_KEY=KEY)
        try:
            yield project, held
        finally:
            held.go_on.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_command_that_reads_the_api_ends_with_130_when_it_is_interrupted(
    arguments: tuple[str, ...], number: signal.Signals, tmp_path: Path
) -> None:
    with reads_held(tmp_path) as (project, held):
        process = project.start(*arguments, SECRET_KEY=KEY)
        assert held.began.wait(30)
        process.send_signal(number)
        began = time.monotonic()
        _, err = process.communicate(timeout=30)

    assert process.returncode == 130, err
    assert time.monotonic() - began < 9
    assert "interrupted" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", READING[:2], ids=" ".join)
def test_a_command_that_reads_the_api_shows_its_progress_at_a_terminal(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    progress = (
        b"0/4" if arguments == ("refresh",) else b"reading the API: 0 of 4"
    )  # a bar, or a line
    with reads_held(tmp_path) as (project, held):
        pid, master = pty.fork()
        if pid == 0:
            os.chdir(project.folder)
            variables = {**environment(SECRET_KEY=KEY), "PYTHONPATH": str(ROOT), "TERM": "xterm"}
            os.execve(sys.executable, [*PROGRAM, *arguments], variables)
        output = b""
        while True:
            try:
                more = os.read(master, 65536)
            except OSError:
                break
            if not more:
                break
            output += more
            if progress in output:
                held.go_on.set()
        _, status = os.waitpid(pid, 0)
        os.close(master)

    assert os.waitstatus_to_exitcode(status) == 0, output
    assert progress in output


def asking(done: int, waiting_for: str = "") -> ProgressEvent:
    return ProgressEvent(ProgressPhase.ASKING, done, 4_000, waiting_for)


def test_without_a_terminal_reading_the_api_prints_a_line_now_and_then() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    status = StatusLine(stream, heartbeat=0)
    status.update(ProgressEvent(ProgressPhase.READING, 5))
    status.update(asking(1_200))
    status.update(asking(1_300, "the API asked to wait 5 s"))
    status.clear()

    assert stream.buffer.getvalue().decode() == (  # type: ignore[attr-defined]
        "reading the API: 1,200 of 4,000\n"
        "reading the API: 1,300 of 4,000; the API asked to wait 5 s\n"
    )


def test_lines_of_progress_keep_a_distance() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    status = StatusLine(stream)
    status.update(asking(1))

    assert stream.buffer.getvalue() == b""  # type: ignore[attr-defined]
