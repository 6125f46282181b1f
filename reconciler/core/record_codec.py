"""Records and exports as JSON. Pure.

`state.schema.json` describes this JSON. A store keeps the canonical form of each record; `reconcile
state pull` prints an export.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from reconciler.commands import Command
from reconciler.core.facets.registry import normalise
from reconciler.core.records import (
    Export,
    Fact,
    Header,
    Known,
    Origin,
    Presence,
    Record,
    RunStarter,
)
from reconciler.errors import Message, Source, StateRefused
from reconciler.values import Json, Scalar, canonical

EXPORT_FORMAT_VERSION = 1
"""The newest version of exports that this program reads, and the one it writes. Independent of the format
of a state file, which also holds what can be computed from the records."""


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
    """A record as JSON: schema ``state.schema.json``, ``$defs/record``. Members without content are left
    out, except ``facts``."""
    source = record.source
    is_default = record.origin is Origin.UNKNOWN and record.created_at is None
    data: dict[str, Json] = {
        "address": record.address,
        "customer_user_id": record.customer_user_id,
        "profile_id": record.profile_id,
        "presence": record.presence.value,
        "facts": {path: encode_fact(fact) for path, fact in sorted(record.facts.items())},
        "forgotten": sorted(record.forgotten),
        "unmanaged": list(record.unmanaged),
        "seen": dict(sorted(record.seen.items())),
        "granted": sorted(record.granted),
        "protect": record.protect,
        "labels": list(record.labels),
        "platform": record.platform,
        "source": {"file": source.file, "line": source.line} if source else None,
        "unknown_at": record.unknown_at,
        "unknown_write": dict(sorted(record.unknown_write.items())),
        "origin": None if is_default else record.origin.value,
        "created_at": record.created_at,
        "lifetime": record.lifetime,
        "deleting": record.deleting,
        "linking": record.linking,
        "timestamp": record.timestamp,
        "from_environment": list(record.from_environment),
        "revision": record.revision,
    }
    members = {
        key: value
        for key, value in data.items()
        if value is not None and value is not False and value not in ([], {})
    }
    return members | {"facts": data["facts"]}


def decode_record(data: Mapping[str, Json]) -> Record:
    """The reverse of `encode_record`.

    Raises StateRefused where the data is not a record.
    """
    try:
        return _decode_record(data)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise StateRefused(
            f"a record in the state is not readable ({type(problem).__name__})",
            hint=Message.of(
                "Restore a backup from beside the state file, or ",
                Command.of("state", "push"),
                " an export.",
            ),
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
        seen=dict(_values(data.get("seen"))),
        granted=frozenset(_texts(data.get("granted"))),
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
        origin=_origin(data),
        created_at=_number_or_none(data.get("created_at")),
        lifetime=_text_or_none(data.get("lifetime")),
        deleting=bool(data.get("deleting", False)),
        linking=bool(data.get("linking", False)),
        timestamp=int(str(timestamp)) if timestamp is not None else None,
        from_environment=_texts(data.get("from_environment")),
        revision=int(str(data.get("revision", 0))),
    )


def _origin(data: Mapping[str, Json]) -> Origin:
    """The origin of a record. Records from before origins were kept have none: those with the time of their
    creation are ours, of others nobody knows."""
    if "origin" in data:
        return Origin(_text(data["origin"]))
    return Origin.UNKNOWN if data.get("created_at") is None else Origin.CREATED


def encode_export(export: Export) -> dict[str, Json]:
    """The state as one JSON object: schema ``state.schema.json``."""
    header = export.header
    return {
        "format_version": EXPORT_FORMAT_VERSION,
        "lineage": header.lineage,
        "serial": header.serial,
        "environment": header.environment,
        "application": header.application,
        "profiles": [encode_record(record) for record in export.records],
    }


def decode_export(data: Json) -> Export:
    """The reverse of `encode_export`. Other JSON tools write ``5.0`` as ``5`` or ``5`` as ``5.0``, so numbers
    may be spelled either way; each field gets its own form back.

    Raises StateRefused for anything else, and for a newer format.
    """
    try:
        return _decode_export(_with_whole_numbers(data))
    except (OverflowError, RecursionError):
        raise StateRefused(
            "the export holds a number or a nesting that no state has",
            hint="Give an unedited export.",
        ) from None


def _decode_export(data: Json) -> Export:
    if not isinstance(data, dict) or "format_version" not in data:
        raise StateRefused(
            "this is not a state export",
            hint=Message.of("Give the JSON object that ", Command.of("state", "pull"), " printed."),
        )
    version = data["format_version"]
    if not isinstance(version, int) or isinstance(version, bool) or version > EXPORT_FORMAT_VERSION:
        raise StateRefused(
            f"the export has format {version}, this program reads up to {EXPORT_FORMAT_VERSION}",
            hint="Upgrade reconcile.",
        )
    profiles = data.get("profiles")
    serial = data.get("serial")
    if not isinstance(profiles, list) or not isinstance(serial, int):
        raise StateRefused("the export lacks `profiles` or `serial`")
    records = tuple(_normalised(decode_record(item)) for item in map(_object, profiles))
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


def _with_whole_numbers(data: Json) -> Json:
    """The data with integers in the place of whole numbers that are spelled as floats: those of the export
    itself are all integers, and those of facts are normalised later."""
    if isinstance(data, dict):
        return {name: _with_whole_numbers(value) for name, value in data.items()}
    if isinstance(data, list):
        return [_with_whole_numbers(value) for value in data]
    return int(data) if isinstance(data, float) and data.is_integer() else data


def _normalised(record: Record) -> Record:
    """The record with its values in the form that the planner compares."""
    facts = {
        path: fact._replace(
            value=normalise(path, fact.value), attempt=normalise(path, fact.attempt)
        )
        for path, fact in record.facts.items()
    }
    written = {path: normalise(path, value) for path, value in record.unknown_write.items()}
    return record._replace(facts=facts, unknown_write=written)


def encode_starter(starter: RunStarter) -> str:
    """Who started a run, as a text without line breaks."""
    return canonical({name: value for name, value in starter._asdict().items() if value})


def decode_starter(text: str) -> RunStarter:
    """Raises ValueError or TypeError for what `encode_starter` did not give. Members of a newer program are
    left out."""
    data = json.loads(text)
    if not isinstance(data, dict):
        raise TypeError
    return RunStarter(**{name: _text(data[name]) for name in RunStarter._fields if name in data})


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


def _values(value: object) -> Iterator[tuple[str, Scalar]]:
    return ((path, scalar) for path, scalar in _scalars(value) if scalar is not None)


def _scalars(value: object) -> Iterator[tuple[str, Scalar | None]]:
    for path, scalar in _object(value or {}).items():
        if not isinstance(scalar, (str, bool, int, float, type(None))):
            raise TypeError
        yield path, scalar
