"""The measures of `benchmarks.structure`, each on a source that is small enough to count by hand."""

from __future__ import annotations

import ast
import subprocess
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from benchmarks import structure
from benchmarks.structure import ClassSize, FanOut

Package = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """Writes a package named ``house`` from the text of its files."""

    def write(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / "house" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), "utf-8")
        return tmp_path / "house"

    return write


def tree(text: str) -> ast.Module:
    return ast.parse(textwrap.dedent(text))


def nesting(text: str) -> int:
    return structure.nesting(next(structure.functions_of(tree(text))))


def fan_outs(folder: Path) -> dict[str, int]:
    modules = structure.read_modules(folder)
    return {each.module: each.imports for each in structure.fan_outs(modules)}


# --- modules -------------------------------------------------------------------------------------


def test_modules_of_nested_packages_are_named_and_counted(package: Package) -> None:
    folder = package(
        {
            "__init__.py": "",
            "plan.py": "A = 1\n\n# B\n",
            "core/__init__.py": "",
            "core/deep/requests.py": "C = 1\n",
            "core/deep/data.json": "{}\n",
            "__pycache__/old.py": "D = 1\n",
        }
    )

    modules = structure.read_modules(folder)

    assert {module.name: module.lines for module in modules} == {
        "house": 0,
        "house.core": 0,
        "house.core.deep.requests": 1,
        "house.plan": 3,
    }
    figures = structure.measure(folder)
    assert (figures.modules, figures.folders, figures.total_lines) == (4, 3, 4)


def test_the_median_leaves_out_the_shortest_modules(package: Package) -> None:
    lengths = {"a": 5, "b": 6, "c": 10, "d": 100}
    folder = package({f"{name}.py": "x = 1\n" * lines for name, lines in lengths.items()})

    figures = structure.measure(folder)

    assert (figures.median_module, figures.longest_module) == (10, 100)


def test_short_modules_count_where_there_are_no_others(package: Package) -> None:
    folder = package({"a.py": "x = 1\n" * 2, "b.py": "x = 1\n" * 4})

    assert structure.measure(folder).median_module == 3


def test_a_folder_without_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no Python module"):
        structure.measure(tmp_path)


# --- functions -----------------------------------------------------------------------------------


def test_functions_are_counted_from_def_to_their_end_wherever_they_are() -> None:
    source = """
        @decorated
        def outer():
            def inner():
                return 1

            return inner

        class Thing:
            async def method(self): ...
    """

    lines = [structure.lines_of(each) for each in structure.functions_of(tree(source))]

    assert sorted(lines) == [1, 2, 5]


@pytest.mark.parametrize(
    ("body", "depth"),
    [
        ("return 1", 0),
        ("if a: pass", 1),
        ("if a:\n  for b in c:\n    with d:\n      e()", 3),
        ("while a:\n  try: b()\n  except C: pass", 2),
        ("try: a()\nexcept B:\n  if c: pass", 2),
        ("match a:\n  case 1:\n    if b: pass", 2),
        ("if a: pass\nelif b: pass\nelif c: pass\nelse: pass", 1),
        ("if a: pass\nelif b:\n  if c: pass", 2),
        ("if a: pass\nelse:\n  if b: pass", 2),
        ("if a:\n  def inner():\n    if b:\n      if c: pass", 1),
    ],
)
def test_nesting_counts_the_blocks_around_a_statement(body: str, depth: int) -> None:
    assert nesting("def f():\n" + textwrap.indent(body, "    ")) == depth


def test_a_percentile_is_one_of_the_values() -> None:
    values = [*range(1, 101)]

    assert structure.percentile(values, 0.99) == 99
    assert structure.percentile(values, 0.5) == 50
    assert structure.percentile([7], 0.99) == 7
    assert structure.percentile([], 0.99) == 0


def test_self_and_what_is_not_positional_do_not_count_as_positional() -> None:
    source = """
        def plain(a, b, /, c, *rest, d, **others): ...

        class Thing:
            def method(self, a, b):
                def inner(a, b, c, d): ...

            @classmethod
            def create(cls, a): ...

            @staticmethod
            def static(a, b, c): ...

            if CONDITION:
                def conditional(self): ...
    """

    assert sorted(structure.positional_counts(tree(source))) == [0, 1, 2, 3, 3, 4]


def test_functions_with_three_positional_parameters_are_too_many(package: Package) -> None:
    folder = package({"a.py": "def f(a, b): ...\ndef g(a, b, c): ...\ndef h(a, b, *, c): ...\n"})

    assert structure.measure(folder).positional_functions == 1


# --- classes -------------------------------------------------------------------------------------


def test_the_largest_class_has_the_most_lines(package: Package) -> None:
    folder = package(
        {
            "a.py": "class Small:\n    x = 1\n",
            "b.py": """\
                class Large:
                    x = 1

                    def one(self): ...

                    async def two(self): ...
            """,
        }
    )

    assert structure.measure(folder).largest_class == ClassSize(6, "Large", 2)


