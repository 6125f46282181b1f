"""Whether a process is alive, and whether it is still the same process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from reconciler.state.liveness import is_dead, process_identity

pytestmark = pytest.mark.skipif(
    process_identity(os.getpid()) is None, reason="the system has no /proc"
)


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_live_process_keeps_its_identity() -> None:
    assert process_identity(os.getpid()) == process_identity(os.getpid())
    assert not is_dead(os.getpid(), process_identity(os.getpid()))


def test_a_process_that_ended_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = process_identity(process.pid)
    assert not is_dead(process.pid, identity)
    process.communicate(b"\n")
    assert is_dead(process.pid, identity)
    assert is_dead(process.pid, None)


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "print()"], stdout=subprocess.PIPE)
    identity = process_identity(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_identity(process.pid) is None
    assert is_dead(process.pid, identity or f"{process_identity(os.getpid())}")
    process.communicate()


def test_another_process_with_the_same_number_is_not_the_one_that_is_asked_about() -> None:
    boot, namespace, start = str(process_identity(os.getpid())).split()
    assert is_dead(os.getpid(), f"{boot} {namespace} {int(start) - 1}")


def test_a_process_of_another_boot_or_namespace_cannot_be_judged() -> None:
    pid = _dead_pid()
    boot, namespace, start = str(process_identity(os.getpid())).split()
    assert not is_dead(pid, f"other-boot {namespace} {start}")
    assert not is_dead(pid, f"{boot} other-namespace {start}")


@pytest.mark.parametrize("pid", [0, -1, 2**80])
def test_an_impossible_number_is_not_called_dead(pid: int) -> None:
    assert not is_dead(pid, None)
