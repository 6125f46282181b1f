"""The fields that the API accepts, and their behaviour: typed values over ``schemas/contract.json``. Pure.

The contract is data; this module gives it types, the one normaliser that comparing, digests, requests
and display share, and the profile schema that editors and the validator use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from reconciler.values import FieldPath, Json, Scalar

ATTRIBUTES = "custom_attributes"
INSTALLATION = "installation_meta"
DEVICE_ID = "installation_meta.device_id"
IP_COUNTRY = "ip_country"
ANALYTICS_DISABLED = "analytics_disabled"
ADVERTISING_IDS = frozenset(
    f"{INSTALLATION}.{member}" for member in ("idfa", "idfv", "advertising_id")
)
"""The API empties these while `ANALYTICS_DISABLED` is true (assumed: adapty-api 7.27)."""


class Dialect(StrEnum):
    """A version of the contract (adapty-api 7)."""

    GUIDE = "guide"
    OPENAPI = "openapi"


class Clear(StrEnum):
    """How a field is cleared."""

    NULL = "null"
    EMPTY = "empty"
    NEVER = "never"


class Field(NamedTuple):
    """One field: its schema as it stands in a file (null aside), how it clears, whether it is personal."""

    path: FieldPath
    schema: Mapping[str, Any]
    clear: Clear
    personal: bool
    description: str
    source: str
    warn: Mapping[str, Any] | None = None
    assumed: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """One dialect of the contract. Build it with `Contract.of`; two are the same if they are one."""

    dialect: Dialect
    fields: Mapping[FieldPath, Field]
    """Standard fields and members of installation_meta, in the order of a request body."""
    attributes: Field
    """Stands for every custom attribute."""
    max_attributes: int
    max_attribute_length: int
    """The longest text value, in UTF-16 units or code points, whichever is more (adapty-api 4.2)."""
    max_integer: int
    """Largest whole number that a float holds exactly (adapty-api 4.1)."""
    key_pattern: str
    platforms: tuple[str, ...]
    countries: frozenset[str]
    data: Mapping[str, Any]

    @classmethod
    def of(cls, data: Mapping[str, Any], dialect: Dialect | str = Dialect.GUIDE) -> Contract:
        """The contract that the content of ``schemas/contract.json`` describes for a dialect."""
        dialect = Dialect(dialect)
        attributes = _in_dialect(data[ATTRIBUTES], dialect)
        installation = _in_dialect(data[INSTALLATION], dialect)
        fields = {
            path: _field(path, facts)
            for prefix, group in (
                ("", data["fields"]),
                (f"{INSTALLATION}.", installation["fields"]),
            )
            for path, facts in _fields_in_dialect(prefix, group, dialect=dialect)
        }
        return cls(
            dialect=dialect,
            fields=fields,
            attributes=_field(ATTRIBUTES, {"schema": {}, **attributes}),
            max_attributes=attributes["max_items"],
            max_attribute_length=attributes["value_max_length"],
            max_integer=attributes["max_integer"],
            key_pattern=attributes["key_pattern"],
            platforms=tuple(data["platforms"]),
            countries=frozenset(data["countries"]),
            data=data,
        )

    def field(self, path: FieldPath) -> Field:
        """The field at a path.

        Raises KeyError for a path that this dialect does not know.
        """
        if path.startswith("custom_attributes."):
            return self.attributes
        return self.fields[path]

    def knows(self, path: FieldPath) -> bool:
        return path.startswith("custom_attributes.") or path in self.fields

    def members(self) -> tuple[FieldPath, ...]:
        """The paths of installation_meta, in the order of a request body."""
        return tuple(path for path in self.fields if path.startswith("installation_meta."))

    def expand(self, path: FieldPath) -> tuple[FieldPath, ...]:
        """The fields that a path under ``meta.forget`` stands for: ``installation_meta`` means all its
        members, those of other dialects included, since the state may record them."""
        if path != INSTALLATION:
            return (path,)
        return tuple(f"{INSTALLATION}.{name}" for name in self.data[INSTALLATION]["fields"])

    def dialects_with(self, path: FieldPath) -> tuple[Dialect, ...]:
        """The dialects that know a field; none for a field that only a newer program knows."""
        group, _, name = path.partition(".")
        if group == ATTRIBUTES:
            return tuple(Dialect)
        facts = (
            self.data[INSTALLATION]["fields"].get(name)
            if group == INSTALLATION
            else self.data["fields"].get(path)
        )
        return () if facts is None else tuple(map(Dialect, facts.get("dialects", Dialect)))

    def ordered(self, paths: Iterable[FieldPath]) -> list[FieldPath]:
        """Paths in the order of a request body: standard fields, custom attributes by key,
        installation_meta; paths that this dialect does not know come last."""
        return sorted(paths, key=_order(self))


@lru_cache
def _order(contract: Contract) -> Callable[[FieldPath], tuple[int, str]]:
    position = {path: index for index, path in enumerate(contract.fields)}
    standard = sum(1 for path in position if "." not in path)

    def key(path: FieldPath) -> tuple[int, str]:
        if path.startswith("custom_attributes."):
            return (standard, path)
        index = position.get(path, len(position) + 1)
        return (index if index < standard else index + 1, path)

    return key


def normalise(path: FieldPath, value: Scalar | None) -> Scalar | None:
    """The form of a valid value that comparing, digests, requests and display share.

    Booleans and whole numbers of a custom attribute are floats (adapty-api 4.1, 4.3); ``-0.0`` is
    ``0.0``; ``""`` in installation_meta means cleared, as it does in a custom attribute that the API
    returns.
    """
    if path.startswith("custom_attributes."):
        if isinstance(value, (bool, int, float)):
            return float(value) + 0.0
        return value or None
    if path.startswith("installation_meta."):
        return value if value != "" else None
    return value


def ways_out(path: FieldPath) -> str:
    """The advice about a field that the API cannot clear."""
    return (
        "Put the value back, set another value, or leave it out and list "
        f"`{path}` under meta.forget: it is no longer managed then, and stays as it is at the API."
    )


def length(text: str) -> int:
    """UTF-16 units or code points, whichever is more (adapty-api 4.2)."""
    return max(len(text), len(text.encode("utf-16-le", "surrogatepass")) // 2)


def _in_dialect(facts: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    merged = {key: value for key, value in facts.items() if key not in Dialect.__members__.values()}
    merged.update(facts.get(dialect.value, {}))
    return merged


def _fields_in_dialect(
    prefix: str, group: Mapping[str, Any], *, dialect: Dialect
) -> Iterator[tuple[FieldPath, dict[str, Any]]]:
    for name, facts in group.items():
        if dialect.value in facts.get("dialects", list(Dialect)):
            yield prefix + name, _in_dialect(facts, dialect)


def _field(path: FieldPath, facts: Mapping[str, Any]) -> Field:
    return Field(
        path=path,
        schema=facts["schema"],
        clear=Clear(facts["clear"]),
        personal=facts["personal"],
        description=facts["description"],
        source=facts["source"],
        warn=facts.get("warn"),
        assumed=facts.get("assumed", ""),
    )


# --- the published schema ------------------------------------------------------------------------


def profile_schema(contract: Contract) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a profile file in this dialect, with the contract's facts as
    ``x-reconcile`` annotations and hover text for editors."""
    standard = {path: field for path, field in contract.fields.items() if "." not in path}
    members = {
        path.partition(".")[2]: field for path, field in contract.fields.items() if "." in path
    }
    name = "profile" if contract.dialect is Dialect.GUIDE else f"profile.{contract.dialect}"
    installation = contract.data[INSTALLATION]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:reconcile:{name}",
        "title": f"A profile ({contract.dialect} dialect)",
        "description": "Generated from contract.json; do not edit.",
        "type": "object",
        "additionalProperties": False,
        "anyOf": [{"required": ["customer_user_id"]}, {"required": ["profile_id"]}],
        "properties": {
            "customer_user_id": {
                "description": "Your own identifier of the user: the address of the profile. "
                "Visible ASCII, since it travels in a header; it cannot begin with `profile:`.",
                "type": "string",
                "pattern": r"^(?!profile:)[!-~]+$",
            },
            "profile_id": {
                "description": "Adapty's identifier of the profile, a UUID. Give both identifiers "
                "only to link them; that cannot be undone.",
                "type": "string",
                "format": "uuid",
            },
            "for_each": {
                "description": "Makes this document a template: a count of profiles, or a list of values "
                "or maps. {index} and {item} stand in its texts for what differs.",
                "anyOf": [
                    {"type": "integer", "minimum": 1},
                    {"type": "array", "minItems": 1},
                ],
            },
            "platform": {
                "description": "Sent as the adapty-platform header on every write of the profile.",
                "enum": list(contract.platforms),
            },
            **{name: _property(field) for name, field in standard.items()},
            ATTRIBUTES: _attributes_schema(contract),
            INSTALLATION: {
                "description": installation["description"],
                "type": "object",
                "additionalProperties": False,
                "required": installation["required"],
                "properties": {name: _property(field) for name, field in members.items()},
                "x-reconcile": {key: installation[key] for key in ("merge", "source", "assumed")},
            },
            "meta": _META,
        },
    }


