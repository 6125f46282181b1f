"""The JSON Schema of a profile file, which editors and the validator use. Pure."""

from __future__ import annotations

from typing import Any

from reconciler.core.contract import Contract, Dialect
from reconciler.core.facets.registry import EXCLUSIVE, FACETS


def profile_schema(contract: Contract) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a profile file in this dialect, with the contract's facts as
    ``x-reconcile`` annotations and hover text for editors."""
    name = "profile" if contract.dialect is Dialect.GUIDE else f"profile.{contract.dialect}"
    members: dict[str, Any] = {}
    for facet in FACETS:
        members |= facet.properties(contract)
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
            **members,
            "meta": _META,
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
        "previously": {
            "description": "Former addresses of the profile, such as profile:<uuid> after it was linked "
            "elsewhere: its record is renamed, and nothing is sent.",
            "type": "array",
            "items": {
                "description": "A former address is a customer id, or profile: and a UUID.",
                "type": "string",
                "pattern": "^[!-~]+$",
            },
            "minItems": 1,
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
            "description": f"[{EXCLUSIVE.group}]: custom attributes that nobody declared are removed.",
            "type": "array",
            "items": {"enum": [EXCLUSIVE.group]},
            "uniqueItems": True,
        },
        "contains_personal_data": {
            "description": "Why this document may hold data of a real person; keeps the guard quiet.",
            "type": "string",
            "minLength": 1,
        },
    },
}
