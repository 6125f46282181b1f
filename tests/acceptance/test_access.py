"""Access levels through plan and apply: what is sent, what is never sent, and what happens when answers are
lost. The transitions of adapty-api 8.3 are folders below tests/cases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.contract_files import load_contract
from reconciler.core.endpoints import PATH, read_recorded
from reconciler.core.facets.access_levels import GRANT
from reconciler.core.facets.registry import refusal_notes, time_warnings
from reconciler.core.instants import instant_text
from reconciler.core.options import Options
from reconciler.core.outcomes import DriftKind, Outcome
from reconciler.core.plan import HazardKind, Op, Plan, Request
from reconciler.core.planner import make_plan
from reconciler.core.records import by_address
from reconciler.core.transitions import LookUp, Observed
from reconciler.errors import Diagnostic
from reconciler.remote.refresh import compare
from reconciler.resources import load_schema
from tests.support.clock import ManualClock
from tests.support.worlds import (
    Crash,
    World,
    crash_after,
    crash_before,
    lost_after,
    lost_before,
    profiles_of,
)

START = 1_800_000_000.0
"""2027-01-15T08:00:00Z"""
DAY = 86_400.0
T1 = "2027-02-01T00:00:00Z"
T2 = "2027-03-01T00:00:00Z"
PROFILE = {"customer_user_id": "jane", "first_name": "Jane"}


def jane(**levels: Any) -> dict[str, Any]:
    """The document of Jane with some access levels."""
    return {**PROFILE, "access_levels": levels}


@pytest.fixture
def world() -> World:
    return World(clock=ManualClock(START))


def sent(world: World, *values: dict[str, Any], **options: Any) -> list[tuple[str, Any]]:
    """The requests that reaching some documents takes: the last part of the path, and the body."""
    before = len(world.wire.sent)
    world.reach(*values, **options)
    return [(name_of(r.method, r.path), r.body) for r in world.wire.sent[before:]]


def name_of(method: str, path: str) -> str:
    return method if path == PATH else path.split("/")[-3]


def access(world: World) -> dict[str, Any]:
    (profile,) = world.emulator.content()
    return dict(profile["access"])


def problems(world: World, *values: dict[str, Any]) -> list[Diagnostic]:
    """The errors that prevent a plan."""
    outcome = make_plan(
        profiles_of(values),
        by_address(world.store.records()),
        header=world.store.header(),
        contract=load_contract(),
        options=Options(now=world.clock.time),
    )
    assert not isinstance(outcome, Plan)
    return outcome


def bought(world: World, **access: Any) -> None:
    """Jane buys premium in the App Store."""
    world.reach(PROFILE)
    purchase = {
        "store": "app_store",
        "store_product_id": "yearly",
        "access_level": "premium",
        **access,
    }
    world.emulator.plant({"profiles": [{"customer_user_id": "jane", "purchases": [purchase]}]})
    world.reach({**PROFILE, "last_name": "Doe"})  # whose answer shows the purchase


# --- what is sent ---------------------------------------------------------------------------------


def test_a_profile_that_declares_no_access_costs_what_it_cost(world: World) -> None:
    assert sent(world, PROFILE) == [
        ("PATCH", {"first_name": "Jane"}),
        ("POST", {"first_name": "Jane"}),
    ]
    (record,) = world.store.records()
    assert (record.seen, record.granted) == ({}, frozenset())


def test_the_profile_is_made_before_access_is_granted(world: World) -> None:
    assert sent(world, jane(premium="lifetime", pro=T1)) == [
        ("PATCH", {"first_name": "Jane"}),
        ("POST", {"first_name": "Jane"}),
        ("grant", {"access_level_id": "premium"}),
        ("grant", {"access_level_id": "pro", "expires_at": T1}),
    ]
    assert world.plan(jane(premium="lifetime", pro=T1)).is_empty


def test_a_profile_with_nothing_but_access_is_read_or_made_first(world: World) -> None:
    only = {"customer_user_id": "jane", "access_levels": {"premium": "lifetime"}}
    assert sent(world, only) == [
        ("GET", None),
        ("POST", {}),
        ("grant", {"access_level_id": "premium"}),
    ]


def test_access_that_is_found_is_not_granted_again(world: World) -> None:
    """Each grant may emit an event (adapty-api 8.4)."""
    other = World(clock=world.clock)
    other.emulator, other.wire = world.emulator, world.wire
    other.reach(jane(premium=T1))
    assert sent(world, jane(premium=T1)) == [("PATCH", {"first_name": "Jane"})]
    assert len(world.emulator.access_events) == 1
    assert world.plan(jane(premium=T1)).is_empty


def test_a_grant_never_has_to_shorten_what_is_found(world: World) -> None:
    other = World(clock=world.clock)
    other.emulator, other.wire = world.emulator, world.wire
    other.reach(jane(premium=T2))
    done = world.reach(jane(premium=T1))
    assert "a grant does not shorten" in " ".join(done.results[0].warnings)
    assert sent(world, jane(premium=T1)) == [
        ("GET", None),
        ("revoke", {"access_level_id": "premium", "revoke_at": T1}),
    ]
    assert world.plan(jane(premium=T1)).is_empty


def test_reassert_grants_nothing_that_is_there(world: World) -> None:
    world.reach(jane(premium=T1))
    assert sent(world, jane(premium=T1), reassert=True) == [("PATCH", {"first_name": "Jane"})]


def test_a_level_that_ran_out_by_the_clock_is_granted_again_for_a_span(world: World) -> None:
    world.reach(jane(premium={"for": "30d"}))
    world.clock.time += 29 * DAY
    assert world.plan(jane(premium={"for": "30d"})).is_empty
    world.clock.time += 2 * DAY
    (change,) = world.plan(jane(premium={"for": "30d"})).changes
    assert [field.after for field in change.fields] == ["for 30d"]
    (grant,) = sent(world, jane(premium={"for": "30d"}))
    expires = instant_text(int(START + 61 * DAY))
    assert grant == ("grant", {"access_level_id": "premium", "expires_at": expires})


def test_access_that_begins_later_than_before_is_granted_anew_and_ends_as_declared(
    world: World,
) -> None:
    """A grant is never relied on to shorten, so a revoke at the new end goes first (adapty-api 8.3)."""
    world.reach(jane(premium="lifetime"))
    later = jane(premium={"starts_at": T1, "expires_at": T2})
    done = world.reach(later)
    assert done.results[0].warnings == ()
    assert [(name_of(r.method, r.path), r.body) for r in world.wire.sent[-2:]] == [
        ("revoke", {"access_level_id": "premium", "revoke_at": T2}),
        ("grant", {"access_level_id": "premium", "starts_at": T1, "expires_at": T2}),
    ]
    assert world.plan(later).is_empty


def test_time_alone_does_not_change_the_digest_of_a_plan(world: World) -> None:
    world.reach(PROFILE)
    before = world.plan(jane(premium={"for": "30d"})).digest
    world.clock.time += DAY
    assert world.plan(jane(premium={"for": "30d"})).digest == before


def test_a_fixed_end_that_has_passed_is_only_a_warning(world: World) -> None:
    world.reach(jane(premium=T1))
    world.clock.time += 31 * DAY
    assert world.plan(jane(premium=T1)).is_empty
    (profile,) = profiles_of([jane(premium=T1)])
    (finding,) = time_warnings(profile, now=world.clock.time)
    assert (finding.rule, finding.is_error) == ("access/ended", False)
    assert time_warnings(profile, now=START) == []


def test_access_is_compared_whatever_the_spelling_of_its_end(world: World) -> None:
    world.reach(jane(premium=T1))
    assert world.plan(jane(premium="2027-02-01T01:00:00.4+01:00")).is_empty


# --- what is left alone ---------------------------------------------------------------------------


def test_nothing_is_revoked_that_no_answer_has_shown_active(world: World) -> None:
    assert sent(world, jane(premium=None)) == [
        ("PATCH", {"first_name": "Jane"}),
        ("POST", {"first_name": "Jane"}),
    ]
    assert world.plan(jane(premium=None)).is_empty


def test_a_level_that_this_tool_never_granted_is_left_alone_when_it_is_taken_out(
    world: World,
) -> None:
    other = World(clock=world.clock)
    other.emulator, other.wire = world.emulator, world.wire
    other.reach(jane(premium="lifetime"))
    world.reach(jane(premium="lifetime"))  # as it is
    assert world.plan(PROFILE).is_empty


def test_a_level_that_this_tool_granted_ends_when_it_is_taken_out(world: World) -> None:
    world.reach(jane(premium="lifetime"))
    (change,) = world.plan(PROFILE).changes
    assert [(field.op, field.before) for field in change.fields] == [(Op.CLEAR, "lifetime")]
    assert HazardKind.ACCESS_REVOKED in [hazard.kind for hazard in change.hazards]
    assert sent(world, PROFILE) == [("GET", None), ("revoke", {"access_level_id": "premium"})]
    assert access(world) == {}


def test_an_end_that_the_answer_rounds_up_is_the_end_that_was_asked_for() -> None:
    world = World(clock=ManualClock(START + 0.7))
    world.reach(jane(premium="lifetime"))
    applied = world.reach(PROFILE)
    assert [result.warnings for result in applied.results] == [()]


def test_a_forgotten_level_stays(world: World) -> None:
    world.reach(jane(premium="lifetime"))
    forgetful = {**PROFILE, "meta": {"forget": ["access_levels.premium"]}}
    assert sent(world, forgetful) == []
    assert world.plan(PROFILE).is_empty
    assert [*access(world)] == ["premium"]


@pytest.mark.parametrize("wanted", [None, T1], ids=["ended", "shortened"])
def test_bought_access_is_never_cut_off(world: World, wanted: str | None) -> None:
    bought(world, expires_at=T2)
    (problem,) = problems(world, jane(premium=wanted))
    assert problem.rule == "access/bought"
    assert "app_store" in problem.message
    assert "meta.forget" in problem.hint
    assert world.plan({**PROFILE, "last_name": "Doe"}).is_empty


def test_bought_access_may_be_extended_with_a_hazard(world: World) -> None:
    bought(world, expires_at=T1)
    longer = {**jane(premium=T2), "last_name": "Doe"}
    (change,) = world.plan(longer).changes
    assert HazardKind.ACCESS_BOUGHT in [hazard.kind for hazard in change.hazards]
    assert sent(world, longer) == [("grant", {"access_level_id": "premium", "expires_at": T2})]
    assert world.plan(longer).is_empty


def test_a_purchase_that_is_found_while_applying_is_not_revoked(world: World) -> None:
    """The plan knew of no access; the answer to its first request shows a purchase."""
    bought(world, expires_at=T2)
    stranger = World(clock=world.clock)
    stranger.emulator, stranger.wire = world.emulator, world.wire
    done = stranger.reach(jane(premium=None))
    assert done.results[0].outcome is Outcome.STALE
    assert "was bought in app_store" in done.results[0].reason
    assert done.results[0].reason.endswith("the requests before it took effect")
    assert [*access(world)] == ["premium"]


# --- lost answers and crashes ---------------------------------------------------------------------


@pytest.mark.parametrize("fault", [lost_before, lost_after])
def test_a_grant_of_unknown_outcome_is_settled_by_a_read(world: World, fault: Any) -> None:
    world.reach(PROFILE)
    world.wire.faults = {len(world.wire.sent): fault}
    grant = ("grant", {"access_level_id": "premium", "expires_at": T1})
    again = [("GET", None), grant] if fault is lost_before else []
    assert sent(world, jane(premium=T1)) == [grant, ("GET", None), *again]
    assert len(world.emulator.access_events) == 1
    assert world.plan(jane(premium=T1)).is_empty


def test_a_grant_whose_read_fails_too_stays_uncertain_and_is_read_first(world: World) -> None:
    world.reach(PROFILE)
    count = len(world.wire.sent)
    world.wire.faults = {count: lost_after, count + 1: lost_before}
    done = world.reach(jane(premium=T1))
    assert done.results[0].outcome is Outcome.UNCERTAIN
    assert sent(world, jane(premium=T1)) == [("GET", None)]
    assert len(world.emulator.access_events) == 1
    assert world.plan(jane(premium=T1)).is_empty


@pytest.mark.parametrize("crash", [crash_before, crash_after])
@pytest.mark.parametrize("call", range(4))
def test_killed_between_the_requests_access_is_granted_once(
    world: World, call: int, crash: Any
) -> None:
    document = jane(premium={"for": "30d"}, pro=T1)
    world.wire.faults = {call: crash}
    with pytest.raises(Crash):
        world.reach(document)
    world.wire.faults = {}
    world.clock.time += 100  # the quiet period is over
    world.reach(document)
    assert world.plan(document).is_empty
    assert len(world.emulator.access_events) == 2


def test_a_failure_leaves_the_requests_before_it_applied_and_says_so(world: World) -> None:
    done = world.reach(jane(nope="lifetime"))
    (result,) = done.results
    assert result.outcome is Outcome.FAILED
    assert "the app has no such access level" in result.reason
    assert result.reason.endswith("the requests before it took effect")
    (record,) = world.store.records()
    assert record.exists
    assert record.facts["first_name"].value == "Jane"
    assert "access_levels.nope" not in record.facts


# --- look-ups -------------------------------------------------------------------------------------


def test_a_plan_with_a_look_up_knows_what_is_there(world: World) -> None:
    seen = Observed(
        "p1",
        "jane",
        {
            "access_levels.premium": f"until {T2}",
            "access_levels.beta": "lifetime",
            "access_levels.over": "until 2020-01-01T00:00:00Z",
        },
        int(START * 1000),
    )
    plan = make_plan(
        profiles_of([jane(premium=T1, pro=T1)]),
        {},
        header=world.store.header(),
        contract=load_contract(),
        options=Options(now=START),
        look_ups={"jane": LookUp(seen)},
    )
    assert isinstance(plan, Plan)
    (change,) = plan.changes
    assert [name_of(r.method, r.path) for r in change.requests] == ["PATCH", "revoke", "grant"]
    assert HazardKind.ACCESS_ADOPTED in [hazard.kind for hazard in change.hazards]
    assert change.reason.endswith("has what no file declares: access_levels.beta (lifetime)")


def test_null_on_a_level_that_was_never_seen_has_its_hazard(world: World) -> None:
    (change,) = world.plan(jane(pro=None)).changes
    (hazard,) = [each for each in change.hazards if each.kind == HazardKind.ACCESS_REVOKED]
    assert hazard.message == "the user loses access to pro, if there is any"
    world.reach(jane())
    assert not any(change.hazards for change in world.plan(jane(pro=None)).changes)


# --- any edits ------------------------------------------------------------------------------------

ENDS = st.sampled_from([0.5, 1.0, 5.0, 40.0]).map(
    lambda days: instant_text(int(START + days * DAY))
)
STARTS = st.sampled_from([2.0, 3.0]).map(lambda days: instant_text(int(START + days * DAY)))
LEVEL = st.one_of(
    st.none(),
    st.just("lifetime"),
    ENDS,
    st.just({"for": "1d"}),
    st.fixed_dictionaries({"starts_at": STARTS, "expires_at": st.just(T2)}),
)
DOCUMENTS = st.dictionaries(st.sampled_from(["premium", "pro"]), LEVEL)


@settings(max_examples=60, deadline=None)
@given(
    edits=st.lists(st.tuples(DOCUMENTS, st.sampled_from([0.0, 0.3, 1.2])), min_size=1, max_size=5),
    dialect=st.sampled_from(["guide", "openapi"]),
)
def test_after_any_edits_the_next_plan_is_empty_and_access_is_that_of_a_fresh_profile(
    edits: list[tuple[dict[str, Any], float]], dialect: str
) -> None:
    world = World(dialect, clock=ManualClock(START))
    for levels, days in edits:
        world.clock.time += days * DAY
        world.reach(jane(**levels))
        assert world.plan(jane(**levels)).is_empty
    final = {level: value for level, value in levels.items() if not isinstance(value, dict)}
    fresh = World(dialect, clock=ManualClock(world.clock.time))
    fresh.reach(jane(**levels))
    over = {level for level in final if final[level] not in (None, "lifetime")}
    for level in final:
        if level in over and level not in access(fresh):
            continue  # its end has passed: it asks for nothing
        assert access(world).get(level) == access(fresh).get(level)
    assert access(world).keys() <= levels.keys()


# --- what is read back ----------------------------------------------------------------------------


def test_access_that_others_change_is_drift(world: World) -> None:
    world.reach(jane(premium=T1))
    other = World(clock=world.clock)
    other.emulator, other.wire = world.emulator, world.wire
    other.reach(jane(premium=T1))
    other.reach(jane(premium=T2))
    (record,) = world.store.records()
    comparison = compare(record, world.wire.send(read_recorded(record)), now=START)
    assert comparison.drift.kind is DriftKind.CHANGED
    assert [(field.path, field.before, field.after) for field in comparison.drift.fields] == [
        ("access_levels.premium", f"until {T1}", f"until {T2}")
    ]


def test_access_that_ran_out_is_no_drift(world: World) -> None:
    world.reach(jane(premium=T1, pro=None))
    world.clock.time += 31 * DAY
    (record,) = world.store.records()
    comparison = compare(record, world.wire.send(read_recorded(record)), now=world.clock.time)
    assert comparison.drift.kind is DriftKind.SAME


# --- refusals -------------------------------------------------------------------------------------

EXPLAINED_ELSEWHERE = {
    "not_authenticated": "the run ends, and the error names the key",
    "profile_does_not_exist": "the profile is recorded as gone",
    "datetime": "no such request is planned: instants are parsed first",
    "parse_error": "no such request is sent: bodies are JSON",
}


def test_each_documented_error_of_grant_and_revoke_is_explained() -> None:
    errors = load_schema("contract")["facets"]["access_levels"]["errors"]
    for code in {each["code"] for each in errors} - EXPLAINED_ELSEWHERE.keys():
        request = Request("POST", GRANT, {}, {"access_level_id": "premium"})
        assert "plan again" in (note := refusal_notes(request, code)) or "dashboard" in note, code


def test_a_revoke_of_a_level_that_others_shortened_is_not_sent(world: World) -> None:
    world.reach(jane(premium="lifetime"))
    other = World(clock=world.clock)
    other.emulator, other.wire = world.emulator, world.wire
    other.reach(jane(premium="lifetime"))
    other.reach(jane(premium=T1))
    done = world.reach(jane(premium=T2))
    assert "a revoke does not extend: plan again" in " ".join(done.results[0].warnings)
    assert world.plan(jane(premium=T2)).is_empty is False
    assert world.reach(jane(premium=T2)).results[0].outcome is Outcome.UPDATED
    assert world.plan(jane(premium=T2)).is_empty


def test_a_purchase_since_the_last_answer_is_met_by_the_read_before_a_revoke(world: World) -> None:
    world.reach(jane(premium=T1))
    purchase = {
        "store": "app_store",
        "store_product_id": "yearly",
        "access_level": "premium",
        "expires_at": T2,
    }
    world.emulator.plant({"profiles": [{"customer_user_id": "jane", "purchases": [purchase]}]})
    done = world.reach(PROFILE)
    assert done.results[0].outcome is Outcome.STALE
    assert "was bought in app_store" in done.results[0].reason
    assert [*access(world)] == ["premium"]


def test_bought_access_is_not_made_to_begin_later(world: World) -> None:
    bought(world, expires_at=T2)
    (problem,) = problems(world, jane(premium={"starts_at": T1, "expires_at": T2}))
    assert problem.rule == "access/bought"


def test_access_that_begins_after_the_wanted_end_is_ended_and_granted(world: World) -> None:
    world.reach(jane(premium={"starts_at": T2, "expires_at": "lifetime"}))
    world.reach(jane(premium=T1))
    assert world.plan(jane(premium=T1)).is_empty
    assert access(world)["premium"]["expires_at"].startswith("2027-02-01")


def test_access_that_a_lost_revoke_ended_before_it_began_ends_as_declared(world: World) -> None:
    world.reach(jane(premium={"starts_at": T2, "expires_at": "lifetime"}))
    world.wire.faults = {len(world.wire.sent) + 1: crash_after}
    with pytest.raises(Crash):
        world.reach(jane(premium=T1))
    world.wire.faults = {}
    world.reach(jane(premium=T1))
    assert world.plan(jane(premium=T1)).is_empty
    assert access(world)["premium"]["expires_at"].startswith("2027-02-01")


@pytest.mark.parametrize(("fault", "events"), [(lost_before, 1), (lost_after, 2)])
def test_access_after_a_delete_of_unknown_outcome_is_read_and_granted_if_needed(
    world: World, fault: Any, events: int
) -> None:
    world.reach(jane(premium="lifetime"))
    world.wire.faults = {len(world.wire.sent): fault}
    world.reach(prune=True)
    world.wire.faults = {}
    world.reach(jane(premium="lifetime"))
    assert world.plan(jane(premium="lifetime")).is_empty
    assert access(world).keys() == {"premium"}
    assert len(world.emulator.access_events) == events


def test_a_level_that_was_forgotten_is_known_when_it_is_managed_again(world: World) -> None:
    world.reach(jane(premium="lifetime"))
    world.reach({**PROFILE, "meta": {"forget": ["access_levels.premium"]}})
    assert sent(world, jane(premium=None)) == [
        ("GET", None),
        ("revoke", {"access_level_id": "premium"}),
    ]
    assert world.plan(jane(premium=None)).is_empty


def test_a_grant_that_may_still_land_is_waited_for_and_read(world: World) -> None:
    """Two grants would be two events."""
    world.reach(PROFILE)
    count = len(world.wire.sent)
    world.wire.faults = {count: lost_before, count + 1: lost_before}
    world.reach(jane(premium=T1))
    before = world.clock.time
    assert [name for name, _ in sent(world, jane(premium=T1))] == ["GET", "GET", "grant"]
    assert world.clock.time - before >= 60
    assert len(world.emulator.access_events) == 1


def test_a_revoke_of_unknown_outcome_is_settled_once_the_level_is_taken_out(world: World) -> None:
    world.reach(jane(premium="lifetime"))
    count = len(world.wire.sent)
    world.wire.faults = {count + 1: crash_before}
    with pytest.raises(Crash):
        world.reach(jane(premium=None))
    world.wire.faults = {}
    world.clock.time += 100
    world.reach(PROFILE)
    assert world.plan(PROFILE).is_empty
    assert access(world) == {}


# --- beside other requests of a change ------------------------------------------------------------


def test_a_profile_is_linked_and_granted_access_in_one_change(world: World) -> None:
    profile_id = "11111111-2222-4333-8444-555555555555"
    world.emulator.plant({"profiles": [{"profile_id": profile_id}]})
    world.reach({"profile_id": profile_id, "first_name": "Jane"})
    linked = {**jane(premium="lifetime"), "profile_id": profile_id}
    assert [name for name, _ in sent(world, linked)] == ["POST", "grant"]
    assert list(access(world)) == ["premium"]
    assert sent(world, linked) == []


def test_attributes_of_others_are_removed_at_the_profile_after_a_grant(world: World) -> None:
    world.emulator.plant(
        {"profiles": [{"customer_user_id": "jane", "custom_attributes": {"theirs": "x"}}]}
    )
    document = {
        **jane(premium="lifetime"),
        "custom_attributes": {"ours": "y"},
        "meta": {"exclusive": ["custom_attributes"]},
    }
    names = [name for name, _ in sent(world, document)]
    assert names == ["PATCH", "grant", "PATCH"]
    assert sent(world, document) == []
