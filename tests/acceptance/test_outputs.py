"""Output options: where they write, and where they never do."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import PROGRAM, environment
from tests.support.git import Git
from tests.support.places import state_of
from tests.support.projects import JANE, Project

OPTIONS = ["--out", "--json-out", "--html-out", "--markdown-out"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, profiles={"jane": JANE})


def piped(project: Project, shell: str) -> str:
    """The standard output of a line of shell, in which `reconcile` is the program."""
    program = f'reconcile() {{ {" ".join(PROGRAM)} "$@"; }}; set -o pipefail; '
    done = subprocess.run(
        ["bash", "-c", program + shell],
        cwd=project.folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    project.err = done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("option", OPTIONS)
def test_devices_and_links_stay_what_they_are(project: Project, option: str) -> None:
    (project.folder / "link").symlink_to("target")
    project.run("plan", option, "/dev/null")
    project.run("plan", option, "link")

    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert (project.folder / "link").is_symlink()
    assert (project.folder / "target").stat().st_size > 100


@pytest.mark.parametrize("option", OPTIONS)
def test_the_dash_is_standard_output_with_the_text_on_standard_error(
    project: Project, option: str
) -> None:
    out = project.run("plan", option, "-")

    assert "+ jane  (create)" in project.err
    assert "+ jane  (create)" not in out
    assert len(out) > 100
    assert not (project.folder / "-").exists()
    assert project.run("plan", option, "/dev/stdout") == out


def test_a_plan_goes_through_pipes(project: Project) -> None:
    shown = piped(project, "reconcile plan --out - | reconcile show - --format json")
    assert json.loads(shown)["changes"][0]["address"] == "jane"

    applied = piped(project, "reconcile plan --out - | reconcile apply - --auto-approve")
    assert "jane: created" in applied
    assert "No changes" in project.run("plan")


def test_a_plan_from_a_redirected_file_is_that_of_the_file(project: Project) -> None:
    project.run("plan", "--out", "a.plan")
    (project.folder / "b.plan").write_text(piped(project, "reconcile plan --out -"))
    assert (project.folder / "a.plan").read_text() == (project.folder / "b.plan").read_text()
    assert piped(project, "reconcile show - < b.plan") == project.run("show", "a.plan")


def test_what_a_shell_substitutes_gets_the_report(project: Project) -> None:
    piped(project, "reconcile plan --json-out >(cat > copy.json) >/dev/null; wait; sleep 0.3")
    assert json.loads((project.folder / "copy.json").read_text())["changes"]


def test_two_outputs_in_one_place_are_refused(project: Project) -> None:
    project.run("plan", "--json-out", "-", "--html-out", "/dev/stdout", code=64)
    project.run("plan", "--json-out", "x", "--html-out", "./x", code=64)
    project.run("plan", "--json-out", "/dev/null", "--html-out", "/dev/null")


PROTECTED = [
    "reconcile.yaml",
    "profiles/jane.yaml",
    "profiles/new.yml",
    "profiles/_defaults.yaml",
    "{states}/local.db",
    "{states}/local.db-journal",
    "{states}/local.db.backup-20300101T000000Z-1",
    "{states}/emulator.db",
    "{home}/reconcile/secret",
    "{home}/reconcile/states/new",
    "{cache}/reconcile/projects/new",
    "{outside}/link-to-the-state",
    "hard-link-to-the-configuration",
    "profiles/..data/zoe.txt",
]


@pytest.mark.parametrize("option", OPTIONS)
def test_nothing_is_written_over_configuration_profiles_or_state(
    project: Project, option: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    project.run("apply", "--auto-approve")
    (outside / "link-to-the-state").symlink_to(state_of(project.folder))
    os.link(project.folder / "reconcile.yaml", project.folder / "hard-link-to-the-configuration")
    project.write("profiles/..data/zoe.txt", "customer_user_id: zoe\n")
    (project.folder / "profiles" / "zoe.yaml").symlink_to("..data/zoe.txt")
    files = [path for path in project.folder.rglob("*.[tyd]*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    project.run("plan")

    for name in PROTECTED:
        place = name.format(
            states=state_of(project.folder).parent,
            home=os.environ["XDG_STATE_HOME"],
            cache=os.environ["XDG_CACHE_HOME"],
            outside=outside,
        )
        code, output = project.invoke("plan", option, str(project.folder / place))
        assert (code, "would be written over" in output) == (6, True), output

    assert {path: path.read_bytes() for path in before} == before
    assert not (project.folder / "profiles" / "new.yml").exists()
    project.run("plan", option, "profiles/plan.json", option, "reviewed.plan")


def test_a_report_is_not_written_over_the_plan_that_it_shows(project: Project) -> None:
    project.run("plan", "--out", "reviewed.plan")
    project.run("show", "reviewed.plan", "--html-out", "./reviewed.plan", code=6)
    project.run("show", "reviewed.plan", "--html-out", "reconcile.yaml", code=6)
    project.run("show", "reviewed.plan")


def test_the_log_of_the_emulator_is_an_output_too(project: Project) -> None:
    for name in ("reconcile.yaml", "profiles/jane.yaml", str(state_of(project.folder))):
        project.run("emulator", "--log", name, code=6)


def test_the_library_writes_over_nothing_either(project: Project) -> None:
    from reconciler import Refused

    with project.workspace() as workspace:
        for name in ("reconcile.yaml", "profiles/jane.yaml"):
            with pytest.raises(Refused, match="would be written over"):
                workspace.plan(out=project.folder / name)


# --- links of a checkout -------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--out", "--html-out", "--markdown-out", "--json-out"])
@pytest.mark.parametrize("link", ["file", "folder", "chain", "dangling"])
def test_no_link_of_a_checkout_leads_an_output_out_of_it(
    tmp_path: Path, option: str, link: str
) -> None:
    project = Project(tmp_path / "checkout", profiles={"jane": JANE})
    victims = tmp_path / "victims"
    victims.mkdir()
    (victims / "a.md").write_text("years of work")
    name = {"folder": "out/a.md", "dangling": "new.md"}.get(link, "a.md")
    target = {
        "file": "../victims/a.md",
        "folder": "../victims",
        "chain": "b.md",
        "dangling": "../victims/new.md",
    }
    (project.folder / name.split("/")[0]).symlink_to(target[link])
    (project.folder / "b.md").symlink_to("../victims/a.md")
    project.run("plan", option, name, code=6)
    assert "leads out of the project" in project.err
    assert [path.read_text() for path in victims.iterdir()] == ["years of work"]


def test_a_link_of_the_user_may_lead_anywhere_and_the_target_may_be_named(tmp_path: Path) -> None:
    project = Project(tmp_path / "checkout", profiles={"jane": JANE})
    (tmp_path / "reports").mkdir()
    (tmp_path / "mine").symlink_to("reports")
    (project.folder / "inside").symlink_to("profiles/../plans")
    (project.folder / "plans").mkdir()
    for name in ("../mine/a.html", "../reports/b.html", "inside/c.html"):
        project.run("plan", "--html-out", name)
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {"a.html", "b.html"}


def test_the_project_is_the_whole_repository(tmp_path: Path) -> None:
    project = Project(tmp_path / "checkout" / "apps", profiles={"jane": JANE})
    Git(tmp_path / "checkout")
    (tmp_path / "checkout" / "a.md").symlink_to("../outside.md")
    project.run("plan", "--markdown-out", "../a.md", code=6)
    (tmp_path / "checkout" / "b.md").symlink_to("apps/c.md")
    project.run("plan", "--markdown-out", "../b.md")


@pytest.mark.parametrize("name", ["reconcile.yaml", ".gitignore", "profiles"])
def test_init_follows_no_link_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = Project(tmp_path / "checkout", None)
    (folder.folder / name).symlink_to("../outside")
    folder.run("init", ".", code=6)
    assert not (tmp_path / "outside").exists()
