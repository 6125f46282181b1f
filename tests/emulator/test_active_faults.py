"""Active faults: which requests they strike, and the plan for a request."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.emulator import (
    FaultKind,
    Faults,
    parse_fault,
)
from reconciler.emulator.active_faults import FaultPlan

# --- which requests they strike -------------------------------------------------------------------


def numbers_struck(text: str, count: int, **options: Any) -> list[int]:
    """The numbers of the requests that a fault strikes, out of ``count``, from 1."""
    faults = Faults([parse_fault(text)], **options)
    return [number for number in range(1, count + 1) if faults.strike("PATCH", "jane")]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("503", [1, 2, 3, 4, 5, 6]),
        ("503:every=2", [2, 4, 6]),
        ("503:times=2", [1, 2]),
        ("503:after=3", [4, 5, 6]),
        ("503:after=1:every=2:times=2", [3, 5]),
        ("503:method=GET", []),
        ("503:method=PATCH", [1, 2, 3, 4, 5, 6]),
        ("503:address=j?n*", [1, 2, 3, 4, 5, 6]),
        ("503:address=J*", []),
        ("503:rate=0", []),
    ],
)
def test_conditions_compose(text: str, numbers: list[int]) -> None:
    assert numbers_struck(text, 6) == numbers


def test_a_route_is_a_condition() -> None:
    faults = Faults([parse_fault("503:route=grant:every=2")])
    routes = ("grant", "profile", "", "revoke", "grant", "grant", "grant")
    struck = [bool(faults.strike("POST", "jane", route=each)) for each in routes]
    assert struck == [False, False, False, False, True, False, True]
    (entry,) = faults.entries()
    assert entry.matches == 4


def test_only_requests_that_match_are_counted() -> None:
    faults = Faults([parse_fault("503:method=PATCH:address=qa-*:every=2")])
    requests = [
        ("GET", "qa-1"),
        ("PATCH", "x"),
        ("PATCH", "qa-1"),
        ("GET", "qa-1"),
        ("PATCH", "qa-2"),
    ]
    assert [bool(faults.strike(*each)) for each in requests] == [False, False, False, False, True]
    (entry,) = faults.entries()
    assert (entry.matches, entry.strikes) == (2, 1)


def test_an_address_that_is_a_pattern_strikes_itself() -> None:
    faults = Faults([parse_fault("503:address=user[1]")])
    names = ("user[1]", "user1", "user2")
    assert [bool(faults.strike("PATCH", name)) for name in names] == [True, True, False]


def test_between_counts_from_the_start() -> None:
    now = [100.0]
    faults = Faults([parse_fault("503:between=5-10")], clock=lambda: now[0])
    now[0] = 200.0
    faults.start()
    hits = []
    for seconds in (0, 4.9, 5, 9.9, 10, 100):
        now[0] = 200.0 + seconds
        hits.append(bool(faults.strike("GET", "")))
    assert hits == [False, False, True, True, False, False]


def test_random_strikes_repeat_with_the_same_seed_and_keep_their_rate() -> None:
    first = numbers_struck("503:rate=0.5", 400, seed=1)
    assert (
        first
        == numbers_struck("503:rate=0.5", 400, seed=1)
        != numbers_struck("503:rate=0.5", 400, seed=2)
    )
    assert 140 < len(first) < 260


def test_random_strikes_of_a_fault_do_not_depend_on_other_faults() -> None:
    alone = numbers_struck("503:rate=0.5", 50, seed=3)
    faults = Faults([parse_fault("503:rate=0.5"), parse_fault("latency=1:rate=0.5")], seed=3)
    kinds = [{each.kind for each in faults.strike("PATCH", "jane")} for _ in range(50)]
    assert [n for n, each in enumerate(kinds, 1) if FaultKind.STATUS in each] == alone


def test_jitter_is_drawn_within_its_bounds_and_repeats() -> None:
    def jitters(seed: int) -> list[float]:
        faults = Faults([parse_fault("latency=1:jitter=0.5")], seed=seed)
        return [faults.strike("GET", "")[0].seconds for _ in range(50)]

    assert jitters(1) == jitters(1) != jitters(2)
    assert all(1 <= seconds <= 1.5 for seconds in jitters(1))
    assert max(jitters(1)) - min(jitters(1)) > 0.3


def test_faults_can_be_changed_while_they_strike() -> None:
    faults = Faults()
    assert not faults
    first, second = faults.add(parse_fault("503")), faults.add(parse_fault("429"))
    assert [each.status for each in faults.strike("GET", "")] == [503, 429]
    assert faults.remove(first)
    assert not faults.remove(first)
    assert [each.status for each in faults.strike("GET", "")] == [429]
    assert faults.add(parse_fault("502")) not in (first, second)
    faults.clear()
    assert faults.strike("GET", "") == ()


# --- the plan for a request -----------------------------------------------------------------------


def fault_plan(*texts: str) -> FaultPlan:
    return FaultPlan.of([parse_fault(text) for text in texts])


def test_delays_add_up_and_the_first_that_ends_a_request_wins() -> None:
    plan = fault_plan(
        "latency=1", "drip=5", "latency=2", "lag=3", "503", "reset-after", "truncate=5"
    )
    assert (plan.latency, plan.lag) == (3, 3)
    assert plan.ending == parse_fault("503")
    assert [each.kind for each in plan.alterations] == [FaultKind.TRUNCATE, FaultKind.DRIP]
    assert not plan.takes_effect


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("503", False), ("503:effect=yes", True), ("204", True), ("202:effect=no", False),
        ("redirect=302", False), ("redirect=302:effect=yes", True),
        ("reset-before", False), ("reset-after", True), ("close-before", False),
        ("close-after", True), ("stall-before", False), ("stall-after", True),
        ("late=1", False), ("outage=1:times=1", False), ("body=html", True),
        ("body=html:effect=no", False), ("truncate=5", True), ("latency=1", True),
    ],
)  # fmt: skip
def test_a_fault_decides_whether_the_request_takes_effect(text: str, effect: bool) -> None:
    assert fault_plan(text).takes_effect is effect
