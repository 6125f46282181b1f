"""Parts of schemas, bodies and answers that facets share. Pure."""

from __future__ import annotations

from typing import Any

from reconciler.core.contract import Clear, Field
from reconciler.values import Json, Scalar


def property_of(field: Field) -> dict[str, Any]:
    """The schema of a field in a profile file, with the facts of the contract and a text for editors."""
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


def scalar(value: Json) -> Scalar | None:
    """The value that a member of a body writes; ``None`` clears."""
    return value if isinstance(value, (str, bool, int, float)) and value != "" else None


def text_of(value: Any) -> str:
    """A text of an answer that is not empty and can be encoded. Raises TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError
    if not value.encode("utf-8"):  # which also refuses lone surrogates
        raise ValueError
    return value
