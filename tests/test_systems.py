"""The program starts, plans and applies where the system lacks what only POSIX has."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import reconciler
from reconciler import systems
from tests.support.projects import Project

ROOT = Path(__file__).parent.parent


def lacking(project: Project, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.lacking", *arguments],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands_run_without_what_only_posix_has(project: Project) -> None:
    assert "reconcile" in lacking(project, "--version")
    lacking(project, "validate")
    assert "1 to create" in lacking(project, "plan", "--out", "a.plan")
    assert "1 to create" in lacking(project, "show", "a.plan")
    lacking(project, "apply", "--auto-approve", "a.plan")
    assert "jane" in lacking(project, "state", "list")
    assert "No changes." in lacking(project, "plan")


def test_every_module_is_imported_without_what_only_posix_has() -> None:
    names = [
        module.name
        for module in pkgutil.walk_packages(reconciler.__path__, "reconciler.")
        if not module.name.endswith("__main__")
    ]
    code = (
        "import runpy, sys; lacking = runpy.run_module('tests.support.lacking'); "
        "lacking['_take_away'](); import importlib; [importlib.import_module(n) for n in sys.argv[1:]]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_signals_to_stop_are_those_that_the_system_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signal.SIGHUP in systems.STOP_SIGNALS
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGTERM, raising=False)
    signals = importlib.reload(systems).STOP_SIGNALS
    monkeypatch.undo()
    importlib.reload(systems)
    assert signals == (signal.SIGINT, signal.SIGTERM, signal.SIGTERM)


def test_without_positioned_reads_the_file_is_sought(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(b"abcdef")
    descriptor = os.open(tmp_path / "x", systems.open_flags("O_RDONLY", "O_NO_SUCH_FLAG"))
    expected = systems.read_at(descriptor, 2, offset=3)
    monkeypatch.delattr(os, "pread")
    assert systems.read_at(descriptor, 2, offset=3) == expected == b"de"
    os.close(descriptor)


def test_where_signals_have_an_effect_no_process_counts_as_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert systems.is_process_gone(child.pid)
    assert not systems.is_process_gone(os.getpid())
    monkeypatch.setattr(os, "name", "nt")
    assert not systems.is_process_gone(child.pid)
