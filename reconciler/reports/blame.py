"""What git knows of profile files: who wrote a line, which commit removed one, what changed since.

An edge: it runs ``git``. Text that comes back (names, summaries, paths) is untrusted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from reconciler.authoring.documents import Document
from reconciler.authoring.loader import load_text
from reconciler.core.plan import Action, Change, LineAuthor, Op, Plan
from reconciler.core.profiles import address_of
from reconciler.errors import ReconcileError, UsageError
from reconciler.values import FieldPath

_MOST_COMMITS = 500
"""Commits that are searched for the one that removed a line."""

_UNCOMMITTED = LineAuthor("", "", "", "not committed yet")

Blame = dict[tuple[str, FieldPath], LineAuthor]
"""Authors of lines by address and field path; the path is empty for the profile as a whole."""


@dataclass(frozen=True)
class Repository:
    """A git work tree. Paths are relative to ``root``, with slashes."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """The work tree that contains a folder.

        Raises ReconcileError where there is none, or no git.
        """
        done = _git(folder, "rev-parse", "--show-toplevel")
        if done.returncode:
            message = done.stderr.decode("utf-8", "replace").partition("\n")[0]
            raise ReconcileError(
                f"git finds no repository at {folder}: {message.removeprefix('fatal: ')}",
                hint="--since and --blame ask git; leave them out, or run git init.",
            )
        return cls(Path(os.fsdecode(done.stdout).rstrip("\n")))

    def path_of(self, path: Path) -> str | None:
        """A path relative to the root; ``None`` outside of it."""
        try:
            return path.resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            return None

    def changed_since(self, revision: str) -> tuple[str, frozenset[str]]:
        """The commit where the current branch forked from ``revision``, and the files of the work tree that
        differ from it, deleted and untracked files included. An ancestor is itself the fork point.

        Raises UsageError for a revision that git does not know.
        """
        name = f"{revision}^{{commit}}"
        output = _run(self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", name)
        if output is None:
            raise UsageError(
                f'git does not know the revision "{revision}"',
                hint="Give a branch, tag or commit. In a build, fetch enough history: fetch-depth: 0.",
            )
        commit = output.decode().strip()
        base = _run(self.root, "merge-base", commit, "HEAD")
        commit = base.decode().strip() if base else commit
        listings = [
            _run(self.root, "diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", commit),
            _run(self.root, "ls-files", "--others", "--exclude-standard", "-z"),
        ]
        if None in listings:
            raise ReconcileError(f"git cannot compare the work tree with {commit[:12]}")
        names = b"".join(part or b"" for part in listings).split(b"\0")
        return commit, frozenset(os.fsdecode(name) for name in names if name)

    def blame(self, path: str) -> Mapping[int, LineAuthor]:
        """The commit of every line of a file, by line number from 1; empty where there is no file."""
        out = _run(self.root, "blame", "--porcelain", "--", path)
        if out is not None:
            return dict(_parse_porcelain(out.decode("utf-8", "replace").split("\n")))
        try:  # git does not know the file yet
            lines = (self.root / path).read_bytes().count(b"\n") + 1
        except OSError:
            return {}
        return dict.fromkeys(range(1, lines + 1), _UNCOMMITTED)

    def removal(self, path: str, *, address: str, field: FieldPath) -> LineAuthor | None:
        """The author of the commit that removed a field from a file; with an empty ``field``, the profile.

        ``None`` if none of the last `_MOST_COMMITS` commits did.
        """
        history = self._history(path)
        if history and (address, field) in self._declarations(history[0].commit, path):
            return _UNCOMMITTED._replace(removed=True)
        for author, before in pairwise(history):
            if (address, field) in self._declarations(before.commit, path):
                return author
        return None

    def _history(self, path: str) -> list[LineAuthor]:
        """The commits that changed a file, the latest first."""
        history = self._histories.get(path)
        if history is None:
            out = _run(
                self.root,
                *("log", f"--max-count={_MOST_COMMITS}", "--no-show-signature"),
                *("--format=%H%x00%an%x00%at%x00%s", "--", path),
            )
            lines = (out or b"").decode("utf-8", "replace").splitlines()
            history = self._histories[path] = [
                LineAuthor(
                    parts[0],
                    author=parts[1],
                    date=_day(parts[2]),
                    summary=parts[3],
                    removed=True,
                )
                for line in lines
                if len(parts := line.split("\0")) == 4
            ]
        return history

    def _declarations(self, commit: str, path: str) -> frozenset[tuple[str, FieldPath]]:
        """The addresses and fields that the version of a file at a commit declares."""
        pairs = self._versions.get((commit, path))
        if pairs is None:
            data = _run(self.root, "cat-file", "blob", f"{commit}:{path}")
            documents = load_text(data, path)[0] if data else []
            pairs = frozenset(pair for document in documents for pair in _declarations_of(document))
            self._versions[commit, path] = pairs
        return pairs

    @cached_property
    def _histories(self) -> dict[str, list[LineAuthor]]:
        return {}

    @cached_property
    def _versions(self) -> dict[tuple[str, str], frozenset[tuple[str, FieldPath]]]:
        return {}


def folder_in_repository(folder: Path) -> str:
    """The path of a folder in its repository, with a slash at its end; empty at the root or outside."""
    try:
        path = Repository.around(folder).path_of(folder)
    except ReconcileError:
        return ""
    return "" if path in (None, ".") else f"{path}/"


def blame_of(plan: Plan, folder: Path) -> Blame:
    """Who wrote each line that a plan comes from, and who removed each line that is gone.

    Files of the plan are relative to ``folder``. Lines that git does not know are left out.

    Raises ReconcileError where there is no repository.
    """
    repository = Repository.around(folder)
    lines: dict[str, Mapping[int, LineAuthor]] = {}
    blame: Blame = {}
    for change in plan.changes:
        if change.source is None:
            continue
        for field, line, file in _lines_of(change):
            path = repository.path_of(folder / (file or change.source.file))
            if path is None:
                continue
            if path not in lines:
                lines[path] = repository.blame(path)
            author = (
                lines[path].get(line)
                if line
                else repository.removal(path, address=change.address, field=field)
            )
            if author is not None:
                blame[change.address, field] = author
    return blame


def _lines_of(change: Change) -> Iterator[tuple[FieldPath, int | None, str | None]]:
    """Fields with their line, and its file where that is not the change's."""
    if change.action is Action.DELETE:
        yield "", None, None
        return
    if change.source is not None and change.source.line:
        yield "", change.source.line, None
    for field in change.fields:
        if field.line is not None or field.op is Op.CLEAR:
            yield field.path, field.line, field.file


