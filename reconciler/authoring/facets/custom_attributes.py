"""The rules of custom attributes: two forms, keys, lengths and a limit. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from reconciler.authoring.documents import Document, Path
from reconciler.authoring.facets.rules import NO_PLACES, Explanation, FacetRules
from reconciler.authoring.json_schema import SchemaViolation
from reconciler.authoring.phrases import kind_of, place_name, quote
from reconciler.core.contract import Contract, length
from reconciler.core.facets.custom_attributes import CUSTOM_ATTRIBUTES
from reconciler.errors import Diagnostic, Message, error
from reconciler.values import FieldPath

_GROUP = CUSTOM_ATTRIBUTES.group


class AttributeRules(FacetRules):
    """The rules of custom attributes, which may stand as a map or as the list of the API."""

    def by_key(self, content: Any) -> tuple[Mapping[str, Any], Mapping[Path, Path]]:
        if isinstance(content, dict):
            return content, NO_PLACES
        items = content or ()
        return (
            {item["key"]: item["value"] for item in items},
            {(_GROUP, item["key"]): (_GROUP, index, "value") for index, item in enumerate(items)},
        )

    def declared_keys(self, content: Any) -> Iterator[str]:
        return (key for key, _, _ in _items(content))

    def as_map(self, document: Document) -> Document:
        items: Any = document.value.get(_GROUP)
        if not isinstance(items, list):
            return document
        by_key: dict[str, Any] = {}
        places, files = dict(document.places), dict(document.files)
        for index, item in enumerate(items):
            if not isinstance(item, dict) or {*item} != {"key", "value"}:
                return document  # validation reports what is wrong with it
            key = item["key"]
            if not isinstance(key, str) or key in by_key:
                return document
            by_key[key] = item["value"]
            here, there = (_GROUP, key), (_GROUP, index, "value")
            if there in places:
                places[here] = places[there]
                if there in files:
                    files[here] = files[there]
        value = {**document.value, _GROUP: by_key}
        return document._replace(value=value, places=places, files=files)

    def explain(self, violation: SchemaViolation, contract: Contract) -> Explanation | None:
        if len(violation.path) > 1:
            return _explained(violation, contract)
        if violation.instance is None:
            return Explanation(
                f"profile/{violation.kind}",
                violation.message,
                "To delete attributes, name each key with null; or leave the field out.",
            )
        return None

    def findings(
        self, content: Any, document: Document, *, contract: Contract
    ) -> Iterator[Diagnostic]:
        if type(content) is dict and len(content) <= contract.max_attributes:
            # The schema has checked everything but characters that count as more than one.
            texts = [raw for raw in content.values() if type(raw) is str]
            if "".join(texts).isascii():
                return
        limit = contract.max_attribute_length
        count = 0
        for key, raw, place in _items(content):
            if raw is None:
                continue
            count += 1
            if type(raw) is str and not raw.isascii() and len(raw) <= limit < length(raw):
                yield error(
                    "attribute/value",
                    Message.of(
                        place_name((_GROUP, key)),
                        f" has {length(raw)} characters, counted in UTF-16 units; "
                        f"at most {limit} are allowed",
                    ),
                    source=document.at((_GROUP, *place)),
                    hint="Shorten it; an emoji counts as two or more.",
                )
        if count > contract.max_attributes:
            yield error(
                "attribute/too-many",
                f"{count} custom attributes; a profile has at most {contract.max_attributes}",
                source=document.at((_GROUP,)),
                hint="Remove some; attributes set to null do not count.",
            )
        if type(content) is list:
            yield from _duplicate_keys(content, document)

    def can_be_forgotten(self, path: FieldPath, contract: Contract) -> bool:
        key = path.partition(".")[2]
        return _is_key(contract.key_pattern)(key) is not None

    def forget_hint(self) -> str:
        return f"Name each key: {_GROUP}.KEY."

    def texts(self, content: Any) -> Iterator[tuple[Path, str]]:
        for _, raw, place in _items(content):
            if isinstance(raw, str):
                yield (_GROUP, *place), raw


ATTRIBUTE_RULES = AttributeRules(CUSTOM_ATTRIBUTES)


@lru_cache
def _is_key(pattern: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(pattern.removesuffix("$")).fullmatch


def _explained(violation: SchemaViolation, contract: Contract) -> Explanation:
    message: str | Message
    path, limit = violation.path, contract.max_attribute_length
    if violation.of_key or (path[-1] == "key" and len(path) == 3):
        is_empty = violation.instance == ""
        key = (
            ("an empty key",) if is_empty else ("the key ", quote(violation.instance, is_name=True))
        )
        return Explanation(
            "attribute/key",
            Message.of(*key, " is not a key of a custom attribute"),
            "A key has 1 to 30 ASCII letters, digits, dashes, periods or underscores.",
        )
    if violation.kind == "missing-field":
        hint = f"Add `{violation.name}`." + (
            " null makes sure that the attribute is absent." if violation.name == "value" else ""
        )
        return Explanation(f"attribute/{violation.name}", violation.message, hint)
    if len(path) == 2 and isinstance(path[1], int):
        hint = "Write an item as {key: …, value: …}."
        return Explanation("profile/type", violation.message, hint)
    if violation.instance == "":
        message, hint = "is empty text", "Write null to make sure that the attribute is absent."
    elif violation.kind == "type":
        message = Message.of(
            "must be text, a number, true, false or null, not ", kind_of(violation.instance)
        )
        hint = "Write one value; an attribute holds neither lists nor maps."
    elif violation.keyword in ("minimum", "maximum"):
        message = "is a number that a float does not hold exactly"
        hint = f"Stay within ±{contract.max_integer}, or quote it, so that it is text."
    else:
        message = f"has {length(violation.instance)} characters; at most {limit} are allowed"
        hint = "Shorten it."
    return Explanation("attribute/value", Message.of(place_name(path), " ", message), hint)


def _items(content: Any) -> Iterator[tuple[str, Any, Path]]:
    """Key, value and place of each custom attribute. Items of another shape are left out."""
    if isinstance(content, dict):
        for key, raw in content.items():
            yield key, raw, (key,)
    elif isinstance(content, list):
        for index, item in enumerate(content):
            if isinstance(item, dict) and isinstance(item.get("key"), str) and "value" in item:
                yield item["key"], item["value"], (index, "value")


def _duplicate_keys(content: list[Any], document: Document) -> Iterator[Diagnostic]:
    first: dict[str, Path] = {}
    for key, _, (index, _) in _items(content):
        path = (_GROUP, index, "key")
        if key in first:
            yield error(
                "attribute/duplicate",
                Message.of(
                    "the custom attribute ",
                    quote(key, is_name=True),
                    f" is listed twice, first in line {document.at(first[key]).line}",
                ),
                source=document.at(path),
                hint="Remove one of them.",
            )
        else:
            first[key] = path
