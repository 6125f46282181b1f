"""The Action, the recipes and the program in a checkout full of traps: nothing of it runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.support.action_runner import PULL, ROOT, Runner, Stand
from tests.support.git import Git
from tests.support.traps import KINDS, misleading_path, misleading_variables, plant, sprung
from tests.support.wheels import repacked, requirement

STEPS_PATH = "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture(scope="module")
def action(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Action as a runner downloads it. Its dependencies are wheels in the folder ``wheels`` beside it."""
    folder = tmp_path_factory.mktemp("action")
    for name in (
        "action.yml",
        "ci",
        "reconciler",
        "schemas",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / "own" / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            (folder / "own").mkdir(exist_ok=True)
            shutil.copy(source, folder / "own" / name)
    (folder / "wheels").mkdir()
    names = re.findall(r"^([\w.-]+)==", (ROOT / "requirements-ci.txt").read_text("utf-8"), re.M)
    assert len(names) > 20
    lines = [requirement(name, repacked(name, folder / "wheels")) for name in names]
    (folder / "own" / "requirements-ci.txt").write_text("".join(lines), "utf-8")
    return folder / "own"


@pytest.fixture
def stand() -> Iterator[Stand]:
    stand = Stand()
    yield stand
    stand.close()


def offline(action: Path) -> dict[str, str]:
    """Settings of pip with which it finds the wheels of the Action and nothing else."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(action.parent / "wheels")}


def python_path(folder: Path) -> str:
    """A search path with the Python of these tests as ``python3``."""
    folder.mkdir()
    (folder / "python3").symlink_to(os.path.realpath(sys.executable))
    return f"{folder}{os.pathsep}{STEPS_PATH}"


def test_nothing_in_a_checkout_runs_in_any_step(tmp_path: Path, stand: Stand, action: Path) -> None:
    canary = tmp_path / "canary"
    runner = Runner(tmp_path, stand, action=action, installs=True)
    planted = plant(runner.folder, canary)
    assert len(planted) > 150
    path = misleading_path(runner.folder, python_path(tmp_path / "bin"))
    runner.variables = {**misleading_variables(runner.folder), **offline(action), "PATH": path}

    code, outputs = runner.run(PULL, blame="true")

    assert (sprung(canary), code) == ([], 0), runner.log
    assert outputs["changes"] == "true"
    assert outputs["digest"] in stand.comments[0]["body"]
    stand.pulls = [{"number": 7, "merged_at": "x", "merge_commit_sha": runner.commit}]
    code, applied = runner.run(mode="apply")
    assert (sprung(canary), code) == ([], 0), runner.log
    assert applied["digest"] == outputs["digest"]
    assert runner.run(mode="drift")[0] == 0
    assert sprung(canary) == []

    program = Path(runner.added_paths[-1]) / "reconcile"
    done = subprocess.run(
        [program, "validate"], cwd=runner.folder, env={**os.environ, **runner.variables}
    )
    assert (done.returncode, sprung(canary)) == (0, [])


def test_a_package_that_is_not_the_pinned_one_is_not_installed(
    tmp_path: Path, stand: Stand, action: Path
) -> None:
    wheels = tmp_path / "wheels"
    shutil.copytree(action.parent / "wheels", wheels)
    wheel = next(wheels.glob("click-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    runner = Runner(tmp_path, stand, action=action, installs=True)
    runner.variables = {**offline(action), "PIP_FIND_LINKS": str(wheels)}
    runner.variables["PATH"] = python_path(tmp_path / "bin")

    code, _ = runner.run(PULL)

    assert code == 1
    assert "DO NOT MATCH THE HASHES" in runner.log
    assert "::error::the dependencies cannot be installed" in runner.log
    assert runner.added_paths == stand.comments == []


def test_nothing_in_a_checkout_runs_in_the_recipe_for_gitlab(
    tmp_path: Path, stand: Stand, action: Path
) -> None:
    """The recipe as it stands, but in another folder than /opt and without apt-get."""
    canary = tmp_path / "canary"
    checkout = Runner(tmp_path, stand).folder
    (checkout / "reports").symlink_to(tmp_path)
    plant(checkout, canary)
    commit = Git(shutil.copytree(action, tmp_path / "source")).commit("reconcile")
    recipe = yaml.safe_load((ROOT / "examples" / "ci" / "gitlab-ci.yml").read_text("utf-8"))
    (tmp_path / "opt").mkdir()
    lines = [line for line in recipe["default"]["before_script"] if "apt-get" not in line]
    lines += recipe["validate"]["script"] + [
        line.replace("--env production ", "") for line in recipe["plan"]["script"]
    ]
    script = tmp_path / "script.sh"
    script.write_text("\n".join(lines).replace("/opt", str(tmp_path / "opt")), "utf-8")
    path = python_path(tmp_path / "bin")
    (tmp_path / "bin" / "python").symlink_to("python3")

    done = subprocess.run(
        ["/bin/sh", "-e", script],
        cwd=checkout,
        env={
            **offline(action),
            "PATH": path,
            "CI_PROJECT_DIR": str(checkout),
            "RECONCILE_REPOSITORY": str(tmp_path / "source"),
            "RECONCILE_COMMIT": commit,
        },
        capture_output=True,
        text=True,
    )

    assert (done.returncode, sprung(canary)) == (0, []), done.stdout + done.stderr
    assert (checkout / "reports" / "digest.env").read_text("utf-8").startswith("DIGEST=sha256:")
    assert not (checkout / "reports").is_symlink()


COMMANDS: Mapping[str, list[str]] = {
    "console script": [str(Path(sys.executable).with_name("reconcile"))],
    "isolated": [sys.executable, "-I", "-m", "reconciler"],
}


@pytest.mark.parametrize("program", COMMANDS)
def test_the_program_imports_nothing_from_the_working_directory(
    tmp_path: Path, stand: Stand, program: str
) -> None:
    canary = tmp_path / "canary"
    folder = Runner(tmp_path, stand).folder
    plant(folder, canary)
    variables = misleading_variables(folder) if program == "isolated" else {}

    done = subprocess.run(
        [*COMMANDS[program], "plan", "--blame"],
        cwd=folder,
        env={**os.environ, **variables, "PATH": misleading_path(folder, STEPS_PATH)},
        capture_output=True,
        text=True,
    )

    assert (done.returncode, sprung(canary)) == (0, []), done.stderr


# --- the traps go off ----------------------------------------------------------------------------


def careless(folder: Path) -> dict[str, list[str]]:
    """Commands of a careless program, by the kind of trap that stops it."""
    python = os.path.realpath(sys.executable)
    return {
        "_modules": [python, "-c", "import json"],
        "_programs": ["/bin/sh", "-c", "PATH=bin:$PATH git status"],
        "_startup_files": ["/bin/bash", "-c", f"BASH_ENV={folder}/.env bash -c :"],
        "_settings_of_pip": [python, "-I", "-m", "pip", "list"],
        "_settings_of_git": ["/usr/bin/git", "diff", "HEAD"],
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_careless_program_springs_the_traps(
    tmp_path: Path, stand: Stand, kind: Callable[..., object]
) -> None:
    canary = tmp_path / "canary"
    folder = Runner(tmp_path, stand).folder
    planted = plant(folder, canary)

    subprocess.run(
        careless(folder)[kind.__name__],
        cwd=folder,
        env={"PATH": STEPS_PATH, "PIP_CONFIG_FILE": str(folder / "pip.conf")},
        capture_output=True,
    )

    assert sprung(canary)
    assert set(sprung(canary)) <= set(planted)
