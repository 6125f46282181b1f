"""Test users with access: what tests declare, and what is there when they are over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.emulator import GRANT_PATH, PROFILE_PATH, REVOKE_PATH, EmulatorServer
from reconciler.testing import Sandbox
from tests.support.projects import Project
from tests.support.wire import Api, create
from tests.testing.test_pytest_plugin import JANE, api, customers, of, outcomes, run, suite

__all__ = ["api"]
ENV = ("--adapty-env", "sandbox")
IN_A_YEAR = (datetime.now(UTC) + timedelta(days=365)).strftime("%Y-%m-%dT00:00:00Z")
PREMIUM = f"{JANE}access_levels: {{premium: '{IN_A_YEAR}'}}\n"


def levels(server: EmulatorServer, customer: str = "qa-jane") -> dict[str, float | None]:
    (profile_id,) = [
        each["profile_id"]
        for each in server.emulator.profiles()
        if each["customer_user_id"] == customer
    ]
    return server.emulator.active_levels(profile_id)


def paths_since(server: EmulatorServer, begin: int = 0) -> list[str]:
    names = {GRANT_PATH: "grant", REVOKE_PATH: "revoke", PROFILE_PATH: "profile"}
    return [f"{each.method} {names[each.path]}" for each in list(server.emulator.log)[begin:]]


def passes(project: Project, *arguments: str, count: int = 1) -> None:
    done = run(project.folder, *arguments, SECRET="k")
    assert outcomes(done) == f"{count} passed", done.stdout + done.stderr


@pytest.fixture
def recorded(tmp_path: Path, api: EmulatorServer) -> Project:
    """A project whose state records Jane."""
    project = suite(tmp_path, "", config=of(api))
    project.run("apply", "--auto-approve", SECRET="k")
    return project


def grant(server: EmulatorServer, level: str = "premium", **period: Any) -> None:
    """Gives access as others do: the dashboard, or the app's own back end."""
    assert Api(server).grant(level, user="qa-jane", **period).status == 200


def declares(access: str) -> str:
    return (
        "def test(adapty_profile):\n"
        f"    jane = adapty_profile('jane', access_levels={access})\n"
        "    print(jane.access_levels)\n"
    )


@pytest.mark.parametrize("arguments", [(), ENV], ids=["emulator", "environment"])
def test_a_test_declares_access_in_short_and_as_files_do(
    tmp_path: Path, api: EmulatorServer, arguments: Sequence[str]
) -> None:
    tests = f"""
def test_span(adapty_profile):
    jane = adapty_profile("jane", access_levels={{"premium": "1h"}})
    assert jane.has_access() and jane.has_access("premium")
    assert jane.access_levels["premium"].startswith("until 20")

@pytest.mark.parametrize("declared, shown", [
    ("lifetime", "lifetime"),
    ("{IN_A_YEAR}", "until {IN_A_YEAR}"),
    ({{"starts_at": "2020-01-01T00:00:00Z", "expires_at": "{IN_A_YEAR}"}}, "until {IN_A_YEAR}"),
    ({{"starts_at": "{IN_A_YEAR}", "expires_at": "lifetime"}}, None),
    (None, None),
])
def test_forms(adapty_profile, declared, shown):
    jane = adapty_profile("jane", access_levels={{"premium": declared}})
    assert jane.access_levels == ({{}} if shown is None else {{"premium": shown}})

def test_mapping(adapty_profile):
    one = adapty_profile({{"customer_user_id": "one", "access_levels": {{"premium": "2d"}}}})
    two = adapty_profile({{"customer_user_id": "two", "access_levels": {{"premium": None}}}})
    assert one.has_access() and not two.has_access()
    assert one.refresh().values.keys() == {{"access_levels.premium"}}

@pytest.mark.adapty_profile("jane", access_levels={{"premium": "1h"}})
def test_marker(adapty_profile):
    assert adapty_profile().has_access()

def test_none(adapty_profile):
    assert adapty_profile("jane").access_levels == {{}}
"""
    passes(suite(tmp_path, tests, config=of(api)), *arguments, count=9)
    assert customers(api) == []


def test_a_wrong_value_is_a_finding(tmp_path: Path) -> None:
    done = run(suite(tmp_path, declares("{'premium': '1 hour'}")).folder)
    assert 'is "1 hour", which is no time' in done.stdout


def test_access_runs_out_by_the_clock_and_is_granted_again(tmp_path: Path) -> None:
    tests = """
def test_it(adapty_emulator, adapty_profile, adapty_workspace):
    jane = adapty_profile("jane", access_levels={"premium": "30d"})
    assert not adapty_workspace.plan_profile(jane.profile, reassert=False).changes
    adapty_emulator.advance(days=31)
    assert not jane.has_access("premium")
    plan = adapty_workspace.plan_profile(jane.profile, reassert=False)
    assert [each.path for each in plan.changes[0].fields] == ["access_levels.premium"]
    jane.reset()
    assert jane.has_access("premium")
"""
    passes(suite(tmp_path, tests))


