"""Formats, files and masking at the command line."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.projects import Project

PERSON = ("Zebedee", "zeb@example.com", "+33123456789", "secret-tier", "1985-07-26")
PROFILE = (
    "customer_user_id: zeb\nfirst_name: Zebedee\nemail: zeb@example.com\n"
    'phone_number: "+33123456789"\nbirthday: "1985-07-26"\nip_country: FR\n'
    "custom_attributes: {tier: secret-tier, level: 5}\n"
)


def test_plan_and_show_print_the_same(project: Project) -> None:
    for format_ in ("json", "markdown", "html", "github", "gitlab", "text"):
        planned = project.run("plan", "--out", "a.plan", "--format", format_)
        shown = project.run("show", "a.plan", "--format", format_)
        assert _without_time(planned) == _without_time(shown)


def _without_time(text: str) -> str:
    """An output without the line or sentence that says when the plan was made or saved."""
    return re.sub(r"(?:Planned|Saved) .*?with reconcile .*?(?=\n|</)", "", text)


@pytest.mark.parametrize(
    "format_", ["text", "json", "markdown", "github", "gitlab", "sarif", "junit"]
)
def test_validation_has_every_format_and_keeps_its_code(project: Project, format_: str) -> None:
    project.profile("bad", "customer_user_id: bad\nfist_name: X\n")
    out = project.run("validate", "--format", format_, code=3)
    assert "fist_name" in out
    match format_:
        case "json" | "gitlab" | "sarif":
            json.loads(out)
        case "junit":
            ElementTree.fromstring(out)
        case _:
            pass


def test_files_are_written_beside_the_text(project: Project) -> None:
    options = [f"--{name}-out=plan.{name}" for name in ("json", "html", "markdown")]
    out = project.run("plan", *options)
    assert "Plan for local: 1 to create" in out
    for name in ("json", "html", "markdown"):
        path = project.folder / f"plan.{name}"
        assert path.read_text() == project.run("plan", "--format", name)
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_is_an_error(project: Project) -> None:
    project.run("plan", "--html-out", "nowhere/plan.html", code=1)
    assert "cannot write nowhere/plan.html" in project.err


def test_documents_are_utf_8_whatever_the_terminal_is(project: Project) -> None:
    project.profile("zoe", "customer_user_id: zoe\nfirst_name: Zoë\n")
    for format_ in ("markdown", "html"):
        project.run("plan", "--format", format_, "--out", "a.plan", PYTHONIOENCODING="ascii")
        out = project.run("show", "a.plan", "--format", format_)
        assert "Zoë" in out


def test_the_comment_shows_the_findings_of_invalid_files(project: Project) -> None:
    project.profile("bad", "customer_user_id: bad\nfist_name: X\n")
    out = project.run("plan", "--format", "github", "--markdown-out", "plan.md", code=3)
    assert out.startswith(
        "::error file=profiles/bad.yaml,line=2,col=1,title=profile/unknown-field::"
    )
    comment = (project.folder / "plan.md").read_text()
    assert comment.startswith("<!-- reconcile:plan:local -->\n### Profile files: **not valid**")


def test_links_are_taken_from_the_build_or_the_option(project: Project) -> None:
    github = {
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_REPOSITORY": "o/n",
        "GITHUB_SHA": "abc",
    }
    link = "](https://github.example/o/n/blob/abc/profiles/jane.yaml#L2)"
    assert link in project.run("plan", "--format", "markdown", **github)
    gitlab = {"CI_PROJECT_URL": "https://gitlab.example/o/n", "CI_COMMIT_SHA": "abc"}
    out = project.run("plan", "--format", "markdown", GITHUB_SHA="", **gitlab)
    assert "](https://gitlab.example/o/n/-/blob/abc/profiles/jane.yaml#L2)" in out
    out = project.run("plan", "--format", "markdown", "--links", "https://x.example/b", **github)
    assert "](https://x.example/b/profiles/jane.yaml#L2)" in out


@pytest.mark.parametrize(
    "links", ["javascript:alert(1)", "https://x/ y", "https://x)](y", "file:///etc", "x"]
)
def test_links_that_are_not_a_url_are_a_usage_error(project: Project, links: str) -> None:
    project.run("plan", "--format", "markdown", "--links", links, code=64)


def test_the_size_of_the_comment_can_be_chosen(project: Project) -> None:
    many = [f"customer_user_id: u{index}\nfirst_name: U\n" for index in range(300)]
    project.profile("many", "---\n".join(many))
    out = project.run("plan", "--format", "markdown", "--max-bytes", "9000")
    assert len(out.encode()) <= 9000
    assert "Cut to fit" in out
    project.run("plan", "--format", "markdown", "--max-bytes", "10", code=64)


# --- masking -------------------------------------------------------------------------------------


@pytest.fixture
def masked(tmp_path: Path) -> Project:
    config = (
        "version: 1\nmask: [personal]\npublic_attributes: [lev*]\n"
        "environments: {local: {api: {url: emulator}}}\n"
    )
    return Project(tmp_path, config, profiles={"zeb": PROFILE})


def leaks(project: Project) -> list[str]:
    return [person for person in PERSON if person in "".join(project.outputs)]


def test_the_configuration_masks_all_output(masked: Project) -> None:
    masked.run("plan", "--show-requests")
    masked.run(
        "plan",
        "--out",
        "a.plan",
        "--html-out",
        "a.html",
        "--markdown-out",
        "a.md",
        "--json-out",
        "a.json",
    )
    for format_ in ("json", "markdown"):
        masked.run("show", "a.plan", "--format", format_, "--show-requests")
    masked.run("apply", "a.plan", "--auto-approve")
    masked.run("apply", "--auto-approve", "--reassert", "--json")
    masked.run("refresh", "--format", "json")
    masked.run("state", "show", "zeb")
    masked.run("state", "show", "zeb", "--format", "json")
    masked.run("state", "list", "--format", "json")
    masked.profile("bad", PROFILE.replace("zeb", "zob", 1).replace("FR", "Zebedee"))
    masked.run("plan", code=3)
    masked.run("validate", code=3)
    masked.run("validate", "--format", "sarif", code=3)
    assert leaks(masked) == []
    assert "5.0" in "".join(masked.outputs)
    for name in ("a.html", "a.md", "a.json"):
        text = (masked.folder / name).read_text()
        assert [person for person in PERSON if person in text] == []


def test_a_masked_plan_is_saved_unmasked_under_the_digest_that_is_shown(masked: Project) -> None:
    out = masked.run("plan", "--out", "a.plan")
    saved = (masked.folder / "a.plan").read_text()
    assert all(person in saved for person in PERSON)
    digest = re.search("sha256:[0-9a-f]{64}", out)
    assert digest is not None
    assert digest[0] == json.loads(saved.splitlines()[-1])["digest"]
    masked.run("apply", "--auto-approve", "--digest", digest[0])
    assert "No changes." in masked.run("plan")


def test_an_option_masks_and_unmasks(masked: Project) -> None:
    assert "Zebedee" in masked.run("plan", "--no-mask")
    masked.write("reconcile.yaml", "version: 1\nenvironments: {local: {api: {url: emulator}}}\n")
    assert "Zebedee" in masked.run("plan")
    assert "Zebedee" not in masked.run("plan", "--mask")
    assert "Zebedee" not in masked.run("plan", RECONCILE_MASK="1")


def test_a_masked_plan_is_refused_by_apply(masked: Project) -> None:
    masked.write("a.json", masked.run("plan", "--format", "json"))
    masked.run("apply", "a.json", "--auto-approve", code=6)
    assert "masked" in masked.err


def test_a_plan_with_blame_can_still_be_applied(project: Project) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=project.folder, check=True)
    project.write("a.json", project.run("plan", "--blame", "--format", "json"))
    assert "blame" in json.loads((project.folder / "a.json").read_text())
    assert "1 created" in project.run("apply", "a.json", "--auto-approve")


def test_workflow_commands_in_names_are_not_obeyed(project: Project) -> None:
    project.write(
        "profiles/::stop-commands::x.yaml",
        "customer_user_id: '::error::y'\nfist_name: ##[group]x\n",
    )
    for arguments in (["validate"], ["validate", "--format", "json"], ["plan"]):
        out = project.run(*arguments, code=3) + project.err
        assert not [
            line for line in out.splitlines() if line.strip().startswith("::") or "##[" in line
        ]
