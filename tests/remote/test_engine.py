"""The engine: the order of writes and requests, the number of calls under way, and the end of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from reconciler.core.plan import Request
from reconciler.core.records import Header, JournalEntry, JournalKind
from reconciler.errors import ReconcileError, Refused
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.engine import (
    STOP_GRACE,
    Engine,
    Flow,
    StateWriteFailed,
    Step,
    Writes,
)

DONE = ApiAnswer(CallResult.DONE)


def request(name: str) -> Request:
    return Request("PATCH", "/", {"adapty-customer-user-id": name})


def entry(name: str, kind: str) -> JournalEntry:
    return JournalEntry("run", name, kind, at=0.0)


def flow(name: str, *, wait: float = 0.0) -> Flow[str]:
    """Intent, call, outcome."""
    if wait:
        yield Step(wait=wait)
    answer = yield Step(Writes(journal=(entry(name, JournalKind.INTENT),)), request(name))
    assert answer is not None
    yield Step(Writes(journal=(entry(name, answer.result.value),)))
    return f"{name} {answer.result}"


class World:
    """A writer and calls that note all events in their order. Only waiting moves the clock.

    Calls end when the engine waits for them, the last one first, unless they are ``stuck``.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.transactions: list[list[str]] = []
        self.time = 0.0
        self.stuck: set[str] = set()
        self.failing = False
        self.stopping = False
        self.window = 4
        self.renewals = 0
        self._calls: list[tuple[int, str]] = []

    # the writer

    def write(self, *, journal: Iterable[JournalEntry] = (), **others: Any) -> Header:
        if self.failing:
            raise ReconcileError("the disk is full")
        entries = [f"{each.address} {each.kind}" for each in journal]
        self.transactions.append(entries)
        self.events += entries
        return Header()

    def renew(self) -> None:
        self.renewals += 1

    # the calls

    def begin(self, ticket: int, request: Request) -> None:
        name = request.headers["adapty-customer-user-id"]
        self.events.append(f"{name} sent")
        self._calls.append((ticket, name))

    def poll(self, timeout: float) -> list[tuple[int, ApiAnswer]]:
        answers = [(ticket, DONE) for ticket, name in self._calls if name not in self.stuck]
        self._calls = [each for each in self._calls if each[1] in self.stuck]
        if not answers:
            self.time += timeout
        return answers[::-1]

    def run(self, flows: Iterable[Flow[str]]) -> Iterator[str]:
        engine = Engine[str](
            self,
            self,  # type: ignore[arg-type]  # of a writer it needs no more
            in_flight=lambda: self.window,
            stop=lambda: self.stopping,
            monotonic=lambda: self.time,
        )
        for result in engine.run(flows):
            self.events.append(f"reported {result}")
            yield result


def test_an_intent_is_durable_before_its_request_and_an_outcome_before_it_is_reported() -> None:
    world = World()
    list(world.run([flow("a")]))
    assert world.events == ["a intent", "a sent", "a done", "reported a done"]


def test_one_transaction_takes_outcomes_and_the_intents_of_the_next_flows() -> None:
    world = World()
    list(world.run(flow(name) for name in "abcdefgh"))
    assert world.transactions == [
        ["a intent", "b intent", "c intent", "d intent"],
        ["d done", "c done", "b done", "a done", "e intent", "f intent", "g intent", "h intent"],
        ["h done", "g done", "f done", "e done"],
    ]


def test_a_flow_that_ends_as_it_begins_is_reported_after_the_outcomes_before_it() -> None:
    world = World()

    def at_once() -> Flow[str]:
        return "b skipped"
        yield

    world.window = 1
    assert list(world.run([flow("a"), at_once(), flow("c")])) == ["a done", "b skipped", "c done"]


