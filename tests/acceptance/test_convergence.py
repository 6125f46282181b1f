"""Laws of the whole: apply then plan is empty, and the remote holds what the files say."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.plan_format import from_lines, to_lines
from tests.support.worlds import World

TEXT = st.text(alphabet="abcdefXYZ 0123456789", min_size=1, max_size=12).filter(str.strip)
ATTRIBUTE = st.one_of(TEXT, st.booleans(), st.integers(-9, 9), st.sampled_from([0.5, -0.0, 1e3]))
DEVICE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
ACCESS = [
    "lifetime",
    "2027-01-31T00:00:00Z",
    "2028-01-31T00:00:00Z",
    {"starts_at": "2027-01-01T00:00:00Z", "expires_at": "2028-01-31T00:00:00Z"},
    {"starts_at": "2027-01-01T00:00:00Z", "expires_at": "lifetime"},
    None,
]
"""A span is left out: whether it is granted depends on the access before, so a fresh profile differs."""
KEYS = st.sampled_from([f"k{number}" for number in range(33)] + ["a.b", "A-1"])


def _attributes(nulls: bool) -> st.SearchStrategy[dict[str, Any]]:
    values = st.one_of(ATTRIBUTE, st.none()) if nulls else ATTRIBUTE
    return st.dictionaries(KEYS, values, max_size=30)


def _profile(customer: str, dialect: str) -> st.SearchStrategy[dict[str, Any]]:
    clearable = st.one_of(TEXT, st.none())
    advertising = {
        name: st.sampled_from([DEVICE, DEVICE.replace("3", "4"), None])
        for name in ("idfa", "advertising_id")
    }
    device = st.fixed_dictionaries(
        {"device_id": st.just(DEVICE)},
        optional={"locale": st.one_of(TEXT, st.none(), st.just("")), "os": TEXT, **advertising},
    )
    country = st.sampled_from(["FR", "NO"])
    optional = {
        "first_name": clearable,
        "email": st.sampled_from(["a@example.com", "b@example.com", None]),
        "store": st.sampled_from(["app_store", "stripe", None]),
        "gender": st.sampled_from(["f", "m", None]),
        "custom_attributes": _attributes(nulls=True),
        "platform": st.sampled_from(["iOS", "web"]),
        "access_levels": st.dictionaries(
            st.sampled_from(["premium", "pro"]), st.sampled_from(ACCESS), min_size=1
        ),
        "integrations": st.dictionaries(
            st.sampled_from(["amplitude_user_id", "branch_id"]), clearable, min_size=1
        ),
        "refund_saver": st.fixed_dictionaries(
            {"consent": st.sampled_from([True, False, None])},
            optional={"preference": st.sampled_from(["grant", "decline", None])},
        ),
    }
    always: dict[str, Any] = {
        "customer_user_id": st.just(customer),
        "installation_meta": device,
        "ip_country": country,
        "analytics_disabled": st.booleans(),
    }
    if dialect == "openapi":
        optional |= {
            "birthday": st.sampled_from(["2000-12-31", None]),
            "att_status": st.sampled_from([0, 3, None]),
        }
    return st.fixed_dictionaries(always, optional=optional)


def _desired(dialect: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.tuples(_profile("jane", dialect), _profile("joe", dialect)).map(list)


HISTORIES = st.sampled_from(["guide", "openapi"]).flatmap(
    lambda dialect: st.tuples(st.just(dialect), st.lists(_desired(dialect), min_size=1, max_size=4))
)


@settings(max_examples=150, deadline=None)
@given(HISTORIES)
def test_after_any_edits_the_second_plan_is_empty_and_the_remote_equals_a_fresh_one(
    history: tuple[str, list[list[dict[str, Any]]]],
) -> None:
    dialect, steps = history
    world = World(dialect)
    for desired in steps:
        report = world.reach(*desired)
        assert {result.outcome.value for result in report.results} <= {"created", "updated"}, report
        assert world.plan(*desired).is_empty
        for written, declared in zip(world.emulator.profiles(), desired, strict=True):
            assert (written["country"], written["country_source"]) == (
                declared["ip_country"],
                "explicit",
            )
    fresh = World(dialect)
    fresh.reach(*steps[-1])
    assert _without_countries(world) == _without_countries(fresh)


def _without_countries(world: World) -> list[Any]:
    return world.emulator.content()


@settings(max_examples=50, deadline=None)
@given(_desired("guide"))
def test_a_plan_survives_being_written_and_read(desired: list[dict[str, Any]]) -> None:
    plan = World().plan(*desired)
    assert from_lines(to_lines(plan)) == plan


@settings(max_examples=50, deadline=None)
@given(_desired("guide"))
def test_the_order_of_files_changes_no_byte(desired: list[dict[str, Any]]) -> None:
    world = World()
    plan = world.plan(*desired)
    assert [c.requests for c in world.plan(*reversed(desired)).changes] == [
        c.requests for c in plan.changes
    ]


@settings(max_examples=50, deadline=None)
@given(_desired("guide"))
def test_planning_twice_gives_the_same_bytes(desired: list[dict[str, Any]]) -> None:
    world = World()
    assert list(to_lines(world.plan(*desired))) == list(to_lines(world.plan(*desired)))
