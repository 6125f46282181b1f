"""The module table of ARCHITECTURE.md is a contract: order, purity, and one home per library."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "reconciler"

IMPURE = frozenset(
    {
        "asyncio",
        "builtins",
        "concurrent",
        "contextvars",
        "ctypes",
        "datetime",
        "fcntl",
        "fileinput",
        "getpass",
        "glob",
        "http",
        "importlib",
        "io",
        "locale",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "platform",
        "pty",
        "queue",
        "random",
        "readline",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "socketserver",
        "sqlite3",
        "ssl",
        "stat",
        "subprocess",
        "sys",
        "tempfile",
        "termios",
        "threading",
        "time",
        "tkinter",
        "urllib",
        "uuid",
        "warnings",
        "webbrowser",
    }
)
"""Standard modules for files, network, clock, environment, randomness, processes and printing."""

PURE_PARTS = frozenset({"datetime.date", "urllib.parse.quote"})
"""Names of impure modules that are plain values or functions of them, as long as nobody asks for today."""

IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "compile", "breakpoint"})
CLOCKS = frozenset({"now", "today", "utcnow"})


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    layer: int
    module: str
    kind: str
    third_party: frozenset[str]


@dataclass(frozen=True)
class Import:
    """An imported module of ours (`reconciler.x` → ``x``), or the full name of somebody else's."""

    name: str
    part: str
    line: int
    own: bool

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def read_table(text: str) -> list[Row]:
    """The rows of the table whose second column is called "module"."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5 and cells[0].isdecimal():
            libraries = frozenset(re.findall(r"\w+", cells[4]))
            rows.append(Row(int(cells[0]), cells[1], cells[2], libraries))
    return rows


def imports_of(tree: ast.AST) -> Iterator[Import]:
    """Every import, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                own = alias.name.partition(".")[0] == "reconciler"
                name = (
                    alias.name.removeprefix("reconciler").removeprefix(".") if own else alias.name
                )
                yield Import(name, "", node.lineno, own)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            module = node.module or ""
            for alias in node.names:
                if module == "reconciler":
                    yield Import(alias.name, "", node.lineno, own=True)
                elif module.startswith("reconciler."):
                    name = module.removeprefix("reconciler.")
                    yield Import(name, alias.name, node.lineno, own=True)
                else:
                    yield Import(module, alias.name, node.lineno, own=False)


def upward(module: str, imports: list[Import], order: list[str]) -> list[str]:
    """Imports of modules that do not stand above ``module``. The package itself may be asked for
    its version, and for nothing that it re-exports."""
    above = {"__version__", *order[: order.index(module)]}
    return [f"{module}:{i.line} imports {i.name}" for i in imports if i.own and i.name not in above]


def impurities(module: str, tree: ast.AST) -> list[str]:
    """What a pure module must not import or call."""
    found = [
        f"{module}:{i.line} imports {i.name}"
        for i in imports_of(tree)
        if not i.own and i.top in IMPURE and f"{i.name}.{i.part}" not in PURE_PARTS
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(id=name) if name in IMPURE_CALLS:
                found.append(f"{module}:{node.lineno} calls {name}")
            case ast.Attribute(attr=name) if name in CLOCKS:
                found.append(f"{module}:{node.lineno} asks the clock")
    return found


TABLE = read_table((ROOT / "ARCHITECTURE.md").read_text("utf-8"))
ORDER = [row.module for row in TABLE]
TREES = {path.stem: ast.parse(path.read_text("utf-8"), str(path)) for path in PACKAGE.glob("*.py")}
MODULES = sorted(set(TREES) - {"__init__"})


def test_the_table_names_every_module_once_and_no_other() -> None:
    assert sorted(ORDER) == MODULES


def test_the_package_is_flat() -> None:
    assert [path for path in PACKAGE.glob("*/**/*.py") if "__pycache__" not in path.parts] == []


def test_layers_rise_from_row_to_row() -> None:
    layers = [row.layer for row in TABLE]
    assert layers == sorted(layers)


def test_every_row_is_pure_or_edge_and_the_pure_ones_come_first() -> None:
    kinds = [row.kind for row in TABLE]
    assert kinds == ["pure"] * kinds.count("pure") + ["edge"] * kinds.count("edge")
    assert kinds.count("pure") > 0


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_rows_above_its_own(module: str) -> None:
    assert upward(module, list(imports_of(TREES[module])), ORDER) == []


@pytest.mark.parametrize("module", [row.module for row in TABLE if row.kind == "pure"])
def test_a_pure_module_has_no_way_to_the_world(module: str) -> None:
    assert impurities(module, TREES[module]) == []


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.module)
def test_a_module_imports_exactly_the_libraries_of_its_row(row: Row) -> None:
    imported = {i.top for i in imports_of(TREES[row.module]) if not i.own}
    assert imported - set(sys.stdlib_module_names) == row.third_party


def test_each_library_has_one_home() -> None:
    homes = [library for row in TABLE for library in row.third_party]
    assert sorted(homes) == sorted(set(homes))


def test_the_libraries_of_the_table_are_the_declared_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [
        text
        for name, texts in project["optional-dependencies"].items()
        if name != "dev"
        for text in texts
    ]
    declared = {re.match(r"[\w-]+", text)[0] for text in [*project["dependencies"], *extras]}  # type: ignore[index]
    imported = {name.replace("-", "_") for name in declared - {"pyyaml"}} | {"yaml"}
    assert imported == {library for row in TABLE for library in row.third_party}


def test_the_package_itself_imports_nothing_until_it_is_asked() -> None:
    lazy = [
        node
        for node in TREES["__init__"].body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and "reconciler" in (getattr(node, "module", None) or "")
    ]
    assert lazy == []


# --- the checks themselves can fail --------------------------------------------------------------


def test_an_upward_import_inside_a_function_is_found() -> None:
    tree = ast.parse("def f():\n    from reconciler.cli import main\n")
    assert upward("values", list(imports_of(tree)), ORDER) == ["values:2 imports cli"]


def test_a_name_that_the_package_re_exports_counts_as_upward() -> None:
    tree = ast.parse("from reconciler import Workspace, __version__")
    assert upward("cli", list(imports_of(tree)), ORDER) == ["cli:1 imports Workspace"]


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "import os.path as p",
        "from pathlib import Path",
        "from datetime import date, datetime",
        "def f():\n    import socket",
        "print(1)",
        "from datetime import date\ndate.today()",
    ],
)
def test_a_way_to_the_world_is_found(source: str) -> None:
    assert impurities("m", ast.parse(source))