def test_a_name_is_repeated_only_across_modules_and_without_underscores(package: Package) -> None:
    folder = package(
        {
            "a.py": "class Lines: ...\nclass Own: ...\nclass Twice: ...\nclass Twice: ...\n",
            "core/a.py": "def f():\n    class _Lines: ...\n",
        }
    )

    assert structure.measure(folder).repeated_classes == ("Lines",)


def test_a_package_without_classes_and_functions_is_measured(package: Package) -> None:
    figures = structure.measure(package({"a.py": "x = 1\n"}))

    assert figures.largest_class is None
    assert (figures.median_function, figures.nesting_p99) == (0, 0)
    assert "none" in structure.cells(figures)


# --- imports -------------------------------------------------------------------------------------


def test_imports_inside_functions_count_once_each() -> None:
    source = """
        import a

        if TYPE_CHECKING:
            import b

        class Thing:
            import c

            def method(self):
                import d, e

                def inner():
                    from f import g, h

                    class Local:
                        import i
    """

    assert structure.inner_imports(tree(source)) == 3


def test_a_module_imports_each_module_of_its_package_once(package: Package) -> None:
    folder = package(
        {
            "__init__.py": "VERSION = 1\n",
            "alone.py": "import os\nfrom housekeeping import broom\nimport house.alone\n",
            "plan.py": "def f():\n    from house.core import requests\n",
            "core/__init__.py": "",
            "core/requests.py": "from house import VERSION, plan\n",
            "core/relative.py": "from . import requests, codes\nfrom ..plan import f\n",
            "core/many.py": """\
                import house.plan
                from house.plan import f
                from house.core.requests import A
                from house.core import requests
            """,
            "user/__init__.py": "from .window import Window\nfrom . import window\n",
            "user/window.py": "",
        }
    )

    assert fan_outs(folder) == {
        "house": 0,
        "house.alone": 0,
        "house.plan": 1,  # core.requests
        "house.core": 0,
        "house.core.requests": 2,  # house, plan
        "house.core.relative": 3,  # core, core.requests, plan
        "house.core.many": 2,  # plan, core.requests
        "house.user": 1,  # user.window
        "house.user.window": 0,
    }
    assert structure.measure(folder).fan_out == FanOut(3, "house.core.relative")


# --- other revisions, other packages, the table --------------------------------------------------


def git(folder: Path, *words: str) -> None:
    names = [
        f"{role}_{what}=house" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    ]
    environ = [f"GIT_{name}" for name in names]
    subprocess.run(["env", *environ, "git", *words], cwd=folder, check=True, capture_output=True)


def test_a_package_is_measured_as_it_was_at_a_revision(
    package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = package({"a.py": "x = 1\n"})
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "One module")
    package({"core/b.py": "y = 1\n"})

    structure.main([str(folder), "--git", "HEAD"])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "|  | house at HEAD | house |"
    assert lines[2] == "| modules / folders | 1 / 1 | 2 / 2 |"
    assert lines[-1] == "| total lines | 1 | 2 |"


def test_an_unknown_revision_is_an_error(package: Package, tmp_path: Path) -> None:
    folder = package({"a.py": "x = 1\n"})
    git(tmp_path, "init")

    with pytest.raises(RuntimeError):
        structure.at_revision(folder, "no-such-revision", folder=tmp_path / "out")


def test_anchors_are_unpacked_from_their_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structure, "ANCHORS", ("bird-house",))
    monkeypatch.setattr(structure, "run", lambda words: None)
    with zipfile.ZipFile(tmp_path / "bird_house-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("bird_house/__init__.py", "x = 1\n")
        wheel.writestr("bird_house-1.2.dist-info/METADATA", "")

    [(title, folder)] = structure.anchors(tmp_path)

    assert title == "bird-house 1.2"
    assert structure.measure(folder).modules == 1


def test_names_that_modules_share_are_listed(
    package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = package(
        {"a.py": "class B: ...\nclass A: ...\n", "b.py": "class B: ...\nclass _A: ...\n"}
    )

    structure.main([str(folder)])

    assert capsys.readouterr().out.endswith("\nhouse, class names in more than one module: A, B\n")


def test_what_is_written_compares_before_now_and_the_anchors(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package({"a.py": "x = 1\n"})
    monkeypatch.setattr(structure, "STRUCTURE", tmp_path / "STRUCTURE.md")
    monkeypatch.setattr(structure, "at_revision", lambda path, revision, *, folder: path)
    monkeypatch.setattr(structure, "anchors", lambda _: iter([("bird-house 1.2", folder)]))

    structure.main(["--write"])

    text = (tmp_path / "STRUCTURE.md").read_text("utf-8")
    assert text.startswith("# Structure\n")
    assert "|  | reconciler at 219015b | reconciler | bird-house 1.2 |" in text
    for row in structure.ROWS:
        assert f"\n| {row} | " in text


def test_what_is_written_is_always_the_same_comparison() -> None:
    with pytest.raises(SystemExit):
        structure.parse(["--write", "--git", "HEAD"])
