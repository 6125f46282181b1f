"""Limits a plan to a part of the profiles: those of some paths, and those that changed since a revision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

from reconciler.config.settings import Config, Environment
from reconciler.core.options import Options
from reconciler.core.profiles import Profile
from reconciler.core.records import Record
from reconciler.planning.index import Index
from reconciler.workspace.part import part_of
from reconciler.workspace.since import changed_since


def narrowed(
    options: Options,
    config: Config,
    *,
    environment: Environment,
    since: str | None,
    paths: Sequence[Path],
    declared: Iterable[Profile],
    recorded: Iterable[Record],
    index: Index | None,
    display: Callable[[Path], str],
) -> Options:
    """The options of a plan of the profiles that lie at some ``paths`` and changed ``since`` a revision;
    without one of them, of all. ``index`` is the one that the declared profiles are read from, and
    ``display`` gives the name of a file in messages.

    Raises what `part_of` and `changed_since` raise.
    """
    origins = [(record.address, record.source.file) for record in recorded if record.source]
    takes: list[Callable[[str], bool]] = []
    if paths:
        part = part_of(paths, config, recorded={file for _, file in origins})
        options = options._replace(paths=part.names)
        takes.append(part.has)
    if since is not None:
        changed = changed_since(
            since,
            config,
            environment=environment,
            index=index,
            recorded=(file for _, file in origins),
            display=display,
        )
        options = options._replace(since=changed.commit)
        takes.append(changed.names.__contains__)
    files = chain(((profile.address, profile.source.file) for profile in declared), origins)
    within = frozenset(address for address, file in files if all(take(file) for take in takes))
    return options._replace(selection=options.selection._replace(within=within))
