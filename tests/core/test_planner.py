"""The planner's table, its actions, bodies and hazards."""

from __future__ import annotations

import random
from typing import Any

import pytest

from reconciler.core.contract import Clear, Contract
from reconciler.core.contract_files import load_contract
from reconciler.core.facets.registry import normalise
from reconciler.core.options import Cap, Count, Options, RequestOptions, Selection, Share
from reconciler.core.plan import Action, Basis, Change, Op, Plan
from reconciler.core.plan_format import from_lines, to_lines
from reconciler.core.planner import make_plan
from reconciler.core.profiles import Profile, address_of
from reconciler.core.records import Fact, Header, Known, Origin, Presence, Record
from reconciler.core.transitions import Staleness, staleness
from reconciler.errors import Diagnostic, Source

PROFILE_ID = "3286abd3-48b0-4e9c-a5f6-ac0a006804a6"
DEVICE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"


def profile(address: str = "jane", values: dict[str, Any] | None = None, **extra: Any) -> Profile:
    given = {path: normalise(path, value) for path, value in (values or {}).items()}
    customer = extra.pop("customer_user_id", address)
    profile_id = extra.pop("profile_id", None)
    return Profile(
        address=address_of(customer, profile_id),
        customer_user_id=customer,
        profile_id=profile_id,
        platform=extra.pop("platform", None),
        values=given,
        forget=frozenset(extra.pop("forget", ())),
        protect=extra.pop("protect", False),
        labels=tuple(extra.pop("labels", ())),
        source=Source(f"profiles/{address}.yaml", 1, 1),
        lines={path: number for number, path in enumerate(given, start=2)},
    )


def record(address: str = "jane", facts: dict[str, Fact] | None = None, **extra: Any) -> Record:
    return Record(
        address,
        customer_user_id=extra.pop("customer_user_id", address),
        profile_id=extra.pop("profile_id", PROFILE_ID),
        facts=facts or {},
        origin=extra.pop("origin", Origin.CREATED),
        revision=extra.pop("revision", 1),
        **extra,
    )


def plan_of(
    *desired: Profile, recorded: tuple[Record, ...] = (), dialect: str = "guide", **options: Any
) -> Plan | list[Diagnostic]:
    return make_plan(
        desired,
        {item.address: item for item in recorded},
        header=Header("lineage", 1),
        contract=load_contract(dialect),
        options=Options(**options),
    )


def only(outcome: Plan | list[Diagnostic]) -> Change:
    assert isinstance(outcome, Plan)
    (change,) = outcome.changes
    return change


def body_of(outcome: Plan | list[Diagnostic]) -> Any:
    (request,) = only(outcome).requests
    return request.body


CLEARED = Fact.of(None)
UNCERTAIN = Fact(Known.UNCERTAIN, value="Ann", attempt="Joan")
UNKNOWN = Fact(Known.UNKNOWN)


@pytest.mark.parametrize("reported", [Fact.of("Jane"), Fact.of("Jane", observed=True)])
def test_a_value_equal_to_the_recorded_one_sends_nothing(reported: Fact) -> None:
    outcome = plan_of(
        profile(values={"first_name": "Jane"}), recorded=(record(facts={"first_name": reported}),)
    )
    assert isinstance(outcome, Plan)
    assert outcome.is_empty
    assert outcome.unchanged == 1


@pytest.mark.parametrize("fact", [Fact.of("Ann"), CLEARED, UNCERTAIN, UNKNOWN, None])
def test_a_value_is_set_over_anything_else(fact: Fact | None) -> None:
    facts = {"first_name": fact} if fact else {}
    outcome = plan_of(profile(values={"first_name": "Jane"}), recorded=(record(facts=facts),))
    assert body_of(outcome) == {"first_name": "Jane"}


def test_null_over_a_known_cleared_field_sends_nothing() -> None:
    outcome = plan_of(
        profile(values={"first_name": None}), recorded=(record(facts={"first_name": CLEARED}),)
    )
    assert isinstance(outcome, Plan)
    assert outcome.is_empty


@pytest.mark.parametrize("fact", [Fact.of("Ann"), UNCERTAIN, UNKNOWN, None])
def test_null_clears_a_field_that_may_hold_a_value(fact: Fact | None) -> None:
    facts = {"first_name": fact} if fact else {}
    outcome = plan_of(profile(values={"first_name": None}), recorded=(record(facts=facts),))
    assert body_of(outcome) == {"first_name": None}


