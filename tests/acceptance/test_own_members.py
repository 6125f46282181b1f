"""Integration identifiers and refund preferences through plan, apply and refresh: what is sent and read, and
what happens when answers are lost. The transitions are folders below tests/cases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.endpoints import PATH
from reconciler.core.facets.integrations import INTEGRATIONS
from reconciler.core.facets.own_members import OwnMembers
from reconciler.core.facets.refund_saver import REFUND_SAVER
from reconciler.core.facets.registry import refusal_notes
from reconciler.core.outcomes import Outcome
from reconciler.core.plan import Request
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.refresh import ReadBack, read_back
from reconciler.resources import load_schema
from reconciler.state.store import Holder
from tests.support.worlds import (
    Crash,
    SerialCalls,
    World,
    crash_after,
    crash_before,
    lost_after,
    lost_before,
)

PROFILE: dict[str, Any] = {"customer_user_id": "jane", "first_name": "Jane"}
IDS = {**PROFILE, "integrations": {"amplitude_user_id": "u-17", "branch_id": "key"}}
REFUND = {**PROFILE, "refund_saver": {"consent": False, "preference": "grant"}}
"""Not the defaults of the emulator, which it shows where nothing was set."""
BOTH = {**IDS, **REFUND}
EVERYTHING = {**BOTH, "access_levels": {"premium": "lifetime"}}
WROTE_IDS = ("integration-identifiers", "POST", {"amplitude_user_id": "u-17", "branch_id": "key"})
WROTE_REFUND = ("settings", "POST", {"consent": False, "custom_preference": "grant"})
READ_IDS = ("integration-identifiers", "GET", None)
READ_REFUND = ("settings", "GET", None)


@pytest.fixture
def world() -> World:
    return World()


def name_of(path: str) -> str:
    return "profile" if path == PATH else path.strip("/").split("/")[-1]


def since(world: World, count: int) -> list[tuple[str, str, Any]]:
    return [(name_of(r.path), r.method, r.body) for r in world.wire.sent[count:]]


def sent(world: World, *values: dict[str, Any], **options: Any) -> list[tuple[str, str, Any]]:
    """The requests that reaching some documents takes."""
    count = len(world.wire.sent)
    world.reach(*values, **options)
    return since(world, count)


def stored(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """The identifiers and the refund preferences of Jane."""
    (profile,) = world.emulator.content()
    return profile["integration_identifiers"], profile["refund_saver"]


def read(world: World) -> ReadBack:
    """Jane, read back and recorded."""
    with world.store.lock(Holder("tester", "here", 1, "test"), now=world.clock) as writer:
        (comparison,) = read_back(
            list(world.store.records()),
            SerialCalls(world),
            application=None,
            writer=writer,
            without_expired_mark=lambda record: record,
            now=world.clock,
            stop=lambda: False,
            in_flight=lambda: 8,
        )
    return comparison


# --- what is sent and read ------------------------------------------------------------------------


def test_a_profile_that_declares_none_costs_what_it_cost(world: World) -> None:
    assert sent(world, PROFILE) == [
        ("profile", "PATCH", {"first_name": "Jane"}),
        ("profile", "POST", {"first_name": "Jane"}),
    ]
    count = len(world.wire.sent)
    read(world)
    assert since(world, count) == [("profile", "GET", None)]


def test_the_requests_leave_in_the_order_of_the_facets(world: World) -> None:
    assert sent(world, EVERYTHING)[2:] == [
        ("access-level", "POST", {"access_level_id": "premium"}),
        WROTE_IDS,
        WROTE_REFUND,
    ]
    assert world.plan(EVERYTHING).is_empty
    assert stored(world) == (IDS["integrations"], WROTE_REFUND[2])


@pytest.mark.parametrize(
    ("document", "reads"),
    [(IDS, [READ_IDS]), (REFUND, [READ_REFUND]), (BOTH, [READ_IDS, READ_REFUND])],
)
def test_each_group_that_is_declared_takes_one_read(
    world: World, document: dict[str, Any], reads: list[Any]
) -> None:
    world.reach(document)
    count = len(world.wire.sent)
    assert read(world).drift.fields == ()
    assert since(world, count) == [("profile", "GET", None), *reads]
    assert world.plan(document).is_empty


def test_drift_is_seen_and_put_right(world: World) -> None:
    world.reach(BOTH)
    other = World()
    other.emulator, other.wire = world.emulator, world.wire
    other.reach(
        {
            **PROFILE,
            "integrations": {"amplitude_user_id": "u-99", "branch_id": None},
            "refund_saver": {"consent": True},
        }
    )
    drift = read(world).drift
    assert [(field.path, field.before, field.after) for field in drift.fields] == [
        ("integrations.amplitude_user_id", "u-17", "u-99"),
        ("integrations.branch_id", "key", None),
        ("refund_saver.consent", False, True),
    ]
    assert sent(world, BOTH) == [WROTE_IDS, ("settings", "POST", {"consent": False})]
    assert read(world).drift.fields == ()
    assert world.plan(BOTH).is_empty


def test_the_default_after_a_cleared_preference_is_no_drift_and_no_change(world: World) -> None:
    world.reach(REFUND)
    cleared = {**PROFILE, "refund_saver": {"consent": None, "preference": None}}
    assert sent(world, cleared) == [
        ("settings", "POST", {"consent": None, "custom_preference": None})
    ]
    assert read(world).drift.fields == ()
    assert world.plan(cleared).is_empty
    assert stored(world)[1] == {}


def test_a_profile_that_was_made_anew_gets_all_of_it_again(world: World) -> None:
    cleared = {**IDS, "refund_saver": {"consent": None, "preference": "grant"}}
    world.reach(cleared)
    world.emulator.handle(
        "DELETE",
        PATH,
        headers={"Authorization": "Api-Key k", "adapty-customer-user-id": "jane"},
        body=b"",
    )
    world.emulator.handle(
        "POST",
        PATH,
        headers={
            "Authorization": "Api-Key k",
            "adapty-customer-user-id": "jane",
            "Content-Type": "application/json",
        },
        body=b"{}",
    )
    read(world)
    assert sent(world, cleared)[1:] == [
        WROTE_IDS,
        ("settings", "POST", {"consent": None, "custom_preference": "grant"}),
    ]
    assert world.plan(cleared).is_empty


def test_a_group_that_cannot_be_read_leaves_the_record_as_it_was(world: World) -> None:
    world.reach(BOTH)
    (before,) = world.store.records()
    world.wire.faults = {len(world.wire.sent) + 1: lost_before}
    comparison = read(world)
    assert comparison.drift.kind.value == "unread"
    assert "no answer" in comparison.drift.reason
    assert comparison.after.facts == before.facts


# --- lost answers, refusals and crashes -----------------------------------------------------------


@pytest.mark.parametrize("fault", [lost_before, lost_after])
@pytest.mark.parametrize(
    ("document", "write", "look"), [(IDS, WROTE_IDS, READ_IDS), (REFUND, WROTE_REFUND, READ_REFUND)]
)
def test_a_write_of_unknown_outcome_is_settled_by_a_read(
    world: World, document: dict[str, Any], write: Any, look: Any, fault: Any
) -> None:
    world.reach(PROFILE)
    world.wire.faults = {len(world.wire.sent): fault}
    again = [write] if fault is lost_before else []
    assert sent(world, document) == [write, look, *again]
    world.clock.time += 100
    world.reach(document)
    assert world.plan(document).is_empty


@pytest.mark.parametrize("fault", [lost_before, lost_after])
def test_a_lost_clearing_of_a_preference_is_sent_again(world: World, fault: Any) -> None:
    """An answer shows the app's default then, which says nothing."""
    world.reach(REFUND)
    cleared = {**PROFILE, "refund_saver": {"consent": None, "preference": None}}
    write = ("settings", "POST", {"consent": None, "custom_preference": None})
    world.wire.faults = {len(world.wire.sent): fault}
    assert sent(world, cleared) == [write, READ_REFUND, write]
    assert stored(world)[1] == {}
    world.clock.time += 100
    world.reach(cleared)
    assert world.plan(cleared).is_empty


