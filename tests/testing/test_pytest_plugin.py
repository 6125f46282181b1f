"""The pytest plugin, in runs of pytest of their own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.emulator import Emulator, EmulatorServer
from tests.support.projects import Project, remote
from tests.support.wire import create

ROOT = Path(__file__).parent.parent.parent
JANE = "customer_user_id: qa-jane\nfirst_name: Jane\ncustom_attributes: {tier: gold}\n"
SHUFFLE = """
import os, random
from reconciler.emulator import EmulatorServer

def pytest_collection_modifyitems(items):
    random.Random(int(os.environ["SHUFFLE"])).shuffle(items)

stop = EmulatorServer.stop

def watched(self):
    if self._loopback is not None:
        left = [each["customer_user_id"] for each in self.emulator.profiles()]
        with open(os.environ["LEFT"], "a") as file:
            file.write(f"{left}\\n")
    stop(self)

EmulatorServer.stop = watched
"""


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )


def suite(folder: Path, tests: str, *, config: dict[str, Any] | None = None) -> Project:
    project = Project(folder, config, profiles={"jane": JANE})
    project.write("test_it.py", "import pytest, requests\n" + tests)
    project.write("pytest.ini", "[pytest]\n")
    return project


def of(server: EmulatorServer, *, confirm: bool = False) -> dict[str, Any]:
    api = {"key_env": "SECRET", "rate": "1000/s", "quiet_period": 0}
    return remote(server.url, name="sandbox", api=api, confirm=confirm)


@pytest.fixture
def api() -> Iterator[EmulatorServer]:
    with EmulatorServer(Emulator()) as server:
        yield server
    server.emulator.close()


def customers(server: EmulatorServer) -> list[str]:
    return [each["customer_user_id"] for each in server.emulator.profiles()]


def outcomes(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.strip().splitlines()[-1].split(" in ")[0]


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_the_example_suite_passes_in_any_order_and_leaves_nothing(
    tmp_path: Path, workers: Sequence[str]
) -> None:
    folder = shutil.copytree(ROOT / "examples" / "qa", tmp_path / "qa")
    (folder / "conftest.py").write_text(SHUFFLE, "utf-8")
    left = tmp_path / "left"

    done = run(folder, *workers, SHUFFLE=str(random.randrange(1000)), LEFT=str(left))

    assert done.returncode == 0, done.stdout + done.stderr
    assert set(left.read_text("utf-8").splitlines()) == {"[]"}


def test_a_failure_shows_the_plan(tmp_path: Path) -> None:
    suite(tmp_path, "def test(adapty_profile):\n    adapty_profile('qa-jane')\n    assert False\n")

    done = run(tmp_path)

    assert "profiles made by adapty_profile" in done.stdout
    assert '+ custom_attributes.tier  "gold"' in done.stdout


def test_the_error_about_an_invalid_profile_shows_no_line_of_the_plugin(tmp_path: Path) -> None:
    tests = (
        "def test_field(adapty_profile):\n    adapty_profile({'customer_user_id': 'a', 'emal': 'b'})\n"
        "def test_name(adapty_profile):\n    adapty_profile('nobody')\n"
        "@pytest.mark.adapty_profile('jane', scope='world')\ndef test_scope(): pass\n"
        "@pytest.mark.adapty_profile('jane', teardown='burn')\ndef test_teardown(): pass\n"
        "def test_marker(adapty_profile): adapty_profile()\n"
    )

    done = run(suite(tmp_path, tests).folder)

    assert "Did you mean `email`?" in done.stdout
    assert "no profile file declares nobody" in done.stdout
    assert '"world" is no scope' in done.stdout
    assert '"burn" is no teardown' in done.stdout
    assert "has 0 adapty_profile markers" in done.stdout
    assert "reconciler/testing.py" not in done.stdout


def test_without_a_configuration_mappings_work(tmp_path: Path) -> None:
    suite(tmp_path, "def test(adapty_profile):\n    adapty_profile({'customer_user_id': 'a'})\n")
    shutil.rmtree(tmp_path / "profiles")

    assert outcomes(run(tmp_path)) == "1 passed"


def test_a_marker_makes_the_profile_and_teardown_keep_leaves_it(
    tmp_path: Path, api: EmulatorServer
) -> None:
    tests = (
        "@pytest.mark.adapty_profile('jane', teardown='keep')\ndef test_keep(): pass\n"
        "@pytest.mark.adapty_profile({'customer_user_id': 'x'})\ndef test_restore(): pass\n"
    )
    suite(tmp_path, tests, config=of(api))

    done = run(tmp_path, "--adapty-env", "sandbox", SECRET="k")

    assert outcomes(done) == "2 passed", done.stdout
    assert customers(api) == ["qa-jane"]


def test_a_profile_that_existed_gets_its_values_back(tmp_path: Path, api: EmulatorServer) -> None:
    project = suite(
        tmp_path,
        "def test(adapty_profile):\n"
        "    jane = adapty_profile('jane', custom_attributes={'tier': 'silver', 'extra': 1})\n"
        "    assert jane.refresh().custom_attributes == {'tier': 'silver', 'extra': 1.0}\n",
        config=of(api),
    )
    project.run("apply", "--auto-approve", SECRET="k")
    before = api.emulator.content()

    done = run(tmp_path, "--adapty-env", "sandbox", SECRET="k")

    assert outcomes(done) == "1 passed", done.stdout
    assert api.emulator.content() == before


def test_an_unrecorded_profile_gets_its_attributes_back(
    tmp_path: Path, api: EmulatorServer
) -> None:
    tests = (
        "def test(adapty_profile, adapty_workspace):\n    adapty_profile('jane')\n"
        "def test_after(adapty_workspace):\n"
        "    assert not list(adapty_workspace.store.records())\n"
    )
    suite(tmp_path, tests, config=of(api))
    create(api.emulator, "qa-jane", tier="old")

    done = run(tmp_path, "--adapty-env", "sandbox", SECRET="k")

    assert outcomes(done) == "2 passed", done.stdout
    assert api.emulator.profiles()[0]["custom_attributes"] == {"tier": "old"}


def test_an_environment_with_confirm_is_refused(tmp_path: Path, api: EmulatorServer) -> None:
    tests = "def test(adapty_profile):\n    adapty_profile('jane')\n"
    suite(tmp_path, tests, config=of(api, confirm=True))

    done = run(tmp_path, "--adapty-env", "sandbox", SECRET="k")

    assert "confirm: true" in done.stdout
    assert not api.emulator.log


def test_workers_take_turns_with_a_profile_that_they_share(
    tmp_path: Path, api: EmulatorServer
) -> None:
    tests = (
        "@pytest.mark.parametrize('number', range(12))\n"
        "def test(adapty_profile, number):\n"
        "    jane = adapty_profile('jane', custom_attributes={'number': number})\n"
        "    assert jane.refresh().custom_attributes == {'tier': 'gold', 'number': float(number)}\n"
    )
    suite(tmp_path, tests, config=of(api))

    done = run(tmp_path, "--adapty-env", "sandbox", "-n", "3", SECRET="k")

    assert outcomes(done) == "12 passed", done.stdout
    assert customers(api) == []


def test_a_sweep_deletes_exactly_the_profiles_that_a_killed_run_left(
    tmp_path: Path, api: EmulatorServer
) -> None:
    tests = (
        "import time\n"
        "def test(adapty_profile, adapty_namespace):\n"
        "    adapty_profile({'customer_user_id': f'{adapty_namespace}-a'})\n"
        "    adapty_profile('jane')\n"
        "    open('made', 'w').close()\n"
        "    time.sleep(60)\n"
    )
    project = suite(tmp_path, tests, config=of(api))
    project.write("pytest.ini", "[pytest]\nadapty_ttl = 1s\n")
    create(api.emulator, "qa-jane")
    environ = {**os.environ, "SECRET": "k"}
    command = [sys.executable, "-m", "pytest", "-q", "--adapty-env", "sandbox"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL)
    while not (tmp_path / "made").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(customers(api)) == 2
    time.sleep(1.1)

    project.run("sweep", "--auto-approve", SECRET="k")

    assert customers(api) == ["qa-jane"]


def test_a_moved_clock_is_the_clock_of_both_sides_and_is_right_again_in_the_next_test(
    tmp_path: Path,
) -> None:
    tests = """
