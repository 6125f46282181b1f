"""The fields that the API accepts, and their behaviour: typed values over ``schemas/contract.json``. Pure.

The contract is data; this module gives it types. `reconciler.core.facets` holds what no data can say of a
group of fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from reconciler.values import FieldPath

_ATTRIBUTES = "custom_attributes"
_GROUPS = (_ATTRIBUTES, "installation_meta", "access_levels", "integrations", "refund_saver")
"""The members of a profile that hold several fields, in the order of a request body."""


class Dialect(StrEnum):
    """A version of the contract (adapty-api 7)."""

    GUIDE = "guide"
    OPENAPI = "openapi"


class Clear(StrEnum):
    """How a field is cleared."""

    NULL = "null"
    EMPTY = "empty"
    NEVER = "never"
    REVOKE = "revoke"
    """By a request of its own."""


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


class FieldGroup(NamedTuple):
    """A member of a profile file that holds several fields; their paths are its name, a dot and a key."""

    name: str
    facts: Mapping[str, Any]
    """The block of ``contract.json``, as it is in the dialect."""
    each: Field | None
    """Stands for every field of a group with free keys; ``None`` where the contract names the fields."""


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """One dialect of the contract. Build it with `Contract.of`; two are the same if they are one."""

    dialect: Dialect
    fields: Mapping[FieldPath, Field]
    """Standard fields and the named fields of groups, in the order of a request body."""
    groups: Mapping[str, FieldGroup]
    """In the order of a request body, after the standard fields."""
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
        blocks = {
            name: _in_dialect(data.get(name) or data["facets"][name], dialect) for name in _GROUPS
        }
        named = {"": data["fields"]}
        named |= {f"{name}.": block.get("fields", {}) for name, block in blocks.items()}
        fields = {
            path: _field(path, facts)
            for prefix, group in named.items()
            for path, facts in _fields_in_dialect(prefix, group, dialect=dialect)
        }
        groups = {
            name: FieldGroup(
                name,
                block,
                None if "fields" in block else _field(name, {"schema": {}, **block}),
            )
            for name, block in blocks.items()
        }
        attributes = blocks[_ATTRIBUTES]
        return cls(
            dialect=dialect,
            fields=fields,
            groups=groups,
            attributes=_field(_ATTRIBUTES, {"schema": {}, **attributes}),
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
        field = self.fields.get(path) or self._of_free_group(path)
        if field is None:
            raise KeyError(path)
        return field

    def knows(self, path: FieldPath) -> bool:
        return path in self.fields or self._of_free_group(path) is not None

    def _of_free_group(self, path: FieldPath) -> Field | None:
        name, dot, _ = path.partition(".")
        group = self.groups.get(name) if dot else None
        return None if group is None else group.each

    def members(self, group: str) -> tuple[FieldPath, ...]:
        """The paths of the named fields of a group, in the order of a request body."""
        return tuple(path for path in self.fields if path.startswith(f"{group}."))

    def expand(self, path: FieldPath) -> tuple[FieldPath, ...]:
        """The fields that a path under ``meta.forget`` stands for: a group with named fields means all of
        them, those of other dialects included, since the state may record them."""
        if path not in self.groups or self.groups[path].each is not None:
            return (path,)
        return tuple(f"{path}.{name}" for name in self.groups[path].facts["fields"])

    def dialects_with(self, path: FieldPath) -> tuple[Dialect, ...]:
        """The dialects that know a field; none for a field that only a newer program knows."""
        name, _, key = path.partition(".")
        group = self.groups.get(name)
        if group is None:
            facts = self.data["fields"].get(path)
        elif group.each is not None:
            return tuple(Dialect)
        else:
            facts = group.facts["fields"].get(key)
        return () if facts is None else tuple(map(Dialect, facts.get("dialects", Dialect)))

    def ordered(self, paths: Iterable[FieldPath]) -> list[FieldPath]:
        """Paths in the order of a request body: standard fields, then the groups in their order, free keys
        sorted; paths that this dialect does not know come last."""
        return sorted(paths, key=_order(self))


@lru_cache
def _order(contract: Contract) -> Callable[[FieldPath], tuple[int, str]]:
    """The place of a path: that of its field, or of its group where keys are free."""
    positions: dict[FieldPath, int] = {}
    for path in contract.fields:
        if "." not in path:
            positions[path] = len(positions)
    for name, group in contract.groups.items():
        for path in [name] if group.each is not None else contract.members(name):
            positions[path] = len(positions)
    position, last = positions.get, len(positions)

    def key(path: FieldPath) -> tuple[int, str]:
        index = position(path)
        if index is None:
            index = position(path.partition(".")[0], last)
        return (index, path)

    return key


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
