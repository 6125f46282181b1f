"""Files that a prune relies on and that git does not have committed.

A file that was cut between two documents is valid, and its other profiles are orphans. Where an environment
asks for confirmation, such profiles are deleted only if somebody committed the file as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.authoring.walk import path_of_name
from reconciler.commands import Command
from reconciler.config.settings import Config, Environment
from reconciler.core.plan import HazardKind, Mode, Plan
from reconciler.errors import Message, ReconcileError, Refused
from reconciler.git import Repository

_MOST_NAMED = 3


def refuse_uncommitted(plan: Plan, config: Config, *, environment: Environment) -> None:
    """Raises Refused for a plan that deletes profiles of a file that still exists, if the environment asks
    for confirmation and git does not have the file committed as it is."""
    if not environment.confirm or plan.mode is not Mode.PRUNE or not plan.summary["delete"]:
        return
    files = {
        path_of_name(config.root, hazard.file): hazard.file
        for hazard in plan.hazards
        if hazard.kind == HazardKind.FILE_SHRANK
    }
    if not files:
        return
    uncommitted, reason = _uncommitted(files, config)
    if uncommitted:
        more = len(uncommitted) - _MOST_NAMED
        names = ", ".join(uncommitted[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        raise Refused(
            f"the plan deletes profiles that {names} no longer declares, and {reason}; environment "
            f"{environment.name} asks for a commit, because a file may have been cut off",
            hint=Message.of(
                "Restore what is missing in the file; or commit the file as it is, and apply in that "
                "checkout. ",
                Command.of("state", "rm", "ADDRESS"),
                " stops recording a profile, and deletes nothing at the API.",
            ),
        )


def _uncommitted(files: Mapping[Path, str], config: Config) -> tuple[list[str], str]:
    """The files that git does not have committed as they are, and why. Without git, that is all of them."""
    try:
        missing = Repository.around(config.profiles).uncommitted(files)
    except ReconcileError as problem:
        return [*files.values()], f"git cannot tell whether it is committed: {problem}"
    return [files[path] for path in missing], "git does not have it committed as it is"
