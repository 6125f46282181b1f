"""Who wrote a line of a profile file, and which commit removed one, as git knows.

An edge: git is run. Text that comes back (names, summaries, paths) is untrusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from reconciler.authoring.documents import Document
from reconciler.authoring.loader import load_text
from reconciler.authoring.walk import DEFAULTS, path_of_name
from reconciler.core.plan import Action, Change, LineAuthor, Op, Plan
from reconciler.core.profiles import address_of
from reconciler.errors import ReconcileError
from reconciler.git import GitFailed, Repository
from reconciler.values import FieldPath

_MOST_COMMITS = 500
"""Commits that are searched for the one that removed a line."""

_UNCOMMITTED = LineAuthor("", "", "", "not committed yet")

Blame = dict[tuple[str, FieldPath], LineAuthor]
"""Authors of lines by address and field path; the path is empty for the profile as a whole."""


class _Declaration(NamedTuple):
    """What a document of a file declares: a field of a profile, or with an empty path the profile itself."""

    address: str
    """Empty in a file of defaults."""
    field: FieldPath


class LineHistory:
    """The history of the files of one repository. Paths are relative to its root."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._lines: dict[str, Mapping[int, LineAuthor] | LineAuthor] = {}
        self._commits: dict[str, list[LineAuthor]] = {}
        self._versions: dict[tuple[str, str], frozenset[_Declaration]] = {}

    def author(self, path: str, line: int) -> LineAuthor | None:
        """Who wrote a line; ``None`` for one that the file does not have."""
        lines = self._lines.get(path)
        if lines is None:
            lines = self._lines[path] = self._blame(path)
        return lines if isinstance(lines, LineAuthor) else lines.get(line)

    def _blame(self, path: str) -> Mapping[int, LineAuthor] | LineAuthor:
        """The author of every line by its number from 1, or the one that holds for all of them."""
        try:
            if not self._is_committed(path):
                return _UNCOMMITTED
            output = self.repository.output("blame", "--no-textconv", "--porcelain", "--", path)
            authors = dict(_parse_porcelain(output.decode("utf-8", "replace").split("\n")))
            ends = self.repository.shallow
        except GitFailed as problem:
            return _unknown(problem.reason)
        return {
            line: _unknown(f"the history of this shallow clone ends at {author.commit[:12]}")
            if author.commit in ends
            else author
            for line, author in authors.items()
        }

    def _is_committed(self, path: str) -> bool:
        """Whether the commit that is checked out has a file."""
        head = self.repository.head
        return head is not None and bool(
            self.repository.output("ls-tree", "-z", "--full-tree", head, "--", path)
        )

    def removal(self, path: str, *, address: str, field: FieldPath) -> LineAuthor | None:
        """The author of the commit that removed a field from a file; with an empty ``field``, the profile.
        With an empty ``address`` the file holds defaults.

        ``None`` if none of the last `_MOST_COMMITS` commits did, and there are no others.
        """
        try:
            return self._removal(path, _Declaration(address, field))
        except GitFailed as problem:
            return _unknown(problem.reason, removed=True)

    def removal_of_file(self, path: str) -> LineAuthor | None:
        """The author of the commit that removed a file; ``None`` if it is still there, or never was."""
        try:
            history = self._history(path)
            if not history or (self.repository.root / path).exists():
                return None
            if self._is_committed(path):
                return _UNCOMMITTED._replace(removed=True)
            return history[0]
        except GitFailed as problem:
            return _unknown(problem.reason, removed=True)

    def _removal(self, path: str, declaration: _Declaration) -> LineAuthor | None:
        history = self._history(path)
        if history and declaration in self._declarations(history[0].commit, path):
            return _UNCOMMITTED._replace(removed=True)
        for author, before in pairwise(history):
            if declaration in self._declarations(before.commit, path):
                return author
        if len(history) == _MOST_COMMITS:
            return _unknown(f"none of the last {_MOST_COMMITS} commits did", removed=True)
        if self.repository.shallow:
            return _unknown("the history of this shallow clone ends before", removed=True)
        return None

    def _history(self, path: str) -> list[LineAuthor]:
        """The commits that changed a file, the latest first. Raises GitFailed."""
        history = self._commits.get(path)
        if history is None:
            if self.repository.head is None:
                return []
            output = self.repository.output(
                *("log", f"--max-count={_MOST_COMMITS}", "--no-show-signature", "--no-ext-diff"),
                *("--no-textconv", "--no-color", "--ignore-submodules=all"),
                *("--format=%H%x00%an%x00%at%x00%s", "--", path),
            )
            history = self._commits[path] = [
                LineAuthor(
                    parts[0],
                    author=parts[1],
                    date=_day(parts[2]),
                    summary=parts[3],
                    removed=True,
                )
                for line in output.decode("utf-8", "replace").splitlines()
                if len(parts := line.split("\0")) == 4
            ]
        return history

    def _declarations(self, commit: str, path: str) -> frozenset[_Declaration]:
        """What the version of a file at a commit declares."""
        declarations = self._versions.get((commit, path))
        if declarations is None:
            data = self.repository.blob(commit, path)
            documents = load_text(data, path)[0] if data else []
            has_addresses = PurePosixPath(path).name != DEFAULTS
            declarations = frozenset(
                declaration if has_addresses else declaration._replace(address="")
                for document in documents
                for declaration in _declarations_of(document)
            )
            self._versions[commit, path] = declarations
        return declarations


