"""What must hold in a simulation at every step, and whenever the program is not running.

The oracle sees everything: the journal as it becomes durable, requests as they begin and take effect,
answers as they are told, results as they are reported. It decides by itself what follows from them.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.core.outcomes import Outcome, Result
from reconciler.core.plan import Action, Change, Request
from reconciler.core.records import JournalEntry, JournalKind, Known, Presence, Record
from reconciler.core.requests import PROFILE_HEADER
from reconciler.remote.answers import Answer, CallResult
from reconciler.values import FieldPath
from tests.torture.simulated import Existing, Remote, SimulatedStore, Values, content, slot_of


class Oracle:
    """Watches every step. ``found`` is what is wrong, in words."""

    def __init__(self, store: SimulatedStore, remote: Remote) -> None:
        self._store = store
        self._remote = remote
        self.found: list[str] = []
        self.foreign: set[tuple[int, FieldPath]] = set()
        """Fields that other people wrote last."""
        self.tainted: set[tuple[int, FieldPath]] = set()
        """Fields of which the state cannot know what other people made of them."""
        self.moved: set[int] = set()
        """Profiles that other people deleted or replaced, which the state cannot know."""
        self.strangers: set[int] = set()
        """Profiles that other people made, and that we did not write yet."""
        self.anonymous: set[int] = set()
        """Profiles that were made without a customer id, and get one by a link alone."""
        self._plans = 0
        self._posted: set[int] = set()
        """Profiles with a POST of unknown outcome that was not looked up."""
        self._writes: dict[int, list[tuple[int, Values | None]]] = {}
        """What may have been written, by profile, each with how many plans there were then. ``None``
        stands for nothing: the profile is not there."""
        # Of the run that is under way:
        self._plan = 0
        self._workers = 1
        self._changes: dict[int, Change] = {}
        self._stopped = False
        self._key_refused: int | None = None
        self._intents: set[int] = set()
        self._recorded: set[int] = set()
        self._under_way: dict[int, Request] = {}
        self._told: dict[int, Answer] = {}
        self._wrote: dict[int, CallResult] = {}

    def blame(self, what: str) -> None:
        self.found.append(what)

    # --- runs ------------------------------------------------------------------------------------

    def plans(self) -> int:
        """A plan is made: its number."""
        self._plans += 1
        return self._plans

    def starts(self, plan: int, changes: Iterable[Change], workers: int) -> None:
        """A run of a plan begins."""
        self._plan = plan
        self._workers = workers
        self._changes = {slot_of(change.address): change for change in changes}
        self._stopped = False
        self._key_refused = None
        for each in (self._intents, self._recorded, self._told, self._wrote):
            each.clear()

    def stops(self) -> None:
        """The user wants to stop."""
        self._stopped = True

    def ends(self) -> None:
        """A run ended, in whatever way."""
        for slot, request in self._under_way.items():
            self._unknown(slot, request)
            if request.method != "GET":
                self._may_have_written(slot, request)
        self._under_way.clear()

    def lost(self, entries: Iterable[JournalEntry]) -> None:
        """The state could not be written, and these are the outcomes that it is said not to know."""
        named = {slot_of(entry.address) for entry in entries}
        for slot in sorted(self._intents - named):
            if (
                self._wrote.get(slot) is CallResult.DONE
                and self._told[slot].result is CallResult.DONE
            ):
                self.blame(f"u{slot}: done, neither recorded nor named as lost")

    # --- requests --------------------------------------------------------------------------------

    def begins(self, slot: int, request: Request) -> None:
        """A request is handed to the network."""
        method = request.method
        if slot in self._under_way:
            self.blame(f"u{slot}: two requests under way")
        if self._stopped:
            self.blame(f"u{slot}: {method} begun after the wish to stop")
        if self._key_refused is not None:
            self._key_refused += 1
            if self._key_refused >= self._workers:
                self.blame(f"u{slot}: {method} begun after the key was refused")
        self._under_way[slot] = request
        if method == "GET":
            return
        if method == "POST" and slot in self._posted:
            self.blame(f"u{slot}: POST again without a look")
        if method == "POST" and slot in self.anonymous and PROFILE_HEADER not in request.headers:
            self.blame(f"u{slot}: another profile is made instead of a link")
        if slot not in self._intents:
            self.blame(f"u{slot}: {method} without an intent")
        if not any(_says_uncertain(record, request) for record in self._store.of_slot(slot)):
            self.blame(f"u{slot}: {method} of what the state does not call uncertain")
        self._not_stale(slot, request)

    def _not_stale(self, slot: int, request: Request) -> None:
        """A plan that was made before another one was applied undoes nothing of it."""
        last: Values = {}
        for plans, written in self._writes.get(slot, ()):
            if plans > self._plan:
                last = {} if written is None else {**last, **written}
        if not last:
            return
        if request.method == "DELETE":
            self.blame(f"u{slot}: deleted by a plan that is stale")
            return
        before = {field.path: field.before for field in self._changes[slot].fields}
        for path, value in content(request).items():
            if path in last and last[path] != value and last[path] != before.get(path):
                self.blame(f"u{slot}: {path} written by a plan that is stale")
                return

    def carried(self, slot: int, request: Request, answer: Answer, *, late: bool) -> None:
        """The remote carried a request out; ``late`` if nobody waits for its answer any more."""
        if answer.result is not CallResult.DONE or request.method == "GET":
            return
        fields = {(slot, path) for path in content(request)}
        self.strangers.discard(slot)
        self.tainted -= fields
        if late and slot in self.moved:
            # Others have touched the profile since it left; it is nobody's now.
            self.foreign |= fields
            if request.method == "POST":
                self.strangers.add(slot)
            return
        self.foreign -= fields
        if not late:
            self.moved.discard(slot)

    def told(self, slot: int, request: Request, answer: Answer) -> None:
        """The engine is told how a call ended."""
        if self._under_way.pop(slot, None) is None:
            return
        self._told[slot] = answer
        if answer.is_unauthorised and self._key_refused is None:
            self._key_refused = 0
        if answer.result is CallResult.DONE or answer.is_missing:
            self._posted.discard(slot)
        if answer.is_missing:
            self._writes.setdefault(slot, []).append((self._plans, None))
        if request.method == "GET":
            return
        self._wrote[slot] = answer.result
        if answer.result is CallResult.UNKNOWN:
            self._unknown(slot, request)
        if answer.result in (CallResult.UNKNOWN, CallResult.DONE) or (
            answer.unknown_before and not answer.is_missing
        ):
            self._may_have_written(slot, request)

    def _unknown(self, slot: int, request: Request) -> None:
        if request.method == "POST":
            self._posted.add(slot)

    def _may_have_written(self, slot: int, request: Request) -> None:
        values = None if request.method == "DELETE" else content(request)
        self._writes.setdefault(slot, []).append((self._plans, values))

    # --- outcomes --------------------------------------------------------------------------------

    def committed(self, entries: Iterable[JournalEntry]) -> None:
        """Journal entries became durable."""
        for entry in entries:
            slot, kind = slot_of(entry.address), entry.kind
            if kind is JournalKind.INTENT:
                self._intents.add(slot)
            elif kind is not JournalKind.RECOVERED:
                self._intents.discard(slot)
                self._outcome(slot, entry)
        if len(self._intents) > self._workers:
            self.blame(f"{len(self._intents)} intents with {self._workers} workers")

    def _outcome(self, slot: int, entry: JournalEntry) -> None:
        told, wrote = self._told.get(slot), self._wrote.get(slot)
        said_done = told is not None and told.result is CallResult.DONE
        said_missing = told is not None and told.is_missing
        match entry.kind:
            case JournalKind.APPLIED | JournalKind.ALREADY if entry.action != Action.FORGET:
                if not said_done and not (entry.kind is JournalKind.ALREADY and said_missing):
                    self.blame(f"u{slot}: {entry.kind}, and the remote never said so")
                self._recorded.add(slot)
            case JournalKind.APPLIED | JournalKind.ALREADY:
                self._recorded.add(slot)
            case JournalKind.FAILED | JournalKind.SKIPPED if wrote is CallResult.UNKNOWN:
                self.blame(f"u{slot}: {entry.kind}, although nobody knows")

    def reported(self, result: Result) -> None:
        """The applier told an outcome."""
        slot = slot_of(result.address)
        if result.outcome is Outcome.APPLIED and slot not in self._recorded:
            self.blame(f"u{slot}: reported applied, not recorded")
        if slot in self._intents:
            self.blame(f"u{slot}: reported {result.outcome}, and nothing recorded")

    # --- while the program is not running --------------------------------------------------------

    def compare(self, slots: int) -> None:
        """Whatever the state claims to know is so."""
        for slot in range(slots):
            there = self._remote.profiles.get(slot)
            records = self._store.of_slot(slot)
            if len(records) > 1:
                self.blame(f"u{slot}: recorded twice")
            elif records:
                self._compare(slot, records[0], there)
            elif there is not None and slot not in self.moved | self.strangers:
                self.blame(f"u{slot}: there, and unknown to the state")

    def _compare(self, slot: int, record: Record, there: Existing | None) -> None:
        if there is None:
            if record.exists and slot not in self.moved:
                self.blame(f"u{slot}: recorded as present, and not there")
            return
        if record.presence is Presence.GONE and slot not in self.moved:
            self.blame(f"u{slot}: recorded as gone, and there")
        if record.deleting or record.presence is Presence.GONE:
            return
        tainted, facts, values = self.tainted, record.facts, there.values
        for path, fact in facts.items():
            if fact.known is Known.VALUE or fact.known is Known.CLEARED:
                value = values.get(path)
                if value != fact.value and (slot, path) not in tainted:
                    self.blame(f"u{slot}: {path} is {value!r}, recorded as {fact.value!r}")
        for path, value in values.items():
            if path not in facts and path not in record.forgotten:
                field = (slot, path)
                if field not in self.foreign and field not in tainted:
                    self.blame(f"u{slot}: {path} is {value!r}, unknown to the state")

    def as_desired(self, slot: int, wanted: Values) -> None:
        """A profile is what the files ask for, once everything has come to rest."""
        there = self._remote.profiles.get(slot)
        if there is None:
            self.blame(f"u{slot}: desired, and not there")
            return
        forgotten = {path for record in self._store.of_slot(slot) for path in record.forgotten}
        for path in sorted({*wanted, *there.values}):
            value = there.values.get(path)
            if path in wanted:
                if value != wanted[path]:
                    self.blame(f"u{slot}: {path} is {value!r}, {wanted[path]!r} is desired")
            elif path not in forgotten and (slot, path) not in self.foreign:
                self.blame(f"u{slot}: {path} is {value!r}, and not desired")


def _says_uncertain(record: Record, request: Request) -> bool:
    """Whether a record calls uncertain what a request is about to change."""
    if request.method == "DELETE":
        return record.deleting
    facts = record.facts
    for path, value in content(request).items():
        fact = facts.get(path)
        if fact is None or fact.known is Known.UNKNOWN:
            return False
        if value != (fact.attempt if fact.known is Known.UNCERTAIN else fact.value):
            return False
    return True
