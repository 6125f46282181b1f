"""The real applier and engine in a world that a seed decides: one seed, one schedule.

`simulate` makes up a few profiles and lets the `Applier` take them from one desired state
to the next, in several runs, while the network loses, delays and refuses, processes are killed between
any two of their steps, the store fails, users press Ctrl-C, and other people change the remote. Clock,
network and store are those of `tests.torture.simulated`; a schedule of many minutes takes a millisecond.
What must hold is in `tests.torture.oracle`, and for the end in `Simulation._end`.

``python -m tests.torture --again "simulation.again(SEED)"`` prints what happens in a schedule. Seeds mean
the same as long as neither the simulation nor what the applier asks of it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from random import Random
from typing import Any
from unittest.mock import patch

from reconciler.core.outcomes import DriftKind, Result
from reconciler.core.plan import Change, Mode, Plan, Totals
from reconciler.core.records import Presence, Record
from reconciler.core.transitions import without_expired_mark
from reconciler.errors import ReconcileError
from reconciler.remote import run as run_module
from reconciler.remote.applier import Applier, check_plan
from reconciler.remote.context import ApplyContext, ApplyListener, Gate, RunClock
from reconciler.remote.engine import StateWriteFailed
from reconciler.remote.refresh import read_back
from tests.torture.access import LEVEL, LEVELS, STORE, Level
from tests.torture.access_rules import run_out
from tests.torture.oracle import Oracle
from tests.torture.plans import SimulatedPlan, make_room, plan_of, sweep_of
from tests.torture.planted import FAULTS
from tests.torture.planted_access import ACCESS_FOUND_BY
from tests.torture.planted_owners import FOUND_BY
from tests.torture.simulated import (
    ATTRIBUTE,
    LIMIT,
    QUIET,
    Existing,
    Network,
    Remote,
    SimulatedStore,
    Spec,
    Values,
    customer_of,
    declared,
    slot_of,
)
from tests.torture.tally import Tally

BATCH = 1_000
"""Seeds of a `unit`."""
_KEYS = "abcd"
_ACCESSES = (
    *("", "", "lifetime", "lifetime", "8s", "8s", "60s"),
    *("1012", "1040", "5000", "5000", "9000", "1030 5000", "4000 9000"),
)
"""What files ask of a level."""
_FOREIGN = "x"
"""The key of a custom attribute that only other people write."""
_TOTALS = Totals({}, "sha256:0")
_TTLS = ("2s", "5s", "30s")
_MOST_BACKUPS = 6
_MOST_ROUNDS = 6
_SWEEPING = 40.0
"""Seconds after which every lifetime is over."""


class Crash(BaseException):
    """The process is killed here."""


class Failing(Exception):
    """Something around the applier fails: a plan that cannot be read on, a listener."""


@dataclass(frozen=True, slots=True)
class Temper:
    """What a world is like. Times are in seconds; of every tuple one is chosen each time."""

    soon: tuple[float, ...]
    """Until an effect, and until its answer."""
    late: tuple[float, ...]
    """Until a call is given up, and until the next attempt."""
    holds: tuple[float, ...]
    """For which the rate, or the API's wish, keeps a request from leaving."""
    pauses: tuple[float, ...]
    """Between two runs."""
    sizes: tuple[int, ...]
    """Profiles."""
    runs: tuple[int, ...]
    kills: float
    """The share of runs that are killed."""
    keeps: float
    """The share of profiles that nobody edits before a run."""
    meddles: float
    """The share of worlds that other people change, too."""
    meddles_within: float
    """Seconds from the beginning of a run."""
    focused: bool = False
    """Whether edits change one field each, and back."""
    removes: float = 0.12
    """The share of edited profiles whose file is removed."""
    surgery: float = 0.1
    """The share of pauses in which somebody works on the state by hand."""
    looks: float = 0.06
    """The share of plans for which the API is read."""
    grants: float = 0.1
    """The share of worlds with access levels."""


