"""Where a configuration is looked for, and what is refused before it is parsed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.config.reader import find_config, load_config
from reconciler.config.settings import Config
from reconciler.errors import InputError
from tests.support.configurations import LOCAL, production

KEY = "secret_live_AbCdEfGh.0123456789abcdef0123456789abcdef"


def test_the_configuration_is_found_in_a_folder_above(tmp_path: Path) -> None:
    (tmp_path / "reconcile.yaml").write_text(LOCAL)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_config(below) == tmp_path / "reconcile.yaml"
    assert load_config(None, start=below).root == tmp_path


def test_a_folder_named_like_the_configuration_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a" / "reconcile.yaml").mkdir(parents=True)
    (tmp_path / "reconcile.yaml").write_text(LOCAL)
    assert find_config(tmp_path / "a") == tmp_path / "reconcile.yaml"


def test_without_a_configuration_the_hint_names_init(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_config(None, start=tmp_path)
    assert "`reconcile init`" in caught.value.hint


def test_a_named_configuration_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "other.yaml", start=tmp_path)
    [found] = caught.value.diagnostics
    assert (found.rule, str(found.source)) == ("config/unreadable", "other.yaml")


def test_a_pipe_is_refused_rather_than_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="has 1 error"):
        load_config(tmp_path / "pipe.yaml", start=tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        production(f"key_env: {KEY}"),
        production(f"key: {KEY}"),
        production(f"{KEY}: x"),
        LOCAL + f"# {KEY}\n",
        LOCAL + f"broken: [{KEY}\n",
        LOCAL + f"default_environment: {KEY.upper()}\n",
        production(f"url: https://api.adapty.io/?key={KEY}"),
    ],
)
def test_a_secret_key_is_found_and_never_repeated(load: Callable[[str], Config], text: str) -> None:
    with pytest.raises(InputError) as caught:
        load(text)
    texts = [str(caught.value), caught.value.hint, *map(str, caught.value.diagnostics)]
    assert [item.rule for item in caught.value.diagnostics] == ["config/secret-key"]
    assert not any("AbCdEfGh".casefold() in item.casefold() for item in texts)
    assert caught.value.__cause__ is None
