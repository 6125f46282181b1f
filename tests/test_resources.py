"""The packaged files, and the fingerprint of the program."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from reconciler import resources
from tests.support.places import config_cache_of, index_of


def program(root: Path) -> Path:
    """A program with a sub-package."""
    package = root / "program"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "rule.py").write_text("LIMIT = 1\n")
    (package / "data.json").write_text("{}")
    return package


def test_a_changed_file_in_a_sub_package_changes_the_fingerprint(tmp_path: Path) -> None:
    package = program(tmp_path)
    before = resources.fingerprint_of(package)
    assert resources.fingerprint_of(package) == before
    rule = package / "inner" / "rule.py"
    status = rule.stat()
    rule.write_text("LIMIT = 2\n")
    os.utime(rule, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert resources.fingerprint_of(package) != before


def test_a_module_that_moves_to_another_package_changes_the_fingerprint(tmp_path: Path) -> None:
    package = program(tmp_path)
    before = resources.fingerprint_of(package)
    (package / "inner" / "rule.py").rename(package / "rule.py")
    assert resources.fingerprint_of(package) != before


def test_files_that_are_not_of_the_program_do_not_count(tmp_path: Path) -> None:
    package = program(tmp_path)
    before = resources.fingerprint_of(package)
    (package / "inner" / "__pycache__").mkdir()
    (package / "inner" / "__pycache__" / "rule.cpython-311.pyc").write_bytes(b"x")
    assert resources.fingerprint_of(package) == before


@pytest.mark.parametrize("package", ["authoring", "core", "planning"])
def test_the_fingerprint_of_this_program_covers_its_sub_packages(
    package: str, tmp_path: Path
) -> None:
    copied = tmp_path / "reconciler"
    shutil.copytree(Path(resources.__file__).parent, copied)
    before = resources.fingerprint_of(copied)
    module = next((copied / package).glob("[a-z]*.py"))
    module.write_text(module.read_text("utf-8") + "\n", "utf-8")
    assert resources.fingerprint_of(copied) != before


def test_a_changed_module_of_a_sub_package_makes_the_caches_fall(tmp_path: Path) -> None:
    """The index and the remembered configuration name the program that wrote them."""
    sources = Path(resources.__file__).parent
    copied = tmp_path / "program" / "reconciler"
    shutil.copytree(sources, copied)
    shutil.copytree(sources.parent / "schemas", tmp_path / "program" / "schemas")
    folder = tmp_path / "project"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "jane.yaml").write_text("customer_user_id: jane\n", "utf-8")
    (folder / "reconcile.yaml").write_text(
        "version: 1\nenvironments:\n  local: {api: {url: emulator}}\n", "utf-8"
    )

    def caches() -> dict[str, bytes]:
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", "plan"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(copied.parent)},
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        with closing(sqlite3.connect(index_of(folder))) as db:
            (key,) = db.execute("SELECT value FROM about WHERE name = 'key'").fetchone()
        return {"index": key.encode(), "configuration": config_cache_of(folder).read_bytes()}

    before = caches()
    assert caches() == before
    module = copied / "authoring" / "validation.py"
    module.write_text(module.read_text("utf-8") + "\n", "utf-8")
    after = caches()
    assert after["index"] != before["index"]
    assert after["configuration"] != before["configuration"]
