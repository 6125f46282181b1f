"""The folders of one project in the homes of its user: for its states, and for its caches. An edge.

Their names are digests of the project's real path, so nothing that a checkout says leads to other files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from reconciler.homes import Homes, derived_key, place_name


class ProjectPlaces(NamedTuple):
    """Where a project keeps what is no part of it. Without homes it has no caches."""

    root: str = ""
    """The real path of the project's folder."""
    homes: Homes = Homes()

    @classmethod
    def of(cls, root: Path, homes: Homes) -> ProjectPlaces:
        """The places of the project in a folder."""
        return cls(os.path.realpath(root), homes)

    @property
    def caches(self) -> Path | None:
        """The folder of the project's caches, which need not exist; ``None`` where nothing is cached."""
        if self.homes.cache is None or self.homes.state is None:
            return None
        return self.homes.cache / "projects" / place_name(self.root)

    def cache(self, *purpose: str) -> Path | None:
        """The file of one cache."""
        return None if self.caches is None else self.caches / place_name(*purpose)

    def key(self, *purpose: str) -> bytes | None:
        """The key that authenticates what is cached for a purpose of this project, so that a cache of
        another project, another purpose or another user does not count. ``None`` without a secret."""
        secret = self.homes.secret()
        return None if secret is None else derived_key(secret, self.root, *purpose)
