"""Fixtures that load a configuration from its text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.config.reader import load_config
from reconciler.config.settings import Config
from reconciler.errors import Diagnostic, InputError


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Config]:
    def load_text(text: str, **options: Any) -> Config:
        (tmp_path / "reconcile.yaml").write_text(text, "utf-8")
        return load_config(None, start=tmp_path, **options)

    return load_text


@pytest.fixture
def refused(load: Callable[[str], Config]) -> Callable[[str], list[Diagnostic]]:
    def refuse(text: str) -> list[Diagnostic]:
        with pytest.raises(InputError) as caught:
            load(text)
        return list(caught.value.diagnostics)

    return refuse
