"""Access levels: every documented error of grants and revokes, and every transition of adapty-api 8.3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.emulator import (
    GRANT_PATH,
    REVOKE_PATH,
    AccessEvent,
    Emulator,
    EmulatorServer,
    Switches,
)
from reconciler.emulator.access import is_over
from reconciler.emulator.instants import parse_instant
from tests.support.wire import Api, ApiReply, Serve

START = 1_800_000_000.0
"""2027-01-15T08:00:00Z"""
NOW = "2027-01-15T08:00:00+00:00"
PAST = "2027-01-15T07:00:00Z"
SOON = "2027-01-16T00:00:00Z"
T1 = "2027-02-01T00:00:00Z"
T2 = "2027-03-01T00:00:00Z"
MEMBERS = [
    *("access_level_id", "store", "store_product_id", "store_base_plan_id"),
    *("store_transaction_id", "store_original_transaction_id", "offer", "starts_at"),
    *("purchased_at", "originally_purchased_at", "expires_at", "renewal_cancelled_at"),
    *("billing_issue_detected_at", "is_in_grace_period", "cancellation_reason"),
]
"""adapty-api 5.2."""


def answered(text: str) -> str:
    """An instant as answers spell it."""
    return text.replace("Z", "+00:00")


@pytest.fixture
def emulator_at(serve: Serve) -> Callable[..., Api]:
    """Puts an emulator whose clock stands still on a port, with one profile: Jane."""

    def start(**options: Any) -> Api:
        api = serve(Emulator(clock=lambda: START, access_levels=["pro"], **options))
        api.create()
        return api

    return start


@pytest.fixture(params=["guide", "openapi"])
def jane(request: pytest.FixtureRequest, emulator_at: Callable[..., Api]) -> Api:
    return emulator_at(dialect=request.param)


def main_error(reply: ApiReply, status: int, code: str, source: str | None) -> str:
    """The message of an answer with one error in the main shape."""
    (only,) = reply.json["errors"]
    assert reply.json == {
        "errors": [{"source": source, "errors": only["errors"]}],
        "error_code": code,
        "status_code": status,
    }
    assert reply.status == status
    (message,) = only["errors"]
    return str(message)


# --- errors ---------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("path", [GRANT_PATH, REVOKE_PATH], ids=["grant", "revoke"])


@BOTH
def test_an_unknown_profile_is_a_400_that_names_no_field(jane: Api, path: str) -> None:
    reply = jane.send("POST", {"access_level_id": "premium"}, user="nobody", path=path)
    message = main_error(reply, 400, "profile_does_not_exist", "non_field_errors")
    assert message == "Profile not found"


@BOTH
def test_an_unknown_level_of_the_app_is_named(jane: Api, path: str) -> None:
    reply = jane.send("POST", {"access_level_id": "gold"}, path=path)
    message = main_error(reply, 400, "paid_access_level_does_not_exist", "non_field_errors")
    assert message == "Paid access level `gold` does not exist"


@BOTH
def test_the_documented_404_forms_can_be_switched_on(
    emulator_at: Callable[..., Api], path: str
) -> None:
    api = emulator_at(switches=Switches(missing_is_404=True))
    reply = api.send("POST", {"access_level_id": "premium"}, user="nobody", path=path)
    assert main_error(reply, 404, "profile_does_not_exist", None) == "Profile not found"
    reply = api.send("POST", {"access_level_id": "gold"}, path=path)
    main_error(reply, 404, "paid_access_level_does_not_exist", "non_field_errors")


def test_a_level_that_the_profile_never_had_cannot_be_revoked(jane: Api) -> None:
    reply = jane.revoke("pro")
    code = "profile_paid_access_level_does_not_exist"
    message = main_error(reply, 400, code, "non_field_errors")
    assert message == f"Profile `{jane.stored()['profile_id']}` has no `pro` access level"


def test_access_cannot_be_revoked_later_than_it_ends(jane: Api) -> None:
    jane.grant(expires_at=T1)
    reply = jane.revoke(revoke_at=T2)
    code = "revocation_date_more_than_expiration_date"
    assert main_error(reply, 400, code, "revoke_at") == (
        "Revocation date (2027-03-01 00:00:00+00:00) is more than current expiration date "
        "(2027-02-01 00:00:00+00:00)"
    )


@pytest.mark.parametrize("revoke_at", [PAST, "2027-01-15T08:00:00Z"])
def test_access_cannot_be_revoked_in_the_past(jane: Api, revoke_at: str) -> None:
    jane.grant()
    message = main_error(jane.revoke(revoke_at=revoke_at), 400, "value_error", None)
    assert message == "Must be greater than the current time or null"


@pytest.mark.parametrize(
    ("path", "member"),
    [(GRANT_PATH, "starts_at"), (GRANT_PATH, "expires_at"), (REVOKE_PATH, "revoke_at")],
)
@pytest.mark.parametrize("value", ["2027-01-31", "tomorrow", "", 1_800_000_000, True, [], {}])
def test_a_malformed_instant_is_refused(jane: Api, path: str, member: str, value: Any) -> None:
    reply = jane.send("POST", {"access_level_id": "premium", member: value}, path=path)
    assert main_error(reply, 400, "datetime", member) == "invalid datetime format"


@BOTH
@pytest.mark.parametrize(
    ("body", "code", "sources"),
    [
        ({}, "missing", ["access_level_id"]),
        ({"access_level_id": None}, "not_allowed", ["access_level_id"]),
        ({"access_level_id": 5}, "str", ["access_level_id"]),
        ({"access_level_id": ""}, "min_length", ["access_level_id"]),
        ({"access_level_id": "premium", "until": T1}, "extra", ["until"]),
        ({"until": T1}, "missing", ["access_level_id", "until"]),
        (["premium"], "dict", ["non_field_errors"]),
        (None, "dict", ["non_field_errors"]),
    ],
)
def test_a_bad_member_is_refused_and_changes_nothing(
    jane: Api, path: str, body: Any, code: str, sources: list[str]
) -> None:
    headers = {
        "Authorization": "Api-Key k",
        "adapty-customer-user-id": "jane",
        "Content-Type": "application/json",
    }
    raw = b"null" if body is None else None
    reply = (
        jane.raw("POST", path, headers=headers, body=raw)
        if raw
        else jane.send("POST", body, path=path)
    )
    assert (reply.status, reply.code, reply.sources) == (400, code, sources)
    assert jane.send("GET").data["access_levels"] == []
    assert jane.emulator.access_events == []


def test_a_lenient_emulator_ignores_unknown_members(emulator_at: Callable[..., Api]) -> None:
    api = emulator_at(switches=Switches(strict=False))
    assert api.grant(until=T1).status == 200


# --- transitions (adapty-api 8.3) -----------------------------------------------------------------


def test_a_granted_level_has_the_documented_members(jane: Api) -> None:
    (level,) = jane.grant(expires_at=T1).data["access_levels"]
    assert list(level) == MEMBERS
    assert level["store_transaction_id"] == level["store_original_transaction_id"] != ""
    assert {name: level[name] for name in MEMBERS if "transaction" not in name} == {
        "access_level_id": "premium",
        "store": "adapty",
        "store_product_id": "adapty_server_side_product",
        "store_base_plan_id": None,
        "offer": None,
        "starts_at": None,
        "purchased_at": NOW,
        "originally_purchased_at": NOW,
        "expires_at": answered(T1),
        "renewal_cancelled_at": None,
        "billing_issue_detected_at": None,
        "is_in_grace_period": False,
        "cancellation_reason": None,
    }


def test_a_grant_until_then_is_until_then(jane: Api) -> None:
    jane.grant(expires_at=T1)
    assert jane.level()["expires_at"] == answered(T1)


@pytest.mark.parametrize("period", [{}, {"expires_at": None}, {"starts_at": None}])
def test_a_grant_without_an_end_is_for_life(jane: Api, period: dict[str, Any]) -> None:
    jane.grant(**period)
    assert (jane.level()["starts_at"], jane.level()["expires_at"]) == (None, None)


@pytest.mark.parametrize("end", [T2, None])
def test_a_grant_extends(jane: Api, end: str | None) -> None:
    jane.grant(expires_at=T1)
    transaction = jane.level()["store_transaction_id"]
    jane.grant(expires_at=end)
    assert jane.level()["expires_at"] == (answered(end) if end else None)
    assert jane.level()["store_transaction_id"] == transaction


def test_a_revoke_with_a_date_shortens(jane: Api) -> None:
    jane.grant(expires_at=T2)
    jane.revoke(revoke_at=T1)
    level = jane.level()
    assert level["expires_at"] == answered(T1)
    assert (level["renewal_cancelled_at"], level["cancellation_reason"]) == (None, None)


def test_a_revoke_with_the_present_end_changes_nothing(jane: Api) -> None:
    jane.grant(expires_at=T1)
    before = jane.level()
    assert jane.revoke(revoke_at=T1).status == 200
    assert jane.level() == before


def test_a_revoke_with_a_date_ends_a_level_that_is_for_life(jane: Api) -> None:
    jane.grant()
    jane.revoke(revoke_at=T1)
    assert jane.level()["expires_at"] == answered(T1)


@pytest.mark.parametrize("at", [{}, {"revoke_at": None}])
@pytest.mark.parametrize("end", [T1, None])
def test_a_revoke_without_a_date_ends_access_now(
    jane: Api, at: dict[str, Any], end: str | None
) -> None:
    jane.grant(expires_at=end)
    (level,) = jane.revoke(**at).data["access_levels"]
    assert level["expires_at"] == level["renewal_cancelled_at"] == NOW
    assert level["cancellation_reason"] == "adapty_revoked"


def test_a_level_that_is_over_cannot_be_revoked_and_stays_listed(jane: Api) -> None:
    jane.grant(expires_at=SOON)
    jane.server.advance(days=1)
    assert jane.revoke().code == "revocation_date_more_than_expiration_date"
    assert jane.level()["expires_at"] == answered(SOON)


def test_a_grant_that_only_moves_the_start_replaces_it(emulator_at: Callable[..., Api]) -> None:
    api = emulator_at()
    api.grant(starts_at=SOON, expires_at=T2)
    api.grant(starts_at=T1, expires_at=T2)
    assert api.level()["starts_at"] == answered(T1)
    api.grant(expires_at=T2)
    assert api.level()["starts_at"] is None
    other = emulator_at(switches=Switches(grant_moves_start=False))
    other.grant(starts_at=SOON, expires_at=T2)
    other.grant(starts_at=T1, expires_at=T2)
    assert other.level()["starts_at"] == answered(SOON)


@pytest.mark.parametrize("before", [T2, None])
def test_a_grant_with_an_earlier_end_leaves_the_end_unless_switched(
    emulator_at: Callable[..., Api], before: str | None
) -> None:
    api = emulator_at()
    api.grant(expires_at=before)
    api.grant(expires_at=T1)
    assert api.level()["expires_at"] == (answered(before) if before else None)
    other = emulator_at(switches=Switches(grant_shortens=True))
    other.grant(expires_at=before)
    other.grant(expires_at=T1)
    assert other.level()["expires_at"] == answered(T1)


def test_a_level_that_has_not_begun_ends_where_it_would_begin(jane: Api) -> None:
    jane.grant(starts_at=T1, expires_at=T2)
    jane.revoke()
    assert jane.level()["starts_at"] == jane.level()["expires_at"] == answered(T1)
    assert jane.emulator.content()[0]["access"] == {}


def test_a_level_that_is_over_begins_anew(jane: Api) -> None:
    jane.grant(expires_at=SOON)
    transaction = jane.level()["store_transaction_id"]
    jane.server.advance(days=2)
    jane.grant(expires_at=T2)
    level = jane.level()
    assert level["expires_at"] == answered(T2)
    assert level["purchased_at"] == "2027-01-17T08:00:00+00:00"
    assert level["store_transaction_id"] != transaction


def test_a_grant_may_end_in_the_past_and_gives_no_access(jane: Api) -> None:
    assert jane.grant(expires_at=PAST).status == 200
    assert jane.level()["expires_at"] == answered(PAST)
    assert jane.emulator.content()[0]["access"] == {}


def test_levels_are_independent_of_each_other(jane: Api) -> None:
    jane.grant(expires_at=T1)
    jane.grant("pro")
    jane.revoke()
    assert [each["access_level_id"] for each in jane.send("GET").data["access_levels"]] == [
        "premium",
        "pro",
    ]
    assert jane.level("pro")["expires_at"] is None


def test_an_anonymous_profile_is_granted_access_by_its_profile_id(jane: Api) -> None:
    anonymous = jane.emulator.add_anonymous()
    body = {"access_level_id": "premium"}
    reply = jane.send("POST", body, user=None, profile=anonymous, path=GRANT_PATH)
    assert (reply.data["profile_id"], len(reply.data["access_levels"])) == (anonymous, 1)


def test_an_instant_without_a_zone_is_in_utc(jane: Api) -> None:
    jane.grant(expires_at="2027-02-01T00:00:00")
    assert jane.level()["expires_at"] == answered(T1)


def test_fractions_of_seconds_are_kept_unless_switched(emulator_at: Callable[..., Api]) -> None:
    precise = "2027-02-01T00:00:00.123456+00:00"
    api = emulator_at()
    api.grant(expires_at=precise)
    assert api.level()["expires_at"] == precise
    other = emulator_at(switches=Switches(whole_seconds=True))
    other.grant(expires_at=precise)
    assert other.level()["expires_at"] == answered(T1)


def test_a_bought_level_that_is_granted_stays_a_bought_one(jane: Api) -> None:
    bought = {
        "store": "app_store",
        "store_product_id": "monthly",
        "access_level": "premium",
        "expires_at": T1,
    }
    jane.emulator.plant({"profiles": [{"customer_user_id": "jane", "purchases": [bought]}]})
    before = jane.level()
    jane.grant(expires_at=T2)
    assert jane.level() == {**before, "expires_at": answered(T2)}
    (subscription,) = jane.send("GET").data["subscriptions"]
    assert subscription["expires_at"] == answered(T1)


# --- events ---------------------------------------------------------------------------------------


def test_each_grant_and_each_revoke_is_one_event(jane: Api) -> None:
    jane.grant(expires_at=T1)
    jane.grant(expires_at=T1)
    jane.revoke()
    jane.revoke()  # refused: it is over
    jane.patch({"first_name": "Jane"})
    jane.server.advance(days=60)
    events = jane.emulator.access_events
    assert [each.cause for each in events] == ["grant", "grant", "revoke"]
    assert [each.number for each in events] == [1, 2, 3]
    assert events[-1] == AccessEvent(
        number=3,
        at=NOW,
        cause="revoke",
        profile_id=jane.stored()["profile_id"],
        customer_user_id="jane",
        access_level_id="premium",
        starts_at=None,
        expires_at=NOW,
    )
    assert jane.emulator.events_after(2) == [
        {"event": "access_level_updated", **{k: getattr(events[2], k) for k in events[2].__slots__}}
    ]


# --- a small model --------------------------------------------------------------------------------

DAYS = st.integers(-2, 12)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.none() | DAYS, st.none() | DAYS),
        st.tuples(st.just("revoke"), st.none() | DAYS),
        st.tuples(st.just("wait"), st.integers(0, 4)),
    ),
    max_size=12,
)
DAY = 86_400 * 1_000_000


def instant(day: int | None) -> str | None:
    """Noon of a day, counted from the start, so that no instant is ever now."""
    return None if day is None else f"2027-01-{15 + day:02}T12:00:00Z"


class Model:
    """The days on which a profile has access, from the sentences of adapty-api 8 alone."""

    def __init__(self) -> None:
        self.today = 0
        self.period: tuple[float, float] | None = None
        """First day, and the day after the last one."""

    def grant(self, start: int | None, end: int | None) -> bool:
        first = self.today if start is None else start + 0.5
        last = float("inf") if end is None else end + 0.5
        if self.period is not None and self.period[1] > self.today:
            last = max(last, self.period[1])
        self.period = (first, last)
        return True

    def revoke(self, day: int | None) -> bool:
        if self.period is None or self.period[1] <= self.today:
            return False
        at = self.today if day is None else day + 0.5
        if (day is not None and at <= self.today) or at > self.period[1]:
            return False
        self.period = (self.period[0], max(at, self.period[0]))
        return True

    def days_with_access(self) -> list[bool]:
        if self.period is None:
            return [False] * 20
        first, last = self.period
        return [first <= day < last for day in range(self.today, self.today + 20)]


def days_with_access(emulator: Emulator, today: int) -> list[bool]:
    """The same, from the content of an emulator."""
    (only,) = emulator.content()
    access = only["access"].get("premium")
    if access is None:
        return [False] * 20
    begin = (parse_instant("2027-01-15T08:00:00Z") or 0) + today * DAY
    first, last = parse_instant(access["starts_at"]), parse_instant(access["expires_at"])
    days = [begin + day * DAY for day in range(20)]
    return [(first is None or first <= day) and (last is None or day < last) for day in days]


@settings(max_examples=150)
@given(STEPS)
def test_any_grants_revokes_and_waits_give_the_access_of_a_small_model(
    steps: list[tuple[Any, ...]],
) -> None:
    model = Model()
    emulator = Emulator(clock=lambda: START)
    with EmulatorServer(emulator) as server:
        api = Api(server)
        api.create()
        for name, *arguments in steps:
            if name == "wait":
                server.advance(days=arguments[0])
                model.today += arguments[0]
                continue
            if name == "grant":
                start, end = arguments
                reply = api.grant(starts_at=instant(start), expires_at=instant(end))
                assert model.grant(start, end) == (reply.status == 200)
            else:
                reply = api.revoke(revoke_at=instant(arguments[0]))
                assert model.revoke(arguments[0]) == (reply.status == 200), reply.raw
            assert days_with_access(emulator, model.today) == model.days_with_access()
        api.connection.close()
    assert len(emulator.access_events) == sum(
        1 for each in emulator.log if each.effect is not None and each.route in ("grant", "revoke")
    )


def test_a_level_is_over_from_its_end_on() -> None:
    end = parse_instant(T1)
    assert end is not None
    level = {"expires_at": T1}
    assert [is_over(level, end + moved) for moved in (-1, 0, 1)] == [False, True, True]
    assert not is_over({"expires_at": None}, end)
