"""Reading profiles back: drift, and a refused key."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.core.outcomes import DriftKind
from reconciler.core.records import Known, Presence, Record
from reconciler.core.removal import removal
from reconciler.core.transitions import without_expired_mark
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.refresh import compare, read_back
from tests.support.worlds import SerialCalls, World, lost_before, refused_key

MISSING = ApiAnswer(CallResult.REFUSED, status=404, error_code="profile_does_not_exist")
LOST = ApiAnswer(CallResult.UNKNOWN, message="no answer")


def test_a_refresh_with_a_refused_key_costs_one_request() -> None:
    world = World()
    world.reach(*({"customer_user_id": f"u{number}", "first_name": "U"} for number in range(9)))
    requests_before = len(world.wire.sent)
    world.wire.faults[requests_before] = refused_key
    profiles = read_back(
        world.store.records(),
        SerialCalls(world),
        application=None,
        writer=None,
        without_expired_mark=lambda record: record,
        now=world.clock,
        stop=lambda: False,
        in_flight=lambda: (
            1 if len(world.wire.sent) == requests_before else 8
        ),  # once the API has answered
    )
    assert [each.drift.kind for each in profiles] == [DriftKind.UNREAD]
    assert len(world.wire.sent) == requests_before + 1


def test_a_missing_profile_is_gone_only_if_it_was_present() -> None:
    kinds = {
        presence: compare(Record("jane", presence=presence), MISSING, now=0.0).drift.kind
        for presence in Presence
    }
    assert kinds == {
        Presence.PRESENT: DriftKind.GONE,
        Presence.GONE: DriftKind.SAME,
        Presence.UNCONFIRMED: DriftKind.SAME,
    }


def test_a_profile_that_is_gone_keeps_the_mark_of_a_post_that_may_make_it_again() -> None:
    record = Record("jane", "jane", unknown_at=5.0, unknown_write={"first_name": "Jane"})
    after = compare(record, MISSING, now=6.0).after
    assert after.presence is Presence.GONE
    assert (after.unknown_at, after.unknown_write) == (5.0, {"first_name": "Jane"})
    assert [each.method for each in removal(after).requests] == ["GET"]


def test_a_lost_answer_leaves_the_record_as_it_was() -> None:
    record = Record("jane", customer_user_id="jane")
    comparison = compare(record, LOST, now=0.0)
    assert (comparison.after, comparison.drift.kind) == (record, DriftKind.UNREAD)
    assert comparison.drift.reason == LOST.message != ""


def test_a_mark_that_ends_while_a_read_is_under_way_still_counts_for_it() -> None:
    """The earlier write may land after the API has read the profile and before its answer is here."""
    world = World()
    gold = {"customer_user_id": "jane", "custom_attributes": {"tier": "gold"}}
    world.reach(gold)
    world.wire.faults[len(world.wire.sent)] = lost_before
    world.reach({**gold, "custom_attributes": {"tier": "silver"}})
    quiet_ends = world.clock.time + 60.0
    world.clock.time = quiet_ends - 1.0

    def slowly(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
        answer = carry()
        world.clock.time = quiet_ends + 1.0
        return answer

    world.wire.faults[len(world.wire.sent)] = slowly
    (read,) = read_back(
        list(world.store.records()),
        SerialCalls(world),
        application=None,
        writer=None,
        without_expired_mark=lambda record: without_expired_mark(
            record, now=world.clock.time, quiet_period=60.0
        ),
        now=world.clock,
        stop=lambda: False,
        in_flight=lambda: 1,
    )
    fact = read.after.facts["custom_attributes.tier"]
    assert (fact.known, fact.value, fact.attempt) == (Known.UNCERTAIN, "gold", "silver")