def test_a_reset_gives_back_the_access_that_the_app_took(
    tmp_path: Path, api: EmulatorServer
) -> None:
    tests = f"""
def test_it(adapty_profile):
    jane = adapty_profile({{"customer_user_id": "jane", "access_levels": {{"premium": "lifetime"}}}})
    headers = {{**jane.headers, "Authorization": "Api-Key k"}}
    body = {{"access_level_id": "premium"}}
    requests.post(jane.url + "{REVOKE_PATH}", json=body, headers=headers).raise_for_status()
    assert not jane.has_access()
    jane.reset()
    assert jane.has_access()
"""
    passes(suite(tmp_path, tests, config=of(api)), *ENV)


BEFORE: dict[str, dict[str, str] | None] = {
    "nothing": None,
    "lifetime": {},
    "a year": {"expires_at": IN_A_YEAR},
    "over": {"expires_at": "2020-01-01T00:00:00Z"},
    "later": {"starts_at": IN_A_YEAR},
}


@pytest.mark.parametrize("declared", ["1h", "lifetime", None])
@pytest.mark.parametrize("is_recorded", [True, False], ids=["recorded", "unrecorded"])
@pytest.mark.parametrize("before", BEFORE)
def test_access_is_as_before_when_the_test_is_over(
    tmp_path: Path,
    api: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    is_recorded: bool,
    declared: str | None,
) -> None:
    project = suite(tmp_path, "", config=of(api))
    if is_recorded:
        project.run("apply", "--auto-approve", SECRET="k")
    else:
        create(api.emulator, "qa-jane", tier="old")
    period = BEFORE[before]
    if period is not None:
        grant(api, **period)
    was = levels(api), later(api)
    monkeypatch.setenv("SECRET", "k")

    with Sandbox.of(tmp_path, "sandbox") as sandbox:
        jane = sandbox.make("jane", {"access_levels": {"premium": declared}})
        assert jane.has_access() == (declared is not None)

    assert (levels(api), later(api)) == was
    tier = "gold" if is_recorded else "old"
    assert api.emulator.profiles()[0]["custom_attributes"] == {"tier": tier}
    if is_recorded:
        project.run("apply", "--auto-approve", "--refresh", SECRET="k")
        assert (levels(api), later(api)) == was


def later(server: EmulatorServer) -> list[str]:
    """The levels that begin in the future."""
    shown = Api(server).send("GET", user="qa-jane").data["access_levels"]
    now = datetime.now(UTC)
    return [
        each["access_level_id"]
        for each in shown
        if each["starts_at"] and datetime.fromisoformat(each["starts_at"]) > now
    ]


def test_access_of_the_files_is_as_before_when_the_test_is_over(
    tmp_path: Path, api: EmulatorServer
) -> None:
    project = suite(tmp_path, declares("{'premium': 'lifetime'}"), config=of(api))
    project.profile("jane", PREMIUM)
    project.run("apply", "--auto-approve", SECRET="k")
    was = levels(api)
    assert was["premium"] is not None

    passes(project, *ENV)

    assert levels(api) == was
    project.run("plan", "--refresh", "--detailed-exitcode", SECRET="k")


def test_bought_access_is_not_touched(recorded: Project, api: EmulatorServer) -> None:
    bought = {"store": "app_store", "store_product_id": "monthly", "access_level": "premium"}
    purchases = [{**bought, "expires_at": "now+30d"}]
    api.emulator.plant({"profiles": [{"customer_user_id": "qa-jane", "purchases": purchases}]})
    was = levels(api)
    recorded.write("test_it.py", declares("{'premium': '1h'}"))

    passes(recorded, *ENV)

    assert levels(api) == was
    assert not {GRANT_PATH, REVOKE_PATH} & {each.path for each in api.emulator.log}


def test_access_that_is_bought_during_a_test_stays(recorded: Project, api: EmulatorServer) -> None:
    """The purchase comes while the test waits."""
    tests = declares("{'premium': None}") + (
        "    import pathlib, time\n"
        "    pathlib.Path('made').touch()\n"
        "    while not pathlib.Path('bought').exists(): time.sleep(0.01)\n"
    )
    recorded.write("test_it.py", tests)
    process = started(recorded)
    bought = {"store": "app_store", "store_product_id": "monthly", "access_level": "premium"}
    purchases = [{**bought, "expires_at": "now+30d"}]
    api.emulator.plant({"profiles": [{"customer_user_id": "qa-jane", "purchases": purchases}]})
    recorded.write("bought", "")

    assert process.wait(60) == 0
    assert levels(api).keys() == {"premium"}


