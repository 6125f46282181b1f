"""The plans of a simulation, made as the workspace makes them: of files and state, of what the API says, and
of what has expired."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reconciler.core.identity import IdentityIndex
from reconciler.core.options import Count, Options, ReadScope, RequestOptions
from reconciler.core.outcomes import DriftKind
from reconciler.core.plan import Action, Change, Hazard, Mode
from reconciler.core.planner import Planner, PlanningTotals
from reconciler.core.records import Presence, Record
from reconciler.core.removal import existing_hazards, expired, make_removal
from reconciler.core.transitions import LookUp, without_expired_mark
from reconciler.errors import Diagnostic
from reconciler.remote.refresh import ReadBack, observation, read_back
from tests.torture.simulated import CONTRACT, QUIET, Spec, declared, forget, slot_of

if TYPE_CHECKING:
    from tests.torture.simulation import Simulation


class PlanRefused(Exception):
    """The errors that prevent a plan."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(diagnostics)
        self.rules = {each.rule for each in diagnostics}


_MANY = 50_000
_planned: dict[Any, tuple[Change | None, PlanningTotals]] = {}
"""Planned changes by all that they depend on: few differ from one schedule to the next."""


@dataclass(frozen=True, slots=True)
class SimulatedPlan:
    """A plan, and what the oracle needs to know of it."""

    number: int
    changes: list[Change]
    ids: Mapping[int, str | None]
    """The profile ids that the state recorded."""
    lineage: str | None
    at: float
    """When it was made, by our clock."""
    include_adopted: bool = False
    hazards: tuple[Hazard, ...] = ()
    most_deletions: int | None = None
    lifetimes: Mapping[int, str] = field(default_factory=dict)
    """Of a sweep: the recorded lifetimes."""
    declared: Mapping[int, Collection[str]] = field(default_factory=dict)
    """The fields that files declare of each profile."""


def make_room(most: int = _MANY) -> None:
    """Lets go of what was made for earlier schedules, if it is more than so much."""
    if len(_planned) > most:
        _planned.clear()
        forget()


# --- of files and state --------------------------------------------------------------------------


def plan_of(
    world: Simulation,
    *,
    prune: bool,
    include_adopted: bool = False,
    reassert: bool = False,
    refresh: bool = False,
    cap: int | None = None,
) -> SimulatedPlan | None:
    """A plan as of now; ``None`` if the API could not be read for it. ``cap`` is the most that it may
    delete."""
    read = _read_for_plan(world) if refresh else _Read({}, {})
    if read is None:
        return None
    options = Options(
        prune=prune,
        include_adopted=include_adopted,
        reassert=reassert,
        refreshed=ReadScope.ALL if refresh else None,
        now=world.wall(),
        requests=RequestOptions(refuse_existing=world.refuses),
    )
    totals, changes, ids = PlanningTotals(), [], {}
    for slot in range(world.slots):
        spec = world.desired.get(slot)
        records = [read.records.get(each.address, each) for each in world.store.of_slot(slot)]
        if records:
            ids[slot] = records[0].profile_id
        if spec is None and not (records and prune):
            continue
        look_up = read.look_ups.get(slot)
        try:
            change, counted = _plan_slot(slot, spec, records, look_up=look_up, options=options)
        except PlanRefused as refused:
            if spec is None or refused.rules != {"access/bought"}:
                raise
            spec = world.give_up_levels(slot, spec)
            change, counted = _plan_slot(slot, spec, records, look_up=look_up, options=options)
        if cap is not None or world.refuses:
            totals.add(counted)
        if change is None:
            continue
        revision = records[0].revision if records else None
        if change.revision != revision:
            change = change._replace(revision=revision)
        if spec is not None and change.action is Action.DELETE:
            world.oracle.blame(f"u{slot}: declared, and planned for deletion")
        if slot in read.look_ups:
            _check_words(world, slot, change, look_up=read.look_ups[slot])
        changes.append(change)
    hazards: tuple[Hazard, ...] = ()
    most = None
    if world.refuses:
        hazards = tuple(existing_hazards(totals.existing))
    if cap is not None:
        planner = Planner(CONTRACT, options._replace(max_delete=Count(cap)))
        planner.totals.add(totals)
        hazards = planner.hazards(len(changes), is_present=lambda file: True)
        most = min(cap, totals.present - 1)
    return _numbered(
        world,
        changes,
        ids=ids,
        declared={slot: declared(slot, spec).values for slot, spec in world.desired.items()},
        include_adopted=include_adopted,
        hazards=hazards,
        most_deletions=most,
    )


def _numbered(world: Simulation, changes: list[Change], **more: Any) -> SimulatedPlan:
    plan = SimulatedPlan(
        world.oracle.new_plan(),
        changes,
        lineage=world.store.header().lineage,
        at=world.wall(),
        **more,
    )
    world.plans.append(plan)
    return plan


def _plan_slot(
    slot: int,
    spec: Spec | None,
    records: Sequence[Record],
    *,
    look_up: LookUp | None,
    options: Options,
) -> tuple[Change | None, PlanningTotals]:
    if look_up is not None:
        return _planned_anew(slot, spec, records, look_up=look_up, options=options)
    ways = (
        *(options.prune, options.include_adopted, options.reassert, options.refreshed),
        options.requests.refuse_existing,
    )
    has_access = (spec is not None and spec.levels) or any(
        record.seen or record.granted for record in records
    )
    now = options.now if has_access else None
    key = (slot, spec, ways, now, *map(_all_that_plans_see, records))
    if key not in _planned:
        _planned[key] = _planned_anew(slot, spec, records, look_up=None, options=options)
    return _planned[key]