_EASY = Temper(
    soon=(0.0, 0.1, 0.1, 0.2, 0.7),
    late=(0.2, 0.2, 0.5, 1.0, 1.5),
    holds=(0.0, 0.0, 0.0, 0.0, 0.1, 0.7, 4.5, 8.0),
    pauses=(0.0, 0.0, 0.3, 1.0, 3.0, 6.0),
    sizes=(1, 1, 2, 2, 3, 4),
    runs=(1, 2, 2, 3),
    kills=0.4,
    keeps=0.35,
    meddles=0.3,
    meddles_within=3.0,
)
_HASTY = replace(
    _EASY,
    soon=(0.0, 0.0, 0.1),
    late=(0.1, 0.2, 0.3),
    holds=(0.0,) * 9 + (5.0,),
    pauses=(0.0, 0.0, 0.0, 0.3),
    sizes=(1, 1, 2, 3),
    runs=(2, 3, 4),
    meddles_within=0.3,
)
_FOCUSED = replace(
    _HASTY,
    holds=(0.0,),
    pauses=(0.0,),
    sizes=(1,),
    runs=(3, 4, 5),
    kills=0.15,
    keeps=0.15,
    meddles=0.4,
    focused=True,
)
_OWNERS = replace(
    _HASTY,
    sizes=(1, 2, 3, 4),
    keeps=0.2,
    removes=0.35,
    meddles=0.7,
    surgery=0.25,
    kills=0.25,
    looks=0.2,
)
"""Profiles come and go, ours and those of others."""
_BRIEF = replace(_OWNERS, holds=(0.0,), sizes=(1,), pauses=(0.0,), runs=(3, 4, 5))
_ACCESS = replace(
    _HASTY,
    holds=(0.0, 0.0, 0.0, 5.0),
    sizes=(1, 1, 2),
    pauses=(0.0, 0.3, 3.0, 9.0),
    keeps=0.3,
    meddles=0.6,
    meddles_within=1.0,
    grants=1.0,
)
"""Access is given, ended and bought, and runs out."""
_BRIEF_ACCESS = replace(
    _ACCESS, holds=(0.0,), sizes=(1, 1, 2), pauses=(0.0, 3.0), runs=(2, 3, 4), meddles=0.8
)
_TEMPERS = (_EASY, _HASTY, _FOCUSED, _OWNERS, _BRIEF, _ACCESS)


