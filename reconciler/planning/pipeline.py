"""What the files declare and what the state records, address by address, to changes.

What was found to be as recorded, and of which neither side moved, is not looked into. The rest is planned
in batches, here and by whoever else there is, and comes back in the order of addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby, islice
from typing import Generic, NamedTuple, TypeVar

from reconciler.core.contract_files import load_contract
from reconciler.core.digests import known_digest, wanted_digest
from reconciler.core.identity import IdentityIndex
from reconciler.core.options import Options
from reconciler.core.plan import Accumulator, Change
from reconciler.core.plan_format import MOST_HELD, PlanLines, line_of
from reconciler.core.planner import Planner, PlanningTotals
from reconciler.core.profiles import PROFILE_PREFIX
from reconciler.core.records import Record
from reconciler.errors import Interrupted
from reconciler.planning.index import Entry, Index
from reconciler.planning.packed import Packed
from reconciler.planning.workers import Hands, Told
from reconciler.state.store import Store, Stored

_A = TypeVar("_A", bound=Accumulator)

AT_ONCE = 150
"""Profiles that are looked into together."""
_WORTH_A_PROCESS = 5_000
"""Profiles to plan from which on another process saves more time than it takes to start."""
_AFTER_STRANGERS = PROFILE_PREFIX[:-1] + chr(ord(PROFILE_PREFIX[-1]) + 1)
_STATE = "state"
"""The note of the stamp of the state that was gone through."""


@dataclass(frozen=True, slots=True)
class Planned(Generic[_A]):
    """What came of some addresses in a row."""

    lines: PlanLines
    changes: Sequence[Change] | None
    """Those on the lines, if they were kept."""
    found: PlanningTotals
    settled: Sequence[bool]
    """Which of the addresses are as recorded."""
    accumulator: _A
    """Sums over the changes."""


class Planning:
    """Plans the profiles of an index over the records of a store."""

    def __init__(
        self,
        index: Index,
        store: Store,
        options: Options,
        *,
        dialect: str,
        whole: bool = False,
        seen: Mapping[str, Record] | None = None,
        hands: Hands | None = None,
        tell: Callable[[Told], None] = lambda told: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """A ``whole`` plan looks at every profile, also at those that are as recorded. Records that were
        ``seen`` at the API count instead of those of the store."""
        self._index = index
        self._store = store
        self._options = options
        self._dialect = dialect
        self._seen = seen or {}
        self._whole = whole or bool(seen)
        self._hands = hands or Hands()
        self._tell = tell
        self._stop = stop
        self._documents = index.count()
        self._changes = 0

    def run(self, accumulator: _A) -> Iterator[Planned[_A]]:
        """All changes, in batches. Each batch carries an accumulator like the given one, which was given the
        changes of that batch.

        Raises Interrupted when asked to stop.
        """
        index, store, whole = self._index, self._store, self._whole
        stamp = store.stamp()
        moved = stamp is None or index.note(_STATE) != str(stamp)
        if not whole and not moved and self._is_settled():
            yield _settled(self._documents, accumulator)
            return
        index.put_note(_STATE, "")  # until all is gone through
        links = self._links(moved=moved)
        if whole or moved:
            index.clear_others()
            pairs = _pairs(index, store, whole=whole)
        else:
            yield _settled(index.count_settled(), accumulator)
            pairs = _unsettled_pairs(index, store)
        given = _Given(self._dialect, self._options, links, whole, accumulator.empty())
        yield from self._planned(pairs, given)
        trusted = not moved or (
            stamp is not None and max(stamp[1], stamp[2]) < index.trusted_before()
        )
        index.put_note(_STATE, str(stamp) if trusted and store.stamp() == stamp else "")

    def _is_settled(self) -> bool:
        index = self._index
        return index.count_settled() == self._documents and next(index.others(), None) is None

    def _planned(self, pairs: Iterator[_Pair | None], given: _Given[_A]) -> Iterator[Planned[_A]]:
        done = 0
        # Of links there may be as many as records; nobody is to carry them to and fro.
        hands = self._hands if given.links is None else Hands()
        task: Callable[..., Planned[_A]] = _planned
        local: Callable[..., Planned[_A]] = self._planned_here
        for (count, cases), planned in hands.results(
            task,
            self._batches(pairs),
            lambda batch: (batch[1], given),
            worth=lambda batch: len(batch[1]) / _WORTH_A_PROCESS,
            here=local,
        ):
            planned.found.add_in_sync(count)
            self._note(cases, planned.settled)
            yield planned
            self._changes += sum(planned.lines.actions.values())
            done += count + len(cases)
            self._tell(Told("planning", done, self._documents))
            if self._stop():
                raise Interrupted("interrupted; nothing was planned")

    def _planned_here(self, cases: Sequence[_Case], given: _Given[_A]) -> Planned[_A]:
        return _planned(cases, given, keep=self._changes <= MOST_HELD)

    def _batches(self, pairs: Iterator[_Pair | None]) -> Iterator[tuple[int, list[_Case]]]:
        """What is to be looked into, with the number of settled profiles among it."""
        for count, some in _grouped(pairs):
            entries = self._index.entries([pair.profile for pair in some if pair.profile])
            stored = self._store.stored([pair.address for pair in some if pair.recorded])
            yield (
                count,
                [
                    _Case(
                        pair,
                        entries[pair.profile] if pair.profile else None,
                        stored.get(pair.address),
                        self._seen.get(pair.address),
                    )
                    for pair in some
                ],
            )

    def _note(self, cases: Sequence[_Case], are_settled: Sequence[bool]) -> None:
        """Keeps which profiles are as recorded."""
        settled: list[tuple[str, int, int]] = []
        others: list[str] = []
        unsettled: list[str] = []
        for (pair, *_), is_settled in zip(cases, are_settled, strict=True):
            if pair.is_settled:
                continue
            if is_settled and pair.recorded is not None:
                settled.append((pair.address, *pair.recorded))
                continue
            if pair.settled is not None or pair.profile is None:
                unsettled.append(pair.address)
            if pair.recorded is not None:
                others.append(pair.address)
        self._index.unsettle(unsettled)
        self._index.settle(settled)
        self._index.put_others(others)

    def _links(self, *, moved: bool) -> IdentityIndex | None:
        """The records that profiles may be under another address than their own."""
        index, store = self._index, self._store
        strangers = [
            address for address, _, _ in store.fingerprints(PROFILE_PREFIX, _AFTER_STRANGERS)
        ]
        # What was found settled is recorded, as long as the state is the one that it was found in.
        named = [*_unrecorded(index.identifiers(named=True, settled=moved), store)]
        if not strangers and not named:
            return None
        links = IdentityIndex.of(store.records() if named else store.records_of(strangers).values())
        links.claim(
            (None if address.startswith(PROFILE_PREFIX) else address, profile_id)
            for address, profile_id in _unrecorded(
                index.identifiers(named=False, settled=moved), store
            )
        )
        return links


def _settled(count: int, accumulator: _A) -> Planned[_A]:
    """Of profiles that are known to be as recorded."""
    found = PlanningTotals()
    found.add_in_sync(count)
    return Planned(PlanLines.of([]), [], found, [], accumulator.empty())


# --- a batch -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given(Generic[_A]):
    """What addresses are planned with, besides what is known of them; any executor can carry it, as it
    can cases and what comes of them."""

    dialect: str
    options: Options
    links: IdentityIndex | None
    whole: bool
    accumulator: _A


class _Pair(NamedTuple):
    """What the files and the state say of an address."""

    address: str
    profile: int | None
    """The id of the profile in the index."""
    recorded: tuple[int, int] | None
    """Revision and checksum of the record."""
    settled: tuple[int, int] | None
    """Those of the record that was last found to be as the profile wants it."""

    @property
    def is_settled(self) -> bool:
        return self.settled is not None and self.settled == self.recorded


class _Case(NamedTuple):
    """An address to be looked into, with what is kept of it."""

    pair: _Pair
    declared: Entry | None
    stored: Stored | None
    seen: Record | None
    """What the API said of it, if it was asked."""


def _planned(cases: Sequence[_Case], given: _Given[_A], *, keep: bool = False) -> Planned[_A]:
    """What comes of some cases. The changes themselves, which are most of what there would be to make and to
    carry, are kept only if that is asked for."""
    planner = Planner(load_contract(given.dialect), given.options, identities=given.links)
    found = planner.totals
    accumulator = given.accumulator.empty()
    changes: list[Change] = []
    lines: list[str] = []
    settled: list[bool] = []
    for (_, _, recorded, _), declared, stored, seen in cases:
        is_current = stored is not None and stored[:2] == recorded
        packed, file = (None, "") if declared is None else (declared.opened(), declared.file)
        if is_current and packed is not None and not given.whole and _is_as_stored(packed, stored):
            found.add_in_sync(1)
            settled.append(True)
            continue
        record = seen if seen is not None or stored is None else stored.record()
        before = found.unchanged
        change = planner.plan(None if packed is None else packed.profile(file), record)
        if change is not None:
            changes.append(change)
            lines.append(line_of(change))
            accumulator.add(change)
        settled.append(found.unchanged > before and is_current and seen is None)
    return Planned(
        PlanLines.of(changes, lines), changes if keep else None, found, settled, accumulator
    )


def _is_as_stored(packed: Packed, stored: Stored | None) -> bool:
    """Whether a record says what a profile asks for, so that it need not be planned."""
    wanted = wanted_digest(packed.about, paths=packed.paths, values=packed.values)
    return stored is not None and wanted is not None and wanted == known_digest(stored.record())


# --- pairs ---------------------------------------------------------------------------------------


def _pairs(index: Index, store: Store, *, whole: bool) -> Iterator[_Pair | None]:
    """All addresses that are declared or recorded, in their order; ``None`` for each that is settled, unless
    they are wanted as a ``whole``."""
    profiles = index.profiles()
    records = store.fingerprints()
    profile, record = next(profiles, None), next(records, None)
    while profile is not None or record is not None:
        if record is None or (profile is not None and profile[0] < record[0]):
            assert profile is not None
            yield _Pair(profile[0], profile[3], None, _settled_as(profile))
            profile = next(profiles, None)
        elif profile is None or record[0] < profile[0]:
            yield _Pair(record[0], None, record[1:], None)
            record = next(records, None)
        else:
            is_settled = profile[:3] == record
            if is_settled and not whole:
                yield None
            else:
                yield _Pair(record[0], profile[3], record[1:], _settled_as(profile))
            profile, record = next(profiles, None), next(records, None)


def _settled_as(
    profile: tuple[str, int | None, int | None, int],
) -> tuple[int, int] | None:
    """Revision and checksum of the record that a profile was settled with."""
    _, revision, checksum, _ = profile
    return None if revision is None or checksum is None else (revision, checksum)


def _grouped(pairs: Iterator[_Pair | None]) -> Iterator[tuple[int, list[_Pair]]]:
    """Groups of pairs to look into, each with the number of settled ones among them."""
    group: list[_Pair] = []
    settled = 0
    for pair in pairs:
        if pair is None:
            settled += 1
        else:
            group.append(pair)
            if len(group) >= AT_ONCE:
                yield settled, group
                group, settled = [], 0
    yield settled, group


def _unsettled_pairs(index: Index, store: Store) -> Iterator[_Pair | None]:
    """Those of all addresses that are not settled, given that the state did not move."""
    others = ((address, None) for (address,) in index.others())
    addresses = (
        (address, next((number for _, number in same if number is not None), None))
        for address, same in groupby(merge(index.unsettled(), others, key=_address), key=_address)
    )
    while some := [*islice(addresses, AT_ONCE)]:
        recorded = store.fingerprints_of([address for address, _ in some])
        for address, number in some:
            record = recorded.get(address)
            if number is not None or record is not None:
                yield _Pair(address, number, record[1:] if record else None, None)


def _address(row: tuple[str, int | None]) -> str:
    return row[0]


def _unrecorded(
    profiles: Iterator[tuple[str, str | None]], store: Store
) -> Iterator[tuple[str, str | None]]:
    """Those of some profiles that the state has no record of under their address."""
    while some := [*islice(profiles, AT_ONCE)]:
        recorded = store.fingerprints_of([address for address, _ in some])
        yield from (profile for profile in some if profile[0] not in recorded)
