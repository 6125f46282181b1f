"""The example suite of docs/testing.md. Run it with `pytest examples/qa`, also with `-n 4`."""

from __future__ import annotations

import pytest
from app import App

from reconciler import EmulatorServer
from reconciler.testing import MakeProfile


def test_a_user_has_premium(adapty_profile: MakeProfile) -> None:
    jane = adapty_profile("jane", access_levels={"premium": "1h"})

    assert App(jane.url, jane.headers).levels() == {"premium"}


def test_premium_ends_and_is_granted_again(
    adapty_emulator: EmulatorServer, adapty_profile: MakeProfile
) -> None:
    jane = adapty_profile("jane", access_levels={"premium": "30d"})
    assert jane.has_access("premium")

    adapty_emulator.advance(days=31)
    assert not jane.has_access("premium")

    jane.reset()
    assert jane.has_access("premium")


def test_a_declared_user_is_as_declared(adapty_profile: MakeProfile) -> None:
    jane = adapty_profile("jane")

    assert App(jane.url, jane.headers).attributes() == {"tier": "gold", "level": 5.0}


def test_a_user_can_be_changed_for_one_test(adapty_profile: MakeProfile) -> None:
    jane = adapty_profile("jane", custom_attributes={"tier": "silver"})

    assert App(jane.url, jane.headers).attributes() == {"tier": "silver", "level": 5.0}


def test_a_user_is_reset_after_the_app_changed_it(adapty_profile: MakeProfile) -> None:
    jane = adapty_profile("jane")
    app = App(jane.url, jane.headers)
    app.set(tier="platinum", level=6)

    jane.reset()

    assert app.attributes() == {"tier": "gold", "level": 5.0}


@pytest.mark.parametrize("number", range(8))
def test_a_user_is_made_on_the_spot(
    adapty_profile: MakeProfile, adapty_namespace: str, number: int
) -> None:
    name = f"{adapty_namespace}-{number}"
    user = adapty_profile({"customer_user_id": name, "custom_attributes": {"number": number}})

    assert App(user.url, user.headers).attributes() == {"number": float(number)}


@pytest.mark.adapty_profile("jane", scope="module")
@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_user_of_the_module_begins_anew_in_every_test(
    adapty_profile: MakeProfile, level: int
) -> None:
    jane = adapty_profile()
    app = App(jane.url, jane.headers)
    assert app.attributes()["level"] == 5.0
    app.set(level=level)


def test_a_user_may_delete_the_account(adapty_profile: MakeProfile) -> None:
    jane = adapty_profile("jane")

    App(jane.url, jane.headers).close_account()

    assert jane.refresh() is None


def test_the_emulator_is_empty_but_for_users_of_a_wider_scope(
    adapty_emulator: EmulatorServer,
) -> None:
    profiles = adapty_emulator.emulator.profiles()

    assert {profile["customer_user_id"] for profile in profiles} <= {"qa-jane"}


def test_retries_take_no_time(adapty_emulator: EmulatorServer, adapty_profile: MakeProfile) -> None:
    from reconciler.emulator import parse_fault

    adapty_emulator.set_fault(parse_fault("429:retry-after=300:times=2"))

    assert adapty_profile("jane").profile_id