def _property(field: Field) -> dict[str, Any]:
    facts: dict[str, Json] = {
        "clear": field.clear.value,
        "personal": field.personal,
        "source": field.source,
    }
    if field.assumed:
        facts["assumed"] = field.assumed
    schema: dict[str, Any] = {"description": field.description, **field.schema}
    if field.clear is not Clear.NEVER:
        schema["type"] = [field.schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema | {"x-reconcile": facts}


def _attributes_schema(contract: Contract) -> dict[str, Any]:
    facts = contract.data[ATTRIBUTES]
    key = {"type": "string", "pattern": contract.key_pattern}
    value = {
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": contract.max_attribute_length},
            {
                "type": ["number"],
                "minimum": -contract.max_integer,
                "maximum": contract.max_integer,
            },
            {"type": ["boolean", "null"]},
        ]
    }
    return {
        "description": facts["description"],
        "anyOf": [
            {"type": "object", "propertyNames": key, "additionalProperties": value},
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["key", "value"],
                    "properties": {"key": key, "value": value},
                },
            },
        ],
        "x-reconcile": {
            "clear": contract.attributes.clear.value,
            "merge": facts["merge"],
            "personal": facts["personal"],
            "max_items": contract.max_attributes,
            "source": facts["source"],
            "assumed": facts["assumed"],
        },
    }


