"""Records and exports as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.record_codec import (
    EXPORT_FORMAT_VERSION,
    decode_export,
    decode_record,
    encode_export,
    encode_record,
)
from reconciler.core.records import Export, Fact, Header, Known, Origin, Presence, Record
from reconciler.errors import Source, StateRefused

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = TEXTS | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.none() | st.floats(0, 2e9)
FACTS = SCALARS.map(Fact.of) | st.builds(
    Fact,
    st.sampled_from(Known),
    value=st.none() | SCALARS,
    attempt=st.none() | SCALARS,
    observed=st.booleans(),
)
RECORDS = st.builds(
    Record,
    TEXTS,
    customer_user_id=st.none() | TEXTS,
    profile_id=st.none() | TEXTS,
    presence=st.sampled_from(Presence),
    facts=st.dictionaries(TEXTS, FACTS, max_size=3),
    forgotten=st.frozensets(TEXTS, max_size=2),
    unmanaged=st.lists(TEXTS, max_size=2).map(tuple),
    protect=st.booleans(),
    labels=st.lists(TEXTS, max_size=2).map(tuple),
    platform=st.none() | TEXTS,
    source=st.none() | st.builds(Source, TEXTS, st.integers(0, 9), column=st.just(0)),
    unknown_at=TIMES,
    unknown_write=st.dictionaries(TEXTS, st.none() | SCALARS, max_size=2),
    seen=st.dictionaries(TEXTS, SCALARS, max_size=2),
    origin=st.sampled_from(Origin),
    created_at=TIMES,
    lifetime=st.none() | TEXTS,
    deleting=st.booleans(),
    linking=st.booleans(),
    timestamp=st.none() | st.integers(),
    revision=st.integers(0),
)


@given(RECORDS)
def test_a_record_reads_back_as_it_was(record: Record) -> None:
    again = decode_record(json.loads(json.dumps(encode_record(record))))
    assert again == record
    assert [type(fact.value) for fact in again.facts.values()] == [
        type(fact.value) for _, fact in sorted(record.facts.items())
    ]


def test_members_that_say_nothing_are_left_out() -> None:
    assert encode_record(Record("jane")) == {
        "address": "jane",
        "presence": "present",
        "facts": {},
        "revision": 0,
    }


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"address": "jane"},
        {"address": 5, "facts": {}},
        {"address": "jane", "facts": []},
        {"address": "jane", "facts": {"email": {}}},
        {"address": "jane", "facts": {"email": {"known": "guessed"}}},
        {"address": "jane", "facts": {}, "presence": "hidden"},
        {"address": "jane", "facts": {}, "labels": "qa"},
        {"address": "jane", "facts": {}, "unknown_write": {"email": []}},
        {"address": "jane", "facts": {}, "timestamp": "today"},
    ],
)
def test_what_is_no_record_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(StateRefused):
        decode_record(data)


def test_an_export_keeps_format_1() -> None:
    """It holds nothing but headers and records, so it does not change with the format of state files."""
    assert EXPORT_FORMAT_VERSION == 1
    assert encode_export(Export(Header(), ()))["format_version"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "format 2"),
        ({"format_version": True}, "format"),
        ({"format_version": "1"}, "format"),
        ({"profiles": None}, "lacks"),
        ({"serial": "1"}, "lacks"),
        ({"profiles": [1]}, "not a record"),
        ({"profiles": [encode_record(Record("jane"))] * 2}, "twice"),
    ],
)
def test_what_is_no_export_is_refused(changes: dict[str, Any], words: str) -> None:
    data = encode_export(Export(Header("l", 1, environment="test"), (Record("jane"),))) | changes
    with pytest.raises(StateRefused, match=words):
        decode_export(data)


@pytest.mark.parametrize("data", [None, [], "x", {"serial": 1}])
def test_other_json_is_no_export(data: Any) -> None:
    with pytest.raises(StateRefused, match="not a state export"):
        decode_export(data)