def _parse_porcelain(lines: Sequence[str]) -> Iterator[tuple[int, LineAuthor]]:
    """Reads ``git blame --porcelain``, which gives the properties of a commit only the first time."""
    commits: dict[str, dict[str, str]] = {}
    commit, number = "", 0
    for line in lines:
        if line.startswith("\t"):
            properties = commits[commit]
            yield (
                number,
                LineAuthor(
                    commit,
                    author=properties["author"],
                    date=_day(properties["author-time"]),
                    summary=properties["summary"],
                )
                if commit.strip("0")
                else _UNCOMMITTED,
            )
            continue
        word, _, rest = line.partition(" ")
        if len(word) in (40, 64) and rest[:1].isdigit():
            commit, number = word, int(rest.split()[1])
            commits.setdefault(commit, {"author": "", "author-time": "0", "summary": ""})
        elif commit:
            commits[commit][word] = rest


def _declarations_of(document: Document) -> Iterator[tuple[str, FieldPath]]:
    """The address that a document declares with each field path, and with an empty one. The document may
    be invalid."""
    value = document.value
    ids = [value.get("customer_user_id"), value.get("profile_id")]
    customer, profile = (text if isinstance(text, str) else None for text in ids)
    address = address_of(customer, profile.lower() if profile else None)
    yield address, ""
    for name, content in value.items():
        if isinstance(content, Mapping):
            for key in content:
                yield address, f"{name}.{key}"
        elif isinstance(content, list):
            for item in content:
                if isinstance(item, Mapping):
                    yield address, f"{name}.{item.get('key')}"
        else:
            yield address, name


def _day(seconds: str) -> str:
    """The day of a Unix time in seconds, in UTC so that it is the same everywhere."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


def _run(folder: Path, *arguments: str) -> bytes | None:
    """The output of git, or ``None`` where it fails.

    Raises ReconcileError where there is no git.
    """
    if any("\0" in argument for argument in arguments):
        return None
    done = _git(folder, *arguments)
    return done.stdout if done.returncode == 0 else None


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    settings = ("-c", "core.quotePath=false", "-c", "core.fsmonitor=false", "--no-pager")
    quiet = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        return subprocess.run(
            ["git", *settings, *arguments],
            cwd=folder,
            env={**os.environ, **quiet},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise ReconcileError(
            "git is not installed", hint="--since and --blame ask git; leave them out."
        ) from None
