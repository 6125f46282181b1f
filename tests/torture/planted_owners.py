"""Faults in what is known of owners, and in deletions, put into the program on purpose (see
`tests.torture.planted`). Each one has a rule of the oracle that must find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from reconciler.core import planner, record_codec, removal, transitions
from reconciler.core.endpoints import PATH, headers
from reconciler.core.identity import IdentityIndex
from reconciler.core.lifetimes import expiry
from reconciler.core.options import Count
from reconciler.core.outcomes import Outcome
from reconciler.core.plan import Action, HazardKind
from reconciler.core.planner import Planner
from reconciler.core.records import JournalKind, Origin, Record
from reconciler.core.transitions import LookUp, Observed, observed
from reconciler.remote import change_flow, engine, refresh, request_flow, settlement, transport
from reconciler.remote.engine import Writes
from reconciler.remote.request_flow import RequestFlow
from reconciler.remote.settlement import Settlement
from tests.torture.simulated import SimulatedStore

Fault = Callable[[], AbstractContextManager[Any]]

_MODULES = (change_flow, refresh, request_flow, settlement)
_removal = removal.removal


def _method(owner: type, name: str, other: Any) -> Fault:
    """``other`` in the place of a method. Its first argument is the method that it replaces."""
    real = getattr(owner, name)
    return lambda: patch.object(
        owner, name, lambda self, *values, **named: other(real, self, *values, **named)
    )


def _function(name: str, other: Any, *modules: Any) -> Fault:
    """``other`` in the place of a function, in some modules, or in all of `remote` that use it."""

    @contextmanager
    def fault() -> Iterator[None]:
        with ExitStack() as stack:
            for module in modules or [each for each in _MODULES if hasattr(each, name)]:
                stack.enter_context(patch.object(module, name, other))
            yield

    return fault


# --- whose it is ---------------------------------------------------------------------------------


def _keeps_its_origin(record: Record, profile: Observed, **named: Any) -> Any:
    after, differences = observed(record, profile, **named)
    return after._replace(origin=record.origin, created_at=record.created_at), differences


def _created_whatever_may_land(record: Record, change: Any, *, request: Any, at: float) -> Record:
    return record._replace(
        origin=Origin.CREATED, created_at=at, lifetime=change.lifetime, profile_id=None
    )


def _look_is_no_proof(record: Record, profile: Observed) -> Record:
    return record._replace(origin=Origin.ADOPTED, created_at=None, profile_id=profile.profile_id)


def _leaves_adopted(real: Any, self: Any, profile: Any, record: Any, **options: Any) -> Any:
    if profile is not None and record is not None and record.origin is Origin.ADOPTED:
        return None
    return real(self, profile, record, **options)


# --- what is deleted -----------------------------------------------------------------------------


def _prunes_adopted(real: Any, self: Any, record: Record) -> Any:
    self._options = self._options._replace(include_adopted=True)
    return real(self, record)


def _deletes_by_customer(record: Record, reason: str = "", **options: Any) -> Any:
    change = _removal(record, **options)
    if change.action is not Action.DELETE:
        return change
    named = headers(record.customer_user_id, None) or headers(None, record.profile_id)
    (request,) = change.requests
    return change._replace(requests=(request._replace(path=PATH, headers=named),))


def _believes_the_plan(record: Record, reason: str = "", **options: Any) -> Any:
    return _removal(record)


def _one_more(real: Any, self: Any, count: int, recorded: int) -> bool:
    return bool(real(self, count - 1, recorded))


def _allows_everything(real: Any, self: Any, changes: int) -> Any:
    return [each for each in real(self, changes) if each.kind != HazardKind.DELETE_EVERYTHING]


def _unprotected(record: Record, change: Any) -> Record:
    return settlement_with_declarations(record, change)._replace(protect=False)


settlement_with_declarations = settlement.with_declarations


def _drops_what_is_uncertain(
    real: Any, self: Any, pending: Any, answer: Any, **options: Any
) -> Any:
    if pending.change.action is not Action.DELETE:
        return (yield from real(self, pending, answer, **options))
    entry = self._run.entry(pending.change, JournalKind.UNCERTAIN, answer=answer)
    yield engine.Step(Writes(remove=(pending.change.address,), journal=(entry,)))
    return self._result(pending, answer, **options), pending.record


def _sweeps_adopted(records: Iterable[Record], *, now: float) -> Iterator[tuple[Record, str]]:
    for record in records:
        if record.lifetime is not None and not record.protect:
            end = expiry(record.lifetime, record.created_at or now - 3600)
            if end is not None and end <= now:
                yield record, "expired"


OWNER_FAULTS: dict[str, Fault] = {
    "what others made in its place keeps its origin": _function("observed", _keeps_its_origin),
    "a look proves any profile": _function("is_proven_ours", lambda *_: True, transitions),
    "a look proves nothing": _function("after_look", _look_is_no_proof),
    "an earlier PATCH may prove a creation": _function(
        "_creation", _created_whatever_may_land, transitions
    ),
    "what a look after a POST finds counts as created": _method(
        RequestFlow, "_after_creation", lambda real, self, pending, profile: pending
    ),
    "a POST made whatever it confirms": _function("is_creation", lambda *_, **__: True),
    "a POST made nothing of what it confirms": _function("is_creation", lambda *_, **__: False),
    "a state from before says that all is ours": _function(
        "_origin", lambda data: Origin(data.get("origin", "created")), record_codec
    ),
    "an adoption is reported as a creation": lambda: patch.object(
        Outcome,
        "of_applied",
        lambda action, origin: (
            Outcome.CREATED
            if action in (Action.CREATE, Action.ADOPT)
            else Outcome.UPDATED
            if action is Action.UPDATE
            else Outcome.LINKED
        ),
    ),
    "an update is reported as a link": lambda: patch.object(
        Outcome,
        "of_applied",
        lambda action, origin: (
            Outcome.UPDATED
            if action is Action.LINK
            else Outcome.LINKED
            if action is Action.UPDATE
            else Outcome.CREATED
            if origin is Origin.CREATED
            else Outcome.ADOPTED
        ),
    ),
    "an adopted profile is left as it is": _method(Planner, "plan", _leaves_adopted),
    "a look-up changes no plan": lambda: patch.object(LookUp, "record", lambda *_: None),
    "a prune takes what was adopted": _method(Planner, "_plan_orphan", _prunes_adopted),
    "a deletion names the customer id": _function("removal", _deletes_by_customer, planner),
    "a plan that looked is believed for ever": _function("removal", _believes_the_plan, planner),
    "a profile that is linked counts as an orphan": _method(
        IdentityIndex, "claim", lambda real, self, unrecorded: None
    ),
    "a cap allows one more": _method(Count, "allows", _one_more),
    "a prune may delete everything": _method(Planner, "_caps", _allows_everything),
    "apply heeds no cap": lambda: patch(
        "tests.torture.simulation.check_plan", lambda *_, **__: None
    ),
    "protection is not recorded": _function("with_declarations", _unprotected),
    "an uncertain deletion is dropped": _method(Settlement, "_uncertain", _drops_what_is_uncertain),
    "a DELETE shares a connection": lambda: patch.object(
        transport, "has_own_connection", lambda request: False
    ),
    "revisions repeat after a restore": _method(
        SimulatedStore,
        "_renumbered",
        lambda real, self, record, serial: transitions.put_back(record),
    ),
    "a backup still proves creations": lambda: patch(
        "tests.torture.simulated.put_back", lambda record: record
    ),
    "a sweep comes before the time": lambda: patch.object(removal, "expiry", lambda *_: 0.0),
    "a sweep takes what was adopted": lambda: patch("tests.torture.plans.expired", _sweeps_adopted),
}

FOUND_BY: dict[str, str] = {
    "a deleted profile is dropped at once": "dropped while an earlier write may still land",
    "what others made in its place keeps its origin": "recorded as created, and others made it",
    "a look proves any profile": "recorded as created, and others made it",
    "a look proves nothing": "recorded as adopted, and we made it",
    "an earlier PATCH may prove a creation": "recorded as created, and others made it",
    "what a look after a POST finds counts as created": "created, and others made it",
    "a POST made whatever it confirms": "created, and others made it",
    "a POST made nothing of what it confirms": "reported adopted, and we made it",
    "a state from before says that all is ours": "its origin is created, created at None",
    "an adoption is reported as a creation": "reported created, and others made it",
    "an update is reported as a link": "reported",
    "an adopted profile is left as it is": "is desired",
    "a look-up changes no plan": "planned create, and the API said adopt",
    "a prune takes what was adopted": "a profile is deleted that we did not create",
    "a deletion names the customer id": "deleted by its customer id",
    "a plan that looked is believed for ever": "dropped before its deletion is known",
    "a profile that is linked counts as an orphan": "declared, and planned for deletion",
    "a cap allows one more": "deleted above the cap",
    "a prune may delete everything": "deleted above the cap",
    "apply heeds no cap": "deleted above the cap",
    "protection is not recorded": "deleted, and protected",
    "an uncertain deletion is dropped": "dropped before its deletion is known",
    "a DELETE shares a connection": "reported deleted, and it is there",
    "revisions repeat after a restore": "deleted by a plan that is stale",
    "a backup still proves creations": "created, and others made it",
    "a sweep comes before the time": "swept before its time",
    "a sweep takes what was adopted": "a profile is deleted that we did not create",
}
"""The rule that finds each of them first: words of its violation."""