@pytest.mark.parametrize("fact", [Fact.of("Ann"), UNCERTAIN])
def test_a_field_that_we_set_and_nobody_declares_is_cleared(fact: Fact) -> None:
    outcome = plan_of(profile(), recorded=(record(facts={"first_name": fact}),))
    assert body_of(outcome) == {"first_name": None}


@pytest.mark.parametrize("fact", [CLEARED, UNKNOWN])
def test_a_field_that_nobody_declares_or_set_is_left_alone(fact: Fact) -> None:
    outcome = plan_of(profile(), recorded=(record(facts={"first_name": fact}),))
    assert isinstance(outcome, Plan)
    assert outcome.is_empty


@pytest.mark.parametrize(
    ("fact", "before", "basis"),
    [
        (Fact.of("Ann"), "Ann", Basis.RECORDED),
        (Fact.of("Ann", observed=True), "Ann", Basis.OBSERVED),
        (UNCERTAIN, "Ann", Basis.UNCERTAIN),
        (UNKNOWN, None, Basis.NONE),
        (None, None, Basis.NONE),
    ],
)
def test_every_field_change_says_how_it_knows_what_was_there(
    fact: Fact | None, before: str | None, basis: Basis
) -> None:
    facts = {"first_name": fact} if fact else {}
    outcome = plan_of(profile(values={"first_name": "Jane"}), recorded=(record(facts=facts),))
    (change,) = only(outcome).fields
    assert (change.before, change.basis) == (before, basis)


@pytest.mark.parametrize("path", ["birthday", "ip_country", "analytics_disabled"])
def test_what_the_guide_cannot_clear_is_an_error_that_names_three_ways_out(path: str) -> None:
    outcome = plan_of(profile(), recorded=(record(facts={path: Fact.of("x")}),))
    assert isinstance(outcome, list)
    (finding,) = outcome
    assert finding.rule == "profile/cannot-clear"
    assert "back" in finding.hint
    assert "another value" in finding.hint
    assert "meta.forget" in finding.hint


def test_an_installation_that_is_no_longer_declared_is_one_finding() -> None:
    facts = {
        "installation_meta.device_id": Fact.of(DEVICE),
        "installation_meta.locale": Fact.of("en"),
    }
    outcome = plan_of(profile(), recorded=(record(facts=facts),))
    assert isinstance(outcome, list)
    (finding,) = outcome
    assert str(finding.source) == "profiles/jane.yaml:1:1"
    assert "list `installation_meta` under meta.forget" in finding.hint


@pytest.mark.parametrize("path", ["birthday", "installation_meta.locale", "att_status"])
def test_reassert_does_not_clear_again_what_cannot_be_cleared(path: str) -> None:
    facts = {path: CLEARED, "first_name": Fact.of("Jane")}
    outcome = plan_of(
        profile(values={"first_name": "Jane"}), recorded=(record(facts=facts),), reassert=True
    )
    assert body_of(outcome) == {"first_name": "Jane"}


def test_the_openapi_dialect_clears_a_birthday_by_null() -> None:
    outcome = plan_of(
        profile(),
        recorded=(record(facts={"birthday": Fact.of("2000-12-31")}),),
        dialect="openapi",
    )
    assert body_of(outcome) == {"birthday": None}


def test_a_forgotten_field_sends_nothing() -> None:
    outcome = plan_of(
        profile(forget=["birthday"]),
        recorded=(record(facts={"birthday": Fact.of("2000-12-31")}),),
    )
    change = only(outcome)
    assert change.action is Action.FORGET
    assert change.requests == ()
    assert [(field.path, field.op) for field in change.fields] == [("birthday", Op.FORGET)]


@pytest.mark.parametrize("value", [True, 1, 1.0])
def test_one_true_and_the_float_are_the_same_attribute_value(value: Any) -> None:
    outcome = plan_of(
        profile(values={"custom_attributes.beta": value}),
        recorded=(record(facts={"custom_attributes.beta": Fact.of(1.0)}),),
    )
    assert isinstance(outcome, Plan)
    assert outcome.is_empty


def test_text_five_never_equals_the_number() -> None:
    outcome = plan_of(
        profile(values={"custom_attributes.level": "5"}),
        recorded=(record(facts={"custom_attributes.level": Fact.of(5.0)}),),
    )
    assert body_of(outcome) == {"custom_attributes": [{"key": "level", "value": "5"}]}


