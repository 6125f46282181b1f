"""The structure of a package, measured: ``python -m benchmarks.structure [PATH ...]``.

A PATH is the folder of a package, whose modules import each other by the folder's name; by default it is
``reconciler``. ``--git REV`` also measures every PATH as it was at a revision; ``--anchors`` also measures
packages of others, each in its newest release. ``--write`` writes `STRUCTURE.md`: our package at the
revision where the work on its structure began, the package now, and the anchors.

How each row is counted:

- *modules / folders*: the ``.py`` files below the folder, and the folders that hold at least one.
- *module lines*: every line counts, blank ones and comments too. The median leaves out modules of at most
  five lines, which are the empty ``__init__.py`` of many packages.
- *function lines*: from ``def`` to the last line of the body; nested functions count as well.
- *nesting*: the number of ``if``, ``for``, ``while``, ``with``, ``try`` and ``match`` statements around the
  innermost statement of a function. ``elif`` is as deep as its ``if``. A nested function begins at 0.
- *class names in more than one module*: leading underscores aside, so that ``_Lines`` and ``Lines`` are the
  same name.
- *imports inside functions*: statements, each counted once.
- *biggest fan-out*: the modules of its own package that one module imports anywhere, also inside functions
  and for type checking only.
- *more than two positional parameters*: parameters that a caller may give by position; ``self`` and
  ``cls`` of a method and ``*args`` do not count.

At revision 219015b this gives the figures of the review that the work began with, with one exception: 112
imports inside functions instead of 113, because the review counted an import in a nested function
once for each function around it. The anchors may differ from the review where a package has been released
since.
"""

from __future__ import annotations

import argparse
import ast
import io
import math
import statistics
import sys
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from benchmarks.measuring import ROOT, machine, run, say, scratch

STRUCTURE = ROOT / "benchmarks" / "STRUCTURE.md"
BEFORE = "219015b"
"""The revision where the work on the structure began."""
ANCHORS = ("kopf", "pre-commit", "pip-audit", "octodns", "httpx", "scriv", "stamina")
"""Packages on PyPI to compare with."""
SHORTEST = 5
"""Modules of at most so many lines are left out of the median."""

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_Import: TypeAlias = ast.Import | ast.ImportFrom
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith),
    *(ast.Try, ast.TryStar, ast.Match),
)


# --- measuring -----------------------------------------------------------------------------------


class Module(NamedTuple):
    """One file of a package. ``name`` is dotted, the package itself included; a package's name stands for
    its ``__init__.py``."""

    name: str
    is_package: bool
    lines: int
    tree: ast.Module


class ClassSize(NamedTuple):
    lines: int
    name: str
    methods: int


class FanOut(NamedTuple):
    """How many modules of its own package a module imports."""

    imports: int
    module: str


class Structure(NamedTuple):
    """The figures of one package, in the order of the table."""

    modules: int
    folders: int
    median_module: float
    longest_module: int
    median_function: float
    nesting_p99: int
    largest_class: ClassSize | None
    repeated_classes: tuple[str, ...]
    inner_imports: int
    fan_out: FanOut
    positional_functions: int
    total_lines: int


def measure(package: Path) -> Structure:
    """Measures the package in a folder.

    Raises ValueError where the folder holds no Python module, SyntaxError for a file that is no Python.
    """
    modules = read_modules(package)
    if not modules:
        raise ValueError(f"{package} holds no Python module")
    functions = [each for module in modules for each in functions_of(module.tree)]
    lengths = [module.lines for module in modules]
    return Structure(
        modules=len(modules),
        folders=len({path.parent for path in python_files(package)}),
        median_module=median([lines for lines in lengths if lines > SHORTEST] or lengths),
        longest_module=max(lengths),
        median_function=median([lines_of(function) for function in functions]),
        nesting_p99=percentile([nesting(function) for function in functions], 0.99),
        largest_class=max(
            (each for module in modules for each in class_sizes(module.tree)), default=None
        ),
        repeated_classes=repeated_classes(modules),
        inner_imports=sum(inner_imports(module.tree) for module in modules),
        fan_out=max(fan_outs(modules)),
        positional_functions=sum(
            count > 2 for module in modules for count in positional_counts(module.tree)
        ),
        total_lines=sum(lengths),
    )


