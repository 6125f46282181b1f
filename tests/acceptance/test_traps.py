"""Every trap at once: the checkout of a pull request in which everything is hostile, and every command on it.

Nothing of the checkout runs, nothing outside of it is read, written or deleted, no host is asked that nobody
allowed, and no secret of the environment is in any output. Some traps make a command end with an error;
without those, every command goes on to its end in spite of the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli.main import main
from tests.support.action_runner import PULL, Runner, Stand, commands_of
from tests.support.hostile_checkout import (
    FORGED_STATE,
    PATHS,
    REFUSED_FILES,
    SECRETS,
    VARIABLES,
    Checkout,
)
from tests.support.traps import sprung

PROGRAM = Path(sys.executable).with_name("reconcile")
FORMATS = ("text", "json", "markdown", "github", "gitlab")
PLAN_OPTIONS: tuple[tuple[str, ...], ...] = (
    *(("--format", each) for each in (*FORMATS, "html")),
    ("--out", "out/saved.plan"),
    ("--json-out", "out/a.json", "--html-out", "out/a.html", "--markdown-out", "out/a.md"),
    ("--json",),
    ("--show-requests",),
    ("profiles/team",),
    ("--links", "https://git.example/o/n/blob/x/", "--format", "markdown"),
    ("--max-bytes", "8000", "--format", "markdown"),
    ("--mask",),
    ("--refresh",),
    ("--reassert",),
    ("--prune",),
    ("--prune", "--include-adopted"),
    ("--select", "qa-*"),
    ("--exclude", "qa-jane"),
    ("--since", "HEAD~1"),
    ("--no-cache",),
    ("--blame",),
    ("--blame", "--since", "HEAD~1", "--format", "html"),
    ("--detailed-exitcode",),
)
CONVERGED = ("plan", "--detailed-exitcode", "--format", "json")
COMMANDS: tuple[tuple[str, ...], ...] = (
    *(("validate", "--format", each) for each in (*FORMATS, "sarif", "junit")),
    ("validate", "profiles/team"),
    *(("plan", *options) for options in PLAN_OPTIONS),
    ("show", "out/saved.plan"),
    ("show", "out/saved.plan", "--format", "html"),
    ("render",),
    ("render", "--format", "json"),
    ("fmt", "--check"),
    ("fmt", "--diff"),
    ("apply", "--auto-approve"),
    CONVERGED,
    ("refresh",),
    ("refresh", "--format", "json"),
    ("apply", "--auto-approve", "--json", "--prune"),
    ("state", "list"),
    ("state", "show", "qa-jane"),
    ("state", "pull"),
    ("sweep", "--dry-run"),
    ("destroy", "--select", "qa-jane", "--dry-run"),
    ("apply", "--dry-run"),
    ("state", "backups"),
    ("history",),
    ("explain", "yaml/syntax"),
    ("schema", "profile"),
    ("completion", "bash"),
    ("help", "plan"),
)
ON_LARGE: tuple[tuple[str, ...], ...] = (
    ("validate", "--format", "text"),
    ("plan", "--no-cache"),
    ("plan", "--out", "out/saved.plan"),
    ("plan", "--refresh"),
    ("plan", "--blame", "--since", "HEAD~1", "--format", "html"),
    ("show", "out/saved.plan"),
    ("render",),
    ("apply", "--auto-approve"),
    CONVERGED,
    ("refresh",),
)
"""Those for many files, which other processes help to read if there are two processors."""
ELSEWHERE = ("proxy", "host", "metadata")
"""Environments of the planted configuration whose API is somewhere else."""
STATES_ELSEWHERE = ("database", "bucket", "server", "password", "key", "roots")
"""Environments of the planted configuration whose state is somewhere else, or needs a command."""


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path)
    yield checkout
    checkout.listener.close()


class Run:
    """What a command printed, and its exit code."""

    def __init__(self, checkout: Checkout, *arguments: str) -> None:
        done = subprocess.run(
            [PROGRAM, *arguments],
            cwd=checkout.folder,
            env={"PATH": f".:bin:{os.environ['PATH']}:{checkout.folder}", **checkout.environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=300,
        )
        self.arguments = arguments
        self.code = done.returncode
        self.output = (done.stdout + done.stderr).decode("utf-8", "replace")


def check(checkout: Checkout, run: Run, before: object) -> None:
    """Nothing ran, nothing outside changed, nothing secret is told, nobody was asked."""
    assert sprung(checkout.canary) == [], (run.arguments, run.output)
    assert "Traceback" not in run.output, (run.arguments, run.output)
    assert checkout.digests() == before, run.arguments
    assert [each for each in SECRETS.values() if each in run.output] == [], run.arguments
    assert "canary0" not in run.output, (run.arguments, run.output)
    assert checkout.listener.connections == [], run.arguments


def outputs_hold_no_secret(checkout: Checkout) -> bool:
    """Whether no file that the commands wrote holds a secret."""
    written = [checkout.folder / "out", checkout.folder / ".reconcile", checkout.home / ".local"]
    own = [folder for folder in written if not folder.is_symlink()]
    files = [path for folder in own for path in folder.rglob("*") if path.is_file()]
    return not any(b"canary0" in path.read_bytes() for path in files)


def make_large(checkout: Checkout) -> None:
    """More than 4 MiB of profiles, so that other processes help to read them."""
    document = "customer_user_id: u-{0}-{1}\nfirst_name: Jane\nip_country: FR\nlast_name: {2}\n"
    for file in range(12):
        documents = (document.format(file, number, "x" * 1500) for number in range(240))
        checkout.write(f"profiles/large/f{file}.yaml", "---\n".join(documents))


def test_the_commands_cover_every_option_of_plan() -> None:
    parameters = main.commands["plan"].params
    options = {name for option in parameters for name in option.opts if name.startswith("--")}
    tried = {word for options in PLAN_OPTIONS for word in options if word.startswith("--")}
    assert options - tried == set()


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_every_command_goes_on_in_spite_of_every_trap(checkout: Checkout, large: bool) -> None:
    if large:
        make_large(checkout)
    planted = checkout.plant()
    assert len(planted) > 200
    before = checkout.digests()
    codes = {}
    commands = ON_LARGE if large else COMMANDS
    for arguments in commands:
        run = Run(checkout, *arguments)
        check(checkout, run, before)
        codes[arguments] = run.code
    expected = {("fmt", "--check"): 1, ("plan", "--detailed-exitcode"): 2}
    assert codes == {arguments: expected.get(arguments, 0) for arguments in commands}
    assert outputs_hold_no_secret(checkout)


REFUSED = {
    "files": (REFUSED_FILES, False),
    "variables": (VARIABLES, False),
    "paths": (PATHS, False),
    "state": (FORGED_STATE, False),
    "everything, large": ((*REFUSED_FILES, *VARIABLES, *PATHS, *FORGED_STATE), True),
}


@pytest.mark.parametrize("kinds", REFUSED)
def test_no_command_falls_for_the_traps_that_it_refuses(checkout: Checkout, kinds: str) -> None:
    traps, large = REFUSED[kinds]
    if large:
        make_large(checkout)
    planted = checkout.plant(*traps)
    assert len(planted) > 200
    before = checkout.digests()
    commands = ON_LARGE if large else COMMANDS
    for arguments in (*commands, ("show", "evil.plan"), ("apply", "evil.plan", "--auto-approve")):
        run = Run(checkout, *arguments)
        check(checkout, run, before)
        assert run.code in (0, 1, 2, 3, 6), (arguments, run.output)
        if arguments[0] in ("plan", "apply"):
            assert run.code in (3, 6), (arguments, run.output)
    assert outputs_hold_no_secret(checkout)


@pytest.mark.parametrize("environment", ELSEWHERE)
def test_no_environment_of_the_checkout_leads_elsewhere(
    checkout: Checkout, environment: str
) -> None:
    checkout.plant()
    before = checkout.digests()
    for arguments in (
        ("validate",),
        ("plan",),
        ("plan", "--refresh"),
        ("apply", "--auto-approve"),
        ("state", "new"),
        ("refresh",),
        ("state", "list"),
    ):
        run = Run(checkout, "--env", environment, *arguments)
        check(checkout, run, before)
        if arguments[-1] in ("--refresh", "refresh", "--auto-approve"):
            assert run.code in (3, 6), (arguments, run.output)


@pytest.mark.parametrize("environment", STATES_ELSEWHERE)
def test_no_state_of_the_checkout_leads_elsewhere(checkout: Checkout, environment: str) -> None:
    checkout.plant()
    before = checkout.digests()
    for arguments in (("plan",), ("apply", "--auto-approve"), ("state", "list")):
        run = Run(checkout, "--env", environment, *arguments)
        check(checkout, run, before)
        assert run.code == 6, (arguments, run.output)
        assert "was not allowed outside of the checkout" in run.output


def test_no_step_of_the_action_falls_for_any_trap(tmp_path: Path) -> None:
    """Modules in the working directory and misleading variables have their own test:
    `tests/project/test_traps.py` plays the steps with those."""
    stand = Stand()
    runner = Runner(tmp_path / "runner", stand)
    checkout = Checkout(tmp_path / "around", runner.folder)
    try:
        checkout.plant()
        runner.commit = checkout.git("rev-parse", "HEAD")
        runner.variables = dict(SECRETS)
        before = checkout.digests()
        since, _ = runner.run(PULL, since="HEAD~1", comment="false")
        code, outputs = runner.run(PULL, blame="true", mask="false")
        stand.pulls = [{"number": 7, "merged_at": "x", "merge_commit_sha": runner.commit}]
        codes = [since, code, runner.run(mode="apply")[0], runner.run(mode="drift")[0]]
    finally:
        stand.close()
        checkout.listener.close()
    told = "\n".join((runner.log, runner.summary, *(each["body"] for each in stand.comments)))
    assert (sprung(checkout.canary), codes) == ([], [0, 0, 0, 0]), runner.log
    assert checkout.digests() == before
    assert outputs["changes"] == "true"
    assert "canary0" not in told
    assert commands_of(runner.log) == [] or all(
        line.startswith(("::error", "::warning", "::notice", "::group", "::endgroup", "::add-mask"))
        for line in commands_of(runner.log)
    )
    assert checkout.listener.connections == []
