"""Custom attributes: the app's own keys, merged by key, and shown by every answer. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from fnmatch import fnmatchcase
from typing import Any

from reconciler.core.contract import Clear, Contract
from reconciler.core.endpoints import CUSTOMER_HEADER, PATH, without_profile_id
from reconciler.core.facets.facet import AS_IT_IS, Facet, FacetPlan, Situation, ValueMask
from reconciler.core.facets.parts import scalar, text_of
from reconciler.core.facets.profile_fields import sent_country
from reconciler.core.options import RequestOptions
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    FieldChange,
    Hazard,
    HazardKind,
    Op,
    Request,
)
from reconciler.core.profiles import Profile
from reconciler.core.records import Known, Record
from reconciler.values import FieldPath, Json, Scalar

_GROUP = "custom_attributes"


class CustomAttributes(Facet):
    """Custom attributes. The API takes and returns them as a list of keys and values (adapty-api 4)."""

    group = _GROUP
    is_shown = True
    is_exclusive = True
    kind = "text, number or boolean"

    def normalise(self, value: Scalar | None) -> Scalar | None:
        """Booleans and whole numbers are floats (adapty-api 4.1, 4.3); ``-0.0`` is ``0.0``; ``""`` means
        cleared, as in an answer of the API."""
        if isinstance(value, (bool, int, float)):
            return float(value) + 0.0
        return value or None

    def properties(self, contract: Contract) -> dict[str, Any]:
        facts = contract.data[_GROUP]
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
        schema = {
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
        return {_GROUP: schema}

    def is_personal(self, path: FieldPath, *, contract: Contract, public: Sequence[str]) -> bool:
        key = path.partition(".")[2]
        return not any(fnmatchcase(key, pattern) for pattern in public)

    def undeclared(self, profile: Profile, record: Record) -> Set[FieldPath]:
        if not profile.exclusive or not record.exists:
            return frozenset()
        return {self.path(key) for key in record.unmanaged} - profile.forget

    def plan(self, changes: Sequence[FieldChange], situation: Situation) -> FacetPlan:
        limit, record = situation.contract.max_attributes, situation.record
        if not changes and _most_existing(record) <= limit:
            return AS_IT_IS
        existing: Set[FieldPath] = frozenset()
        if _most_existing(record) + len(changes) > limit:  # only near the limit is it worth a count
            existing = _existing(record)
        first = _deletions_first(changes, existing, limit=limit) if existing else ()
        hazards = []
        if (final := _count_after(changes, existing, limit=limit)) > limit:
            hazards.append(
                Hazard(
                    HazardKind.ATTRIBUTE_LIMIT,
                    f"{final} custom attributes with those that the profile already has; the API "
                    f"takes {limit} and will refuse",
                )
            )
        if first:
            hazards.append(_TWO_STEPS)
        if 0.0 in [change.after for change in changes if change.op is Op.SET]:
            hazards.append(_ZERO_VALUE)
        return FacetPlan(first, hazards)

    def members(
        self,
        keys: Sequence[str],
        values: Sequence[Scalar | None],
        *,
        contract: Contract,
        options: RequestOptions,
    ) -> Mapping[str, Json]:
        """Attributes that do not change are not named: they merge by key (adapty-api 4.1)."""
        if None in values:
            empty = _empty(options)
            values = [empty if value is None else value for value in values]
        return {
            _GROUP: [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)]
        }

    def written(self, name: str, content: Json) -> Iterator[tuple[FieldPath, Scalar | None]]:
        assert isinstance(content, Sequence)
        for item in content:
            assert isinstance(item, Mapping)
            yield f"{name}.{item['key']}", scalar(item["value"])

    def masked(self, name: str, content: Any, *, mask: ValueMask) -> Json:
        if not isinstance(content, Sequence):
            return mask(name, content)
        return [{**item, "value": mask(f"{name}.{item['key']}", item["value"])} for item in content]

    def shown(self, data: Mapping[str, Any]) -> Mapping[FieldPath, Scalar]:
        """Null and ``""`` are absent (adapty-api 4). An answer that does not mention custom attributes is no
        profile: that does not mean that there are none."""
        items = data[_GROUP]
        if items is None:
            return {}
        if not isinstance(items, list):
            raise TypeError
        out: dict[FieldPath, Scalar] = {}
        keys: set[str] = set()
        for item in items:
            key, value = text_of(item["key"]), item["value"]
            if key in keys:
                raise ValueError
            keys.add(key)
            if value is None or value == "":
                continue
            if isinstance(value, str):
                out[self.path(key)] = text_of(value)
            elif isinstance(value, (bool, int, float)) and abs(value) < float("inf"):
                out[self.path(key)] = float(value) + 0.0  # no -0.0
            else:
                raise TypeError
        return out

    def follow_up(
        self, change: Change, record: Record, *, options: RequestOptions
    ) -> Change | None:
        """The removal of attributes which nobody declared from an exclusive profile. The profile got them
        after its last read, and the answer to ``change`` showed them."""
        if change.exclusive is None:
            return None
        keys = [key for key in record.unmanaged if key not in change.exclusive]
        if not keys:
            return None
        of_profile = [request for request in change.requests if request.path == PATH]
        named = change.requests[-1].headers
        request = Request(
            "PATCH",
            PATH,
            without_profile_id(named) if CUSTOMER_HEADER in named else named,
            {
                **(sent_country(of_profile[-1]) if of_profile else {}),
                _GROUP: [{"key": key, "value": _empty(options)} for key in keys],
            },
        )
        fields = tuple(
            FieldChange(self.path(key), Op.CLEAR, None, None, Basis.NONE) for key in keys
        )
        return change._replace(action=Action.UPDATE, fields=fields, requests=(request,))


CUSTOM_ATTRIBUTES = CustomAttributes()


def _empty(options: RequestOptions) -> str | None:
    """The value that deletes an attribute (adapty-api 7.16)."""
    return "" if options.delete_attribute_with is Clear.EMPTY else None


def _most_existing(record: Record | None) -> int:
    """No fewer than the custom attributes that the profile has."""
    return 0 if record is None else len(record.facts) + len(record.unmanaged)


def _existing(record: Record | None) -> Set[FieldPath]:
    """Custom attributes that the profile has at the API, as far as we know."""
    if record is None or not record.exists:
        return frozenset()
    prefix = CUSTOM_ATTRIBUTES.prefix
    managed = {
        path
        for path, fact in record.facts.items()
        if path.startswith(prefix) and fact.known in (Known.VALUE, Known.UNCERTAIN)
    }
    return managed | {CUSTOM_ATTRIBUTES.path(key) for key in record.unmanaged}


def _deletions_first(
    changes: Sequence[FieldChange], existing: Set[FieldPath], *, limit: int
) -> Sequence[FieldChange]:
    """Deletions that must take effect before the additions, near the limit (adapty-api 4.4)."""
    deleted = [change for change in changes if change.op is Op.CLEAR and change.path in existing]
    added = [change for change in changes if change.op is Op.SET and change.path not in existing]
    full = len(existing) + len(added) > limit
    return deleted if deleted and added and full else ()


def _count_after(changes: Sequence[FieldChange], existing: Set[FieldPath], *, limit: int) -> int:
    """How many custom attributes the profile has after the change; no more than so many, as long as that
    is within the limit."""
    if len(existing) + len(changes) <= limit:
        return len(existing) + len(changes)
    final = existing | {change.path for change in changes if change.op is Op.SET}
    return len(final - {change.path for change in changes if change.op is Op.CLEAR})


_TWO_STEPS = Hazard(
    HazardKind.TWO_STEPS,
    "near the limit of custom attributes: deletions go in a first request, additions in "
    "a second; the two are not one step",
)
_ZERO_VALUE = Hazard(
    HazardKind.ZERO_VALUE,
    "a custom attribute of 0 or false is stored as 0.0 (assumed: the API does not take "
    "it for an empty value)",
)
