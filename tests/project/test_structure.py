"""Bounds on the shape of the package: small modules and classes, one meaning for a name, readable calls.

An exception is listed here with its reason. `benchmarks/structure.py` measures the same and compares it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.core.options import Count, Share

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "reconciler"
MOST_LINES_OF_A_MODULE = 700
MOST_LINES_OF_A_CLASS = 400
MOST_INNER_IMPORTS = 40
MOST_POSITIONAL = 2

LARGE_MODULES: dict[str, str] = {}
"""Modules that may be longer, with the reason."""
LARGE_CLASSES: dict[str, str] = {}
"""Classes that may be longer, with the reason."""
DICTATED = {
    "authoring.formatter:resolve": "ruamel.yaml calls it",
    "authoring.json_schema:any_of": "jsonschema calls it",
    "authoring.json_schema:pattern": "jsonschema calls it",
    "authoring.json_schema:unique": "jsonschema calls it",
    "cli.options:convert": "click calls it",
    "cli.grammar:_take": "click calls it",
    "cli.grammar:complete": "click calls it",
    "cli.options:_note_json": "click calls it",
    "cli.options:take": "click calls it",
    "core.plan:__new__": "enum calls it with the members of the tuple",
    "exports:find_spec": "the import system calls it",
    "planning.index_file:progress": "sqlite3 calls it",
    "remote.transport:cert_verify": "requests calls it",
}
"""Functions whose parameters somebody else dictates."""

TREES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
    for path in PACKAGE.rglob("*.py")
    if "__pycache__" not in path.parts
}


def classes_of(tree: ast.AST) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def inner_imports(tree: ast.AST, *, is_inner: bool = False) -> Iterator[int]:
    """Lines of imports inside functions."""
    for node in ast.iter_child_nodes(tree):
        if is_inner and isinstance(node, ast.Import | ast.ImportFrom):
            yield node.lineno
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from inner_imports(node, is_inner=is_inner or is_function)


def many_positional(tree: ast.AST, *, in_class: bool = False) -> Iterator[str]:
    """Functions that take more than two arguments by position, ``self`` and ``cls`` aside."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_static = any(
                isinstance(each, ast.Name) and each.id == "staticmethod"
                for each in node.decorator_list
            )
            count = len(node.args.posonlyargs) + len(node.args.args)
            if count - (in_class and not is_static) > MOST_POSITIONAL:
                yield node.name
        yield from many_positional(node, in_class=isinstance(node, ast.ClassDef))


@pytest.mark.parametrize("module", sorted(TREES))
def test_a_module_is_short_enough_to_be_read_at_once(module: str) -> None:
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MOST_LINES_OF_A_MODULE or module in LARGE_MODULES


def test_a_class_is_short_enough_to_be_read_at_once() -> None:
    large = {
        f"{module}:{node.name}"
        for module, tree in TREES.items()
        for node in classes_of(tree)
        if (node.end_lineno or 0) - node.lineno + 1 > MOST_LINES_OF_A_CLASS
    }
    assert large == set(LARGE_CLASSES)


def test_a_class_name_stands_in_one_module() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for module, tree in TREES.items():
        for node in classes_of(tree):
            homes[node.name.lstrip("_")].add(module)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_few_imports_are_inside_functions() -> None:
    inner = [f"{module}:{line}" for module, tree in TREES.items() for line in inner_imports(tree)]
    assert len(inner) <= MOST_INNER_IMPORTS, inner


def test_a_function_takes_at_most_two_arguments_by_position() -> None:
    many = {f"{module}:{name}" for module, tree in TREES.items() for name in many_positional(tree)}
    assert many == set(DICTATED)


def test_values_of_different_kinds_are_never_equal() -> None:
    """Named tuples with equal members are equal whatever their class, so kinds of one thing are classes."""
    assert Count(25) != Share(25)


# --- the checks themselves can fail --------------------------------------------------------------


def test_an_import_inside_a_function_is_counted() -> None:
    tree = ast.parse("import a\ndef f():\n    import b\n    def g():\n        from c import d\n")
    assert [*inner_imports(tree)] == [3, 5]


def test_a_third_positional_argument_is_noticed() -> None:
    source = "class A:\n    def f(self, a, b): ...\n    def g(self, a, b, c): ...\n"
    assert [*many_positional(ast.parse(source))] == ["g"]
    assert [*many_positional(ast.parse("def h(a, b, *, c): ...\ndef i(a, b, c): ..."))] == ["i"]
