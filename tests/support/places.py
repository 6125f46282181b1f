"""Where the program keeps what belongs to a project, in the homes that tests have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from reconciler.config.places import ProjectPlaces
from reconciler.homes import homes_of

HOMES = ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
"""The variables that name the homes of a user."""


def homes_below(folder: str | Path) -> dict[str, str]:
    """The variables of a user whose homes are below a folder."""
    return {name: os.path.join(folder, name.lower()) for name in HOMES}


def places_of(folder: Path, environ: Mapping[str, str] | None = None) -> ProjectPlaces:
    """The places of the project in a folder."""
    return ProjectPlaces.of(
        folder, homes_of(os.environ if environ is None else environ, project=folder)
    )


def state_of(
    folder: Path, name: str = "local.db", *, environ: Mapping[str, str] | None = None
) -> Path:
    """The state of an environment, or another file that is kept for a project."""
    return places_of(folder, environ).kept_file(name).path


def index_of(folder: Path, env: str = "local") -> Path:
    """The index of an environment."""
    path = places_of(folder).cache("index", "reconcile.yaml", env)
    assert path is not None
    return path


def index_secret(folder: Path, env: str = "local") -> bytes:
    """The key that authenticates the index of an environment."""
    key = places_of(folder).key("index", "reconcile.yaml", env)
    assert key is not None
    return key


def config_cache_of(folder: Path, name: str = "reconcile.yaml") -> Path:
    """The kept value of a configuration."""
    path = places_of(folder).cache("configuration", name)
    assert path is not None
    return path