_META: dict[str, Any] = {
    "description": "Ours, never sent.",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "labels": {
            "description": "Names to select profiles by: --select label:NAME.",
            "type": "array",
            "items": {
                "description": "A label has 1 to 63 letters, digits, dashes, periods or underscores.",
                "type": "string",
                "pattern": "^[A-Za-z0-9._-]{1,63}$",
            },
            "uniqueItems": True,
        },
        "protect": {
            "description": "Never delete this profile; remembered in the state.",
            "type": "boolean",
        },
        "forget": {
            "description": "Stop managing these field paths: nothing is sent, what the API holds stays.",
            "type": "array",
            "items": {
                "description": "A path like `birthday`, `custom_attributes.tier` or `installation_meta`.",
                "type": "string",
            },
            "uniqueItems": True,
        },
        "expires": {
            "description": "The last day (UTC) of a profile, YYYY-MM-DD, or its last moment, "
            "YYYY-MM-DDTHH:MMZ. `reconcile sweep` deletes it after that if this tool created it.",
            "type": "string",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?Z)?$",
            "examples": ["2030-12-31", "2030-12-31T18:00Z"],
        },
        "ttl": {
            "description": "How long a profile lives once this tool created it: a number and s, m, h, d "
            "or w, such as 14d.",
            "type": "string",
            "pattern": "^[1-9][0-9]{0,5}[smhdw]$",
            "examples": ["2h", "14d"],
        },
        "exclusive": {
            "description": "[custom_attributes]: custom attributes that nobody declared are removed.",
            "type": "array",
            "items": {"enum": [ATTRIBUTES]},
            "uniqueItems": True,
        },
        "contains_personal_data": {
            "description": "Why this document may hold data of a real person; keeps the guard quiet.",
            "type": "string",
            "minLength": 1,
        },
    },
}
