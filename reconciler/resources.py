"""The packaged contract and schemas, read once.

In a wheel they are ``reconciler/_schemas``; in a checkout the top-level ``schemas`` folder.
``python -m reconciler.resources`` writes the generated files anew (``make schemas``).
"""

from __future__ import annotations

import json
import os
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from reconciler import __version__
from reconciler.contract import Contract, Dialect, profile_schema

# By their paths: `importlib.resources` takes longer to import than all of them to read.
_HERE = Path(__file__).parent


@cache
def _folder() -> Path:
    packaged = _HERE / "_schemas"
    return packaged if packaged.is_dir() else _HERE.parent / "schemas"


@cache
def load_schema(name: str) -> Any:
    """A file of ``schemas/`` by its name without ``.json``."""
    return json.loads((_folder() / f"{name}.json").read_text("utf-8"))


@cache
def load_template(name: str) -> str:
    """A file of the package's ``templates``."""
    return (_HERE / "templates" / name).read_text("utf-8")


@cache
def load_contract(dialect: str = Dialect.GUIDE.value) -> Contract:
    """The contract in a dialect."""
    return Contract.of(load_schema("contract"), dialect)


@cache
def fingerprint() -> str:
    """Names this very program and its schemas: what it made of something holds until this changes."""
    sha = sha256(__version__.encode())
    for folder in (_HERE, _folder()):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.endswith((".py", ".json")):
                status = entry.stat()
                sha.update(f"\n{entry.name} {status.st_size} {status.st_mtime_ns}".encode())
    return sha.hexdigest()


def generated() -> dict[str, str]:
    """The generated files by their path in the repository, with the content they should have."""
    out = {}
    for dialect in Dialect:
        name = "profile" if dialect is Dialect.GUIDE else f"profile.{dialect}"
        schema = profile_schema(load_contract(dialect.value))
        out[f"schemas/{name}.schema.json"] = json.dumps(schema, indent=2) + "\n"
    out["docs/profile-reference.md"] = _reference(load_contract(), load_contract("openapi"))
    return out


def _reference(guide: Contract, openapi: Contract) -> str:
    lines = [
        "# Profile file reference",
        "",
        "Generated from `schemas/contract.json` by `make schemas`. *guide* is the default dialect.",
        "",
        "| field | type | how it is cleared (guide) | (openapi) | personal | meaning | source |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for path in openapi.ordered([*openapi.fields, "custom_attributes.*"]):
        late = openapi.field(path)
        early = guide.field(path) if guide.knows(path) else None
        kind = "text, number or boolean" if path.startswith("custom_") else late.schema["type"]
        assumed = f" Assumed: {late.assumed}." if late.assumed else ""
        clear = f"`{early.clear}`" if early else "not in this dialect"
        personal = "yes" if late.personal else "no"
        lines.append(
            f"| `{path}` | {kind} | {clear} | `{late.clear}` | {personal} "
            f"| {late.description}{assumed} | {late.source} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    root = _HERE.parent
    for name, content in generated().items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content, "utf-8")


if __name__ == "__main__":
    main()
