"""The values that complete a word: environments, addresses, labels, runs, locks, rules.

They are to come at once, so the first ones are enough: profile files are looked through, not parsed, and a
state that a network is between is not asked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from reconciler.cli.grammar import options_so_far
from reconciler.config.reader import find_config, load_config
from reconciler.config.settings import Config
from reconciler.config.trust_file import read_trust
from reconciler.core.records import Record
from reconciler.core.rules import load_rules
from reconciler.state.store import LAST, Store
from reconciler.workspace.facade import Workspace

_MOST_VALUES = 200
_MOST_RECORDS = 1_000
"""Records that are read for their labels."""
_MOST_FILES = 200
"""Profile files that are looked through."""
_MOST_CHARACTERS = 1 << 18
"""Characters of a profile file that are looked through."""
_PLAIN = re.compile(r"[A-Za-z0-9_.@:+%/=-]+")
"""Values that no shell takes for anything else; others are not offered."""
_DECLARED_ID = re.compile(r"^customer_user_id:[ \t]*['\"]?([^\s'\"{}#]+)", re.MULTILINE)
_DECLARED_LABELS = re.compile(r"\blabels:[ \t]*\[([^\]\n{}]*)\]")


def rules(context: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
    """The rules of findings and the kinds of hazards."""
    return _items(load_rules, incomplete)


def environments(context: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
    """The environments of the configuration."""
    return _items(lambda: _config(context).environments, incomplete)


def recorded(context: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
    """The addresses that the state records."""

    def values() -> Iterator[str]:
        with _workspace(context) as workspace:
            yield from _recorded(workspace, incomplete)

    return _items(values, incomplete)


def addresses(context: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
    """The addresses that the state records, and those of the first profile files."""

    def values() -> Iterator[str]:
        with _workspace(context) as workspace:
            yield from _recorded(workspace, incomplete)
            for text in _texts(workspace.config.profiles):
                yield from _DECLARED_ID.findall(text)

    return _items(values, incomplete)


def patterns(context: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
    """What selects profiles: addresses, and labels."""
    kind, is_prefixed, rest = incomplete.partition(":")
    if is_prefixed and kind == "label":
        return _items(lambda: (f"label:{name}" for name in _labels(context)), incomplete)
    if is_prefixed and kind == "id":
        return [CompletionItem(f"id:{item.value}") for item in addresses(context, rest)]
    return [*addresses(context, incomplete), *_items(lambda: ["label:"], incomplete)]


def runs(context: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
    """The runs that the state remembers."""

    def values() -> Iterator[str]:
        with _workspace(context) as workspace:
            if (store := _near_store(workspace)) is not None:
                yield from reversed([run.run for run in store.runs()])

    return _items(values, incomplete)


def locks(context: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
    """The id of the lock that is held."""

    def values() -> Iterator[str]:
        with _workspace(context) as workspace:
            store = _near_store(workspace)
            if store is not None and (lock := store.locked()) is not None:
                yield lock.id

    return _items(values, incomplete)


def _labels(context: click.Context) -> Iterator[str]:
    with _workspace(context) as workspace:
        store = _near_store(workspace)
        records: Iterable[Record] = () if store is None else store.records()
        for record in islice(records, _MOST_RECORDS):
            yield from record.labels
        for text in _texts(workspace.config.profiles):
            for names in _DECLARED_LABELS.findall(text):
                yield from (name.strip(" '\"") for name in names.split(","))


def _recorded(workspace: Workspace, beginning: str) -> Iterator[str]:
    store = _near_store(workspace)
    if store is not None:
        found = store.known_digests(since=beginning, until=beginning + LAST)
        yield from (address for address, _ in islice(found, _MOST_VALUES))


def _near_store(workspace: Workspace) -> Store | None:
    """The state, where reading it takes no network."""
    return workspace.store if workspace.environment.state.file is not None else None


def _texts(folder: Path) -> Iterator[str]:
    """The texts of the first files of a folder of profiles. They are looked through, not parsed."""
    count = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or not name.endswith((".yaml", ".yml")):
                continue
            if count == _MOST_FILES:
                return
            count += 1
            with suppress(OSError), open(os.path.join(parent, name), encoding="utf-8") as file:
                yield file.read(_MOST_CHARACTERS)


def _items(values: Callable[[], Iterable[str]], incomplete: str) -> list[CompletionItem[Any]]:
    """The values that begin as the incomplete word does, each once."""
    chosen: dict[str, None] = {}
    with suppress(Exception):
        for value in values():
            if value.startswith(incomplete) and _PLAIN.fullmatch(value):
                chosen[value] = None
            if len(chosen) == _MOST_VALUES:
                break
    return [*map(CompletionItem, chosen)]


def _config(context: click.Context) -> Config:
    options = options_so_far(context)
    here = Path.cwd()
    path = Path(options["config"]) if options.get("config") else find_config(here, os.environ)
    return load_config(path, start=here, trust=read_trust(os.environ), environ=os.environ)


def _workspace(context: click.Context) -> Workspace:
    config = _config(context)
    return Workspace(config, config.environment(options_so_far(context).get("env")))
