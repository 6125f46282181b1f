"""Decides what the answer to a request means for its change, and makes that durable."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, TypeAlias, assert_never

from reconciler.core.endpoints import (
    CUSTOMER_HEADER,
    PLATFORM_HEADER,
    is_about_profile,
    read_recorded,
)
from reconciler.core.facets.registry import (
    facet_of_request,
    follow_up,
    is_shown,
    refusal_notes,
)
from reconciler.core.outcomes import Failure, Halt, Outcome, Result
from reconciler.core.plan import Action, Change, FieldChange, Request
from reconciler.core.records import JournalEntry, JournalKind, Known, Origin, Presence, Record
from reconciler.core.requests import values_of
from reconciler.core.transitions import (
    Observed,
    accepted,
    attempted,
    creates,
    forgotten,
    gone,
    is_creation,
    is_dated_before,
    observed,
    observed_own,
)
from reconciler.remote.answers import ApiAnswer, CallResult, ProfileData
from reconciler.remote.engine import Step, Writes
from reconciler.remote.refresh import observation
from reconciler.remote.run import ApplyRun, Steps
from reconciler.state.store import Store
from reconciler.values import FieldPath


class PendingRequest(NamedTuple):
    """A request of a change, and the record from before it."""

    change: Change
    request: Request
    record: Record
    is_last: bool
    """Whether the change is complete after this request."""
    is_looked: bool = False
    """Whether the profile was read right before."""


SettleSteps: TypeAlias = Generator[Step, ApiAnswer | None, tuple[Result, Record]]
"""Ends with the outcome of a request, and the record after it."""


class Settlement:
    """Settles requests: the answer becomes a record, a journal entry and a result."""

    def __init__(self, run: ApplyRun, store: Store) -> None:
        self._run = run
        self._store = store

    def settle(self, pending: PendingRequest, answer: ApiAnswer) -> SettleSteps:
        """Makes the outcome of a request durable, and ends with it."""
        match answer.result:
            case CallResult.DONE:
                return (yield from self._done(pending, answer))
            case CallResult.UNKNOWN:
                return (
                    yield from self._uncertain(
                        pending,
                        answer,
                        outcome=Outcome.UNCERTAIN,
                        reason=f"{answer.message}; whether it took effect is unknown",
                        failure=Failure.UNKNOWN,
                    )
                )
            case CallResult.NOT_SENT:
                return (yield from self._not_sent(pending, answer))
            case CallResult.REFUSED if answer.is_missing:
                return (yield from self._missing(pending, answer))
            case CallResult.REFUSED:
                return (yield from self._refused(pending, answer))
            case _:
                assert_never(answer.result)

    def settle_without_look_up(self, pending: PendingRequest, answer: ApiAnswer) -> SettleSteps:
        """Settles a request that was not sent because the look-up before it failed with ``answer``. A read
        changes nothing, so it makes nothing uncertain."""
        if answer.result is CallResult.UNKNOWN:
            answer = answer._replace(result=CallResult.NOT_SENT)
        return (yield from self.settle(pending, answer))

    def with_unknown_mark(self, pending: PendingRequest, answer: ApiAnswer) -> Record:
        """The record, with the mark of an earlier attempt of the same call that may still land."""
        if not answer.unknown_before:
            return pending.record
        return attempted(
            pending.record, pending.change, request=pending.request, at=self._run.unix_time()
        )

    # --- done --------------------------------------------------------------------------------

    def _done(self, pending: PendingRequest, answer: ApiAnswer) -> SettleSteps:
        change = pending.change
        if change.action is Action.DELETE:
            entry = self._run.entry(change, JournalKind.APPLIED, answer=answer)
            yield from self._drop(change, self.with_unknown_mark(pending, answer), entry=entry)
            return self._result(pending, answer, outcome=Outcome.DELETED), pending.record
        if answer.data is None:
            return (yield from self._done_apart(pending, answer))
        application = answer.data.app_id
        if application and self._run.application not in (None, application):
            self._run.halted = Halt.APPLICATION
            return (
                yield from self._uncertain(
                    pending,
                    answer,
                    outcome=Outcome.UNCERTAIN,
                    reason=Halt.APPLICATION.value,
                    failure=Failure.APPLICATION,
                )
            )
        after, warnings = self._record_after(pending, answer, data=answer.data)
        is_moved = pending.record.address != change.address
        learned_application = application if self._run.application is None else None
        self._run.application = self._run.application or application
        later = follow_up(change, after, options=self._run.context.request_options)
        yield Step(
            Writes(
                put=(after,),
                remove=(pending.record.address,) if is_moved else (),
                journal=(self._run.entry(change, JournalKind.APPLIED, answer=answer),),
                application=learned_application,
            ),
            goes_on=not pending.is_last or later is not None,
        )
        outcome = Outcome.of_applied(change.action, after.origin)
        result = self._result(pending, answer, outcome=outcome)
        return result._replace(warnings=warnings), after

    def _done_apart(self, pending: PendingRequest, answer: ApiAnswer) -> SettleSteps:
        """Settles a facet's own request whose answer is no profile."""
        change, request, record = pending.change, pending.request, pending.record
        facet = facet_of_request(request)
        assert facet is not None
        after = accepted(record, change, request=request)
        differences: list[FieldChange] = []
        if answer.own:
            after, differences = observed_own(after, facet, values=answer.own)
        if pending.is_last:
            after = with_declarations(forgotten(after, change), change)._replace(linking=False)
        if answer.unknown_before:
            marked = attempted(record, change, request=request, at=self._run.unix_time())
            after = after._replace(unknown_at=marked.unknown_at, unknown_write=marked.unknown_write)
        journal = (self._run.entry(change, JournalKind.APPLIED, answer=answer),)
        yield Step(Writes(put=(after,), journal=journal), goes_on=not pending.is_last)
        outcome = Outcome.of_applied(change.action, after.origin)
        result = self._result(pending, answer, outcome=outcome)
        return result._replace(warnings=_warnings(differences, is_other_profile=False)), after

    def _record_after(
        self, pending: PendingRequest, answer: ApiAnswer, *, data: ProfileData
    ) -> tuple[Record, tuple[str, ...]]:
        """The record after a request that the API confirmed, and warnings about what differs."""
        change, request, record = pending.change, pending.request, pending.record
        profile = observation(data)
        self._run.clock_jumps += is_dated_before(record, profile)
        now = self._run.unix_time()
        base = _for_answering_profile(record, profile, now=now)
        after, differences = observed(accepted(base, change, request=request), profile, now=now)
        if pending.is_last:
            after = with_declarations(forgotten(after, change), change)
        after = after._replace(
            address=change.address,
            customer_user_id=request.headers.get(CUSTOMER_HEADER) or after.customer_user_id,
            platform=request.headers.get(PLATFORM_HEADER)
            if is_about_profile(request)
            else record.platform,
            unknown_at=record.unknown_at,
            unknown_write=record.unknown_write,
            deleting=False,
            linking=record.linking and not pending.is_last,
        )
        if creates(change, request):
            is_ours = is_creation(record, profile, request=request)
            after = after._replace(
                origin=Origin.CREATED if is_ours else Origin.ADOPTED,
                created_at=self._run.unix_time() if is_ours else None,
            )
        elif record.presence is not Presence.PRESENT and after.origin is Origin.UNKNOWN:
            after = after._replace(origin=Origin.ADOPTED)
        if answer.unknown_before:
            marked = attempted(record, change, request=request, at=self._run.unix_time())
            after = after._replace(unknown_at=marked.unknown_at, unknown_write=marked.unknown_write)
        return after, _warnings(differences, is_other_profile=base is not record)

    def _drop(self, change: Change, record: Record, *, entry: JournalEntry) -> Steps:
        """Drops the record of a profile that does not exist, once no earlier write can land late on a
        profile that is created in its place. If the user stops before that, the record keeps the mark."""
        if self._run.quiet_seconds_left(record) > 0:
            yield Step(Writes(put=(gone(record),), journal=(entry,)))
            yield from self._run.wait_quiet(record)
            if not self._run.is_stopping:
                yield Step(Writes(remove=(change.address,)))
        else:
            yield Step(Writes(remove=(change.address,), journal=(entry,)))

    # --- refused, missing, not sent ----------------------------------------------------------

    def _not_sent(self, pending: PendingRequest, answer: ApiAnswer) -> SettleSteps:
        outcome, reason, failure = Outcome.FAILED, answer.message, Failure.NOT_SENT
        if answer.attempts == 0 or self._run.is_stopping:
            halt = self._run.halt() or Halt.INTERRUPTED
            outcome, reason, failure = Outcome.SKIPPED, halt.value, Failure.HALTED
        return (
            yield from self._restore(
                pending, answer, outcome=outcome, reason=reason, failure=failure
            )
        )

    def _refused(self, pending: PendingRequest, answer: ApiAnswer) -> SettleSteps:
        if answer.status == 429 and self._run.halt() not in (None, Halt.LIMITED):
            # It was waiting for its turn again when the run ended for another reason.
            return (yield from self._not_sent(pending, answer._replace(attempts=0)))
        reason, failure = answer.message, Failure.REFUSED
        if answer.is_unauthorised:
            failure = Failure.UNAUTHORISED
        elif answer.status == 429:
            failure = Failure.RATE_LIMITED
        elif answer.status in (400, 404):
            reason += refusal_notes(pending.request, answer.error_code)
            if any(map(is_shown, values_of(pending.request))):
                pending = yield from self._reread(pending)
        return (
            yield from self._restore(
                pending, answer, outcome=Outcome.FAILED, reason=reason, failure=failure
            )
        )

    def _reread(self, pending: PendingRequest) -> Generator[Step, ApiAnswer | None, PendingRequest]:
        """The request with the record as a read after the refusal shows it. No document says that a
        refused request has no effect at all (adapty-api 7.36)."""
        if self._run.halt() is not None or not pending.record.exists:
            return pending
        answer = yield from self._run.call(read_recorded(pending.record))
        if answer.result is not CallResult.DONE or answer.data is None:
            return pending
        after, _ = observed(pending.record, observation(answer.data), now=self._run.unix_time())
        return pending._replace(record=after)

    def _missing(self, pending: PendingRequest, answer: ApiAnswer) -> SettleSteps:
        change = pending.change
        if change.action is Action.DELETE:
            entry = self._run.entry(change, JournalKind.ALREADY, answer=answer)
            yield from self._drop(change, self.with_unknown_mark(pending, answer), entry=entry)
            result = self._result(
                pending, answer, outcome=Outcome.ALREADY, reason="it did not exist any more"
            )
            return result, pending.record
        if change.action is Action.ADOPT and is_about_profile(pending.request):
            return (
                yield from self._restore(
                    pending,
                    answer,
                    outcome=Outcome.FAILED,
                    reason="the API does not know it any more: plan again",
                    failure=Failure.MISSING,
                )
            )
        if change.action in (Action.CREATE, Action.LINK) and is_about_profile(pending.request):
            return (
                yield from self._restore(
                    pending,
                    answer,
                    outcome=Outcome.FAILED,
                    reason="the API knows no profile with this profile_id",
                    failure=Failure.MISSING,
                )
            )
        after = gone(self.with_unknown_mark(pending, answer))
        journal = (self._run.entry(change, JournalKind.FAILED, answer=answer),)
        yield Step(Writes(put=(after,), journal=journal))
        reason = "the API says that the profile does not exist"
        if CUSTOMER_HEADER in pending.request.headers:
            reason += "; the next plan creates it"
        result = self._result(
            pending, answer, outcome=Outcome.FAILED, reason=reason, failure=Failure.MISSING
        )
        return result, after

    def _restore(
        self,
        pending: PendingRequest,
        answer: ApiAnswer,
        *,
        outcome: Outcome,
        reason: str,
        failure: Failure,
    ) -> SettleSteps:
        """Records that nothing took effect (an assumption after a refusal: adapty-api 7.36): the record is
        as before, unless an earlier attempt of the same call may still land."""
        if answer.unknown_before:
            return (
                yield from self._uncertain(
                    pending, answer, outcome=outcome, reason=reason, failure=failure
                )
            )
        record = pending.record
        kind = JournalKind(outcome.value)
        entry = self._run.entry(pending.change, kind, answer=answer, address=record.address)
        in_store = self._store.record(record.address)
        if pending.request.method == "GET" or in_store is None:
            yield Step(Writes(journal=(entry,)))
        elif _exists_by_intent_only(record):
            yield Step(Writes(remove=(record.address,), journal=(entry,)))
        else:
            yield Step(Writes(put=(record,), journal=(entry,)))
        result = self._result(pending, answer, outcome=outcome, reason=reason, failure=failure)
        return result, record

    # --- uncertain ---------------------------------------------------------------------------

    def _uncertain(
        self,
        pending: PendingRequest,
        answer: ApiAnswer,
        *,
        outcome: Outcome,
        reason: str,
        failure: Failure,
    ) -> SettleSteps:
        """Lets the intent stand. Its quiet period begins now, because the request last left about now."""
        change, request, record = pending.change, pending.request, pending.record
        kind = JournalKind(outcome.value)
        journal = (self._run.entry(change, kind, answer=answer, address=record.address),)
        if request.method == "GET":
            yield Step(Writes(journal=journal))
            result = self._result(
                pending, answer, outcome=Outcome.FAILED, reason=reason, failure=failure
            )
            return result, record
        after = attempted(record, change, request=request, at=self._run.unix_time())
        yield Step(Writes(put=(after,), journal=journal))
        result = self._result(pending, answer, outcome=outcome, reason=reason, failure=failure)
        return result, after

    def _result(
        self,
        pending: PendingRequest,
        answer: ApiAnswer,
        *,
        outcome: Outcome,
        reason: str = "",
        failure: Failure | None = None,
    ) -> Result:
        has_failed = outcome in (Outcome.FAILED, Outcome.UNCERTAIN)
        return Result(
            pending.change.address,
            pending.change.action,
            outcome,
            reason,
            answer.request_id,
            failure=failure,
            unavailable=has_failed and answer.is_unavailable,
        )


