"""The Action's own shell steps, run as a runner would, against a local stand-in of GitHub's API."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.support.command_line import PROGRAM, environment
from tests.support.git import Git
from tests.support.projects import ProjectFolder

ROOT = Path(__file__).parent.parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
BOT = "github-actions[bot]"
CONFIG = "version: 1\nenvironments:\n  local:\n    api: {url: emulator}\n    confirm: true\n"
JANE = "customer_user_id: qa-jane\nfirst_name: Jane\nip_country: FR\n"
SECRET = "token-of-a-test"


class Stand:
    """GitHub's API as far as the Action uses it: comments of issues, pull requests of a commit."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.pulls: list[dict[str, Any]] = []
        self.answers: list[int] = []
        """Statuses to answer with before anything else, one a call."""
        self.calls: list[str] = []
        stand = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(*stand.get(self))

            def do_POST(self) -> None:
                self.reply(*stand.write(self))

            do_PATCH = do_POST

            def reply(self, status: int, body: object) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def _refusal(self, request: BaseHTTPRequestHandler) -> int | None:
        self.calls.append(f"{request.command} {request.path}")
        assert request.headers["Authorization"] == f"Bearer {SECRET}"
        return self.answers.pop(0) if self.answers else None

    def get(self, request: BaseHTTPRequestHandler) -> tuple[int, object]:
        status = self._refusal(request)
        if status is not None and status != 200:
            return status, {"message": "no"}
        parts = urlsplit(request.path)
        if parts.path.endswith("/pulls"):
            return 200, self.pulls
        page = int(parse_qs(parts.query)["page"][0])
        return 200, self.comments[(page - 1) * 100 : page * 100]

    def write(self, request: BaseHTTPRequestHandler) -> tuple[int, object]:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))["body"]
        status = self._refusal(request)
        if status is not None and status != 200:
            return status, {"message": "no"}
        if len(body) > 65_536:
            return 422, {"message": "Body is too long"}
        if request.command == "PATCH":
            number = int(request.path.rsplit("/", 1)[1])
            next(one for one in self.comments if one["id"] == number)["body"] = body
        else:
            self.comments.append(comment(body, len(self.comments) + 1))
        return 200, {}


def comment(body: str, number: int, author: str = BOT) -> dict[str, Any]:
    return {"id": number, "body": body, "user": {"login": author}}


class Runner(ProjectFolder):
    """Runs the steps of ``action.yml`` in a repository, with inputs and an event."""

    def __init__(self, folder: Path, stand: Stand) -> None:
        super().__init__(folder / "repository", CONFIG, profiles={"jane": JANE})
        self.temp = folder / "temp"
        self.bin = folder / "bin"
        for made in (self.temp, self.bin):
            made.mkdir()
        program = self.bin / "reconcile"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reconciler "$@"\n', "utf-8")
        program.chmod(0o755)
        (self.bin / "python").symlink_to(sys.executable)
        self.stand = stand
        self.git = Git(self.folder)
        self.write(".gitignore", ".reconcile/\n")
        self.commit = self.git.commit("Jane")
        self.log = ""

    def run(
        self, event: dict[str, Any] | None = None, /, **inputs: str
    ) -> tuple[int, dict[str, str]]:
        """The code of the first step that fails, and the outputs of the Action."""
        given = {name: str(facts.get("default", "")) for name, facts in ACTION["inputs"].items()}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        given["token"] = SECRET
        steps: dict[str, dict[str, str]] = {}
        self.log, code = "", 0
        for step in ACTION["runs"]["steps"]:
            if "run" not in step or step["name"] == "Install reconcile":
                continue
            if not self._wanted(step.get("if", "true"), given, event or {}, steps):
                continue
            env = {
                name: self._filled(value, given, event or {}, steps)
                for name, value in step.get("env", {}).items()
            }
            code, outputs = self._step(step, env, given["working-directory"])
            steps[step.get("id", step["name"])] = outputs
            if code:
                break
        outputs = {
            name: self._filled(facts["value"], given, event or {}, steps)
            for name, facts in ACTION["outputs"].items()
        }
        return code, outputs

    def _step(
        self, step: dict[str, Any], env: dict[str, str], at: str
    ) -> tuple[int, dict[str, str]]:
        output, summary = self.temp / "output", self.temp / "summary"
        output.write_text("", "utf-8")
        settings = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.temp),
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_API_URL": self.stand.url,
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": "owner/name",
            "GITHUB_SHA": self.commit,
            "PAUSE": "0",
            "CI": "true",
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.folder / at,
            env={**settings, **env},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        self.log += done.stdout + done.stderr
        lines = output.read_text("utf-8").splitlines()
        return done.returncode, dict(line.split("=", 1) for line in lines)

    def summary(self) -> str:
        return (self.temp / "summary").read_text("utf-8")

    def _value(self, name: str, given: Any, event: Any, steps: Any) -> str:
        parts = name.strip().split(".")
        match parts:
            case ["inputs", key]:
                return str(given[key])
            case ["steps", key, "outputs", output]:
                return str(steps.get(key, {}).get(output, ""))
            case ["github", "repository"]:
                return "owner/name"
            case ["github", "sha"]:
                return self.commit
            case ["github", "event", *path]:
                found: Any = event
                for key in path:
                    found = (found or {}).get(key)
                return "" if found is None else str(found)
            case _:
                raise AssertionError(name)

    def _filled(self, text: Any, *context: Any) -> str:
        def value(match: re.Match[str]) -> str:
            choices = (self._value(name, *context) for name in match[1].split("||"))
            return next((choice for choice in choices if choice), "")

        return re.sub(r"\$\{\{(.*?)\}\}", value, str(text))

    def _wanted(self, condition: str, *context: Any) -> bool:
        def holds(part: str) -> bool:
            name, _, wanted = part.partition("==")
            return (
                bool(self._value(name, *context))
                if not wanted
                else (self._value(name, *context) == wanted.strip().strip("'"))
            )

        return condition == "true" or any(
            all(holds(part) for part in choice.split("&&")) for choice in condition.split("||")
        )


