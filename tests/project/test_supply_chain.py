"""What CI installs: the pins of constraints.txt, each with the hashes of its files."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.action_runner import ROOT, Runner, Stand

TEXT = (ROOT / "requirements-ci.txt").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SOURCES = ("index-url", "extra-index-url", "find-links", "proxy", "cert", "trusted-host")
"""Settings of pip that say where packages come from."""


def pinned(text: str) -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==([\w.+]+)(?: |$)", text, re.M)
    return {canonicalize_name(name): version for name, version in pins}


def needed(python: str) -> set[str]:
    """The names of all packages that the program, a state on another machine and the build need, theirs
    included."""
    names: set[str] = set()
    extras = PROJECT["project"]["optional-dependencies"]
    found = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    found += [text for name in ("objects", "gcs", "postgres") for text in extras[name]]
    while found:
        requirement = Requirement(found.pop())
        facts = {"python_version": python, "python_full_version": f"{python}.0"}
        if requirement.marker and not requirement.marker.evaluate({**facts, "extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in names:
            names.add(name)
            found += _required(name, requirement.extras, facts)
    return names


def _required(name: str, extras: set[str], facts: dict[str, str]) -> list[str]:
    """The requirements of a package, with those of its extras; theirs without the mark of the extra."""
    texts = []
    for text in requires(name) or []:
        requirement = Requirement(text)
        for extra in extras:
            if requirement.marker and requirement.marker.evaluate({**facts, "extra": extra}):
                requirement.marker = None
                texts.append(str(requirement))
                break
        else:
            texts.append(text)
    return texts


def test_the_versions_are_those_of_the_constraints() -> None:
    constraints = pinned((ROOT / "constraints.txt").read_text("utf-8"))
    assert pinned(TEXT).items() <= constraints.items(), "run `make requirements`"


@pytest.mark.parametrize("python", PYTHONS)
def test_everything_that_is_needed_is_pinned(python: str) -> None:
    assert needed(python) - pinned(TEXT).keys() == set(), "run `make requirements`"


def test_nothing_else_is_pinned() -> None:
    assert pinned(TEXT).keys() - {name for python in PYTHONS for name in needed(python)} == set()


def test_each_requirement_has_hashes_and_no_place() -> None:
    comment, *rest = TEXT.splitlines()
    assert comment.startswith("# Written by `make requirements`")
    entries = "\n".join(rest).replace(" \\\n", " ").splitlines()
    assert len(entries) == len(pinned(TEXT)) > 25
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+==[\w.+]+( +--hash=sha256:[0-9a-f]{64})+ *", entry), entry


@pytest.fixture
def stand() -> Iterator[Stand]:
    stand = Stand()
    yield stand
    stand.close()


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, str]:
    """Variables that say where this machine gets its packages. The test is skipped where it has no way to
    get one."""
    pip = [sys.executable, "-I", "-m", "pip"]
    listing = subprocess.run([*pip, "config", "list"], capture_output=True, text=True).stdout
    variables = {}
    for setting in SOURCES:
        values = re.findall(rf"^(?:global|install|:env:)\.{setting}=(.*)$", listing, re.M)
        if values:
            name = f"PIP_{setting.replace('-', '_').upper()}"
            variables[name] = " ".join(ast.literal_eval(values[-1]).split())
    (tmp_path / "one.txt").write_text(re.findall(r"^idna==.*?\n(?=\w)", TEXT, re.M | re.S)[0])
    probe = subprocess.run(
        [
            *(
                *pip,
                "download",
                "--no-deps",
                "--no-cache-dir",
                "--require-hashes",
                "--retries",
                "0",
            ),
            *("--timeout", "15", "-d", tmp_path, "-r", tmp_path / "one.txt"),
        ],
        env={**os.environ, **variables, "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
    )
    if probe.returncode and "DO NOT MATCH" not in probe.stdout + probe.stderr:
        pytest.skip("this machine reaches no package index")
    return variables


def test_the_packages_of_the_index_have_these_hashes(
    tmp_path: Path, stand: Stand, sources: dict[str, str]
) -> None:
    path = os.pathsep.join([os.path.dirname(os.path.realpath(sys.executable)), "/usr/bin", "/bin"])
    runner = Runner(tmp_path / "run", stand, installs=True, variables={**sources, "PATH": path})

    code, outputs = runner.run()

    assert code == 0, runner.log
    assert outputs["changes"] == "true"
    installed = (runner.installed or {})["python"]
    listing = subprocess.run(
        [installed, "-I", "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True
    )
    assert pinned(TEXT).items() <= pinned(listing.stdout).items()
