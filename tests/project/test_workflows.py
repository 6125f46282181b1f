"""Workflows, the Action and recipes: what a pull request meets. See docs/pull-requests.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples" / "ci"
GITLAB = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text("utf-8"))
WORKFLOWS = sorted(path for path in EXAMPLES.glob("*.yml") if path.name != "gitlab-ci.yml")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
OURS = "OWNER/reconcile@COMMIT"
"""What a reader replaces by the place and the commit of this Action."""
STEPS = """\
name: steps of a page
on: push
permissions: {}
concurrency: {group: page, cancel-in-progress: false}
jobs:
  page:
    name: page
    runs-on: ubuntu-24.04
    steps:
"""
"""The head of a workflow around steps that a page shows."""


def snippets() -> Iterator[tuple[str, str]]:
    """The workflows that pages show, whole or as steps, with a name each."""
    for page in PAGES:
        blocks = re.findall(r"^```ya?ml\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        for number, block in enumerate(blocks):
            try:
                content = next(iter(yaml.safe_load_all(block)), None)
            except yaml.YAMLError:  # a page about findings shows what is wrong
                continue
            if isinstance(content, dict) and "jobs" in content:
                yield f"{page.stem}-{number}.yml", block
            elif isinstance(content, list) and any({"run", "uses"} & set(step) for step in content):
                steps = "".join(f"      {line}\n" for line in block.splitlines())
                yield f"{page.stem}-{number}.yml", STEPS + steps


def findings(folder: Path, files: dict[str, str]) -> list[str]:
    """What zizmor says about workflows and actions, at its most talkative."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(OURS, f"OWNER/reconcile@{'0' * 40}"), "utf-8")
    done = subprocess.run(
        [
            *(
                Path(sys.executable).with_name("zizmor"),
                "--offline",
                "--no-config",
                "--no-progress",
            ),
            *("--strict-collection", "--persona=auditor", "--no-exit-codes", "--format=json"),
            folder,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [
        f"{finding['locations'][0]['symbolic']['key']}: {finding['ident']}"
        for finding in json.loads(done.stdout)
    ]


def test_the_linter_finds_nothing(tmp_path: Path) -> None:
    files = {f".github/workflows/{path.name}": path.read_text("utf-8") for path in WORKFLOWS}
    files |= {f".github/workflows/{name}": text for name, text in snippets()}
    files["action.yml"] = (ROOT / "action.yml").read_text("utf-8")
    assert len(files) > len(WORKFLOWS) + 1 >= 4
    assert findings(tmp_path, files) == []


def test_the_linter_finds_what_is_wrong(tmp_path: Path) -> None:
    text = """\
on: pull_request_target
jobs:
  plan:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v7
      - run: echo ${{ github.event.pull_request.title }}
"""
    found = "\n".join(findings(tmp_path, {".github/workflows/bad.yml": text}))
    for rule in (
        "artipacked",
        "dangerous-triggers",
        "excessive-permissions",
        "template-injection",
        "unpinned-uses",
    ):
        assert rule in found


# --- workflows -----------------------------------------------------------------------------------


def uses() -> list[tuple[str, str]]:
    """Each action that is used, and the comment behind it."""
    texts = [path.read_text("utf-8") for path in (ROOT / "action.yml", *WORKFLOWS, *PAGES)]
    return [use for text in texts for use in re.findall(r"^[ -]*uses: (\S+) *(.*)", text, re.M)]


def test_actions_of_others_are_pinned_by_commit_and_name_their_version() -> None:
    others = [(use, comment) for use, comment in uses() if use != OURS]
    assert len(others) >= 4
    for use, comment in others:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", use), use
        assert re.fullmatch(r"# v\d+\.\d+\.\d+", comment), use


def test_one_action_has_one_pin() -> None:
    pins = {(use.split("@")[0], use, comment) for use, comment in uses() if "@" in use}
    assert len(pins) == len({name for name, _, _ in pins})


def test_images_are_pinned_by_digest() -> None:
    images = [job["image"] for job in GITLAB.values() if "image" in job]
    assert images
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image) for image in images)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_do_only_what_it_needs(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text("utf-8"))
    triggers = set(workflow[True])
    assert triggers <= {"pull_request", "push", "schedule", "workflow_dispatch"}
    assert workflow["permissions"] == {}
    assert workflow["concurrency"]["group"]
    assert "env" not in workflow
    for job in workflow["jobs"].values():
        granted = {name for name, access in job["permissions"].items() if access == "write"}
        comments = {"pull-requests"} if "pull_request" in triggers else set()
        assert granted <= comments | {"id-token"}  # a login for the state
        assert "env" not in job
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_no_secret_reaches_a_job_of_a_pull_request() -> None:
    reviewed = 0
    for path in WORKFLOWS:
        text = path.read_text("utf-8")
        if "pull_request" in yaml.safe_load(text)[True]:
            reviewed += 1
            assert "secrets" not in text
        else:
            # A key is for the protected branch, whoever starts the job, and for one step.
            (job,) = yaml.safe_load(text)["jobs"].values()
            assert job["if"] == "github.ref == 'refs/heads/main'"
            assert job["environment"] == "production"
            assert text.count("secrets.") == 1
    assert reviewed == 1


