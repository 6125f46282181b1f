"""The public names of the package, and the modules that programs may import by their former names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import reconciler
from reconciler.exports import keep_importable

FORMER = {
    "reconciler.faults": "parse_fault",
    "reconciler.markdown": "plan_markdown",
    "reconciler.pytest_plugin": "MakeProfile",
    "reconciler.view": "PlanView",
}
"""Former modules that the documents named, and the name that was imported from each."""


@pytest.fixture(autouse=True)
def _not_imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in FORMER:
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.delattr(module, raising=False)
    yield
    for module in FORMER:
        sys.modules.pop(module, None)


@pytest.mark.parametrize("package", ["reconciler", "reconciler.testing", "reconciler.emulator"])
def test_every_public_name_can_be_imported(package: str) -> None:
    module = import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize(("module", "name"), FORMER.items())
def test_a_former_module_gives_the_public_name_and_a_warning(module: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{module} is now reconciler") as caught:
        former = import_module(module)
    assert getattr(former, name) is getattr(reconciler, name)
    assert len(caught) == 1


def test_the_warning_points_at_the_import(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "\nfrom reconciler.faults import parse_fault\nprint(parse_fault('503').kind)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", str(program)], capture_output=True, text=True, check=True
    )
    assert "program.py:2: DeprecationWarning: the module reconciler.faults is now" in done.stderr


@pytest.mark.parametrize("module", ["reconciler.nothing", "reconciler.view.nothing"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_another_module_is_still_not_found(module: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module(module)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_name_that_the_present_module_lacks_is_an_error() -> None:
    with pytest.raises(ImportError):
        exec("from reconciler.view import nothing")


def test_a_module_that_exists_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_module_of_a_test.py").write_text("value = 1\n")
    keep_importable({"a_module_of_a_test": "reconciler.values"})
    assert import_module("a_module_of_a_test").value == 1


def test_no_module_has_a_former_name() -> None:
    root = Path(reconciler.__file__).parent
    for module in FORMER:
        name = module.rpartition(".")[2]
        assert not (root / f"{name}.py").exists()
        assert not (root / name).exists()
