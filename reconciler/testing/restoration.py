"""What a profile was before a test, and the profile that makes it so again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import replace

from reconciler.core.contract import Contract
from reconciler.core.facets.registry import (
    decided_paths,
    facet_of,
    is_readable,
    is_shown,
    last_shown,
)
from reconciler.core.profiles import Profile
from reconciler.core.records import Known, Record
from reconciler.core.transitions import Observed
from reconciler.testing.handles import PriorState
from reconciler.values import FieldPath, Scalar


def decided_fields(profile: Profile, record: Record | None) -> Set[FieldPath]:
    """The fields of a profile whose facet decides what happens to them by what the API shows: those that it
    declares, and those that it owes to a request of ours."""
    return {*decided_paths(profile.values), *(record.granted if record is not None else ())}


def noted(prior: PriorState, profile: Profile, *, record: Record | None) -> PriorState:
    """The state before a test with those fields that ``profile`` is the first to declare, as ``record`` says
    they are."""
    if record is None:
        return prior
    paths = decided_fields(profile, record) - prior.decided.keys()
    values = {path: _present(record, path) for path in paths}
    return replace(prior, decided={**prior.decided, **values}) if values else prior


def with_own(
    prior: PriorState, profile: Profile, *, observe: Callable[[], Observed | None]
) -> PriorState:
    """The state before a test with those fields that take a read of their own and that ``profile`` is the
    first to declare. ``observe`` reads the profile; it is called where there are any."""
    paths = {path for path in profile.values if is_readable(path) and not is_shown(path)}
    paths -= prior.own.keys()
    if not paths or not prior.existed or (seen := observe()) is None:
        return prior
    return replace(prior, own={**prior.own, **{path: seen.values.get(path) for path in paths}})


def former_profile(
    profile: Profile, prior: PriorState, *, record: Record | None, contract: Contract, now: float
) -> Profile:
    """The declaration by which a profile is again as it was before a test; ``record`` is that of now."""
    before = prior.record
    known: dict[FieldPath, Scalar | None]
    if prior.shown is not None:
        # Nobody knows the values from before that the API does not return.
        known = {path: value for path, value in prior.shown.items() if is_shown(path)}
        unknown = {path for path in profile.values if not is_shown(path)} - prior.own.keys()
    else:
        assert before is not None
        known = {
            path: fact.value
            for path, fact in before.facts.items()
            if fact.known in (Known.VALUE, Known.CLEARED)
        }
        unknown = set()
    for path in {*decided_paths(dict.fromkeys(contract.ordered(known))), *prior.decided}:
        was = prior.decided[path] if path in prior.decided else known[path]
        known.pop(path, None)
        if path in prior.decided or prior.shown is None:
            for value in facet_of(path).taken_back(was, _present(record, path), now=now):
                known[path] = value
    for path, was in prior.own.items():
        for value in facet_of(path).taken_back(was, _present(record, path), now=now):
            known[path] = value
    never = {
        path
        for path in (record.facts if record else ())
        if known.get(path) is None and not facet_of(path).can_clear(path, known, contract=contract)
    }
    return profile._replace(
        values={path: known[path] for path in contract.ordered(known.keys() - never)},
        forget=frozenset(unknown | never),
        protect=before.protect if before else profile.protect,
        labels=before.labels if before else profile.labels,
        lifetime=before.lifetime if before else None,
        platform=before.platform if before else profile.platform,
        source=(before.source if before else None) or profile.source,
        lines={},
    )


def unmanaged_before(prior: PriorState) -> frozenset[FieldPath]:
    """The fields of a recorded profile that a test declared, and that nobody managed before."""
    record = prior.record
    if record is None:
        return frozenset()
    declared = prior.decided.keys() | prior.own.keys()
    return frozenset(declared - record.facts.keys() - record.granted)


def _present(record: Record | None, path: FieldPath) -> Scalar | None:
    fact = None if record is None else last_shown(record, path)
    return None if fact is None else fact.value
