"""The digest of a plan covers where its requests go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.plan_format import assemble_plan
from reconciler.planning.planfile import write_plan
from tests.support.projects import JANE, Project

API: dict[str, Any] = {"url": "https://api.adapty.io", "key_env": "KEY"}
COVERED = {
    "api.url": {"url": "https://api.elsewhere.example"},
    "api.key_env": {"key_env": "OTHER_KEY"},
    "api.dialect": {"dialect": "openapi"},
    "api.proxy": {"proxy": "http://proxy.example:3128"},
    "api.proxy_env": {"proxy_env": "PROXY"},
    "api.ca_bundle": {"ca_bundle": "certificates.pem"},
}
NOT_COVERED: dict[str, dict[str, Any]] = {
    "rate": {"api": {**API, "rate": "60/min"}},
    "timeout": {"api": {**API, "timeout": 5}},
    "quiet_period": {"api": {**API, "quiet_period": 5}},
    "limits": {"limits": {"max_delete": "50%", "max_changes": 5}},
    "confirm": {"confirm": True},
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path, configuration(), profiles={"jane": JANE})
    project.write("certificates.pem", "")
    return project


def configuration(api: dict[str, Any] | None = None, **settings: Any) -> str:
    environment = {"api": {**API, **(api or {})}, **settings}
    return json.dumps({"version": 1, "environments": {"live": environment}})


def test_the_header_names_the_target(project: Project) -> None:
    assert project.plan()["target"] == {
        "address": "https://api.adapty.io",
        "dialect": "guide",
        "key_env": "KEY",
    }
    assert "requests go to https://api.adapty.io (dialect guide, key in KEY)" in project.run("plan")
    project.configure(configuration(COVERED["api.proxy"] | COVERED["api.ca_bundle"]))
    out = project.run("plan")
    assert (
        "through the proxy http://proxy.example:3128, with the certificates of certificates.pem"
        in out
    )
    assert str(project.folder) not in project.run("plan", "--format", "json")


@pytest.mark.parametrize("setting", COVERED)
def test_another_target_is_another_digest_and_refused(project: Project, setting: str) -> None:
    project.run("plan", "--out", "reviewed.plan")
    digest = project.plan()["digest"]
    project.configure(configuration(COVERED[setting]))
    assert project.plan()["digest"] != digest
    project.run("apply", "reviewed.plan", "--auto-approve", "--digest", digest, code=6)
    assert f"another target: {setting} changed" in project.err
    project.run(
        "apply",
        "--auto-approve",
        "--digest",
        digest,
        KEY="k",
        OTHER_KEY="k",
        PROXY="http://u:p@proxy.example:1",
        code=6,
    )


@pytest.mark.parametrize("setting", NOT_COVERED)
def test_settings_that_change_nothing_of_what_is_sent_leave_the_digest(
    project: Project, setting: str
) -> None:
    digest = project.plan()["digest"]
    settings = dict(NOT_COVERED[setting])
    project.configure(configuration(settings.pop("api", None), **settings))
    assert project.plan()["digest"] == digest


def test_a_limit_that_the_plan_exceeds_is_part_of_it(project: Project) -> None:
    digest = project.plan()["digest"]
    project.configure(configuration(limits={"max_changes": 0}))
    assert project.plan()["digest"] != digest


def test_a_plan_that_names_no_target_is_refused(project: Project) -> None:
    project.run("plan", "--out", "reviewed.plan")
    with project.workspace() as workspace:
        plan = workspace.plan()
        write_plan(
            assemble_plan(plan.head._replace(target=None), changes=tuple(plan.changes)),
            project.folder / "without.plan",
        )
    project.run("apply", "without.plan", "--auto-approve", code=6)
    assert "does not say where its requests go" in project.err


def test_a_target_that_is_changed_in_a_saved_plan_breaks_the_digest(project: Project) -> None:
    project.run("plan", "--out", "reviewed.plan")
    saved = project.folder / "reviewed.plan"
    saved.write_text(saved.read_text().replace("api.adapty.io", "api.elsewhere.example"))
    project.run("apply", "reviewed.plan", "--auto-approve", code=6)
    assert "altered" in project.err