class _Histories:
    """The histories of all repositories that hold the files below a folder: a submodule is one of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_folder: dict[Path, LineHistory | LineAuthor] = {}
        self._by_root: dict[Path, LineHistory] = {}
        self._around(folder)

    def of(self, name: str) -> tuple[LineHistory, str] | LineAuthor:
        """The history that has a file by its name in messages, with its path there; or why there is none."""
        path = path_of_name(self._folder, name)
        real = path.resolve()
        try:
            history = self._around(real.parent)
        except ReconcileError as problem:
            return _unknown(problem.message)
        relative = history.repository.path_of(real)
        if relative is None:
            return _unknown("the file is outside of the repository")
        return history, relative

    def _around(self, folder: Path) -> LineHistory:
        """Raises ReconcileError where there is no repository."""
        history = self._by_folder.get(folder)
        if isinstance(history, LineAuthor):
            raise ReconcileError(history.problem)
        if history is None:
            try:
                repository = Repository.around(folder)
            except ReconcileError as problem:
                self._by_folder[folder] = _unknown(problem.message)
                raise
            history = self._by_root.setdefault(repository.root, LineHistory(repository))
            self._by_folder[folder] = history
        return history

    def author(self, name: str, line: int) -> LineAuthor | None:
        """Who wrote a line of a file."""
        match self.of(name):
            case LineAuthor() as problem:
                return problem
            case history, path:
                return history.author(path, line)

    def removal(self, name: str, *, addresses: Sequence[str], field: FieldPath) -> LineAuthor:
        """Who removed a field, or with an empty ``field`` the profile that has one of some addresses."""
        reason = _unknown("no commit of this file did", removed=True)
        match self.of(name):
            case LineAuthor() as problem:
                return problem._replace(removed=True)
            case history, path:
                pass
        for address in addresses:
            author = history.removal(path, address=address, field=field)
            if author is not None and not author.problem:
                return author
            reason = author or reason
        for folder in PurePosixPath(name).parents if field else ():
            match self.of(str(folder / DEFAULTS)):
                case defaults, path:
                    author = defaults.removal(path, address="", field=field)
                    if author is not None and not author.problem:
                        return author
        if not field:
            return history.removal_of_file(path) or reason
        return reason


def folder_in_repository(folder: Path) -> str:
    """The path of a folder in its repository, with a slash at its end; empty at the root or outside."""
    try:
        path = Repository.around(folder).path_of(folder)
    except ReconcileError:
        return ""
    return "" if path in (None, ".") else f"{path}/"


def blame_of(plan: Plan, folder: Path, *, orphans: Mapping[str, str]) -> Blame:
    """Who wrote each line that a plan comes from, and who removed each line and orphan that is gone.

    Files are named relative to ``folder``; ``orphans`` has the file that each was recorded in. Where git
    cannot tell, the author says why.

    Raises ReconcileError where there is no repository.
    """
    histories = _Histories(folder)
    blame: Blame = {}
    for change in plan.changes:
        if change.source is None:
            continue
        for field, line, file in _lines_of(change):
            name = file or change.source.file
            author = (
                histories.author(name, line)
                if line
                else histories.removal(
                    name,
                    addresses=[change.address, *([change.template] if change.template else [])],
                    field=field,
                )
            )
            if author is not None:
                blame[change.address, field] = author
    for address, file in orphans.items():
        blame[address, ""] = histories.removal(file, addresses=[address], field="")
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


def _unknown(reason: str, *, removed: bool = False) -> LineAuthor:
    """The author of a line of which git cannot tell it."""
    return LineAuthor("", "", "", "", removed, problem=reason)


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


def _declarations_of(document: Document) -> Iterator[_Declaration]:
    """The address that a document declares with each field path, and with an empty one. The document may
    be invalid."""
    value = document.value
    ids = [value.get("customer_user_id"), value.get("profile_id")]
    customer, profile = (text if isinstance(text, str) else None for text in ids)
    address = address_of(customer, profile.lower() if profile else None)
    yield _Declaration(address, "")
    for name, content in value.items():
        if isinstance(content, Mapping):
            for key in content:
                yield _Declaration(address, f"{name}.{key}")
        elif isinstance(content, list):
            for item in content:
                if isinstance(item, Mapping):
                    yield _Declaration(address, f"{name}.{item.get('key')}")
        else:
            yield _Declaration(address, name)


def _day(seconds: str) -> str:
    """The day of a Unix time in seconds, in UTC so that it is the same everywhere."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return ""
