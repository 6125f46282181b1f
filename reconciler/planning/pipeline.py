"""The declared profiles and the recorded ones → changes, address by address.

Profiles whose wanted digest equals the known digest of their record are in sync: they are counted and
never decoded. The rest is planned in batches, by whichever worker is free, and comes back in the order
of addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from reconciler.core.contract_files import load_contract
from reconciler.core.facets.registry import depends_on_time
from reconciler.core.identity import IdentityIndex
from reconciler.core.options import Options
from reconciler.core.plan import Accumulator, Change
from reconciler.core.plan_format import PlanLines
from reconciler.core.planner import Planner, PlanningTotals
from reconciler.core.profiles import PROFILE_PREFIX
from reconciler.core.records import Record
from reconciler.core.transitions import LookUp
from reconciler.errors import Interrupted
from reconciler.planning.index import Index, IndexedProfile
from reconciler.planning.limits import Limits, ProgressEvent, ProgressPhase
from reconciler.planning.workers import WorkerPool
from reconciler.state.store import Store, Stored

_A = TypeVar("_A", bound=Accumulator)
_AFTER_ANONYMOUS = PROFILE_PREFIX[:-1] + chr(ord(PROFILE_PREFIX[-1]) + 1)
"""Greater than every address of a profile without a customer id, and smaller than the next other one."""
_ADDRESSES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class PlannedBatch(Generic[_A]):
    """The plan of some addresses in a row."""

    lines: PlanLines
    changes: Sequence[Change] | None
    """The changes on the lines, if they were kept."""
    totals: PlanningTotals
    accumulator: _A
    """Sums over the changes."""
    in_sync: Sequence[bool]
    """Which of the addresses need no change."""


class PlanPipeline:
    """Plans the profiles of an index over the records of a store."""

    def __init__(
        self,
        index: Index,
        store: Store,
        *,
        options: Options,
        dialect: str,
        plan_all: bool = False,
        is_trial: bool = False,
        observed: Mapping[str, Record] | None = None,
        look_ups: Mapping[str, LookUp] | None = None,
        workers: WorkerPool | None = None,
        limits: Limits | None = None,
        on_progress: Callable[[ProgressEvent], None] = lambda event: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """With ``plan_all``, profiles that are in sync are planned too. Records that were ``observed`` at
        the API count instead of those of the store; the index learns nothing from a plan with some, nor
        from a trial."""
        self._index = index
        self._store = store
        self._options = options
        self._dialect = dialect
        self._observed = observed or {}
        self._look_ups = look_ups or {}
        self._plan_all = plan_all
        self._learns = not (is_trial or observed or look_ups)
        self._workers = workers or WorkerPool()
        self._limits = limits or Limits()
        self._on_progress = on_progress
        self._stop = stop
        self._documents = index.count()
        self._changes = 0
        self._done = 0

    def run(self, accumulator: _A) -> Iterator[PlannedBatch[_A]]:
        """All changes, in batches. Each batch carries an accumulator like the given one, which was given
        the changes of that batch.

        Raises Interrupted when asked to stop.
        """
        state = self._store.stamp() or ""
        if self._plan_all:
            identities = self._identities(pending_only=False)
            pairs = _pairs(self._index, self._store, in_sync_too=True)
            yield from self._run(pairs, identities, accumulator=accumulator, notes=None)
            return
        if state and self._index.pending_holds_for(state):
            yield from self._run_pending(state, accumulator)
            return
        index = self._index
        identities = self._identities(pending_only=False)
        pairs = _pairs(index, self._store, in_sync_too=False)
        if not self._learns:
            yield from self._run(pairs, identities, accumulator=accumulator, notes=None)
            return
        index.begin_pending(anew=True)
        yield from self._run(pairs, identities, accumulator=accumulator, notes=self._note_pending)
        index.end_pending(state if self._store.stamp() == state else "")

    def _run_pending(self, state: str, accumulator: _A) -> Iterator[PlannedBatch[_A]]:
        """Neither files nor state changed elsewhere, so the other addresses are in sync."""
        index = self._index
        addresses, declared = index.count_pending()
        yield _in_sync(self._documents - declared, accumulator)
        self._done += self._documents - declared
        if not addresses:
            return
        identities = self._identities(pending_only=True)
        pairs = self._pending_pairs()
        if not self._learns:
            yield from self._run(pairs, identities, accumulator=accumulator, notes=None)
            return
        index.begin_pending(anew=False)
        yield from self._run(pairs, identities, accumulator=accumulator, notes=self._note_in_sync)
        index.end_pending(state if self._store.stamp() == state else "")

    def _run(
        self,
        pairs: Iterator[_Pair | None],
        identities: IdentityIndex | None,
        *,
        accumulator: _A,
        notes: Callable[[Sequence[_Case], Sequence[bool]], None] | None,
    ) -> Iterator[PlannedBatch[_A]]:
        context = _BatchContext(
            self._dialect,
            self._options,
            identities=identities,
            accumulator=accumulator.empty(),
        )
        # An identity index may hold as many records as the state, which nobody is to carry.
        workers = self._workers if identities is None else WorkerPool()
        task: Callable[..., PlannedBatch[_A]] = plan_batch
        local: Callable[..., PlannedBatch[_A]] = self._plan_locally
        for (in_sync, cases), batch in workers.map_ordered(
            task,
            self._batches(pairs),
            arguments=lambda batch: (batch[1], context),
            cost=lambda batch: len(batch[1]) / self._limits.profiles_per_process,
            local=local,
        ):
            batch.totals.add_in_sync(in_sync)
            if notes is not None:
                notes(cases, batch.in_sync)
            yield batch
            self._changes += sum(batch.lines.actions.values())
            self._done += in_sync + len(cases)
            self._on_progress(ProgressEvent(ProgressPhase.PLANNING, self._done, self._documents))
            if self._stop():
                raise Interrupted("interrupted; nothing was planned")

    def _plan_locally(self, cases: Sequence[_Case], context: _BatchContext[_A]) -> PlannedBatch[_A]:
        return plan_batch(cases, context, keep=self._changes <= self._limits.changes_held)

    def _batches(self, pairs: Iterator[_Pair | None]) -> Iterator[tuple[int, list[_Case]]]:
        """The addresses to plan, each batch with the number of profiles in sync among them."""
        for in_sync, some in _grouped(pairs, size=self._limits.profiles_per_batch):
            profiles = self._index.indexed_profiles(
                [pair.profile for pair in some if pair.profile is not None]
            )
            stored = self._store.stored([pair.address for pair in some if pair.is_recorded])
            yield (
                in_sync,
                [
                    _Case(
                        pair.address,
                        None if pair.profile is None else profiles[pair.profile],
                        stored.get(pair.address),
                        self._observed.get(pair.address),
                        None if pair.is_recorded else self._look_ups.get(pair.address),
                    )
                    for pair in some
                ],
            )

    def _note_pending(self, cases: Sequence[_Case], in_sync: Sequence[bool]) -> None:
        self._index.put_pending(
            case.address for case, synced in zip(cases, in_sync, strict=True) if not synced
        )

    def _note_in_sync(self, cases: Sequence[_Case], in_sync: Sequence[bool]) -> None:
        self._index.remove_pending(
            case.address for case, synced in zip(cases, in_sync, strict=True) if synced
        )

    def _pending_pairs(self) -> Iterator[_Pair | None]:
        """The pending addresses, ``None`` for those that turn out to be in sync."""
        rows = self._index.pending()
        while chunk := [*islice(rows, _ADDRESSES_AT_ONCE)]:
            known = self._store.known_digests_of([address for address, _, _ in chunk])
            for address, profile, wanted in chunk:
                is_recorded = address in known
                if profile is None and not is_recorded:
                    continue
                if wanted is not None and wanted == known.get(address):
                    yield None
                else:
                    yield _Pair(address, profile, is_recorded)

    def _identities(self, *, pending_only: bool) -> IdentityIndex | None:
        """The records that profiles may have under another address than their own. With
        ``pending_only``, profiles that are in sync are known to be recorded under their address."""
        index, store = self._index, self._store
        anonymous = [
            address for address, _ in store.known_digests(PROFILE_PREFIX, _AFTER_ANONYMOUS)
        ]
        named = [*_unrecorded(index.identifiers(with_profile_id=True, pending=pending_only), store)]
        formers = [former for _, _, formers in index.previously() for former in formers]
        if not anonymous and not named and not formers:
            return None
        records = store.records() if named else store.records_of(anonymous).values()
        observed = self._observed
        identities = IdentityIndex.of(
            (observed.get(record.address, record) for record in records),
            previous={**(former := store.records_of(formers)), **_overlaid(observed, former)},
        )
        identities.claim(
            (None if address.startswith(PROFILE_PREFIX) else address, profile_id)
            for address, profile_id in _unrecorded(
                index.identifiers(with_profile_id=False, pending=pending_only), store
            )
        )
        return identities


def _overlaid(observed: Mapping[str, Record], known: Iterable[str]) -> dict[str, Record]:
    """Those of some records that were observed, by address."""
    return {address: observed[address] for address in known if address in observed}


def _in_sync(count: int, accumulator: _A) -> PlannedBatch[_A]:
    """The plan of profiles that need no change."""
    totals = PlanningTotals()
    totals.add_in_sync(count)
    return PlannedBatch(PlanLines.of([]), [], totals, accumulator.empty(), [])


# --- a batch -------------------------------------------------------------------------------------


class _BatchContext(Generic[_A]):
    """The options that all addresses are planned with. Any executor can carry it, as it can cases and their
    plans."""

    __slots__ = ("accumulator", "dialect", "identities", "options")

    def __init__(
        self,
        dialect: str,
        options: Options,
        *,
        identities: IdentityIndex | None,
        accumulator: _A,
    ) -> None:
        self.dialect = dialect
        self.options = options
        self.identities = identities
        self.accumulator = accumulator


class _Case(NamedTuple):
    """An address to plan, with what is kept of it."""

    address: str
    declared: IndexedProfile | None
    stored: Stored | None
    observed: Record | None
    """The record of a recorded profile as the API returned it, if it was asked."""
    look_up: LookUp | None
    """The answer of the API about a profile that is not recorded, if it was asked."""


def plan_batch(
    cases: Sequence[_Case], context: _BatchContext[_A], *, keep: bool = False
) -> PlannedBatch[_A]:
    """The plan of some addresses. The changes themselves, which are most of what there would be to carry,
    are part of it only with ``keep``."""
    planner = Planner(
        load_contract(context.dialect), context.options, identities=context.identities
    )
    totals, accumulator = planner.totals, context.accumulator.empty()
    changes: list[Change] = []
    in_sync: list[bool] = []
    # One step for all cases after the other: a processor that does one thing at a time takes a twelfth less.
    profiles = [None if case.declared is None else case.declared.profile() for case in cases]
    for case, profile in zip(cases, profiles, strict=True):
        record = case.observed
        if record is None and case.stored is not None:
            record = case.stored.record()
        unchanged = totals.unchanged
        change = planner.plan(profile, record, look_up=case.look_up)
        is_settled = profile is None or not depends_on_time(profile.values)
        in_sync.append(totals.unchanged > unchanged and is_settled)
        if change is not None:
            changes.append(change)
    for change in changes:
        accumulator.add(change)
    return PlannedBatch(
        PlanLines.of(changes), changes if keep else None, totals, accumulator, in_sync
    )


# --- pairs ---------------------------------------------------------------------------------------


class _Pair(NamedTuple):
    """An address, with its profile in the files and its record in the state."""

    address: str
    profile: int | None
    """The id of the profile in the index."""
    is_recorded: bool


def _pairs(index: Index, store: Store, *, in_sync_too: bool) -> Iterator[_Pair | None]:
    """All addresses that are declared or recorded, in their order. ``None`` stands for one that is in sync,
    unless those are wanted too."""
    profiles, records = index.wanted(), store.known_digests()
    profile, record = next(profiles, None), next(records, None)
    while profile is not None or record is not None:
        if record is None or (profile is not None and profile[0] < record[0]):
            assert profile is not None
            address, number, _ = profile
            yield _Pair(address, number, is_recorded=False)
            profile = next(profiles, None)
        elif profile is None or record[0] < profile[0]:
            yield _Pair(record[0], None, is_recorded=True)
            record = next(records, None)
        else:
            address, number, wanted = profile
            if wanted is not None and wanted == record[1] and not in_sync_too:
                yield None
            else:
                yield _Pair(address, number, is_recorded=True)
            profile, record = next(profiles, None), next(records, None)


def _grouped(pairs: Iterable[_Pair | None], *, size: int) -> Iterator[tuple[int, list[_Pair]]]:
    """Groups of pairs to plan, each with the number of those in sync among them."""
    group: list[_Pair] = []
    in_sync = 0
    for pair in pairs:
        if pair is None:
            in_sync += 1
            continue
        group.append(pair)
        if len(group) >= size:
            yield in_sync, group
            group, in_sync = [], 0
    yield in_sync, group


def _unrecorded(
    profiles: Iterator[tuple[str, str | None]], store: Store
) -> Iterator[tuple[str, str | None]]:
    """The profiles that the state has no record of under their address."""
    while chunk := [*islice(profiles, _ADDRESSES_AT_ONCE)]:
        recorded = store.known_digests_of([address for address, _ in chunk])
        yield from (profile for profile in chunk if profile[0] not in recorded)
