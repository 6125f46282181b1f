"""The flow of one request: its quiet period, its look-up, its intent, its call and its fallback."""

from __future__ import annotations

from collections.abc import Generator

from reconciler.core.endpoints import is_about_profile, without_fallback
from reconciler.core.facets.registry import counts_each, need_of
from reconciler.core.plan import Request
from reconciler.core.records import JournalKind
from reconciler.core.transitions import (
    Observed,
    after_look,
    attempted,
    contradicts,
    creates,
    is_link,
    is_others,
    observed,
    unproven_creation,
)
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.engine import Step, Writes
from reconciler.remote.followup import after_look_up, look_up, profile_of
from reconciler.remote.refresh import observation
from reconciler.remote.run import ApplyRun, CallSteps
from reconciler.remote.settlement import PendingRequest, Settlement, SettleSteps


class RequestFlow:
    """Sends the requests of changes, and has `Settlement` settle them."""

    def __init__(self, run: ApplyRun, settlement: Settlement) -> None:
        self._run = run
        self._settlement = settlement

    def send(self, pending: PendingRequest) -> SettleSteps:
        """Sends a request, then its fallback if the profile does not exist, and settles the outcome."""
        run, settlement = self._run, self._settlement
        if contradicts(pending.record, pending.change, request=pending.request):
            yield from run.wait_quiet(pending.record)
            if not run.is_stopping:
                quiet = pending.record._replace(unknown_at=None, unknown_write={})
                pending = pending._replace(record=quiet)
        is_link_again = pending.record.linking and is_link(pending.change, pending.request)
        if is_link_again and run.halt() is None:
            answer = yield from run.call(look_up(pending.request))
            if answer.result is not CallResult.DONE and not answer.is_missing:
                return (yield from settlement.settle_without_look_up(pending, answer))
            request = after_look_up(pending.request, answer)
            if request is None:
                return (yield from settlement.settle(pending, answer))
            pending = pending._replace(request=request)
        is_of_profile = is_about_profile(pending.request) and not pending.is_looked
        is_unproven = is_of_profile and unproven_creation(pending.record, pending.change)
        if is_unproven and run.halt() is None:
            answer = yield from run.call(look_up(pending.request))
            if answer.data is not None:
                record = after_look(pending.record, observation(answer.data))
                pending = pending._replace(record=record)
            elif answer.is_missing:
                # A PATCH would say no more, and could meet a profile that others make meanwhile.
                pending = pending._replace(request=without_fallback(pending.request))
            else:
                return (yield from settlement.settle_without_look_up(pending, answer))
        answer = yield from self._attempt(pending)
        if answer.is_missing and pending.request.fallback is not None:
            record = settlement.with_unknown_mark(pending, answer)
            pending = pending._replace(request=without_fallback(pending.request), record=record)
            answer = yield from self._attempt(pending)
        if answer.result is CallResult.UNKNOWN and pending.request.method == "POST":
            pending, answer = yield from self._look_up_and_post(pending, answer)
        return (yield from settlement.settle(pending, answer))

    def _attempt(self, pending: PendingRequest) -> CallSteps:
        """Makes one call. Its intent is durable before it."""
        run, request = self._run, pending.request
        if (halt := run.halt()) is not None:
            return ApiAnswer(CallResult.NOT_SENT, message=halt.value, attempts=0)
        if request.method == "GET":
            return (yield from run.call(request))
        answer = yield from run.call(request, self._intent(pending))
        if answer.may_be_missing:
            answer = yield from self._confirm_missing(request, answer)
        return answer

    def _intent(self, pending: PendingRequest) -> Writes:
        """What is written durably before a request leaves."""
        run, change, request, record = self._run, *pending[:3]
        intent = attempted(record, change, request=request, at=run.unix_time())
        entry = run.entry(change, JournalKind.INTENT, request=request, address=record.address)
        return Writes(put=(intent,), journal=(entry,))

    def _confirm_missing(self, request: Request, answer: ApiAnswer) -> CallSteps:
        """Asks by a read whether a 404 without a legible body means that the profile does not exist: a
        gateway that knows no such path says 404 as well."""
        if self._run.halt() is not None:
            return answer
        profile = yield from self._run.call(profile_of(request))
        if not profile.is_missing:
            return answer
        return answer._replace(error_code=profile.error_code, is_legible=True)

    def _look_up_and_post(
        self, pending: PendingRequest, unknown: ApiAnswer
    ) -> Generator[Step, ApiAnswer | None, tuple[PendingRequest, ApiAnswer]]:
        """Looks up a POST of unknown outcome before it sends it again (adapty-api 6.3). Ends with the request
        to be settled, and its answer."""
        run = self._run
        if run.halt() is not None:
            return pending, unknown
        profile = yield from run.call(look_up(pending.request))
        if profile.result is not CallResult.DONE and not profile.is_missing:
            return pending, unknown
        request = after_look_up(pending.request, profile, now=run.unix_time())
        if request is not None and counts_each(request):
            return (yield from self._wait_and_post(pending, unknown))
        writes = Writes()
        if profile.data is not None and creates(pending.change, pending.request):
            created = self._after_creation(pending, observation(profile.data))
            if created is None:
                return pending, unknown
            pending = created
            writes = self._intent(pending)
        if request is None:
            return pending, profile._replace(unknown_before=True)
        if run.halt() is not None:
            return pending, unknown
        answer = yield from run.call(request, writes)
        if answer.result is CallResult.NOT_SENT:
            return pending, unknown
        return pending, answer._replace(unknown_before=True)

    def _wait_and_post(
        self, pending: PendingRequest, unknown: ApiAnswer
    ) -> Generator[Step, ApiAnswer | None, tuple[PendingRequest, ApiAnswer]]:
        """Sends a request of unknown outcome again of which each counts, unless a read shows that it has
        taken effect after all, once it can no longer do so."""
        run, change, request = self._run, pending.change, pending.request
        record = attempted(pending.record, change, request=request, at=run.unix_time())
        if run.quiet_seconds_left(record) > 0:  # meanwhile another profile may be under way
            entry = run.entry(change, JournalKind.UNCERTAIN, answer=unknown)
            yield Step(Writes(put=(record,), journal=(entry,)))
            yield from run.wait_quiet(record)
        if run.halt() is not None:
            return pending, unknown
        profile = yield from run.call(look_up(request))
        if profile.result is not CallResult.DONE:
            return pending, unknown
        if profile.data is None:
            return pending, unknown
        quiet = pending.record._replace(unknown_at=None, unknown_write={})
        present, _ = observed(quiet, observation(profile.data), now=run.unix_time())
        need = need_of(request, present, now=run.unix_time())
        if need.refusal or run.halt() is not None:
            return pending, unknown
        if need.request is None:
            return pending, profile
        pending = pending._replace(request=need.request, record=present)
        answer = yield from run.call(need.request, self._intent(pending))
        if answer.result is CallResult.NOT_SENT:
            return pending, unknown
        return pending, answer

    def _after_creation(self, pending: PendingRequest, profile: Observed) -> PendingRequest | None:
        """The request that makes a profile, once a look found one: whatever follows is an update of it, and
        no proof that our POST made it. ``None`` if the profile is somebody else's and must not be written."""
        change, request = pending.change, pending.request
        intent = attempted(pending.record, change, request=request, at=self._run.unix_time())
        if change.refuses_existing and is_others(intent, profile):
            return None
        return pending._replace(
            request=request._replace(method="PATCH"), record=after_look(intent, profile)
        )
