"""Compares the content of a wheel with the source that it was built from. Standard library only.

wheel_content.py WHEEL SOURCE   fails where a file is missing, is more, or differs
wheel_content.py --oldest       prints the oldest version of each dependency that is allowed
"""

from __future__ import annotations

import re
import sys
import tomllib
import zipfile
from pathlib import Path


def expected(source: Path) -> dict[str, bytes]:
    """The files of the package, and the schemas where the wheel has them."""
    files = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in (source / "reconciler").rglob("*")
        if path.is_file()
    }
    for path in (source / "schemas").iterdir():
        files[f"reconciler/_schemas/{path.name}"] = path.read_bytes()
    return files


def compare(wheel: str, source: str) -> list[str]:
    """The problems."""
    wanted = expected(Path(source))
    with zipfile.ZipFile(wheel) as archive:
        packed = {
            name: archive.read(name)
            for name in archive.namelist()
            if not re.match(r"adapty_reconciler-[^/]+\.dist-info/", name)
        }
    return [
        *(f"missing: {name}" for name in sorted(wanted.keys() - packed.keys())),
        *(f"not in the source: {name}" for name in sorted(packed.keys() - wanted.keys())),
        *(
            f"differs: {name}"
            for name in sorted(wanted.keys() & packed.keys())
            if wanted[name] != packed[name]
        ),
    ]


def oldest() -> list[str]:
    """A constraint for each dependency."""
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    return [re.sub(r">=([^,]+).*", r"==\1", each) for each in project["dependencies"]]


def main() -> int:
    if sys.argv[1:] == ["--oldest"]:
        print("\n".join(oldest()))
        return 0
    problems = compare(*sys.argv[1:])
    print("\n".join(problems) or "the wheel holds what the source does")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
