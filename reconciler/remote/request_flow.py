"""The flow of one request: its quiet period, its look-up, its intent, its call and its fallback."""

from __future__ import annotations

from reconciler.core.endpoints import is_about_profile
from reconciler.core.plan import Request
from reconciler.core.records import JournalKind
from reconciler.core.transitions import (
    after_look,
    attempted,
    contradicts,
    is_link,
    unproven_creation,
)
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.engine import Writes
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
        is_of_profile = is_about_profile(pending.request)
        is_unproven = is_of_profile and unproven_creation(pending.record, pending.change)
        if is_unproven and run.halt() is None:
            answer = yield from run.call(look_up(pending.request))
            if answer.data is not None:
                record = after_look(pending.record, observation(answer.data))
                pending = pending._replace(record=record)
            elif not answer.is_missing:
                return (yield from settlement.settle_without_look_up(pending, answer))
        answer = yield from self._attempt(pending)
        fallback = pending.request.fallback
        if answer.is_missing and fallback is not None:
            body = pending.request.body or {}
            request = pending.request._replace(method=fallback, body=body, fallback=None)
            record = settlement.with_unknown_mark(pending, answer)
            pending = pending._replace(request=request, record=record)
            answer = yield from self._attempt(pending)
        if answer.result is CallResult.UNKNOWN and pending.request.method == "POST":
            answer = yield from self._look_up_and_post(pending, answer)
        return (yield from settlement.settle(pending, answer))

    def _attempt(self, pending: PendingRequest) -> CallSteps:
        """Makes one call. Its intent is durable before it."""
        run, record, request = self._run, pending.record, pending.request
        if (halt := run.halt()) is not None:
            return ApiAnswer(CallResult.NOT_SENT, message=halt.value, attempts=0)
        if request.method == "GET":
            return (yield from run.call(request))
        intent = attempted(record, pending.change, request=request, at=run.unix_time())
        entry = run.entry(
            pending.change, JournalKind.INTENT, request=request, address=record.address
        )
        answer = yield from run.call(request, Writes(put=(intent,), journal=(entry,)))
        if answer.may_be_missing:
            answer = yield from self._confirm_missing(request, answer)
        return answer

    def _confirm_missing(self, request: Request, answer: ApiAnswer) -> CallSteps:
        """Asks by a read whether a 404 without a legible body means that the profile does not exist: a
        gateway that knows no such path says 404 as well."""
        if self._run.halt() is not None:
            return answer
        profile = yield from self._run.call(profile_of(request))
        if not profile.is_missing:
            return answer
        return answer._replace(error_code=profile.error_code, is_legible=True)

    def _look_up_and_post(self, pending: PendingRequest, unknown: ApiAnswer) -> CallSteps:
        """Looks up a POST of unknown outcome before it sends it again (adapty-api 6.3)."""
        run = self._run
        if run.halt() is not None:
            return unknown
        profile = yield from run.call(look_up(pending.request))
        if profile.result is not CallResult.DONE and not profile.is_missing:
            return unknown
        request = after_look_up(pending.request, profile)
        if request is None:
            return profile._replace(unknown_before=True)
        if run.halt() is not None:
            return unknown
        answer = yield from run.call(request)
        if answer.result is CallResult.NOT_SENT:
            return unknown
        return answer._replace(unknown_before=True)
