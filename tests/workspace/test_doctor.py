"""What the doctor finds, what it does not do, and the exit code that it leads to."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.plan import Request
from reconciler.emulator import Emulator, EmulatorServer
from reconciler.errors import ExitCode
from reconciler.remote.answers import ApiAnswer, Body, judge
from reconciler.remote.transport import HttpTransport
from reconciler.state.store import Holder
from reconciler.workspace.connection import Connection
from reconciler.workspace.doctor import Check, exit_code
from tests.support.git import Git
from tests.support.places import state_of
from tests.support.projects import JANE, KEY, KEYS, Project, remote

HOLDER = Holder("ada", "elsewhere", 7, "apply")


@pytest.fixture
def api() -> Emulator:
    return Emulator(keys=frozenset({KEY}))


@pytest.fixture
def project(tmp_path: Path, api: Emulator) -> Iterator[Project]:
    """A project with a state, and an API that is there."""
    with EmulatorServer(api) as server:
        project = Project(tmp_path, remote(server.url), profiles={"jane": JANE})
        with project.workspace(environ=KEYS) as workspace:
            workspace.apply(workspace.plan())
        yield project


def examined(project: Project, code: int = 0, **variables: str) -> dict[str, dict[str, Any]]:
    """The checks of the doctor by name."""
    exit_code_, output = project.invoke("doctor", "--json", **{**KEYS, **variables})
    data = json.loads(output)
    assert (exit_code_, data["exit_code"]) == (code, code), output
    assert KEY not in output
    return {check["check"]: check for check in data["checks"]}


def verdicts(checks: dict[str, dict[str, Any]]) -> dict[str, str]:
    told = {name: check["verdict"] for name, check in checks.items() if check["verdict"] != "ok"}
    if told.get("clock") == "skipped":  # the emulator's answers bear no date
        del told["clock"]
    return told


def test_a_project_in_order_has_no_finding(project: Project, api: Emulator) -> None:
    before = len(list(api.log))
    checks = examined(project)
    assert verdicts(checks) == {}
    names = "versions configuration profiles index state uncertain lock backups permissions host key api"
    assert [*names.split(), "clock", "disk"] == [*checks]
    (request,) = [*api.log][before:]
    assert request.method == "GET"
    _, text = project.invoke("doctor", **KEYS)
    assert text.startswith("ok       versions       reconcile ")


def test_a_refused_key_is_a_failure_with_4(project: Project) -> None:
    checks = examined(project, code=4, SECRET_KEY="secret_live_other")
    assert verdicts(checks) == {"api": "failure"}
    assert "SECRET_KEY" in checks["api"]["hint"]


def test_a_missing_key_is_a_failure_with_3_and_nothing_is_sent(
    project: Project, api: Emulator
) -> None:
    before = len(list(api.log))
    assert verdicts(examined(project, code=3, SECRET_KEY="")) == {
        "key": "failure",
        "api": "skipped",
    }
    assert len(list(api.log)) == before


def test_a_public_key_is_named(project: Project) -> None:
    assert verdicts(examined(project, code=4, SECRET_KEY="public_live_a.b"))["key"] == "warning"


def test_an_api_that_is_away_is_a_failure_with_5(project: Project) -> None:
    project.configure(remote("http://127.0.0.1:9"))
    assert verdicts(examined(project, code=5)) == {"api": "failure"}


def test_the_doctor_sends_no_key_to_a_host_that_only_the_checkout_names(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("something was sent")

    monkeypatch.setattr(HttpTransport, "attempt", never)
    monkeypatch.setattr(socket, "create_connection", never)
    for settings in ({}, {"proxy": "https://evil.example"}):
        url = "https://api.adapty.io" if settings else "https://evil.example"
        project.configure(remote(url, api=settings))
        checks = examined(project, code=6)
        assert verdicts(checks) == {"host": "failure", "api": "skipped"}
        assert "evil.example" in checks["host"]["text"]


def test_an_invalid_configuration_is_a_failure_with_3(project: Project) -> None:
    project.configure("version: 1\nenvironments: {}\nprofile: x\n")
    checks = examined(project, code=3)
    assert checks.keys() == {"versions", "configuration"}
    assert "reconcile.yaml:" in checks["configuration"]["text"]


def test_the_state_is_looked_at(project: Project) -> None:
    state = state_of(project.folder, "remote.db")
    with project.workspace(environ=KEYS) as workspace:
        now = time.time()
        with workspace.store.lock(HOLDER, now=lambda: now - 3600):
            state.chmod(0o644)
            checks = examined(project)
    assert verdicts(checks) == {"lock": "warning", "permissions": "warning"}
    assert "ada on elsewhere" in checks["lock"]["text"]
    assert "ran out" in checks["lock"]["text"]
    assert "state unlock" in checks["lock"]["hint"]
    assert f"chmod 600 {state}" in checks["permissions"]["hint"]
    state.rename(state.with_suffix(".gone"))
    checks = examined(project, code=6)
    assert "missing" in checks["state"]["text"]


def test_a_state_that_git_tracks_is_a_failure_with_6(tmp_path: Path) -> None:
    local = {"api": {"url": "emulator"}, "state": {"url": "sqlite:///local.db"}}
    config = {"version": 1, "environments": {"local": local}}
    project = Project(tmp_path, config, profiles={"jane": JANE})
    git = Git(tmp_path)
    project.write("local.db", "x")
    git.commit("oops")
    assert "git tracks" in examined(project, code=6)["state"]["text"]


@pytest.mark.parametrize(("seconds", "verdict"), [(0, "ok"), (300, "warning"), (-300, "warning")])
def test_the_clock_is_compared_with_that_of_the_api(
    project: Project, monkeypatch: pytest.MonkeyPatch, seconds: int, verdict: str
) -> None:
    date = formatdate(time.time() + seconds, usegmt=True)

    def send(connection: Connection, request: Request) -> ApiAnswer:
        body = Body(b'{"error_code": "profile_does_not_exist", "status_code": 404}')
        return judge(request, 404, headers={"Date": date}, body=body, key=KEY, now=0)

    monkeypatch.setattr(Connection, "send", send)
    check = examined(project)["clock"]
    assert check["verdict"] == verdict
    assert not seconds or ("behind" if seconds > 0 else "ahead of") in check["text"]


def test_the_first_failure_gives_the_exit_code() -> None:
    warning = Check.warning("a", "", hint="")
    refused = Check.failure("b", "", hint="", code=ExitCode.REFUSED)
    failed = Check.failure("c", "", hint="")
    assert exit_code([warning]) is ExitCode.DONE
    assert exit_code([warning, refused, failed]) is ExitCode.REFUSED
