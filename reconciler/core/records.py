"""What the state knows: records, facts, the journal, and how a record moves. Pure.

The remote returns almost nothing of what it is sent (adapty-api 5.3), so a record is the only memory
of most fields. A *fact* is what we last knew of one field; a *record* is all of that for one profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import NamedTuple

from reconciler.errors import Source, StateRefused
from reconciler.values import FieldPath, Json, Scalar, canonical

FORMAT_VERSION = 1
"""Version of the state format, in the store and in exports. Newer ones are refused."""


class Known(StrEnum):
    """What a fact says of its field. No fact at all: never known, not managed."""

    VALUE = "value"
    CLEARED = "cleared"
    UNCERTAIN = "uncertain"
    UNKNOWN = "unknown"
    """Was managed, but the profile turned out to be another one: the value is lost."""


class Fact(NamedTuple):
    """What we last knew of one field.

    ``value`` is the value for ``VALUE``; for ``UNCERTAIN`` it is the last value known before the write
    whose outcome is unknown (``None``: cleared or never known), and ``attempt`` what that write asked
    for (``None``: to clear). ``observed`` says that the API returned it, rather than accepted it.
    """

    known: Known
    value: Scalar | None = None
    attempt: Scalar | None = None
    observed: bool = False

    @classmethod
    def of(cls, value: Scalar | None, *, observed: bool = False) -> Fact:
        """The fact of a settled write or an observation; ``None`` is known to be cleared."""
        known = Known.CLEARED if value is None else Known.VALUE
        return cls(known, value=value, observed=observed)


class Presence(StrEnum):
    """Whether the profile exists at the remote, as far as we know."""

    PRESENT = "present"
    UNCONFIRMED = "unconfirmed"
    """A create was attempted and its outcome is unknown."""
    GONE = "gone"
    """The API said that it does not exist."""


class Record(NamedTuple):
    """All that we know of one profile. ``revision`` rises whenever the content changes."""

    address: str
    customer_user_id: str | None = None
    profile_id: str | None = None
    presence: Presence = Presence.PRESENT
    facts: Mapping[FieldPath, Fact] = {}
    forgotten: frozenset[FieldPath] = frozenset()
    unmanaged: tuple[str, ...] = ()
    """Keys of custom attributes last seen at the remote that nobody declared, sorted; never values."""
    protect: bool = False
    labels: tuple[str, ...] = ()
    platform: str | None = None
    source: Source | None = None
    """Where it was last declared."""
    unknown_at: float | None = None
    """Unix time of the latest write whose outcome was unknown; kept after a retry succeeded, because
    that write may still land."""
    unknown_write: Mapping[FieldPath, Scalar | None] = {}
    """What that write asked for, so that repeating it need not wait out the quiet period."""
    created_at: float | None = None
    """Unix time at which this tool created it; ``None`` if it was there before, or may have been."""
    lifetime: str | None = None
    """Until when it may live, as it was last declared: see `reconciler.core.lifetimes.expiry`."""
    deleting: bool = False
    """A delete was attempted and its outcome is unknown."""
    linking: bool = False
    """A link was attempted and its outcome is unknown: it is looked up before it is sent again."""
    timestamp: int | None = None
    """Of the newest answer about it, in milliseconds; only orders answers (adapty-api 6.4)."""
    revision: int = 0

    @property
    def exists(self) -> bool:
        """Whether the profile exists as far as we know; not so while a delete may have taken effect."""
        return self.presence is Presence.PRESENT and not self.deleting


class Header(NamedTuple):
    """The state as a whole. ``lineage`` is ``None`` and ``serial`` 0 until the first write."""

    lineage: str | None = None
    serial: int = 0
    environment: str | None = None
    application: str | None = None
    """``app_id`` learned from the first answer (adapty-api 5.1)."""


class JournalKind(StrEnum):
    """What an entry of the journal says. All but `INTENT` and `RECOVERED` are outcomes of a change, named
    as `reconciler.core.outcomes.Outcome` names them."""

    INTENT = "intent"
    """A request is about to leave. Durable before it does."""
    APPLIED = "applied"
    ALREADY = "already"
    """The profile already was as the change wants it."""
    FAILED = "failed"
    STALE = "stale"
    """The record changed since the plan was made, so nothing was sent."""
    UNCERTAIN = "uncertain"
    """Whether the request took effect is unknown."""
    SKIPPED = "skipped"
    RECOVERED = "recovered"
    """An earlier run was cut off while this profile was under way."""


class JournalEntry(NamedTuple):
    """One line of the journal: an intent, durable before its request, or an outcome after it."""

    run: str
    address: str
    kind: JournalKind
    at: float
    """Unix time in seconds."""
    action: str = ""
    request: str = ""
    """Digest of the request; never its content."""
    detail: str = ""
    """Reason and the API's ``Request-Id``; never a value of the profile."""


