"""What tests share: contracts, and a workspace with an embedded emulator in a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from reconciler.config.buildinfo import BUILD_SIGNS
from reconciler.core.contract import Contract
from reconciler.core.contract_files import load_contract
from reconciler.emulator import Emulator, EmulatorServer
from tests.support.places import homes_below
from tests.support.projects import JANE, Project
from tests.support.wire import Api

settings.register_profile("local", deadline=None, database=None)
settings.register_profile("ci", deadline=None, database=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
"""Other examples in every run at a desk; the same ones where a build must tell old from new."""


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the machine must not steer a test."""
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "CI", *BUILD_SIGNS):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _homes_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Tests have homes of their own: what they keep is neither the user's nor that of another test."""
    for name in [name for name in os.environ if name.startswith("RECONCILE_")]:
        monkeypatch.delenv(name)
    for name, folder in homes_below(tmp_path_factory.mktemp("homes")).items():
        monkeypatch.setenv(name, folder)


@pytest.fixture
def contract() -> Contract:
    return load_contract("guide")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a file below the temporary folder, and its folders."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return write_file


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project as ``reconcile init`` leaves it, with one profile: Jane."""
    project = Project(tmp_path, None)
    project.run("init")
    project.profile("jane", JANE)
    return project


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of profiles with one file."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "good.yaml").write_text("a: 1\n")
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[..., Api]]:
    """Puts an emulator on a port; the arguments are those of EmulatorServer."""
    opened: list[Api] = []

    def start(emulator: Emulator | None = None, **options: Any) -> Api:
        opened.append(Api(EmulatorServer(emulator or Emulator(), **options).start()))
        return opened[-1]

    yield start
    for api in opened:
        api.connection.close()
        api.server.stop()
        api.emulator.close()
