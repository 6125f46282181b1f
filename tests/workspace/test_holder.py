"""Who holds the lock of a state."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys

import pytest

from reconciler.workspace.holder import this_process


def test_the_holder_is_this_process_with_its_command() -> None:
    holder = this_process("apply", {})
    assert (holder.pid, holder.command, holder.ci) == (os.getpid(), "apply", None)
    assert (holder.user, holder.host) == (getpass.getuser(), socket.gethostname())


def test_in_a_build_the_holder_has_its_address() -> None:
    variables = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "a/b",
        "GITHUB_RUN_ID": "7",
    }
    assert this_process("apply", variables).ci == "https://github.com/a/b/actions/runs/7"


@pytest.mark.parametrize("problem", [KeyError, OSError, ImportError])
def test_a_user_without_a_name_is_unknown(
    monkeypatch: pytest.MonkeyPatch, problem: type[Exception]
) -> None:
    """As in a container whose user id is in no list of users."""

    def getuser() -> str:
        raise problem

    monkeypatch.setattr(getpass, "getuser", getuser)
    assert this_process("plan", {}).user == "unknown"


def test_a_system_without_that_name_says_it_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "uname")
    assert this_process("plan", {"COMPUTERNAME": "desk"}).host == "desk"
    assert this_process("plan", {}).host == "unknown"


def test_no_plan_loads_sockets_for_it() -> None:
    code = "import sys, reconciler.workspace.state_admin; print('socket' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
