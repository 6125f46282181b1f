"""The head of a state: the one object that changes, by compare-and-swap only. Pure.

It says which segments may have been deleted, and where the newest snapshots and the backups are. It changes
when the log is compacted and when a backup is made, never with a write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from reconciler.jsontext import packed
from reconciler.state.objects.names import is_incarnation
from reconciler.state.objects.segments import FORMAT, Part, members_of, parts_of
from reconciler.state.store import Backup

SNAPSHOTS = 2
"""How many snapshots are kept: readers that have the head before the newest one come to an end."""


class SnapshotAt(NamedTuple):
    """A snapshot of the state at a position of the log."""

    position: int
    chain: str
    """The SHA-256 of the segment at this position."""
    log_bytes: int
    """The size of all segments up to this one."""
    size: int
    """The size of the snapshot with its parts, in bytes."""
    manifest: Part


class KeptCopy(NamedTuple):
    """A backup, and the object that lists its parts."""

    backup: Backup
    manifest: Part


class StateHead(NamedTuple):
    environment: str
    incarnation: str
    first: int = 1
    """Segments below this position are not needed any more, and may have been deleted. It only rises."""
    snapshots: tuple[SnapshotAt, ...] = ()
    """Oldest first, `SNAPSHOTS` at most."""
    backups: tuple[KeptCopy, ...] = ()
    """Oldest first."""

    @property
    def newest(self) -> int:
        """The position of the newest snapshot; 0 if there is none."""
        return self.snapshots[-1].position if self.snapshots else 0

    def with_snapshot(self, snapshot: SnapshotAt) -> StateHead:
        """The head after a compaction. Segments that the older of two snapshots replaces are not needed."""
        kept = (*self.snapshots, snapshot)[-SNAPSHOTS:]
        first = kept[0].position + 1 if len(kept) == SNAPSHOTS else self.first
        return self._replace(snapshots=kept, first=max(first, self.first))

    def with_backup(self, copy: KeptCopy, *, kept: int) -> StateHead:
        """The head after a backup, of which ``kept`` at most are kept."""
        return self._replace(backups=(*self.backups, copy)[-kept:])


def encode_head(head: StateHead, nonce: str) -> bytes:
    """The head as JSON. ``nonce`` makes every content unlike all others: an e-tag of S3 is a digest of the
    content, so a head that came back to an earlier content would be taken for that one."""
    return packed(
        {
            "format": FORMAT,
            "environment": head.environment,
            "id": head.incarnation,
            "first": head.first,
            "snapshots": [
                [s.position, s.chain, s.log_bytes, s.size, *s.manifest] for s in head.snapshots
            ],
            "backups": [[*kept.backup, *kept.manifest] for kept in head.backups],
            "nonce": nonce,
        }
    ).encode()


def decode_head(data: bytes) -> StateHead:
    """The reverse of `encode_head`. Raises NewerFormat, or ValueError for what is none."""
    members = members_of(data)
    try:
        return _head(members)
    except (KeyError, TypeError) as problem:
        raise ValueError("no head") from problem


def _head(members: Mapping[str, Any]) -> StateHead:
    snapshots = [
        SnapshotAt(
            int(position),
            str(chain),
            log_bytes=int(log_bytes),
            size=int(size),
            manifest=parts_of([manifest])[0],
        )
        for position, chain, log_bytes, size, *manifest in members["snapshots"]
    ]
    backups = [
        KeptCopy(
            Backup(str(backup_id), float(made), serial=int(serial), size=size),
            parts_of([manifest])[0],
        )
        for backup_id, made, serial, size, *manifest in members["backups"]
    ]
    incarnation, first = str(members["id"]), int(members["first"])
    numbers = [first, *(snapshot.position for snapshot in snapshots)]
    if not is_incarnation(incarnation) or min(numbers) < 1:
        raise ValueError("no head")
    return StateHead(
        str(members["environment"]),
        incarnation,
        first=first,
        snapshots=tuple(snapshots),
        backups=tuple(backups),
    )