def with_declarations(record: Record, change: Change) -> Record:
    """The record with labels, protection, lifetime and place of the document that a change comes from."""
    return record._replace(
        labels=change.labels,
        protect=change.protect,
        lifetime=change.lifetime,
        source=change.source or record.source,
        from_environment=_from_environment(record, change),
        forgotten=record.forgotten - {f.path for f in change.fields if f.after is not None},
    )


def _from_environment(record: Record, change: Change) -> tuple[FieldPath, ...]:
    """The fields whose values came from the environment: as declared, and those before as long as the record
    still holds their values."""
    held = set(record.unknown_write) | {
        path for path, fact in record.facts.items() if fact.known is Known.UNCERTAIN
    }
    return tuple(sorted({*change.from_environment, *held.intersection(record.from_environment)}))


def _for_answering_profile(record: Record, profile: Observed, *, now: float) -> Record:
    """The record to which a confirmed request is added.

    If another profile answered than the recorded one, every write-only field of it is unknown. The
    request went to the profile that answered, so its own fields are accepted after this.
    """
    if record.profile_id in (None, profile.profile_id):
        return record
    other, _ = observed(record, profile, now=now)
    return other


def _warnings(differences: list[FieldChange], *, is_other_profile: bool) -> tuple[str, ...]:
    warnings = [
        f"{difference.path}: the API holds another value than was sent"
        for difference in differences
    ]
    if is_other_profile:
        warnings.append(
            "the API knows the customer id under another profile_id: its write-only fields are "
            "unknown now and will be sent again"
        )
    return tuple(warnings)


def _exists_by_intent_only(record: Record) -> bool:
    """Whether the state has the record only because this change wrote its intent."""
    is_new = record.revision == 0 and not record.facts
    return is_new and record.presence is not Presence.PRESENT
