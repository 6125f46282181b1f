"""GitHub's plan and apply on machines that share nothing but the state in a bucket, each begun anew."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from reconciler.emulator import Emulator, EmulatorServer
from tests.support.action_runner import JANE, PULL, Runner, Stand
from tests.support.command_line import PROGRAM
from tests.support.object_server import ObjectServer, shared_server, url_for
from tests.support.wire import KEY

CONFIG = """\
version: 1
environments:
  production:
    api: {{url: "{url}", key_env: ADAPTY_SECRET_KEY}}
    confirm: true
    state: {{url_env: STATE_URL, lock_wait: 5}}
"""
EVE, ZOE = JANE.replace("jane", "eve"), JANE.replace("jane", "zoe")


class Team:
    """An API, a bucket, and machines that are thrown away after one job."""

    def __init__(self, folder: Path, *, url: str, bucket: ObjectServer) -> None:
        self.folder = folder
        self.url = url
        self.bucket = bucket
        self.stand = Stand()
        self.state = url_for("s3", f"team/{uuid4().hex}/production")
        self.machines = 0

    def machine(self, **profiles: str) -> Runner:
        """A machine with a checkout of these profiles, and the credentials of the bucket."""
        self.machines += 1
        folder = self.folder / f"machine-{self.machines}"
        folder.mkdir()
        machine = Runner(folder, self.stand, variables=self.bucket.variables("s3"))
        machine.write("reconcile.yaml", CONFIG.format(url=self.url))
        for name, text in profiles.items():
            machine.write(f"profiles/{name}.yaml", text)
        machine.commit = machine.git.commit("profiles")
        return machine

    def plan(self, **profiles: str) -> tuple[int, dict[str, str]]:
        """The job of a pull request: it may only read the state, and has no key."""
        self.stand.comments.clear()
        with self.bucket.faults(read_only=True):
            return self.machine(**profiles).run(PULL, state_url=self.state, mask="false")

    def apply(self, **profiles: str) -> tuple[int, str]:
        """The job after the merge; its code and its log."""
        machine = self.machine(**profiles)
        machine.variables["ADAPTY_SECRET_KEY"] = KEY
        self.stand.pulls = [{"number": 7, "merged_at": "x", "merge_commit_sha": machine.commit}]
        code, _ = machine.run(mode="apply", state_url=self.state)
        return code, machine.log

    def apply_by_hand(self, **profiles: str) -> None:
        """Another merge, whose plan nobody here has seen."""
        machine = self.machine(**profiles)
        variables = self.bucket.variables("s3") | {
            "STATE_URL": self.state,
            "ADAPTY_SECRET_KEY": KEY,
        }
        variables |= {"HOME": str(machine.temp), "PATH": os.environ["PATH"]}
        planned = subprocess.run(
            [*PROGRAM, "plan", "--format", "json"],
            cwd=machine.folder,
            env=variables,
            capture_output=True,
            text=True,
        )
        digest = planned.stdout.partition('"digest": "')[2].partition('"')[0]
        subprocess.run(
            [*PROGRAM, "apply", "--auto-approve", "--digest", digest],
            cwd=machine.folder,
            env=variables,
            check=True,
            capture_output=True,
        )


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    emulator = Emulator()
    yield emulator
    emulator.close()


@pytest.fixture
def team(tmp_path: Path, emulator: Emulator) -> Iterator[Team]:
    with EmulatorServer(emulator) as server:
        team = Team(tmp_path, url=server.url, bucket=shared_server())
        yield team
        team.stand.close()


def test_the_reviewed_plan_is_applied_elsewhere_and_not_after_another_merge(
    team: Team, emulator: Emulator
) -> None:
    code, outputs = team.plan()
    assert (code, outputs["changes"]) == (0, "true")
    code, log = team.apply()
    assert (code, "1 created" in log) == (0, True), log

    code, outputs = team.plan(eve=EVE)  # Jane is known to a machine that never saw her
    assert (code, outputs["changes"]) == (0, "true")
    assert "qa-jane" not in team.stand.comments[0]["body"]
    assert "qa-eve" in team.stand.comments[0]["body"]
    team.apply_by_hand(zoe=ZOE)
    sent = len(emulator.log)
    code, log = team.apply(eve=EVE)
    assert code == 6, log
    assert len(emulator.log) == sent


def test_a_state_that_only_the_workflow_names_is_not_ignored(team: Team) -> None:
    machine = team.machine()
    machine.write("reconcile.yaml", CONFIG.format(url=team.url).replace("url_env: STATE_URL, ", ""))
    code, _ = machine.run(PULL, state_url=team.state)
    assert code == 64
    assert "reconcile.yaml needs state: {url_env: STATE_URL}" in machine.log
