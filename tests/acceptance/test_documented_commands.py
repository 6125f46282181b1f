"""Every command in the documents runs, in a project as its page assumes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from reconciler.cli.main import main
from reconciler.emulator import Emulator, EmulatorServer
from reconciler.values import Json
from tests.support.command_line import ROOT
from tests.support.git import Git
from tests.support.projects import KEYS, Project, remote

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PROFILES = {
    "qa/qa-jane": "customer_user_id: qa-jane\nfirst_name: Jane\nmeta: {labels: [qa]}\n",
    "e2e/users": "customer_user_id: e2e-1\nmeta: {ttl: 1h}\n",
}
EXISTING = ("jane", "joe", "user-1041", "user-1042")
"""Users that the API has and no file declares."""
ANONYMOUS = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
SKIPPED = {
    "reconcile --env production state setup --print --writer reconcile_apply --reader reconcile_plan"
}
"""Commands on a database; `tests.state.postgres` runs them."""
ENDS = {
    "reconcile init": 6,  # the project has a configuration
    "reconcile apply": 6,  # nobody sits at a terminal
    "reconcile apply --reassert --select label:qa": 6,
    "reconcile apply reviewed.plan": 6,
    "reconcile state unlock ID": 6,  # nobody holds the lock
    "reconcile state migrate --to s3://team-bucket/reconcile/production": 64,  # its region is not known
    "reconcile --env production refresh --detailed-exitcode": 3,  # nothing is recorded there
    "reconcile --env production apply reviewed.plan": 6,  # it is the plan of another environment
}
"""The exit codes of commands that a page shows for a moment other than that of this project."""


class Documented(NamedTuple):
    """A command of a page."""

    page: str
    line: str

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def documented() -> list[Documented]:
    """The commands of all pages, each once. A comment behind a command is not part of it."""
    lines = {
        re.sub(r"\s+#.*", "", line): path.name
        for path in reversed(PAGES)
        for line in re.findall(r"^\$ (reconcile .*)$", path.read_text("utf-8"), re.MULTILINE)
    }
    return [Documented(page, line) for line, page in sorted(lines.items()) if line not in SKIPPED]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorServer]:
    with EmulatorServer(Emulator()) as server:
        yield server


@pytest.fixture
def arranged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: EmulatorServer
) -> Iterator[Path]:
    """A project that was applied, was edited since, and has the files that pages name."""
    server.emulator.clear()
    users: list[Json] = [{"customer_user_id": name} for name in EXISTING]
    server.emulator.plant({"profiles": [*users, {"profile_id": ANONYMOUS}]})
    config = remote(server.url, name="local", api={"rate": "40000/min"})
    config["environments"]["production"] = {"api": config["environments"]["local"]["api"]}
    config["default_environment"] = "local"
    project = Project(tmp_path / "project", config, profiles=PROFILES)
    monkeypatch.chdir(project.folder)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    Git(project.folder).commit("first")
    assert run("reconcile apply --auto-approve") == 0
    assert run("reconcile state pull", keep="export.json") == 0
    project.profile("qa/qa-jane", PROFILES["qa/qa-jane"].replace("Jane", "Joan"))
    assert run("reconcile plan --out reviewed.plan") == 0
    project.write("ids.txt", "jane\njoe\n")
    project.write("schemas/profile.schema.json", "{}")
    project.write("people.csv", "customer_user_id,first_name\nqa-zoe,Zoe\n")
    yield project.folder
    monkeypatch.chdir(ROOT)


def run(line: str, *, keep: str = "") -> int:
    """Runs a command in this process, and keeps what it prints to a file if that is asked for."""
    command, _, target = line.partition(" > ")
    words = [word.replace("sha256:…", _digest(command)) for word in shlex.split(command)[1:]]
    result = CliRunner(env={"COLUMNS": "80"}).invoke(main, words, input="yes\n")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if target or keep:
        Path(target.strip() or keep).write_text(result.stdout, "utf-8")
    print(result.output)
    return result.exit_code


def _digest(command: str) -> str:
    """The digest of the present plan, if a command quotes one."""
    if "sha256:…" not in command:
        return ""
    output = CliRunner().invoke(main, ["plan"]).output
    found = re.search(r"sha256:[0-9a-f]{64}", output)
    assert found, output
    return found[0]


def _filled(line: str) -> str:
    """A command with the id of a backup that is there in the place of the one in the text."""
    text = re.search(r"\b\d{8}T\d{6}Z-\d+\b", line)
    if text is None:
        return line
    assert run("reconcile state rm e2e-1") == 0
    backups = json.loads(CliRunner().invoke(main, ["state", "backups", "--json"]).stdout)
    return line.replace(text[0], backups[0]["id"])


@pytest.mark.parametrize("command", documented(), ids=str)
def test_every_command_of_the_documents_runs(command: Documented, arranged: Path) -> None:
    line = _filled(command.line)
    assert run(line) == ENDS.get(command.line, 0)


def test_the_documents_show_commands() -> None:
    assert len(documented()) > 40
    assert ENDS.keys() <= {command.line for command in documented()}