def _planned_anew(
    slot: int,
    spec: Spec | None,
    records: Sequence[Record],
    *,
    look_up: LookUp | None,
    options: Options,
) -> tuple[Change | None, PlanningTotals]:
    """The change of one profile, as `reconciler.core.planner.make_plan` makes it."""
    profile = None if spec is None else declared(slot, spec)
    recorded = {record.address: record for record in records}
    identities = IdentityIndex.of(records)
    if profile is not None and profile.address not in recorded:
        identities.claim([(profile.customer_user_id, profile.profile_id)])
    planner = Planner(CONTRACT, options, identities=identities)
    changes = []
    addresses = {*recorded} if profile is None else {*recorded, profile.address}
    for address in sorted(addresses):
        change = planner.plan(
            profile if profile is not None and profile.address == address else None,
            recorded.get(address),
            look_up=look_up if profile is not None and profile.address == address else None,
        )
        if change is not None:
            changes.append(change)
    if planner.totals.diagnostics:
        raise PlanRefused(planner.totals.diagnostics)
    deletions = [change for change in changes if change.action is Action.DELETE]
    return (deletions or changes or [None])[0], planner.totals


def _all_that_plans_see(record: Record) -> tuple[object, ...]:
    return (
        record.address,
        record.customer_user_id,
        record.profile_id,
        record.presence,
        record.origin,
        record.protect,
        record.unknown_at is None,
        record.deleting,
        frozenset(record.facts.items()),
        record.forgotten,
        record.unmanaged,
        tuple(record.seen.items()),
        record.granted,
        record.timestamp is None,
    )


def _check_words(world: Simulation, slot: int, change: Change, *, look_up: LookUp) -> None:
    """A plan that looked says what the API said."""
    said = Action.CREATE if look_up.observed is None else Action.ADOPT
    if change.action in (Action.CREATE, Action.ADOPT) and change.action is not said:
        world.oracle.blame(f"u{slot}: planned {change.action}, and the API said {said}")


# --- of what the API says ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    records: Mapping[str, Record]
    """Records with what the API says of them, by address."""
    look_ups: Mapping[int, LookUp]
    """What the API says of declared profiles that are not recorded."""


def _read_for_plan(world: Simulation) -> _Read | None:
    """What ``plan --refresh`` reads; ``None`` if something could not be read. Nothing is recorded."""
    recorded = list(world.store.records())
    unrecorded = []
    for slot, spec in world.desired.items():
        profile = declared(slot, spec)
        if not world.store.of_slot(slot):
            by_customer = None if profile.profile_id else profile.customer_user_id
            unrecorded.append(
                Record(
                    profile.address,
                    by_customer,
                    profile.profile_id,
                    presence=Presence.UNCONFIRMED,
                )
            )
    records = read(world, recorded)
    looks = read(world, unrecorded) if records is not None else None
    if records is None or looks is None:
        return None
    look_ups = {}
    for each in looks:
        data = each.answer.data
        look_ups[slot_of(each.before.address)] = LookUp(None if data is None else observation(data))
    return _Read({each.after.address: each.after for each in records}, look_ups)


def read(
    world: Simulation, records: list[Record], *, recording: bool = False
) -> list[ReadBack] | None:
    """Reads profiles, as `reconciler.workspace.refresh` does it; ``None`` if one could not be read."""
    if not records:
        return []
    cut_off = world.store.interrupted_addresses()

    def quiet(record: Record) -> Record:
        if record.address in cut_off:
            return record
        return without_expired_mark(record, now=world.wall(), quiet_period=QUIET)

    world.begins()
    world.oracle.on_start(None, workers=2)
    store: Any = world.store
    out = []
    for each in read_back(
        records,
        world.network,
        application=world.store.header().application,
        writer=store if recording else None,
        without_expired_mark=quiet,
        now=world.wall,
        stop=lambda: False,
        in_flight=lambda: 2,
    ):
        world.note(f"read {each.drift.address} {each.drift.kind}")
        out.append(each)
    world.over()
    is_whole = len(out) == len(records) and all(
        each.drift.kind is not DriftKind.UNREAD for each in out
    )
    return out if is_whole else None


# --- of what has expired -------------------------------------------------------------------------


def sweep_of(world: Simulation) -> SimulatedPlan | None:
    """The plan of a sweep, as `reconciler.workspace.plans` makes it; ``None`` if the API could not be
    read."""
    chosen = {
        record.address: (record, reason)
        for record, reason in expired(world.store.records(), now=world.wall())
    }
    looks = read(world, [record for record, _ in chosen.values() if record.profile_id is None])
    if looks is None:
        return None
    for each in looks:
        record, reason = chosen[each.before.address]
        if each.answer.data is not None and each.after.created_at is None:
            del chosen[record.address]
        else:
            chosen[record.address] = record._replace(profile_id=each.after.profile_id), reason
    plan = make_removal(
        chosen.values(), header=world.store.header(), environment="local", mode=Mode.SWEEP
    )
    swept = {slot_of(record.address): record for record, _ in chosen.values()}
    return _numbered(
        world,
        list(plan.changes),
        ids={slot: record.profile_id for slot, record in swept.items()},
        lifetimes={slot: record.lifetime or "" for slot, record in swept.items()},
    )
