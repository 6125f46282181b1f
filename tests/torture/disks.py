"""Failing state: the n-th call to a store fails, the disk is full, a file may not grow. Nothing that was
acknowledged is lost, nothing more is sent, and the next run goes on."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.core.outcomes import Result
from reconciler.core.records import JournalKind, Known
from reconciler.emulator import EmulatorServer
from reconciler.errors import ReconcileError
from reconciler.state.memory import MemoryStore
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Writer
from tests.support.places import homes_below, state_of
from tests.support.projects import KEYS, ProjectFolder
from tests.support.projects import remote as remote_config
from tests.support.worlds import World
from tests.torture.checker import Checker, facts_against
from tests.torture.kills import finish
from tests.torture.tally import Tally
from tests.torture.world import Files, Project, Remote, fresh_content, scratch

WRITES = ("write", "finish", "renew")


@dataclass
class Fault:
    """The ``number``-th call (from 0) to one of the writer's methods fails, or it and all later ones;
    before anything is written, or after everything is."""

    number: int
    lasting: bool
    after: bool
    calls: int = 0
    struck: bool = False

    def around(self, carry: Callable[[], Any]) -> Any:
        number, self.calls = self.calls, self.calls + 1
        if number != self.number and not (self.lasting and number > self.number):
            return carry()
        self.struck = True
        if self.after:
            carry()
        raise ReconcileError("the disk failed")


class _Failing:
    """A store or writer whose calls pass a fault."""

    def __init__(self, inner: Any, fault: Fault) -> None:
        self._inner = inner
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in WRITES:
            return method
        return lambda *args, **options: self._fault.around(lambda: method(*args, **options))


class FailingStore(_Failing):
    """A store whose writers fail."""

    @contextmanager
    def lock(self, *args: Any, **options: Any) -> Iterator[Writer]:
        with self._inner.lock(*args, **options) as writer:
            failing: Any = _Failing(writer, self._fault)
            yield failing


def calls(seed: int) -> Tally:
    """A world in which the n-th call fails, for every n until a run has no failure."""
    tally = Tally()
    for lasting in (False, True):
        for after in (False, True):
            for number in range(10_000):
                fault = Fault(number, lasting, after)
                found = _with_fault(seed, fault)
                kind = f"{'lasting' if lasting else 'single'}, {'after' if after else 'before'}"
                tally.blame(
                    f"disks.calls({seed})",
                    (f"write {number} failed ({kind}): {what}" for what in found),
                )
                if not fault.struck:
                    break
                tally.counts["failing calls"] += 1
    return tally


def _with_fault(seed: int, fault: Fault) -> list[str]:
    rng = random.Random(seed)
    files = Files(rng, 4)
    store = MemoryStore()
    world = World(store=store)
    files.edit(1.0)
    world.reach(*files.desired.values())
    files.edit(0.8)
    desired = list(files.desired.values())
    plan = world.plan(*desired, prune=True)
    failing: Any = FailingStore(store, fault)
    world.store = failing
    told: list[Result] = []
    failed = False
    try:
        world.apply(plan, *desired, tell=told.append)
    except ReconcileError:
        failed = True
    world.store = store
    found = []
    if fault.struck and not failed:
        found.append("it was not reported")
    applied = {entry.address for entry in store.journal() if entry.kind is JournalKind.APPLIED}
    for result in told:
        record = store.record(result.address)
        unsettled = record is not None and any(
            fact.known is Known.UNCERTAIN for fact in record.facts.values()
        )
        if result.outcome.is_applied and (result.address not in applied or unsettled):
            found.append(f"{result.address} was reported applied, and is not recorded")
    records = {record.address: record for record in store.records()}
    found += facts_against(records, world.emulator.profiles())
    world.reach(*desired, prune=True)
    if not world.plan(*desired, prune=True).is_empty:
        found.append("the next run did not converge")
    elif world.emulator.content() != fresh_content(files.desired):
        found.append("the remote does not hold what a fresh one would")
    world.emulator.close()
    return found


# --- what the state could not take ----------------------------------------------------------------


def emergency(seed: int, *, step: int = 1) -> Tally:
    """Whichever write of a real workspace fails: what ended and is not recorded is in a file of its own,
    which the message names last, which nobody else may read, and which holds no value."""
    tally = Tally()
    with scratch() as folder:
        for number in range(0, 1_000, step):
            place = folder / str(number)
            place.mkdir()
            fault = Fault(number, lasting=True, after=False)
            found = _in_an_emergency(seed, place, fault, tally)
            tally.blame(
                f"disks.emergency({seed}, step={step})",
                (f"write {number}: {what}" for what in found),
            )
            if not fault.struck:
                break
            tally.counts["failing writes"] += 1
    return tally


def _in_an_emergency(seed: int, place: Path, fault: Fault, tally: Tally) -> Iterator[str]:
    files = Files(random.Random(seed), 6)
    files.edit(1.0)
    documents = "\n---\n".join(json.dumps(profile) for profile in files.desired.values())
    project = ProjectFolder(place, None, profiles={"all": documents})
    remote = Remote()
    with EmulatorServer(remote) as server:
        project.configure(remote_config(server.url, name="e"))
        environ = {**homes_below(f"{place}-homes"), **KEYS}
        state = state_of(place, "e.db", environ=environ)
        inner = SqliteStore(state, environment="e")
        failing: Any = FailingStore(inner, fault)
        with project.workspace(environ=environ, store=failing) as workspace:
            plan = workspace.plan()
            message = ""
            try:
                workspace.apply(plan, parallelism=3)
            except ReconcileError as problem:
                message = f"{problem.message} {problem.hint}"
        remote.settle()
    recorded = {entry.address for entry in inner.journal() if entry.kind is JournalKind.APPLIED}
    inner.close()
    remote.close()
    lost = {effect.address for effect in remote.effects if effect.is_write} - recorded
    if not fault.struck:
        yield from (f"{address} is not recorded" for address in sorted(lost))
        return
    if not message:
        yield "it was not reported"
    kept = list(state.parent.glob("e-outcomes-*"))
    if not lost:
        return
    if len(kept) != 1:
        yield f"{len(kept)} files of outcomes, and {len(lost)} that are not recorded"
        return
    tally.counts["files of outcomes"] += 1
    (file,) = kept
    text = file.read_text("ascii")
    named = {json.loads(line)["address"] for line in text.splitlines()}
    yield from (f"{address} is not in the file" for address in sorted(lost - named))
    yield from (f"{address} is in the file" for address in sorted(named - lost))
    if not message.endswith(str(file)):
        yield f"the message does not end with the name of the file: {message}"
    if file.stat().st_mode & 0o777 != 0o600:
        yield f"others may read the file: {file.stat().st_mode & 0o777:o}"
    values = [str(value) for profile in files.desired.values() for value in _values(profile)]
    if any(value in text for value in values):
        yield "a value is in the file"


def _values(profile: Mapping[str, Any]) -> list[Any]:
    attributes = profile.get("custom_attributes", {})
    return [value for name, value in profile.items() if name.endswith("_name")] + [
        value for value in attributes.values() if isinstance(value, str)
    ]


# --- below SQLite ---------------------------------------------------------------------------------


def small_files(seed: int, *, sizes: int = 10) -> Tally:
    """Real applies that may not make a file larger than so much: writes fail with EFBIG somewhere."""
    reproduction = f"disks.small_files({seed}, sizes={sizes})"
    return _limited(seed, sizes, reproduction, _file_limit, range(-16_000, 16_000, 512))


def small_disks(seed: int, *, sizes: int = 10) -> Tally:
    """Real applies with the state on a small file system (which only root may mount)."""
    reproduction = f"disks.small_disks({seed}, sizes={sizes})"
    return _limited(seed, sizes, reproduction, little_room, range(0, 128_000, 4096))


Part = Callable[..., Tally]
Limit = Callable[[Project, int], Any]


@contextmanager
def _file_limit(project: Project, room: int) -> Iterator[None]:
    """No file may become larger than the state is, and so much more."""
    before = project.program
    size = project.state.stat().st_size + room
    project.program = ("prlimit", f"--fsize={size}", *before)
    try:
        yield
    finally:
        project.program = before


@contextmanager
def little_room(project: Project, room: int) -> Iterator[None]:
    """The file system of the state has so much room left."""
    folder = project.state.parent
    ballast = folder / "ballast"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    ballast.write_bytes(bytes(max(0, free - max(0, room))))
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def mounted(folder: Path) -> Iterator[bool]:
    """Mounts a small file system there; whether that is allowed."""
    folder.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "torture", str(folder)],
        capture_output=True,
    )
    try:
        yield made.returncode == 0
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _limited(seed: int, sizes: int, reproduction: str, limit: Limit, rooms: range) -> Tally:
    tally = Tally()
    rng = random.Random(seed)
    with scratch() as folder, mounted(folder / "state") as is_mounted:
        if limit is little_room and not is_mounted:
            tally.counts["skipped: only root may mount"] += 1
            return tally
        remote = Remote()
        project = Project(folder, remote)
        files = Files(rng, 24)
        checker = Checker(project)
        with project.served():
            files.edit(0.5)
            project.write(files.desired)
            found = finish(project, checker, files)
            for _ in range(sizes):
                files.edit(0.8)
                project.write(files.desired)
                room = rng.choice(rooms)
                with limit(project, room):
                    ended = project.apply()
                remote.settle()
                tally.counts["runs that failed" if ended.code else "runs that fitted"] += 1
                problems = checker.check(ended)
                if ended.code not in (0, 1) or (ended.code == 1 and "error: " not in ended.err):
                    problems.append(f"ended with {ended.code}: {ended.err.strip()[-300:]}")
                problems += finish(project, checker, files)
                found += [f"with room for {room}: {what}" for what in problems]
        remote.close()
    tally.blame(reproduction, found)
    return tally