class Run(NamedTuple):
    """One line of the history of applies."""

    run: str
    started: float
    finished: float
    digest: str
    outcomes: Mapping[str, int]


class Export(NamedTuple):
    """The whole state as one value: what ``state pull`` prints and ``state push`` takes."""

    header: Header
    records: tuple[Record, ...]


def differs(a: Record | None, b: Record) -> bool:
    """Whether two records of a profile say different things: revisions aside, and times of answers,
    which differ every time."""
    return a is None or a._replace(revision=b.revision, timestamp=b.timestamp) != b


# --- as JSON -------------------------------------------------------------------------------------


def encode_fact(fact: Fact) -> dict[str, Json]:
    data: dict[str, Json] = {"known": fact.known.value}
    if fact.value is not None:
        data["value"] = fact.value
    if fact.attempt is not None:
        data["attempt"] = fact.attempt
    if fact.observed:
        data["observed"] = True
    return data


def encode_record(record: Record) -> dict[str, Json]:
    """A record as JSON: schema ``state.schema.json``, ``$defs/record``. Members that say nothing are
    left out."""
    source = record.source
    data: dict[str, Json] = {
        "address": record.address,
        "customer_user_id": record.customer_user_id,
        "profile_id": record.profile_id,
        "presence": record.presence.value,
        "facts": {path: encode_fact(fact) for path, fact in sorted(record.facts.items())},
        "forgotten": sorted(record.forgotten),
        "unmanaged": list(record.unmanaged),
        "protect": record.protect,
        "labels": list(record.labels),
        "platform": record.platform,
        "source": {"file": source.file, "line": source.line} if source else None,
        "unknown_at": record.unknown_at,
        "unknown_write": dict(sorted(record.unknown_write.items())),
        "created_at": record.created_at,
        "lifetime": record.lifetime,
        "deleting": record.deleting,
        "linking": record.linking,
        "timestamp": record.timestamp,
        "revision": record.revision,
    }
    told = {
        key: value
        for key, value in data.items()
        if value is not None and value is not False and value not in ([], {})
    }
    return told | {"facts": data["facts"]}


def decode_record(data: Mapping[str, Json]) -> Record:
    """The reverse of `encode_record`.

    Raises StateRefused where the data is not a record.
    """
    try:
        return _decode_record(data)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise StateRefused(
            f"a record in the state is not readable ({type(problem).__name__})",
            hint="Restore a backup from beside the state file, or `reconcile state push` an export.",
        ) from None


_KNOWN = {known.value: known for known in Known}


def _decode_record(data: Mapping[str, Json]) -> Record:
    facts = {
        path: Fact(
            _KNOWN[item["known"]],
            item.get("value"),
            item.get("attempt"),
            item.get("observed") is True,
        )
        for path, item in _object(data["facts"]).items()
        if isinstance(item, dict)
    }
    source = data.get("source")
    timestamp = data.get("timestamp")
    return Record(
        address=_text(data["address"]),
        customer_user_id=_text_or_none(data.get("customer_user_id")),
        profile_id=_text_or_none(data.get("profile_id")),
        presence=Presence(_text(data.get("presence", "present"))),
        facts=facts,
        forgotten=frozenset(_texts(data.get("forgotten"))),
        unmanaged=_texts(data.get("unmanaged")),
        protect=bool(data.get("protect", False)),
        labels=_texts(data.get("labels")),
        platform=_text_or_none(data.get("platform")),
        source=(
            Source(_text(source["file"]), int(str(source.get("line", 0))))
            if isinstance(source, dict)
            else None
        ),
        unknown_at=_number_or_none(data.get("unknown_at")),
        unknown_write=dict(_scalars(data.get("unknown_write"))),
        created_at=_number_or_none(data.get("created_at")),
        lifetime=_text_or_none(data.get("lifetime")),
        deleting=bool(data.get("deleting", False)),
        linking=bool(data.get("linking", False)),
        timestamp=int(str(timestamp)) if timestamp is not None else None,
        revision=int(str(data.get("revision", 0))),
    )


