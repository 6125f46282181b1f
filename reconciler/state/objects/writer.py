"""The writer of a state in a bucket: each write is one segment at the next position of its own."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from reconciler.core.records import Export, Header, JournalEntry, Record, Run
from reconciler.errors import ReconcileError
from reconciler.state.objects import refusals
from reconciler.state.objects.cache import Cache, LogPlace
from reconciler.state.objects.compaction import CompactionLimits, back_up, compact, remove_litter
from reconciler.state.objects.log import Log, SealedSegment
from reconciler.state.objects.names import body_name
from reconciler.state.objects.parts import PartGone, write_parts
from reconciler.state.objects.protocol import Created
from reconciler.state.objects.segments import (
    Effects,
    NewerFormat,
    RecordAt,
    Segment,
    SegmentKind,
    record_fields,
)
from reconciler.state.objects.snapshots import read_backup
from reconciler.state.sqlite_errors import not_storable
from reconciler.state.store import (
    SAFE_SHARE_OF_LEASE,
    Clock,
    CommitUnknown,
    EncodedRecord,
    LockLost,
    NewId,
    decode_body,
    encode,
    header_after_replace,
    header_after_write,
    is_edited_copy,
    no_backup,
    put_back_from,
    restored_serial,
)

_NO_EFFECTS = Effects()
SEGMENT_BYTES = 8 * 1024 * 1024
"""Records with longer bodies do not go into the segment itself."""


class WriterOptions(NamedTuple):
    """What a store gives its writers."""

    environment: str
    new_id: NewId
    clock: Clock
    lease: float
    """Seconds."""
    kept_runs: int
    kept_backups: int
    limits: CompactionLimits
    segment_bytes: int = SEGMENT_BYTES


class ObjectWriter:
    """A `reconciler.state.store.Writer` of an `ObjectStore`."""

    def __init__(
        self,
        log: Log,
        options: WriterOptions,
        *,
        token: int,
        place: LogPlace,
        guarded: Callable[[], AbstractContextManager[None]],
        lease_from: tuple[float, float],
    ) -> None:
        """``place`` is that of the segment that took the lock. ``guarded`` gives this thread the cache.
        ``lease_from`` is when the creation of that segment began, by both clocks."""
        self._log = log
        self._options = options
        self._token = token
        self._guarded = guarded
        self._place = place
        """Our own last segment (O2). Never that of the cache: whoever overtook us may have moved that on,
        past the fence."""
        self._pending: SealedSegment | None = None
        """A segment that may have been written."""
        self.is_over = False
        """Whether the lock was released or lost."""
        self._safe_until = self._safe_from(*lease_from)

    def holds(self) -> bool:
        wall, monotonic = self._safe_until
        is_within = self._options.clock() < wall and time.monotonic() < monotonic
        return not self.is_over and is_within

    def write(
        self,
        *,
        put: Iterable[Record] = (),
        remove: Iterable[str] = (),
        journal: Iterable[JournalEntry] = (),
        application: str | None = None,
    ) -> Header:
        contents, removed, entries = encode(put), list(remove), list(journal)
        with self._writing() as cache:
            header = header_after_write(
                cache.header,
                environment=self._options.environment,
                application=application,
                new_id=self._options.new_id,
            )
            stored = cache.revisions_and_bodies([*contents, *removed])
            effects = Effects(
                header=header,
                removed=[address for address in removed if address in stored],
                put=_changed(contents, stored, removed=set(removed), serial=header.serial),
                journal=entries,
            )
            self._append(SegmentKind.WRITE, effects)
        return header

    def finish(self, run: Run) -> None:
        kept = self._options.kept_runs
        with self._writing() as cache:
            oldest = run.run if kept == 1 else cache.run_before(kept - 2)
            self._append(SegmentKind.WRITE, Effects(run=run, journal_from=oldest))

    def replace(self, export: Export, *, force: bool = False, above: int = 0) -> Header:
        contents = encode(export.records)
        with self._writing() as cache:
            old = cache.header
            header = header_after_replace(
                old,
                export.header,
                environment=self._options.environment,
                force=force,
                above=above,
                now=self._options.clock(),
                new_id=self._options.new_id,
            )
            effects = Effects(header=header, all_removed=True)
            if is_edited_copy(old, export.header):
                gone, changed = _edited(cache, contents)
                effects = Effects(header=header, removed=gone)
                contents = changed
            put = [
                RecordAt(address, header.serial, body=content.body, known=content.known)
                for address, content in contents.items()
            ]
            self._append(SegmentKind.WRITE, effects._replace(put=put))
        return header

    def renumber(self, *, above: int) -> Header:
        with self._writing() as cache:
            old = cache.header
            serial = restored_serial(old.serial, above, now=self._options.clock())
            header = old._replace(serial=serial)
            self._append(SegmentKind.WRITE, Effects(header=header, revision=serial))
        return header

    def backup(self) -> str | None:
        with self._writing() as cache:
            self._append(SegmentKind.RENEW)
            if cache.header.lineage is None:
                return None
            backup = back_up(
                self._log,
                now=self._options.clock(),
                kept=self._options.kept_backups,
                limits=self._options.limits,
            )
        return f"backup {backup.id} beside the state in the bucket"

    def restore(self, backup_id: str, *, above: int = 0) -> Header:
        with self._writing():
            return put_back_from(self, self._backup(backup_id), above=above)

    def mark_moved(self, address: str | None) -> None:
        with self._writing():
            self._append(SegmentKind.WRITE, Effects(moved=(address,)))

    def renew(self) -> None:
        with self._writing():
            self._append(SegmentKind.RENEW)

    def release(self) -> None:
        """Compact the log if that is due, and give the lock back. Everything that was acknowledged is
        durable; a lock that cannot be released ends with its lease."""
        try:
            with contextlib.suppress(ReconcileError), self._writing():
                with contextlib.suppress(ReconcileError):
                    if compact(self._log, self._options.limits):
                        remove_litter(self._log, self._options.limits, renew=self.renew)
                self._append(SegmentKind.RELEASE)
        finally:
            self.is_over = True

    # Segments

    @contextmanager
    def _writing(self) -> Iterator[Cache]:
        """The cache, at our own place in the log. Raises LockLost where somebody has gone on from there."""
        with self._guarded():
            if self.is_over:
                raise LockLost
            self._settle()
            if self._log.cache.place != self._place:
                self._log.sync()
                self._compare_places()
            yield self._log.cache

    def _compare_places(self) -> None:
        place = self._log.cache.place
        if place.incarnation != self._place.incarnation or place.position > self._place.position:
            self._lose()
        if place != self._place:
            raise refusals.gap(place.position + 1)

    def _settle(self) -> None:
        """Finds out whether a segment was written whose answer was lost, and writes it if it was not."""
        sealed = self._pending
        if sealed is None:
            return
        created = self._log.bucket.create(sealed.name, sealed.data)
        self._pending = None
        if created is Created.CONFLICT:
            self._lose()
        self._place = sealed.place_after(self._place)

    def _append(self, kind: SegmentKind, effects: Effects = _NO_EFFECTS) -> None:
        """The one way in which anything is written: at our next position, or not at all."""
        if self.is_over:
            raise LockLost
        began = self._options.clock(), time.monotonic()
        place = self._place
        assert place.incarnation is not None
        try:
            segment = Segment(
                place.position + 1,
                place.chain,
                id=self._log.unique_id(),
                kind=kind,
                token=self._token,
                expires=began[0] + self._options.lease,
                effects=self._shortened(effects, place.incarnation),
            )
            sealed = self._log.sealed(segment, place.incarnation)
            self._pending = sealed
            is_created = self._log.create(sealed)
        except CommitUnknown:
            raise
        except (ValueError, OverflowError, sqlite3.IntegrityError):
            self._pending = None
            raise not_storable() from None
        except (ReconcileError, sqlite3.Error):
            self._pending = None
            raise
        self._pending = None
        if not is_created:
            self._lose()
        self._place = sealed.place_after(self._place)
        self._safe_until = self._safe_from(*began)

    def _shortened(self, effects: Effects, incarnation: str) -> Effects:
        """The same effects, with many records in objects of their own. They come before the segment."""
        if sum(len(record.body) for record in effects.put) <= self._options.segment_bytes:
            return effects
        parts = write_parts(
            self._log.bucket,
            self._log.sealer,
            folder=body_name(incarnation, self._log.unique_id()),
            rows=map(record_fields, effects.put),
            part_bytes=self._options.limits.part_bytes,
        )
        return effects._replace(put=(), parts=parts)

    def _lose(self) -> None:
        self.is_over = True
        raise LockLost

    def _safe_from(self, wall: float, monotonic: float) -> tuple[float, float]:
        """Until when a lease is safe that began at these times: by the wall clock, which goes on while the
        machine sleeps, and by the monotonic clock, which nobody sets."""
        seconds = SAFE_SHARE_OF_LEASE * self._options.lease
        return wall + seconds, monotonic + seconds

    def _backup(self, backup_id: str) -> Export:
        at = self._log.head()
        for kept in at.head.backups if at is not None else ():
            if kept.backup.id == backup_id:
                try:
                    header, rows = read_backup(
                        self._log.bucket, self._log.sealer, manifest=kept.manifest
                    )
                    records = tuple(decode_body(row.body, row.revision) for row in rows)
                except NewerFormat:
                    raise refusals.newer_format() from None
                except (PartGone, ValueError):
                    raise refusals.unreadable("the backup") from None
                return Export(header, records)
        raise no_backup(backup_id)


def _changed(
    contents: Mapping[str, EncodedRecord],
    stored: Mapping[str, tuple[int, str]],
    *,
    removed: set[str],
    serial: int,
) -> list[RecordAt]:
    """The records whose content is new, with their revisions. The serial is above every revision so far, so a
    new record repeats none."""
    changed = []
    for address, content in contents.items():
        revision = serial
        if address in stored and address not in removed:
            before, body = stored[address]
            if body == content.body:
                continue
            revision = before + 1
        changed.append(RecordAt(address, revision, body=content.body, known=content.known))
    return changed


def _edited(
    cache: Cache, contents: Mapping[str, EncodedRecord]
) -> tuple[Sequence[str], dict[str, EncodedRecord]]:
    """What an edited copy of the state changes: addresses that are gone, and records of another content."""
    gone, same = [], set()
    for record in cache.records():
        content = contents.get(record.address)
        if content is None:
            gone.append(record.address)
        elif content.body == record.body:
            same.add(record.address)
    return gone, {address: each for address, each in contents.items() if address not in same}