def test_only_attributes_that_change_are_named_and_a_deleted_one_is_null() -> None:
    facts = {f"custom_attributes.{key}": Fact.of("x") for key in "abc"}
    outcome = plan_of(
        profile(values={"custom_attributes.a": "x", "custom_attributes.b": "y"}),
        recorded=(record(facts=facts),),
    )
    assert body_of(outcome) == {
        "custom_attributes": [{"key": "b", "value": "y"}, {"key": "c", "value": None}]
    }


def test_a_deleted_attribute_can_be_sent_empty() -> None:
    outcome = plan_of(
        profile(),
        recorded=(record(facts={"custom_attributes.a": Fact.of("x")}),),
        requests=RequestOptions(delete_attribute_with=Clear.EMPTY),
    )
    assert body_of(outcome) == {"custom_attributes": [{"key": "a", "value": ""}]}


def test_installation_meta_is_sent_whole_with_cleared_members_empty() -> None:
    facts = {
        "installation_meta.device_id": Fact.of(DEVICE),
        "installation_meta.locale": Fact.of("en"),
        "installation_meta.os": Fact.of("17"),
    }
    outcome = plan_of(
        profile(values={"installation_meta.device_id": DEVICE, "installation_meta.locale": "fr"}),
        recorded=(record(facts=facts),),
    )
    assert body_of(outcome) == {
        "installation_meta": {"device_id": DEVICE, "locale": "fr", "os": ""}
    }


def test_an_unchanged_installation_is_not_sent() -> None:
    outcome = plan_of(
        profile(values={"first_name": "Jane", "installation_meta.device_id": DEVICE}),
        recorded=(record(facts={"installation_meta.device_id": Fact.of(DEVICE)}),),
    )
    assert body_of(outcome) == {"first_name": "Jane"}


def test_near_the_limit_deletions_go_first() -> None:
    facts = {f"custom_attributes.k{number}": Fact.of("x") for number in range(30)}
    kept = {f"custom_attributes.k{number}": "x" for number in range(1, 30)}
    outcome = plan_of(
        profile(values=kept | {"custom_attributes.new": "y", "first_name": "Jane"}),
        recorded=(record(facts=facts),),
    )
    change = only(outcome)
    assert [request.body for request in change.requests] == [
        {"custom_attributes": [{"key": "k0", "value": None}]},
        {"first_name": "Jane", "custom_attributes": [{"key": "new", "value": "y"}]},
    ]
    assert "two_steps" in {hazard.kind for hazard in change.hazards}


def test_a_create_patches_first_and_falls_back_to_post() -> None:
    change = only(plan_of(profile(values={"first_name": "Jane"}, platform="iOS")))
    assert change.action is Action.CREATE
    (request,) = change.requests
    assert (request.method, request.fallback) == ("PATCH", "POST")
    assert request.headers == {"adapty-customer-user-id": "jane", "adapty-platform": "iOS"}


def test_a_profile_without_fields_is_looked_up_and_never_patched_empty() -> None:
    (request,) = only(plan_of(profile())).requests
    assert (request.method, request.body, request.fallback) == ("GET", None, "POST")


def test_an_anonymous_profile_is_never_posted() -> None:
    anonymous = profile(values={"first_name": "Jane"}, customer_user_id=None, profile_id=PROFILE_ID)
    change = only(plan_of(anonymous))
    assert change.address == f"profile:{PROFILE_ID}"
    assert change.requests[0].fallback is None


def test_a_customer_id_for_a_recorded_anonymous_profile_is_a_link() -> None:
    known = record(f"profile:{PROFILE_ID}", {"first_name": Fact.of("Jane")}, customer_user_id=None)
    outcome = plan_of(
        profile(values={"first_name": "Jane"}, profile_id=PROFILE_ID), recorded=(known,)
    )
    change = only(outcome)
    assert (change.address, change.action) == ("jane", Action.LINK)
    (request,) = change.requests
    assert (request.method, request.body) == ("POST", {})
    assert set(request.headers) == {"adapty-customer-user-id", "adapty-profile-id"}
    assert "link" in {hazard.kind for hazard in change.hazards}
    assert isinstance(outcome, Plan)
    assert outcome.orphans == ()


