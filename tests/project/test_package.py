"""What is installed, and what starting the program costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

from reconciler.config.template import TEMPLATE
from tests.support.projects import Project

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("requests", "jsonschema", "jsonschema_rs", "deepdiff", "yaml")
IDLE = (
    *(
        *HEAVY,
        "certifi",
        "faker",
        "jinja2",
        "markupsafe",
        "referencing",
        "rich",
        "ruamel",
        "urllib3",
    ),
    *("asyncio", "concurrent.futures", "multiprocessing", "socket", "ssl", "subprocess"),
    *("decimal", "email", "fractions", "importlib.resources", "importlib.metadata"),
    *("difflib", "random", "shutil", "tempfile", "zipfile"),
    *(
        "reconciler.remote.client",
        "reconciler.authoring.yaml_reader",
        "reconciler.authoring.yaml_fast",
    ),
)
"""What a plan has no use for where nothing changed."""


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["plan", "--help"], ["help", "plan"], ["completion", "bash"]],
)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from reconciler.cli.main import main\n"
        f"sys.argv = ['reconcile', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        f"    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stderr.strip() == "[]"


def test_a_plan_of_what_did_not_change_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    Project(tmp_path, TEMPLATE, profiles={"jane": "customer_user_id: jane\nfirst_name: Jane\n"})
    program = (
        "import sys\n"
        "from reconciler.cli.main import main\n"
        "sys.argv = ['reconcile', 'plan']\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        f"    print([name for name in {IDLE!r} if name in sys.modules], file=sys.stderr)\n"
    )

    def plan() -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr.strip()

    first, _ = plan()
    time.sleep(2.1)  # until the stamps of the files are old enough to be trusted
    plan()
    assert plan() == (first, "[]")


def test_an_installed_wheel_carries_its_schemas(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("adapty_reconciler-*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    program = (
        "import reconciler, reconciler.core.contract_files as r\n"
        "print(reconciler.__file__)\n"
        "print(len(r.load_contract().fields), r.load_schema('profile.schema')['title'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )
    assert done.returncode == 0, done.stderr
    assert str(installed) in done.stdout
    assert (installed / "reconciler" / "_schemas" / "contract.json").is_file()
    assert (installed / "reconciler" / "py.typed").is_file()


def advice() -> dict[Path, list[str]]:
    """What `pip install` is advised to install, by the file of ours that advises it."""
    files = [ROOT / "action.yml", *ROOT.glob("*.md")]
    for folder, suffixes in {
        "reconciler": {".py"},
        "docs": {".md"},
        "ci": {".sh"},
        "examples": {".yml", ".sh", ".mjs"},
        "schemas": {".json"},
    }.items():
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return {
        path: lines
        for path in files
        if (lines := re.findall(r"pip install (.*)", path.read_text("utf-8")))
    }


def test_nobody_is_told_to_install_the_other_project_of_this_name() -> None:
    assert len(advice()) >= 5
    for path, lines in advice().items():
        for line in lines:
            assert not re.search(r"(?<![\w/-])reconciler\b", line), f"{path}: {line}"


def test_hints_install_what_the_extras_would() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    (formatter,) = advice()[ROOT / "reconciler" / "workspace" / "sources.py"]
    (placeholders,) = advice()[ROOT / "reconciler" / "authoring" / "placeholders.py"]
    assert formatter.startswith(f"'{extras['fmt'][0]}'")
    assert placeholders.startswith(f"'{extras['fake'][0]}'")
    *_, federated = advice()[ROOT / "reconciler" / "state" / "objects" / "credentials.py"]
    assert federated.startswith(f"'{extras['gcs'][0]}'")
