"""The state of an environment in a bucket."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reconciler.errors import Message, ReconcileError
from reconciler.state.liveness import process_identity
from reconciler.state.objects import refusals
from reconciler.state.objects.cache_file import CacheFile
from reconciler.state.objects.compaction import SEGMENTS, TIDY_SEGMENTS, CompactionLimits
from reconciler.state.objects.log import Log, UniqueId, unique_id
from reconciler.state.objects.parts import PART_BYTES
from reconciler.state.objects.protocol import Bucket, Sealer
from reconciler.state.objects.segments import HeldLock, Segment, SegmentKind
from reconciler.state.objects.writer import SEGMENT_BYTES, ObjectWriter, WriterOptions
from reconciler.state.sqlite_records import PAGE_SIZE, SqliteReader
from reconciler.state.store import (
    LEASE,
    RESTORE_HINT,
    RUNS,
    Backup,
    Clock,
    Holder,
    Lock,
    Locked,
    NewId,
    OnWait,
    StateMoved,
    Writer,
    is_abandoned,
    new_id,
    not_locked,
    other_lock,
)
from reconciler.state.waiting import acquired

BACKUPS = 10
"""How many backups are kept."""
CLOCK_MARGIN = 2.0
"""Seconds that a lock must have been silent beyond its lease, by the clock of the store, which may count
whole seconds only."""
_ATTEMPTS = 50
"""How often the lock is tried for while others go on writing."""


class ObjectStore(SqliteReader):
    """A `reconciler.state.store.Store` in a bucket.

    ``cache`` is the file of the local copy; ``None``: it ends with this object. ``lease`` and
    ``clock_margin`` are in seconds. ``kept_runs`` is how many finished runs the journal reaches back,
    ``kept_backups`` how many backups stay. A log that is ``compact_after`` segments longer than its newest
    snapshot is compacted, and each ``tidy_after`` segments, objects that nobody needs are looked for. Records
    with more than ``segment_bytes`` go into objects of their own, of ``part_bytes`` each.
    """

    def __init__(
        self,
        bucket: Bucket,
        sealer: Sealer,
        *,
        environment: str,
        cache: Path | None = None,
        new_id: NewId = new_id,
        unique_id: UniqueId = unique_id,
        clock: Clock = time.time,
        lease: float = LEASE,
        clock_margin: float = CLOCK_MARGIN,
        page_size: int = PAGE_SIZE,
        kept_runs: int = RUNS,
        kept_backups: int = BACKUPS,
        compact_after: int = SEGMENTS,
        tidy_after: int = TIDY_SEGMENTS,
        segment_bytes: int = SEGMENT_BYTES,
        part_bytes: int = PART_BYTES,
    ) -> None:
        super().__init__(self._reading_cache, damaged=self._cache_damaged, page_size=page_size)
        self._file = CacheFile(cache, environment=environment)
        self._log = Log(
            bucket, sealer, cache=self._file, environment=environment, unique_id=unique_id
        )
        self._options = WriterOptions(
            environment,
            new_id,
            clock=clock,
            lease=lease,
            kept_runs=kept_runs,
            kept_backups=kept_backups,
            limits=CompactionLimits(compact_after, tidy_after, part_bytes),
            segment_bytes=segment_bytes,
        )
        self._clock_margin = clock_margin
        self._guard = threading.RLock()
        self._is_synced = False
        self._is_tested = False
        self._writer: ObjectWriter | None = None
        self._own_locks: set[str] = set()
        """Ids of locks that we may have taken, without knowing it."""
        self._watched = (0, 0.0)
        """The last segment of a lock that somebody else holds, and since when we know of no later one."""

    # Reading

    def stamp(self) -> str | None:
        with self._guarded():
            self._sync()
            place, content = self._log.cache.place, self._log.cache.content
        return None if place.incarnation is None else f"{place.incarnation}:{content or ''}"

    def locked(self) -> Lock | None:
        with self._guarded():
            self._sync()
        return super().locked()

    def backups(self) -> Sequence[Backup]:
        with self._guarded():
            at = self._log.head()
        return [] if at is None else [kept.backup for kept in reversed(at.head.backups)]

    def restore_hint(self) -> Message:
        return RESTORE_HINT

    @contextmanager
    def _reading_cache(self) -> Iterator[sqlite3.Connection | None]:
        with self._guarded():
            if not self._is_synced:
                self._sync()
            cache = self._log.cache
            yield None if cache.place.incarnation is None else cache.db

    def _sync(self) -> None:
        """Nobody else can have written while the lock is ours."""
        if self._writer is None or self._writer.is_over:
            self._log.sync()
            self._is_synced = True

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """The cache is this thread's. Errors of SQLite become `ReconcileError`."""
        with self._guard:
            try:
                yield
            except sqlite3.Error:
                raise self._cache_damaged() from None

    def _cache_damaged(self) -> ReconcileError:
        with self._guard:
            self._is_synced = False
            self._log.discard_cache()
        return refusals.cache_damaged()

    # Writing

    @contextmanager
    def lock(
        self,
        holder: Holder,
        *,
        now: Clock | None = None,
        wait: float = 0.0,
        on_wait: OnWait | None = None,
        even_moved: bool = False,
    ) -> Iterator[Writer]:
        options = self._options._replace(clock=now or self._options.clock)
        lock_id = self._options.new_id()
        writer = acquired(
            lambda: self._take(holder, lock_id, options=options, even_moved=even_moved),
            wait=wait,
            on_wait=on_wait,
        )
        try:
            yield writer
        finally:
            writer.release()
            with self._guard:
                if self._writer is writer:
                    self._writer = None

    def unlock(self, lock_id: str) -> None:
        with self._guarded():
            for _ in range(_ATTEMPTS):
                self._log.sync(check=True)
                cache, held = self._log.cache, self._held()
                if held is None:
                    raise not_locked()
                if held.lock.id != lock_id:
                    raise other_lock(held.lock)
                if self._log.take(self._next(SegmentKind.UNLOCK), cache.place) is not None:
                    return
        raise refusals.unsteady()

    def close(self) -> None:
        with self._guard:
            self._file.close()
            self._is_synced = False

    # The lock

    def _take(
        self, holder: Holder, lock_id: str, *, options: WriterOptions, even_moved: bool
    ) -> ObjectWriter:
        with self._guarded():
            for _ in range(_ATTEMPTS):
                writer = self._try_to_take(holder, lock_id, options=options, even_moved=even_moved)
                if writer is not None:
                    self._writer = writer
                    self._is_synced = True
                    return writer
        raise refusals.unsteady()

    def _try_to_take(
        self, holder: Holder, lock_id: str, *, options: WriterOptions, even_moved: bool
    ) -> ObjectWriter | None:
        """A writer; ``None`` where another segment came between. Raises Locked, StateMoved."""
        log = self._log
        log.sync(check=True)
        if log.cache.place.incarnation is None:
            self._test()
            log.create_head()
            log.sync()
        log.refuse_gap()
        held = self._held()
        if held is not None and not self._is_abandoned(held, holder, clock=options.clock):
            raise Locked(held.lock)
        if not even_moved and (address := log.cache.moved) is not None:
            raise StateMoved(address)
        self._test()
        began = options.clock(), time.monotonic()
        lock = Lock(lock_id, holder, since=began[0], expires=began[0] + options.lease)
        segment = self._next(SegmentKind.LOCK)._replace(
            lock=HeldLock(lock, process_identity(holder.pid))
        )
        self._own_locks.add(lock_id)
        place = log.take(segment, log.cache.place)
        self._own_locks.discard(lock_id)
        if place is None:
            return None
        return ObjectWriter(
            log,
            options,
            token=segment.token,
            place=place,
            guarded=self._guarded,
            lease_from=began,
        )

    def _held(self) -> HeldLock | None:
        cache = self._log.cache
        return None if cache.place.incarnation is None else cache.held

    def _next(self, kind: SegmentKind) -> Segment:
        """The segment after the end of the cache, with a new token."""
        cache = self._log.cache
        place = cache.place
        return Segment(
            place.position + 1,
            place.chain,
            id=self._log.unique_id(),
            kind=kind,
            token=cache.token + 1,
        )

    def _is_abandoned(self, held: HeldLock, seeker: Holder, *, clock: Clock) -> bool:
        """Whether a lock may be taken over: its process on this host is dead, or it was silent for its lease.

        Our clock and that of the holder may differ, so that of the store judges. It is asked where the lease
        is over by ours, or where we looked on for as long.
        """
        lock, process = held
        if lock.id in self._own_locks:
            return True
        if is_abandoned(lock._replace(expires=float("inf")), process, seeker=seeker, now=0.0):
            return True
        silent = self._options.lease + self._clock_margin
        position, now = self._log.cache.place.position, time.monotonic()
        if self._watched[0] != position:
            self._watched = (position, now)
        if lock.expires > clock() and now - self._watched[1] < silent:
            return False
        return self._log.silent_seconds() >= silent

    def _test(self) -> None:
        """Raises StateRefused for a store that ignores conditions (C8)."""
        if not self._is_tested:
            self._log.bucket.self_test()
            self._is_tested = True