def test_a_write_whose_read_fails_too_stays_uncertain_and_is_sent_again(world: World) -> None:
    world.reach(PROFILE)
    count = len(world.wire.sent)
    world.wire.faults = {count: lost_after, count + 1: lost_before}
    assert world.reach(IDS).results[0].outcome is Outcome.UNCERTAIN
    assert sent(world, IDS) == [WROTE_IDS]
    assert world.plan(IDS).is_empty


@pytest.mark.parametrize("crash", [crash_before, crash_after])
@pytest.mark.parametrize("call", range(5))
def test_killed_between_the_requests_the_next_apply_goes_on(
    world: World, call: int, crash: Any
) -> None:
    world.wire.faults = {call: crash}
    with pytest.raises(Crash):
        world.reach(EVERYTHING)
    world.wire.faults = {}
    world.clock.time += 100  # the quiet period is over
    world.reach(EVERYTHING)
    assert world.plan(EVERYTHING).is_empty
    assert stored(world) == (IDS["integrations"], WROTE_REFUND[2])
    assert len(world.emulator.access_events) == 1


def test_a_refusal_leaves_the_requests_before_it_applied_and_says_so(world: World) -> None:
    world.reach(PROFILE)

    def refused(carry: Any) -> ApiAnswer:
        return ApiAnswer(
            CallResult.REFUSED, status=400, error_code="validation_error", message="no", attempts=1
        )

    world.wire.faults = {len(world.wire.sent) + 1: refused}
    (result,) = world.reach(BOTH).results
    assert result.outcome is Outcome.FAILED
    assert result.reason.endswith("the requests before it took effect")
    assert stored(world) == (IDS["integrations"], {})
    assert sent(world, BOTH) == [WROTE_REFUND]
    assert world.plan(BOTH).is_empty


