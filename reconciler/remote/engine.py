"""Runs many flows at once: a group commit makes their decisions durable, then their requests leave.

A *flow* is the life of one change (or of one read of a profile) as a generator. It decides, and the
engine acts: a flow yields a `Step`, and the engine resumes it with the answer. So a flow reads like a
sequence of events for one profile, and knows nothing of threads.

One thread, the caller's, runs all flows and does all writing. One durable transaction takes everything
that became ready while the thread was busy: outcomes of requests that ended, and intents of those that
begin. Only then do the requests leave, and the caller gets the outcomes. (A commit costs about a
millisecond, so at 40,000 requests a minute there is no time for one per intent and outcome: reliability
5.4.)
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from reconciler.core.plan import Request
from reconciler.core.records import JournalEntry, JournalKind, Record
from reconciler.errors import ReconcileError
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.state.store import LEASE, Writer

R = TypeVar("R")

STOP_GRACE = 6.0
"""Seconds between the wish to stop and the moment when a call that has not ended counts as unknown."""
_HEARTBEAT = LEASE / 4
"""Seconds without a write after which the engine renews the lease."""
_TICK = 0.5
"""Seconds between two ticks: the engine checks for a wish to stop and renews the lease."""
_MOST_WAITING = 1_000
"""The most flows that wait out a quiet period at a time."""


class Writes(NamedTuple):
    """Changes of the state that one transaction makes durable together."""

    put: tuple[Record, ...] = ()
    remove: tuple[str, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    application: str | None = None

    def __bool__(self) -> bool:
        return bool(self.put or self.remove or self.journal or self.application)


class Step(NamedTuple):
    """A flow asks that ``writes`` become durable, and that ``request`` is sent after that. Or it asks that
    ``wait`` seconds pass, unless the user wants to stop; ``address`` names the profile that waits.
    ``goes_on`` says of a step without a request that the next step has one, so the engine keeps a place
    for the flow."""

    writes: Writes = Writes()
    request: Request | None = None
    wait: float = 0.0
    address: str = ""
    goes_on: bool = False


Flow: TypeAlias = Generator[Step, ApiAnswer | None, R]
"""The engine resumes it with the answer to its request, or with ``None`` after a step without one."""


class Wait(NamedTuple, Generic[R]):
    """A flow that waits until a time by the monotonic clock, and the address of its profile."""

    until: float
    flow: Flow[R]
    address: str


class Calls(Protocol):
    """Requests under way."""

    def begin(self, ticket: int, request: Request) -> None:
        """Sends a request, and returns at once. ``ticket`` names the call."""
        ...

    def poll(self, timeout: float) -> Sequence[tuple[int, ApiAnswer]]:
        """The tickets and answers of calls that ended. Waits up to ``timeout`` seconds for one."""
        ...


class StateWriteFailed(ReconcileError):
    """The state could not be written. ``entries`` are the outcomes that it therefore does not know.

    All calls under way have ended. Their intents are in the state, so the next run sends those fields
    again.
    """

    def __init__(self, cause: ReconcileError, entries: Sequence[JournalEntry]) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.cause = cause
        self.exit_code = cause.exit_code
        self.entries = tuple(entries)


class Engine(Generic[R]):
    """Takes the steps of flows.

    ``in_flight`` gives the number of flows that are worth having under way. ``stop`` says whether the user
    wants to stop: then no flow begins, and those under way end by themselves. ``monotonic`` is in seconds.
    The engine calls ``on_tick`` about twice a second, and ``on_state_write`` with the seconds that a write
    took.
    """

    def __init__(
        self,
        calls: Calls,
        writer: Writer | None,
        *,
        in_flight: Callable[[], int],
        stop: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
        on_tick: Callable[[], None] = lambda: None,
        on_state_write: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._calls = calls
        self._writer = writer
        self._in_flight = in_flight
        self._stop = stop
        self._monotonic = monotonic
        self._on_tick = on_tick
        self._on_state_write = on_state_write
        self._ready: deque[tuple[Flow[R], ApiAnswer | None]] = deque()
        self._under_way: dict[int, tuple[Flow[R], Request]] = {}
        self._waiting: list[Wait[R]] = []
        self._due: deque[Flow[R]] = deque()
        self._tickets = 0
        self._immediate_results: list[R] = []
        self._no_more_flows = False
        self._problem: Exception | None = None
        self._stop_time: float | None = None
        self._last_write = monotonic()
        self._last_tick = monotonic()

    @property
    def calls_under_way(self) -> int:
        """The number of calls that have not ended."""
        return len(self._under_way)

    @property
    def waits(self) -> Sequence[tuple[str, float]]:
        """The addresses of the profiles that wait without a call, each with the seconds that are left."""
        now = self._monotonic()
        return [(wait.address, max(0.0, wait.until - now)) for wait in self._waiting]

    def run(self, flows: Iterable[Flow[R]]) -> Iterator[R]:
        """Runs flows to their ends, and yields their results in the order in which these became durable.
        Flows begin in their order, and only as many as are worth having under way.

        Raises StateWriteFailed if the state cannot be written, and any error of a flow or of ``flows``. In
        either case everything under way has ended by then.
        """
        source = iter(flows)
        while True:
            yield from self._run_round(source)
            if not self._ready:
                if self._under_way or self._waiting:
                    self._collect_answers()
                elif self._due or self._immediate_results:
                    continue
                elif self._problem is not None:
                    raise self._problem
                elif self._no_more_flows:
                    return
            self._renew_and_tick()

    # --- one round ---------------------------------------------------------------------------

    def _run_round(self, source: Iterator[Flow[R]]) -> Iterator[R]:
        """Resumes every ready flow up to its next step, begins as many flows as there is room for, and takes
        all these steps at once: the outcome of one and the intent of the next cost one write, not two."""
        steps: list[tuple[Flow[R], Step]] = []
        results: list[R] = []
        self._advance(steps, results)
        # A flow that ended as it began may depend on an outcome that was written only in that round.
        results += self._immediate_results
        self._immediate_results = []
        self._admit(source, sum(step.request is not None or step.goes_on for _, step in steps))
        self._advance(steps, self._immediate_results)
        failure = None
        try:
            self._take_steps(steps)
        except StateWriteFailed as problem:
            failure = problem
            results += self._immediate_results
        yield from results  # durable since the round before, whether or not this one is
        if failure is not None:
            raise failure

    def _advance(self, steps: list[tuple[Flow[R], Step]], results: list[R]) -> None:
        while self._ready:
            flow, answer = self._ready.popleft()
            try:
                steps.append((flow, flow.send(answer)))
            except StopIteration as ended:
                results.append(ended.value)
            except Exception as problem:  # such as a record that is damaged
                self._problem = self._problem or problem

    def _admit(self, source: Iterator[Flow[R]], calling: int) -> None:
        """Makes flows ready, as many as may call beside the calls under way and the ``calling`` flows."""
        for _ in range(self._in_flight() - len(self._under_way) - calling):
            if self._due:  # the waits of many flows may end at the same time
                self._ready.append((self._due.popleft(), None))
                continue
            full = len(self._waiting) >= _MOST_WAITING
            if full or self._problem is not None:
                return
            if self._stop():
                self._no_more_flows = True
                return
            try:
                flow = next(source, None)
            except Exception as problem:  # such as a saved plan that was altered meanwhile
                self._problem = problem
                return
            if flow is None:
                self._no_more_flows = True
                return
            self._ready.append((flow, None))

    def _take_steps(self, steps: Sequence[tuple[Flow[R], Step]]) -> None:
        self._write([step.writes for _, step in steps])
        now = self._monotonic()
        for flow, step in steps:
            if step.request is not None:
                self._tickets += 1
                self._under_way[self._tickets] = (flow, step.request)
                self._calls.begin(self._tickets, step.request)
            elif step.wait > 0:
                self._waiting.append(Wait(now + step.wait, flow, step.address))
            else:
                self._ready.append((flow, None))

    def _collect_answers(self) -> None:
        """Waits until a call has ended, or the wait of a flow."""
        now = self._monotonic()
        timeout = min([_TICK, *(max(0.0, wait.until - now) for wait in self._waiting)])
        for ticket, answer in self._calls.poll(timeout):
            call = self._under_way.pop(ticket, None)
            if call is not None:  # `_give_up` has not answered it
                self._ready.append((call[0], answer))
        now, stopping = self._monotonic(), self._stop()
        waiting = self._waiting
        self._waiting = []
        for wait in waiting:
            if wait.until <= now or stopping:
                self._due.append(wait.flow)
            else:
                self._waiting.append(wait)
        if stopping:
            self._give_up(now)

    def _give_up(self, now: float) -> None:
        """Stops waiting for calls some time after the wish to stop: their outcome is unknown."""
        if self._stop_time is None:
            self._stop_time = now
        if now - self._stop_time < STOP_GRACE:
            return
        unknown = ApiAnswer(CallResult.UNKNOWN, message="it had not ended when the run was stopped")
        for flow, _ in self._under_way.values():
            self._ready.append((flow, unknown))
        self._under_way.clear()

    def _renew_and_tick(self) -> None:
        now = self._monotonic()
        if self._writer is not None and now - self._last_write > _HEARTBEAT:
            self._guarded(self._writer.renew)
        if now - self._last_tick >= _TICK:
            self._last_tick = now
            self._on_tick()

    # --- writing -----------------------------------------------------------------------------

    def _write(self, all_writes: Sequence[Writes]) -> None:
        writes = [each for each in all_writes if each]
        if not writes:
            return
        assert self._writer is not None, "a flow without a writer wants to write"
        writer = self._writer
        application = next((each.application for each in writes if each.application), None)

        def write() -> None:
            writer.write(
                put=chain.from_iterable(each.put for each in writes),
                remove=chain.from_iterable(each.remove for each in writes),
                journal=chain.from_iterable(each.journal for each in writes),
                application=application,
            )

        began = self._monotonic()
        self._guarded(write, writes)
        self._on_state_write(self._monotonic() - began)

    def _guarded(self, write: Callable[[], object], writes: Sequence[Writes] = ()) -> None:
        try:
            write()
        except ReconcileError as problem:
            entries = [entry for each in writes for entry in each.journal]
            entries += self._outcomes_under_way()
            outcomes = [entry for entry in entries if entry.kind is not JournalKind.INTENT]
            raise StateWriteFailed(problem, outcomes) from None
        self._last_write = self._monotonic()

    def _outcomes_under_way(self) -> Iterator[JournalEntry]:
        """Waits for the calls under way, and yields the outcomes that cannot be recorded."""
        ends = self._monotonic() + STOP_GRACE
        while True:
            while self._ready:
                flow, answer = self._ready.popleft()
                with contextlib.suppress(StopIteration, ReconcileError):
                    yield from flow.send(answer).writes.journal
            if not self._under_way or self._monotonic() >= ends:
                return
            for ticket, answer in self._calls.poll(_TICK):
                self._ready.append((self._under_way.pop(ticket)[0], answer))
