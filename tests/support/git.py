"""Git repositories for tests."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Git:
    """A repository whose commits are always the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.day = 0
        self("init", "--quiet", "--initial-branch=main")

    def __call__(self, *arguments: str, author: str = "Ada") -> str:
        name = {
            "NAME": author,
            "EMAIL": "a@example.com",
            "DATE": f"2026-11-{self.day + 1:02}T00:00:00Z",
        }
        env = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in name.items()
        }
        done = subprocess.run(
            ["git", "-c", "commit.gpgsign=false", *arguments],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": "/nonexistent", **env},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, message: str, *, author: str = "Ada") -> str:
        self.day += 1
        self("add", "--all")
        self("commit", "--quiet", "--allow-empty", "-m", message, author=author)
        return self("rev-parse", "HEAD")
