"""Compaction of the log, backups, and the removal of objects that nobody needs any more.

The head changes first, and only then anything is deleted (O5). After a change of the head whose outcome is
unknown nothing is deleted at all: what looks like a failure may have taken effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
TIDY_SEGMENTS = 1024
"""After so many segments, what killed programs left is looked for."""
_BYTES_A_SEGMENT = 256 * 1024
"""To read a segment costs as much time as so much of a snapshot, so a large one may be older."""
_LEAST_BYTES = 1024 * 1024
_ATTEMPTS = 3


class CompactionLimits(NamedTuple):
    """When a log is compacted."""

    segments: int = SEGMENTS
    tidy_segments: int = TIDY_SEGMENTS
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

    def is_litter_due(self, head: StateHead) -> bool:
        """Whether objects that nobody needs are looked for after the newest of two snapshots."""
        steps = [each.position // self.tidy_segments for each in head.snapshots]
        return len(set(steps)) > 1


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
        made = utc_text(now, "%Y%m%dT%H%M%SZ").replace(" ", "-")
        backup_id = f"{made}-{header.serial}"
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


def remove_litter(log: Log, limits: CompactionLimits, *, renew: Callable[[], None]) -> int:
    """Look for objects of this incarnation that nothing names, if that is due: what a program left that was
    killed while it compacted, and segments that it did not delete any more. Returns how many there were.
    The cache is at the position of a writer, and ``renew`` continues the log for it, or raises.

    Everything is listed first. Then the log is continued and the head is changed, and only then anything is
    deleted. So nobody else loses an object: a writer who took the lock over before would be in the way of
    the segment, and brings its objects after the listing otherwise. And a program that compacts finds
    another head, or brings its objects after the listing.
    """
    place, before = log.cache.place, log.head()
    if before is None or place.incarnation is None or not limits.is_litter_due(before.head):
        return 0
    names = log.bucket.list(f"{place.incarnation}/")
    renew()
    at, place = log.head(), log.cache.place
    if at is None or at.head.incarnation != place.incarnation:
        return 0
    head = at.head
    if not log.replace_head(head, tag=at.tag):
        return 0
    needed = {HEAD}
    manifests = [each.manifest for each in head.snapshots]
    manifests += [each.manifest for each in head.backups]
    try:
        for manifest in manifests:
            needed.update(names_of(log.bucket, log.sealer, manifest=manifest))
    except (PartGone, ValueError, NewerFormat):
        return 0  # the head has changed again, so others know better what is needed
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
