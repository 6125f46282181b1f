"""Whether git tracks the files of a state. Then a checkout can replace them, or bring them. An edge.

The names of the index tell in nearly every case: a name that is nowhere in it is not tracked. git itself is
asked only where they do not (https://git-scm.com/docs/index-format).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from reconciler.commands import Command
from reconciler.errors import Message, ReconcileError, Refused
from reconciler.homes import work_tree
from reconciler.values import shown

_VERSION_WITH_WHOLE_NAMES = (2, 3)
_SPARSE = b"sdir\0\0\0\0"
"""The extension of an index that lists folders in the place of their files."""


def refuse_tracked(state: Path) -> None:
    """Raises Refused where git tracks a file of SQLite, or one that lies beside it under its name: journal,
    backups. A file outside of every work tree is not looked up."""
    folder = Path(os.path.realpath(state.parent))
    root = work_tree(folder)
    if root is None or not _may_be_tracked(root, state.name):
        return
    for name in _tracked_below(root, folder):
        path = os.path.join(root, *name.split("/"))
        if os.path.dirname(path).casefold() == str(folder).casefold() and _belongs(path, state):
            raise Refused(
                f"git tracks {shown(name)}: a checkout can replace the state, so it does not count",
                hint=Message.of(
                    "If somebody brought the file, remove it from the branch. If it is your state: ",
                    f"git rm --cached {shown(name)}, then ",
                    Command.of("state", "move"),
                    ", which takes it out of the checkout.",
                ),
            )


def _belongs(path: str, state: Path) -> bool:
    rest = os.path.basename(path).casefold().removeprefix(state.name.casefold())
    return rest != os.path.basename(path).casefold() and (not rest or rest[0] in "-.")


def _may_be_tracked(root: Path, name: str) -> bool:
    """No only if the index of a work tree certainly holds no name that contains this one."""
    git_folder = _git_folder(root)
    try:
        with open(git_folder / "index", "rb") as file:
            index = file.read()
        if any(entry.startswith("sharedindex.") for entry in os.listdir(git_folder)):
            return True
    except FileNotFoundError:
        return False  # nothing was ever added
    except OSError:
        return True
    if index[:4] != b"DIRC" or int.from_bytes(index[4:8], "big") not in _VERSION_WITH_WHOLE_NAMES:
        return True
    return _SPARSE in index or os.fsencode(name).lower() in index.lower()


def _git_folder(root: Path) -> Path:
    """The folder that a ``.git`` is or names: linked work trees and submodules have a file there."""
    path = root / ".git"
    if path.is_file():
        text = os.fsdecode(path.read_bytes()[:4096])
        return root / text.removeprefix("gitdir:").strip()
    return path


def _tracked_below(root: Path, folder: Path) -> list[str]:
    from reconciler.git import Repository

    # Where names are the same in capitals, the folder may be tracked in other ones.
    within = "." if sys.platform in ("darwin", "win32") else os.path.relpath(folder, root)
    try:
        return Repository.around(folder).tracked(within.replace(os.sep, "/"))
    except ReconcileError as problem:
        raise Refused(
            f"the state lies in the work tree {shown(str(root))}, and git does not tell whether it is "
            f"tracked there: {problem.message}",
            hint=Message.of(
                "Make git work there, or take the state out of the checkout: ",
                Command.of("state", "move"),
                ".",
            ),
        ) from None
