"""Snapshots: the state at a position of the log, as objects. Backups are written alike.

A *manifest* holds all but the rows, and lists the parts that hold those. Its digest is in the head, so one of
another time or state does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from reconciler.core.records import Header
from reconciler.jsontext import packed
from reconciler.state.objects.cache import Cache, LogPlace
from reconciler.state.objects.parts import (
    PART_BYTES,
    read_object,
    read_parts,
    write_object,
    write_parts,
)
from reconciler.state.objects.protocol import Bucket, Sealer
from reconciler.state.objects.segments import (
    FORMAT,
    Part,
    RecordAt,
    header_of,
    journal_entry_of,
    journal_fields,
    lock_fields,
    lock_of,
    members_of,
    name_of,
    parts_of,
    record_fields,
    record_of,
    run_of,
)


class WrittenSnapshot(NamedTuple):
    """A snapshot whose objects are all there."""

    manifest: Part
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in (self.manifest, *self.parts))

    @property
    def names(self) -> list[str]:
        return [part.name for part in (self.manifest, *self.parts)]


def write_snapshot(
    bucket: Bucket, sealer: Sealer, *, cache: Cache, name: str, part_bytes: int = PART_BYTES
) -> WrittenSnapshot:
    """Writes the state in a cache under a name that nobody else uses. Raises StateUnreachable; then objects
    may be left that nobody needs."""
    place = cache.place
    held = cache.held
    parts: dict[str, list[Part]] = {}
    for kind, rows in (
        ("records", map(record_fields, cache.records())),
        ("journal", cache.journal_of_snapshot()),
        ("history", cache.history()),
    ):
        parts[kind] = write_parts(
            bucket, sealer, folder=f"{name}/{kind}", rows=rows, part_bytes=part_bytes
        )
    content = {
        "format": FORMAT,
        "place": list(place),
        "header": list(cache.header),
        "token": cache.token,
        "content": cache.content,
        "moved": cache.moved,
        "lock": None if held is None else lock_fields(held),
        "fences": cache.fences(),
        "bodies": [list(row) for row in cache.part_positions()],
        **{kind: [list(part) for part in some] for kind, some in parts.items()},
    }
    manifest = write_object(bucket, sealer, name=name, content=packed(content).encode())
    return WrittenSnapshot(manifest, tuple(part for some in parts.values() for part in some))


def load_snapshot(bucket: Bucket, sealer: Sealer, *, manifest: Part, cache: Cache) -> None:
    """Makes a cache the state of a snapshot. Raises PartGone, ValueError or NewerFormat where it cannot be
    read; then the cache is as before."""
    members = _members(bucket, sealer, manifest=manifest)

    def rows(kind: str) -> Iterator[Any]:
        return read_parts(bucket, sealer, parts=parts_of(members[kind]))

    try:
        held = members["lock"]
        cache.load(
            LogPlace(*members["place"]),
            header=header_of(members["header"]),
            token=int(members["token"]),
            content=members["content"],
            moved=members["moved"],
            held=None if held is None else lock_of(held),
            fences=members["fences"],
            parts=[(name_of(name), int(position)) for name, position in members["bodies"]],
            history=map(run_of, rows("history")),
            journal=(journal_fields(journal_entry_of(row)) for row in rows("journal")),
            records=map(record_of, rows("records")),
        )
    except (KeyError, TypeError) as problem:
        raise ValueError("no snapshot") from problem


def read_backup(
    bucket: Bucket, sealer: Sealer, *, manifest: Part
) -> tuple[Header, Iterator[RecordAt]]:
    """Header and records of a backup. Raises what `load_snapshot` raises, the iterator too."""
    members = _members(bucket, sealer, manifest=manifest)
    try:
        parts = parts_of(members["records"])
        return header_of(members["header"]), map(record_of, read_parts(bucket, sealer, parts=parts))
    except (KeyError, TypeError) as problem:
        raise ValueError("no backup") from problem


def names_of(bucket: Bucket, sealer: Sealer, *, manifest: Part) -> list[str]:
    """The names of all objects of a snapshot or backup, as far as its manifest can be read."""
    members = _members(bucket, sealer, manifest=manifest)
    some = [members.get(kind, ()) for kind in ("records", "journal", "history")]
    return [manifest.name, *(part.name for rows in some for part in parts_of(rows))]


def _members(bucket: Bucket, sealer: Sealer, *, manifest: Part) -> Mapping[str, Any]:
    return members_of(read_object(bucket, sealer, part=manifest))
