"""Faults in what is done about access levels and whatever else belongs to a profile, put into the program on
purpose (see `tests.torture.planted`). Each one has a rule of the oracle that must find it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from reconciler.core import transitions
from reconciler.core.access import AccessStep, step
from reconciler.core.facets import access_levels
from reconciler.core.facets.access_levels import AccessLevels
from reconciler.core.facets.facet import Decision, Need
from reconciler.core.facets.refund_saver import RefundSaver
from reconciler.core.facets.registry import facet_of_request
from reconciler.core.outcomes import Outcome
from reconciler.core.records import JournalKind
from reconciler.core.requests import RequestBuilder
from reconciler.core.transitions import accepted, after_look
from reconciler.remote import change_flow, engine
from reconciler.remote.answers import CallResult
from reconciler.remote.change_flow import ChangeFlow
from reconciler.remote.engine import Writes
from reconciler.remote.refresh import observation
from reconciler.remote.request_flow import RequestFlow
from reconciler.remote.settlement import Settlement

Fault = Callable[[], AbstractContextManager[Any]]


def _method(owner: type, name: str, other: Any) -> Fault:
    """``other`` in the place of a method. Its first argument is the method that it replaces."""
    real = getattr(owner, name)
    return lambda: patch.object(
        owner, name, lambda self, *values, **named: other(real, self, *values, **named)
    )


def _both(*faults: Fault) -> Fault:
    @contextmanager
    def fault() -> Iterator[None]:
        with ExitStack() as stack:
            for each in faults:
                stack.enter_context(each())
            yield

    return fault


def _step(other: Any) -> Fault:
    """``other`` in the place of the way from one access to another, which is its last argument."""
    return lambda: patch.object(
        access_levels,
        "step",
        lambda present, wanted, now: other(present, wanted, now, step(present, wanted, now=now)),
    )


# --- grants --------------------------------------------------------------------------------------


def _sends_again(real: Any, self: Any, pending: Any, unknown: Any) -> Any:
    if facet_of_request(pending.request) is None:
        return (yield from real(self, pending, unknown))
    answer = yield from self._run.call(pending.request)
    return pending, answer


def _posts_at_once(real: Any, self: Any, pending: Any, unknown: Any) -> Any:
    answer = yield from self._run.call(pending.request)
    return pending, answer


def _done_whatever_happened(real: Any, self: Any, pending: Any, answer: Any) -> Any:
    if answer.result is not CallResult.UNKNOWN or facet_of_request(pending.request) is None:
        return (yield from real(self, pending, answer))
    after = accepted(pending.record, pending.change, request=pending.request)
    entry = self._run.entry(pending.change, JournalKind.APPLIED, answer=answer)
    yield engine.Step(Writes(put=(after,), journal=(entry,)))
    return self._result(pending, answer, outcome=Outcome.UPDATED), after


def _own_first(real: Any, self: Any, *values: Any, **named: Any) -> Any:
    requests = real(self, *values, **named)
    return tuple(sorted(requests, key=lambda request: facet_of_request(request) is None))


def _always_needed(real: Any, self: Any, request: Any, record: Any, *, now: float) -> Need:
    return Need(access_levels._timed(request, now=now))


# --- revokes -------------------------------------------------------------------------------------


def _takes_purchases(real: Any, self: Any, request: Any, record: Any, *, now: float) -> Need:
    need: Need = real(self, request, record, now=now)
    return Need(request) if need.refusal else need


def _ends_levels_of_others(real: Any, self: Any, path: Any, fact: Any, **situation: Any) -> Any:
    record = situation["record"]
    if record is not None:
        situation["record"] = record._replace(granted=record.granted | {path})
    return real(self, path, fact, **situation)


def _leaves_unseen(real: Any, self: Any, path: Any, fact: Any, **situation: Any) -> Any:
    if path not in situation["profile"].values and (fact is None or fact.attempt is None):
        return Decision()
    return real(self, path, fact, **situation)


# --- the flow ------------------------------------------------------------------------------------


def _waits_with_an_intent(real: Any, self: Any, pending: Any, unknown: Any) -> Any:
    """Nothing is recorded before the wait, during which another profile may be under way."""
    flow = real(self, pending, unknown)
    answer = None
    while True:
        try:
            taken = flow.send(answer)
        except StopIteration as ended:
            return ended.value
        if taken.request is None and not taken.wait:
            continue
        answer = yield taken


def _looks_and_writes(
    real: Any, self: Any, change: Any, request: Any, *, record: Any, is_new: bool
) -> Any:
    answer = yield from self._run.call(request)
    if answer.data is None:
        return record, False
    return after_look(record, observation(answer.data)), True


ACCESS_FAULTS: dict[str, Fault] = {
    "a grant is sent again without a look": _method(RequestFlow, "_look_up_and_post", _sends_again),
    "a grant that may still land is not waited for": _both(
        _method(RequestFlow, "_wait_and_post", _posts_at_once),
        lambda: patch.object(change_flow, "repeats", lambda *_, **__: False),
    ),
    "a grant that may still land is not waited for by the next run": lambda: patch.object(
        change_flow, "repeats", lambda *_, **__: False
    ),
    "a grant counts as done whatever happened": _method(
        Settlement, "settle", _done_whatever_happened
    ),
    "access is granted before the profile exists": _method(RequestBuilder, "requests", _own_first),
    "access is granted whether it is needed or not": _method(AccessLevels, "need", _always_needed),
    "access for a span is granted while it lasts": _step(
        lambda present, wanted, now, way: (
            AccessStep.GRANT if wanted is not None and wanted.span else way
        )
    ),
    "access is granted until a time that has passed": _step(
        lambda present, wanted, now, way: (
            AccessStep.GRANT if wanted is not None and wanted.is_over(now) else way
        )
    ),
    "a grant is relied on to shorten": _step(
        lambda present, wanted, now, way: AccessStep.GRANT if way is AccessStep.SHORTEN else way
    ),
    "a level that was granted is not ended": lambda: patch.object(
        transitions, "granted_by", lambda request: ()
    ),
    "a revoke of unknown outcome is left": _method(AccessLevels, "_decide_unseen", _leaves_unseen),
    "a revoke comes without a look": _method(
        AccessLevels, "takes_away", lambda real, self, request: False
    ),
    "a purchase is revoked": _method(AccessLevels, "need", _takes_purchases),
    "a level of others is ended": _method(AccessLevels, "decide", _ends_levels_of_others),
    "an intent stays open during a wait": _method(
        RequestFlow, "_wait_and_post", _waits_with_an_intent
    ),
    "the app's default counts as a value": _method(
        RefundSaver, "value_after", lambda real, self, fact, shown: shown
    ),
    "an existing profile is written although it is refused": _method(
        ChangeFlow, "_look", _looks_and_writes
    ),
}

ACCESS_FOUND_BY: dict[str, str] = {
    "a grant is sent again without a look": "granted again without a look",
    "a grant that may still land is not waited for": "granted twice",
    "a grant that may still land is not waited for by the next run": "granted twice",
    "a grant counts as done whatever happened": "the remote never said so",
    "access is granted before the profile exists": "before its profile is known to exist",
    "access is granted whether it is needed or not": "granted twice",
    "access for a span is granted while it lasts": "granted twice",
    "access is granted until a time that has passed": "granted until a time that has passed",
    "a grant is relied on to shorten": "is desired",
    "a level that was granted is not ended": "and not desired",
    "a revoke of unknown outcome is left": "and not desired",
    "a revoke comes without a look": "was bought, and is cut off",
    "a purchase is revoked": "revoked, and it was shown as bought",
    "a level of others is ended": "revoked, and neither ours nor declared",
    "an intent stays open during a wait": "intents with",
    "the app's default counts as a value": "not converged",
    "an existing profile is written although it is refused": "written, and it was to be refused",
}
"""The rule that finds each of them: words of its violation."""