import time

def test_it(adapty_emulator, adapty_profile, adapty_workspace):
    adapty_emulator.advance(days=31)
    adapty_profile("jane")
    record = adapty_workspace.store.record("qa-jane")
    assert 30.9 < (record.created_at - time.time()) / 86_400 < 31.1
    assert adapty_emulator.emulator.clock()["skipped"] == 31 * 86_400

def test_after(adapty_emulator):
    assert adapty_emulator.emulator.clock()["skipped"] == 0
"""
    suite(tmp_path, tests)
    assert outcomes(run(tmp_path)) == "2 passed"


def test_a_handle_says_what_access_its_profile_has_at_present(tmp_path: Path) -> None:
    tests = """
GRANT = "/api/v2/server-side-api/purchase/profile/grant/access-level/"

def grant(jane, **body):
    headers = {**jane.headers, "Authorization": "Api-Key k"}
    assert requests.post(jane.url + GRANT, json=body, headers=headers).status_code == 200

def test_it(adapty_emulator, adapty_profile):
    jane = adapty_profile("jane")
    assert not jane.has_access() and jane.access_levels == {}
    adapty_emulator.emulator.plant({"access_levels": ["pro", "late"]})
    grant(jane, access_level_id="premium", expires_at="2999-01-31T00:00:00Z")
    grant(jane, access_level_id="pro")
    grant(jane, access_level_id="late", starts_at="2998-01-31T00:00:00Z")
    assert jane.access_levels == {"premium": "until 2999-01-31T00:00:00Z", "pro": "lifetime"}
    assert jane.has_access() and jane.has_access("pro") and not jane.has_access("late")
    adapty_emulator.advance(weeks=52 * 1000)
    assert not jane.has_access("premium") and jane.has_access("late")
"""
    suite(tmp_path, tests)
    assert outcomes(run(tmp_path)) == "1 passed"


def test_the_emulator_of_the_tests_has_the_access_levels_of_the_configuration(
    tmp_path: Path,
) -> None:
    local = {"local": {"api": {"url": "emulator"}}}
    config = {"version": 1, "access_levels": ["pro"], "environments": local}
    levels = "('premium', 'pro')"
    tests = f"def test_it(adapty_emulator):\n    assert adapty_emulator.emulator.access_levels == {levels}\n"
    suite(tmp_path, tests, config=config)
    assert outcomes(run(tmp_path)) == "1 passed"