PULL = {"pull_request": {"number": 7, "head": {"sha": "f00", "repo": {"full_name": "fork/name"}}}}


@pytest.fixture
def stand() -> Iterator[Stand]:
    found = Stand()
    yield found
    found.close()


@pytest.fixture
def runner(tmp_path: Path, stand: Stand) -> Runner:
    return Runner(tmp_path, stand)


def test_a_pull_request_gets_annotations_a_summary_and_one_comment(runner: Runner) -> None:
    code, outputs = runner.run(PULL)
    assert (code, outputs["exit-code"], outputs["changes"]) == (0, "2", "true")
    assert "::notice file=profiles/jane.yaml,line=1,title=create qa-jane::" in runner.log
    (only,) = runner.stand.comments
    assert only["body"].startswith(f"<!-- reconcile:plan:local {outputs['digest']} -->\n")
    assert "](https://github.example/fork/name/blob/f00/profiles/jane.yaml#L2)" in only["body"]
    assert only["body"] in runner.summary()
    assert {path.name for path in Path(outputs["folder"]).iterdir()} == {
        "plan.html",
        "plan.json",
        "plan.md",
        "reviewed.plan",
    }


def test_values_are_masked_unless_asked_otherwise(runner: Runner) -> None:
    runner.run(PULL)
    assert "Jane" not in runner.log + runner.stand.comments[0]["body"] + runner.summary()
    runner.run(PULL, mask="false")
    assert '"Jane"' in runner.stand.comments[0]["body"]


def test_the_comment_is_updated_in_its_place(runner: Runner) -> None:
    runner.stand.comments += [comment(f"talk {number}", number) for number in range(1, 120)]
    runner.run(PULL)
    runner.run(PULL)
    assert len(runner.stand.comments) == 120
    assert not any(call.startswith("PATCH") for call in runner.stand.calls)
    runner.write("profiles/jane.yaml", JANE.replace("FR", "DE"))
    _, outputs = runner.run(PULL)
    assert len(runner.stand.comments) == 120
    assert outputs["digest"] in runner.stand.comments[-1]["body"]


def test_environments_have_a_comment_each(runner: Runner) -> None:
    runner.write(
        "reconcile.yaml", CONFIG + "  other: {api: {url: emulator}}\ndefault_environment: local\n"
    )
    runner.run(PULL)
    runner.run(PULL, environment="other")
    assert [one["body"].split()[1] for one in runner.stand.comments] == [
        "reconcile:plan:local",
        "reconcile:plan:other",
    ]


