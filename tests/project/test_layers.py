"""The import rule is a contract: ARCHITECTURE.md orders the packages, each package's docstring orders its
modules. These tests read both and hold the code to them: direction, purity, and one home per library."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
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

PURE_PARTS = frozenset({"datetime.date", "urllib.parse.quote", "urllib.parse.urlsplit"})
"""Names of impure modules that are plain values or functions of them, as long as nobody asks for today."""

IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "compile", "breakpoint"})
CLOCKS = frozenset({"now", "today", "utcnow"})


@dataclass(frozen=True)
class Row:
    """A row of the table of packages: a package, or a module at the top."""

    package: str
    imports: frozenset[str]
    also: Mapping[str, frozenset[str]]
    """Packages that single modules may import besides."""
    libraries: Mapping[str, str]
    """Third-party libraries, and the module that each is imported in, or "all": any module of the package."""


@dataclass(frozen=True)
class Listed:
    """A module as the docstring of its package lists it."""

    name: str
    is_pure: bool


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
    """The rows of the table whose header begins with "package | imports"."""
    rows: list[Row] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
        if cells[:2] == ["package", "imports"]:
            inside = True
        elif inside and not line.startswith("|"):
            break
        elif inside and not cells[0].startswith("-"):
            common, *special = cells[1].split(";")
            also = {
                module.strip(): frozenset(re.findall(r"\w+", names))
                for module, _, names in (part.partition(":") for part in special)
            }
            libraries = dict(re.findall(r"(\w+) \(([\w.]+)\)", cells[2]))
            rows.append(Row(cells[0], frozenset(re.findall(r"\w+", common)), also, libraries))
    return rows


def listed(docstring: str) -> list[Listed]:
    """The modules that the docstring of a package lists, in its order."""
    lines = re.findall(r"^    ([\w.]+)( \(edge\))?  +\S", docstring, re.M)
    return [Listed(name, not edge) for name, edge in lines]


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


def package_of(module: str) -> str:
    """The package of a module, or the module itself where it stands at the top."""
    return module.partition(".")[0]


def target_of(imported: Import) -> str:
    """The module that an import names: ``reconciler.core.plan``, or a module named in its last part."""
    full = f"{imported.name}.{imported.part}"
    return full if full in TREES else imported.name


def upward(module: str, imports: list[Import], rows: Mapping[str, Row]) -> list[str]:
    """Imports that the table does not allow, and those of a module that stands below in its package. The
    top may be asked for its version, and for nothing that it re-exports."""
    package, _, own_name = module.partition(".")
    row = rows[package]
    allowed = row.imports | row.also.get(own_name, frozenset())
    above = ORDER[package][: ORDER[package].index(own_name)] if own_name else []
    flaws = []
    for each in imports:
        if not each.own or each.name == "__version__":
            continue
        target = target_of(each)
        there, _, name = target.partition(".")
        is_allowed = name in above if there == package else there in allowed and target in TREES
        if not is_allowed:
            flaws.append(f"{module}:{each.line} imports {target}")
    return flaws


def libraries_of(module: str) -> set[str]:
    """The third-party libraries that a module imports."""
    names = {each.top for each in imports_of(TREES[module]) if not each.own}
    return names - set(sys.stdlib_module_names)


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


TABLE = {row.package: row for row in read_table((ROOT / "ARCHITECTURE.md").read_text("utf-8"))}
PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
TREES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py" and "__pycache__" not in path.parts
}
MODULES = sorted(TREES)
INITS = {name: ast.parse((PACKAGE / name / "__init__.py").read_text("utf-8")) for name in PACKAGES}
LISTED = {name: listed(ast.get_docstring(tree, clean=False) or "") for name, tree in INITS.items()}
ORDER = {name: [module.name for module in modules] for name, modules in LISTED.items()}
PURE = [
    f"{package}.{module.name}"
    for package, modules in LISTED.items()
    for module in modules
    if module.is_pure
] + ["errors", "values", "jsontext"]


def test_the_table_names_every_package_and_top_module_once() -> None:
    rows = [row.package for row in read_table((ROOT / "ARCHITECTURE.md").read_text("utf-8"))]
    assert sorted(rows) == sorted({package_of(module) for module in MODULES})


@pytest.mark.parametrize("package", PACKAGES)
def test_the_docstring_of_a_package_lists_its_modules(package: str) -> None:
    present = [module.partition(".")[2] for module in MODULES if package_of(module) == package]
    assert sorted(ORDER[package]) == sorted(present)


def test_the_rows_of_the_table_import_only_rows_above_them() -> None:
    above: set[str] = set()
    for row in TABLE.values():
        assert row.imports.union(*row.also.values()) <= above, row.package
        above.add(row.package)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_above_it(module: str) -> None:
    assert upward(module, list(imports_of(TREES[module])), TABLE) == []


def test_the_emulator_knows_nothing_of_the_planner() -> None:
    """It judges requests by the contract with code of its own, so that it finds mistakes in ours."""
    assert TABLE["emulator"].imports == {"errors", "values", "resources"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("authoring", "state"),
        ("remote", "authoring"),
        ("remote", "planning"),
        ("reports", "state"),
        ("reports", "remote"),
        ("reports", "planning"),
    ],
)
def test_packages_that_are_independent(one: str, other: str) -> None:
    for row, name in ((TABLE[one], other), (TABLE[other], one)):
        assert name not in row.imports.union(*(row.also[module] for module in row.also))


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_has_no_way_to_the_world(module: str) -> None:
    assert impurities(module, TREES[module]) == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_exactly_the_libraries_of_its_row(module: str) -> None:
    package, _, name = module.partition(".")
    homes = TABLE[package].libraries
    of_any_module = {library for library, home in homes.items() if home == "all"}
    assert libraries_of(module) - of_any_module == {
        library for library, home in homes.items() if home == (name or package)
    }


def test_a_library_of_a_whole_package_is_imported_in_several_of_its_modules() -> None:
    for row in TABLE.values():
        modules = [module for module in MODULES if package_of(module) == row.package]
        for library in (library for library, home in row.libraries.items() if home == "all"):
            assert sum(library in libraries_of(module) for module in modules) > 1, library


def test_each_library_has_one_home() -> None:
    homes = [library for row in TABLE.values() for library in row.libraries]
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
    imported = {
        {"pyyaml": "yaml", "google-auth": "google"}.get(name, name.replace("-", "_"))
        for name in declared
    }
    assert imported == {library for row in TABLE.values() for library in row.libraries}


@pytest.mark.parametrize("package", ["", *PACKAGES])
def test_a_package_imports_nothing_until_it_is_asked(package: str) -> None:
    path = PACKAGE / package / "__init__.py"
    imported = [
        node.module
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reconciler")
    ]
    assert set(imported) <= {"reconciler.exports"}


# --- the checks themselves can fail --------------------------------------------------------------


def test_an_upward_import_inside_a_function_is_found() -> None:
    tree = ast.parse("def f():\n    from reconciler.cli.main import main\n")
    assert upward("values", list(imports_of(tree)), TABLE) == ["values:2 imports cli.main"]


def test_a_name_that_the_package_re_exports_counts_as_upward() -> None:
    tree = ast.parse("from reconciler import Workspace, __version__")
    assert upward("cli.main", list(imports_of(tree)), TABLE) == ["cli.main:1 imports Workspace"]


def test_an_import_of_a_module_below_in_the_same_package_is_found() -> None:
    tree = ast.parse("from reconciler.core.planner import Planner")
    assert upward("core.contract", list(imports_of(tree)), TABLE) == [
        "core.contract:1 imports core.planner"
    ]


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
