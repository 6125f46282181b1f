"""git, run so that nothing in a repository is executed. An edge.

A repository can name commands: filters, text conversions, external diffs, hooks, monitors, pagers, helpers
for transport and credentials. All of them are off here. Only a work tree with its own ``.git`` counts: a bare
repository that lies among the files, as a pull request can bring one, is never taken for it. git itself
refuses a ``.git`` of another owner (``safe.directory``).

The environment of git is a short list, so that a hook's ``GIT_DIR`` does not lead elsewhere and no secret
reaches a child. Text that comes back (names, summaries, paths) is untrusted.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from reconciler.errors import ReconcileError, Refused, UsageError
from reconciler.homes import work_tree
from reconciler.systems import open_flags, trail

_NO_GIT_HINT = "--since and --blame ask git; leave them out."
_PROGRAM = "git.exe" if os.name == "nt" else "git"
_SETTINGS = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "core.sshCommand": "false",
    "core.checkStat": "default",
    "core.trustCtime": "true",
    "credential.helper": "",
    "diff.autoRefreshIndex": "true",
    "gc.auto": "0",
    "i18n.logOutputEncoding": "UTF-8",
    "log.showSignature": "false",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "safe.bareRepository": "explicit",
    "submodule.recurse": "false",
}
_FILTER = re.compile(rb"filter\..*\.(clean|smudge|process|required)", re.DOTALL | re.I).fullmatch
_KEPT = (
    *("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
    *("USERPROFILE", "HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA"),
    *("SYSTEMROOT", "TMPDIR", "TEMP", "TMP", "SUDO_UID"),
)
"""Variables that git gets: where the user's own configuration lies, and where temporary files go."""
_FIXED = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_PATHS_AT_ONCE = 200
"""Paths on one command line of git."""
_LARGEST = 64 << 20
"""Bytes of a file that is compared with a commit: no larger one is read as profiles."""


class GitFailed(ReconcileError):
    """git refused a command. ``reason`` is what it said, in one line."""

    def __init__(self, message: str, *, reason: str, status: int = 0) -> None:
        super().__init__(f"{message}: {reason}")
        self.reason = reason
        self.status = status


class Comparison(NamedTuple):
    """The work tree beside a commit. Paths are relative to the root of the repository."""

    commit: str
    same: frozenset[str]
    """Files that certainly are as they were at the commit."""
    different: frozenset[str]
    """Files that are not, deleted ones included."""
    submodules: frozenset[str]
    """Folders that the commit has as repositories of their own."""