def python_files(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*.py") if "__pycache__" not in path.parts)


def read_modules(package: Path) -> list[Module]:
    modules = []
    for path in python_files(package):
        text = path.read_text("utf-8")
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        is_package = path.name == "__init__.py"
        if is_package:
            parts.pop()
        tree = ast.parse(text, filename=str(path))
        modules.append(Module(".".join(parts), is_package, len(text.splitlines()), tree))
    return modules


def functions_of(tree: ast.AST) -> Iterator[_Function]:
    """Every function, methods and nested functions included."""
    return (node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS))


def lines_of(node: _Function | ast.ClassDef) -> int:
    """Lines from the statement's own first line, after decorators, to its last."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def nesting(function: _Function) -> int:
    """The deepest nesting of blocks in a function, without the functions and classes inside it."""
    return max((_depth(child) for child in function.body), default=0)


def _depth(node: ast.AST, around: int = 0) -> int:
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return around
    inside = around + isinstance(node, _BLOCKS)
    following = _elif(node)
    return max(
        [
            inside,
            *(_depth(n, around if n is following else inside) for n in ast.iter_child_nodes(node)),
        ]
    )


def _elif(node: ast.AST) -> ast.If | None:
    """The ``elif`` of an ``if``, which the syntax tree has as an ``if`` in its ``else``."""
    match node:
        case ast.If(orelse=[ast.If() as following]) if following.col_offset == node.col_offset:
            return following
    return None


def class_sizes(tree: ast.AST) -> Iterator[ClassSize]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(each, _FUNCTIONS) for each in node.body)
            yield ClassSize(lines_of(node), node.name, methods)


def repeated_classes(modules: Iterable[Module]) -> tuple[str, ...]:
    """The class names, leading underscores aside, that more than one module defines."""
    homes: dict[str, set[str]] = defaultdict(set)
    for module in modules:
        for each in class_sizes(module.tree):
            homes[each.name.lstrip("_")].add(module.name)
    return tuple(sorted(name for name, places in homes.items() if len(places) > 1))


def inner_imports(tree: ast.AST, *, in_function: bool = False) -> int:
    """How many import statements are inside functions."""
    count = 0
    for child in ast.iter_child_nodes(tree):
        count += in_function and isinstance(child, _Import)
        count += inner_imports(child, in_function=in_function or isinstance(child, _FUNCTIONS))
    return count


def fan_outs(modules: Sequence[Module]) -> Iterator[FanOut]:
    names = {module.name for module in modules}
    for module in modules:
        yield FanOut(len(imported(module, names) - {module.name}), module.name)


def imported(module: Module, names: set[str]) -> set[str]:
    """Those of the named modules that a module imports. ``from a import b`` imports ``a.b`` where that is
    a module, and ``a`` otherwise."""
    imports = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            members = {f"{base}.{alias.name}" for alias in node.names}
            imports |= members & names
            if members - names:
                imports.add(base)
    return imports & names


def _base(module: Module, node: ast.ImportFrom) -> str:
    """The absolute name of the module from which something is imported."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    up = node.level - module.is_package
    parents = parts[: len(parts) - up]
    return ".".join([*parents, *([node.module] if node.module else [])])


def positional_counts(tree: ast.AST, *, in_class: bool = False) -> Iterator[int]:
    """For each function, how many parameters can be given by position."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, _FUNCTIONS):
            count = len(child.args.posonlyargs) + len(child.args.args)
            yield count - (in_class and count > 0 and not _is_static(child))
            yield from positional_counts(child)
        else:
            is_class = isinstance(child, ast.ClassDef)
            inside = is_class or (in_class and isinstance(child, ast.stmt))
            yield from positional_counts(child, in_class=inside)


def _is_static(function: _Function) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)


def median(values: Sequence[int]) -> float:
    return statistics.median(values) if values else 0


def percentile(values: Sequence[int], share: float) -> int:
    """The smallest value that at least this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0


