"""Seeds: what they put in place, in the shape of answers, and what is told about a bad one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from reconciler.authoring.loader import parse_yaml
from reconciler.emulator import IDENTIFIERS_PATH, REFUND_SAVER_PATH, Emulator
from reconciler.emulator.planting import PROFILE_MEMBERS, PURCHASE_MEMBERS
from reconciler.errors import InputError, Source, UsageError
from tests.support.wire import Api, Serve

DOCS = (Path(__file__).parent.parent.parent / "docs" / "emulator.md").read_text("utf-8")
START = 1_800_000_000.0
"""2027-01-15T08:00:00Z"""
UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
BOUGHT = {
    "store": "app_store",
    "store_product_id": "monthly",
    "access_level": "premium",
    "purchased_at": "now-10d",
    "expires_at": "now+20d",
    "store_transaction_id": "1000",
}
PURCHASED, ENDS = "2027-01-05T08:00:00+00:00", "2027-02-04T08:00:00+00:00"


@pytest.fixture
def api(serve: Serve) -> Api:
    return serve(Emulator(clock=lambda: START))


def jane_with(**members: Any) -> dict[str, Any]:
    return {"profiles": [{"customer_user_id": "jane", **members}]}


def test_a_subscription_gives_its_level_until_its_end(api: Api) -> None:
    api.emulator.plant(jane_with(purchases=[BOUGHT]))
    data = api.send("GET").data
    assert data["subscriptions"] == [
        {
            "store": "app_store",
            "store_product_id": "monthly",
            "store_base_plan_id": None,
            "store_transaction_id": "1000",
            "store_original_transaction_id": "1000",
            "offer": None,
            "environment": "Production",
            "purchased_at": PURCHASED,
            "originally_purchased_at": PURCHASED,
            "expires_at": ENDS,
            "renewal_cancelled_at": None,
            "billing_issue_detected_at": None,
            "is_in_grace_period": False,
            "cancellation_reason": None,
        }
    ]
    (level,) = data["access_levels"]
    assert (level["access_level_id"], level["store"]) == ("premium", "app_store")
    assert (level["starts_at"], level["expires_at"]) == (None, ENDS)
    assert level["store_transaction_id"] == "1000"
    assert data["non_subscriptions"] == []


def test_a_one_time_purchase_is_listed_apart_and_may_give_a_level_for_life(api: Api) -> None:
    bought = {"store": "play_store", "store_product_id": "forever", "access_level": "pro"}
    refunded = {"store": "stripe", "store_product_id": "coins", "is_consumable": True}
    refunded |= {"is_refund": True, "environment": "Sandbox", "store_transaction_id": "7"}
    api.emulator.plant(jane_with(purchases=[bought, refunded]))
    data = api.send("GET").data
    first, second = data["non_subscriptions"]
    assert list(second) == [
        *("purchase_id", "store", "store_product_id", "store_base_plan_id"),
        *("store_transaction_id", "store_original_transaction_id", "purchased_at", "environment"),
        *("is_refund", "is_consumable"),
    ]
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", second["purchase_id"]
    )
    assert (second["is_refund"], second["is_consumable"]) == (True, True)
    assert (second["environment"], first["environment"]) == ("Sandbox", "Production")
    assert first["purchased_at"] == "2027-01-15T08:00:00+00:00"
    (level,) = data["access_levels"]
    assert (level["store"], level["expires_at"]) == ("play_store", None)
    assert "pro" in api.emulator.access_levels
    assert data["subscriptions"] == []


def test_a_grant_in_the_dashboard_says_so(api: Api) -> None:
    levels = {
        "pro": "lifetime",
        "premium": "2027-01-31T00:00:00Z",
        "beta": {"starts_at": "now+1d", "expires_at": None},
    }
    api.emulator.plant(jane_with(access_levels=levels))
    shown = {each["access_level_id"]: each for each in api.send("GET").data["access_levels"]}
    assert {each["store_product_id"] for each in shown.values()} == {"adapty_dashboard_product"}
    assert {each["store"] for each in shown.values()} == {"adapty"}
    assert {name: (each["starts_at"], each["expires_at"]) for name, each in shown.items()} == {
        "pro": (None, None),
        "premium": (None, "2027-01-31T00:00:00+00:00"),
        "beta": ("2027-01-16T08:00:00+00:00", None),
    }
    assert api.emulator.access_levels == ("premium", "pro", "beta")
    assert api.emulator.access_events == []


def test_other_members_are_written_by_the_rules_of_requests(api: Api) -> None:
    api.emulator.plant(
        jane_with(
            fields={"first_name": "Jane", "email": "jane@example.com"},
            custom_attributes={"tier": "gold", "level": 5, "beta": True, "old": None},
            integrations={"amplitude_user_id": "u-17"},
            refund_saver={"consent": False, "preference": "prorated"},
        )
    )
    assert api.send("GET").attributes == {"tier": "gold", "level": 5.0, "beta": 1.0}
    assert api.stored()["fields"] == {"first_name": "Jane", "email": "jane@example.com"}
    assert api.send("GET", path=IDENTIFIERS_PATH).json["amplitude_user_id"] == "u-17"
    shown = api.send("GET", path=REFUND_SAVER_PATH).json["settings"]
    assert shown == {"consent": False, "custom_preference": "prorated"}


def test_planting_again_changes_nothing_and_keeps_what_is_not_named(api: Api) -> None:
    seed = jane_with(
        custom_attributes={"tier": "gold"}, purchases=[{**BOUGHT, "store_transaction_id": None}]
    )
    (ids,) = api.emulator.plant(seed)
    api.patch({"first_name": "Jane", "custom_attributes": [{"key": "own", "value": "x"}]})
    before = api.emulator.profiles()
    assert api.emulator.plant(seed) == [ids]
    assert api.emulator.profiles() == before


def test_a_purchase_replaces_the_one_with_its_transaction_id(api: Api) -> None:
    api.emulator.plant(jane_with(purchases=[BOUGHT]))
    renewed = {**BOUGHT, "expires_at": "now+50d"}
    other = {**BOUGHT, "store_transaction_id": "1001", "access_level": None}
    api.emulator.plant(jane_with(purchases=[renewed, other]))
    subscriptions = api.send("GET").data["subscriptions"]
    assert [each["store_transaction_id"] for each in subscriptions] == ["1000", "1001"]
    assert subscriptions[0]["expires_at"] == "2027-03-06T08:00:00+00:00"


def test_a_profile_is_found_by_each_of_its_ids(api: Api) -> None:
    api.emulator.plant({"profiles": [{"profile_id": UUID}]})
    assert api.send("GET", user=None, profile=UUID).data["customer_user_id"] is None
    api.emulator.plant({"profiles": [{"profile_id": UUID.upper(), "customer_user_id": "jane"}]})
    assert api.send("GET").data["profile_id"] == UUID
    assert api.emulator.plant(jane_with()) == [{"customer_user_id": "jane", "profile_id": UUID}]


@pytest.mark.parametrize(
    "profile",
    [
        {"customer_user_id": "jane", "profile_id": UUID},
        {"customer_user_id": "bob", "profile_id": "{jane}"},
        {"customer_user_id": "jane", "profile_id": "{anonymous}"},
    ],
)
def test_ids_of_two_profiles_are_refused_and_nothing_is_planted(
    api: Api, profile: dict[str, str]
) -> None:
    known = {"{jane}": api.create(), "{anonymous}": api.emulator.add_anonymous()}
    before = api.emulator.profiles()
    profile["profile_id"] = known.get(profile["profile_id"], profile["profile_id"])
    with pytest.raises(UsageError, match="another profile has one of these ids"):
        api.emulator.plant({"profiles": [{"customer_user_id": "new"}, profile]})
    assert api.emulator.profiles() == before


@pytest.mark.parametrize(
    ("seed", "place", "message", "hint"),
    [
        ([], "seed", "not a mapping", "Its members are access_levels, profiles"),
        ({"profile": []}, "profile", "no such member", "Did you mean profiles?"),
        ({"access_levels": "pro"}, "access_levels", "not a list", "dash"),
        ({"access_levels": [1]}, "access_levels[0]", "not a text", "in quotes"),
        ({"profiles": [1]}, "profiles[0]", "not a mapping", "customer_user_id"),
        ({"profiles": [{}]}, "profiles[0]", "no id", "customer_user_id"),
        ({"profiles": [{"customer_user_id": ""}]}, "profiles[0].customer_user_id", "text", "text"),
        ({"profiles": [{"profile_id": "x"}]}, "profiles[0].profile_id", "not a UUID", "like"),
        (jane_with(custom_attribute={}), "profiles[0].custom_attribute", "no such", "attributes?"),
        (jane_with(fields={"email": 5}), "profiles[0].fields", "email: str type", "refuse it too"),
        (
            jane_with(custom_attributes={"a": "x", "b": "y" * 31}),
            "profiles[0].custom_attributes.b",
            "at most 30 characters",
            "refuse it too",
        ),
        (jane_with(integrations={"x": "y"}), "profiles[0].integrations", "not permitted", "too"),
        (jane_with(integrations=[]), "profiles[0].integrations", "not a mapping", "NAME: VALUE"),
        (
            jane_with(refund_saver={"consent": "yes"}),
            "profiles[0].refund_saver.consent",
            "not a boolean",
            "true or false",
        ),
        (
            jane_with(access_levels={"pro": "lifetme"}),
            "profiles[0].access_levels.pro",
            "not an instant",
            "Write lifetime, or an instant",
        ),
        (
            jane_with(access_levels={"pro": {"until": "now"}}),
            "profiles[0].access_levels.pro.until",
            "no such member",
            "One of starts_at, expires_at",
        ),
        (
            jane_with(access_levels={"pro": {"expires_at": "now+99w99"}}),
            "profiles[0].access_levels.pro.expires_at",
            "not an instant",
            "now+30d",
        ),
        (
            jane_with(access_levels={"pro": "now+999999w"}),
            "profiles[0].access_levels.pro",
            "not an instant",
            "now+30d",
        ),
        (jane_with(purchases=[{}]), "profiles[0].purchases[0]", "no store", "Add store"),
        (
            jane_with(purchases=[{**BOUGHT, "environment": "Prod"}]),
            "profiles[0].purchases[0].environment",
            "none of those that exist",
            "One of Production, Sandbox",
        ),
        (
            jane_with(purchases=[{**BOUGHT, "purchase_type": "rent"}]),
            "profiles[0].purchases[0].purchase_type",
            "none of those that exist",
            "One of one_time_purchase, subscription",
        ),
        (
            {"profiles": [{"customer_user_id": "a"}, {"customer_user_id": "a"}]},
            "profiles[1]",
            "a is there twice",
            "Keep one",
        ),
    ],
)
def test_a_bad_seed_is_told_with_place_and_next_step_and_plants_nothing(
    seed: Any, place: str, message: str, hint: str
) -> None:
    emulator = Emulator()
    with pytest.raises(InputError) as caught:
        emulator.plant(seed)
    told = [each for each in caught.value.diagnostics if str(each.source) == place]
    assert [each.rule for each in told] == ["seed/invalid"] * len(told)
    assert any(message in str(each.message) and hint in str(each.hint) for each in told), told
    assert emulator.profiles() == []
    assert emulator.access_levels == ("premium",)


def test_everything_that_is_wrong_is_told_at_once_where_it_is_written() -> None:
    text = (
        "profiles:\n"
        "  - customer_user: jane\n"
        "    purchases:\n"
        "      - {store: app_store, expires_at: soon}\n"
    )
    document, _ = parse_yaml(text.encode(), "seed.yaml")
    assert document is not None
    with pytest.raises(InputError) as caught:
        Emulator().plant(document.value, place=document.at)
    assert [each.source for each in caught.value.diagnostics] == [
        Source("seed.yaml", 2, 5),
        Source("seed.yaml", 2, 5),
        Source("seed.yaml", 4, 9),
        Source("seed.yaml", 4, 28),
    ]


def test_the_seed_of_the_document_is_planted(api: Api) -> None:
    text = DOCS.partition("## Seeds")[2].partition("```yaml\n")[2].partition("```")[0]
    document, findings = parse_yaml(text.encode(), "seed.yaml")
    assert document is not None
    assert [each for each in findings if each.is_error] == []
    api.emulator.plant(document.value)
    data = api.send("GET").data
    assert {each["access_level_id"] for each in data["access_levels"]} == {"pro", "beta", "premium"}
    assert len(data["subscriptions"]) == 1


def test_the_document_names_every_member_of_a_seed() -> None:
    section = DOCS.partition("## Seeds")[2].partition("## The clock")[0]
    words = set(re.findall(r"[a-z_]+", section))
    assert {*PROFILE_MEMBERS, *PURCHASE_MEMBERS} <= words
