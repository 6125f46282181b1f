"""Segments: the entries of the log, and their JSON. Pure.

A segment holds *effects*: rows as they are from then on. To replay it, nothing is decided or computed, so
each reader gets the same state.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from reconciler.core.record_codec import decode_starter, encode_starter
from reconciler.core.records import Header, JournalEntry, JournalKind, Run
from reconciler.jsontext import packed, unpacked
from reconciler.state.objects.names import is_name
from reconciler.state.store import Holder, Lock
from reconciler.values import canonical

FORMAT = 1
"""The format of head, segments and snapshots. Newer ones are refused."""


class NewerFormat(Exception):
    """Something was written by a newer version of this program."""


class SegmentKind(StrEnum):
    """What a segment is for. The lock lives in the log: there is no other object for it."""

    LOCK = "lock"
    WRITE = "write"
    RENEW = "renew"
    RELEASE = "release"
    UNLOCK = "unlock"


TAKES_LOCK = (SegmentKind.LOCK, SegmentKind.UNLOCK)
"""The kinds that raise the token."""


class HeldLock(NamedTuple):
    """A lock, and the `process_identity` that its holder had when it took it."""

    lock: Lock
    process: str | None


class RecordAt(NamedTuple):
    """A record as it is kept, with its address."""

    address: str
    revision: int
    body: str
    known: bytes | None


class Part(NamedTuple):
    """An object that holds rows, one in a line."""

    name: str
    sha256: str
    """Of its content as it lies in the bucket, in hexadecimal digits."""
    size: int
    """In bytes, as it lies there."""


class Effects(NamedTuple):
    """What a write changes, in this order."""

    header: Header | None = None
    """The header from then on; ``None``: as before."""
    all_removed: bool = False
    """All records go before others come."""
    removed: Sequence[str] = ()
    revision: int | None = None
    """The revision of all records from then on."""
    put: Sequence[RecordAt] = ()
    parts: Sequence[Part] = ()
    """More records to put, in objects of their own."""
    journal: Sequence[JournalEntry] = ()
    run: Run | None = None
    """A line of the history."""
    journal_from: str | None = None
    """The journal begins with the first entry of this run from then on."""
    moved: tuple[str | None] | None = None
    """The address to which the state was moved from then on; ``None``: as before."""

    @property
    def change_records(self) -> bool:
        return bool(
            self.all_removed or self.removed or self.put or self.parts or self.revision is not None
        )


class Segment(NamedTuple):
    """An entry of the log."""

    position: int
    """Its place, from 1."""
    previous: str
    """The SHA-256 of the segment before it, as it lies in the bucket; empty for the first one."""
    id: str
    """Random, so that no other segment has this content."""
    kind: SegmentKind
    token: int
    """The fencing token of its writer; a lock or an unlock brings a new one."""
    expires: float | None = None
    """When the lease of the lock ends, in Unix seconds by the clock of its holder."""
    lock: HeldLock | None = None
    """The lock that is taken."""
    effects: Effects = Effects()


def encode_segment(segment: Segment) -> bytes:
    """A segment as JSON. Raises ValueError for what JSON cannot hold."""
    data: dict[str, Any] = {
        "format": FORMAT,
        "n": segment.position,
        "prev": segment.previous,
        "id": segment.id,
        "kind": segment.kind.value,
        "token": segment.token,
    }
    if segment.expires is not None:
        data["expires"] = segment.expires
    if segment.lock is not None:
        data["lock"] = lock_fields(segment.lock)
    data |= _effect_members(segment.effects)
    return packed(data).encode("utf-8", "surrogatepass")


def _effect_members(effects: Effects) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if effects.header is not None:
        members["header"] = list(effects.header)
    if effects.all_removed:
        members["all"] = True
    if effects.removed:
        members["remove"] = list(effects.removed)
    if effects.revision is not None:
        members["revision"] = effects.revision
    if effects.put:
        members["put"] = [record_fields(record) for record in effects.put]
    if effects.parts:
        members["parts"] = [list(part) for part in effects.parts]
    if effects.journal:
        members["journal"] = [journal_fields(entry) for entry in effects.journal]
    if effects.run is not None:
        members["run"] = run_fields(effects.run)
    if effects.journal_from is not None:
        members["journal_from"] = effects.journal_from
    if effects.moved is not None:
        members["moved"] = list(effects.moved)
    return members


def decode_segment(data: bytes) -> Segment:
    """The reverse of `encode_segment`. Raises NewerFormat, or ValueError for what is none."""
    members = members_of(data)
    try:
        lock = members.get("lock")
        return Segment(
            _whole(members["n"]),
            _text(members["prev"]),
            id=_text(members["id"]),
            kind=SegmentKind(members["kind"]),
            token=_whole(members["token"]),
            expires=_number_or_none(members.get("expires")),
            lock=None if lock is None else lock_of(lock),
            effects=_effects(members),
        )
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError("no segment") from problem


def _effects(members: Mapping[str, Any]) -> Effects:
    header, revision = members.get("header"), members.get("revision")
    run, moved = members.get("run"), members.get("moved")
    return Effects(
        header=None if header is None else header_of(header),
        all_removed=bool(members.get("all")),
        removed=tuple(_text(address) for address in members.get("remove", ())),
        revision=None if revision is None else _whole(revision),
        put=tuple(record_of(row) for row in members.get("put", ())),
        parts=parts_of(members.get("parts", ())),
        journal=tuple(journal_entry_of(row) for row in members.get("journal", ())),
        run=None if run is None else run_of(run),
        journal_from=_text_or_none(members.get("journal_from")),
        moved=None if moved is None else (_text_or_none(moved[0]),),
    )


# --- rows and their fields -----------------------------------------------------------------------


def members_of(data: bytes) -> dict[str, Any]:
    """The members of a JSON object of ours. Raises NewerFormat, or ValueError for what is none."""
    members = unpacked(data)
    if not isinstance(members, dict):
        raise ValueError("no object")
    if _whole(members.get("format")) > FORMAT:
        raise NewerFormat
    return members


def header_of(row: Any) -> Header:
    lineage, serial, environment, application = row
    return Header(
        _text_or_none(lineage),
        _whole(serial),
        environment=_text_or_none(environment),
        application=_text_or_none(application),
    )


def lock_fields(held: HeldLock) -> list[Any]:
    lock, process = held
    return [lock.id, *lock.holder, lock.since, lock.expires, process]


def lock_of(row: Any) -> HeldLock:
    """Raises ValueError or TypeError, as all functions of this kind."""
    lock_id, user, host, pid, command, ci, since, expires, process = row
    holder = Holder(
        _text(user), _text(host), pid=_whole(pid), command=_text(command), ci=_text_or_none(ci)
    )
    lock = Lock(_text(lock_id), holder, since=_number(since), expires=_number(expires))
    return HeldLock(lock, _text_or_none(process))


def record_fields(record: RecordAt) -> list[Any]:
    known = None if record.known is None else b2a_base64(record.known, newline=False).decode()
    return [record.address, record.revision, record.body, known]


def record_of(row: Any) -> RecordAt:
    address, revision, body, known = row
    digest = None if known is None else a2b_base64(known)
    return RecordAt(_text(address), _whole(revision), body=_text(body), known=digest)


def journal_fields(entry: JournalEntry) -> list[Any]:
    kind = entry.kind.value
    return [entry.run, entry.address, kind, entry.at, entry.action, entry.request, entry.detail]


def journal_entry_of(row: Any) -> JournalEntry:
    run, address, kind, at, action, request, detail = row
    return JournalEntry(
        _text(run),
        _text(address),
        kind=JournalKind(kind),
        at=_number(at),
        action=_text(action),
        request=_text(request),
        detail=_text(detail),
    )


def run_fields(run: Run) -> list[Any]:
    outcomes, starter = canonical(dict(run.outcomes)), encode_starter(run.starter)
    return [run.run, run.started, run.finished, run.digest, outcomes, starter]


def run_of(row: Any) -> Run:
    run, started, finished, digest, outcomes, starter = row
    counts = {str(name): _whole(count) for name, count in unpacked(_text(outcomes)).items()}
    return Run(
        _text(run),
        _number(started),
        finished=_number(finished),
        digest=_text(digest),
        outcomes=counts,
        starter=decode_starter(_text(starter)),
    )


def parts_of(rows: Iterable[Any]) -> tuple[Part, ...]:
    return tuple(
        Part(name_of(name), _text(sha256), size=_whole(size)) for name, sha256, size in rows
    )


def name_of(value: Any) -> str:
    name = _text(value)
    if not is_name(name):
        raise ValueError("no name of an object")
    return name


def _text(value: Any) -> str:
    if value.__class__ is not str:
        raise ValueError("no text")
    return str(value)


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _whole(value: Any) -> int:
    if value.__class__ is not int:
        raise ValueError("no whole number")
    return int(value)


def _number(value: Any) -> float:
    if value.__class__ not in (int, float):
        raise ValueError("no number")
    return value


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)
