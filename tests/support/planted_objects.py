"""Programs without one of the rules of the log of objects (`reconciler.state.objects.log`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from unittest.mock import patch

from reconciler.state.objects import writer
from reconciler.state.objects.cache import Cache, LogPlace
from reconciler.state.objects.compaction import CompactionLimits, remove_litter
from reconciler.state.objects.log import Log
from reconciler.state.objects.segments import Segment
from reconciler.state.objects.writer import ObjectWriter


def _place_of_the_cache() -> AbstractContextManager[object]:
    def adopts(self: ObjectWriter) -> None:
        self._place = self._log.cache.place

    return patch.object(ObjectWriter, "_compare_places", adopts)


def _no_fences() -> AbstractContextManager[object]:
    return patch.object(Cache, "fences", lambda self: [])


def _no_head_after_the_end() -> AbstractContextManager[object]:
    def reads(self: Log, is_at_end: bool) -> None:
        self._replay(0)

    return patch.object(Log, "_read_to_the_end", reads)


def _no_head_after_the_lock() -> AbstractContextManager[object]:
    def takes(self: Log, segment: Segment, place: LogPlace) -> LogPlace | None:
        assert place.incarnation is not None
        sealed = self.sealed(segment, place.incarnation)
        return sealed.place_after(place) if self.create(sealed) else None

    return patch.object(Log, "take", takes)


def _no_proof_before_tidying() -> AbstractContextManager[object]:
    def removes(log: Log, limits: CompactionLimits, *, renew: Callable[[], None]) -> int:
        return remove_litter(log, limits, renew=lambda: None)

    return patch.object(writer, "remove_litter", removes)


PLANTED: Mapping[str, Callable[[], AbstractContextManager[object]]] = {
    "O2": _place_of_the_cache,
    "O4": _no_fences,
    "O6": _no_head_after_the_end,
    "O7": _no_head_after_the_lock,
    "tidying": _no_proof_before_tidying,
}
"""By the rule that is broken."""