def spelled_facts(paths: tuple[FieldPath, ...], values: Sequence[Scalar | None]) -> str:
    """The JSON, in the canonical form in which a record is kept, of facts by which every field is known to
    have its value (``None``: to be cleared), whoever said so."""
    form, order = _facts_form(paths, tuple([value is None for value in values]))
    return form % tuple([spelled_scalar(values[at]) for at in order])


@lru_cache(maxsize=4096)
def _facts_form(paths: tuple[FieldPath, ...], cleared: tuple[bool, ...]) -> tuple[str, list[int]]:
    """What is filled in with spelled values, and where these are among all, in the order in which they
    are filled in."""
    order = sorted(range(len(paths)), key=paths.__getitem__)
    facts = [
        encode_basestring_ascii(paths[at]).replace("%", "%%")
        + (':{"known":"cleared"}' if cleared[at] else ':{"known":"value","value":%s}')
        for at in order
    ]
    return f"{{{','.join(facts)}}}", [at for at in order if not cleared[at]]


def spelled_scalar(value: Scalar | None) -> str:
    """The same as `values.canonical`, of one scalar, in a fraction of the time."""
    if value.__class__ is str:
        return encode_basestring_ascii(value)
    if value is None:
        return "null"
    if value.__class__ is bool:
        return "true" if value else "false"
    if value.__class__ is int or (value.__class__ is float and isfinite(value)):
        return repr(value)
    return canonical(value)


OBSERVED = ',"observed":true'
"""What the canonical form says of a fact that the API returned; nothing within a text looks like it."""


def encode_export(export: Export) -> dict[str, Json]:
    """The state as one JSON object: schema ``state.schema.json``."""
    header = export.header
    return {
        "format_version": FORMAT_VERSION,
        "lineage": header.lineage,
        "serial": header.serial,
        "environment": header.environment,
        "application": header.application,
        "profiles": [encode_record(record) for record in export.records],
    }


def decode_export(data: Json) -> Export:
    """The reverse of `encode_export`.

    Raises StateRefused for anything else, and for a newer format.
    """
    if not isinstance(data, dict) or "format_version" not in data:
        raise StateRefused(
            "this is not a state export",
            hint="Give the JSON object that `reconcile state pull` printed.",
        )
    version = data["format_version"]
    if not isinstance(version, int) or isinstance(version, bool) or version > FORMAT_VERSION:
        raise StateRefused(
            f"the export has format {version}, this program reads up to {FORMAT_VERSION}",
            hint="Upgrade reconcile.",
        )
    profiles = data.get("profiles")
    serial = data.get("serial")
    if not isinstance(profiles, list) or not isinstance(serial, int):
        raise StateRefused("the export lacks `profiles` or `serial`")
    records = tuple(decode_record(item) for item in map(_object, profiles))
    if len({record.address for record in records}) != len(records):
        raise StateRefused("the export holds an address twice")
    return Export(
        Header(
            lineage=_text_or_none(data.get("lineage")),
            serial=serial,
            environment=_text_or_none(data.get("environment")),
            application=_text_or_none(data.get("application")),
        ),
        tuple(sorted(records, key=lambda record: record.address)),
    )


def _object(value: object) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise StateRefused("the state holds something that is not a record")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _number_or_none(value: object) -> float | None:
    return None if value is None else float(str(value))


def _texts(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(item) for item in value)


def _scalars(value: object) -> Iterator[tuple[str, Scalar | None]]:
    for path, scalar in _object(value or {}).items():
        if not isinstance(scalar, (str, bool, int, float, type(None))):
            raise TypeError
        yield path, scalar


def by_address(records: Iterable[Record]) -> dict[str, Record]:
    return {record.address: record for record in records}
