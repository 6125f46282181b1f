"""The contract as it is packaged, and the files that are generated from it.

``python -m reconciler.core.contract_files`` writes the generated files anew (``make schemas``).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from reconciler.core.contract import Contract, Dialect
from reconciler.core.facets.registry import facet_of
from reconciler.core.profile_schema import profile_schema
from reconciler.resources import load_schema


@cache
def load_contract(dialect: str = Dialect.GUIDE.value) -> Contract:
    """The contract in a dialect."""
    return Contract.of(load_schema("contract"), dialect)


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
    free = [f"{name}.*" for name, group in openapi.groups.items() if group.each is not None]
    for path in openapi.ordered([*openapi.fields, *free]):
        late = openapi.field(path)
        early = guide.field(path) if guide.knows(path) else None
        kind = facet_of(path).kind or late.schema["type"]
        assumed = f" Assumed: {late.assumed}." if late.assumed else ""
        clear = f"`{early.clear}`" if early else "not in this dialect"
        personal = "yes" if late.personal else "no"
        lines.append(
            f"| `{path}` | {kind} | {clear} | `{late.clear}` | {personal} "
            f"| {late.description}{assumed} | {late.source} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    root = Path(__file__).parents[2]
    for name, content in generated().items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content, "utf-8")


if __name__ == "__main__":
    main()