class Simulation:
    """One schedule. Call `run` once."""

    def __init__(
        self, seed: int, *, trace: list[str] | None = None, temper: Temper | None = None
    ) -> None:
        """``temper`` is that of the world, which otherwise the seed decides."""
        self.random = Random(seed).random
        self.trace = trace
        self.now = 1_000.0
        self.temper: Temper = temper or self.choice(_TEMPERS)
        self.storm = 0.0
        """The share of attempts that something happens to."""
        self.stopped = False
        self.given_up = False
        """Whether the client takes the API for away, or was limited for too long."""
        self.is_limited = False
        """Whether it gave up because it was limited."""
        self.remote = Remote(self._api_clock, self.wall)
        self.store = SimulatedStore(self)
        self.network = Network(self)
        self.oracle = Oracle(self.store, self.remote, landing=self.network.landing, now=self.wall)
        self.runs = 0
        self.kills = 0
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._number = 0
        self._under_way = 0
        self._unfinished = 0
        """How often a profile needs another plan: a level was bought, or has to be shortened."""
        self._set_back = 0.0
        self._steps = 0
        self._kill_at = -1
        self._fail_at = -1
        self._fails_for_good = False
        self._tells_badly = False
        self.slots: int = self.choice(self.temper.sizes)
        self._installs = self.random() < 0.15
        self._grants = self.random() < self.temper.grants
        """Whether files declare access levels, and what else has a path of its own."""
        self.refuses = self._grants and self.random() < 0.15
        """Whether profiles that exist and are not recorded are refused."""
        self.oracle.ownership.refuses = self.refuses
        self._clock_jumps = self.random() < 0.3
        self._clock_ahead = 0
        self._limit: int | None = self.choice((None, None, 1, 2, 4))
        """Requests that the API takes in a second; ``None`` for all."""
        self._blocked_until = 0.0
        """Until when it takes none."""
        self._meddling = self.random() < self.temper.meddles
        self._meddled = False
        self._state_moved = False
        """Whether somebody put an older state in place, which then knows less than it says."""
        self._caps: tuple[int | None, ...] = (None,) if self.random() < 0.7 else (None, 0, 1)
        """The most that a plan may delete."""
        self._backups: list[dict[str, Record]] = []
        self.plans: list[SimulatedPlan] = []
        self.desired: dict[int, Spec] = {}
        self._past: dict[int, list[Spec]] = {}
        for slot in range(self.slots):
            kind = self.random()
            if kind < 0.15:
                self.oracle.anonymous.add(slot)
            if kind < 0.3:
                self.oracle.strangers.add(slot)
                self._made_by_others(slot, None if kind < 0.15 else customer_of(slot))

    # --- chance and time -------------------------------------------------------------------------

    def below(self, number: int) -> int:
        return int(self.random() * number)

    def choice(self, options: Sequence[Any]) -> Any:
        return options[int(self.random() * len(options))]

    def after(self, seconds: float, action: Callable[..., object], *arguments: Any) -> None:
        """Lets something happen after some time."""
        self._number += 1
        heappush(self._events, (self.now + seconds, self._number, action, arguments))

    def pass_time(self, seconds: float, *, until: Sequence[object] = ()) -> None:
        """Lets things happen, for some time or until something is in ``until``."""
        events, end = self._events, self.now + seconds
        while events and events[0][0] <= end:
            if until and events[0][0] > self.now:
                return
            self.now, _, action, arguments = heappop(events)
            action(*arguments)
        if not until:
            self.now = end

    def wall(self) -> float:
        """Unix time, as far as the program can tell: the clock may have been set back."""
        return self.now - self._set_back

    def _api_clock(self) -> int:
        """Milliseconds that the API's clock is ahead: it jumps, for one answer or for good."""
        if not self._clock_jumps:
            return 0
        jump = self.random()
        if jump < 0.1:
            return 10**12
        if jump < 0.15:
            self._clock_ahead += self.choice((-(10**6), 10**6, 10**9))
        return self._clock_ahead

    def is_over_limit(self) -> bool:
        """Whether the API refuses a request that arrives now, because of its rate."""
        if self.now < self._blocked_until:
            return True
        if self._limit is None:
            return False
        taken = self.network.accepted
        taken[:] = [time for time in taken if time > self.now - 1.0]
        if len(taken) >= self._limit:
            return True
        taken.append(self.now)
        return False

    def lose_patience(self) -> None:
        """The client was limited for too long."""
        if not self.given_up:
            self.note("the patience with 429s is over")
            self.given_up = self.is_limited = True
            self.oracle.on_patience_over()

    def step(self, *, writing: bool = False) -> None:
        """Something before or after which a kill can come, and for a write a failure."""
        self._steps += 1
        if self._steps == self._kill_at:
            raise Crash
        if writing and self._steps >= self._fail_at > 0:
            if not self._fails_for_good:
                self._fail_at = -1
            raise ReconcileError("the disk failed")

    def note(self, text: str) -> None:
        """Writes down what happens, if anybody wants to know."""
        if self.trace is not None:
            self.trace.append(f"{self.now:9.3f} {text}")

    # --- the schedule ----------------------------------------------------------------------------

    def run(self) -> list[str]:
        """What is wrong; the schedule goes no further than that."""
        for _ in self._schedule():
            if self.oracle.violations:
                break
        return self.oracle.violations

    def _schedule(self) -> Iterator[None]:
        for _ in range(self.choice(self.temper.runs)):
            self.storm = self.choice((0.05, 0.4, 0.4, 0.8))
            self._edit()
            self._disturbed_run()
            yield
            if self.random() < 0.08:
                self._refresh(killed=self.random() < 0.3)
                yield
            if self.random() < 0.06:
                self._sweep()
                yield
            self.pass_time(self.choice(self.temper.pauses))
            if self.random() < self.temper.surgery:
                self._work_on_the_state()
                yield
            if self.random() < 0.05:
                self._set_back += self.choice((0.5, 3.0, 100.0))
        yield from self._end()

    def _disturbed_run(self) -> None:
        """A run of a plan, perhaps an older one, in which anything may happen."""
        plan: SimulatedPlan | None
        if len(self.plans) > 1 and self.random() < 0.2:
            plan = self.choice(self.plans[:-1])
            self.note(f"an older plan ({plan.number})")
        else:
            plan = plan_of(
                self,
                prune=self.random() < 0.6,
                include_adopted=self.random() < 0.15,
                reassert=self.random() < 0.03,
                refresh=self.random() < self.temper.looks,
                cap=self.choice(self._caps),
            )
        if plan is None:
            return
        changes = plan.changes
        if self._meddling and self.random() < 0.5:
            self.after(self.random() * self.temper.meddles_within, self._meddle)
        steps = 6 + 10 * len(changes)
        kind = self.random()
        if kind < self.temper.kills:
            self._kill_at = 1 + self.below(steps)
        elif kind > 0.90:
            self._fail_at = 1 + self.below(steps)
            self._fails_for_good = self.random() < 0.5
        elif kind > 0.82:
            self.after(self.random() * 2, self._stop, self.runs + 1)
        elif kind > 0.80:
            self.after(self.random() * 2, self._give_up, self.runs + 1)
        elif kind > 0.79:
            self._tells_badly = True
        elif kind > 0.75:
            self._blocked_until = self.now + self.choice((2.0, 10.0, 30.0))
        torn = self.below(len(changes) + 1) if kind < 0.02 else None
        self._apply(plan, workers=1 + self.below(3), torn=torn)

    def _stop(self, run: int) -> None:
        if run == self._under_way and not self.stopped:
            self.note("the wish to stop")
            self.stopped = True
            self.oracle.on_stop()
            if self.random() < 0.5:
                self.after(self.random() * 5, self._cut, run)

    def _cut(self, run: int) -> None:
        if run == self._under_way:
            self.network.cut()

    def _give_up(self, run: int) -> None:
        if run == self._under_way:
            self.note("the API is taken for away")
            self.given_up = True

    def _apply(self, planned: SimulatedPlan, *, workers: int, torn: int | None = None) -> None:
        """A run; with ``torn`` its plan cannot be read beyond so many changes."""
        self.begins()
        changes = planned.changes
        if not changes:
            self.over()
            return
        if self.trace is not None:
            adopted = ", adopted ones too" if planned.include_adopted else ""
            self.note(f"run-{self.runs}: plan {planned.number}, {workers} workers{adopted}")
            for change in changes:
                fields = {field.path: field.after for field in change.fields}
                self.note(f"  {change.action} {change.address} {fields}")
        self.oracle.on_start(planned, workers=workers)
        plan = replace(
            _EMPTY,
            lineage=planned.lineage,
            hazards=planned.hazards,
            changes=_Torn(changes, torn) if torn is not None else tuple(changes),
        )
        context = ApplyContext(
            calls=self.network,
            run=f"run-{self.runs}",
            clock=RunClock(self.wall, monotonic=lambda: self.now),
            gate=Gate(
                lambda: self.stopped,
                is_away=lambda: self.given_up and not self.is_limited,
                is_limited=lambda: self.is_limited,
                in_flight=lambda: workers,
            ),
            listener=ApplyListener(self._on_result),
            quiet_period=QUIET,
        )
        profiles = []
        if self.random() < 0.2:
            profiles = [declared(slot, spec) for slot, spec in self.desired.items()]
        desired = {profile.address: profile for profile in profiles}
        store: Any = self.store
        is_whole = False
        try:
            check_plan(plan, store.header(), environment="local", max_changes=len(changes))
            Applier(store, store, context=context).apply(plan, desired=desired)
            is_whole = True
        except Crash:
            self.kills += 1
            self.note("KILLED")
        except StateWriteFailed as problem:
            self.note("the store failed")
            self.oracle.on_lost_outcomes(problem.entries)
        except (ReconcileError, Failing) as problem:
            self.note(str(problem))
        for profile in profiles:
            slot = slot_of(profile.address)
            if store.record(profile.address) is not None:
                self.oracle.ownership.on_declared(
                    slot, protect=profile.protect, is_certain=is_whole
                )
        self.over()

    def begins(self) -> None:
        """A process begins."""
        self.runs += 1
        self._under_way = self.runs
        self._steps = 0

    def over(self) -> None:
        """A process has ended, in whatever way."""
        if len(self._backups) < _MOST_BACKUPS:
            self._backups.append(self.store.copied())
        self._under_way = 0
        self._kill_at = self._fail_at = -1
        self.stopped = self.given_up = self.is_limited = self._tells_badly = False
        self.network.dies()
        self.oracle.on_end()
        self.oracle.compare(self.slots)

    def _on_result(self, result: Result) -> None:
        self.note(f"reported {result.address} {result.outcome} {result.reason}")
        self.oracle.on_result(result)
        words = " ".join((*result.warnings, result.reason))
        self._unfinished += "plan again" in words or "was bought" in words
        self.step()
        if self._tells_badly:
            raise Failing("the listener failed")

    def _refresh(self, *, killed: bool) -> None:
        """A look at the remote, recorded, as `reconciler.workspace.facade` does it."""
        self.note("refresh")
        self.begins()
        self._kill_at = 1 + self.below(12) if killed else -1
        self.oracle.on_start(None, workers=2)
        cut_off = self.store.interrupted_addresses()

        def quiet(record: Record) -> Record:
            if record.address in cut_off:
                return record
            return without_expired_mark(record, now=self.wall(), quiet_period=QUIET)

        gone = []
        store: Any = self.store
        try:
            for profile in read_back(
                list(self.store.records()),
                self.network,
                application=self.store.header().application,
                writer=store,
                without_expired_mark=quiet,
                now=self.wall,
                stop=lambda: False,
                in_flight=lambda: 2,
            ):
                self.note(f"profile {profile.drift.address} {profile.drift.kind}")
                if profile.answer.is_unauthorised:
                    break
                if profile.drift.kind is DriftKind.GONE:
                    gone.append(profile.after)
            if gone:
                self.store.write(put=gone)
        except Crash:
            self.note("KILLED")
        self.over()

    def _sweep(self) -> None:
        """A sweep, perhaps of all that has a lifetime; it may be disturbed as an apply is."""
        if self.random() < 0.5:
            self.pass_time(_SWEEPING)
        plan = sweep_of(self)
        if plan is not None:
            self._kill_at = 1 + self.below(20) if self.random() < self.temper.kills else -1
            self._apply(plan, workers=2)

    # --- people ----------------------------------------------------------------------------------

    def _edit(self) -> None:
        """The files are edited: changed, changed back, removed, added."""
        random, anonymous = self.random, self.oracle.anonymous
        for slot in range(self.slots):
            now, past = self.desired.get(slot), self._past.setdefault(slot, [])
            if now is not None and random() < self.temper.keeps:
                continue
            if slot not in anonymous and random() < self.temper.removes:
                self.desired.pop(slot, None)
                continue
            spec = self.choice(past) if past and random() < 0.3 else self._spec(now or Spec())
            if slot in anonymous:
                linked = now is not None and now.by == "both"
                spec = replace(spec, by="both" if linked or random() < 0.4 else "profile")
            self.desired[slot] = spec
            past.append(spec)

    def _spec(self, now: Spec) -> Spec:
        random, choice = self.random, self.choice
        what = random()
        if random() < 0.2:
            now = replace(now, protect=random() < 0.5, ttl=choice((None, *_TTLS)))
        if self._grants and not self._installs and random() < 0.5:
            return self._with_access(now)
        if self.temper.focused:
            if what < 0.5:
                return replace(now, first_name=choice(("A", "B", None)))
            if what < 0.7:
                return replace(now, last_name=choice(("A", "B", None)), forgets=False)
            return replace(now, attributes=choice(((("a", "1"),), (("a", "2"),), ())))
        if what < 0.5 or what > 0.9:
            now = replace(now, first_name=choice((None, "A", "B", "C", "")))
        if 0.5 < what < 0.6 or what > 0.9:
            now = replace(now, last_name=choice((None, "A", "B")), forgets=False)
        if what > 0.6:
            keys = sorted({choice(_KEYS) for _ in range(self.below(3))})
            now = replace(now, attributes=tuple((key, choice("123")) for key in keys))
        if self._installs and (now.locale is None or random() < 0.5):
            now = replace(now, locale=choice(("en", "no", "")))
        if now.last_name is None and random() < 0.05:
            now = replace(now, forgets=True)
        if self._grants:
            now = self._with_access(now)
        return now

    def _with_access(self, now: Spec) -> Spec:
        random, choice = self.random, self.choice
        what = random()
        if what < 0.6:
            levels = {**dict(now.levels), choice(LEVELS): choice(_ACCESSES)}
            if random() < 0.4:
                levels.pop(choice(LEVELS), None)
            forgotten = tuple(each for each in now.forgotten_levels if each not in levels)
            now = replace(now, levels=tuple(sorted(levels.items())), forgotten_levels=forgotten)
        elif what < 0.7 and now.levels:
            now = self._forgetting(now, random() < 0.3)
        if what > 0.8:
            now = replace(now, identifier=choice((None, "", "i1", "i2")))
        elif what > 0.65:
            now = replace(now, preference=choice((None, "", "grant", "decline")))
        return now

    def _forgetting(self, now: Spec, keeps: bool) -> Spec:
        """Levels taken out of a file, which ends them, or given up."""
        given_up = tuple(sorted({*now.forgotten_levels, *dict(now.levels)})) if keeps else ()
        return replace(now, levels=(), forgotten_levels=given_up)

    def give_up_levels(self, slot: int, spec: Spec) -> Spec:
        """The file of a profile after somebody followed the advice about access that was bought."""
        self.note(f"u{slot}: levels are given up, since one was bought")
        self._unfinished += 1
        spec = self.desired[slot] = self._forgetting(spec, True)
        return spec

    def _meddle(self) -> None:
        """Other people change, delete, replace or make a profile."""
        if not self._meddling:
            return
        slot = self.below(self.slots)
        there = self.remote.profiles.get(slot)
        oracle, kind = self.oracle, self.random()
        if there is None:
            if slot in oracle.anonymous:
                return
            made = self._made_by_others(slot, customer_of(slot))
            oracle.made_by_others.add(made.profile_id)
            self._moved_by_others(slot, made.values)
            self.note(f"others: u{slot} made {made.values}")
        elif self._grants and self.random() < 0.7:
            self._change_access(slot, there)
        elif kind < 0.5 or slot in oracle.anonymous:
            self._change_attribute(slot, there)
        else:
            oracle.access.on_replaced(slot)
            del self.remote.profiles[slot]
            if kind < 0.75:
                made = self._made_by_others(slot, there.customer)
                oracle.made_by_others.add(made.profile_id)
            self._moved_by_others(slot, there.values)
            self.note(f"others: u{slot} {'replaced' if kind < 0.75 else 'deleted'}")

    def _change_attribute(self, slot: int, there: Existing) -> None:
        path = ATTRIBUTE + self.choice((*_KEYS, _FOREIGN))
        taken = sum(1 for each in there.values if each.startswith(ATTRIBUTE))
        if any(
            each.startswith(ATTRIBUTE) for each in there.not_by_us & there.values.keys() - {path}
        ):
            return  # one at most is of others, so that there is room for ours
        if path in there.values and self.random() < 0.3:
            del there.values[path]
        elif path in there.values or (path.endswith(_FOREIGN) and taken < LIMIT):
            there.values[path] = self.choice("129" if there.made_at is not None else "789")
        else:
            return
        there.not_by_us.add(path)
        self._meddled = True
        self.oracle.unknowable.add((slot, path))
        self.oracle.foreign.add((slot, path))
        self.oracle.ownership.on_attributes(there)
        self.note(f"others: u{slot} {path} is {there.values.get(path)}")

    def _change_access(self, slot: int, there: Existing) -> None:
        """Somebody grants, revokes or buys a level."""
        path, now = LEVEL + self.choice((*LEVELS, *LEVELS, "z")), self.wall()
        level, kind = there.levels.get(path), self.random()
        end = self.choice((None, now + 5.0, 1040.0, 5000.0))
        if kind < 0.4:
            level = Level(None, end, STORE)
        elif kind < 0.7 or level is None:
            level = Level(None, end)
        elif not level.is_over(now):
            level = level._replace(end=now)
        there.levels[path] = level
        there.values[path] = level.shown
        there.not_by_us.add(path)
        self._meddled = True
        self.oracle.unknowable.add((slot, path))
        self.oracle.foreign.add((slot, path))
        self.oracle.access.on_others(slot, path)
        self.note(f"others: u{slot} {path} is {level.shown}")

    def _made_by_others(self, slot: int, customer: str | None) -> Existing:
        """A profile that somebody else made, with values that nobody here writes."""
        made = self.remote.make(slot, customer)
        if self.random() < 0.4:
            made.values[ATTRIBUTE + self.choice((_FOREIGN, "a"))] = self.choice("789")
        if self.random() < 0.3:
            made.values["first_name"] = "Z"
        if self._grants and self.random() < 0.4:
            path = LEVEL + self.choice(LEVELS)
            level = Level(None, self.choice((None, 5000.0)), self.choice(("", "", STORE)))
            made.levels[path], made.values[path] = level, level.shown
            self.oracle.access.on_others(slot, path)
        made.not_by_us |= made.values.keys()
        self.oracle.foreign |= {(slot, path) for path in made.values}
        return made

    def _moved_by_others(self, slot: int, values: Values) -> None:
        """Somebody made or took away a profile, with these values among others."""
        self._meddled = True
        oracle = self.oracle
        oracle.moved_by_others.add(slot)
        known = {path for record in self.store.of_slot(slot) for path in record.facts}
        there = self.remote.profiles.get(slot)
        now = set() if there is None else there.values.keys()
        oracle.unknowable |= {(slot, path) for path in known | values.keys() | now}

    def _work_on_the_state(self) -> None:
        """Somebody removes a record, restores a backup, begins anew or upgrades, once nothing can land late.
        What was true of the state before is not known to it any more."""
        kind = self.random()
        if kind < 0.15:
            self.note("the state is of an older format")
            self.oracle.ownership.is_upgraded = True
            self.store.upgrade()
            return
        self.pass_time(QUIET)
        before = self.store.copied()
        moved = set(range(self.slots))
        if kind < 0.45 and before:
            address = self.choice(sorted(before))
            self.note(f"state rm {address}")
            moved = {slot_of(address)}
            self.store.remove(address)
        elif kind < 0.9 and self._backups:
            self.note("state restore")
            self.store.restore(self.choice(self._backups))
        elif kind > 0.93:
            self.note("the state is lost; state new")
            self.store.begin_anew()
        else:
            return
        self._meddled = self._state_moved = True
        # A plan that names a profile by its profile id cannot tell that the state forgot its link.
        unlinked = moved & self.oracle.anonymous
        self.plans = [
            plan
            for plan in self.plans
            if not any(slot_of(change.address) in unlinked for change in plan.changes)
        ]
        for slot in sorted(moved):
            records = [*self.store.of_slot(slot)]
            records += [record for record in before.values() if slot_of(record.address) == slot]
            paths = {path for record in records for path in record.facts}
            self._clean_up(slot)
            self.oracle.on_state_moved(slot, paths)

    def _clean_up(self, slot: int) -> None:
        """Somebody removes custom attributes that the state does not know any more, since there would be no
        room for others."""
        there = self.remote.profiles.get(slot)
        if there is None:
            return
        managed = {path for record in self.store.of_slot(slot) for path in record.facts}
        there.values = {
            path: value
            for path, value in there.values.items()
            if path in managed or path in there.not_by_us or not path.startswith(ATTRIBUTE)
        }

    # --- the end ---------------------------------------------------------------------------------

    def _end(self) -> Iterator[None]:
        """Undisturbed runs, the last late effects, and then: nothing left to plan, and the remote as
        desired."""
        self.note("the end")
        oracle = self.oracle
        self.storm = self._blocked_until = 0.0
        self._meddling = self.refuses = oracle.ownership.refuses = False
        rounds = 1
        if any(
            record.presence is Presence.UNCONFIRMED
            for slot in set(range(self.slots)) - self.desired.keys()
            for record in self.store.of_slot(slot)
        ):
            rounds = 2  # the first one looks whether there is anything to delete
        if self._meddled:
            # What other people did is profile by looking, if at all; some of it only by the next answer.
            self.pass_time(self.choice((0.0, QUIET / 2, QUIET)))
            self._refresh(killed=False)
            yield
            rounds = 3
        include_adopted = self.random() < 0.2
        oracle.access.calm_since = self.wall()
        number = 0
        while number < rounds:
            reassert = self._state_moved and number < 2
            before, self._unfinished = self._unfinished, 0
            plan = self._last_plan(include_adopted, reassert=reassert)
            self._apply(plan, workers=2)
            yield
            number += 1
            if number == rounds < _MOST_ROUNDS and (self._unfinished or before):
                rounds += 1
        for change in self._last_plan(include_adopted).changes:
            there = self.remote.profiles.get(slot_of(change.address))
            if there is None or not run_out(change, there.levels, now=self.wall()):
                oracle.blame(f"not converged: {change.action} {change.address}")
                break
        oracle.moved_by_others.clear()
        # Of orphans that are kept, a restored state may say what was true once.
        oracle.unknowable -= {each for each in oracle.unknowable if each[0] in self.desired}
        self.pass_time(2 * QUIET)
        oracle.compare(self.slots)
        for slot in range(self.slots):
            spec = self.desired.get(slot)
            if spec is None:
                oracle.ownership.at_end(slot, include_adopted=include_adopted)
            else:
                oracle.as_desired(slot, declared(slot, spec).values)

    def _last_plan(self, include_adopted: bool, *, reassert: bool = False) -> SimulatedPlan:
        plan = plan_of(self, prune=True, include_adopted=include_adopted, reassert=reassert)
        assert plan is not None
        return plan


