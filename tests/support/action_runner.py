"""Plays the Action's steps as a runner would, against a local stand-in of GitHub's API."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.support.git import Git
from tests.support.projects import ProjectFolder

ROOT = Path(__file__).parent.parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
BOT = "github-actions[bot]"
CONFIG = "version: 1\nenvironments:\n  local:\n    api: {url: emulator}\n    confirm: true\n"
JANE = "customer_user_id: qa-jane\nfirst_name: Jane\nip_country: FR\n"
TOKEN = "token-of-a-test"
PULL = {"pull_request": {"number": 7, "head": {"sha": "f00", "repo": {"full_name": "fork/name"}}}}
"""The event of a pull request from a fork."""


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
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
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
    """Plays the steps of ``action.yml`` in a repository, with inputs and an event."""

    def __init__(
        self,
        folder: Path,
        stand: Stand,
        *,
        action: Path = ROOT,
        installs: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """``action`` holds the Action's files. Without ``installs``, the steps use the Python of the tests;
        with it, the first run installs. ``variables`` are more of the runner's environment."""
        super().__init__(folder / "repository", CONFIG, profiles={"jane": JANE})
        self.temp = folder / "temp"
        self.temp.mkdir()
        self.action = action
        self.installed = None if installs else {"python": sys.executable}
        self.variables = dict(variables or {})
        self.stand = stand
        self.git = Git(self.folder)
        self.write(".gitignore", ".reconcile/\n")
        self.commit = self.git.commit("Jane")
        self.log = ""
        self.summary = ""
        """What all steps put into the summary of the job."""
        self.added_paths: list[str] = []

    def run(
        self, event: dict[str, Any] | None = None, /, **inputs: str
    ) -> tuple[int, dict[str, str]]:
        """The code of the first step that fails, and the outputs of the Action."""
        given = {name: str(facts.get("default", "")) for name, facts in ACTION["inputs"].items()}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        given["token"] = TOKEN
        steps: dict[str, dict[str, str]] = {}
        if self.installed:
            steps["install"] = self.installed
        self.log, code = "", 0
        for step in ACTION["runs"]["steps"]:
            if "run" not in step or step.get("id") in steps:
                continue
            if not self._wanted(step.get("if", "true"), given, event or {}, steps):
                continue
            env = {
                name: self._filled(value, given, event or {}, steps)
                for name, value in step.get("env", {}).items()
            }
            code, outputs = self.play(step, env)
            steps[step.get("id", step["name"])] = outputs
            if code:
                break
        self.installed = steps.get("install")
        outputs = {
            name: self._filled(facts["value"], given, event or {}, steps)
            for name, facts in ACTION["outputs"].items()
        }
        return code, outputs

    def play(self, step: dict[str, Any], env: dict[str, str]) -> tuple[int, dict[str, str]]:
        """Runs one step with its variables; returns its code and its outputs."""
        files = {name: self.temp / name.lower() for name in ("OUTPUT", "PATH", "STEP_SUMMARY")}
        for path in files.values():
            path.write_text("", "utf-8")
        script = self.temp / "script.sh"
        script.write_text(step["run"], "utf-8")
        settings = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.temp),
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_ACTION_PATH": str(self.action),
            "GITHUB_WORKSPACE": str(self.folder),
            **{f"GITHUB_{name}": str(path) for name, path in files.items()},
            "GITHUB_API_URL": self.stand.url,
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": "owner/name",
            "GITHUB_SHA": self.commit,
            "PAUSE": "0",
            "CI": "true",
        }
        done = subprocess.run(
            [f"/bin/{step['shell']}", "-e", str(script)],
            cwd=self.folder,
            env={**settings, **self.variables, **env},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        self.log += done.stdout + done.stderr
        self.summary += files["STEP_SUMMARY"].read_text("utf-8")
        self.added_paths += files["PATH"].read_text("utf-8").splitlines()
        return done.returncode, outputs_of(files["OUTPUT"].read_text("utf-8"))

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


def outputs_of(text: str) -> dict[str, str]:
    """The outputs in a file of GITHUB_OUTPUT, as the runner reads it: NAME=VALUE, or NAME<<MARK, the lines of
    the value, and MARK."""
    outputs = {}
    lines = iter(text.splitlines())
    for line in lines:
        name, mark = re.split("=|<<", line, maxsplit=1)
        if line.startswith(f"{name}="):
            outputs[name] = mark
        else:
            outputs[name] = "\n".join(iter(lambda: next(lines), mark))
    return outputs


def commands_of(log: str) -> list[str]:
    """The lines of a log that a runner obeys: the old form ``##[`` counts anywhere in a line."""
    commands, mark = [], ""
    for line in log.splitlines():
        if mark:
            mark = "" if line.strip() == f"::{mark}::" else mark
        elif line.lstrip().startswith("::stop-commands::"):
            mark = line.strip().removeprefix("::stop-commands::")
        elif line.lstrip().startswith("::") or "##[" in line:
            commands.append(line)
    return commands
