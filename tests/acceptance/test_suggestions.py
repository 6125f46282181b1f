"""The next command that is printed works when pasted, whatever the project and the environment are called."""

from __future__ import annotations

import html
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler import Workspace
from reconciler.emulator import Emulator, EmulatorServer
from tests.support.command_line import PROGRAM, environment
from tests.support.projects import JANE, KEYS, Project, remote

CONFIG = "it's $mine.yaml"


class Shell(Project):
    """A project with an unusual configuration, used from the folder above it."""

    def paste(self, line: str, *, code: int = 0) -> str:
        """What a line of shell prints, in which `reconcile` is the program."""
        program = f'reconcile() {{ {" ".join(PROGRAM)} "$@"; }}; {line}'
        done = subprocess.run(
            ["bash", "-c", program],
            cwd=self.folder,
            env=environment(**KEYS),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        self.err = done.stderr
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def go(self, *arguments: str, code: int = 0) -> str:
        """Runs the program for the environment that is not the default one."""
        return self.run("--config", CONFIG, "--env", "qa-1", *arguments, code=code, **KEYS)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with EmulatorServer(Emulator()) as server:
        config = remote(server.url, name="qa-1", api={"rate": "1000/s"})
        config["environments"]["local"] = {"api": {"url": "emulator"}}
        config["default_environment"] = "local"
        shell = Shell(tmp_path, config, profiles={"jane": JANE})
        (tmp_path / "reconcile.yaml").rename(tmp_path / CONFIG)
        yield shell


def last_command(text: str) -> str:
    return re.findall(r"^(reconcile .*)$", text, re.MULTILINE)[-1]


def test_a_saved_plan_is_applied_by_the_line_that_is_printed(shell: Shell) -> None:
    shell.go("plan", "--out", "-my plan's.plan")
    line = shell.err.strip().split("with: ")[1]
    shell.paste(f"{line} --auto-approve")
    assert "No changes" in shell.go("plan")


@pytest.mark.parametrize("options", [(), ("--select", "ja[n]e", "--reassert"), ("--refresh",)])
def test_a_comment_and_a_report_apply_by_the_line_that_they_show(
    shell: Shell, options: tuple[str, ...]
) -> None:
    markdown = last_command(shell.go("plan", "--format", "markdown", *options))
    page = shell.go("plan", "--format", "html", *options)
    (code,) = re.findall(r'<code id="command"[^>]*>(.*?)</code>', page)
    assert html.unescape(code) == markdown
    assert "jane: created" in shell.paste(markdown)


def test_the_comment_of_a_saved_plan_names_its_file(shell: Shell) -> None:
    line = last_command(shell.go("plan", "--refresh", "--out", "a b.plan", "--format", "markdown"))
    assert "'a b.plan'" in line
    assert last_command(shell.go("show", "a b.plan", "--format", "markdown")) == line
    shell.paste(line)


def test_orphans_are_forgotten_by_the_line_that_is_printed(shell: Shell) -> None:
    shell.profile("old", "customer_user_id: '-old$1'\ncustom_attributes: {a: 1}\n")
    shell.go("apply", "--auto-approve")
    (shell.folder / "profiles" / "old.yaml").unlink()
    prune, forget = re.findall(r"`(reconcile .*?)`", shell.go("plan"))
    assert "-old$1  (delete)" in shell.paste(prune)
    assert "forgot -old$1" in shell.paste(forget)


def test_the_lock_of_a_refusal_is_removed_by_the_line_that_it_shows(shell: Shell) -> None:
    shell.go("apply", "--auto-approve")
    shell.profile("jane", JANE.replace("gold", "silver"))
    with (
        Workspace.open(shell.folder / CONFIG, "qa-1") as workspace,
        workspace.state.locked("apply"),
    ):
        shell.go("apply", "--auto-approve", code=6)
        (line,) = re.findall(r"`(reconcile .*?)`", shell.err)
        lock_id = line.split()[-1]

        wrong = f"reconcile --config {quoted_config()} state unlock {lock_id}"
        shell.paste(wrong, code=6)
        assert "nothing to unlock" not in shell.err
        assert "environment qa-1" in shell.err
        (right,) = re.findall(r"`(reconcile .*?)`", shell.err)
        assert right == line

        assert "unlocked" in shell.paste(right)
    assert "jane: updated" in shell.go("apply", "--auto-approve")


def test_the_default_environment_is_named_where_there_are_several(shell: Shell) -> None:
    shell.run("--config", CONFIG, "state", "show", "nobody", code=6)
    assert "--env local state list`" in shell.err


def test_a_new_project_is_planned_by_the_line_that_is_printed(shell: Shell) -> None:
    out = shell.run("init", "--", "-new $one")
    assert "jane  (create)" in shell.paste(out.strip().splitlines()[-1].removeprefix("next: "))


def quoted_config() -> str:
    return "'" + CONFIG.replace("'", "'\\''") + "'"