def started(project: Project, *arguments: str) -> subprocess.Popen[bytes]:
    """A run of pytest that has made its profiles."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ENV, *arguments],
        cwd=project.folder,
        env={**os.environ, "SECRET": "k"},
        stdout=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while not (project.folder / "made").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("end", ["assert False", "raise KeyboardInterrupt", "time.sleep(60)"])
def test_access_ends_however_the_test_ends(
    recorded: Project, api: EmulatorServer, end: str
) -> None:
    recorded.write(
        "test_it.py",
        "import time\n"
        + declares("{'premium': '1h'}")
        + "    adapty_profile({'customer_user_id': 'new', 'access_levels': {'premium': '1h'}})\n"
        + "    open('made', 'w').close()\n"
        + f"    {end}\n",
    )
    process = started(recorded)
    if "sleep" in end:
        process.send_signal(signal.SIGINT)

    assert process.wait(60) in (1, 2)
    assert customers(api) == ["qa-jane"]
    assert levels(api) == {}


@pytest.mark.parametrize("scope", ["function", "module"])
def test_processes_and_scopes_share_users_with_access(
    recorded: Project, api: EmulatorServer, scope: str
) -> None:
    api.emulator.plant({"access_levels": ["pro"]})
    grant(api, "pro", expires_at=IN_A_YEAR)
    was = levels(api)
    recorded.write(
        "test_it.py",
        "import pytest\n"
        "@pytest.mark.parametrize('levels', [['premium'], ['pro'], [], ['premium', 'pro']] * 2)\n"
        "def test(adapty_profile, adapty_namespace, levels):\n"
        "    access = dict.fromkeys(['premium', 'pro'])\n"
        "    access |= dict.fromkeys(levels, '1h')\n"
        f"    jane = adapty_profile('jane', scope='{scope}', access_levels=access)\n"
        "    assert sorted(jane.access_levels) == levels\n"
        "    own = {'customer_user_id': adapty_namespace, 'access_levels': {'premium': '1h'}}\n"
        f"    assert adapty_profile(own, scope='{scope}').has_access()\n",
    )
    workers = ("-n", "2") if scope == "function" else ()

    passes(recorded, *ENV, *workers, count=8)

    assert customers(api) == ["qa-jane"]
    assert levels(api) == was


def test_a_level_that_a_later_test_declares_is_as_before(
    recorded: Project, api: EmulatorServer
) -> None:
    grant(api, expires_at=IN_A_YEAR)
    was = levels(api)
    recorded.write(
        "test_it.py",
        "def test(adapty_profile):\n"
        "    adapty_profile('jane', scope='module')\n"
        "def test_later(adapty_profile):\n"
        "    jane = adapty_profile('jane', scope='module', access_levels={'premium': None})\n"
        "    assert not jane.has_access()\n",
    )

    passes(recorded, *ENV, count=2)

    assert levels(api) == was


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("", ["PATCH profile", "PATCH profile"]),
        (
            ", access_levels={'premium': '1h'}",
            [
                "GET profile",
                "PATCH profile",
                "POST grant",
                "GET profile",
                "PATCH profile",
                "POST revoke",
            ],
        ),
    ],
    ids=["without", "with"],
)
def test_only_a_profile_with_access_levels_costs_requests_for_them(
    recorded: Project, api: EmulatorServer, fields: str, expected: Sequence[str]
) -> None:
    begin = len(api.emulator.log)
    recorded.write("test_it.py", f"def test(adapty_profile):\n    adapty_profile('jane'{fields})\n")

    passes(recorded, *ENV)

    assert paths_since(api, begin) == expected


@pytest.mark.parametrize("is_recorded", [True, False])
def test_what_takes_a_read_of_its_own_is_as_before_when_the_test_is_over(
    tmp_path: Path, api: EmulatorServer, monkeypatch: pytest.MonkeyPatch, is_recorded: bool
) -> None:
    """Integration identifiers and refund preferences, which others had set."""
    project = suite(tmp_path, "", config=of(api))
    if is_recorded:
        project.run("apply", "--auto-approve", SECRET="k")
    else:
        create(api.emulator, "qa-jane", tier="old")
    stranger = Api(api)
    identifiers, settings = (
        "/api/v2/server-side-api/integration/profile/set/integration-identifiers/",
        "/api/v2/server-side-api/purchase/profile/refund-saver/settings/",
    )
    stranger.send("POST", {"amplitude_user_id": "u-1"}, path=identifiers, user="qa-jane")
    stranger.send("POST", {"custom_preference": "grant"}, path=settings, user="qa-jane")
    was = own_members(api)
    monkeypatch.setenv("SECRET", "k")

    declared = {
        "integrations": {"amplitude_user_id": "u-2", "appsflyer_id": "a-1"},
        "refund_saver": {"preference": "decline"},
    }
    with Sandbox.of(tmp_path, "sandbox") as sandbox:
        sandbox.make("jane", declared)
        assert own_members(api) != was

    assert own_members(api) == was
    if is_recorded:
        project.run("plan", "--detailed-exitcode", SECRET="k")


def own_members(server: EmulatorServer) -> list[Any]:
    """The integration identifiers and refund preferences of Jane."""
    (profile,) = server.emulator.content()
    return [
        profile[name]
        for name in sorted(profile)
        if name in ("integration_identifiers", "refund_saver")
    ]
