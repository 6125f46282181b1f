"""The applier: executes a plan, many profiles at a time, and loses nothing on the way.

Around every request the record of its profile is written twice, durably: before it leaves (what it
writes is *uncertain* then) and once its outcome is known. A crash at any instant therefore leaves a
state that says what is uncertain, and the next plan sends just that again.

The life of a change is a flow of `reconciler.remote.engine`: it decides what to write and what to send, and
the engine does so for many flows at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeAlias, assert_never

from reconciler.core.contract import ATTRIBUTES, INSTALLATION, Clear
from reconciler.core.outcomes import (
    ApplyReport,
    Drift,
    DriftKind,
    Failure,
    Halt,
    Outcome,
    Progress,
    Result,
)
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    FieldChange,
    HazardKind,
    HazardSeverity,
    Op,
    Plan,
    Request,
)
from reconciler.core.profiles import PROFILE_PREFIX, Profile
from reconciler.core.records import (
    Header,
    JournalEntry,
    JournalKind,
    Known,
    Presence,
    Record,
    Run,
    differs,
)
from reconciler.core.transitions import (
    CUSTOMER_HEADER,
    PLATFORM_HEADER,
    PROFILE_HEADER,
    Observed,
    Sending,
    Staleness,
    accepted,
    attempted,
    contradicts,
    creates,
    forgotten,
    gone,
    observed,
    read,
    read_recorded,
    request_digest,
    staleness,
    without_expired_mark,
)
from reconciler.errors import Refused
from reconciler.remote.answers import Answer, CallResult, ProfileData
from reconciler.remote.engine import Calls, Engine, Flow, Step, Writes
from reconciler.state.store import Store, Writer

_TOGETHER = 64
PROBLEMS = 1_000
"""Results worth a look that a report keeps; all are told as they come."""


@dataclass(frozen=True, slots=True)
class ApplyContext:
    """What the applier is given, so that a test can hold all of it."""

    calls: Calls
    now: Callable[[], float]
    """Unix time in seconds."""
    stop: Callable[[], bool]
    """Whether the user asked for the end: nothing new starts then."""
    run: str
    """Names this run in journal and history."""
    sending: Sending = field(default_factory=Sending)
    quiet_period: float = 60.0
    """Seconds that a different value waits after a write of unknown outcome (see `contradicts`)."""
    report: Callable[[Result], None] = field(default=lambda result: None)
    """Told every outcome, once it is durable."""
    beat: Callable[[Progress], None] = field(default=lambda progress: None)
    """Told about twice a second how far it is."""
    in_flight: Callable[[], int] = field(default=lambda: 1)
    """How many profiles are worth having under way."""
    wrote: Callable[[float], None] = field(default=lambda seconds: None)
    """Told how many seconds each write of the state took."""
    away: Callable[[], bool] = field(default=lambda: False)
    """Whether the API has been away for longer than it is worth waiting."""
    monotonic: Callable[[], float] = time.monotonic


def check_plan(plan: Plan, header: Header, *, environment: str, max_changes: int) -> None:
    """Whether a plan may be applied to this state at all.

    Raises Refused for another environment, lineage or application, and for a plan above a cap.
    """
    if plan.environment != environment:
        raise Refused(
            f"the plan was made for environment {plan.environment}, not {environment}",
            hint=f"Apply it with --env {plan.environment}.",
        )
    if plan.lineage is not None and plan.lineage != header.lineage:
        raise Refused(
            "the plan was made from another state: its lineage is not that of this one",
            hint="Plan again.",
        )
    if plan.application and header.application and plan.application != header.application:
        raise Refused("the plan was made for another application", hint="Plan again.")
    over = [
        hazard
        for hazard in plan.hazards
        if hazard.severity is HazardSeverity.REFUSED
        and hazard.kind != HazardKind.MAX_CHANGES  # the limit of this apply counts, see below
    ]
    if over:
        everything = over[0].kind == HazardKind.DELETE_EVERYTHING
        raise Refused(
            f"the plan {over[0].message}",
            hint="No setting allows that: keep a profile, or delete the last ones by other means."
            if everything
            else "Raise the limit in reconcile.yaml if this is meant, or plan a part with --select.",
        )
    if plan.count > max_changes:
        raise Refused(
            f"the plan has {plan.count} changes, above the limit of {max_changes}",
            hint="Allow it with --max-changes, or plan a part with --select.",
        )


_Sent: TypeAlias = Generator[Step, Answer | None, Answer]
_Steps: TypeAlias = Generator[Step, Answer | None, None]
_Settled: TypeAlias = Generator[Step, Answer | None, tuple[Result, Record]]


class Applier:
    """Applies plans to one environment, holding its lock."""

    def __init__(self, store: Store, writer: Writer, tools: ApplyContext) -> None:
        self._store = store
        self._writer = writer
        self._tools = tools
        self._application = store.header().application
        self._requests = 0
        self._halted: Halt | None = None
        self._recovered: dict[str, int] = {}
        self._linked: set[str] | None = None

    def apply(self, plan: Plan, *, desired: Mapping[str, Profile]) -> ApplyReport:
        """Applies the changes of a plan, beginning in their order, and tells the result of each.

        ``desired`` are the profiles of the files by address, as far as they are at hand: labels,
        protection and places are recorded from there, without a line in the plan.

        Raises `StateWriteFailed` where the state cannot be written.
        """
        tools = self._tools
        started = tools.now()
        self._recover()
        tally = _Tally(tools.report)
        engine = Engine[Result](
            tools.calls,
            self._writer,
            in_flight=tools.in_flight,
            wrote=tools.wrote,
            stop=tools.stop,
            monotonic=tools.monotonic,
            beat=lambda: tools.beat(tally.progress(plan.count, engine, self._requests)),
        )
        changes = iter(self._with_records(plan.changes))
        for result in engine.run(self._flow(change, record) for change, record in changes):
            tally.take(result)
        for change, _ in changes:
            tally.take(self._skipped(change, Halt.INTERRUPTED))
        if tools.stop():
            self._halted = self._halted or Halt.INTERRUPTED
        self._record_declarations(desired.values())
        report = ApplyReport(
            run=tools.run,
            counts=tally.counts,
            problems=tuple(tally.problems),
            halt=self._halted,
            requests=self._requests,
            seconds=tools.now() - started,
            recovered=len(self._recovered),
        )
        if not plan.is_empty:
            outcomes = {outcome.value: count for outcome, count in report.counts.items() if count}
            self._writer.finish(Run(tools.run, started, tools.now(), plan.digest, outcomes))
        if tally.problem is not None:
            raise tally.problem
        return report

    def _recover(self) -> None:
        """Marks what a run that was cut off had under way.

        Its requests may have left later than their intents say, so the quiet period begins now. The
        revisions from before are kept, since a plan may have been made from them.
        """
        cut_off = self._store.records_of(self._store.interrupted_addresses())
        now = self._tools.now()
        marked = [
            record._replace(unknown_at=now)
            for record in cut_off.values()
            if record.unknown_at is not None
        ]
        if marked:
            entries = [
                JournalEntry(
                    run=self._tools.run, address=record.address, kind=JournalKind.RECOVERED, at=now
                )
                for record in marked
            ]
            self._writer.write(put=marked, journal=entries)
            self._recovered = {record.address: record.revision for record in marked}

    # --- one change --------------------------------------------------------------------------

    def _with_records(self, changes: Iterable[Change]) -> Iterator[tuple[Change, Record | None]]:
        """The changes, each with the record of its profile, read for many at once.

        Nobody else writes while we hold the lock, and a profile has one change; so a record stays true
        until its change begins.
        """
        source = iter(changes)
        while some := list(islice(source, _TOGETHER)):
            records = self._store.records_of([change.address for change in some])
            for change in some:
                record = records.get(change.address)
                if record is None and change.action is Action.LINK:
                    profile_id = change.requests[-1].headers[PROFILE_HEADER]
                    record = self._store.record(f"{PROFILE_PREFIX}{profile_id}")
                if record is not None and record.address in self._recovered:
                    record = record._replace(revision=self._recovered[record.address])
                yield change, record

    def _flow(self, change: Change, record: Record | None) -> Flow[Result]:
        halt = self._halt()
        if halt is not None:
            return self._skipped(change, halt)
        stand, why = staleness(change, record)
        if record is None and self._is_linked(change):
            stand, why = Staleness.STALE, "the profile was linked since the plan was made"
        match stand:
            case Staleness.ALREADY:
                return Result(change.address, change.action, Outcome.ALREADY, why)
            case Staleness.STALE:
                return Result(
                    change.address, change.action, Outcome.STALE, why, failure=Failure.STALE
                )
            case Staleness.CURRENT:
                pass
            case _:
                assert_never(stand)
        if not change.requests:
            return (yield from self._forget(change, record))
        before = (
            self._unmarked(record)
            if record
            else Record(
                change.address,
                customer_user_id=change.requests[0].headers.get(CUSTOMER_HEADER),
                profile_id=change.requests[0].headers.get(PROFILE_HEADER),
                presence=Presence.UNCONFIRMED,
            )
        )
        warnings: tuple[str, ...] = ()
        for request in change.requests:
            last = request is change.requests[-1]
            result, before = yield from self._send(_Sending(change, request, before, last))
            if result.outcome is not Outcome.APPLIED:
                return result
            warnings += result.warnings
        if (strange := self._strange(change, before)) is not None:
            request = strange.requests[0]
            result, _ = yield from self._send(_Sending(strange, request, before, True))
            warnings += result.warnings
        return result._replace(action=change.action, warnings=warnings)

    def _strange(self, change: Change, record: Record) -> Change | None:
        """What takes away the custom attributes that nobody declared, and that the answer to a change
        showed: they were given to an exclusive profile since it was seen last."""
        if change.exclusive is None:
            return None
        keys = [key for key in record.unmanaged if key not in change.exclusive]
        if not keys:
            return None
        emptied = "" if self._tools.sending.delete_attribute_with is Clear.EMPTY else None
        last = change.requests[-1]
        request = Request(
            "PATCH",
            last.path,
            _without(last.headers, PROFILE_HEADER)
            if CUSTOMER_HEADER in last.headers
            else last.headers,
            {ATTRIBUTES: [{"key": key, "value": emptied} for key in keys]},
        )
        fields = tuple(
            FieldChange(f"{ATTRIBUTES}.{key}", Op.CLEAR, None, None, Basis.NONE) for key in keys
        )
        return change._replace(action=Action.UPDATE, fields=fields, requests=(request,))

    def _unmarked(self, record: Record) -> Record:
        quiet = self._tools.quiet_period
        return without_expired_mark(record, now=self._tools.now(), quiet_period=quiet)

    def _is_linked(self, change: Change) -> bool:
        """Whether a profile of which only the profile id is given is recorded by its customer id."""
        if not change.address.startswith(PROFILE_PREFIX):
            return False
        if self._linked is None:
            self._linked = {
                f"{PROFILE_PREFIX}{record.profile_id}" for record in self._store.records()
            }
        return change.address in self._linked

    def _halt(self) -> Halt | None:
        """Why nothing new may start, if so."""
        if self._halted is None and self._tools.away():
            self._halted = Halt.AWAY
        if self._halted is None and self._tools.stop():
            return Halt.INTERRUPTED
        return self._halted

    def _skipped(self, change: Change, halt: Halt) -> Result:
        return Result(
            change.address,
            change.action,
            Outcome.SKIPPED,
            halt.value,
            failure=Failure.HALTED,
            unavailable=halt is Halt.AWAY,
        )

    def _forget(self, change: Change, record: Record | None) -> Flow[Result]:
        journal = (self._entry(change, JournalKind.APPLIED),)
        if record is not None and change.fields:
            after = _declared_by(change, forgotten(record, change))
            yield Step(Writes(put=(after,), journal=journal))
        elif record is not None and record.unknown_at is not None:
            return (yield from self._forget_for_good(change, record))
        elif record is not None:
            yield Step(Writes(remove=(change.address,), journal=journal))
        return Result(change.address, change.action, Outcome.APPLIED)

    def _forget_for_good(self, change: Change, record: Record) -> Flow[Result]:
        """Drops the record of a profile that was not there when it was seen last, if an earlier write,
        which could land late until now, has not made it since."""
        yield from self._wait_quiet(record)
        if (halt := self._halt()) is not None:
            return self._skipped(change, halt)
        request = read_recorded(record)
        found = yield from self._call(request)
        if found.is_missing:
            entry = self._entry(change, JournalKind.APPLIED, answer=found)
            yield Step(Writes(remove=(change.address,), journal=(entry,)))
            return Result(change.address, change.action, Outcome.APPLIED)
        if found.result is CallResult.DONE:
            reason = "it exists: an earlier request of unknown outcome made it"
            seen = _seen(record._replace(unknown_at=None, unknown_write={}), found)
            entry = self._entry(change, JournalKind.STALE, answer=found)
            yield Step(Writes(put=(seen.after,), journal=(entry,)))
            return Result(
                change.address, change.action, Outcome.STALE, reason, failure=Failure.STALE
            )
        result, _ = yield from self._not_seen(_Sending(change, request, record, True), found)
        return result

    def _drop(self, change: Change, record: Record, entry: JournalEntry) -> _Steps:
        """Drops the record of a profile that is not there, once nothing of it can land late on one
        that is made in its place; stopped before that, keeps what it has to know."""
        if self._quiet_seconds_left(record) > 0:
            yield Step(Writes(put=(gone(record),), journal=(entry,)))
            yield from self._wait_quiet(record)
            if not self._tools.stop():
                yield Step(Writes(remove=(change.address,)))
        else:
            yield Step(Writes(remove=(change.address,), journal=(entry,)))

    # --- one request -------------------------------------------------------------------------

    def _send(self, sending: _Sending) -> _Settled:
        """Sends a request, its fallback where the profile does not exist, and settles the record."""
        if contradicts(sending.record, sending.change, sending.request):
            yield from self._wait_quiet(sending.record)
            if not self._tools.stop():
                quiet = sending.record._replace(unknown_at=None, unknown_write={})
                sending = sending._replace(record=quiet)
        if sending.record.linking and sending.request.method == "POST" and self._halt() is None:
            found = yield from self._call(_look_up(sending.request))
            if found.result is not CallResult.DONE and not found.is_missing:
                return (yield from self._not_seen(sending, found))
            request = _after(sending.request, found)
            if request is None:
                return (yield from self._settle(sending, found))
            sending = sending._replace(request=request)
        answer = yield from self._attempt(sending)
        if answer.is_missing and sending.request.fallback is not None:
            request = sending.request._replace(
                method=sending.request.fallback,
                body=sending.request.body or {},
                fallback=None,
            )
            sending = sending._replace(
                request=request, record=self._with_unknown_mark(sending, answer)
            )
            answer = yield from self._attempt(sending)
        if answer.result is CallResult.UNKNOWN and sending.request.method == "POST":
            answer = yield from self._look_and_post(sending, answer)
        return (yield from self._settle(sending, answer))

    def _attempt(self, sending: _Sending) -> _Sent:
        """One call, its intent durable before."""
        record, request = sending.record, sending.request
        if (halt := self._halt()) is not None:
            return Answer(CallResult.NOT_SENT, message=halt.value, attempts=0)
        if request.method == "GET":
            return (yield from self._call(request))
        intent = attempted(record, sending.change, request, at=self._tools.now())
        journal = (
            self._entry(sending.change, JournalKind.INTENT, request=request, at=record.address),
        )
        writes = Writes(put=(intent,), journal=journal)
        return (yield from self._call(request, writes))

    def _call(self, request: Request, writes: Writes | None = None) -> _Sent:
        answer = yield Step(writes or Writes(), request)
        assert answer is not None
        self._requests += answer.attempts
        if answer.is_unauthorised:
            self._halted = Halt.KEY
        return answer

    def _look_and_post(self, sending: _Sending, unknown: Answer) -> _Sent:
        """An uncertain POST is looked up before it is sent again (adapty-api 6.3)."""
        if self._halt() is not None:
            return unknown
        found = yield from self._call(_look_up(sending.request))
        if found.result is not CallResult.DONE and not found.is_missing:
            return unknown
        again = _after(sending.request, found)
        if again is None:
            return found._replace(unknown_before=True)
        if self._halt() is not None:
            return unknown
        answer = yield from self._call(again)
        if answer.result is CallResult.NOT_SENT:
            return unknown
        return answer._replace(unknown_before=True)

    def _wait_quiet(self, record: Record) -> _Steps:
        """Waits until an earlier write can no longer land late."""
        left = self._quiet_seconds_left(record)
        if left > 0:
            yield Step(wait=left)

    def _quiet_seconds_left(self, record: Record) -> float:
        """Seconds until the quiet period of a record is over. No clock that was set back makes them
        more than the quiet period."""
        if record.unknown_at is None:
            return 0.0
        quiet = self._tools.quiet_period
        return min(quiet, record.unknown_at + quiet - self._tools.now())

    def _settle(self, sending: _Sending, answer: Answer) -> _Settled:
        """Makes the outcome of a request durable, and says what it was."""
        match answer.result:
            case CallResult.DONE:
                return (yield from self._done(sending, answer))
            case CallResult.UNKNOWN:
                reason = f"{answer.message}; whether it took effect is unknown"
                return (
                    yield from self._uncertain(
                        sending, answer, Outcome.UNCERTAIN, reason, Failure.UNKNOWN
                    )
                )
            case CallResult.NOT_SENT:
                outcome, reason, failure = Outcome.FAILED, answer.message, Failure.NOT_SENT
                if answer.attempts == 0 or self._tools.stop():
                    halt = self._halt() or Halt.INTERRUPTED
                    outcome, reason, failure = Outcome.SKIPPED, halt.value, Failure.HALTED
                return (yield from self._restore(sending, answer, outcome, reason, failure))
            case CallResult.REFUSED if answer.is_missing:
                return (yield from self._missing(sending, answer))
            case CallResult.REFUSED:
                return (yield from self._refused(sending, answer))
            case _:
                assert_never(answer.result)

    def _not_seen(self, sending: _Sending, look: Answer) -> _Settled:
        """Settles what waited for a look that told nothing: a look changes nothing, so nothing is
        uncertain because of it."""
        if look.result is CallResult.UNKNOWN:
            look = look._replace(result=CallResult.NOT_SENT)
        return (yield from self._settle(sending, look))

    def _refused(self, sending: _Sending, answer: Answer) -> _Settled:
        reason, failure = answer.message, Failure.REFUSED
        body = sending.request.body or {}
        if answer.is_unauthorised:
            failure = Failure.UNAUTHORISED
        elif answer.status == 429:
            failure = Failure.RATE_LIMITED
        elif answer.status == 400:
            if INSTALLATION not in body:
                reason += (
                    " (if nothing else explains it: later documents of the API call "
                    "installation_meta required)"
                )
            if ATTRIBUTES in body:
                sending = yield from self._look_again(sending)
        return (yield from self._restore(sending, answer, Outcome.FAILED, reason, failure))

    def _look_again(self, sending: _Sending) -> Generator[Step, Answer | None, _Sending]:
        """What can be seen of a profile after a refusal, since nobody documents that a request which
        is refused has no effect at all (adapty-api 7.36)."""
        if self._halt() is not None or not sending.record.exists:
            return sending
        found = yield from self._call(read_recorded(sending.record))
        if found.result is not CallResult.DONE or found.data is None:
            return sending
        after, _ = observed(sending.record, _observation(found.data))
        return sending._replace(record=after)

    def _done(self, sending: _Sending, answer: Answer) -> _Settled:
        change, request = sending.change, sending.request
        if change.action is Action.DELETE:
            entry = self._entry(change, JournalKind.APPLIED, answer=answer)
            yield from self._drop(change, self._with_unknown_mark(sending, answer), entry)
            return self._result(sending, answer, Outcome.APPLIED), sending.record
        assert answer.data is not None
        application = answer.data.app_id
        if application and self._application not in (None, application):
            self._halted = Halt.APPLICATION
            return (
                yield from self._uncertain(
                    sending, answer, Outcome.UNCERTAIN, Halt.APPLICATION.value, Failure.APPLICATION
                )
            )
        seen = _observation(answer.data)
        base = self._other_profile(sending.record, seen)
        after, differences = observed(accepted(base, change, request), seen)
        after = (
            _declared_by(change, forgotten(after, change)) if sending.last else after
        )._replace(
            address=change.address,
            customer_user_id=request.headers.get(CUSTOMER_HEADER) or after.customer_user_id,
            platform=request.headers.get(PLATFORM_HEADER),
            unknown_at=sending.record.unknown_at,
            unknown_write=sending.record.unknown_write,
            deleting=False,
            linking=sending.record.linking and not sending.last,
        )
        if creates(change, request):
            after = after._replace(created_at=self._tools.now())
        if answer.unknown_before:
            marked = attempted(sending.record, change, request, at=self._tools.now())
            after = after._replace(unknown_at=marked.unknown_at, unknown_write=marked.unknown_write)
        warnings = [
            f"{difference.path}: the API holds another value than was sent"
            for difference in differences
        ]
        if base is not sending.record:
            warnings.append(
                "the API knows the customer id under another profile_id: its write-only fields are "
                "unknown now and will be sent again"
            )
        moved = sending.record.address != change.address
        learned = application if self._application is None else None
        self._application = self._application or application
        yield Step(
            Writes(
                put=(after,),
                remove=(sending.record.address,) if moved else (),
                journal=(self._entry(change, JournalKind.APPLIED, answer=answer),),
                application=learned,
            ),
            goes_on=not sending.last or self._strange(change, after) is not None,
        )
        result = self._result(sending, answer, Outcome.APPLIED)
        return result._replace(warnings=tuple(warnings)), after

    def _with_unknown_mark(self, sending: _Sending, answer: Answer) -> Record:
        """The record, with the mark of an earlier attempt of the same call that may still land."""
        if not answer.unknown_before:
            return sending.record
        return attempted(sending.record, sending.change, sending.request, at=self._tools.now())

    def _other_profile(self, record: Record, seen: Observed) -> Record:
        """The record with every write-only field unknown, where the answer names another profile.

        What the request itself wrote went to the profile that answered, and is accepted after this.
        """
        if record.profile_id in (None, seen.profile_id):
            return record
        moved, _ = observed(record, seen)
        return moved

    def _missing(self, sending: _Sending, answer: Answer) -> _Settled:
        change = sending.change
        if change.action is Action.DELETE:
            entry = self._entry(change, JournalKind.ALREADY, answer=answer)
            yield from self._drop(change, self._with_unknown_mark(sending, answer), entry)
            result = self._result(sending, answer, Outcome.ALREADY, "it did not exist any more")
            return result, sending.record
        if change.action in (Action.CREATE, Action.LINK):
            reason = "the API knows no profile with this profile_id"
            return (
                yield from self._restore(sending, answer, Outcome.FAILED, reason, Failure.MISSING)
            )
        after = gone(self._with_unknown_mark(sending, answer))
        yield Step(
            Writes(put=(after,), journal=(self._entry(change, JournalKind.FAILED, answer=answer),))
        )
        reason = "the API says that the profile does not exist"
        if CUSTOMER_HEADER in sending.request.headers:
            reason += "; the next plan creates it"
        return self._result(sending, answer, Outcome.FAILED, reason, Failure.MISSING), after

    def _restore(
        self, sending: _Sending, answer: Answer, outcome: Outcome, reason: str, failure: Failure
    ) -> _Settled:
        """Nothing took effect (assumed of a refusal: adapty-api 7.36): the record is as before, unless
        an earlier attempt of the same call may still land."""
        if answer.unknown_before:
            return (yield from self._uncertain(sending, answer, outcome, reason, failure))
        record = sending.record
        at = record.address
        journal = (self._entry(sending.change, JournalKind(outcome.value), answer=answer, at=at),)
        known = self._store.record(record.address)
        if sending.request.method == "GET" or known is None:
            yield Step(Writes(journal=journal))
        elif _never_recorded(record):
            yield Step(Writes(remove=(record.address,), journal=journal))
        else:
            yield Step(Writes(put=(record,), journal=journal))
        return self._result(sending, answer, outcome, reason, failure), record

    def _uncertain(
        self, sending: _Sending, answer: Answer, outcome: Outcome, reason: str, failure: Failure
    ) -> _Settled:
        """The intent stands, and its quiet period begins now, when the request last left."""
        change, request, record = sending.change, sending.request, sending.record
        journal = (
            self._entry(change, JournalKind(outcome.value), answer=answer, at=record.address),
        )
        if request.method == "GET":
            yield Step(Writes(journal=journal))
            return self._result(sending, answer, Outcome.FAILED, reason, failure), record
        after = attempted(record, change, request, at=self._tools.now())
        yield Step(Writes(put=(after,), journal=journal))
        return self._result(sending, answer, outcome, reason, failure), after

    def _result(
        self,
        sending: _Sending,
        answer: Answer,
        outcome: Outcome,
        reason: str = "",
        failure: Failure | None = None,
    ) -> Result:
        failed = outcome in (Outcome.FAILED, Outcome.UNCERTAIN)
        return Result(
            sending.change.address,
            sending.change.action,
            outcome,
            reason,
            answer.request_id,
            failure=failure,
            unavailable=failed and answer.is_unavailable,
        )

    def _entry(
        self,
        change: Change,
        kind: JournalKind,
        *,
        request: Request | None = None,
        answer: Answer | None = None,
        at: str | None = None,
    ) -> JournalEntry:
        """A journal entry; ``at`` is the address of the record that it is about, where a link has yet
        to move it."""
        detail = ""
        if answer is not None:
            known = [str(answer.status or answer.result), answer.error_code, answer.request_id]
            detail = " ".join(part for part in known if part)
        return JournalEntry(
            run=self._tools.run,
            address=at or change.address,
            kind=kind,
            at=self._tools.now(),
            action=change.action.value,
            request=request_digest(request) if request else "",
            detail=detail,
        )

    # --- what needs no request ---------------------------------------------------------------

    def _record_declarations(self, desired: Iterable[Profile]) -> None:
        """Records labels, protection, platform and places that changed without a change of a field."""
        moved = []
        for profile in desired:
            record = self._store.record(profile.address)
            if record is None:
                continue
            after = record._replace(
                labels=profile.labels,
                protect=profile.protect,
                platform=profile.platform,
                lifetime=profile.lifetime,
                source=profile.source._replace(column=0),
            )
            if differs(record, after):
                moved.append(after)
        if moved:
            self._writer.write(put=moved)


class _Sending(NamedTuple):
    """A request of a change, and the record from before it."""

    change: Change
    request: Request
    record: Record
    last: bool
    """Whether the change is complete once this request is."""


class _Tally:
    """Counts outcomes, keeps the first problems, and tells every result.

    A listener that fails must not stop what others trust to go on: its error is kept for the end.
    """

    def __init__(self, report: Callable[[Result], None]) -> None:
        self.counts = dict.fromkeys(Outcome, 0)
        self.problems: list[Result] = []
        self.problem: Exception | None = None
        self._report = report

    def take(self, result: Result) -> None:
        self.counts[result.outcome] += 1
        if result.needs_a_look and len(self.problems) < PROBLEMS:
            self.problems.append(result)
        if self.problem is None:
            try:
                self._report(result)
            except Exception as problem:
                self.problem = problem

    def progress(self, total: int, engine: Engine[Result], requests: int) -> Progress:
        bad = (Outcome.FAILED, Outcome.UNCERTAIN, Outcome.STALE)
        return Progress(
            total=total,
            done=sum(self.counts.values()),
            failed=sum(self.counts[outcome] for outcome in bad),
            under_way=engine.under_way,
            requests=requests,
        )


def _look_up(post: Request) -> Request:
    """What tells whether a POST has taken effect."""
    return read(post.headers.get(CUSTOMER_HEADER), post.headers.get(PROFILE_HEADER))


def _after(post: Request, found: Answer) -> Request | None:
    """What is to be sent in the place of a POST once it was looked up; ``None`` for nothing."""
    profile_id = post.headers.get(PROFILE_HEADER)
    if found.data is None or profile_id not in (None, found.data.profile_id.lower()):
        return post
    if not post.body:
        return None
    return post._replace(method="PATCH", headers=_without(post.headers, PROFILE_HEADER))


def _without(headers: Mapping[str, str], left_out: str) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != left_out}


def _never_recorded(record: Record) -> bool:
    """Whether the record exists only because this change wrote its intent."""
    return record.revision == 0 and not record.facts


def _declared_by(change: Change, record: Record) -> Record:
    return record._replace(
        labels=change.labels,
        protect=change.protect,
        lifetime=change.lifetime,
        source=change.source or record.source,
        forgotten=record.forgotten - {f.path for f in change.fields if f.after is not None},
    )


# --- refresh -------------------------------------------------------------------------------------


class ReadBack(NamedTuple):
    """A record, what a look at the API makes of it, and what the API said.

    An answer that is neither a profile nor "does not exist" gives drift ``unread`` and the record as
    it was.
    """

    before: Record
    after: Record
    drift: Drift
    answer: Answer


def read_back(
    records: Iterable[Record],
    calls: Calls,
    *,
    application: str | None,
    writer: Writer | None,
    quiet: Callable[[Record], Record],
    stop: Callable[[], bool],
    in_flight: Callable[[], int],
) -> Iterator[ReadBack]:
    """Reads the profiles of records, in any order, and records what it sees if it has a writer; but
    not that a profile is gone, which may also mean that the key is one of another application.

    ``quiet`` takes the marks of what can no longer land late from a record.

    Ends where the key is refused. Raises Refused where an answer names another application than the
    recorded one.
    """
    refused = False

    def flow(record: Record) -> Flow[ReadBack]:
        nonlocal refused
        answer = yield Step(request=read_recorded(record))
        assert answer is not None
        refused = refused or answer.is_unauthorised
        told = answer.data.app_id if answer.data else None
        if None not in (application, told) and told != application:
            raise Refused(
                "the API answered for another application than the state was made for",
                hint="Check --env and the key.",
            )
        seen = _seen(quiet(record), answer)
        if writer is not None and not answer.is_missing and differs(record, seen.after):
            yield Step(Writes(put=(seen.after,)))
        return seen

    named = (record for record in records if record.customer_user_id or record.profile_id)
    engine = Engine[ReadBack](calls, writer, in_flight=in_flight, stop=lambda: refused or stop())
    return engine.run(map(flow, named))


def _observation(data: ProfileData) -> Observed:
    return Observed(
        data.profile_id.lower(), data.customer_user_id, data.custom_attributes, data.timestamp
    )


def _seen(record: Record, answer: Answer) -> ReadBack:
    if answer.is_missing and record.presence is Presence.UNCONFIRMED:
        # Nobody said that it is there, and an uncertain POST may still make it.
        return ReadBack(record, record, Drift(record.address, DriftKind.SAME), answer)
    if answer.is_missing:
        kind = DriftKind.SAME if record.presence is Presence.GONE else DriftKind.GONE
        return ReadBack(record, gone(record), Drift(record.address, kind), answer)
    if answer.result is not CallResult.DONE or answer.data is None:
        return ReadBack(record, record, Drift(record.address, DriftKind.UNREAD), answer)
    seen = _observation(answer.data)
    after, differences = observed(record, seen)
    kind = DriftKind.CHANGED if differences else DriftKind.SAME
    if record.profile_id not in (None, seen.profile_id):
        kind = DriftKind.RECREATED
    blind = sum(
        1
        for path, fact in after.facts.items()
        if not path.startswith("custom_attributes.") and fact.known is not Known.UNKNOWN
    )
    return ReadBack(record, after, Drift(record.address, kind, tuple(differences), blind), answer)
