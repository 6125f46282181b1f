"""No module knows a facet by name, except the facets themselves: so a new one is added in one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.authoring.facets.registry import FACET_RULES
from reconciler.core.contract_files import load_contract
from reconciler.core.endpoints import PATH
from reconciler.core.facets.registry import FACETS, GROUPS
from reconciler.resources import load_schema

PACKAGE = Path(__file__).parent.parent.parent / "reconciler"
OWNERS = ("core/facets/", "authoring/facets/", "emulator/")
SHARED = frozenset({"facet", "parts", "registry", "rules"})
"""Modules of facets that name none."""
ALLOWED = {
    "config/settings.py": "a setting has the name",
    "core/contract.py": "it gives the facts of contract.json their types",
    "core/profile_schema.py": "a text for editors gives an example of a path",
    "core/transitions.py": "`Observed.custom_attributes` is a name for test authors",
    "testing/handles.py": "`ProfileHandle.custom_attributes` is a name for test authors",
    "testing/sandbox.py": "`Sandbox.access_levels` is a name for test authors",
    "cli/files.py": "`init` writes a first profile",
    "cli/main.py": "the help of `import --csv` gives an example of a path",
}
"""Modules that may name a facet, with the reason."""
NAMES = sorted({*GROUPS, *load_schema("contract")["facets"]})


def names_of_facets(tree: ast.AST) -> Iterator[str]:
    """The names of facets in the texts of a module, docstrings aside, and its imports of a facet."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docstrings:
                yield from re.findall(rf"\b(?:{'|'.join(NAMES)})\b", node.value)
        elif isinstance(node, ast.ImportFrom):
            _, inside, name = (node.module or "").partition(".facets.")
            if inside and name not in SHARED:
                yield name


MODULES = [
    path.relative_to(PACKAGE).as_posix()
    for path in sorted(PACKAGE.rglob("*.py"))
    if not path.relative_to(PACKAGE).as_posix().startswith(OWNERS)
]


@pytest.mark.parametrize("module", MODULES)
def test_no_module_outside_of_the_facets_names_one(module: str) -> None:
    names = [*names_of_facets(ast.parse((PACKAGE / module).read_text("utf-8")))]
    assert bool(names) == (module in ALLOWED), names


def test_each_member_with_several_fields_has_a_facet_and_rules_in_the_order_of_the_contract() -> (
    None
):
    groups = [*load_contract().groups]
    assert [facet.group for facet in FACETS if facet.group] == groups
    assert [rules.group for rules in FACET_RULES] == groups


def test_the_schema_of_plans_has_the_paths_of_all_facets() -> None:
    schema = load_schema("plan.schema")["$defs"]["request"]["properties"]["path"]
    assert set(schema["enum"]) == {PATH}.union(*(facet.paths for facet in FACETS))


# --- the checks themselves can fail --------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "x = 'custom_attributes'",
        "path.startswith('installation_meta.')",
        "f'access_levels.{key}'",
        "from reconciler.core.facets.custom_attributes import CUSTOM_ATTRIBUTES",
    ],
)
def test_a_name_of_a_facet_is_noticed(source: str) -> None:
    assert [*names_of_facets(ast.parse(source))]


def test_a_docstring_may_name_a_facet() -> None:
    tree = ast.parse("def f():\n    'Counts custom_attributes.'\n    return 'attributes'")
    assert [*names_of_facets(tree)] == []
