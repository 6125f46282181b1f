"""The packaged files, and the fingerprint of the program."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from reconciler import resources


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
