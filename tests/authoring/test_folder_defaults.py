"""The file of defaults of a folder as a link: read by the rules of profile files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.projects import Project

STORE = "store: app_store\n"


def profiles(project: Project) -> Path:
    return project.folder / "profiles"


def rules(project: Project, *, code: int) -> list[tuple[str, str]]:
    findings = json.loads(project.run("validate", "--format", "json", code=code))["diagnostics"]
    return [(finding["rule"], finding["file"]) for finding in findings]


def test_defaults_of_a_mounted_config_map_are_read(project: Project) -> None:
    """Kubernetes mounts each file as a link through a link to a hidden folder, and swaps the latter."""
    folder = profiles(project)
    for version, store in (("..1", "app_store"), ("..2", "play_store")):
        (folder / version).mkdir()
        (folder / version / "_defaults.yaml").write_text(f"store: {store}\n")
    (folder / "..data").symlink_to("..1")
    (folder / "_defaults.yaml").symlink_to("..data/_defaults.yaml")
    assert "store: app_store" in project.run("render")
    assert "app_store" in project.run("plan")
    (folder / "..data").unlink()
    (folder / "..data").symlink_to("..2")
    assert "play_store" in project.run("plan")
    assert "play_store" in project.run("plan", "--no-cache")


def test_a_link_that_leads_elsewhere_changes_the_profiles(project: Project) -> None:
    folder = profiles(project)
    (folder / "a.txt").write_text(STORE)
    (folder / "b.txt").write_text("store: play_store\n")
    link = folder / "_defaults.yaml"
    link.symlink_to("a.txt")
    project.run("plan", "--out", "a.plan")
    link.unlink()
    link.symlink_to("b.txt")
    assert project.plan()["digest"] == project.plan("--no-cache")["digest"]
    assert "play_store" in project.run("plan")


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ("nowhere", "file/link-broken"),
        ("_defaults.yaml", "file/link-broken"),
        ("../outside.yaml", "file/link-outside"),
        ("/etc/hostname", "file/link-outside"),
        ("folder", "file/not-regular"),
    ],
)
def test_a_link_that_cannot_be_followed_is_one_error(
    project: Project, target: str, rule: str
) -> None:
    project.write("outside.yaml", STORE)
    profiles(project).joinpath("folder").mkdir()
    profiles(project).joinpath("_defaults.yaml").symlink_to(target)
    assert rules(project, code=3) == [(rule, "profiles/_defaults.yaml")]


def test_fmt_writes_through_no_link_of_defaults_that_leads_outside(project: Project) -> None:
    outside = project.write("outside.yaml", "store:   app_store\n")
    profiles(project).joinpath("_defaults.yaml").symlink_to("../outside.yaml")
    project.run("fmt", code=3)
    assert outside.read_text() == "store:   app_store\n"