def test_a_flow_that_goes_on_keeps_its_place() -> None:
    world = World()
    world.window = 1

    def twice() -> Flow[str]:
        yield Step(request=request("a"))
        yield Step(Writes(journal=(entry("a", "done"),)), goes_on=True)
        yield Step(request=request("a again"))
        return "a done"

    assert list(world.run([twice(), flow("b")])) == ["a done", "b done"]
    assert world.events.index("a again sent") < world.events.index("b intent")


def test_no_more_flows_begin_than_are_worth_having_under_way() -> None:
    world, most = World(), 0
    world.window = 2
    under_way: set[str] = set()
    results = list(world.run(flow(name) for name in "abcdef"))
    for event in world.events:
        name, what = event.split()[:2]
        if what == "sent":
            under_way.add(name)
        elif what == "done":
            under_way.discard(name)
        most = max(most, len(under_way))
    assert (len(results), most) == (6, 2)


def test_a_flow_that_waits_does_not_hold_up_the_others() -> None:
    world = World()
    world.window = 1
    results = list(world.run([flow("slow", wait=60.0), flow("quick")]))
    assert results == ["quick done", "slow done"]
    assert 60 <= world.time < 61


def test_the_lease_is_renewed_while_nothing_is_written() -> None:
    world = World()
    list(world.run([flow("slow", wait=60.0)]))
    assert world.renewals >= 3


def test_after_a_wish_to_stop_no_flow_begins_and_those_under_way_end() -> None:
    world = World()

    def stopping(source: Iterable[Flow[str]]) -> Iterator[Flow[str]]:
        for number, each in enumerate(source):
            world.stopping = number == 2
            yield each

    assert sorted(world.run(stopping(flow(name) for name in "abcdef"))) == [
        "a done",
        "b done",
        "c done",
    ]


def test_a_call_that_does_not_end_after_a_stop_counts_as_unknown() -> None:
    world = World()
    world.stuck = {"a"}

    def stopping() -> Iterator[Flow[str]]:
        yield flow("a")
        world.stopping = True

    assert list(world.run(stopping())) == ["a unknown"]
    assert STOP_GRACE <= world.time < STOP_GRACE + 1


def test_an_intent_that_cannot_be_written_is_not_sent_and_the_error_carries_the_outcomes() -> None:
    world = World()
    world.window = 1
    engine = world.run(flow(name) for name in "abc")
    assert next(engine) == "a done"
    world.failing = True
    with pytest.raises(StateWriteFailed, match="disk is full") as raised:
        list(engine)
    assert "b sent" in world.events  # its intent became durable with the outcome of a
    assert "c sent" not in world.events
    assert [(each.address, each.kind) for each in raised.value.entries] == [("b", "done")]


def test_a_write_that_fails_carries_the_outcomes_of_calls_under_way() -> None:
    world = World()

    def breaking() -> Iterator[Flow[str]]:
        yield flow("a")
        yield flow("b")

    original = world.begin

    def begin(ticket: int, call: Request) -> None:
        original(ticket, call)
        world.failing = True

    world.begin = begin  # type: ignore[method-assign]
    with pytest.raises(StateWriteFailed) as raised:
        list(world.run(breaking()))
    assert {(each.address, each.kind) for each in raised.value.entries} == {
        ("a", "done"),
        ("b", "done"),
    }


def test_a_flow_that_fails_is_raised_once_the_others_have_ended() -> None:
    world = World()

    def broken() -> Flow[str]:
        raise Refused("a damaged record")
        yield Step()

    with pytest.raises(Refused, match="damaged"):
        list(world.run([flow("a"), broken(), flow("b")]))
    assert world.events[-2:] == ["reported b done", "reported a done"]


def test_a_source_that_fails_is_raised_once_the_others_have_ended() -> None:
    world = World()

    def source() -> Iterator[Flow[str]]:
        yield flow("a")
        raise Refused("the plan was altered")

    with pytest.raises(Refused, match="altered"):
        list(world.run(source()))
    assert world.events[-1] == "reported a done"