class _Torn:
    """Changes of a plan that cannot be read to its end."""

    def __init__(self, changes: Sequence[Change], end: int) -> None:
        self._changes = changes
        self._end = end

    def __len__(self) -> int:
        return len(self._changes)

    def __iter__(self) -> Iterator[Change]:
        yield from self._changes[: self._end]
        raise Failing("the plan was altered while it was in use")


_EMPTY = Plan("local", Mode.PRUNE, None, 0, None, (), (), 0, _TOTALS)


# --- many schedules ------------------------------------------------------------------------------


def simulate(seed: int, *, temper: Temper | None = None) -> list[str]:
    """What is wrong with the schedule of a seed."""
    return Simulation(seed, temper=temper).run()


def unit(batch: int) -> Tally:
    """A batch of seeds."""
    tally = Tally()
    make_room()
    with _without_digests():
        for seed in range(batch * BATCH, (batch + 1) * BATCH):
            world = Simulation(seed)
            violations = world.run()
            tally.blame(f"simulation.again({seed})", violations[:1])
            tally.counts["schedules"] += 1
            tally.counts["runs"] += world.runs
            tally.counts["kills"] += world.kills
            tally.counts["late effects"] += world.network.late
    return tally


def again(seed: int) -> Tally:
    """The schedule of a seed, with all that happens printed."""
    lines: list[str] = []
    tally = Tally()
    tally.blame(f"simulation.again({seed})", Simulation(seed, trace=lines).run())
    print(*lines, sep="\n")
    return tally


