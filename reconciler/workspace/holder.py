"""Who this process is, for the lock of a state."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from reconciler.config.buildinfo import build_info
from reconciler.core.records import RunStarter
from reconciler.errors import ReconcileError
from reconciler.git import Repository
from reconciler.state.store import Holder
from reconciler.systems import host_name


def this_process(command: str, environ: Mapping[str, str]) -> Holder:
    """This process, with the command that it runs."""
    return Holder(
        user=_user(),
        host=host_name() or environ.get("COMPUTERNAME", "unknown"),
        pid=os.getpid(),
        command=command,
        ci=build_info(environ).url,
    )


def run_starter(root: Path, environ: Mapping[str, str]) -> RunStarter:
    """Who starts a run here, for the history. ``root`` is the folder of the configuration."""
    holder = this_process("", environ)
    commit = None
    with suppress(ReconcileError):
        commit = Repository.around(root).head
    return RunStarter(holder.user, holder.host, holder.ci or "", commit or "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no name in the variables, and no list of users
        return "unknown"
