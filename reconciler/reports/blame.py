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
"""Versions of a file that are searched for the one that removed a line."""

_FRESH = LineAuthor("", "", "", "not committed yet")

Blame = dict[tuple[str, FieldPath], LineAuthor]
"""By address and field path; the path is empty for the profile as a whole."""


@dataclass(frozen=True)
class Repository:
    """A git work tree. Paths are relative to ``root``, with slashes."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """The work tree that a folder is in.

        Raises ReconcileError where there is none, or no git.
        """
        done = _git(folder, "rev-parse", "--show-toplevel")
        if done.returncode:
            told = done.stderr.decode("utf-8", "replace").partition("\n")[0]
            raise ReconcileError(
                f"git finds no repository at {folder}: {told.removeprefix('fatal: ')}",
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
        """The commit where the present branch left ``revision`` (itself, for an ancestor), and the files
        that differ from it in the work tree, deleted and untracked ones included.

        Raises UsageError for a revision that git does not know.
        """
        name = f"{revision}^{{commit}}"
        found = _run(self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", name)
        if found is None:
            raise UsageError(
                f'git does not know the revision "{revision}"',
                hint="Give a branch, tag or commit. In a build, fetch enough history: fetch-depth: 0.",
            )
        commit = found.decode().strip()
        base = _run(self.root, "merge-base", commit, "HEAD")
        commit = base.decode().strip() if base else commit
        listed = [
            _run(self.root, "diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", commit),
            _run(self.root, "ls-files", "--others", "--exclude-standard", "-z"),
        ]
        if None in listed:
            raise ReconcileError(f"git cannot compare the work tree with {commit[:12]}")
        names = b"".join(part or b"" for part in listed).split(b"\0")
        return commit, frozenset(os.fsdecode(name) for name in names if name)

    def blame(self, path: str) -> Mapping[int, LineAuthor]:
        """The commit of every line of a file, by line number from 1; empty where there is no file."""
        out = _run(self.root, "blame", "--porcelain", "--", path)
        if out is not None:
            return dict(_blamed(out.decode("utf-8", "replace").split("\n")))
        try:  # git does not know the file yet
            lines = (self.root / path).read_bytes().count(b"\n") + 1
        except OSError:
            return {}
        return dict.fromkeys(range(1, lines + 1), _FRESH)

    def removal(self, path: str, address: str, field: FieldPath) -> LineAuthor | None:
        """The commit that took a field, or with an empty ``field`` a whole profile, out of a file.

        ``None`` where no commit within reach did.
        """
        history = self._history(path)
        if history and (address, field) in self._declared(history[0][0], path):
            return _FRESH._replace(removed=True)
        for (_, author), (before, _) in pairwise(history):
            if (address, field) in self._declared(before, path):
                return author
        return None

    def _history(self, path: str) -> list[tuple[str, LineAuthor]]:
        held = self._histories.get(path)
        if held is None:
            out = _run(
                self.root,
                *("log", f"--max-count={_MOST_COMMITS}", "--no-show-signature"),
                *("--format=%H%x00%an%x00%at%x00%s", "--", path),
            )
            lines = (out or b"").decode("utf-8", "replace").splitlines()
            held = self._histories[path] = [
                (parts[0], LineAuthor(parts[0], parts[1], _day(parts[2]), parts[3], removed=True))
                for line in lines
                if len(parts := line.split("\0")) == 4
            ]
        return held

    def _declared(self, commit: str, path: str) -> frozenset[tuple[str, FieldPath]]:
        held = self._versions.get((commit, path))
        if held is None:
            data = _run(self.root, "cat-file", "blob", f"{commit}:{path}")
            documents = load_text(data, path)[0] if data else []
            held = frozenset(pair for document in documents for pair in _pairs(document))
            self._versions[commit, path] = held
        return held

    @cached_property
    def _histories(self) -> dict[str, list[tuple[str, LineAuthor]]]:
        return {}

    @cached_property
    def _versions(self) -> dict[tuple[str, str], frozenset[tuple[str, FieldPath]]]:
        return {}


def folder_in_repository(folder: Path) -> str:
    """Where a folder is in its repository, with a slash at its end; empty at the root or outside."""
    try:
        path = Repository.around(folder).path_of(folder)
    except ReconcileError:
        return ""
    return "" if path in (None, ".") else f"{path}/"


def blame_of(plan: Plan, folder: Path) -> Blame:
    """Who wrote each line behind a plan, and who removed what is no longer declared.

    Files of the plan are relative to ``folder``. Lines that git cannot tell are left out.

    Raises ReconcileError where there is no repository.
    """
    repository = Repository.around(folder)
    lines: dict[str, Mapping[int, LineAuthor]] = {}
    found: Blame = {}
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
                lines[path].get(line) if line else repository.removal(path, change.address, field)
            )
            if author is not None:
                found[change.address, field] = author
    return found


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


def _blamed(lines: Sequence[str]) -> Iterator[tuple[int, LineAuthor]]:
    """Reads ``git blame --porcelain``: facts of a commit stand only where it appears first."""
    facts: dict[str, dict[str, str]] = {}
    commit, number = "", 0
    for line in lines:
        if line.startswith("\t"):
            told = facts[commit]
            fresh = not commit.strip("0")
            yield (
                number,
                _FRESH
                if fresh
                else LineAuthor(commit, told["author"], _day(told["author-time"]), told["summary"]),
            )
            continue
        word, _, rest = line.partition(" ")
        if len(word) in (40, 64) and rest[:1].isdigit():
            commit, number = word, int(rest.split()[1])
            facts.setdefault(commit, {"author": "", "author-time": "0", "summary": ""})
        elif commit:
            facts[commit][word] = rest


def _pairs(document: Document) -> Iterator[tuple[str, FieldPath]]:
    """What a document declares, valid or not: its address alone, and with each field path."""
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
    """A day, in UTC so that it is the same everywhere, of seconds since 1970."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


def _run(folder: Path, *arguments: str) -> bytes | None:
    """What git prints, or ``None`` where it fails.

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
