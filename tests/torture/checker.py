"""Holds the state against the remote: what must be true whenever the program is not running.

It knows three things: the effects at the remote in their order, the journal, and the records. It
trusts none of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from reconciler.core.endpoints import PATH
from reconciler.core.plan import Request
from reconciler.core.records import JournalEntry, JournalKind, Known, Presence, Record
from reconciler.core.requests import request_digest
from tests.torture.world import APPLIED, Effect, Ended, Project


class Checker:
    """Checks one run after the other of the same project, in whatever way each of them ended."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._effects = 0
        self._journal: dict[str, list[JournalEntry]] = {}
        """The entries of each run so far. A store may keep those of the last runs only."""
        self._uncertain = 0

    def check(self, ended: Ended | None = None) -> list[str]:
        """What is wrong after a run, in words. Later checks look at later runs only."""
        project = self._project
        effects = project.remote.effects[self._effects :]
        if not project.has_state():
            return [f"{effect.address}: sent without any state" for effect in effects]
        found = [*self._integrity()]
        records = {record.address: record for record in project.records()}
        entries = self._new_entries(project.journal())
        # Of earlier runs, too: a run that is stopped may send what it had written down once it wakes.
        intents = {
            entry.request
            for run in self._journal.values()
            for entry in run
            if entry.kind is JournalKind.INTENT
        }
        done = {digest for effect in effects if effect.is_write for digest in _digests(effect)}
        for effect in effects:
            if effect.is_write and not intents & _digests(effect):
                found.append(f"{effect.address}: a change was applied without an intent")
        for entry in entries:
            if entry.kind is JournalKind.APPLIED and entry.request and entry.request not in done:
                found.append(f"{entry.address}: marked applied, never confirmed by the remote")
        found += facts_against(records, project.remote.profiles())
        uncertain = {record.address for record in records.values() if is_uncertain(record)}
        last = {entry.address: entry.kind for entry in entries}
        cut_off = {address for address in uncertain if last.get(address) == "intent"}
        if len(cut_off) > project.parallelism:
            found.append(f"{len(cut_off)} profiles uncertain with {project.parallelism} workers")
        if ended is not None:
            recorded = {entry.address for entry in entries if entry.kind is JournalKind.APPLIED}
            for address in sorted(ended.told(*APPLIED) - recorded):
                found.append(f"{address}: reported applied, not recorded")
            if "Traceback" in ended.err:
                found.append(f"a traceback: {ended.err.strip().splitlines()[-1]}")
        self._effects += len(effects)
        self._uncertain = len(uncertain)
        return found

    @property
    def uncertain(self) -> int:
        """How many profiles were uncertain at the last check."""
        return self._uncertain

    def _new_entries(self, journal: Sequence[JournalEntry]) -> list[JournalEntry]:
        """The entries that were not there at the last check."""
        runs: dict[str, list[JournalEntry]] = {}
        for entry in journal:
            runs.setdefault(entry.run, []).append(entry)
        added = [
            entry
            for run, entries in runs.items()
            for entry in entries[len(self._journal.get(run, [])) :]
        ]
        self._journal |= runs
        return added

    def _integrity(self) -> Iterator[str]:
        if self._project.state_url:
            return
        with closing(sqlite3.connect(self._project.state)) as db:
            (verdict,) = db.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            yield f"the database is damaged: {verdict}"


def is_uncertain(record: Record) -> bool:
    """Whether some write of the profile has an unknown outcome."""
    return (
        record.deleting
        or record.presence is Presence.UNCONFIRMED
        or any(fact.known is Known.UNCERTAIN for fact in record.facts.values())
    )


def _digests(effect: Effect) -> set[str]:
    """The names that an effect may have in the journal: a write that was looked up after an unknown
    outcome may be sent again by the other method."""
    methods = ("PATCH", "POST") if effect.method in ("PATCH", "POST") else (effect.method,)
    return {
        request_digest(Request(method, PATH, effect.headers, effect.body)) for method in methods
    }


def facts_against(
    records: Mapping[str, Record], profiles: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Where what is recorded as certain is not what the remote holds."""
    remote = {
        profile["customer_user_id"] or f"profile:{profile['profile_id']}": _values(profile)
        for profile in profiles
    }
    for address in sorted(remote.keys() - records.keys()):
        yield f"{address}: there, and unknown to the state"
    for address, record in sorted(records.items()):
        there = remote.get(address)
        if there is None:
            if record.exists and not is_uncertain(record):
                yield f"{address}: recorded as present, and not there"
            continue
        if record.presence is Presence.GONE:
            yield f"{address}: recorded as gone, and there"
        if record.deleting:
            continue
        for path in sorted(record.facts.keys() | there.keys()):
            fact, value = record.facts.get(path), there.get(path)
            known = Known.CLEARED if fact is None else fact.known
            if known is Known.VALUE and fact is not None and fact.value != value:
                yield f"{address}: {path} is {value!r}, recorded as {fact.value!r}"
            elif known is Known.CLEARED and value is not None:
                yield f"{address}: {path} is {value!r}, recorded as absent"


def _values(profile: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(profile["fields"])
    values |= {f"custom_attributes.{key}": v for key, v in profile["custom_attributes"].items()}
    for device, members in profile["installations"].items():
        values["installation_meta.device_id"] = device
        values |= {f"installation_meta.{key}": value for key, value in members.items()}
    return values
