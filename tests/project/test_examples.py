"""The examples work as they stand."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import environment
from tests.support.configurations import LOCAL
from tests.support.projects import Project

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")


def reconcile() -> str:
    return str(Path(sys.executable).with_name("reconcile"))


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_suite_in_javascript_passes() -> None:
    done = subprocess.run(
        ["node", "--test", "examples/node/"],
        cwd=ROOT,
        env={**os.environ, "RECONCILE": reconcile()},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 5" in done.stdout


def test_the_first_test_of_the_page_passes(tmp_path: Path) -> None:
    subprocess.run([reconcile(), "init"], cwd=tmp_path, check=True, capture_output=True)
    (code,) = [
        text for text in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "test_jane.py" in text
    ]
    (tmp_path / "test_jane.py").write_text(code, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", "utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert "1 passed" in done.stdout, done.stdout


def test_the_template_of_the_page_makes_fifty_users(tmp_path: Path) -> None:
    (template,) = re.findall(r"```yaml\n(for_each: 50\n.*?)```", PAGE, re.S)
    Project(tmp_path, f"{LOCAL}variables: {{tier: gold}}\n", profiles={"users": template})

    done = subprocess.run([reconcile(), "plan"], cwd=tmp_path, capture_output=True, text=True)

    assert len(template.splitlines()) <= 10
    assert "+ qa-user-{index}  (create)  50 profiles from profiles/users.yaml:1" in done.stdout
    assert done.stdout.count("(create)") == 1


def test_the_page_names_all_that_can_be_made_up() -> None:
    from reconciler.authoring.fakedata import NAMES

    (told,) = re.findall(r"Known are (.*?)\. Addresses", PAGE, re.S)
    assert tuple(re.findall(r"`(\w+)`", told)) == NAMES


RECIPE = {
    name: text
    for text, name in re.findall(
        r"```\w+\n((?:#|//) ([\w./-]+\.(?:mjs|yaml))\b.*?)```",
        PAGE[PAGE.index("### Playwright") :],
        re.S,
    )
}
"""The files of the recipe for Playwright, by name."""

PLAYWRIGHT = """
export const hooks = [], tests = [];
export const test = (title, body) => tests.push(body);
test.beforeEach = (hook) => hooks.push(hook);
test.describe = { parallel: (title, body) => body() };
import { deepStrictEqual } from "node:assert";
export const expect = (value) => ({ toEqual: (other) => deepStrictEqual(value, other) });
export const request = { get: fetch };
"""
WORKER = """
import { hooks, request, tests } from "@playwright/test";
import "./users.spec.mjs";
const info = { parallelIndex: Number(process.argv[2]) };
for (const body of tests) {
  for (const hook of hooks) await hook({}, info);
  await body({ request }, info);
}
console.log(`worker ${info.parallelIndex}: ${tests.length} passed`);
"""
RUNNER = """
import { spawn } from "node:child_process";
import { once } from "node:events";
import config from "./playwright.config.mjs";
const { default: setup } = await import(config.globalSetup);
const teardown = await setup();
const workers = Array.from({ length: config.workers }, (_, index) =>
  spawn("node", ["worker.mjs", String(index)], { stdio: "inherit" }));
const ends = await Promise.all(workers.map((worker) => once(worker, "exit")));
await teardown();
process.exit(Math.max(...ends.map(([code]) => code ?? 1)));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_recipe_for_playwright_works_twice(tmp_path: Path) -> None:
    """A stand-in of Playwright runs the files of the page in as many processes as they ask for."""
    assert len(RECIPE) == 5
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    stub = "node_modules/@playwright/test"
    package = '{"name": "@playwright/test", "type": "module", "exports": "./index.mjs"}'
    files = {f"{stub}/index.mjs": PLAYWRIGHT, f"{stub}/package.json": package}
    files |= {"worker.mjs": WORKER, "runner.mjs": RUNNER}
    for name, text in (RECIPE | files).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("8080", port), "utf-8")

    for _ in range(2):
        done = subprocess.run(
            ["node", "runner.mjs"],
            cwd=tmp_path,
            env=environment(PATH=search_path()),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("4 passed") == 2


def search_path() -> str:
    """A search path on which `reconcile` is this program."""
    return os.pathsep.join([str(Path(reconcile()).parent), os.environ["PATH"]])


def typed(page: str) -> list[str]:
    """The commands that a page has its readers type, without those that hold a placeholder."""
    lines = re.findall(r"^\$ (reconcile .*)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    return [line for line in lines if not re.search(r"unlock ID|…", line.split("  #")[0])]


@pytest.mark.parametrize(
    "page", ["README.md", "docs/testing.md", "docs/ci.md", "docs/pull-requests.md"]
)
def test_the_commands_of_a_page_work_as_typed(tmp_path: Path, page: str) -> None:
    """Typed one after another, in a git repository, by a person who says yes."""
    lines = typed(page)
    assert lines
    if "reconcile init" in lines:
        lines = lines[lines.index("reconcile init") + 1 :]
    begin = ["git init -q -b main", "reconcile init"]
    commit = "git add . && git -c user.name=q -c user.email=q@example.com commit -qm first"
    for line in [*begin, *lines]:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=environment(PATH=search_path(), RECONCILE_AUTO_APPROVE="1"),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if line == "reconcile init":
            subprocess.run(["bash", "-c", commit], cwd=tmp_path, check=True)