@pytest.mark.parametrize("profile_id", [PROFILE_ID, None])
def test_a_customer_id_that_an_answer_told_finds_the_anonymous_profile(
    profile_id: str | None,
) -> None:
    known = record(
        f"profile:{PROFILE_ID}", {"first_name": Fact.of("Jane")}, customer_user_id="jane"
    )
    outcome = plan_of(
        profile(values={"first_name": "Jane"}, profile_id=profile_id), recorded=(known,)
    )
    change = only(outcome)
    assert (change.address, change.action) == ("jane", Action.LINK)
    assert change.requests[0].headers == {
        "adapty-customer-user-id": "jane",
        "adapty-profile-id": PROFILE_ID,
    }
    assert isinstance(outcome, Plan)
    assert outcome.orphans == ()


@pytest.mark.parametrize(
    ("declared", "known_as", "hint"),
    [
        ({"profile_id": PROFILE_ID}, "ann", "write `customer_user_id: ann`"),
        ({"profile_id": DEVICE}, "jane", "Take profile_id out"),
        ({"profile_id": PROFILE_ID, "customer_user_id": None}, "ann", "`customer_user_id: ann`"),
    ],
)
def test_another_identity_than_the_recorded_one_is_an_error(
    declared: dict[str, Any], known_as: str, hint: str
) -> None:
    known = record(f"profile:{PROFILE_ID}x", customer_user_id=known_as)
    outcome = plan_of(profile(**declared), recorded=(known,))
    assert isinstance(outcome, list)
    assert [finding.rule for finding in outcome] == ["profile/identity"]
    assert hint in outcome[0].hint


def test_a_linked_profile_is_updated_by_its_customer_id_alone() -> None:
    outcome = plan_of(
        profile(values={"first_name": "Jane"}, profile_id=PROFILE_ID), recorded=(record(),)
    )
    (request,) = only(outcome).requests
    assert request.headers == {"adapty-customer-user-id": "jane"}


def test_an_orphan_is_listed_and_left_alone() -> None:
    outcome = plan_of(profile("a"), recorded=(record("a"), record("b", profile_id="b")))
    assert isinstance(outcome, Plan)
    assert outcome.orphans == ("b",)
    assert outcome.is_empty


def test_prune_deletes_orphans_but_never_protected_ones() -> None:
    outcome = plan_of(
        profile("a"),
        recorded=(
            record("a"),
            record("b", profile_id="b"),
            record("c", profile_id="c", protect=True),
        ),
        prune=True,
    )
    assert isinstance(outcome, Plan)
    assert [(c.address, c.action) for c in outcome.changes] == [("b", Action.DELETE)]
    assert outcome.orphans == ("c",)
    assert [hazard.kind for hazard in outcome.hazards] == ["protected"]


def test_prune_keeps_and_names_what_this_tool_did_not_create() -> None:
    recorded = (
        record("a"),
        record("b", profile_id="b", origin=Origin.ADOPTED),
        record("c", profile_id="c", origin=Origin.UNKNOWN),
    )
    outcome = plan_of(profile("a"), recorded=recorded, prune=True)
    assert isinstance(outcome, Plan)
    assert outcome.is_empty
    assert outcome.orphans == ("b", "c")
    assert [(hazard.kind, "b, c" in hazard.message) for hazard in outcome.hazards] == [
        ("adopted", True)
    ]


def test_adopted_profiles_are_deleted_only_when_asked_for_within_the_caps_and_with_a_hazard() -> (
    None
):
    recorded = (
        record("a"),
        record("b", profile_id="b", origin=Origin.ADOPTED),
        record("c", profile_id="c", origin=Origin.ADOPTED, protect=True),
    )
    outcome = plan_of(
        profile("a"), recorded=recorded, prune=True, include_adopted=True, max_delete=Count(0)
    )
    assert isinstance(outcome, Plan)
    (change,) = outcome.changes
    assert (change.address, change.action) == ("b", Action.DELETE)
    assert [hazard.kind for hazard in change.hazards] == ["delete", "delete_adopted"]
    assert [hazard.kind for hazard in outcome.hazards] == ["max_delete", "protected"]
    assert outcome.scope.include_adopted


def test_a_profile_is_deleted_by_the_profile_id_that_was_recorded() -> None:
    outcome = plan_of(profile("a"), recorded=(record("a", profile_id="a"), record("b")), prune=True)
    (request,) = only(outcome).requests
    assert (request.method, request.headers) == ("DELETE", {"adapty-profile-id": PROFILE_ID})


