"""The applier: outcomes, records, and lost answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reconciler.core.endpoints import PATH
from reconciler.core.outcomes import Failure, Halt, Outcome
from reconciler.core.plan import Action, Plan
from reconciler.core.records import Fact, Known, Presence
from reconciler.core.transitions import Observed, observed
from reconciler.errors import Refused
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.applier import check_plan
from tests.support.worlds import (
    Applied,
    Crash,
    World,
    away,
    crash_after,
    crash_before,
    done_at_the_second_attempt,
    lost_after,
    lost_before,
    refused_key,
)

JANE = {"customer_user_id": "jane", "first_name": "Jane", "custom_attributes": {"tier": "gold"}}
JOE = {"customer_user_id": "joe", "first_name": "Joe"}


APPLIED = "applied"
"""Stands for each outcome of a change that was made."""


def outcomes(report: Applied) -> list[str]:
    return [APPLIED if result.outcome.is_applied else result.outcome for result in report.results]


def methods(world: World) -> list[str]:
    return [request.method for request in world.wire.sent]


def test_a_profile_that_does_not_exist_is_patched_then_posted() -> None:
    world = World()
    assert outcomes(world.reach(JANE)) == [APPLIED]
    assert methods(world) == ["PATCH", "POST"]
    assert world.plan(JANE).is_empty


def test_an_existing_profile_is_adopted_by_the_patch() -> None:
    first, world = World(), World()
    first.reach(JANE)
    world.emulator = world.wire.emulator = first.emulator
    world.reach(JANE)
    assert methods(world) == ["PATCH"]


def test_the_same_plan_applied_again_sends_nothing() -> None:
    world = World()
    plan = world.plan(JANE, JOE)
    world.apply(plan)
    requests_before = len(world.wire.sent)
    assert outcomes(world.apply(plan)) == [Outcome.ALREADY, Outcome.ALREADY]
    assert len(world.wire.sent) == requests_before


def test_a_change_whose_record_moved_is_stale_and_the_others_are_applied() -> None:
    world = World()
    world.reach(JANE, JOE)
    plan = world.plan({**JANE, "first_name": "Janet"}, {**JOE, "first_name": "Joseph"})
    world.reach({**JANE, "first_name": "Jean"}, JOE)
    assert outcomes(world.apply(plan)) == [Outcome.STALE, APPLIED]


def test_one_failing_profile_does_not_stop_the_others() -> None:
    world = World()
    world.wire.faults[0] = away
    assert outcomes(world.reach(JANE, JOE)) == [Outcome.FAILED, APPLIED]
    assert [change.address for change in world.plan(JANE, JOE).changes] == ["jane"]


def test_a_refused_key_stops_the_run() -> None:
    world = World()
    world.wire.faults[0] = refused_key
    applied = world.reach(JANE, JOE)
    assert outcomes(applied) == [Outcome.FAILED, Outcome.SKIPPED]
    assert applied.report.halt is Halt.KEY
    assert list(world.store.records()) == []


def illegible_404(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
    return ApiAnswer(CallResult.REFUSED, status=404, is_legible=False)


def test_a_404_without_a_legible_body_leads_on_to_a_post_once_a_read_confirms_it() -> None:
    world = World()
    world.wire.faults[0] = illegible_404
    assert outcomes(world.reach(JANE)) == [APPLIED]
    assert methods(world) == ["PATCH", "GET", "POST"]
    assert world.plan(JANE).is_empty


def test_a_404_without_a_legible_body_is_a_refusal_where_a_read_does_not_confirm_it() -> None:
    world = World()
    world.wire.faults[0] = world.wire.faults[1] = illegible_404
    assert outcomes(world.reach(JANE)) == [Outcome.FAILED]
    assert methods(world) == ["PATCH", "GET"]
    assert list(world.store.records()) == []


def test_a_profile_that_a_read_shows_is_not_recorded_as_gone_for_an_illegible_404() -> None:
    world = World()
    world.reach(JANE)
    before = world.store.record("jane")
    world.wire.faults[len(world.wire.sent)] = illegible_404
    assert outcomes(world.reach({**JANE, "first_name": "Janet"})) == [Outcome.FAILED]
    after = world.store.record("jane")
    assert before is not None
    assert after is not None
    assert (after.presence, after.facts) == (before.presence, before.facts)


@pytest.mark.parametrize("lost", [lost_before, lost_after])
def test_a_lost_answer_leaves_the_fields_uncertain_and_the_next_run_sends_them_again(
    lost: object,
) -> None:
    world = World()
    world.reach(JANE)
    world.wire.faults[len(world.wire.sent)] = lost  # type: ignore[assignment]
    changed = {**JANE, "first_name": "Janet"}
    assert outcomes(world.reach(changed)) == [Outcome.UNCERTAIN]
    record = world.store.record("jane")
    assert record is not None
    assert record.facts["first_name"].known is Known.UNCERTAIN
    (change,) = world.plan(changed).changes
    assert [(field.path, field.before, field.basis) for field in change.fields] == [
        ("first_name", "Jane", "uncertain")
    ]
    assert outcomes(world.reach(changed)) == [APPLIED]
    assert world.plan(changed).is_empty


@pytest.mark.parametrize("crash", [crash_before, crash_after])
@pytest.mark.parametrize("call", [0, 1, 2])
def test_killed_between_intent_and_outcome_the_next_run_converges(crash: object, call: int) -> None:
    world, undisturbed = World(), World()
    wanted = [JANE, {**JOE, "email": "joe@example.com"}]
    undisturbed.reach(*wanted)
    world.wire.faults[call] = crash  # type: ignore[assignment]
    with pytest.raises(Crash):
        world.reach(*wanted)
    world.reach(*wanted)
    assert world.plan(*wanted).is_empty
    assert world.emulator.content() == undisturbed.emulator.content()


def test_a_different_value_waits_out_the_quiet_period_after_an_unknown_outcome() -> None:
    world = World()
    world.reach(JANE)
    world.wire.faults[len(world.wire.sent)] = lost_after
    world.reach({**JANE, "first_name": "Janet"})
    before = world.clock.time
    world.reach({**JANE, "first_name": "Jean"})
    assert world.clock.time - before >= 59


def test_the_same_value_does_not_wait_for_the_quiet_period() -> None:
    world = World()
    world.reach(JANE)
    world.wire.faults[len(world.wire.sent)] = lost_after
    world.reach({**JANE, "first_name": "Janet"})
    before = world.clock.time
    world.reach({**JANE, "first_name": "Janet"})
    assert world.clock.time == before


def test_a_successful_retry_does_not_end_the_quiet_period() -> None:
    world = World()
    world.reach(JANE)
    world.wire.faults[len(world.wire.sent)] = lost_after
    changed = {**JANE, "first_name": "Janet"}
    world.reach(changed)
    world.reach(changed)
    before = world.clock.time
    world.reach({**JANE, "first_name": "Jean"})
    assert world.clock.time - before >= 59


def test_an_uncertain_post_is_looked_up_before_it_is_sent_again() -> None:
    world = World()
    world.wire.faults[1] = lost_after
    assert outcomes(world.reach(JANE)) == [APPLIED]
    assert methods(world) == ["PATCH", "POST", "GET", "PATCH"]


def test_an_update_of_a_profile_that_is_gone_fails_and_the_next_plan_creates_it() -> None:
    world = World()
    world.reach(JANE)
    headers = {"adapty-customer-user-id": "jane", "Authorization": "Api-Key k"}
    world.emulator.handle("DELETE", world.wire.sent[0].path, headers=headers, body=b"")
    changed = {**JANE, "first_name": "Janet"}
    assert outcomes(world.reach(changed)) == [Outcome.FAILED]
    record = world.store.record("jane")
    assert record is not None
    assert record.presence is Presence.GONE
    assert [change.action for change in world.plan(changed).changes] == [Action.CREATE]
    world.reach(changed)
    assert world.plan(changed).is_empty


def test_a_recreated_profile_loses_what_only_the_state_knew() -> None:
    world = World()
    full = {**JANE, "last_name": "Doe"}
    world.reach(full)
    headers = {"adapty-customer-user-id": "jane", "Authorization": "Api-Key k"}
    path = world.wire.sent[0].path
    world.emulator.handle("DELETE", path, headers=headers, body=b"")
    body = {**headers, "Content-Type": "application/json"}
    world.emulator.handle("POST", path, headers=body, body=b"{}")
    changed = {**full, "first_name": "Janet"}
    (result,) = world.reach(changed).results
    assert result.outcome.is_applied
    assert result.warnings
    (change,) = world.plan(changed).changes
    assert {field.path for field in change.fields} == {"last_name", "custom_attributes.tier"}
    world.reach(changed)
    assert world.plan(changed).is_empty


def test_linking_moves_the_record_to_the_customer_id() -> None:
    world = World()
    profile_id = world.emulator.add_anonymous()
    anonymous = {"profile_id": profile_id, "first_name": "Jane"}
    world.reach(anonymous)
    linked = {**anonymous, "customer_user_id": "jane"}
    assert outcomes(world.reach(linked)) == [APPLIED]
    assert [record.address for record in world.store.records()] == ["jane"]
    assert world.plan(linked).is_empty


def test_prune_deletes_and_forgets_the_record() -> None:
    world = World()
    many = [{"customer_user_id": f"u{number}", "first_name": "U"} for number in range(5)]
    world.reach(*many)
    assert outcomes(world.reach(*many[1:], prune=True)) == [APPLIED]
    assert [record.address for record in world.store.records()] == ["u1", "u2", "u3", "u4"]
    assert len(world.emulator.profiles()) == 4


def test_a_profile_without_fields_is_created_by_an_empty_post_and_then_left_alone() -> None:
    world = World()
    assert outcomes(world.reach({"customer_user_id": "jane"})) == [APPLIED]
    assert methods(world) == ["GET", "POST"]
    assert world.plan({"customer_user_id": "jane"}).is_empty


def test_changed_labels_and_protection_are_recorded_without_a_change() -> None:
    world = World()
    world.reach(JANE)
    changed = {**JANE, "meta": {"labels": ["qa"], "protect": True}}
    assert world.plan(changed).is_empty
    world.reach(changed)
    record = world.store.record("jane")
    assert record is not None
    assert (record.labels, record.protect) == (("qa",), True)


def test_an_interrupted_run_starts_nothing_new() -> None:
    world = World()
    plan = world.plan(JANE, JOE)
    world.stopping = True
    applied = world.apply(plan)
    assert applied.report.halt is Halt.INTERRUPTED
    assert outcomes(applied) == [Outcome.SKIPPED, Outcome.SKIPPED]
    assert world.wire.sent == []


def test_every_intent_is_in_the_journal_before_its_request() -> None:
    world = World()
    world.wire.faults[0] = crash_before
    with pytest.raises(Crash):
        world.reach(JANE)
    assert [(entry.address, entry.kind) for entry in world.store.journal()] == [("jane", "intent")]


def test_the_journal_holds_no_values() -> None:
    world = World()
    world.reach(JANE)
    assert all(
        "gold" not in str(entry) and "Jane" not in str(entry) for entry in world.store.journal()
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"environment": "other"}, "environment"),
        ({"lineage": "another"}, "another state"),
        ({"application": "x"}, "application"),
    ],
)
def test_a_plan_for_another_environment_or_state_is_refused(
    wrong: dict[str, str], message: str
) -> None:
    world = World()
    world.reach(JANE)
    plan: Plan = replace(world.plan(JOE), **wrong)  # type: ignore[arg-type]
    with pytest.raises(Refused, match=message):
        check_plan(plan, world.store.header(), environment="local", max_changes=10)


def test_more_changes_than_the_limit_are_refused() -> None:
    world = World()
    with pytest.raises(Refused, match="limit"):
        check_plan(world.plan(JANE, JOE), world.store.header(), environment="local", max_changes=1)


def test_an_earlier_attempt_of_unknown_outcome_marks_the_profile_although_a_later_one_succeeded() -> (
    None
):
    world = World()
    world.reach(JANE)
    world.wire.faults[len(world.wire.sent)] = done_at_the_second_attempt
    assert outcomes(world.reach({**JANE, "first_name": "Janet"})) == [APPLIED]
    before = world.clock.time
    world.reach({**JANE, "first_name": "Jean"})
    assert world.clock.time - before >= 59


@pytest.mark.parametrize("customer", [{}, {"customer_user_id": "jane"}])
def test_a_profile_id_that_nobody_knows_fails_and_records_nothing(customer: dict[str, str]) -> None:
    world = World()
    unknown = {"profile_id": "3286abd3-48b0-4e9c-a5f6-ac0a006804a6", "first_name": "J", **customer}
    (result,) = world.reach(unknown).results
    assert (result.outcome, "profile_id" in result.reason) == (Outcome.FAILED, True)
    assert list(world.store.records()) == []


@pytest.mark.parametrize("lost", [lost_before, lost_after])
def test_a_profile_declared_again_after_an_uncertain_delete_is_created_again(lost: object) -> None:
    world = World()
    many = [JANE, *({"customer_user_id": f"u{number}", "first_name": "U"} for number in range(5))]
    world.reach(*many)
    world.wire.faults[len(world.wire.sent)] = lost  # type: ignore[assignment]
    assert outcomes(world.reach(*many[1:], prune=True)) == [Outcome.UNCERTAIN]
    assert [change.action for change in world.plan(*many).changes] == [Action.CREATE]
    before = world.clock.time
    assert outcomes(world.reach(*many)) == [APPLIED]
    assert world.clock.time - before >= 59
    assert world.plan(*many).is_empty
    assert len(world.emulator.profiles()) == 6


def by_others(world: World, method: str) -> None:
    """Somebody else creates or deletes jane."""
    headers = {"adapty-customer-user-id": "jane", "Authorization": "Api-Key k"}
    headers["Content-Type"] = "application/json"
    world.emulator.handle(method, PATH, headers=headers, body=b"{}" if method == "POST" else b"")


def gone_with_an_update_on_its_way() -> World:
    """Others deleted jane while an update was under way whose first attempt may still land."""
    world = World()
    world.reach(JANE)
    by_others(world, "DELETE")
    world.wire.faults[len(world.wire.sent)] = done_at_the_second_attempt
    assert outcomes(world.reach({**JANE, "first_name": "Janet"})) == [Outcome.FAILED]
    return world


def test_fields_of_a_late_write_to_a_gone_profile_are_uncertain_for_its_successor() -> None:
    world = gone_with_an_update_on_its_way()
    record = world.store.record("jane")
    assert record is not None
    assert record.presence is Presence.GONE
    after, _ = observed(record, Observed("5" * 8, "jane", {}))
    fact = after.facts["first_name"]
    assert (fact.known, fact.attempt) == (Known.UNCERTAIN, "Janet")


def test_a_gone_profile_is_forgotten_after_a_read_shows_that_it_is_still_gone() -> None:
    world = gone_with_an_update_on_its_way()
    since = world.clock.time
    assert outcomes(world.reach(prune=True)) == [APPLIED]
    assert (methods(world)[-1], world.store.record("jane")) == ("GET", None)
    assert world.clock.time - since >= 60


def test_a_gone_profile_that_exists_again_is_not_forgotten() -> None:
    world = gone_with_an_update_on_its_way()
    by_others(world, "POST")
    (result,) = world.reach(prune=True).results
    assert (result.outcome, result.failure) == (Outcome.STALE, Failure.STALE)
    kept = world.plan(prune=True)
    assert kept.is_empty
    assert kept.orphans
    (change,) = world.plan(prune=True, include_adopted=True).changes
    assert change.action is Action.DELETE


def test_a_gone_profile_that_cannot_be_read_is_not_forgotten() -> None:
    world = gone_with_an_update_on_its_way()
    world.wire.faults[len(world.wire.sent)] = lost_before
    assert outcomes(world.reach(prune=True)) == [Outcome.FAILED]
    assert outcomes(world.reach(prune=True)) == [APPLIED]


def test_members_sent_along_are_recorded_for_a_profile_that_replaced_the_recorded_one() -> None:
    """The members of installation_meta travel together, whichever of them the change is about."""
    world = World()
    device = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
    attributes = {f"a{number:02}": number for number in range(30)}
    first = {
        "customer_user_id": "jane",
        "custom_attributes": attributes,
        "installation_meta": {"device_id": device, "locale": "en"},
    }
    world.reach(first)
    by_others(world, "DELETE")
    by_others(world, "POST")
    second = {
        "customer_user_id": "jane",
        "custom_attributes": {f"b{number:02}": number for number in range(30)},
        "installation_meta": {"device_id": device, "locale": "de"},
    }
    plan = world.plan(second)
    assert len(plan.changes[0].requests) == 2  # room is made before it is taken
    assert outcomes(world.apply(plan, second)) == [APPLIED]
    record = world.store.record("jane")
    assert record is not None
    assert record.facts["installation_meta.device_id"] == Fact.of(device)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["jane"], r"waiting \d\d s for jane: an earlier write may still land"),
        (["jane", "joe"], r"waiting up to \d\d s for 2 profiles: earlier writes may still land"),
    ],
)
def test_a_quiet_period_is_named_with_its_profile_and_its_seconds(
    names: list[str], text: str
) -> None:
    world = World()
    first = [{"customer_user_id": name, "first_name": "A"} for name in names]
    world.reach(*first)
    second = [{**each, "first_name": "B"} for each in first]
    for number in range(len(names)):
        world.wire.faults[len(world.wire.sent) + number] = lost_before
    world.reach(*second)
    world.progress.clear()
    world.reach(*({**each, "first_name": "C"} for each in first))
    told = [progress.waiting_for for progress in world.progress]
    assert any(re.fullmatch(text, each) for each in told)
    assert told[-1] == ""


OFF = {
    "customer_user_id": "jane",
    "analytics_disabled": True,
    "installation_meta": {
        "device_id": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "idfa": "00000000-0000-4000-8000-00000000000a",
    },
}


def test_the_state_does_not_say_that_an_advertising_id_is_there_while_analytics_are_disabled() -> (
    None
):
    world = World()
    world.reach(OFF)
    (record,) = world.store.records()
    assert record.facts["installation_meta.idfa"].known is Known.UNKNOWN
    assert world.plan(OFF).is_empty


@pytest.mark.parametrize("fault", [lost_before, lost_after])
def test_a_write_of_unknown_outcome_may_have_emptied_an_advertising_id(fault: Any) -> None:
    world = World()
    world.reach({**OFF, "analytics_disabled": False})
    world.wire.faults[len(world.wire.sent)] = fault
    world.reach(OFF)
    (record,) = world.store.records()
    assert record.facts["installation_meta.idfa"].known is Known.UNKNOWN
    world.reach({**OFF, "analytics_disabled": False})
    (profile,) = world.emulator.profiles()
    (installation,) = profile["installations"].values()
    assert installation["idfa"] == "00000000-0000-4000-8000-00000000000a"


@pytest.mark.parametrize(("exists", "sent"), [(True, 1), (False, 2)])
def test_what_is_sent_is_between_the_least_and_the_most_that_the_plan_says(
    exists: bool, sent: int
) -> None:
    world = World()
    if exists:
        by_others(world, "POST")
    plan = world.plan(JANE)
    assert (plan.summary["requests"], plan.summary["requests_max"]) == (1, 2)
    assert world.apply(plan, JANE).report.requests == sent
    assert len(world.wire.sent) == sent


def test_outcomes_say_what_happened() -> None:
    world = World()
    by_others(world, "POST")
    assert [each.outcome for each in world.reach(JANE, JOE).results] == [
        Outcome.ADOPTED,
        Outcome.CREATED,
    ]
    changed = {**JOE, "first_name": "Joseph"}
    assert [each.outcome for each in world.reach(JANE, changed).results] == [Outcome.UPDATED]
    assert [each.outcome for each in world.reach(JANE, prune=True).results] == [Outcome.DELETED]
    forgets = {**JANE, "meta": {"forget": ["first_name"]}}
    forgets.pop("first_name")
    assert [each.outcome for each in world.reach(forgets).results] == [Outcome.FORGOTTEN]
