"""Arranges projects: a folder with a configuration and profile files, and the program run in it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler import Workspace
from tests.support.command_line import CommandLine
from tests.support.configurations import LOCAL
from tests.support.places import HOMES

KEY = "secret_live_abcdefgh.0123456789abcdef0123456789abcdef"
KEYS = {"SECRET_KEY": KEY}
"""The variable that holds the key of the environment of `remote`."""

JANE = "customer_user_id: jane\nfirst_name: Jane\nip_country: FR\ncustom_attributes: {tier: gold}\n"


def remote(
    url: str,
    *,
    name: str = "remote",
    api: Mapping[str, object] | None = None,
    **environment: object,
) -> dict[str, Any]:
    """A configuration with one environment, whose API is at a URL. ``api`` and ``environment`` are more
    of its settings."""
    settings = {"url": url, "key_env": "SECRET_KEY", **(api or {})}
    return {"version": 1, "environments": {name: {"api": settings, **environment}}}


class ProjectFolder:
    """A folder with a configuration and profile files."""

    def __init__(
        self,
        folder: Path,
        config: str | Mapping[str, object] | None = LOCAL,
        *,
        profiles: Mapping[str, str] | None = None,
    ) -> None:
        """``config``: see `configure`; None writes none. ``profiles``: the text of each profile file, by
        its name below ``profiles/`` without suffix."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if config is not None:
            self.configure(config)
        for name, text in (profiles or {}).items():
            self.profile(name, text)

    def write(self, name: str, text: str) -> Path:
        """Writes a file, and its folders."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def configure(self, config: str | Mapping[str, object]) -> None:
        """Writes ``reconcile.yaml``: a text, or a value that is written as JSON."""
        self.write("reconcile.yaml", config if isinstance(config, str) else json.dumps(config))

    def profile(self, name: str, text: str) -> Path:
        """Writes a profile file."""
        return self.write(f"profiles/{name}.yaml", text)

    def workspace(
        self, env: str | None = None, *, environ: Mapping[str, str] | None = None, **options: Any
    ) -> Workspace:
        """The workspace of an environment; ``options`` are those of `Workspace`. Beside the variables of
        ``environ`` it sees those that say where files are kept: the same as the commands of the project."""
        if environ is not None:
            homes = {name: value for name, value in os.environ.items() if name in HOMES}
            options["environ"] = {**homes, **environ}
        return Workspace.open(start=self.folder, env=env, **options)


class Project(ProjectFolder, CommandLine):
    """A folder with a configuration and profile files, and the program run in it."""

    def __init__(
        self,
        folder: Path,
        config: str | Mapping[str, object] | None = LOCAL,
        *,
        profiles: Mapping[str, str] | None = None,
    ) -> None:
        """The arguments are those of `ProjectFolder`."""
        CommandLine.__init__(self, folder)
        ProjectFolder.__init__(self, folder, config, profiles=profiles)

    def plan(self, *arguments: str) -> dict[str, Any]:
        """The plan that the program prints as JSON."""
        plan: dict[str, Any] = json.loads(self.run("plan", "--format", "json", *arguments))
        return plan

    def bodies(self, *arguments: str) -> list[Any]:
        """The bodies of the requests of that plan."""
        return [
            request.get("body")
            for change in self.plan(*arguments)["changes"]
            for request in change["requests"]
        ]
