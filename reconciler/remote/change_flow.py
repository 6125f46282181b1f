"""The flow of one change: is it stale, which requests does it take, and what does it forget?"""

from __future__ import annotations

from collections.abc import Generator
from typing import assert_never

from reconciler.core.endpoints import CUSTOMER_HEADER, PROFILE_HEADER, read_recorded, with_fallback
from reconciler.core.facets.registry import follow_up, need_of
from reconciler.core.outcomes import Failure, Halt, Outcome, Result
from reconciler.core.plan import Action, Change, Request
from reconciler.core.profiles import PROFILE_PREFIX
from reconciler.core.records import JournalKind, Presence, Record
from reconciler.core.renames import Identifiers, renamed
from reconciler.core.transitions import (
    Staleness,
    after_look,
    forgotten,
    is_link,
    is_others,
    observed,
    repeats,
    staleness,
    with_shown,
)
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.engine import Flow, Step, Writes
from reconciler.remote.followup import profile_of
from reconciler.remote.refresh import compare, observation
from reconciler.remote.request_flow import RequestFlow
from reconciler.remote.run import ApplyRun
from reconciler.remote.settlement import PendingRequest, Settlement, with_declarations
from reconciler.state.store import Store


class ChangeFlow:
    """Makes the flows of the changes of a run."""

    def __init__(self, run: ApplyRun, store: Store) -> None:
        self._run = run
        self._store = store
        self._settlement = Settlement(run, store)
        self._requests = RequestFlow(run, self._settlement)
        self._linked: set[str] | None = None

    def flow(self, change: Change, record: Record | None) -> Flow[Result]:
        """The life of a change, from its staleness to its outcome."""
        halt = self._run.halt()
        if halt is not None:
            return skipped(change, halt)
        verdict, reason = staleness(change, record, now=self._run.unix_time())
        if record is None and self._is_linked(change):
            verdict, reason = Staleness.STALE, "the profile was linked since the plan was made"
        match verdict:
            case Staleness.ALREADY:
                return Result(change.address, change.action, Outcome.ALREADY, reason)
            case Staleness.STALE:
                return _stale(change, reason)
            case Staleness.CURRENT:
                pass
            case _:
                assert_never(verdict)
        if change.action is Action.FORGET:
            return (yield from self._forget(change, record))
        if change.action is Action.RENAME and record is not None:
            record = yield from self._rename(change, record)
            if not change.requests:
                return Result(change.address, change.action, Outcome.RENAMED)
        return (yield from self._send_all(change, record))

    def _is_linked(self, change: Change) -> bool:
        """Whether a profile that its document names by profile id is recorded under a customer id."""
        if not change.address.startswith(PROFILE_PREFIX):
            return False
        if self._linked is None:
            self._linked = {
                f"{PROFILE_PREFIX}{record.profile_id}" for record in self._store.records()
            }
        return change.address in self._linked

    def _send_all(self, change: Change, record: Record | None) -> Flow[Result]:
        """Sends the requests of a change one after the other, then those of the change that has to follow."""
        before = self._run.without_expired_mark(record) if record else _new_record(change)
        warnings: tuple[str, ...] = ()
        result = Result(change.address, change.action, Outcome.ALREADY, "nothing had to be sent")
        is_sent = is_looked = exists = False
        for planned in change.requests:
            if planned.expects_none:
                look = yield from self._look(change, planned, record=before, is_new=record is None)
                if isinstance(look, Result):
                    return look
                is_looked, (before, exists) = True, look
                continue
            is_last = planned is change.requests[-1]
            # A link of a profile that exists is the link all the same.
            is_made = exists and not is_link(change, planned)
            request = with_fallback(planned) if is_made else planned
            need = need_of(request, before, now=self._run.unix_time())
            if repeats(before, request, is_needed=need.request is not None):
                read = yield from self._read_quiet(change, request, record=before)
                if isinstance(read, Result):
                    return _after_others(read) if is_sent else read
                before = read
                need = need_of(request, before, now=self._run.unix_time())
            warnings += need.warnings
            if need.refusal:
                return (
                    yield from self._refuse(change, before, reason=need.refusal, is_sent=is_sent)
                )
            if need.request is None:
                before = with_shown(before, request)
                if is_last:
                    before = with_declarations(forgotten(before, change), change)
                    journal = (self._run.entry(change, JournalKind.APPLIED),)
                    yield Step(Writes(put=(before,), journal=journal))
                continue
            pending = PendingRequest(change, need.request, before, is_last, is_looked)
            result, before = yield from self._requests.send(pending)
            if not result.outcome.is_applied:
                return _after_others(result) if is_sent else result
            is_sent = is_sent or request.method != "GET"
            warnings += result.warnings
        later = follow_up(change, before, options=self._run.context.request_options)
        if later is not None:
            pending = PendingRequest(later, later.requests[0], before, True)
            followed, _ = yield from self._requests.send(pending)
            warnings += followed.warnings
            if not followed.outcome.is_applied:
                result = followed
        return result._replace(action=change.action, warnings=warnings)

    def _look(
        self, change: Change, request: Request, *, record: Record, is_new: bool
    ) -> Generator[Step, ApiAnswer | None, Result | tuple[Record, bool]]:
        """Looks at a profile before it is written for the first time. Ends with the record and whether the
        profile exists; or with the result of the change, which is refused if the profile is not the recorded
        one. ``is_new`` says that the state has no record of it."""
        run = self._run
        if (halt := run.halt()) is not None:
            return skipped(change, halt)
        answer = yield from run.call(request)
        if answer.is_missing:
            return record, False
        if answer.result is not CallResult.DONE or answer.data is None:
            pending = PendingRequest(change, request, record, False)
            result, _ = yield from self._settlement.settle_without_look_up(pending, answer)
            return result
        if answer.data.app_id and run.application not in (None, answer.data.app_id):
            run.halted = Halt.APPLICATION
            return skipped(change, Halt.APPLICATION)
        profile = observation(answer.data)
        if is_new or is_others(record, profile):
            entry = run.entry(change, JournalKind.STALE, answer=answer)
            yield Step(Writes(journal=(entry,)))
            return _stale(change, _EXISTS)._replace(failure=Failure.EXISTS)
        return after_look(record, profile), True

    def _read_quiet(
        self, change: Change, request: Request, *, record: Record
    ) -> Generator[Step, ApiAnswer | None, Result | Record]:
        """Reads a profile once no earlier write of it can land late. Ends with the record; or with the result
        of the change, if the run ends before, or the read fails."""
        run = self._run
        yield from run.wait_quiet(record)
        if (halt := run.halt()) is not None:
            return skipped(change, halt)
        answer = yield from run.call(profile_of(request))
        if answer.result is not CallResult.DONE or answer.data is None:
            pending = PendingRequest(change, request, record, False)
            result, _ = yield from self._settlement.settle_without_look_up(pending, answer)
            return result
        quiet = record._replace(unknown_at=None, unknown_write={})
        return observed(quiet, observation(answer.data), now=run.unix_time())[0]

    def _refuse(
        self, change: Change, record: Record, *, reason: str, is_sent: bool
    ) -> Flow[Result]:
        """Ends a change at a request that must not be sent, given what the answers before it show."""
        yield Step(Writes(put=(record,), journal=(self._run.entry(change, JournalKind.STALE),)))
        result = _stale(change, reason)
        return _after_others(result) if is_sent else result

    def _rename(self, change: Change, record: Record) -> Generator[Step, ApiAnswer | None, Record]:
        """Gives a record its new address, without a request. Ends with the record."""
        former, is_last = record.address, not change.requests
        record = renamed(record, Identifiers.of_address(change.address))
        if is_last:
            record = with_declarations(forgotten(record, change), change)
        journal = (self._run.entry(change, JournalKind.APPLIED),) if is_last else ()
        remove = (former,) if former != change.address else ()
        yield Step(Writes(put=(record,), remove=remove, journal=journal), goes_on=not is_last)
        return record

    def _forget(self, change: Change, record: Record | None) -> Flow[Result]:
        """Makes the state forget fields, or a whole profile, without a request."""
        journal = (self._run.entry(change, JournalKind.APPLIED),)
        if record is not None and change.fields:
            after = with_declarations(forgotten(record, change), change)
            yield Step(Writes(put=(after,), journal=journal))
        elif record is not None and change.requests:
            return (yield from self._forget_after_look(change, record))
        elif record is not None:
            yield Step(Writes(remove=(change.address,), journal=journal))
        return Result(change.address, change.action, Outcome.FORGOTTEN)

    def _forget_after_look(self, change: Change, record: Record) -> Flow[Result]:
        """Drops the record of a profile that is gone, unless a read shows that it exists: an earlier write,
        which could land late until now, or somebody else has created it again."""
        yield from self._run.wait_quiet(record)
        if (halt := self._run.halt()) is not None:
            return skipped(change, halt)
        request = read_recorded(record)
        answer = yield from self._run.call(request)
        if answer.is_missing:
            entry = self._run.entry(change, JournalKind.APPLIED, answer=answer)
            yield Step(Writes(remove=(change.address,), journal=(entry,)))
            return Result(change.address, change.action, Outcome.FORGOTTEN)
        if answer.result is CallResult.DONE:
            comparison = compare(
                record._replace(unknown_at=None, unknown_write={}),
                answer,
                now=self._run.unix_time(),
            )
            entry = self._run.entry(change, JournalKind.STALE, answer=answer)
            yield Step(Writes(put=(comparison.after,), journal=(entry,)))
            return _stale(
                change,
                "it exists: it was made since, by an earlier request of unknown outcome or by others",
            )
        pending = PendingRequest(change, request, record, True)
        result, _ = yield from self._settlement.settle_without_look_up(pending, answer)
        return result


_EXISTS = (
    "it exists and is not recorded, and `on_existing: refuse` keeps it as it is: the command import "
    "records it, and a plan with --refresh shows what is there"
)


def skipped(change: Change, halt: Halt) -> Result:
    """The result of a change whose turn did not come before the run ended."""
    return Result(
        change.address,
        change.action,
        Outcome.SKIPPED,
        halt.value,
        failure=Failure.HALTED,
        unavailable=halt in (Halt.AWAY, Halt.LIMITED),
    )


def _stale(change: Change, reason: str) -> Result:
    return Result(change.address, change.action, Outcome.STALE, reason, failure=Failure.STALE)


def _after_others(result: Result) -> Result:
    """The result of a change of which an earlier request has taken effect."""
    return result._replace(reason=f"{result.reason}; the requests before it took effect")


def _new_record(change: Change) -> Record:
    """The record of a profile that the state does not know yet."""
    headers = change.requests[0].headers
    return Record(
        change.address,
        customer_user_id=headers.get(CUSTOMER_HEADER),
        profile_id=headers.get(PROFILE_HEADER),
        presence=Presence.UNCONFIRMED,
    )
