"""The share of the rate that an apply reaches beside a state whose writes take long: ``python -m
benchmarks.slow_state [--seconds N] [--write]``.

The engine, the pace and the threads are the real ones. A call sleeps for 150 ms, and so does a write for as
long as the row says, with a millisecond for each hundred entries (state-backends 4).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.measuring import Table, parser, publish
from reconciler.core.options import Rate
from reconciler.core.plan import Request
from reconciler.core.records import Header, JournalEntry, JournalKind
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.engine import Engine, Flow, Step, Writes
from reconciler.remote.pacing import (
    MOST_IN_FLIGHT,
    USUAL_IN_FLIGHT,
    Pace,
    SystemClock,
    Verdict,
)
from reconciler.remote.threads import DaemonExecutor, ExecutorCalls

RATE = 40_000 / 60
LATENCY = 0.15
"""Seconds of a call."""
MILLISECONDS = (0, 2, 5, 30, 60, 100)
"""Of a write of the state."""
DONE = ApiAnswer(CallResult.DONE, status=200)


class Measured(NamedTuple):
    """What a run reached."""

    sent: int
    seconds: float
    writes: int
    places: int
    """Calls that the pace came to think worth having under way."""

    @property
    def share(self) -> float:
        """Of the rate."""
        return self.sent / self.seconds / RATE


class _State:
    """A writer that takes its time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.writes = 0

    def write(self, *, journal: Iterable[JournalEntry] = (), **others: object) -> Header:
        self.writes += 1
        time.sleep(self._seconds + 1e-5 * len(list(journal)))
        return Header()

    def renew(self) -> None:
        self.write()


def _flow(index: int) -> Flow[int]:
    address = f"bench-{index}"
    request = Request("PATCH", "/", {"adapty-customer-user-id": address}, {})
    intent = JournalEntry("run", address, JournalKind.INTENT, 0.0, "update", "", "")
    yield Step(Writes(journal=(intent,)), request)
    yield Step(Writes(journal=(intent._replace(kind=JournalKind.APPLIED),)))
    return index


def measure(milliseconds: float, *, seconds: float, most: int | None = None) -> Measured:
    """One run. ``most`` is the most calls under way, by default what the pace chooses."""
    pace = Pace(Rate(RATE), clock=SystemClock())
    state = _State(milliseconds / 1000)
    lock = threading.Lock()
    in_time = 0

    def send(request: Request) -> ApiAnswer:
        nonlocal in_time
        pace.enter()
        pace.sent()
        with lock:
            in_time += time.monotonic() < end
        began = time.monotonic()
        time.sleep(LATENCY)
        pace.learn(Verdict.UP, began=began)
        return DONE

    began = time.monotonic()
    end = began + seconds

    def flows() -> Iterator[Flow[int]]:
        index = 0
        while time.monotonic() < end:
            yield _flow(index)
            index += 1

    with DaemonExecutor(MOST_IN_FLIGHT) as executor:
        engine: Engine[int] = Engine(
            ExecutorCalls(executor, send),
            state,  # type: ignore[arg-type]  # of a writer it needs no more
            in_flight=lambda: pace.in_flight(most),
            on_state_write=pace.learn_write_time,
        )
        for _ in engine.run(flows()):
            pass
    return Measured(in_time, seconds, state.writes, pace.in_flight(most))


def table(rows: Sequence[float], *, seconds: float) -> Table:
    """A row for each time of a write, in milliseconds: the usual number of calls, and the chosen one."""
    heads = (
        "write",
        "of the rate, 128 calls",
        "calls by the time of a write",
        "calls under way",
        "writes/s",
    )
    result = Table("667 requests a second, calls of 150 ms", heads)
    for milliseconds in rows:
        usual = measure(milliseconds, seconds=seconds, most=USUAL_IN_FLIGHT)
        chosen = measure(milliseconds, seconds=seconds)
        result.rows.append(
            (
                f"{milliseconds:g} ms",
                f"{usual.share:.1%}",
                f"{chosen.share:.1%}",
                str(chosen.places),
                f"{chosen.writes / chosen.seconds:.0f}",
            )
        )
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=20.0, help="Of each run.")
    given = options.parse_args(arguments)
    publish("A distant state", [table(MILLISECONDS, seconds=given.seconds)], write=given.write)


if __name__ == "__main__":
    main()
