"""Segments, heads and snapshots come from a bucket: whatever lies there, it is read as it was written, or
refused in words."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.records import Header, JournalEntry, JournalKind, Run
from reconciler.errors import StateRefused
from reconciler.state.objects.segments import (
    Effects,
    HeldLock,
    Part,
    RecordAt,
    Segment,
    SegmentKind,
    decode_segment,
    encode_segment,
)
from reconciler.state.store import Lock
from tests.support.clock import ManualClock
from tests.support.memory_bucket import Objects, memory_store
from tests.support.states import JANE, US, ZOE, entry

EFFECTS = Effects(
    header=Header("lineage", 7, environment="test", application=None),
    all_removed=True,
    removed=("a", "é"),
    revision=9,
    put=(
        RecordAt("qa-zoë", 3, body='{"a":"\\u0000"}', known=b"\0" * 16),
        RecordAt("b", 4, body="{}", known=None),
    ),
    parts=(Part("i/body/x/00000", "0" * 64, size=12),),
    journal=(JournalEntry("run", "a", kind=JournalKind.APPLIED, at=1.5, detail="id 7"),),
    run=Run("run", 1.0, 2.5, "sha256:0", {"applied": 3}),
    journal_from="run-1",
    moved=(None,),
)


def test_a_segment_comes_back_as_it_was_written() -> None:
    lock = HeldLock(Lock("id-1", US, since=1.5, expires=61.5), process=None)
    for segment in (
        Segment(1, "", id="x", kind=SegmentKind.LOCK, token=1, expires=None, lock=lock),
        Segment(2, "0" * 64, id="y", kind=SegmentKind.WRITE, token=1, expires=2.5, effects=EFFECTS),
        Segment(3, "0" * 64, id="z", kind=SegmentKind.UNLOCK, token=2),
    ):
        assert decode_segment(encode_segment(segment)) == segment


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


def _changed(value: Any, draw: st.DrawFn) -> Any:
    """A JSON value with another one in one place of it."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value)))
        return value | {name: _changed(value[name], draw)}
    if isinstance(value, list) and value and draw(st.booleans()):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], _changed(value[place], draw), *value[place + 1 :]]
    return draw(JSON)


def _written() -> Objects:
    objects = Objects(ManualClock(1_700_000_000.0))
    store = memory_store(objects, compact_after=1, segment_bytes=10)
    with store.lock(US) as writer:
        writer.write(put=[JANE, ZOE], journal=[entry("r")])
        writer.finish(Run("r", 1.0, 2.0, "sha256:0", {"applied": 1}))
        writer.backup()
    with store.lock(US) as writer:
        writer.write(put=[JANE._replace(protect=True)], remove=["qa-zoe"])
        writer.mark_moved(None)
    return objects


WRITTEN = _written()


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_whatever_lies_in_the_bucket_is_read_or_refused_in_words(data: st.DataObject) -> None:
    objects = Objects(WRITTEN.clock)
    objects.blobs = dict(WRITTEN.blobs)
    name = data.draw(st.sampled_from(sorted(objects.blobs)))
    content = [json.loads(line) for line in objects.blobs[name].data.split(b"\n")]
    changed = [_changed(value, data.draw) for value in content]
    objects.put(name, b"\n".join(json.dumps(value).encode() for value in changed))
    for options in ({}, {"compact_after": 1}):
        store = memory_store(objects, **options)
        with suppress(StateRefused):
            list(store.records()), list(store.journal()), list(store.runs())
            for backup in store.backups():
                assert backup.id
        with suppress(StateRefused), store.lock(US, even_moved=True) as writer:
            writer.write(put=[ZOE])
            for backup in store.backups():
                writer.restore(backup.id)
        store.close()