def test_the_comments_of_others_are_neither_changed_nor_believed(runner: Runner) -> None:
    planted = f"<!-- reconcile:plan:local sha256:{'0' * 64} -->"
    runner.stand.comments.append(comment(planted, 1, author="mallory"))
    _, outputs = runner.run(PULL)
    assert runner.stand.comments[0]["body"] == planted
    runner.stand.pulls = [{"number": 7, "merged_at": "x", "merge_commit_sha": runner.commit}]
    code, applied = runner.run(mode="apply")
    assert (code, applied["digest"]) == (0, outputs["digest"])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_fork_whose_token_may_not_comment_still_gets_its_plan(
    runner: Runner, status: int
) -> None:
    runner.stand.answers = [200, status]
    code, _ = runner.run(PULL)
    assert code == 0
    assert "::notice::this token may not comment" in runner.log
    assert "### Plan for `local`" in runner.summary()


def test_a_reading_that_fails_for_a_moment_is_tried_again(runner: Runner) -> None:
    runner.stand.answers = [502, 429]
    assert runner.run(PULL)[0] == 0
    assert len(runner.stand.comments) == 1


def test_a_comment_that_may_have_been_written_is_not_written_twice(runner: Runner) -> None:
    runner.stand.answers = [200, 502]
    assert runner.run(PULL)[0] == 1
    assert [call.split()[0] for call in runner.stand.calls] == ["GET", "POST"]


def test_invalid_files_are_in_the_comment_and_fail_the_job(runner: Runner) -> None:
    runner.write("profiles/bad.yaml", "customer_user_id: bad\nfist_name: x\n")
    code, outputs = runner.run(PULL)
    assert (code, outputs["exit-code"], outputs["digest"]) == (3, "3", "")
    assert "**not valid**" in runner.stand.comments[0]["body"]
    assert "::error file=profiles/bad.yaml,line=2," in runner.log


def test_after_the_merge_exactly_the_reviewed_plan_is_applied(runner: Runner) -> None:
    _, outputs = runner.run(PULL)
    runner.stand.pulls = [
        {"number": 6, "merged_at": None, "merge_commit_sha": runner.commit},
        {"number": 7, "merged_at": "2026-11-26", "merge_commit_sha": runner.commit},
    ]
    code, applied = runner.run(mode="apply")
    assert (code, applied["exit-code"], applied["digest"]) == (0, "0", outputs["digest"])
    assert re.search(r"1 (created|updated|deleted)", runner.log)
    assert "Apply complete" in runner.summary()
    code, outputs = runner.run(PULL)
    assert (code, outputs["changes"]) == (0, "false")


def test_the_commit_that_a_plan_compared_with_is_carried_over_the_merge(runner: Runner) -> None:
    fork = runner.commit
    runner.git("checkout", "--quiet", "-b", "feature")
    runner.write("profiles/eve.yaml", JANE.replace("jane", "eve"))
    runner.git.commit("Eve")
    _, outputs = runner.run(PULL, since="main")
    assert outputs["since"] == fork
    assert f" since:{fork} -->" in runner.stand.comments[0]["body"]
    runner.git("checkout", "--quiet", "main")
    runner.git("merge", "--quiet", "--no-ff", "-m", "Merge", "feature")
    runner.commit = runner.git("rev-parse", "HEAD")
    runner.stand.pulls = [{"number": 7, "merged_at": "x", "merge_commit_sha": runner.commit}]
    code, applied = runner.run(mode="apply", since="main")
    assert (code, applied["digest"], applied["since"]) == (0, outputs["digest"], fork)
    assert re.search(r"1 (created|updated|deleted)", runner.log)


def test_a_merge_that_is_not_what_was_reviewed_is_refused(runner: Runner) -> None:
    runner.run(PULL)
    runner.stand.pulls = [{"number": 7, "merged_at": "x", "merge_commit_sha": runner.commit}]
    runner.write("profiles/jane.yaml", JANE.replace("FR", "DE"))
    code, outputs = runner.run(mode="apply")
    assert (code, outputs["exit-code"]) == (6, "6")
    assert not (runner.folder / ".reconcile").exists()


