"""Requests of one change: a creation whose outcome is unknown is ours only where that is proven."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reconciler.core.outcomes import Outcome
from reconciler.core.records import Origin, Presence
from reconciler.remote.answers import ApiAnswer, CallResult
from tests.support.wire import create
from tests.support.worlds import Crash, World, answer, crash_after, lost_before

JANE: dict[str, Any] = {"customer_user_id": "a", "custom_attributes": {"tier": "gold"}}
BARE: dict[str, Any] = {"customer_user_id": "a"}
Fault = Callable[[Callable[[], ApiAnswer]], ApiAnswer]


def others_first(world: World, **attributes: Any) -> Fault:
    """Somebody else creates the profile right before the request takes effect."""

    def fault(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
        create(world.emulator, "a", **attributes)
        return carry()

    return fault


def others_instead(world: World) -> Fault:
    """The request is lost, and somebody else creates the profile."""

    def fault(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
        create(world.emulator, "a")
        return answer(CallResult.UNKNOWN, message="lost")

    return fault


def origin_of(world: World) -> Origin:
    (record,) = world.store.records()
    assert (record.created_at is None) is (record.origin is not Origin.CREATED)
    return record.origin


@pytest.mark.parametrize("wanted", [JANE, BARE])
def test_what_a_look_after_an_unknown_post_finds_is_no_creation(wanted: dict[str, Any]) -> None:
    world = World()
    world.wire.faults[1] = others_instead(world)

    (result,) = world.reach(wanted).results

    assert (result.outcome, origin_of(world)) == (Outcome.ADOPTED, Origin.ADOPTED)
    assert world.plan(prune=True).is_empty


def test_what_a_look_proves_to_be_ours_is_a_creation() -> None:
    world = World()

    def late(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
        carry()
        return answer(CallResult.UNKNOWN, message="lost")

    world.wire.faults[1] = late

    (result,) = world.reach(JANE).results

    assert (result.outcome, origin_of(world)) == (Outcome.CREATED, Origin.CREATED)


def test_a_post_that_confirms_attributes_of_others_made_nothing() -> None:
    world = World()
    world.wire.faults[1] = others_first(world, theirs=1.0)

    (result,) = world.reach(JANE).results

    assert (result.outcome, origin_of(world)) == (Outcome.ADOPTED, Origin.ADOPTED)


def test_killed_after_the_write_to_a_profile_of_others_the_next_run_does_not_take_it_for_ours() -> (
    None
):
    world = World()
    world.wire.faults = {1: others_instead(world), 3: crash_after}
    with pytest.raises(Crash):
        world.reach(JANE)

    world.reach(JANE)

    assert [request.method for request in world.wire.sent[:4]] == ["PATCH", "POST", "GET", "PATCH"]
    assert origin_of(world) is Origin.ADOPTED


def test_a_profile_that_an_earlier_patch_may_have_reached_is_not_ours() -> None:
    world = World()
    world.wire.faults = {0: lost_before, 2: lost_before, 3: lost_before}
    world.reach(JANE)  # the PATCH may still land
    world.reach(JANE)  # 404; the POST may still land, and so may the PATCH
    create(world.emulator, "a", tier="gold")  # by others, and changed by that PATCH

    world.reach(JANE)

    assert origin_of(world) is Origin.ADOPTED


def test_a_profile_that_replaced_ours_after_the_look_is_not_ours() -> None:
    world = World()
    world.wire.faults = {1: crash_after}
    with pytest.raises(Crash):
        world.reach(JANE)

    def replaced(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
        world.emulator.clear()
        create(world.emulator, "a")
        return carry()

    world.wire.faults[3] = replaced  # 2 is the look, which finds ours
    world.reach(JANE)

    assert [request.method for request in world.wire.sent[2:]] == ["GET", "PATCH"]
    assert origin_of(world) is Origin.ADOPTED


def test_after_a_look_that_found_nothing_a_creation_is_sent_at_once() -> None:
    world = World()
    world.wire.faults = {1: lost_before, 2: lost_before}
    world.reach(JANE)
    (record,) = world.store.records()
    assert (record.presence, record.origin) == (Presence.UNCONFIRMED, Origin.CREATED)

    (result,) = world.reach(JANE).results

    assert [request.method for request in world.wire.sent[3:]] == ["GET", "POST"]
    assert (result.outcome, origin_of(world)) == (Outcome.CREATED, Origin.CREATED)
