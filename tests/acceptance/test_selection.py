"""Ids that look like patterns: every command that selects takes the profile that was named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.projects import Project

NAMES = ["user1", "user[1]", "user*", "user?", "label:qa", "id:user1"]
FILES = "---\n".join(
    f"customer_user_id: '{name}'\ncustom_attributes: {{tier: gold}}\nmeta: {{labels: [qa]}}\n"
    for name in NAMES
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, profiles={"users": FILES})


def selected(project: Project, *arguments: str) -> list[str]:
    return [change["address"] for change in project.plan(*arguments)["changes"]]


@pytest.mark.parametrize("name", ["user[1]", "user*", "user?", "label:qa"])
@pytest.mark.parametrize("prefix", ["", "id:"])
def test_plan_and_render_take_the_profile_that_was_named(
    project: Project, prefix: str, name: str
) -> None:
    pattern = prefix + name
    assert selected(project, "--select", pattern) == [name]
    assert selected(project, "--exclude", pattern) == sorted({*NAMES} - {name})
    rendered = json.loads(project.run("render", "--format", "json", "--select", pattern))
    assert [each["address"] for each in rendered] == [name]


def test_patterns_and_labels_that_are_no_address_work_as_ever(project: Project) -> None:
    assert selected(project, "--select", "user[1-2]") == ["user1"]
    assert selected(project, "--select", "label:q*") == sorted(NAMES)
    assert selected(project, "--select", "id:user1") == ["user1"]
    assert selected(project, "--select", "id:id:user1") == ["id:user1"]
    assert selected(project, "--select", "id:user2") == []


def test_a_deletion_takes_the_profile_that_was_named(project: Project) -> None:
    project.run("apply", "--auto-approve")
    project.profile("users", "customer_user_id: other\n")
    assert selected(project, "--prune", "--select", "user[1]") == ["user[1]"]
    kept = selected(project, "--prune", "--exclude", "user*", "--exclude", "other")
    assert kept == sorted({*NAMES} - {"user*"})


def test_refresh_reads_the_profile_that_was_named(project: Project) -> None:
    project.run("apply", "--auto-approve")
    assert "1 read: none differs." in project.run("refresh", "--select", "user[1]")


def test_the_digest_of_such_a_plan_applies_with_the_same_selection(project: Project) -> None:
    digest = project.plan("--select", "user[1]")["digest"]
    out = project.run("apply", "--auto-approve", "--select", "user[1]", "--digest", digest)
    assert "user[1]: created" in out
    assert "user1" not in out
