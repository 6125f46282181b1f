"""Explores how the requests of several programs can be ordered, lost and cut off: a small model checker that
runs the real code.

Each program is a thread that stops before each request. A schedule says who goes on, and what becomes of the
request. The state of everything is what lies in the bucket and what each program has been answered, since a
program does the same after the same answers. A state that was seen is not explored again, so the exploration
of short programs is complete.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import pairwise
from typing import Any, NamedTuple
from unittest.mock import patch

from reconciler.errors import ReconcileError
from reconciler.state.objects import log as object_log
from reconciler.state.objects import store as object_store
from reconciler.state.objects.cache import Cache
from reconciler.state.objects.cache_file import CacheFile
from reconciler.state.objects.store import ObjectStore
from reconciler.state.store import CommitUnknown, Holder, Locked, LockLost
from tests.support.memory_bucket import Lost, Objects, Request, memory_store

_AT = 1_700_000_000.0
EXPECTED = (Locked, LockLost, CommitUnknown)
"""How a program may end that others disturb."""


class Stopped(BaseException):
    """The program was killed."""


class Choice(NamedTuple):
    """Who goes on, and what becomes of its request: ``do``, ``lost`` (with its effect or ``not`` with it, or
    ``late``), or ``kill``. Who is negative: a late request arrives."""

    who: int
    what: str


class Budget(NamedTuple):
    """How much may go wrong in one schedule."""

    losses: int = 0
    kills: int = 0
    switches: int | None = None
    """How often a program that could go on is left for another; ``None``: as often as there is."""


class Step(NamedTuple):
    """A state that a schedule went through, and what can happen in it."""

    state: object
    choices: Sequence[Choice]


class World:
    """What all programs of one run share."""

    def __init__(self) -> None:
        self.objects = Objects(lambda: _AT)
        self.acknowledged: list[str] = []
        """Writes that returned, in their order."""
        self.attempted: dict[str, int] = {}
        """Writes that began, and how many had returned by then."""
        self.problems: list[str] = []
        self.stores: list[ObjectStore] = []

    def fresh(self, **options: Any) -> ObjectStore:
        """A store that is closed when the run is over."""
        store = memory_store(self.objects, **({"lease": 0.0} | options))
        self.stores.append(store)
        return store


def _is_silent(request: Request) -> bool:
    """Whether nothing that others do meanwhile makes a difference, so that one step does for this request and
    the next one: objects that nobody knows yet, the rows of a snapshot after its manifest, and the listing
    that looks for damage."""
    parts = request.name.count("/") > 2
    return request.kind in ("put", "list", "time") or (request.kind == "get" and parts)


class Program:
    """One program: a thread with a store of its own. Every lock may be taken over at any time (the lease is
    0), so no order of events depends on a clock."""

    def __init__(self, world: World, name: str, body: Callable[[Program], None]) -> None:
        self.world = world
        self.name = name
        self._body = body
        self._numbers = 0
        self.pending: Request | None = None
        """The request that it is stopped before."""
        self.answers: list[object] = []
        self.is_over = False
        self._is_killed = False
        self.late: list[Callable[[], Any]] = []
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._verdict = "do"
        self._thread = threading.Thread(target=self._run, daemon=True)

    # For the scheduler

    def start(self) -> None:
        self._thread.start()
        self._stopped.acquire()

    def go_on(self, verdict: str) -> None:
        """Lets it do its request, and everything up to the next one."""
        self._verdict = verdict
        self._go.release()
        self._stopped.acquire()

    def stop(self) -> None:
        if not self.is_over:
            self.go_on("kill")
        self._thread.join()

    def _run(self) -> None:
        try:
            self._body(self)
        except Stopped:
            pass
        except EXPECTED as problem:
            self.answers.append(type(problem).__name__)
        except Exception as problem:
            self.world.problems.append(f"{self.name} ended with {problem!r}")
        self.is_over, self.pending = True, None
        self._stopped.release()

    # For the bucket

    def passes(self, request: Request, effect: Callable[[], Any]) -> Any:
        if self._is_killed:
            raise Stopped
        if _is_silent(request):
            return effect()
        self.pending = request
        self._stopped.release()
        self._go.acquire()
        match self._verdict:
            case "kill":
                self._is_killed = True
                raise Stopped
            case "do":
                result = effect()
                self.answers.append((request, repr(result)))
                return result
            case "lost":
                effect()
            case "late":
                self.late.append(effect)
        self.answers.append((request, self._verdict))
        raise Lost

    # For bodies

    def unique(self) -> str:
        self._numbers += 1
        return f"{self.name}{self._numbers}"

    def store(self, **options: Any) -> ObjectStore:
        """Its store. All logs are compacted when a lock is let go, so that names are deleted soon."""
        options = {"compact_after": 1} | options
        ids: dict[str, Any] = {"unique_id": self.unique, "new_id": self.unique}
        return self.world.fresh(pass_=self.passes, **(ids | options))

    @property
    def holder(self) -> Holder:
        return Holder(self.name, self.name, pid=1, command="test")


Scene = Callable[[World], Sequence[Program]]
"""Prepares a world, and gives the programs that run in it."""


_unused: list[Cache] = []
"""Caches of programs that have ended: to make tables takes longer than all the rest of a run."""


class _ReusedCache(CacheFile):
    """A private cache, perhaps of a program before."""

    def _connect(self, database: str, *, boot: str | None) -> Cache:
        if _unused:
            cache = _unused.pop()
            cache.clear()
            return cache
        db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        return Cache(db, environment=self._environment, boot=None)

    def close(self) -> None:
        if self._cache is not None:
            _unused.append(self._cache)
        self._cache = None


def small_caches_and_batches() -> AbstractContextManager[object]:
    """While a scene is explored: caches are used again, and segments are read one by one, as each read is a
    step."""
    stack = ExitStack()
    stack.enter_context(patch.object(object_store, "CacheFile", _ReusedCache))
    stack.enter_context(patch.object(object_log, "_MOST_AT_ONCE", 1))
    return stack


class Report(NamedTuple):
    runs: int
    states: int
    problems: Sequence[str]
    """The first violation, with its schedule."""
    is_complete: bool


def explore(scene: Scene, budget: Budget, *, most_runs: int) -> Report:
    """Runs every schedule that the budget allows, until one violates something or ``most_runs`` are over."""
    with small_caches_and_batches():
        return _explored(scene, budget, most_runs=most_runs)


def _explored(scene: Scene, budget: Budget, *, most_runs: int) -> Report:
    seen: set[object] = set()
    todo: list[list[Choice]] = [[]]
    runs = 0
    while todo:
        if runs >= most_runs:
            return Report(runs, len(seen), (), is_complete=False)
        prefix = todo.pop()
        runs += 1
        run = _Run(scene, budget, prefix)
        steps = run.go(seen)
        if run.world.problems:
            schedule = [f"{choice.who}:{choice.what}" for choice in run.choices]
            return Report(runs, len(seen), [*run.world.problems, " ".join(schedule)], False)
        for number, step in enumerate(steps):
            seen.add(step.state)
            at = len(prefix) + number
            todo += [[*run.choices[:at], other] for other in step.choices[1:]]
    return Report(runs, len(seen), (), is_complete=True)


class _Run:
    """One run along a schedule, and on from its end with the first choice each."""

    def __init__(self, scene: Scene, budget: Budget, prefix: Sequence[Choice]) -> None:
        self.world = World()
        self._programs = scene(self.world)
        self._budget = budget
        self._prefix = prefix
        self.choices: list[Choice] = []

    def go(self, seen: set[object]) -> list[Step]:
        """The new states after the prefix, until there is none."""
        steps: list[Step] = []
        for program in self._programs:
            program.start()
        try:
            for choice in self._prefix:
                self._do(choice)
            while choices := self._possible():
                state = self._state()
                if state in seen:
                    return steps
                steps.append(Step(state, choices))
                self._do(choices[0])
            self.world.problems += _problems(self.world)
        finally:
            for program in self._programs:
                program.stop()
            for store in self.world.stores:
                store.close()
        return steps

    def _do(self, choice: Choice) -> None:
        self.choices.append(choice)
        if choice.who < 0:
            self._programs[-1 - choice.who].late.pop(0)()
        else:
            self._programs[choice.who].go_on(choice.what)

    def _spent(self, *verdicts: str) -> int:
        return sum(choice.what in verdicts for choice in self.choices)

    def _possible(self) -> list[Choice]:
        last = self.choices[-1].who if self.choices else 0
        order = sorted(range(len(self._programs)), key=lambda who: (who != last, who))
        able = [who for who in order if not self._programs[who].is_over]
        if not able:
            return []
        if self._switches() and able[0] == last:
            able = able[:1]
        possible = [Choice(who, "do") for who in able]
        possible += [Choice(-1 - who, "arrives") for who in order if self._programs[who].late]
        for who in able:
            request = self._programs[who].pending
            if request is None:
                continue
            if self._spent("lost", "not", "late") < self._budget.losses and request.kind in (
                "create",
                "replace",
            ):
                possible += [Choice(who, what) for what in ("lost", "not", "late")]
            if self._spent("kill") < self._budget.kills and request.writes:
                possible.append(Choice(who, "kill"))
        return possible

    def _switches(self) -> bool:
        """Whether no more switches are allowed."""
        if self._budget.switches is None:
            return False
        return self._count_switches() >= self._budget.switches

    def _count_switches(self) -> int:
        whose = [choice.who for choice in self.choices if choice.who >= 0]
        return sum(one != other for one, other in pairwise(whose))

    def _state(self) -> object:
        blobs = tuple(sorted((name, blob.tag) for name, blob in self.world.objects.blobs.items()))
        programs = tuple(
            (tuple(map(repr, p.answers)).__hash__(), p.pending, p.is_over, len(p.late))
            for p in self._programs
        )
        spent = (self._spent("lost", "not", "late"), self._spent("kill"))
        if self._budget.switches is not None:
            spent += (self._count_switches(), self.choices[-1].who if self.choices else 0)
        return (blobs, programs, spent, tuple(self.world.acknowledged)).__hash__()


def _problems(world: World) -> Iterator[str]:
    """What is wrong once all programs have ended."""
    store = world.fresh()
    try:
        there = [entry.address for entry in store.journal()]
        record = store.record("x")
        header = store.header()
        records = list(store.records())
    except ReconcileError as problem:
        yield f"the state cannot be read: {problem}"
        return
    for mark in world.acknowledged:
        if there.count(mark) != 1:
            yield f"{mark} was acknowledged, and is there {there.count(mark)} times"
    if len(set(there)) != len(there):
        yield f"written twice: {there}"
    if set(there) - world.attempted.keys():
        yield f"nobody wrote {set(there) - world.attempted.keys()}"
    for place, mark in enumerate(there):
        before = world.acknowledged[: world.attempted.get(mark, 0)]
        if not set(before) <= set(there[:place]):
            yield f"{mark} began after what lies behind it: {world.acknowledged}, {there}"
    sessions = [mark.rpartition("/")[0] for mark in there]
    starts = [s for s, before in zip(sessions, ["", *sessions], strict=False) if s != before]
    if len(set(starts)) != len(starts):
        yield f"writes of two sessions are mixed: {there}"
    if there and (record is None or record.labels != (there[-1],)):
        yield f"the record is not that of the last write: {record}, {there}"
    if header.serial != len(there) or len(records) != bool(there):
        yield f"serial {header.serial} after {len(there)} writes"
