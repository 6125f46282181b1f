"""The profiles that changed since a revision of git.

A profile changed with whatever it was made from: its file, the links on the way there, the defaults of its
folders, and the values of its placeholders. What cannot be told counts as changed. A file that is gone
counts only if git knows that it went since: otherwise it may be a colleague's, on a branch of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from reconciler.authoring.loader import parse_yaml
from reconciler.authoring.placeholders import PlaceholderValues, needs_expansion
from reconciler.authoring.walk import DEFAULTS, Listing, Walk, path_of_name, read_file
from reconciler.config.settings import Config, Environment
from reconciler.core.contract import Dialect
from reconciler.errors import Diagnostic
from reconciler.git import Comparison, Repository
from reconciler.planning.index import Index


class ChangedFiles(NamedTuple):
    """The files whose profiles changed since a commit, by their names in messages."""

    commit: str
    names: frozenset[str]


def changed_since(
    revision: str,
    config: Config,
    *,
    environment: Environment,
    index: Index | None,
    recorded: Iterable[str],
    display: Callable[[Path], str],
) -> ChangedFiles:
    """The files whose profiles changed since the current branch left a revision. ``index`` tells what their
    placeholders used; without one, every file with a placeholder counts. ``recorded`` names the files that
    records come from.

    Raises ReconcileError where there is no repository, UsageError for an unknown revision, Refused where
    the common history is not there.
    """
    repository = Repository.around(config.root)
    commit = repository.fork_point(revision)
    within = [*repository.trail(str(config.profiles))]
    if config.path is not None:
        within += repository.trail(str(config.path))
    comparison = repository.compared(commit, [path for path in within if path is not None])
    before = _settings_at(comparison, config, environment=environment, repository=repository)
    tree = _Tree(repository, comparison, profiles=str(config.profiles))
    walk = Walk(config.profiles, display)
    present: set[str] = set()
    changed: set[str] = set()
    everything = before is None or before.shape != _shape(config, environment)
    for listing in walk.listings():
        present.update(map(listing.shown, range(len(listing.names))))
        if everything or tree.is_folder_changed(listing.folder):
            changed.update(map(listing.shown, range(len(listing.names))))
        else:
            changed.update(map(listing.shown, tree.changed_files(listing)))
    if index is None:
        changed.update(_with_placeholders(Walk(config.profiles, display)))
    elif before is not None:
        changed.update(_with_other_values(index, before.variables))
    changed.update(
        name
        for name in {*recorded} - present
        if tree.is_gone_since(path_of_name(config.root, name))
    )
    return ChangedFiles(commit, frozenset(changed))


class _Tree:
    """The profiles folder beside a commit."""

    def __init__(self, repository: Repository, comparison: Comparison, *, profiles: str) -> None:
        self._repository = repository
        self._comparison = comparison
        self._profiles = profiles
        self._folders: dict[str, bool] = {}

    def is_folder_changed(self, folder: str) -> bool:
        """Whether all files of a folder changed: with a link that leads there, or with defaults."""
        changed = self._folders.get(folder)
        if changed is None:
            if folder == self._profiles or len(folder) < len(self._profiles):
                changed = any(map(self._differs, [*self._repository.trail(folder)][:-1]))
            else:
                changed = self.is_folder_changed(os.path.dirname(folder))
            defaults = os.path.join(folder, DEFAULTS)
            changed = changed or any(map(self._differs, self._repository.trail(defaults)))
            self._folders[folder] = changed
        return changed

    def changed_files(self, listing: Listing) -> Iterator[int]:
        """The positions of the files that changed by themselves."""
        same = self._comparison.same
        folder = self._repository.path_of(Path(listing.folder))
        prefix = "" if folder == "." else f"{folder}/"
        for position, name in enumerate(listing.names):
            if name in listing.links:
                if any(map(self._differs, self._repository.trail(listing.path(position)))):
                    yield position
            elif folder is None or f"{prefix}{name}" not in same:
                yield position

    def _differs(self, path: str | None) -> bool:
        """Whether a file or a link is not certainly as it was. One that was and is absent is."""
        if path is None:
            return True
        if path in self._comparison.same:
            return False
        return path in self._comparison.different or os.path.lexists(self._repository.root / path)

    def is_gone_since(self, path: Path) -> bool:
        """Whether a file that is no longer there was there at the commit, or may have been: submodules keep
        their own history."""
        comparison = self._comparison
        relative = self._repository.path_of(path)
        if relative is None:
            return False
        if relative in comparison.different:
            return True
        return any(
            str(folder) in comparison.submodules
            and os.path.lexists(self._repository.root / folder / ".git")
            for folder in PurePosixPath(relative).parents
        )


class _Settings(NamedTuple):
    """What profiles depend on in a configuration."""

    shape: tuple[str, object]
    """What all profiles depend on: where they lie, and the dialect that they are written in."""
    variables: Mapping[str, Any]
    """What ``${var.NAME}`` stands for."""


def _shape(config: Config, environment: Environment) -> tuple[str, object]:
    return os.path.relpath(config.profiles, config.root), environment.dialect.value


def _settings_at(
    comparison: Comparison, config: Config, *, environment: Environment, repository: Repository
) -> _Settings | None:
    """The settings of an environment at a commit, where the configuration may have had any shape; ``None``
    where it was not there or cannot be read."""
    path = None if config.path is None else repository.path_of(config.path)
    if path is None:
        return None
    if path in comparison.same:
        return _Settings(_shape(config, environment), environment.variables)
    data = repository.blob(comparison.commit, path)
    document = None if data is None else parse_yaml(data, path)[0]
    if document is None:
        return None
    own = _mapping(_mapping(document.value.get("environments")).get(environment.name))
    profiles = config.root / str(document.value.get("profiles", "profiles"))
    dialect = _mapping(own["api"]).get("dialect", Dialect.GUIDE.value) if "api" in own else None
    return _Settings(
        (os.path.relpath(profiles, config.root), dialect),
        {**_mapping(document.value.get("variables")), **_mapping(own.get("variables"))},
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _with_other_values(index: Index, variables: Mapping[str, Any]) -> set[str]:
    """The files whose placeholders stand for another value than at the commit, or for one of which nobody
    knows what it was: variables of the environment, runs, workers, made-up data."""
    before = PlaceholderValues(variables=variables)
    files: set[int] = set()
    for number, digests in index.sources().items():
        for name, digest in digests.items():
            if not name.startswith("var.") or before.digest_of(name) != digest:
                files |= index.files_from(number)
                break
    return index.names(files)


def _with_placeholders(walk: Walk) -> Iterator[str]:
    """The files with a placeholder, and those below defaults with one."""
    files = walk.files()
    folders = [os.path.dirname(path) for path in walk.defaults if _needs_expansion(path)]
    for parts, path, name in files:
        folder = os.sep.join(parts[:-1])
        below = any(f"{folder}{os.sep}".startswith(os.path.join(each, "")) for each in folders)
        if below or _needs_expansion(path):
            yield name


def _needs_expansion(path: str) -> bool:
    content = read_file(os.path.realpath(path), path)
    return isinstance(content, Diagnostic) or needs_expansion(content[0]) is not None
