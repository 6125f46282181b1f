"""Records whose address changed: what a rename keeps, what stands against it, and interrupted ones."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.core.contract_files import load_contract
from reconciler.core.options import Options
from reconciler.core.outcomes import Outcome
from reconciler.core.plan import Action
from reconciler.core.planner import make_plan
from reconciler.core.records import Known, by_address
from tests.support.states import US
from tests.support.worlds import Crash, World, crash_before, lost_after, profiles_of

ID, OTHER = "3fa85f64-5717-4562-b3fc-2c963f66afa6", "7c9e6679-7425-40de-944b-e07fc1f90ae7"
FORMER = f"profile:{ID}"
ANONYMOUS = {"profile_id": ID, "custom_attributes": {"tier": "gold"}}
JANE = {
    "customer_user_id": "jane",
    "custom_attributes": {"tier": "gold"},
    "meta": {"previously": [FORMER]},
}
TIN = {**JANE, "custom_attributes": {"tier": "tin"}}


@pytest.fixture
def world() -> World:
    """The profile is recorded by its profile id, and linked to a customer id elsewhere."""
    world = World()
    world.emulator.plant({"profiles": [{"customer_user_id": "jane", "profile_id": ID}]})
    world.reach(ANONYMOUS)
    return world


def addresses(world: World) -> list[str]:
    return [record.address for record in world.store.records()]


def problems(world: World, *values: dict[str, Any]) -> list[tuple[str, str]]:
    outcome = make_plan(
        profiles_of(values),
        by_address(world.store.records()),
        header=world.store.header(),
        contract=load_contract(),
        options=Options(),
    )
    assert isinstance(outcome, list)
    return [(each.rule, each.message) for each in outcome]


def test_a_rename_keeps_all_that_is_known_and_sends_nothing(world: World) -> None:
    (before,) = world.store.records()
    count = len(world.wire.sent)
    (result,) = world.reach(JANE).results
    (after,) = world.store.records()
    assert result.outcome is Outcome.RENAMED
    assert len(world.wire.sent) == count
    assert (after.address, after.customer_user_id, after.profile_id) == ("jane", "jane", ID)
    assert (after.facts, after.origin) == (before.facts, before.origin)
    assert world.plan(JANE).is_empty
    assert world.plan({**JANE, "meta": {}}).is_empty


def test_without_it_the_former_record_is_neither_pruned_nor_an_orphan(world: World) -> None:
    plan = world.plan(JANE, prune=True, include_adopted=True)
    assert [change.action for change in plan.changes] == [Action.RENAME]
    assert not plan.orphans


def test_in_a_state_that_records_neither_the_profile_is_created() -> None:
    plan = World().plan(JANE)
    assert [change.action for change in plan.changes] == [Action.CREATE]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({**JANE, "customer_user_id": "joe"}, "is recorded with the customer id"),
        ({**JANE, "profile_id": OTHER}, "not with " + OTHER),
    ],
)
def test_a_record_of_another_profile_is_not_renamed(
    world: World, document: dict[str, Any], message: str
) -> None:
    ((rule, text),) = problems(world, document)
    assert rule == "meta/previously"
    assert message in text


def test_where_both_addresses_are_recorded_neither_is_renamed(world: World) -> None:
    world.reach(ANONYMOUS, {**JANE, "customer_user_id": "joe", "meta": {}})
    ((_, text),) = problems(world, {**JANE, "customer_user_id": "joe"})
    assert "are both recorded" in text


def test_of_several_former_addresses_one_may_be_recorded(world: World) -> None:
    both = {**JANE, "meta": {"previously": [f"profile:{OTHER}", FORMER]}}
    assert world.plan(both).changes[0].renamed_from == FORMER  # type: ignore[index]
    world.emulator.plant({"profiles": [{"profile_id": OTHER, "customer_user_id": "joe"}]})
    world.reach(ANONYMOUS, {"profile_id": OTHER, "first_name": "Joe"})
    ((_, text),) = problems(world, both)
    assert "two former addresses" in text


@pytest.mark.parametrize("fault", [lost_after, crash_before])
def test_killed_between_rename_and_request_the_next_apply_goes_on(world: World, fault: Any) -> None:
    world.wire.faults = {len(world.wire.sent): fault}
    plan = world.plan(TIN)
    try:
        (result,) = world.apply(plan, TIN).results
        assert result.outcome is Outcome.UNCERTAIN
    except Crash:
        pass
    assert addresses(world) == ["jane"]
    world.wire.faults = {}
    world.clock.time += 100
    (result,) = world.apply(plan, TIN).results
    assert result.outcome is Outcome.RENAMED
    assert world.plan(TIN).is_empty


def test_a_plan_of_a_rename_that_was_made_since_is_done_already(world: World) -> None:
    plan = world.plan(JANE)
    world.apply(plan, JANE)
    assert world.apply(plan, JANE).results[0].outcome is Outcome.ALREADY
    with world.store.lock(US) as writer:
        writer.write(remove=["jane"])
    assert world.apply(plan, JANE).results[0].outcome is Outcome.STALE


def test_an_unsettled_record_is_renamed_with_its_marks(world: World) -> None:
    world.wire.faults = {len(world.wire.sent): lost_after}
    world.reach({**ANONYMOUS, "custom_attributes": {"tier": "iron"}})
    (before,) = world.store.records()
    iron = {**JANE, "custom_attributes": {"tier": "iron"}}
    world.reach(iron)
    (after,) = world.store.records()
    assert (after.unknown_at, after.unknown_write) == (before.unknown_at, before.unknown_write)
    assert after.facts["custom_attributes.tier"].known is Known.VALUE
    time = world.clock.time
    world.reach(JANE)
    assert (
        world.clock.time >= time + 59
    )  # another value waits until the lost one can no longer land
    assert world.plan(JANE).is_empty


def test_a_record_of_a_profile_that_is_gone_is_renamed_alone(world: World) -> None:
    world.emulator.handle(
        "DELETE",
        "/api/v2/server-side-api/profile/",
        headers={"Authorization": "Api-Key k", "adapty-profile-id": ID},
        body=b"",
    )
    assert world.reach({**ANONYMOUS, "first_name": "J"}).report.failed
    plan = world.plan(TIN)
    assert [(change.action, change.requests) for change in plan.changes] == [(Action.RENAME, ())]
    world.apply(plan, TIN)
    assert [change.action for change in world.plan(TIN).changes] == [Action.CREATE]
