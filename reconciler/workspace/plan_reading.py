"""Reads the API before a plan: recorded profiles, and those that are declared and not recorded. An edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from reconciler.core.options import Options, ReadScope, Selection
from reconciler.core.profiles import Profile
from reconciler.core.records import Record
from reconciler.core.transitions import LookUp
from reconciler.core.written import WrittenProfiles
from reconciler.state.store import Store

if TYPE_CHECKING:
    from reconciler.workspace.refresh import Refresh

_PROFILES_AT_ONCE = 500


class PlanReads(NamedTuple):
    """What was read at the API for a plan."""

    observed: Mapping[str, Record] = {}
    """Records, by address, that count in the place of those of the state."""
    look_ups: Mapping[str, LookUp] = {}
    """Answers about declared profiles that the state does not record, by address."""
    options: Options = Options()
    """The options of the plan, which say what was read."""


def read_for_plan(
    scope: ReadScope | None,
    options: Options,
    *,
    store: Store,
    refresh: Callable[[], Refresh],
    profiles: Callable[[], Iterable[Profile]],
    written: Callable[[Options], WrittenProfiles],
    record: bool = False,
) -> PlanReads:
    """Reads the API as far as a plan asks for it: its ``scope`` is ``None`` for one that does not.

    ``profiles`` gives the declared ones, ``written`` those that a plan without reading would write; that also
    tells the groups of fields that are new on a recorded profile. With ``record``, the state records what it
    knows the fields of. ``refresh`` is called once something has to be read.

    Raises ReconcileError where a profile could not be read, Interrupted when asked to stop.
    """
    if scope is None:
        return PlanReads(options=options)
    observed: Mapping[str, Record] = {}
    if next(store.known_digests(), None) is not None:
        gathered = written(options)
        selection = options.selection
        if scope is ReadScope.CHANGED:
            selection = Selection(within=gathered.addresses)
        reads = refresh().before_plan(selection, also=gathered.with_new_fields, record=record)
        observed = reads.observed
        options = options._replace(read=reads.read, read_apart=reads.read_apart)
    options = options._replace(refreshed=scope)
    look_ups = _look_ups(profiles(), options, store=store, refresh=refresh)
    apart = sum(each.observed.read_apart for each in look_ups.values() if each.observed)
    options = options._replace(looked_up=len(look_ups), read_apart=options.read_apart + apart)
    return PlanReads(observed, look_ups, options)


def _look_ups(
    profiles: Iterable[Profile],
    options: Options,
    *,
    store: Store,
    refresh: Callable[[], Refresh],
) -> Mapping[str, LookUp]:
    """The answers of the API about the selected profiles that the state does not record."""
    unrecorded = []
    source = iter(profiles)
    while chunk := [*islice(source, _PROFILES_AT_ONCE)]:
        recorded = store.known_digests_of(
            [name for profile in chunk for name in (profile.address, *profile.previously)]
        )
        unrecorded += [
            profile
            for profile in chunk
            if recorded.keys().isdisjoint((profile.address, *profile.previously))
            and options.selection.takes(profile.address, profile.labels)
        ]
    return refresh().look_up(unrecorded) if unrecorded else {}