def test_a_profile_whose_creation_ended_unknown_is_looked_up_and_never_deleted() -> None:
    unproven = record("b", profile_id=None, presence=Presence.UNCONFIRMED)
    outcome = plan_of(profile("a"), recorded=(record("a"), unproven), prune=True)
    change = only(outcome)
    assert change.action is Action.FORGET
    assert [(each.method, each.headers) for each in change.requests] == [
        ("GET", {"adapty-customer-user-id": "b"})
    ]


def test_a_deletion_is_stale_once_another_profile_has_the_customer_id() -> None:
    outcome = plan_of(profile("a"), recorded=(record("a", profile_id="a"), record("b")), prune=True)
    change = only(outcome)
    assert staleness(change, record("b"))[0] is Staleness.CURRENT
    assert staleness(change, record("b", profile_id="c"))[0] is Staleness.STALE
    assert staleness(change, record("b", profile_id="c", deleting=True))[0] is Staleness.STALE


def test_deleting_everything_is_a_hazard() -> None:
    outcome = plan_of(profile("a"), recorded=(record("b"),), prune=True)
    assert isinstance(outcome, Plan)
    assert "delete_everything" in {hazard.kind for hazard in outcome.hazards}


@pytest.mark.parametrize(
    ("cap", "count", "recorded", "allowed"),
    [
        (Share(25), 1, 4, True),
        (Share(25), 2, 7, False),
        (Share(0), 0, 5, True),
        (Share(100), 5, 5, True),
        (Share(29), 29, 100, True),
        (Count(3), 3, 3, True),
        (Count(3), 4, 1000, False),
    ],
)
def test_a_cap_allows_up_to_itself(cap: Cap, count: int, recorded: int, allowed: bool) -> None:
    assert cap.allows(count, recorded) is allowed


def test_a_plan_over_the_cap_says_how_far() -> None:
    recorded = tuple(record(name, profile_id=name) for name in "abcd")
    outcome = plan_of(
        profile("a"), profile("b"), recorded=recorded, prune=True, max_delete=Share(25)
    )
    assert isinstance(outcome, Plan)
    assert [hazard.message for hazard in outcome.hazards] == [
        "deletes 2 of 4 recorded profiles, and environments.local.limits.max_delete is 25%"
    ]


def test_what_is_gone_does_not_make_the_last_profile_deletable() -> None:
    recorded = (record("b", profile_id="b"), record("c", presence=Presence.GONE, profile_id=None))
    outcome = plan_of(profile("a"), recorded=recorded, prune=True)
    assert isinstance(outcome, Plan)
    assert [hazard.kind for hazard in outcome.hazards] == ["delete_everything"]


def test_an_anonymous_profile_is_deleted_by_what_declared_it() -> None:
    """A customer id that an answer told may be another profile's by now."""
    anonymous = record(f"profile:{PROFILE_ID}", customer_user_id="learned")
    outcome = plan_of(profile("a"), recorded=(record("a", profile_id="a"), anonymous), prune=True)
    (request,) = only(outcome).requests
    assert request.headers == {"adapty-profile-id": PROFILE_ID}


def test_a_gone_profile_is_created_again_with_all_its_fields() -> None:
    outcome = plan_of(
        profile(values={"first_name": "Jane"}), recorded=(record(presence=Presence.GONE),)
    )
    assert only(outcome).action is Action.CREATE


IDFA = "installation_meta.idfa"
OFF = {"analytics_disabled": True, "installation_meta.device_id": DEVICE, IDFA: DEVICE}


@pytest.mark.parametrize("fact", [Fact.of("x"), Fact.of(DEVICE), CLEARED, UNKNOWN, None])
def test_an_advertising_id_is_no_reason_to_send_while_analytics_are_disabled(
    fact: Fact | None,
) -> None:
    facts = {"analytics_disabled": Fact.of(True), "installation_meta.device_id": Fact.of(DEVICE)}
    facts |= {IDFA: fact} if fact else {}
    outcome = plan_of(profile(values=OFF), recorded=(record(facts=facts),))
    assert isinstance(outcome, Plan)
    assert outcome.is_empty