# --- packages to measure -------------------------------------------------------------------------


def at_revision(package: Path, revision: str, *, folder: Path) -> Path:
    """A package as it was at a revision, unpacked below a folder.

    Raises RuntimeError where git knows no such revision, or the package was not there.
    """
    words = ["git", "archive", "--format=tar", revision, package.name]
    archive = run(words, cwd=package.parent).output
    target = folder / f"{revision}-{package.name}"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(target, filter="data")
    return target / package.name


def anchors(folder: Path) -> Iterator[tuple[str, Path]]:
    """The packages to compare with, each with its version, downloaded as wheels below a folder.

    Raises RuntimeError where pip cannot download them.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--no-deps", "--only-binary", ":all:", "--dest", str(folder), *ANCHORS])
    for name in ANCHORS:
        package = name.replace("-", "_")
        [wheel] = folder.glob(f"{package}-*.whl")
        target = folder / "unpacked" / package
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
        yield f"{name} {wheel.name.split('-')[1]}", target / package


# --- the table -----------------------------------------------------------------------------------

ROWS = (
    "modules / folders",
    "module lines, median / max",
    "function lines, median",
    "nesting in functions, p99",
    "largest class: lines (name, methods)",
    "class names in more than one module",
    "imports inside functions",
    "biggest fan-out (module)",
    "functions with more than two positional parameters",
    "total lines",
)


def cells(structure: Structure) -> tuple[str, ...]:
    """What the table shows of a package, row by row."""
    return (
        f"{structure.modules} / {structure.folders}",
        f"{structure.median_module:,.0f} / {structure.longest_module:,}",
        f"{structure.median_function:g}",
        f"{structure.nesting_p99}",
        class_cell(structure.largest_class),
        f"{len(structure.repeated_classes)}",
        f"{structure.inner_imports}",
        f"{structure.fan_out.imports} (`{structure.fan_out.module.partition('.')[2] or '__init__'}`)",
        f"{structure.positional_functions}",
        f"{structure.total_lines:,}",
    )


def class_cell(largest: ClassSize | None) -> str:
    if largest is None:
        return "none"
    return f"{largest.lines:,} (`{largest.name}`, {largest.methods})"


def markdown(columns: Sequence[tuple[str, Structure]]) -> str:
    """The figures of several packages side by side."""
    lines = [("", *(title for title, _ in columns)), ("---",) * (len(columns) + 1)]
    lines += zip(ROWS, *(cells(structure) for _, structure in columns), strict=True)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def packages(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    """The packages to measure, each with the title of its column."""
    for path in options.paths:
        for revision in options.git:
            yield f"{path.name} at {revision}", at_revision(path, revision, folder=folder)
        yield path.name, path
    if options.anchors:
        say("downloading the anchors")
        yield from anchors(folder)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    parser.add_argument(
        "--git", action="append", default=[], metavar="REV", help="Also measure this revision."
    )
    parser.add_argument("--anchors", action="store_true", help="Also measure packages of others.")
    parser.add_argument("--write", action="store_true", help="Write STRUCTURE.md.")
    options = parser.parse_args(words)
    if options.write:
        if options.paths or options.git:
            parser.error("--write measures always the same: give neither PATH nor --git")
        options.git, options.anchors = [BEFORE], True
    options.paths = [path.resolve() for path in options.paths] or [ROOT / "reconciler"]
    return options


def main(words: Sequence[str] | None = None) -> None:
    options = parse(words)
    with scratch(None) as folder:
        columns = [(title, measure(path)) for title, path in packages(options, folder)]
    text = markdown(columns)
    print(text)
    for title, structure in columns:
        if structure.repeated_classes:
            print(f"\n{title}, class names in more than one module: ", end="")
            print(", ".join(structure.repeated_classes))
    if options.write:
        how = "Written by `python -m benchmarks.structure --write`; [how each row is counted](structure.py)."
        STRUCTURE.write_text(f"# Structure\n\n{how}\n\n{machine()}\n\n{text}\n", "utf-8")


if __name__ == "__main__":
    main()
