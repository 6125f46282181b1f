"""Compaction of the log, backups, and the removal of objects that nobody needs any more.

The head changes first, and only then anything is deleted (O5). After a change of the head whose outcome is
unknown nothing is deleted at all: what looks like a failure may have taken effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reconciler.errors import ReconcileError
from reconciler.state.objects import refusals
from reconciler.state.objects.head import KeptCopy, SnapshotAt, StateHead
from reconciler.state.objects.log import Log
from reconciler.state.objects.names import (
    HEAD,
    backup_name,
    position_of,
    segment_name,
    segments_prefix,
    snapshot_name,
)
from reconciler.state.objects.parts import PART_BYTES, PartGone
from reconciler.state.objects.segments import NewerFormat, Part
from reconciler.state.objects.snapshots import names_of, write_snapshot
from reconciler.state.store import Backup, utc_text

SEGMENTS = 64
"""A log that is longer by so many segments than the newest snapshot is compacted."""
_BYTES_A_SEGMENT = 256 * 1024
"""To read a segment costs as much time as so much of a snapshot, so a large one may be older."""
_LEAST_BYTES = 1024 * 1024
_ATTEMPTS = 3


class CompactionLimits(NamedTuple):
    """When a log is compacted."""

    segments: int = SEGMENTS
    part_bytes: int = PART_BYTES
    """How long the lines of one object become, before they are compressed."""

    def are_reached(self, head: StateHead, *, position: int, log_bytes: int) -> bool:
        """Whether the log up to a position has grown enough since the newest snapshot."""
        newest = head.snapshots[-1] if head.snapshots else None
        if newest is None:
            return position >= self.segments or log_bytes >= _LEAST_BYTES
        segments = max(self.segments, newest.size // _BYTES_A_SEGMENT)
        grown = log_bytes - newest.log_bytes
        return position - newest.position >= segments or (
            position > newest.position and grown >= max(newest.size // 4, _LEAST_BYTES)
        )


def compact(log: Log, limits: CompactionLimits, *, force: bool = False) -> bool:
    """Make a snapshot of the cache, which is at the confirmed position of a writer (O10), if the log has
    grown enough; whether there is a new one.

    Raises StateUnreachable, StateRefused or CommitUnknown. Readers are served whatever happens.
    """
    at, place = log.head(), log.cache.place
    if at is None or at.head.incarnation != place.incarnation:
        return False
    head = at.head
    is_due = limits.are_reached(head, position=place.position, log_bytes=place.bytes)
    if place.position <= head.newest or not (is_due or force):
        return False
    name = snapshot_name(head.incarnation, place.position, unique=log.unique_id())
    written = write_snapshot(
        log.bucket, log.sealer, cache=log.cache, name=name, part_bytes=limits.part_bytes
    )
    snapshot = SnapshotAt(
        place.position,
        place.chain,
        log_bytes=place.bytes,
        size=written.size,
        manifest=written.manifest,
    )
    changed = head.with_snapshot(snapshot)
    if not log.replace_head(changed, tag=at.tag):
        log.bucket.delete(written.names)
        return False
    log.bucket.delete(_replaced(log, head, after=changed))
    return True


def _replaced(log: Log, before: StateHead, *, after: StateHead) -> list[str]:
    """The objects that no reader needs once one head has taken the place of another. Not fences (O4)."""
    cache, fences = log.cache, set(log.cache.fences())
    positions = range(before.first, after.first)
    segments = [
        segment_name(after.incarnation, position)
        for position in positions
        if position not in fences
    ]
    parts = cache.parts_between(before.first, after.first)
    dropped = [each.manifest for each in before.snapshots if each not in after.snapshots]
    return [*segments, *parts, *_names(log, dropped)]


def _names(log: Log, manifests: Sequence[Part]) -> list[str]:
    """The names of all objects of snapshots or backups, as far as they can be read."""
    names = []
    for manifest in manifests:
        try:
            names += names_of(log.bucket, log.sealer, manifest=manifest)
        except (PartGone, ValueError, NewerFormat, ReconcileError):
            names.append(manifest.name)
    return names


def back_up(log: Log, *, now: float, kept: int, limits: CompactionLimits) -> Backup:
    """Copy the state in the cache, which is at the confirmed position of a writer, and remove the oldest
    copies beyond ``kept``.

    Raises StateUnreachable, StateRefused or CommitUnknown; then there may be no copy.
    """
    header = log.cache.header
    for _ in range(_ATTEMPTS):
        at = log.head()
        if at is None or at.head.incarnation != log.cache.place.incarnation:
            break
        head = at.head
        backup_id = f"{utc_text(now, '%Y%m%dT%H%M%SZ')}-{header.serial}"
        name = backup_name(head.incarnation, backup_id, unique=log.unique_id())
        written = write_snapshot(
            log.bucket, log.sealer, cache=log.cache, name=name, part_bytes=limits.part_bytes
        )
        backup = Backup(backup_id, now, serial=header.serial, size=written.size)
        others = [each for each in head.backups if each.backup.id != backup_id]
        changed = head._replace(backups=tuple(others)).with_backup(
            KeptCopy(backup, written.manifest), kept=kept
        )
        if log.replace_head(changed, tag=at.tag):
            dropped = [each.manifest for each in head.backups if each not in changed.backups]
            log.bucket.delete(_names(log, dropped))
            return backup
        log.bucket.delete(written.names)
    raise refusals.unsteady()


def remove_litter(log: Log) -> int:
    """Remove objects of this incarnation that nothing names: what a program left that was killed while it
    compacted, and segments that it did not delete any more. Returns how many. The caller holds the lock, and
    the cache is at its position.

    Everything is listed *before* the head is changed, and what was listed is deleted after. So a program
    that was overtaken while it compacts loses nothing: it either finds another head, or its objects came
    after the listing.
    """
    place = log.cache.place
    assert place.incarnation is not None
    names = log.bucket.list(f"{place.incarnation}/")
    at = log.head()
    if at is None or at.head.incarnation != place.incarnation:
        return 0
    head = at.head
    if not log.replace_head(head, tag=at.tag):
        return 0
    needed = {HEAD}
    manifests = [each.manifest for each in head.snapshots]
    manifests += [each.manifest for each in head.backups]
    for manifest in manifests:
        needed.update(names_of(log.bucket, log.sealer, manifest=manifest))
    needed.update(log.cache.parts_between(head.first, place.position + 1))
    fences, segments = set(log.cache.fences()), segments_prefix(place.incarnation)
    litter = []
    for name in names:
        if name.startswith(segments):
            position = position_of(name)
            is_litter = position is not None and position < head.first and position not in fences
        else:
            is_litter = name not in needed
        if is_litter:
            litter.append(name)
    log.bucket.delete(litter)
    return len(litter)