def test_a_job_of_a_fork_gets_no_login_for_the_state() -> None:
    jobs = yaml.safe_load((EXAMPLES / "plan.yml").read_text("utf-8"))["jobs"]
    own = "github.event.pull_request.head.repo.full_name == github.repository"
    assert {job["if"] for job in jobs.values()} == {own, own.replace("==", "!=")}
    for job in jobs.values():
        if job["if"] == own:
            assert job["permissions"]["id-token"] == "write"
        else:
            assert job["permissions"] == {"contents": "read"}
            assert "vars." not in str(job)


# --- what the steps execute ----------------------------------------------------------------------

SCRIPTS = sorted((ROOT / "ci").glob("*.sh"))
START = r"""(?:^[ \t-]*"?|exec |[({;] ?|&& |\|\| |entry: )"""
"""What stands before a command in a script, a recipe or a page."""
PYTHON = r"""(?:"\$(?:INTERPRETER|\{INTERPRETER:\?\}|python|installed)"|(?:[\w./$-]+/)?python3?)"""
PYTHON_CALL = re.compile(rf"{START}{PYTHON}[ \t]+(\S+)", re.M)


def calls(text: str) -> list[str]:
    """The first argument of each call of Python in a script, a recipe or the fenced blocks of a page."""
    lines = [line for line in text.splitlines() if not line.lstrip("- ").startswith("#")]
    return PYTHON_CALL.findall("\n".join(lines))


@pytest.mark.parametrize(
    "path",
    [
        *SCRIPTS,
        EXAMPLES / "gitlab-ci.yml",
        EXAMPLES / "review.sh",
        EXAMPLES / "drift.sh",
        ROOT / ".pre-commit-hooks.yaml",
        ROOT / "docs" / "ci.md",
        ROOT / "docs" / "pull-requests.md",
    ],
    ids=lambda path: path.name,
)
def test_every_call_of_python_is_isolated(path: Path) -> None:
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"^```(?:\w+)\n(.*?)^```", text, re.M | re.S))
    assert set(calls(text)) <= {"-I"}
    assert calls(text) or path.name in {"apply.sh", "result.sh", "ci.md"}


def test_a_call_that_is_not_isolated_is_noticed() -> None:
    for call in (
        "python -m pip",
        '"$INTERPRETER" x.py',
        "/opt/venv/bin/python -m pip",
        "a && python3 x",
    ):
        assert calls(f"# python\n{call}\n") not in ([], ["-I"])


def test_the_steps_leave_the_checkout_before_anything_else() -> None:
    steps = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))["runs"]["steps"]
    names = []
    for step in steps:
        if "run" in step:
            script = re.fullmatch(
                r'cd / && exec bash -p "\$GITHUB_ACTION_PATH/ci/(\w+\.sh)"', step["run"]
            )
            assert script is not None, step
            assert step["shell"] == "sh"
            assert "working-directory" not in step
            names.append(script[1])
    assert sorted(names) == sorted(path.name for path in SCRIPTS if path.name != "common.sh")


def test_the_linter_of_scripts_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [linter, "--norc", "--external-sources", *SCRIPTS, *EXAMPLES.glob("*.sh")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_reads_only_the_file_that_they_share(path: Path) -> None:
    lines = [
        line
        for line in path.read_text("utf-8").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    read = [line for line in lines if re.match(r"\s*(\.|source|eval)\s", line)]
    if path.name == "common.sh":
        assert read == []
    else:
        assert lines[:2] == ["set -euo pipefail", '. "${GITHUB_ACTION_PATH:?}/ci/common.sh"']
        assert read == lines[1:2]
    assert not any(re.search(r"\bgit\s", line) for line in lines), "reconcile asks git, safely"


def test_the_environment_of_a_job_is_written_with_care() -> None:
    """Outputs go through `output`, which marks their end, and nothing else sets variables."""
    for path in SCRIPTS:
        text = path.read_text("utf-8")
        assert "GITHUB_ENV" not in text
        assert "GITHUB_OUTPUT" not in text or path.name == "common.sh"
        assert text.count("GITHUB_PATH") == (path.name == "install.sh")