@dataclass(frozen=True)
class Repository:
    """A git work tree. Paths are relative to ``root``, with slashes."""

    root: Path
    program: str
    """The path of git."""

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """The work tree that contains a folder.

        Raises ReconcileError where there is none, or no git.
        """
        root = work_tree(folder)
        program = _program(outside=root)
        if root is None:
            raise _no_repository(folder, "not a git repository (or any of the parent directories)")
        repository = cls(root, program)
        try:
            top = repository._line("rev-parse", "--show-toplevel")
            directory = repository._line("rev-parse", "--absolute-git-dir")
        except GitFailed as problem:
            raise _no_repository(folder, problem.reason) from None
        if os.path.realpath(top) != str(root) or os.path.realpath(directory) != _git_folder(root):
            raise _no_repository(folder, "its .git does not belong to that folder")
        return repository

    # --- running git -------------------------------------------------------------------------

    def output(self, *arguments: str) -> bytes:
        """What git prints. Raises GitFailed."""
        return self._output([*_options(self._settings), *arguments])

    def _line(self, *arguments: str) -> str:
        """A path that git prints, with the settings that need no look into the configuration."""
        return os.fsdecode(self._output([*_options(_SETTINGS), *arguments])).removesuffix("\n")

    def _output(self, arguments: list[str]) -> bytes:
        if any("\0" in argument for argument in arguments):
            raise GitFailed("git cannot be asked", reason="an argument holds a NUL character")
        done = subprocess.run(
            [self.program, "--no-pager", *arguments],
            cwd=self.root,
            env=_environment(self.root),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise GitFailed(
                "git failed", reason=_reason(done.stderr, done.returncode), status=done.returncode
            )
        return done.stdout

    @cached_property
    def _settings(self) -> Mapping[str, str]:
        """The settings that switch off whatever the configuration could have run.

        Raises GitFailed for a filter that cannot be named on a command line.
        """
        listing = self._output([*_options(_SETTINGS), "config", "--null", "--name-only", "--list"])
        settings = dict(_SETTINGS)
        for key in listing.split(b"\0"):
            if (match := _FILTER(key)) is not None:
                if b"=" in key or b"\n" in key:
                    raise GitFailed(
                        "git is not asked", reason="its configuration has a filter with an odd name"
                    )
                is_flag = match[1].lower() == b"required"
                settings[os.fsdecode(key)] = "false" if is_flag else ""
        return settings

    # --- paths -------------------------------------------------------------------------------

    def path_of(self, path: Path) -> str | None:
        """A path relative to the root, links followed; ``None`` outside of it."""
        return self._relative(os.path.realpath(path))

    def trail(self, path: str) -> Iterator[str | None]:
        """What opening a path depends on, relative to the root; ``None`` for what is outside."""
        return map(self._relative, trail(path))

    def _relative(self, path: str) -> str | None:
        inside = os.path.join(self.root, "")
        if path == str(self.root):
            return "."
        return path.removeprefix(inside).replace(os.sep, "/") if path.startswith(inside) else None

    def tracked(self, within: str) -> list[str]:
        """The files that the index has at or below a path. Raises GitFailed."""
        return _split(self.output("ls-files", "-z", "--full-name", "--", within))

    # --- commits -----------------------------------------------------------------------------

    @cached_property
    def head(self) -> str | None:
        """The commit that is checked out; ``None`` before the first one."""
        return self._commit("HEAD")

    @cached_property
    def shallow(self) -> frozenset[str]:
        """The commits at which the history of a shallow clone ends; none in a whole one."""
        path = self.root / os.fsdecode(self.output("rev-parse", "--git-path", "shallow")).rstrip(
            "\n"
        )
        try:
            return frozenset(path.read_text("ascii").split())
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError) as problem:
            raise GitFailed("git failed", reason=f"{path.name}: {problem}") from None

    def fork_point(self, revision: str) -> str:
        """The commit where the current branch forked from a revision. An ancestor is itself the fork point.

        Raises UsageError for a revision that git does not know, Refused where the common history is not
        there.
        """
        commit = self._commit(revision)
        if commit is None:
            raise UsageError(
                f'git does not know the revision "{revision}"',
                hint="Give a branch, tag or commit. In a build, fetch enough history: fetch-depth: 0.",
            )
        try:
            return self.output("merge-base", commit, "HEAD").decode("ascii").strip()
        except GitFailed as problem:
            if problem.status != 1:
                raise
        if self.shallow:
            raise Refused(
                f'this clone is shallow: where HEAD left "{revision}" is not in it',
                hint="Fetch the history: git fetch --unshallow; in a build, fetch-depth: 0 "
                "(GitHub) or GIT_DEPTH: 0 (GitLab).",
            )
        raise Refused(
            f'HEAD and "{revision}" have no common history',
            hint="Give --since a revision that the current branch comes from.",
        )

    def _commit(self, revision: str) -> str | None:
        name = f"{revision}^{{commit}}"
        try:
            output = self.output("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        except GitFailed:
            return None
        return output.decode("ascii").strip()

    def compared(self, commit: str, within: Iterable[str]) -> Comparison:
        """The work tree beside a commit, as far as it lies ``within`` some paths.

        A file that git was told not to look at (``assume-unchanged``, ``skip-worktree``) is not certainly
        the same. Raises GitFailed.
        """
        paths = ["--", *sorted(set(within) - {"."})] if "." not in within else []
        files: set[str] = set()
        submodules: set[str] = set()
        for entry in _split(self.output("ls-tree", "-r", "-z", "--full-tree", commit, *paths)):
            kind, _, name = entry.partition("\t")
            (submodules if kind.split()[1] == "commit" else files).add(name)
        different = _split(
            self.output(
                *("diff", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv"),
                *("--no-color", "--no-relative", f"-O{os.devnull}", "--ignore-submodules=dirty"),
                *("-z", commit, *paths),
            )
        )
        changed = frozenset(different)
        hidden = {
            entry[2:]
            for entry in _split(self.output("ls-files", "-v", "-z", *paths))
            if entry[0].islower() or entry[0] == "S"
        }
        same = frozenset(files - changed - hidden)
        return Comparison(commit, same, changed, frozenset(submodules))

    def uncommitted(self, paths: Iterable[Path]) -> list[Path]:
        """Those of some files that HEAD does not have as they are. The links on the way to a file count too.

        The bytes are compared, not what git remembers of the file; only the ends of lines may differ, which
        git may have written its own way. Raises GitFailed.
        """
        trails = {path: [*self.trail(str(path))] for path in paths}
        entries = self._entries({step for trail in trails.values() for step in trail if step})
        return [
            path
            for path, trail in trails.items()
            if not all(step and self._is_as(entries.get(step), step) for step in trail)
        ]

    def _entries(self, paths: Iterable[str]) -> Mapping[str, tuple[str, str]]:
        """The mode and the object id of each path that HEAD has."""
        if self.head is None:
            return {}
        entries = {}
        for some in _chunks(sorted(paths)):
            listing = self.output("ls-tree", "-z", "--full-tree", self.head, "--", *some)
            for entry in _split(listing):
                about, _, name = entry.partition("\t")
                mode, _, identity = about.split()
                entries[name] = mode, identity
        return entries

    def _is_as(self, entry: tuple[str, str] | None, path: str) -> bool:
        """Whether a file or link has the content of a blob."""
        if entry is None:
            return False
        mode, identity = entry
        place = os.path.join(self.root, path)
        try:
            if mode == "120000":
                return _blob_id(os.fsencode(os.readlink(place)), like=identity) == identity
            content = _regular_content(place) if mode in ("100644", "100755") else None
        except (OSError, ValueError):
            return False
        if content is None:
            return False
        return identity in (
            _blob_id(content, like=identity),
            _blob_id(content.replace(b"\r\n", b"\n"), like=identity),
        )

    def blob(self, commit: str, path: str) -> bytes | None:
        """The content of a file at a commit; ``None`` where there was none, or it cannot be read."""
        try:
            return self.output("cat-file", "blob", f"{commit}:{path}")
        except GitFailed:
            return None


def _git_folder(root: Path) -> str:
    """The real path of the folder that a ``.git`` is or names: linked work trees and submodules have a file
    there. Empty where it names none."""
    path = root / ".git"
    if path.is_dir():
        return os.path.realpath(path)
    try:
        text = os.fsdecode(path.read_bytes())
    except OSError:
        return ""
    return os.path.realpath(root / text.removeprefix("gitdir:").strip())


def _program(*, outside: Path | None) -> str:
    """The path of git, never one from the work tree, nor one relative to the working directory.

    Raises ReconcileError where there is none.
    """
    for folder in _search_path(outside):
        path = os.path.join(folder, _PROGRAM)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise ReconcileError("git is not installed", hint=_NO_GIT_HINT)


def _search_path(outside: Path | None) -> list[str]:
    """The absolute folders in which programs are looked for, without those in a work tree."""
    return [
        folder
        for folder in os.get_exec_path()
        if os.path.isabs(folder)
        and (outside is None or not Path(os.path.realpath(folder)).is_relative_to(outside))
    ]


def _environment(root: Path) -> dict[str, str]:
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    env["PATH"] = os.pathsep.join(_search_path(root))
    env["GIT_CEILING_DIRECTORIES"] = str(root.parent)
    folders = [*_safe_directories()]
    env["GIT_CONFIG_COUNT"] = str(len(folders))
    for number, folder in enumerate(folders):
        env[f"GIT_CONFIG_KEY_{number}"] = "safe.directory"
        env[f"GIT_CONFIG_VALUE_{number}"] = folder
    return {**env, **_FIXED}


def _safe_directories() -> Iterator[str]:
    """The folders that the environment declares safe, as containers of builds do."""
    count = os.environ.get("GIT_CONFIG_COUNT", "")
    for number in range(int(count) if re.fullmatch("[0-9]{1,3}", count) else 0):
        if os.environ.get(f"GIT_CONFIG_KEY_{number}", "").lower() == "safe.directory":
            yield os.environ.get(f"GIT_CONFIG_VALUE_{number}", "")


def _options(settings: Mapping[str, str]) -> Iterator[str]:
    for key, value in settings.items():
        yield from ("-c", f"{key}={value}")


def _reason(output: bytes, status: int) -> str:
    """The line of git's output that says why it failed."""
    lines = output.decode("utf-8", "replace").splitlines()
    fatal = [line for line in lines if line.startswith(("fatal: ", "error: "))]
    line = next(iter(fatal or lines), f"exit code {status}")
    return line.removeprefix("fatal: ").removeprefix("error: ")


def _chunks(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), _PATHS_AT_ONCE):
        yield paths[start : start + _PATHS_AT_ONCE]


def _regular_content(path: str) -> bytes | None:
    """The content of a regular file that is not too large; ``None`` of anything else. Links are not followed,
    and a pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | open_flags("O_NOFOLLOW", "O_NONBLOCK"))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = file.read(_LARGEST + 1)
    return content if len(content) <= _LARGEST else None


def _blob_id(content: bytes, *, like: str) -> str:
    """The object id of a blob, in the format of another id."""
    data = b"blob %d\0%b" % (len(content), content)
    if len(like) == 64:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _split(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def _no_repository(folder: Path, reason: str) -> ReconcileError:
    if "dubious ownership" in reason:
        return ReconcileError(
            f"git does not trust the repository around {folder}: {reason}",
            hint="If it is yours: git config --global --add safe.directory FOLDER.",
        )
    return ReconcileError(
        f"git finds no repository at {folder}: {reason}",
        hint="--since and --blame ask git; leave them out, or run git init.",
    )
