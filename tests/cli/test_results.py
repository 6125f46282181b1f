"""Where results go: JSON beside the text, standard input and output, what --quiet and --verbose say."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reconciler.emulator import Emulator, EmulatorServer
from tests.support.command_line import PROGRAM, environment
from tests.support.projects import JANE, KEY, Project, remote

ZOE = "customer_user_id: zoe\nfirst_name: Zoe\n"
EVENTS = {"apply", "sweep", "import"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, profiles={"qa/jane": JANE, "staff/zoe": ZOE})


def run(project: Project, *words: str, code: int = 0, **variables: str) -> str:
    exit_code, output = project.invoke(*words, **variables)
    assert exit_code == code, output
    return output


def typed(project: Project, *words: str, text: str, code: int = 0) -> str:
    """The standard output of the program in a process of its own, with some standard input."""
    done = subprocess.run(
        [*PROGRAM, *words],
        cwd=project.folder,
        env=environment(),
        input=text,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


RESULTS = (
    "validate",
    "render",
    "plan",
    "refresh",
    "state list",
    "state show jane",
    "state path",
    "import jane",
    "sweep --auto-approve",
    "apply --auto-approve",
)
"""Commands that have results; the last one changes something."""


def test_a_result_is_written_as_json_beside_its_text(project: Project) -> None:
    run(project, "apply", "--auto-approve")
    project.profile("new", ZOE.replace("zoe", "new"))
    for line in RESULTS:
        file = project.folder / "result.json"
        text = run(project, *line.split(), "--json-out", str(file))
        content = file.read_text("utf-8")
        documents = content.splitlines() if line.split()[0] in EVENTS else [content]
        assert all(isinstance(json.loads(each), dict | list) for each in documents), line
        assert content not in text
        file.unlink()


def test_two_results_as_json_do_not_go_to_one_place(project: Project) -> None:
    for line in ("validate", "state path", "apply --auto-approve"):
        assert "--json-out - and --json both" in run(
            project, *line.split(), "--json-out", "-", "--json", code=64
        )


def test_json_is_short_for_the_format_and_never_contradicts_it(project: Project) -> None:
    assert run(project, "plan", "--json") == run(project, "plan", "--format", "json")
    assert "contradict" in run(project, "plan", "--json", "--format", "markdown", code=64)


def test_json_is_not_written_over_what_a_project_needs(project: Project) -> None:
    for line in ("validate", "state list", "apply --auto-approve"):
        run(project, *line.split(), "--json-out", str(project.folder / "reconcile.yaml"), code=6)


def test_a_dash_is_standard_input_and_output(project: Project) -> None:
    assert "2 profiles valid." in typed(project, "validate", "-", text=f"{JANE}---\n{ZOE}")
    out = typed(project, "validate", "-", text="customer_user_id: a\nfist_name: b\n", code=3)
    assert out.startswith("-:2:1: error unknown-field") or "-:2:1" in out
    assert typed(project, "fmt", "-", text=f"first_name: Zoe\n{ZOE.splitlines()[0]}\n") == ZOE
    export = typed(project, "state", "pull", text="")
    assert "restored 0 profiles" in typed(project, "state", "restore", "-", text=export)
    events = typed(project, "apply", "--auto-approve", "--json-out", "-", text="")
    assert [json.loads(each)["type"] for each in events.splitlines()][-1] == "summary"


def test_a_dry_run_of_apply_is_a_plan(project: Project) -> None:
    assert run(project, "apply", "--dry-run") == run(project, "plan")
    assert run(project, "apply", "--dry-run", "--json") == run(project, "plan", "--json")
    file = str(project.folder / "a.plan")
    run(project, "plan", "--out", file)
    assert run(project, "apply", file, "--dry-run") == run(project, "show", file)
    assert "records no profile" in run(project, "state", "list")


# --- a plan of some paths ------------------------------------------------------------------------


def addresses(project: Project, *words: str) -> list[str]:
    plan: dict[str, Any] = json.loads(run(project, "plan", "--json", *words))
    return [change["address"] for change in plan["changes"]]


def test_a_plan_of_paths_is_of_the_profiles_that_lie_there(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder / "profiles")
    assert addresses(project, "qa") == ["jane"]
    assert addresses(project, "staff/zoe.yaml") == ["zoe"]
    assert addresses(project, "qa", "staff/zoe.yaml", "--exclude", "jane") == ["zoe"]
    assert addresses(project, ".") == ["jane", "zoe"]
    project.write("profiles/qa/_defaults.yaml", "meta: {labels: [qa]}\n")
    assert addresses(project, "qa/_defaults.yaml") == ["jane"]
    assert "only profiles of profiles/qa" in run(project, "plan", "qa")


def test_a_plan_of_a_file_that_is_gone_has_its_orphans(project: Project) -> None:
    run(project, "apply", "--auto-approve")
    gone = project.folder / "profiles" / "qa" / "jane.yaml"
    gone.unlink()
    project.profile("staff/zoe", ZOE.replace("Zoe", "Zora"))
    assert addresses(project, str(gone), "--prune") == ["jane"]


def test_a_plan_of_paths_that_is_saved_is_applied_as_it_is(project: Project) -> None:
    file = project.folder / "a.plan"
    run(project, "plan", str(project.folder / "profiles/qa"), "--out", str(file))
    assert json.loads(file.read_text().splitlines()[0])["scope"] == {"paths": ["profiles/qa"]}
    assert "1 created" in run(project, "apply", str(file), "--auto-approve")


@pytest.mark.parametrize("path", ["/", "reconcile.yaml", "profiles/none.yaml"])
def test_a_path_without_profiles_is_a_mistake(project: Project, path: str) -> None:
    run(project, "plan", str(project.folder / path), code=64)


# --- what is said beside the result --------------------------------------------------------------


def test_quiet_leaves_out_notes_and_progress_and_keeps_results(project: Project) -> None:
    file = str(project.folder / "a.plan")
    assert "saved to" in run(project, "plan", "--out", file)
    assert "saved to" not in run(project, "plan", "--out", file, "--quiet")
    output = run(project, "apply", "--auto-approve", "-q")
    assert "jane: created" not in output
    assert "2 created" in output


def test_verbose_names_each_request_and_neither_values_nor_the_key(project: Project) -> None:
    with EmulatorServer(Emulator()) as server:
        project.configure(remote(server.url))
        output = run(project, "apply", "--auto-approve", "--verbose", "--json", SECRET_KEY=KEY)
    line = next(line for line in output.splitlines() if line.startswith("POST") and "jane" in line)
    pattern = r"POST /\S+/profile/ adapty-customer-user-id=jane: 200, \d+ ms, Request-Id \w+"
    assert re.fullmatch(pattern, line)
    assert KEY not in output
    assert "Jane" not in output
    assert "gold" not in output


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("validate -", "nothing was changed"),
        ("fmt -", "each file is formatted, or as it was"),
        ("state push -", "the state is as it was, or as it was to be"),
    ],
)
def test_an_interrupted_command_says_what_was_not_done(
    project: Project, line: str, said: str
) -> None:
    process = subprocess.Popen(
        [*PROGRAM, *line.split(), "--verbose"],
        cwd=project.folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    with process.stdin:
        wait_until_reading(process.pid)
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert process.stderr is not None
    assert f"interrupted; {said}" in process.stderr.read()
    process.stderr.close()
    assert process.returncode == 130


def wait_until_reading(pid: int) -> None:
    """Waits until a process waits for its standard input: then its command runs."""
    for _ in range(2_000):
        with open(f"/proc/{pid}/syscall") as file:
            call = file.read().split()
        if call[:2] == ["0", "0x0"]:  # read(0, …
            return
        os.sched_yield()
        signal.sigtimedwait([], 0.01)
    raise AssertionError("it does not read")
