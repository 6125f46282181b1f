"""The log of a state: one chain of numbered segments, read into a cache and continued by create-if-absent.

These rules hold (``docs/decisions/`` says why, "object-log"); the code names them:

- O1: a segment is created only by somebody who knows the one before it, and only if its position is free.
- O2: a writer's next position is its own last one plus one, never that of the cache.
- O3: each taking of the lock, and each unlock, is a segment, and raises the token. So what stands at the next
  position of a writer who was overtaken is a *fence*.
- O4: fences are never deleted.
- O5: the `first` of the head only rises, and segments below it are deleted only after the head says so. Two
  snapshots are kept, so readers of the head before come to an end.
- O6: a missing segment is the end of the log only if a head that is read after it says that it was not
  deleted.
- O7: a segment that takes the lock away counts only if a head that is read after its creation says that its
  position was not deleted before. Else the name was free for a second time.
- O8: a segment with a token that is not current changes nothing.
- O9: every object holds a random id, so our own is known when it is read.
- O10: the snapshot at a position is the replay up to it, made by a writer at its own confirmed position.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

from reconciler.errors import StateRefused
from reconciler.state.objects import refusals
from reconciler.state.objects.cache import Cache, DoesNotFollow, LogPlace
from reconciler.state.objects.cache_file import CacheFile
from reconciler.state.objects.head import StateHead, decode_head, encode_head
from reconciler.state.objects.names import (
    HEAD,
    SEGMENTS,
    position_of,
    segment_name,
    segments_prefix,
)
from reconciler.state.objects.parts import PartGone, read_parts
from reconciler.state.objects.protocol import Blob, Bucket, Created, Sealer
from reconciler.state.objects.segments import (
    NewerFormat,
    Part,
    RecordAt,
    Segment,
    decode_segment,
    encode_segment,
    record_of,
)
from reconciler.state.objects.snapshots import load_snapshot
from reconciler.state.store import StateUnreachable

_ROUNDS = 20
"""How often reading begins anew because the log was compacted meanwhile."""
_MOST_AT_ONCE = 16
"""Segments that are read at once."""

UniqueId = Callable[[], str]


def unique_id() -> str:
    """A random id for an object, which no other object has."""
    return os.urandom(16).hex()


class SealedSegment(NamedTuple):
    """A segment as it is, or will be, in the bucket."""

    segment: Segment
    name: str
    data: bytes

    @property
    def chain(self) -> str:
        return sha256(self.data).hexdigest()

    def place_after(self, place: LogPlace) -> LogPlace:
        """How far the log was read with this segment, if it was read to a place before."""
        return LogPlace(
            place.incarnation,
            self.segment.position,
            chain=self.chain,
            bytes=place.bytes + len(self.data),
        )


class HeadAt(NamedTuple):
    """A head as it was read, and the tag that its replacement needs."""

    head: StateHead
    tag: str


class Log:
    """The log of one state, and the cache of what it says. The caller sees to it that one thread at a time
    uses it."""

    def __init__(
        self,
        bucket: Bucket,
        sealer: Sealer,
        *,
        cache: CacheFile,
        environment: str,
        unique_id: UniqueId = unique_id,
    ) -> None:
        self.bucket = bucket
        self.sealer = sealer
        self._file = cache
        self._environment = environment
        self.unique_id = unique_id
        self._is_checked = False
        """Whether the end of the cache was compared with the bucket."""
        self._written = (0, 0.0)
        """A position, and when its segment was written by the clock of the store."""

    @property
    def cache(self) -> Cache:
        return self._file.open()

    def discard_cache(self) -> None:
        """Throw away a cache that is in doubt."""
        self._file.discard()

    # The head

    def head(self) -> HeadAt | None:
        """The head; ``None`` where there is no state. Raises StateRefused for one that is not ours."""
        blob = self.bucket.get(HEAD)
        if blob is None:
            return None
        try:
            head = decode_head(self.sealer.open(HEAD, blob.data))
        except NewerFormat:
            raise refusals.newer_format() from None
        except ValueError:
            raise refusals.unreadable("the head") from None
        if head.environment != self._environment:
            raise refusals.other_environment(head.environment, self._environment)
        return HeadAt(head, blob.tag)

    def replace_head(self, head: StateHead, *, tag: str | None) -> bool:
        """Put another head in place; whether it was still the one with this tag. Raises CommitUnknown."""
        data = self.sealer.seal(HEAD, encode_head(head, self.unique_id()))
        return self.bucket.replace(HEAD, data, tag=tag) is not None

    def create_head(self) -> None:
        """Begin the state if there is none. Raises StateRefused where objects of one are there."""
        if self.head() is not None:
            return
        is_left_over = any(SEGMENTS in name for name in self.bucket.list(""))
        if is_left_over and self.head() is None:
            raise refusals.no_head()
        self.replace_head(StateHead(self._environment, self.unique_id()), tag=None)

    # Reading

    def sync(self, *, check: bool = False) -> None:
        """Bring the cache to the end of the log as it was at some instant after the call began.

        ``check``: see that the bucket still has what the cache ends with, as is done at the first call.
        Raises StateRefused where it has not, and where the log is damaged.
        """
        is_at_end = (check or not self._is_checked) and self._check_end()
        if self.cache.place.incarnation is None:
            at = self.head()
            if at is None:
                return
            self._start_from(at.head)
        self._read_to_the_end(is_at_end)
        self._is_checked = True

    def _read_to_the_end(self, is_at_end: bool) -> None:
        """``is_at_end``: the next segment was not there a moment ago."""
        existing = 0
        """A position that exists, or has."""
        for _ in range(_ROUNDS):
            existed_before = existing
            if not is_at_end:
                existing = max(existing, self._replay(existing))
            is_at_end = False
            at, place = self.head(), self.cache.place
            if at is None:
                self.cache.clear()
                return
            head = at.head
            if head.incarnation != place.incarnation or place.position + 1 < head.first:  # O6
                self._start_from(head)
                existing = 0
            elif place.position < existed_before:
                # The next one was not deleted by us, and yet is gone. A snapshot may be beyond it.
                if head.newest <= place.position:
                    raise refusals.gap(place.position + 1)
                self._start_from(head)
            else:
                existing = max(existing, head.newest)
                if place.position >= existing:
                    return
        raise refusals.unsteady()

    def _check_end(self) -> bool:
        """Raises StateRefused where the bucket lacks the segment that the cache ends with. Returns whether
        there is no next one; if there is, it is applied on the way."""
        place = self.cache.place
        if place.incarnation is None or place.position == 0:
            return False
        names = [segment_name(place.incarnation, place.position + step) for step in (0, 1)]
        last, following = self.bucket.get_many(names)
        if last is None:
            at = self.head()
            if at is None or at.head.incarnation != place.incarnation:
                return True  # another state, or none: the cache begins anew
            chains = {each.position: each.chain for each in at.head.snapshots}
            is_replaced = place.position < at.head.first
            if not is_replaced or chains.get(place.position, place.chain) != place.chain:
                raise self._rolled_back()
        elif _chain(last) != place.chain:
            raise self._rolled_back()
        else:
            self._written = (place.position, last.modified)
        if following is not None:
            self._apply([following], names[1:])
        return following is None

    def _rolled_back(self) -> StateRefused:
        path = self._file.path
        return refusals.rolled_back(None if path is None else str(path))

    def _start_from(self, head: StateHead) -> None:
        """Makes the cache the newest snapshot that can be read, or the state before the first segment."""
        for snapshot in reversed(head.snapshots):
            try:
                load_snapshot(
                    self.bucket, self.sealer, manifest=snapshot.manifest, cache=self.cache
                )
            except NewerFormat:
                raise refusals.newer_format() from None
            except (PartGone, ValueError):
                continue
            if self.cache.place[:3] == (head.incarnation, snapshot.position, snapshot.chain):
                return
        if not head.snapshots and head.first == 1:
            self.cache.clear(head.incarnation)
            return
        # Two compactions may have come between: then there is another head by now.
        at = self.head()
        if at is not None and at.head == head:
            raise refusals.no_snapshot()
        self.cache.clear(head.incarnation)

    def _replay(self, existing: int) -> int:
        """Applies segments until one is missing; returns the position of a later one that exists."""
        # Most have a cache that is up to date. With none, many segments are to be expected.
        width = 1 if self._is_checked and not existing else _MOST_AT_ONCE
        while True:
            place = self.cache.place
            assert place.incarnation is not None
            positions = range(place.position + 1, place.position + 1 + width)
            names = [segment_name(place.incarnation, position) for position in positions]
            blobs = self.bucket.get_many(names) if width > 1 else [self.bucket.get(names[0])]
            present = [blob is not None for blob in blobs]
            end = present.index(False) if False in present else width
            self._apply([blob for blob in blobs[:end] if blob is not None], names)
            if end < width:
                later = [n for n, is_there in zip(positions, present, strict=True) if is_there]
                return max(existing, *later[end:]) if later[end:] else existing
            width = min(4 * width, _MOST_AT_ONCE)

    def _apply(self, blobs: Sequence[Blob], names: Sequence[str]) -> None:
        if not blobs:
            return
        with self.cache.transaction():
            for blob, name in zip(blobs, names, strict=False):
                position = position_of(name) or 0
                self._apply_one(blob, name, position=position)
        self._written = (position, blobs[-1].modified)

    def _apply_one(self, blob: Blob, name: str, *, position: int) -> None:
        try:
            segment = decode_segment(self.sealer.open(name, blob.data))
            if segment.position != position:
                raise DoesNotFollow
            self.cache.apply(segment, _chain(blob), size=len(blob.data), read=self._read_parts)
        except NewerFormat:
            raise refusals.newer_format() from None
        except (ValueError, PartGone, DoesNotFollow, OverflowError):
            raise refusals.unreadable(f"segment {position}") from None
        except sqlite3.IntegrityError:
            raise refusals.unreadable(f"segment {position}") from None

    def _read_parts(self, parts: Sequence[Part]) -> Iterator[RecordAt]:
        return map(record_of, read_parts(self.bucket, self.sealer, parts=parts))

    # Writing

    def sealed(self, segment: Segment, incarnation: str) -> SealedSegment:
        """A segment as it will be in the bucket. Raises ValueError for what JSON cannot hold."""
        name = segment_name(incarnation, segment.position)
        return SealedSegment(segment, name, self.sealer.seal(name, encode_segment(segment)))

    def create(self, sealed: SealedSegment) -> bool:
        """Continue the log with a segment (O1); whether its position was free. The cache has it as well then.

        Raises CommitUnknown; and where nothing was written, StateUnreachable, and what `Cache.apply` raises.
        The cache comes first and is committed last: what no reader could apply must not get into the log.
        """
        cache = self.cache
        with cache.undone_unless_kept() as keep:
            cache.apply(sealed.segment, sealed.chain, size=len(sealed.data), read=self._read_parts)
            if self.bucket.create(sealed.name, sealed.data) is Created.CONFLICT:
                return False
            try:
                keep()
            except sqlite3.Error:
                self.discard_cache()
        return True

    def take(self, segment: Segment, place: LogPlace) -> LogPlace | None:
        """Continue the log with a segment that takes the lock, or takes it away; returns its place. ``None``
        if it does not count: somebody else continued the log, and the cache has to be brought to its end."""
        assert place.incarnation is not None
        sealed = self.sealed(segment, place.incarnation)
        if not self.create(sealed):
            return None
        at = self.head()
        is_same = at is not None and at.head.incarnation == place.incarnation
        if at is None or not is_same or segment.position < at.head.first:
            self.cache.clear()  # O7
            return None
        return sealed.place_after(place)

    def refuse_gap(self) -> None:
        """Raises StateRefused where segments exist after the end of the log, which is therefore none. One
        listing; where listing is not allowed, nothing is known."""
        place = self.cache.place
        assert place.incarnation is not None
        try:
            names = self.bucket.list(segments_prefix(place.incarnation))
        except StateUnreachable:
            return
        last = max((position_of(name) or 0 for name in names), default=0)
        if last > place.position:
            self.sync()
            if (
                self.cache.place.incarnation == place.incarnation
                and self.cache.place.position < last
            ):
                raise refusals.gap(self.cache.place.position + 1)

    def silent_seconds(self) -> float:
        """How long the last segment has been there, by the clock of the store."""
        place = self.cache.place
        position, written = self._written
        if position != place.position:
            assert place.incarnation is not None
            blob = self.bucket.get(segment_name(place.incarnation, place.position))
            if blob is None:
                return 0.0
            written = blob.modified
            self._written = (place.position, written)
        return self.bucket.store_time() - written


def _chain(blob: Blob) -> str:
    return sha256(blob.data).hexdigest()