def test_the_options_of_plan_and_apply_belong_to_the_digest(runner: Runner) -> None:
    _, outputs = runner.run(PULL, options="--select=qa-*\n\n  --prune  \n")
    assert runner.run(mode="apply", digest=outputs["digest"])[0] == 6
    assert (
        runner.run(mode="apply", digest=outputs["digest"], options="--select=qa-*\n--prune")[0] == 0
    )


@pytest.mark.parametrize(
    "pulls",
    [
        [],
        [{"number": 7, "merged_at": "x"}, {"number": 8, "merged_at": "x"}],
        [{"number": 9, "merged_at": "x"}],
    ],
)
def test_without_one_reviewed_digest_nothing_is_applied(runner: Runner, pulls: list[Any]) -> None:
    runner.stand.pulls = pulls
    assert runner.run(mode="apply")[0] == 1
    assert "::error::no reviewed digest" in runner.log
    assert not (runner.folder / ".reconcile").exists()


def test_inputs_are_data(runner: Runner) -> None:
    hostile = '$(touch hacked); `touch hacked` "; touch hacked #'
    for inputs in (
        {"environment": hostile},
        {"options": hostile},
        {"since": hostile},
        {"mode": "apply", "digest": hostile},
    ):
        code, _ = runner.run(PULL, **inputs)
        assert code != 0
    assert list(runner.folder.rglob("hacked")) == []


def test_drift_fails_the_job_and_shows_what_differs(runner: Runner) -> None:
    runner.write("profiles/jane.yaml", JANE + "custom_attributes: {tier: gold}\n")
    _, outputs = runner.run(PULL)
    runner.run(mode="apply", digest=outputs["digest"])
    assert runner.run(mode="drift")[0] == 0
    from reconciler.emulator import Emulator

    api = Emulator(db=runner.folder / ".reconcile" / "emulator.db")
    headers = {
        "adapty-customer-user-id": "qa-jane",
        "Authorization": "Api-Key k",
        "Content-Type": "application/json",
    }
    body = b'{"custom_attributes": [{"key": "tier", "value": "tin"}]}'
    api.handle("PATCH", "/api/v2/server-side-api/profile/", headers=headers, body=body)
    api.close()
    code, outputs = runner.run(mode="drift")
    assert (code, outputs["exit-code"]) == (1, "2")
    assert "custom_attributes.tier" in runner.summary()


def test_a_folder_below_the_root_is_named_from_the_root(runner: Runner) -> None:
    (runner.folder / "apps").mkdir()
    for name in ("reconcile.yaml", "profiles"):
        (runner.folder / name).rename(runner.folder / "apps" / name)
    runner.run(PULL, working_directory="apps")
    assert "::notice file=apps/profiles/jane.yaml,line=1," in runner.log


def test_the_token_is_in_no_log_and_no_summary(runner: Runner) -> None:
    runner.run(PULL)
    runner.stand.answers = [500] * 9
    runner.run(PULL)
    assert SECRET not in runner.log + runner.summary()


# --- what is written in the files ----------------------------------------------------------------


def test_every_input_comes_through_a_variable() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), step["name"]


def test_actions_of_others_are_pinned_by_commit() -> None:
    files = [ROOT / "action.yml", *(ROOT / "examples" / "ci").glob("*.yml")]
    used = [
        use
        for path in files
        for use in re.findall(r"uses: (\S+)", path.read_text("utf-8"))
        if use != "OWNER/reconcile@COMMIT"
    ]
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", use) for use in used)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples" / "ci").glob("*.yml")), ids=lambda p: p.name
)
def test_the_workflows_name_inputs_that_there_are(path: Path) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    for job in content.get("jobs", {}).values():
        for step in job["steps"]:
            if step.get("uses") == "OWNER/reconcile@COMMIT":
                assert set(step.get("with", {})) <= set(ACTION["inputs"])


@pytest.mark.parametrize("path", sorted((ROOT / "ci").glob("*.sh")), ids=lambda p: p.name)
def test_the_scripts_parse(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_the_hooks_call_commands_that_there_are() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    for hook in hooks:
        command = hook["entry"].split()[1]
        done = subprocess.run([*PROGRAM, command, "--help"], cwd=ROOT, env=environment())
        assert done.returncode == 0