_RESTORING = replace(
    _EASY,
    sizes=(1, 1, 2),
    runs=(6, 8),
    kills=0.0,
    keeps=0.3,
    meddles=0.0,
    removes=0.4,
    surgery=0.7,
    looks=0.0,
    grants=0.0,
)
"""Backups are put back between many runs, and older plans are applied after that."""

_TEMPER_OF = {
    "a look proves nothing": _BRIEF,
    "a plan that looked is believed for ever": _BRIEF,
    "an earlier PATCH may prove a creation": _FOCUSED,
    "revisions repeat after a restore": _RESTORING,
    **dict.fromkeys(ACCESS_FOUND_BY, _BRIEF_ACCESS),
}
"""The worlds in which some faults are looked for, since they are rare elsewhere."""


def first_found(fault: str, *, most: int) -> int | None:
    """The first seed whose schedule goes wrong with a fault of `tests.torture.planted`, by the rule that is
    to find it."""
    rule = FOUND_BY.get(fault, "") or ACCESS_FOUND_BY.get(fault, "")
    temper = _TEMPER_OF.get(fault)
    make_room(0)
    try:
        with _without_digests(), FAULTS[fault]():
            for seed in range(most):
                if any(rule in violation for violation in simulate(seed, temper=temper)):
                    return seed
    finally:
        make_room(0)
    return None


def planted(number: int, *, most: int = 50_000) -> Tally:
    """One of the planted faults: that it is not found is the violation."""
    fault = list(FAULTS)[number]
    tally = Tally()
    seed = first_found(fault, most=most)
    if seed is None:
        tally.violations.append(f"not found in {most:,} seeds: {fault}")
    else:
        tally.counts["faults found"] += 1
        tally.counts["schedules until then"] += seed + 1
    return tally


def _without_digests() -> Any:
    """Requests need no names in the journal here, which take a tenth of the time."""
    return patch.object(run_module, "request_digest", lambda request: "")
