"""``state restore`` that is killed at any instant, or that finds no room on the disk: the state is the old
one or the restored one, whole, and what was there before is in a backup once it is replaced."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reconciler.core.record_codec import encode_record
from tests.torture import disks
from tests.torture.checker import Checker
from tests.torture.kills import finish
from tests.torture.tally import Tally
from tests.torture.world import Files, Project, Remote, scratch

_KEPT = "kept.db"
Content = list[dict[str, Any]]


def unit(seed: int, *, kills: int = 10, profiles: int = 24) -> Tally:
    """A project whose state is restored again and again, and killed at any moment of that."""
    tally = Tally()
    rng = random.Random(seed)
    with scratch() as folder:
        scene = _Scene(folder, rng, profiles=profiles)
        with scene.project.served():
            found = scene.prepare()
            for number in range(kills):
                if found:
                    break
                found = [f"kill {number}: {what}" for what in scene.kill_once(tally)]
            found += scene.finish()
        scene.project.remote.close()
    tally.blame(f"restores.unit({seed}, {kills=}, {profiles=})", found)
    return tally


def small_disk(seed: int, *, sizes: int = 10, profiles: int = 24) -> Tally:
    """Restores with the state on a file system that has little room left (which only root may mount)."""
    tally = Tally()
    rng = random.Random(seed)
    with scratch() as folder, disks.mounted(folder / "state") as is_mounted:
        if not is_mounted:
            tally.counts["skipped: only root may mount"] += 1
            return tally
        scene = _Scene(folder, rng, profiles=profiles)
        with scene.project.served():
            found = scene.prepare()
            for _ in range(sizes):
                room = rng.choice(range(0, 160_000, 4096))
                with disks.little_room(scene.project, room):
                    problems = scene.restore_once(tally)
                found += [f"with room for {room}: {what}" for what in problems]
            found += scene.finish()
        scene.project.remote.close()
    tally.blame(f"restores.small_disk({seed}, {sizes=}, {profiles=})", found)
    return tally


class _Scene:
    """A project with two states: the one of its last apply, and a copy of an earlier one."""

    def __init__(self, folder: Path, rng: random.Random, *, profiles: int) -> None:
        self.project = Project(folder, Remote())
        self._rng = rng
        self._files = Files(rng, profiles)
        self._checker = Checker(self.project)
        self._contents: list[Content] = []
        """What the state may hold: the content of each of the two."""
        self._seconds = 1.0
        """How long a restore takes that nobody disturbs."""

    def prepare(self) -> list[str]:
        """Applies twice, with a copy of the state in between; what is wrong."""
        found: list[str] = []
        for kept in (True, False):
            self._files.edit(1.0 if kept else 0.8)
            self.project.write(self._files.desired)
            found += finish(self.project, self._checker, self._files)
            self._contents.append(self._content())
            if kept:
                shutil.copy(self.project.state, self.project.folder / _KEPT)
                export = self._run("state", "pull")
                (self.project.folder / "export.json").write_text(export.out)
        began = time.monotonic()
        self._run("state", "restore", _KEPT)
        self._seconds = time.monotonic() - began
        return found

    def kill_once(self, tally: Tally) -> list[str]:
        """Restores one of the two, and kills that after a while; what is wrong."""
        before = self._content()
        run = self.project.start([*self.project.program, "state", "restore", self._source()])
        time.sleep(self._rng.random() * 1.1 * self._seconds)
        killed = not run.ended
        run.kill()
        tally.counts["killed" if killed else "restored"] += 1
        return self._problems(before, is_replaced=not killed)

    def restore_once(self, tally: Tally) -> list[str]:
        """Restores one of the two; what is wrong."""
        before = self._content()
        ended = self._run("state", "restore", self._source())
        tally.counts["restores that failed" if ended.code else "restores that fitted"] += 1
        found = self._problems(before, is_replaced=ended.code == 0)
        if ended.code and self._content() != before:
            found.append("it failed, and the state is another one")
        if ended.code and ("error: " not in ended.err or "Traceback" in ended.err):
            found.append(f"ended with {ended.code}: {ended.err.strip()[-300:]}")
        return found

    def finish(self) -> list[str]:
        """What is wrong after the next apply, which sends all values again."""
        self.project.extra = ("--reassert",)
        ended = self.project.apply()
        self.project.extra = ()
        if ended.code != 0:
            return [f"the next apply ended with {ended.code}: {ended.err.strip()[-200:]}"]
        return [] if self.project.plan_is_empty() else ["the next plan is not empty"]

    def _source(self) -> str:
        return self._rng.choice((_KEPT, "export.json", self._other()))

    def _other(self) -> str:
        """The latest backup beside the state, if there is one."""
        backups = sorted(self.project.state.parent.glob(f"{self.project.state.name}.backup-*"))
        return str(backups[-1]) if backups else _KEPT

    def _problems(self, before: Content, *, is_replaced: bool) -> list[str]:
        now = self._content()
        found = []
        if now not in self._contents:
            found.append("the state is neither the old one nor the restored one")
        if (now != before or is_replaced) and before not in self._backed_up():
            found.append("the state before is in no backup")
        listed = self._run("state", "list", "--format", "json")
        if listed.code != 0:
            found.append(f"state list ended with {listed.code}: {listed.err.strip()[-200:]}")
        return found

    def _backed_up(self) -> list[Content]:
        return [_read(self.project, path) for path in self._backups()]

    def _backups(self) -> Sequence[Path]:
        return sorted(self.project.state.parent.glob(f"{self.project.state.name}.backup-*"))

    def _content(self) -> Content:
        return _read(self.project, self.project.state)

    def _run(self, *arguments: str) -> Any:
        return self.project.start([*self.project.program, *arguments]).wait()


def _read(project: Project, path: Path) -> Content:
    """The records of a state or a backup, without their revisions."""
    records = [encode_record(record) for record in project.records(path)]
    return json.loads(json.dumps([{**record, "revision": 0} for record in records]))  # type: ignore[no-any-return]