@pytest.mark.parametrize(
    "analytics", [Fact.of(True), Fact(Known.UNCERTAIN, value=False, attempt=True)]
)
def test_an_advertising_id_of_a_record_that_still_has_it_is_sent_once_analytics_are_on_again(
    analytics: Fact,
) -> None:
    facts = {path: Fact.of(value) for path, value in OFF.items()} | {
        "analytics_disabled": analytics
    }
    outcome = plan_of(
        profile(values={**OFF, "analytics_disabled": False}), recorded=(record(facts=facts),)
    )
    assert body_of(outcome)["installation_meta"] == {"device_id": DEVICE, "idfa": DEVICE}


def test_reassert_sends_every_managed_field_again_known_cleared_ones_too() -> None:
    facts = {"first_name": Fact.of("Jane"), "last_name": CLEARED}
    outcome = plan_of(
        profile(values={"first_name": "Jane"}), recorded=(record(facts=facts),), reassert=True
    )
    assert body_of(outcome) == {"first_name": "Jane", "last_name": None}


def test_ip_country_is_repeated_when_the_environment_asks_for_it() -> None:
    outcome = plan_of(
        profile(values={"first_name": "Ann", "ip_country": "FR"}),
        recorded=(record(facts={"ip_country": Fact.of("FR"), "first_name": Fact.of("Jane")}),),
        requests=RequestOptions(send_ip_country_always=True),
    )
    assert body_of(outcome) == {"first_name": "Ann", "ip_country": "FR"}
    assert only(outcome).hazards == ()


def test_a_patch_without_ip_country_carries_a_hazard() -> None:
    change = only(plan_of(profile(values={"first_name": "Ann"})))
    assert [hazard.kind for hazard in change.hazards] == ["ip_country_from_sender"]


def test_the_order_of_files_changes_nothing() -> None:
    profiles = [profile(name, {"first_name": name}) for name in "dacb"]
    first = plan_of(*profiles)
    random.Random(1).shuffle(profiles)
    assert plan_of(*profiles) == first


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(("a*",)), ["ann"]),
        (Selection(("label:qa",)), ["bob"]),
        (Selection((), ("ann",)), ["bob"]),
        (Selection(("*",), ("label:qa",)), ["ann"]),
    ],
)
def test_selection_takes_addresses_and_labels(selection: Selection, expected: list[str]) -> None:
    outcome = plan_of(
        profile("ann", {"email": "a@example.com"}),
        profile("bob", {"email": "b@example.com"}, labels=["qa"]),
        selection=selection,
    )
    assert isinstance(outcome, Plan)
    assert [change.address for change in outcome.changes] == expected


def test_every_field_of_the_contract_can_be_set_alone(contract: Contract) -> None:
    for path, field in contract.fields.items():
        if "." in path:
            continue  # a member of a group: see test_fields
        value = True if field.schema["type"] == "boolean" else "x"
        assert body_of(plan_of(profile(values={path: value}))) == {path: value}


def test_ten_thousand_orphans_of_a_file_that_still_exists_are_one_hazard_with_their_number() -> (
    None
):
    source = Source("profiles/many.yaml", 1)
    recorded = tuple(record(f"qa-{number}", source=source) for number in range(10_000))
    outcome = make_plan(
        [],
        {item.address: item for item in (*recorded, record("gone", source=Source("gone.yaml")))},
        header=Header("lineage", 1),
        contract=load_contract("guide"),
        options=Options(),
        is_present=lambda file: file == "profiles/many.yaml",
    )
    assert isinstance(outcome, Plan)
    (hazard,) = outcome.hazards
    assert (hazard.kind, hazard.file, hazard.number) == (
        "file_shrank",
        "profiles/many.yaml",
        10_000,
    )
    assert "10000 profiles of it are no longer declared" in hazard.message
    assert from_lines(to_lines(outcome)).hazards == outcome.hazards


@pytest.mark.parametrize("prune", [False, True])
def test_the_sentence_names_the_condition_of_an_environment_that_asks(prune: bool) -> None:
    outcome = make_plan(
        [],
        {"ada": record("ada", source=Source("a.yaml", 1))},
        header=Header("lineage", 1),
        contract=load_contract("guide"),
        options=Options(prune=prune, committed_only=True),
        is_present=lambda file: True,
    )
    assert isinstance(outcome, Plan)
    messages = [hazard.message for hazard in outcome.hazards if hazard.kind == "file_shrank"]
    assert ["committed as it is" in message for message in messages] == [prune]
