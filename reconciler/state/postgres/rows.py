"""Rows → values. Pure."""

from __future__ import annotations

import json
from typing import Any

from reconciler.core.record_codec import decode_starter
from reconciler.core.records import JournalEntry, JournalKind, Record, Run
from reconciler.state.postgres.failures import damaged
from reconciler.state.store import UNREADABLE, Stored, checksum, decode_body

Row = tuple[Any, ...]
_KINDS = {kind.value: kind for kind in JournalKind}


def stored(row: Row, place: str) -> Stored:
    """A row of ``record``. Raises StateRefused where its checksum does not fit."""
    address, revision, body, sum_ = row
    if checksum(address, body) + revision != sum_:
        raise damaged(place)
    return Stored(revision, body)


def decoded(row: Row, place: str) -> Record:
    """The record of a row of ``record``. Raises StateRefused where it cannot be read."""
    whole = stored(row, place)
    try:
        return decode_body(whole.body, whole.revision)
    except UNREADABLE:
        raise damaged(place) from None


def journal_entry(row: Row, place: str) -> JournalEntry:
    """A row of ``journal``."""
    _, run, address, kind, at, action, request, detail = row
    if kind not in _KINDS:
        raise damaged(place)
    return JournalEntry(
        run,
        address,
        kind=_KINDS[kind],
        at=at,
        action=action,
        request=request,
        detail=detail,
    )


def finished_run(row: Row, place: str) -> Run:
    """A row of ``history``."""
    _, run, started, finished, digest, outcomes, starter_text = row
    try:
        starter = decode_starter(starter_text)
        counts = {str(key): int(value) for key, value in json.loads(outcomes).items()}
    except (ValueError, TypeError, AttributeError):
        raise damaged(place) from None
    return Run(run, started, finished=finished, digest=digest, outcomes=counts, starter=starter)


def storable(text: str) -> str:
    """A text of the journal as a column can hold it: NUL and halves of characters have no place there. An
    outcome must not be lost for a strange character in its detail."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
