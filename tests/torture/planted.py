"""Faults put into the applier and the engine on purpose, each of which the simulation must find: a
simulation that finds nothing proves nothing until it finds these (reliability 1.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

from reconciler.core.outcomes import Failure, Outcome
from reconciler.core.plan import Action
from reconciler.core.records import JournalKind, Origin, Presence
from reconciler.core.transitions import (
    Observed,
    Staleness,
    accepted,
    attempted,
    contradicts,
    gone,
    observed,
    staleness,
)
from reconciler.remote import (
    applier,
    change_flow,
    client,
    engine,
    refresh,
    request_flow,
    settlement,
)
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.applier import Applier
from reconciler.remote.engine import Engine, Writes
from reconciler.remote.request_flow import RequestFlow
from reconciler.remote.run import ApplyRun
from reconciler.remote.settlement import Settlement
from tests.torture.planted_access import ACCESS_FAULTS
from tests.torture.planted_owners import OWNER_FAULTS
from tests.torture.simulated import Network

Fault = Callable[[], AbstractContextManager[Any]]
R = TypeVar("R")

_MODULES = (applier, change_flow, refresh, request_flow, settlement)
"""The modules that use the engine and the functions of the protocol."""

# --- in the engine -------------------------------------------------------------------------------


class _SendsFirst(Engine[R]):
    """Requests leave before their intents are durable."""

    def _take_steps(self, steps: Any) -> None:
        self._write = lambda writes: None  # type: ignore[method-assign]
        super()._take_steps(steps)
        del self._write
        self._write([step.writes for _, step in steps])


class _WritesNoIntents(Engine[R]):
    """Only what happened is recorded, not what is about to."""

    def _write(self, all_writes: Sequence[Writes]) -> None:
        super()._write([each for each in all_writes if not _is_intent(each)])


class _HoldsOutcomesBack(Engine[R]):
    """Outcomes are told at once, and written together with those of the next round."""

    _delayed: tuple[Writes, ...] = ()

    def run(self, flows: Any) -> Iterator[Any]:
        yield from super().run(flows)
        super()._write(self._delayed)

    def _write(self, all_writes: Sequence[Writes]) -> None:
        now = [*self._delayed, *filter(_is_intent, all_writes)]
        self._delayed = tuple(each for each in all_writes if not _is_intent(each))
        super()._write(now)


class _LosesPatience(Engine[R]):
    """A call that takes long counts as unknown, and is not waited for before the next one."""

    _looks = 0

    def _collect_answers(self) -> None:
        super()._collect_answers()
        self._looks += 1
        if self._looks % 4 == 0 and self._under_way:
            ticket = next(iter(self._under_way))
            flow, _ = self._under_way.pop(ticket)
            self._ready.append((flow, ApiAnswer(CallResult.UNKNOWN, message="slow")))


class _AdmitsTooMany(Engine[R]):
    """One profile more than there are workers is under way."""

    def __init__(self, *arguments: Any, in_flight: Callable[[], int], **options: Any) -> None:
        super().__init__(*arguments, in_flight=lambda: in_flight() + 1, **options)


def _is_intent(writes: Writes) -> bool:
    return any(entry.kind is JournalKind.INTENT for entry in writes.journal)


def _engine(other: Any) -> Fault:
    """``other`` in the place of the engine, wherever it is used."""
    return _function("Engine", other)


# --- in the applier ------------------------------------------------------------------------------


def _method(owner: type, name: str, other: Any) -> Fault:
    """``other`` in the place of a method. Its first argument is the method that it replaces."""
    real = getattr(owner, name)
    return lambda: patch.object(
        owner,
        name,
        lambda self, *arguments, **options: other(real, self, *arguments, **options),
    )


def _function(name: str, other: Any) -> Fault:
    """``other`` in the place of a function or class, in every module that uses it."""
    modules = [module for module in _MODULES if hasattr(module, name)]
    assert modules, name

    @contextmanager
    def fault() -> Iterator[None]:
        with ExitStack() as stack:
            for module in modules:
                stack.enter_context(patch.object(module, name, other))
            yield

    return fault


def _client(name: str, other: Any) -> Fault:
    """``other`` in the place of a function by which the client, and the network, decide."""
    return lambda: patch.object(client, name, other)


def _unknown_is_failed(real: Any, self: Any, pending: Any, answer: ApiAnswer) -> Any:
    if answer.result is CallResult.UNKNOWN:
        final = answer._replace(unknown_before=False)
        return self._restore(
            pending, final, outcome=Outcome.FAILED, reason="", failure=Failure.UNKNOWN
        )
    return real(self, pending, answer)


def _unknown_is_applied(real: Any, self: Any, pending: Any, answer: ApiAnswer) -> Any:
    if answer.result is not CallResult.UNKNOWN or pending.change.action is Action.DELETE:
        return (yield from real(self, pending, answer))
    after = accepted(pending.record, pending.change, request=pending.request)
    entry = self._run.entry(pending.change, JournalKind.APPLIED, answer=answer)
    yield engine.Step(Writes(put=(after,), journal=(entry,)))
    return self._result(pending, answer, outcome=Outcome.UPDATED), after


def _unknown_delete_is_done(real: Any, self: Any, pending: Any, answer: ApiAnswer) -> Any:
    if answer.result is CallResult.UNKNOWN and pending.change.action is Action.DELETE:
        return self._done(pending, answer)
    return real(self, pending, answer)


def _retry_leaves_no_mark(real: Any, self: Any, pending: Any, answer: ApiAnswer) -> Any:
    return real(self, pending, answer._replace(unknown_before=False))


def _success_clears_marks(real: Any, self: Any, pending: Any, answer: ApiAnswer) -> Any:
    record = pending.record._replace(unknown_at=None, unknown_write={})
    return real(self, pending._replace(record=record), answer)


def _refusal_undoes(real: Any, self: Any, pending: Any, answer: ApiAnswer, **more: Any) -> Any:
    return real(self, pending, answer._replace(unknown_before=False), **more)


def _posts_again(real: Any, self: Any, pending: Any, unknown: ApiAnswer, *writes: Writes) -> Any:
    answer = yield from self._run.call(pending.request, *writes)
    return pending, answer._replace(unknown_before=True)


def _missing_is_applied(real: Any, self: Any, pending: Any, answer: ApiAnswer) -> Any:
    if pending.change.action is not Action.UPDATE:
        return (yield from real(self, pending, answer))
    after = accepted(pending.record, pending.change, request=pending.request)
    entry = self._run.entry(pending.change, JournalKind.APPLIED, answer=answer)
    yield engine.Step(Writes(put=(after,), journal=(entry,)))
    return self._result(pending, answer, outcome=Outcome.UPDATED), after


def _other_marks_lost(record: Any, change: Any, request: Any, *, at: float) -> Any:
    return attempted(record._replace(unknown_write={}), change, request=request, at=at)


def _never_stale(change: Any, record: Any, *, now: float) -> Any:
    stand, why = staleness(change, record, now=now)
    return (Staleness.CURRENT, "") if stand is Staleness.STALE else (stand, why)


def _same_profile(record: Any, profile: Observed, **named: Any) -> Any:
    same = record._replace(profile_id=profile.profile_id, timestamp=None)
    after, differences = observed(same, profile, **named)
    return after, differences


def _adopts_as_its_own(record: Any, profile: Observed, **named: Any) -> Any:
    after, differences = observed(record, profile, **named)
    return after._replace(origin=Origin.CREATED), differences


def _gone_without_marks(record: Any) -> Any:
    return gone(record)._replace(unknown_at=None, unknown_write={}, deleting=False)


def _drops_at_once(real: Any, self: Any, change: Any, record: Any, *, entry: Any) -> Any:
    yield engine.Step(Writes(remove=(change.address,), journal=(entry,)))


def _contradicts_unless_deleted(record: Any, change: Any, *, request: Any) -> bool:
    return change.action is not Action.DELETE and contradicts(record, change, request=request)


@contextmanager
def _deletes_and_drops_at_once() -> Iterator[None]:
    """Neither the deletion nor the end of its record waits for earlier writes. The end alone may: a deletion
    names the profile id, so that one that lands late meets no other profile."""
    with (
        _method(Settlement, "_drop", _drops_at_once)(),
        _function("contradicts", _contradicts_unless_deleted)(),
    ):
        yield


def _settled_by_a_look(record: Any, profile: Observed, **named: Any) -> Any:
    return observed(record._replace(unknown_at=None, unknown_write={}), profile, **named)


def _older_is_ignored(record: Any, profile: Observed, **named: Any) -> Any:
    same_profile = record.profile_id in (None, profile.profile_id)
    if same_profile and (profile.timestamp or 0) < (record.timestamp or 0):
        return record._replace(presence=Presence.PRESENT), []
    return observed(record, profile, **named)


def _newest_time_is_kept(record: Any, profile: Observed, **named: Any) -> Any:
    after, differences = observed(record, profile, **named)
    times = [time for time in (record.timestamp, after.timestamp) if time is not None]
    if times and len(times) == 2 and times[1] < times[0]:
        return after._replace(timestamp=times[0], facts=record.facts), differences
    return after, differences


def _unreadable_is_missing(real: Any, self: Any, request: Any, answer: ApiAnswer) -> Any:
    return answer._replace(error_code="profile_does_not_exist", is_legible=True)
    yield


def _limited_is_failed(real: Any, self: Any, pending: Any, answer: ApiAnswer) -> Any:
    if answer.status != 429:
        return (yield from real(self, pending, answer))
    return (
        yield from self._restore(
            pending, answer, outcome=Outcome.FAILED, reason="", failure=Failure.RATE_LIMITED
        )
    )


def _limits_take_tries(real: Any, self: Any, call: Any, answer: ApiAnswer) -> Any:
    tries = call.attempts
    waits = real(self, call, answer)
    call.attempts = tries
    return waits and tries < 4


FAULTS: dict[str, Fault] = {
    "a request leaves before its intent": _engine(_SendsFirst),
    "no intents": _engine(_WritesNoIntents),
    "outcomes held back": _engine(_HoldsOutcomesBack),
    "a slow call is not waited for": _engine(_LosesPatience),
    "one worker too many": _engine(_AdmitsTooMany),
    "unknown is failed": _method(Settlement, "settle", _unknown_is_failed),
    "unknown is applied": _method(Settlement, "settle", _unknown_is_applied),
    "an unknown delete is done": _method(Settlement, "settle", _unknown_delete_is_done),
    "a refusal undoes earlier attempts": _method(Settlement, "_restore", _refusal_undoes),
    "an unknown POST is sent again": _method(RequestFlow, "_look_up_and_post", _posts_again),
    "missing is applied": _method(Settlement, "_missing", _missing_is_applied),
    "no quiet period": _function("contradicts", lambda *_, **__: False),
    "a successful retry leaves no mark": _method(Settlement, "_done", _retry_leaves_no_mark),
    "success clears earlier marks": _method(Settlement, "_done", _success_clears_marks),
    "marks of other fields are lost": _function("attempted", _other_marks_lost),
    "marks of what is gone are lost": _function("gone", _gone_without_marks),
    "a deleted profile is dropped at once": _deletes_and_drops_at_once,
    "a fallback forgets the first attempt": _method(
        Settlement, "with_unknown_mark", lambda real, self, s, _: s.record
    ),
    "a look settles what may still land": _function("observed", _settled_by_a_look),
    "nothing is stale": _function("staleness", _never_stale),
    "recovery begins no quiet period": _method(Applier, "_recover", lambda real, self: None),
    "another profile_id goes unnoticed": _function("observed", _same_profile),
    "an answer from before a jump of the clock is ignored": _function(
        "observed", _older_is_ignored
    ),
    "the facts of an answer from before a jump are not taken": _function(
        "observed", _newest_time_is_kept
    ),
    "an unreadable 404 is missing": _method(
        RequestFlow, "_confirm_missing", _unreadable_is_missing
    ),
    "a hung attempt leaves no mark": _client("after_unknown", lambda answer: answer),
    "a hung POST is tried again by the client": _client(
        "may_be_repeated",
        lambda request, answer: answer.result in (CallResult.UNKNOWN, CallResult.NOT_SENT),
    ),
    "a 429 takes a try": _method(Network, "_waits_again", _limits_take_tries),
    "a limited request fails when the run ends": _method(
        Settlement, "_refused", _limited_is_failed
    ),
    "whatever is there counts as created": _function("observed", _adopts_as_its_own),
    "nothing halts": _method(ApplyRun, "halt", lambda real, self: None),
    **OWNER_FAULTS,
    **ACCESS_FAULTS,
}
