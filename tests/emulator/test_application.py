"""The application: its clock, its access levels, and its content in a comparable form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.emulator import Emulator
from reconciler.errors import UsageError
from tests.support.wire import Api, Serve

START = 1_800_000_000.0
"""2027-01-15T08:00:00Z"""


def access_of(api: Api) -> Any:
    (only,) = api.emulator.content()
    return only["access"]


def test_a_moved_clock_ends_access_and_moves_timestamps(serve: Serve) -> None:
    api = serve(Emulator(clock=lambda: START))
    api.create()
    api.grant(expires_at="2027-02-01T00:00:00Z")
    api.server.advance(weeks=1, days=9)
    assert access_of(api) == {
        "premium": {
            "store": "adapty",
            "starts_at": None,
            "expires_at": "2027-02-01T00:00:00+00:00",
        }
    }
    api.server.advance(hours=16)
    assert access_of(api) == {}
    after = api.send("GET").data
    assert after["timestamp"] == (START + 16 * 86_400 + 16 * 3600) * 1000
    assert len(after["access_levels"]) == 1
    assert api.emulator.clock() == {
        "now": "2027-02-01T00:00:00+00:00",
        "skipped": 1_440_000.0,
    }


def test_a_level_begins_by_the_clock_alone(serve: Serve) -> None:
    api = serve(Emulator(clock=lambda: START))
    api.create()
    api.grant(starts_at="2027-01-16T00:00:00Z")
    assert access_of(api)["premium"]["starts_at"] == "2027-01-16T00:00:00+00:00"
    api.server.advance(days=1)
    assert access_of(api)["premium"]["starts_at"] is None


def test_the_active_levels_are_those_that_have_begun_and_are_not_over(serve: Serve) -> None:
    api = serve(Emulator(clock=lambda: START, access_levels=["pro", "beta", "old"]))
    profile = api.create()
    api.grant()
    api.grant("pro", expires_at="2027-01-15T10:00:00Z")
    api.grant("beta", starts_at="2027-01-15T09:00:00Z", expires_at="2027-01-15T09:30:00.5Z")
    api.grant("old", expires_at="2027-01-15T08:00:00Z")
    active = api.emulator.active_levels
    assert active(profile) == {"premium": None, "pro": START + 7200}
    api.server.advance(hours=1)
    assert active(profile) == {"premium": None, "pro": START + 7200, "beta": START + 5400.5}
    api.server.advance(hours=1)
    assert active(profile) == {"premium": None}
    assert active("nobody") == {}


@pytest.mark.parametrize(
    ("durations", "reason"),
    [
        ({"days": -1}, "forward only"),
        ({"weeks": 500_000}, "9999"),
        ({"days": float("inf")}, "9999"),
        ({"days": float("nan")}, "9999"),
        ({"months": 1}, "not moved by months"),
        ({"days": "1"}, "not moved by days"),
    ],
)
def test_the_clock_is_not_moved_elsewhere(durations: dict[str, Any], reason: str) -> None:
    emulator = Emulator(clock=lambda: START)
    with pytest.raises(UsageError, match=reason) as caught:
        emulator.advance(**durations)
    assert "days" in caught.value.hint
    assert emulator.clock()["skipped"] == 0


def test_the_clock_of_a_file_is_the_same_for_everybody_and_outlives_a_process(
    tmp_path: Path,
) -> None:
    db = tmp_path / "e.db"
    first, second = Emulator(db=db, clock=lambda: START), Emulator(db=db, clock=lambda: START)
    first.advance(days=31)
    assert second.clock() == first.clock()
    second.advance(days=1)
    for emulator in (first, second):
        emulator.close()
    third = Emulator(db=db, clock=lambda: START)
    assert third.clock() == {"now": "2027-02-16T08:00:00+00:00", "skipped": 32 * 86_400.0}
    third.close()


@pytest.mark.parametrize("is_file", [False, True])
def test_clearing_sets_the_clock_right_and_leaves_the_access_levels_of_the_beginning(
    serve: Serve, tmp_path: Path, is_file: bool
) -> None:
    db = tmp_path / "e.db" if is_file else None
    api = serve(Emulator(db=db, access_levels=["pro"], clock=lambda: START))
    api.create()
    stamp = api.grant().data["timestamp"]
    api.server.advance(days=1)
    assert api.emulator.time() == START + 86_400
    api.emulator.plant({"access_levels": ["beta"]})
    api.emulator.clear(keep=["jane"])
    assert [each["customer_user_id"] for each in api.emulator.profiles()] == ["jane"]
    assert api.emulator.access_events == []
    assert api.emulator.time() == START
    assert api.emulator.access_levels == ("premium", "pro")
    assert api.send("GET").data["timestamp"] > stamp


def test_premium_exists_always_and_other_levels_by_name(tmp_path: Path) -> None:
    db = tmp_path / "e.db"
    assert Emulator().access_levels == ("premium",)
    first = Emulator(db=db, access_levels=["pro", "premium", "pro"])
    assert first.access_levels == ("premium", "pro")
    first.close()
    second = Emulator(db=db, access_levels=["beta"])
    assert second.access_levels == ("premium", "pro", "beta")
    second.close()


def test_content_compares_access_over_time_and_not_its_history(serve: Serve) -> None:
    """Two emulators that reach the same access on different ways are equal; other access is not."""
    direct, detour, other = (serve(Emulator(clock=lambda: START)) for _ in range(3))
    end, later = "2027-02-01T00:00:00Z", "2027-03-01T00:00:00Z"
    for api in (direct, detour, other):
        api.create()
    direct.grant(expires_at=end)
    detour.grant(expires_at=later)
    detour.revoke(revoke_at="2027-02-01T01:00:00+01:00")
    other.grant(expires_at=later)
    assert direct.emulator.content() == detour.emulator.content() != other.emulator.content()
    detour.revoke()
    assert access_of(detour) == {}


def test_content_tells_identifiers_and_refund_preferences_apart(serve: Serve) -> None:
    api = serve(Emulator())
    api.emulator.plant(
        {
            "profiles": [
                {
                    "customer_user_id": "jane",
                    "integrations": {"branch_id": "b"},
                    "refund_saver": {"preference": "grant"},
                }
            ]
        }
    )
    (only,) = api.emulator.content()
    assert only["integration_identifiers"] == {"branch_id": "b"}
    assert only["refund_saver"] == {"custom_preference": "grant"}
