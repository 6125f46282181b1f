"""What programs do with a state in a bucket, for `tests.support.exploration`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from reconciler.core.records import JournalEntry, JournalKind, Record
from reconciler.errors import Refused
from reconciler.state.store import Store, Writer
from tests.support.exploration import Program, Scene, World

Body = Callable[[Program], None]


def write_once(program: Program, writer: Writer, mark: str) -> None:
    """A write that can be told from all others; noted once it returns."""
    world = program.world
    world.attempted[mark] = len(world.acknowledged)
    entry = JournalEntry("run", mark, kind=JournalKind.INTENT, at=1.0)
    writer.write(put=[Record("x", labels=(mark,))], journal=[entry])
    world.acknowledged.append(mark)


def writes(program: Program, *, sessions: int = 1, writes: int = 1, **options: Any) -> None:
    """Locks, writes, and lets go, some times."""
    _writes(program, program.store(**options), sessions=sessions, writes=writes)


def _writes(program: Program, store: Store, *, sessions: int = 1, writes: int = 1) -> None:
    for session in range(sessions):
        with store.lock(program.holder) as writer:
            for number in range(writes):
                write_once(program, writer, f"{program.name}/{session}/{number}")


def overtakes_itself(program: Program) -> None:
    """Two writers in one process, on one cache; the one that was overtaken writes on."""
    store = program.store()
    with store.lock(program.holder) as first:
        write_once(program, first, f"{program.name}/0/0")
        with store.lock(program.holder) as second:
            write_once(program, second, f"{program.name}/1/0")
            write_once(program, first, f"{program.name}/0/1")


def reads(program: Program, *, times: int = 1) -> None:
    """Reads, and compares with what was acknowledged before."""
    store = program.store()
    for _ in range(times):
        before = list(program.world.acknowledged)
        store.stamp()
        there = [entry.address for entry in store.journal()]
        missing = [mark for mark in before if mark not in there]
        if missing:
            program.world.problems.append(f"{program.name} did not see {missing}")
        record = store.record("x")
        if [*(record.labels if record else ())] != there[-1:]:
            program.world.problems.append(f"{program.name} saw a record of another time")


def unlocks(program: Program) -> None:
    """Takes the lock away from whoever has it."""
    store = program.store()
    held = store.locked()
    if held is not None:
        with suppress(Refused):
            store.unlock(held.id)


def scene(*bodies: Body, is_new: bool = False) -> Scene:
    """Programs on a state with one write, or on none. They are called a, b, c."""

    def prepare(world: World) -> Sequence[Program]:
        if not is_new:
            first = Program(world, "s", writes)
            _writes(
                first,
                world.fresh(unique_id=first.unique, new_id=first.unique, compact_after=1),
            )
        return [Program(world, name, body) for name, body in zip("abc", bodies, strict=False)]

    return prepare


SCENES: Mapping[str, Scene] = {
    "two that write": scene(partial(writes, writes=2), partial(writes, sessions=2)),
    "one that reads": scene(reads, partial(writes, sessions=3)),
    "one that unlocks": scene(unlocks, partial(writes, writes=2)),
    "one that overtakes itself": scene(overtakes_itself),
    "two that begin": scene(writes, writes, is_new=True),
}
"""Histories of two programs. Every lock may be taken over at any time, and every release compacts the log."""
CROWDS: Mapping[str, Scene] = {
    "one that is late": scene(writes, partial(writes, sessions=3)),
    "two that tidy up": scene(
        partial(writes, sessions=2, tidy_after=1, segment_bytes=0),
        partial(writes, sessions=2, tidy_after=1, segment_bytes=0),
    ),
    "three that write": scene(writes, writes, partial(writes, sessions=2)),
    "a reader and two that write": scene(
        partial(reads, times=2), writes, partial(writes, sessions=2)
    ),
    "an unlock between two": scene(unlocks, writes, partial(writes, sessions=2)),
}
"""Longer histories, and such of three."""
