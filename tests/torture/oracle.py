"""What must hold in a simulation at every step, and whenever the program is not running.

The oracle sees every journal entry as it becomes durable, every request as it begins and takes effect,
every answer, and every reported result. It decides on its own what follows from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.core.endpoints import PROFILE_HEADER
from reconciler.core.outcomes import Failure, Result
from reconciler.core.plan import Action, Change, Request
from reconciler.core.records import JournalEntry, JournalKind, Known, Presence, Record
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.values import FieldPath, Scalar
from tests.torture.access import LEVEL, PREFERENCE, REVOKE, is_own
from tests.torture.access_rules import AccessRules
from tests.torture.ownership import Ownership
from tests.torture.simulated import (
    QUIET,
    Existing,
    Remote,
    SimulatedStore,
    Values,
    content,
    slot_of,
)

if TYPE_CHECKING:
    from tests.torture.plans import SimulatedPlan


class Oracle:
    """Watches every step. ``violations`` says what is wrong, in words."""

    def __init__(
        self,
        store: SimulatedStore,
        remote: Remote,
        *,
        landing: Mapping[int, int],
        now: Callable[[], float],
    ) -> None:
        """``landing`` counts the writes of each profile that may still land, and ``now`` is our clock."""
        self._store = store
        self._remote = remote
        self._landing = landing
        self.violations: list[str] = []
        self.ownership = Ownership(store, remote, blame=self.blame)
        self.access = AccessRules(store, remote, blame=self.blame, now=now)
        self.foreign: set[tuple[int, FieldPath]] = set()
        """Fields that other people wrote last."""
        self.unknowable: set[tuple[int, FieldPath]] = set()
        """Fields that other people may have changed, so that the state cannot know them."""
        self.moved_by_others = self.ownership.moved
        """Profiles that other people deleted or replaced, which the state cannot know."""
        self.strangers: set[int] = set()
        """Profiles that other people created, and that we did not write yet."""
        self.made_by_others: set[str] = set()
        """Profile ids of the profiles that other people created while we work."""
        self.anonymous: set[int] = set()
        """Profiles without a customer id. Only a link gives them one."""
        self._plans = 0
        self._open_posts: set[int] = set()
        """Profiles with a POST of unknown outcome that was not looked up."""
        self._writes: dict[int, list[tuple[int, Values | None]]] = {}
        """The possible writes of each profile, each with the number of plans at that time. ``None`` says that
        the profile does not exist."""
        self._last_writes: dict[int, int] = {}
        """How many plans there were at the last write of each profile, whatever was restored since."""
        # Of the run that is under way:
        self._plan = 0
        self._workers = 1
        self._changes: dict[int, Change] = {}
        self._stopped = False
        self._patience_over = False
        self._key_refused: int | None = None
        self._intents: set[int] = set()
        self._recorded: set[int] = set()
        self._under_way: dict[int, Request] = {}
        self._answers: dict[int, ApiAnswer] = {}
        self._asked: dict[int, Request] = {}
        """What the answers were to."""
        self._write_results: dict[int, CallResult] = {}

    def blame(self, what: str) -> None:
        self.violations.append(what)

    # --- runs ------------------------------------------------------------------------------------

    def new_plan(self) -> int:
        """Counts a plan, and gives its number."""
        self._plans += 1
        return self._plans

    def on_start(self, plan: SimulatedPlan | None, *, workers: int) -> None:
        """A run of a plan begins, or one that only reads."""
        self._plan = plan.number if plan else 0
        self._workers = workers
        changes = plan.changes if plan else ()
        self._changes = {slot_of(change.address): change for change in changes}
        self.ownership.on_start(plan, self._changes)
        self.access.on_start(plan)
        self._stopped = False
        self._patience_over = False
        self._key_refused = None
        for each in (
            self._intents,
            self._recorded,
            self._answers,
            self._asked,
            self._write_results,
        ):
            each.clear()

    def on_stop(self) -> None:
        """The user wants to stop."""
        self._stopped = True

    def on_patience_over(self) -> None:
        """The API answered nothing but 429 for longer than a run waits."""
        self._patience_over = True

    def on_end(self) -> None:
        """A run ended, in whatever way."""
        for slot, request in self._under_way.items():
            self._unknown(slot, request)
            self.access.on_lost(slot, request)
            if request.method != "GET":
                self._may_have_written(slot, request)
        self._under_way.clear()

    def on_state_moved(self, slot: int, paths: Iterable[FieldPath]) -> None:
        """Somebody removed the record of a profile from the state, or put an older one in its place;
        ``paths`` are the fields that the records knew. Nothing was under way."""
        self.moved_by_others.add(slot)
        self.strangers.add(slot)
        self._writes.pop(slot, None)
        self._open_posts.discard(slot)
        self.ownership.on_state_moved(slot)
        self.access.on_state_moved(slot)
        there = self._remote.profiles.get(slot)
        values = {} if there is None else there.values
        self.unknowable |= {(slot, path) for path in {*paths, *values}}
        managed = {
            path
            for record in self._store.of_slot(slot)
            if there is not None and record.profile_id == there.profile_id
            for path in record.facts
            if path in record.granted or not path.startswith(LEVEL)
        }
        self.foreign |= {(slot, path) for path in values if path not in managed}

    def on_lost_outcomes(self, entries: Iterable[JournalEntry]) -> None:
        """The state could not be written. ``entries`` are the outcomes that the error names as lost."""
        reported = {slot_of(entry.address) for entry in entries}
        for slot in sorted(self._intents - reported):
            if (
                self._write_results.get(slot) is CallResult.DONE
                and self._answers[slot].result is CallResult.DONE
            ):
                self.blame(f"u{slot}: done, neither recorded nor named as lost")

    # --- requests --------------------------------------------------------------------------------

    def on_request(self, slot: int, request: Request) -> None:
        """The engine hands a request to the network."""
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
        self.access.on_request(slot, request, change=self._changes.get(slot))
        if method == "GET":
            return
        makes = method == "POST" and not is_own(request)
        if makes and slot in self._open_posts:
            self.blame(f"u{slot}: POST again without a look")
        if makes and slot in self.anonymous and PROFILE_HEADER not in request.headers:
            self.blame(f"u{slot}: another profile is made instead of a link")
        if slot not in self._intents:
            self.blame(f"u{slot}: {method} without an intent")
        if not any(_says_uncertain(record, request) for record in self._store.of_slot(slot)):
            self.blame(f"u{slot}: {method} of what the state does not call uncertain")
        self._not_stale(slot, request)
        self.ownership.on_request(slot, request)

    def _not_stale(self, slot: int, request: Request) -> None:
        """An older plan must not undo the writes of a newer one."""
        if request.method == "DELETE" and self._last_writes.get(slot, 0) > self._plan:
            self.blame(f"u{slot}: deleted by a plan that is stale")
            return
        last: Values = {}
        for plans, values in self._writes.get(slot, ()):
            if plans > self._plan:
                last = {} if values is None else {**last, **values}
        if not last:
            return
        before = {field.path: field.before for field in self._changes[slot].fields}
        for path, value in content(request).items():
            known = {_end_of(path, each) for each in (value, before.get(path))}
            if path in last and _end_of(path, last[path]) not in known:
                self.blame(f"u{slot}: {path} written by a plan that is stale")
                return

    def on_effect(self, slot: int, request: Request, *, answer: ApiAnswer, late: bool) -> None:
        """A request takes effect at the remote. ``late`` says that nobody waits for its answer any more."""
        self.ownership.on_effect(slot, request, answer=answer)
        self.access.on_effect(slot, request, answer=answer)
        if answer.result is not CallResult.DONE or request.method == "GET":
            return
        if self.access.is_void(request):
            return
        fields = {(slot, path) for path in content(request)}
        self.strangers.discard(slot)
        self.unknowable -= fields
        if late and slot in self.moved_by_others:
            # Others have touched the profile since it left; it is nobody's now.
            self.foreign |= fields
            if request.method == "POST" and not is_own(request):
                self.strangers.add(slot)
            return
        self.foreign -= fields
        if not late:
            self.moved_by_others.discard(slot)

    def on_answer(self, slot: int, request: Request, *, answer: ApiAnswer) -> None:
        """The engine gets the answer of a call."""
        if self._under_way.pop(slot, None) is None:
            return
        self._answers[slot] = answer
        self._asked[slot] = request
        self.ownership.on_answer(slot, answer)
        self.access.on_answer(slot, request, answer=answer)
        if answer.is_unauthorised and self._key_refused is None:
            self._key_refused = 0
        if answer.result is CallResult.DONE or answer.is_missing:
            self._open_posts.discard(slot)
        if answer.is_missing:
            self._writes.setdefault(slot, []).append((self._plans, None))
        if request.method == "GET":
            return
        self._write_results[slot] = answer.result
        if answer.result is CallResult.UNKNOWN:
            self._unknown(slot, request)
        if answer.result in (CallResult.UNKNOWN, CallResult.DONE) or (
            answer.unknown_before and not answer.is_missing
        ):
            self._may_have_written(slot, request)

    def _unknown(self, slot: int, request: Request) -> None:
        if request.method == "POST" and not is_own(request):
            self._open_posts.add(slot)

    def _may_have_written(self, slot: int, request: Request) -> None:
        values = None if request.method == "DELETE" else content(request)
        self._writes.setdefault(slot, []).append((self._plans, values))
        if values is not None:
            self._last_writes[slot] = self._plans

    # --- outcomes --------------------------------------------------------------------------------

    def on_commit(self, entries: Iterable[JournalEntry]) -> None:
        """Journal entries became durable."""
        for entry in entries:
            slot, kind = slot_of(entry.address), entry.kind
            if kind is JournalKind.INTENT:
                self._intents.add(slot)
                self.access.on_intent(slot, change=self._changes[slot])
            elif kind is not JournalKind.RECOVERED:
                self._intents.discard(slot)
                self.access.on_recorded(slot)
                self._outcome(slot, entry)
                self._write_results.pop(slot, None)
        if len(self._intents) > self._workers:
            self.blame(f"{len(self._intents)} intents with {self._workers} workers")

    def on_removal(self, record: Record, *, put: Sequence[Record]) -> None:
        """A record is about to leave the state, durably, while others are ``put`` there."""
        slot = slot_of(record.address)
        if any(slot_of(each.address) == slot for each in put):
            return  # a link moves it
        if self._landing.get(slot):
            self.blame(f"u{slot}: dropped while an earlier write may still land")
        if record.presence is Presence.UNCONFIRMED and slot in self._open_posts:
            self.blame(f"u{slot}: dropped, and our POST may have made it")
        answer = self._answers.get(slot)
        is_deleted = answer is not None and (
            answer.is_missing
            or (answer.result is CallResult.DONE and self._asked[slot].method == "DELETE")
        )
        if record.presence is Presence.PRESENT and not is_deleted:
            self.blame(f"u{slot}: dropped before its deletion is known")
        there = self._remote.profiles.get(slot)
        if there is not None and there.profile_id in self.made_by_others:
            # It took the place of ours; what our last writes did to it is nobody's business any more.
            self.foreign |= {(slot, path) for path in there.values}

    def _outcome(self, slot: int, entry: JournalEntry) -> None:
        answer, write_result = self._answers.get(slot), self._write_results.get(slot)
        said_done = answer is not None and answer.result is CallResult.DONE
        said_missing = answer is not None and answer.is_missing
        match entry.kind:
            case JournalKind.APPLIED | JournalKind.ALREADY if entry.action != Action.FORGET:
                is_asked = answer is not None or not all(map(is_own, self._changes[slot].requests))
                if (
                    is_asked
                    and not said_done
                    and not (entry.kind is JournalKind.ALREADY and said_missing)
                ):
                    self.blame(f"u{slot}: {entry.kind}, and the remote never said so")
                self._recorded.add(slot)
                self.ownership.on_applied(slot, request=self._asked.get(slot), answer=answer)
            case JournalKind.APPLIED | JournalKind.ALREADY:
                self._recorded.add(slot)
                self.ownership.on_applied(slot, request=None, answer=None)
            case JournalKind.FAILED | JournalKind.SKIPPED if write_result is CallResult.UNKNOWN:
                self.blame(f"u{slot}: {entry.kind}, although nobody knows")

    def on_result(self, result: Result) -> None:
        """The applier reports an outcome."""
        slot = slot_of(result.address)
        if result.outcome.is_applied and slot not in self._recorded:
            self.blame(f"u{slot}: reported applied, not recorded")
        if result.failure is Failure.RATE_LIMITED and not self._patience_over:
            self.blame(f"u{slot}: failed because of the rate, while the run could wait")
        if slot in self._intents:
            self.blame(f"u{slot}: reported {result.outcome}, and nothing recorded")
        self.ownership.on_result(slot, result)

    # --- while the program is not running --------------------------------------------------------

    def compare(self, slots: int) -> None:
        """Every fact of the state is true."""
        for slot in range(slots):
            there = self._remote.profiles.get(slot)
            records = self._store.of_slot(slot)
            if len(records) > 1:
                self.blame(f"u{slot}: recorded twice")
            elif records:
                self._compare(slot, records[0], there=there)
            elif there is not None and not (
                slot in self.moved_by_others | self.strangers
                or there.profile_id in self.made_by_others
            ):
                self.blame(f"u{slot}: there, and unknown to the state")

    def _compare(self, slot: int, record: Record, *, there: Existing | None) -> None:
        self.ownership.compare(record)
        if there is None:
            if record.exists and slot not in self.moved_by_others:
                self.blame(f"u{slot}: recorded as present, and not there")
            return
        if (
            record.presence is Presence.GONE
            and slot not in self.moved_by_others
            and not _may_have_made(record, there)
        ):
            self.blame(f"u{slot}: recorded as gone, and there")
        if record.deleting or record.presence is Presence.GONE:
            return
        unknowable, facts, values = self.unknowable, record.facts, there.values
        for path, fact in facts.items():
            if fact.known is Known.VALUE or fact.known is Known.CLEARED:
                value = values.get(path)
                if path.startswith(LEVEL) and self.access.is_same(slot, path, fact.value):
                    continue
                if path == PREFERENCE and value is None and fact.observed and fact.value:
                    continue  # the app's default
                if value != fact.value and (slot, path) not in unknowable:
                    self.blame(f"u{slot}: {path} is {value!r}, recorded as {fact.value!r}")
        for path, value in values.items():
            if path not in facts and path not in record.forgotten:
                field = (slot, path)
                if field not in self.foreign and field not in unknowable:
                    self.blame(f"u{slot}: {path} is {value!r}, unknown to the state")

    def as_desired(self, slot: int, wanted: Values) -> None:
        """A profile is as its file asks, once everything has come to rest."""
        there = self._remote.profiles.get(slot)
        if there is None:
            self.blame(f"u{slot}: desired, and not there")
            return
        forgotten = {path for record in self._store.of_slot(slot) for path in record.forgotten}
        for path in sorted({*wanted, *there.values}):
            value = there.values.get(path)
            if path.startswith(LEVEL):
                if path in wanted:
                    self.access.as_desired(slot, path, wanted=wanted[path])
                elif (
                    path not in forgotten
                    and (slot, path) not in self.foreign
                    and not self.access.is_over(slot, path)
                    and self.access.is_ours(slot, path)
                ):
                    self.blame(f"u{slot}: {path} is {value!r}, and not desired")
            elif path in wanted:
                if value != wanted[path]:
                    self.blame(f"u{slot}: {path} is {value!r}, {wanted[path]!r} is desired")
            elif path not in forgotten and (slot, path) not in self.foreign:
                self.blame(f"u{slot}: {path} is {value!r}, and not desired")


def _may_have_made(record: Record, there: Existing) -> bool:
    """Whether the record of a profile that is gone says that an earlier write may still land, and that one
    made this profile. Nothing is to be done about it that waits for its end where nothing is planned."""
    return (
        record.unknown_at is not None
        and there.made_at is not None
        and there.made_at < record.unknown_at + QUIET
    )


def _says_uncertain(record: Record, request: Request) -> bool:
    """Whether a record calls uncertain what a request is about to change."""
    if request.method == "DELETE":
        return record.deleting
    facts = record.facts
    for path, value in content(request).items():
        fact = facts.get(path)
        if fact is None or fact.known is Known.UNKNOWN:
            return False
        recorded = fact.attempt if fact.known is Known.UNCERTAIN else fact.value
        if _end_of(path, value) != _end_of(path, recorded) and not (
            request.path == REVOKE and recorded is None  # at a time before the beginning
        ):
            return False
    return True


def _end_of(path: FieldPath, value: Scalar | None) -> Scalar | None:
    """What a request says for sure of a field. A revoke says nothing of the beginning of access."""
    return str(value).rpartition("until ")[2] if path.startswith(LEVEL) and value else value
