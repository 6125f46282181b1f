"""Runs many flows at once: what they decide is written down in groups, then their requests leave.

A *flow* is the life of one change (or of one look at a profile) as a generator. It decides; the
engine acts: a flow yields a `Step`, and is resumed with the answer once the step was taken. So a flow
reads like a sequence of events for one profile, and knows nothing of threads.

One thread, the caller's, runs all flows and does all writing. Whatever became ready while it was busy
goes into one durable transaction: outcomes of requests that ended, and intents of those that begin.
Only then do the requests leave, and are the outcomes told. (A commit costs about a millisecond, so at
40,000 requests a minute there is no time for one per intent and outcome: reliability 5.4.)
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
from reconciler.remote.answers import Answer, CallResult
from reconciler.state.store import LEASE, Writer

R = TypeVar("R")

GRACE = 6.0
"""Seconds after the wish to stop until a call that has not ended counts as unknown."""
_HEARTBEAT = LEASE / 4
_LOOK = 0.5
"""Seconds of waiting between two looks at the wish to stop and at the lease."""
_MOST_WAITING = 1_000
"""Flows that may wait out a quiet period at a time."""


class Writes(NamedTuple):
    """What is to be made durable together."""

    put: tuple[Record, ...] = ()
    remove: tuple[str, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    application: str | None = None

    def __bool__(self) -> bool:
        return bool(self.put or self.remove or self.journal or self.application)


class Step(NamedTuple):
    """What a flow asks for: that ``writes`` become durable; then, that ``request`` is sent. Or that
    ``wait`` seconds pass, unless the user wants to stop. ``goes_on`` says of a step without a request
    that the next one has one: its place is kept."""

    writes: Writes = Writes()
    request: Request | None = None
    wait: float = 0.0
    goes_on: bool = False


Flow: TypeAlias = Generator[Step, Answer | None, R]
"""Is resumed with the answer to its request, or with ``None`` for a step without one."""


class Calls(Protocol):
    """Requests under way."""

    def begin(self, ticket: int, request: Request) -> None:
        """Sends a request, and comes back at once."""
        ...

    def poll(self, timeout: float) -> Sequence[tuple[int, Answer]]:
        """The tickets and answers of calls that ended. Waits up to ``timeout`` seconds for one."""
        ...


class StateWriteFailed(ReconcileError):
    """The state could not be written; ``entries`` are the outcomes that it therefore does not know.

    What was under way has ended. The intents are in the state, so the next run sends those fields
    again.
    """

    def __init__(self, cause: ReconcileError, entries: Sequence[JournalEntry]) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.cause = cause
        self.exit_code = cause.exit_code
        self.entries = tuple(entries)


class Engine(Generic[R]):
    """Takes the steps of flows.

    ``in_flight`` says how many flows are worth having under way; ``stop`` whether the user wants to
    end: then no flow begins, and those under way end by themselves. ``monotonic`` is in seconds.
    ``beat`` is called about twice a second, ``wrote`` with the seconds that a write took.
    """

    def __init__(
        self,
        calls: Calls,
        writer: Writer | None,
        *,
        in_flight: Callable[[], int],
        stop: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
        beat: Callable[[], None] = lambda: None,
        wrote: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._calls = calls
        self._writer = writer
        self._in_flight = in_flight
        self._stop = stop
        self._monotonic = monotonic
        self._beat = beat
        self._tell_wrote = wrote
        self._ready: deque[tuple[Flow[R], Answer | None]] = deque()
        self._called: dict[int, tuple[Flow[R], Request]] = {}
        self._waiting: list[tuple[float, Flow[R]]] = []
        self._due: deque[Flow[R]] = deque()
        self._tickets = 0
        self._begun: list[R] = []
        self._exhausted = False
        self._problem: Exception | None = None
        self._stopped: float | None = None
        self._wrote = monotonic()
        self._beaten = monotonic()

    @property
    def under_way(self) -> int:
        """How many calls are."""
        return len(self._called)

    def run(self, flows: Iterable[Flow[R]]) -> Iterator[R]:
        """Runs flows to their ends, and gives their results in the order in which these became
        durable. Flows are begun in their order, and only as many as are worth it.

        Raises StateWriteFailed where the state cannot be written, and what a flow or their source raised;
        in either case once everything under way has ended.
        """
        source = iter(flows)
        while True:
            yield from self._turn(source)
            if not self._ready:
                if self._called or self._waiting:
                    self._take_in()
                elif self._due or self._begun:
                    continue
                elif self._problem is not None:
                    raise self._problem
                elif self._exhausted:
                    return
            self._keep_up()

    # --- one round ---------------------------------------------------------------------------

    def _turn(self, source: Iterator[Flow[R]]) -> Iterator[R]:
        """Resumes every flow that is ready up to its next step, begins those that there is room for,
        and takes all these steps at once: the outcome of one and the intent of the next cost one
        write, not two."""
        steps: list[tuple[Flow[R], Step]] = []
        results: list[R] = []
        self._advance(steps, results)
        # What ended as it began may have done so because of an outcome that was written only then.
        results += self._begun
        self._begun = []
        self._admit(source, sum(step.request is not None or step.goes_on for _, step in steps))
        self._advance(steps, self._begun)
        failure = None
        try:
            self._take(steps)
        except StateWriteFailed as problem:
            failure = problem
            results += self._begun
        yield from results  # durable since the round before, whatever became of this one
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
        """Makes flows ready, as many as may call beside those that do and the ``calling`` ones."""
        for _ in range(self._in_flight() - len(self._called) - calling):
            if self._due:  # many may have waited enough at the same time
                self._ready.append((self._due.popleft(), None))
                continue
            full = len(self._waiting) >= _MOST_WAITING
            if full or self._problem is not None:
                return
            if self._stop():
                self._exhausted = True
                return
            try:
                flow = next(source, None)
            except Exception as problem:  # such as a saved plan that was altered meanwhile
                self._problem = problem
                return
            if flow is None:
                self._exhausted = True
                return
            self._ready.append((flow, None))

    def _take(self, steps: Sequence[tuple[Flow[R], Step]]) -> None:
        self._write([step.writes for _, step in steps])
        now = self._monotonic()
        for flow, step in steps:
            if step.request is not None:
                self._tickets += 1
                self._called[self._tickets] = (flow, step.request)
                self._calls.begin(self._tickets, step.request)
            elif step.wait > 0:
                self._waiting.append((now + step.wait, flow))
            else:
                self._ready.append((flow, None))

    def _take_in(self) -> None:
        """Waits until a call has ended, or a flow has waited enough."""
        now = self._monotonic()
        timeout = min([_LOOK, *(max(0.0, until - now) for until, _ in self._waiting)])
        for ticket, answer in self._calls.poll(timeout):
            called = self._called.pop(ticket, None)
            if called is not None:  # and was not given up
                self._ready.append((called[0], answer))
        now, stopping = self._monotonic(), self._stop()
        waiting = self._waiting
        self._waiting = []
        for until, flow in waiting:
            if until <= now or stopping:
                self._due.append(flow)
            else:
                self._waiting.append((until, flow))
        if stopping:
            self._give_up(now)

    def _give_up(self, now: float) -> None:
        """What has not ended some time after the wish to stop will not be waited for."""
        if self._stopped is None:
            self._stopped = now
        if now - self._stopped < GRACE:
            return
        late = Answer(CallResult.UNKNOWN, message="it had not ended when the run was stopped")
        for flow, _ in self._called.values():
            self._ready.append((flow, late))
        self._called.clear()

    def _keep_up(self) -> None:
        now = self._monotonic()
        if self._writer is not None and now - self._wrote > _HEARTBEAT:
            self._guarded(self._writer.renew)
        if now - self._beaten >= _LOOK:
            self._beaten = now
            self._beat()

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
        self._tell_wrote(self._monotonic() - began)

    def _guarded(self, write: Callable[[], object], writes: Sequence[Writes] = ()) -> None:
        try:
            write()
        except ReconcileError as problem:
            entries = [entry for each in writes for entry in each.journal]
            entries += self._outcomes_under_way()
            lost = [entry for entry in entries if entry.kind is not JournalKind.INTENT]
            raise StateWriteFailed(problem, lost) from None
        self._wrote = self._monotonic()

    def _outcomes_under_way(self) -> Iterator[JournalEntry]:
        """Waits for the calls that are under way, and gives the outcomes that cannot be recorded."""
        ends = self._monotonic() + GRACE
        while True:
            while self._ready:
                flow, answer = self._ready.popleft()
                with contextlib.suppress(StopIteration, ReconcileError):
                    yield from flow.send(answer).writes.journal
            if not self._called or self._monotonic() >= ends:
                return
            for ticket, answer in self._calls.poll(_LOOK):
                self._ready.append((self._called.pop(ticket)[0], answer))