EXPLAINED_ELSEWHERE = {
    "unauthorized": "the run ends, and the error names the key",
    "profile_not_found": "the profile is recorded as gone",
    "profile_does_not_exist": "the profile is recorded as gone",
}


@pytest.mark.parametrize(
    ("facet", "key"), [(INTEGRATIONS, "branch_id"), (REFUND_SAVER, "preference")]
)
def test_each_documented_error_is_explained(facet: OwnMembers, key: str) -> None:
    errors = load_schema("contract")["facets"][facet.group]["errors"]
    for code in {each["code"] for each in errors} - EXPLAINED_ELSEWHERE.keys():
        request = Request("POST", facet.address, {}, {facet.api_names.get(key, key): "x"})
        assert f"correct {facet.path(key)} in the file" in refusal_notes(request, code), code


def test_a_profile_that_is_gone_is_not_written_to(world: World) -> None:
    world.reach(PROFILE)
    world.emulator.handle(
        "DELETE",
        PATH,
        headers={"Authorization": "Api-Key k", "adapty-customer-user-id": "jane"},
        body=b"",
    )
    for document in (IDS, REFUND):
        (result,) = world.reach({**document, "first_name": "Jane"}).results
        assert result.outcome is not Outcome.UPDATED
        world.clock.time += 100
    world.reach(BOTH)
    assert world.plan(BOTH).is_empty


# --- any edits ------------------------------------------------------------------------------------

GROUPS = st.fixed_dictionaries(
    {},
    optional={
        "integrations": st.dictionaries(
            st.sampled_from(["amplitude_user_id", "branch_id", "pushwoosh_hwid"]),
            st.sampled_from(["a", "b", None]),
        ),
        "refund_saver": st.fixed_dictionaries(
            {},
            optional={
                "consent": st.sampled_from([True, False, None]),
                "preference": st.sampled_from(["grant", "no_preference", "decline", None]),
            },
        ),
        "access_levels": st.dictionaries(
            st.sampled_from(["premium", "pro"]), st.sampled_from(["lifetime", None])
        ),
        "custom_attributes": st.dictionaries(
            st.sampled_from(["k", "l"]), st.sampled_from(["x", 1, None])
        ),
        "first_name": st.sampled_from(["Jane", None]),
        "installation_meta": st.just({"device_id": "3fa85f64-5717-4562-b3fc-2c963f66afa6"}),
    },
)


@settings(max_examples=100, deadline=None)
@given(
    edits=st.lists(st.tuples(GROUPS, st.booleans()), min_size=1, max_size=5),
    dialect=st.sampled_from(["guide", "openapi"]),
)
def test_after_any_edits_the_next_plan_is_empty_and_the_content_is_that_of_a_fresh_profile(
    edits: list[tuple[dict[str, Any], bool]], dialect: str
) -> None:
    world = World(dialect)
    device = {"installation_meta": {"device_id": "3fa85f64-5717-4562-b3fc-2c963f66afa6"}}
    for content, is_read in edits:
        document = {"customer_user_id": "jane", **content, **device}
        world.reach(document)
        assert world.plan(document).is_empty
        if is_read:
            assert read(world).drift.fields == ()
            assert world.plan(document).is_empty
    fresh = World(dialect)
    fresh.reach(document)
    assert stored(world) == stored(fresh)
    (profile,), (expected,) = world.emulator.content(), fresh.emulator.content()
    assert profile["custom_attributes"] == expected["custom_attributes"]
    assert profile["access"].keys() == expected["access"].keys()
