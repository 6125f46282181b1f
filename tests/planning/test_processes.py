"""Other processes take nothing from a checkout: no module of its folder, no variable of its user."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from reconciler.planning.processes import ProcessExecutor

TRAPS = ("multiprocessing", "json", "pickle", "struct", "yaml", "sitecustomize", "usercustomize")


def surroundings() -> tuple[dict[str, str], list[str], dict[str, str | None]]:
    """The variables, the path of modules and the origin of some modules of the process that calls this."""
    origins = {
        name: getattr(module, "__file__", None)
        for name, module in sys.modules.items()
        if name in TRAPS
    }
    return dict(os.environ), sys.path, origins


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with modules that leave a trace when they are imported, which is the working directory."""
    trace = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__)\n"
    for name in TRAPS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(trace, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_process_imports_nothing_from_the_working_directory(checkout: Path) -> None:
    executor = ProcessExecutor(1)
    try:
        _, path, origins = executor.submit(surroundings).result(timeout=60)
    finally:
        executor.shutdown(cancel_futures=True)
    assert not (checkout / "ran").exists()
    assert str(checkout) not in path
    assert "" not in path
    assert all(
        origin is None or not origin.startswith(str(checkout)) for origin in origins.values()
    )


def test_a_process_gets_no_variable_that_holds_a_key_or_adds_modules(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTY_SECRET_KEY", "canary")
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    monkeypatch.setenv("PYTHONSTARTUP", str(checkout / "json" / "__init__.py"))
    executor = ProcessExecutor(1)
    try:
        variables, path, _ = executor.submit(surroundings).result(timeout=60)
    finally:
        executor.shutdown(cancel_futures=True)
    assert "canary" not in variables.values()
    assert not [name for name in variables if name.startswith("PYTHON")]
    assert str(checkout) not in path
    assert not (checkout / "ran").exists()
