"""The examples work as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert "# pass 3" in done.stdout


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
