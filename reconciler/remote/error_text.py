"""The reason that the body of an error gives, in whatever shape it gives it. Pure.

The API documents two shapes (adapty-api 6.1). Gateways, frameworks and maintenance pages answer in others:
JSON:API, Django REST Framework, FastAPI, problem+json (RFC 9457), plain text, HTML and XML. No shape is
tried after another one: members with well-known names are read wherever they stand.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeGuard

_DEEPEST = 6
"""Levels of a JSON body that are read."""
_MOST_TEXTS = 20
_MOST_CHARACTERS = 1000
"""Of a reason. Whoever shows it cuts it further."""
_PAGE_CHARACTERS = 8000
"""Of a page whose tags are removed."""

_SENTENCES = (
    "detail", "message", "msg", "error_description", "error_message", "errormessage", "description",
    "reason", "error", "fault", "faultstring", "cause",
)  # fmt: skip
"""Members that say what is wrong, the most telling first. Of an object, the first that is a text is read."""
_GROUPS = (
    "errors", "error", "detail", "details", "message", "messages", "fault", "violations",
    "invalid-params", "invalid_params", "fielderrors", "field_errors", "validation_errors", "causes",
)  # fmt: skip
"""Members that hold further errors, in lists or objects."""
_PLACES = (
    "source",
    "loc",
    "field",
    "path",
    "pointer",
    "parameter",
    "param",
    "property",
    "name",
    "header",
)
"""Members that name the place of an error in the request."""
_ABOUT = frozenset(
    {
        "code", "error_code", "errorcode", "status", "status_code", "statuscode", "type", "instance", "id",
        "timestamp", "request_id", "requestid", "trace_id", "traceid", "trace", "method", "url", "uri",
        "documentation_url", "help", "success", "ok", "title", *_PLACES,
    }
)  # fmt: skip
"""Members whose text says something about an error, and is not what is wrong with a field of that name."""
_NO_FIELDS = ("non_field_errors", "__all__")
"""Names that Django gives to what is wrong with no single field."""
_NEVER_FIELDS = frozenset({"links", "meta", "input", "ctx", "data", "trace", "stack"})

_INVISIBLE = re.compile(r"<(script|style|svg)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.S | re.I)
_TAG = re.compile(r"<[^<>]*(?:>|\Z)")
_TITLE = re.compile(r"<title\b[^<>]*>([^<]*)", re.I)


class ErrorText(NamedTuple):
    """What the body of an error says."""

    code: str | None
    """Its ``error_code``, as it was sent."""
    reason: str
    """One line without control characters; ``""`` if the body gives none."""


def read_error(body: bytes) -> ErrorText:
    """The code and the reason of an error's body. It is never wrong to call it with any bytes at all."""
    try:
        data, is_strict = strict_json(body), True
    except (ValueError, RecursionError):
        is_strict = False
        try:
            data = json.loads(body)  # of another encoding, or with a name that is there twice
        except (ValueError, RecursionError):
            return ErrorText(None, _one_line(_page_text(_decoded(body))))
    code = data.get("error_code") if is_strict and isinstance(data, dict) else None
    texts = dict.fromkeys(filter(None, map(_one_line, _bounded(_statements(data)))))
    if not texts and isinstance(data, dict):
        texts = dict.fromkeys(filter(_is_text, map(data.get, ("error_code", "code"))))
        texts = dict.fromkeys(map(_one_line, texts))
    return ErrorText(code if isinstance(code, str) else None, "; ".join(texts)[:_MOST_CHARACTERS])


def strict_json(body: bytes) -> Any:
    """The value of JSON in UTF-8. Raises ValueError for any other bytes, for NaN and infinities, and for a
    name that is there twice; RecursionError for what is too deep."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(items)
        if len(out) != len(items):
            raise ValueError
        return out

    def refuse(text: str) -> float:
        raise ValueError(text)

    return json.loads(body.decode("utf-8"), object_pairs_hook=pairs, parse_constant=refuse)


def _bounded(texts: Iterator[str]) -> Iterator[str]:
    characters = 0
    for count, text in enumerate(texts, 1):
        yield text[:_MOST_CHARACTERS]
        characters += len(text)
        if count >= _MOST_TEXTS or characters >= _MOST_CHARACTERS:
            return


# --- JSON ----------------------------------------------------------------------------------------


def _statements(value: Any, place: str = "", *, depth: int = 0) -> Iterator[str]:
    """The texts of a value, each with its place in the request."""
    if isinstance(value, str):
        if value.strip():
            yield _placed(value, place)
    elif depth > _DEEPEST:
        return
    elif isinstance(value, Mapping):
        yield from _of_object(value, place, depth=depth)
    elif isinstance(value, Sequence):
        texts = [text for text in value[:_MOST_TEXTS] if isinstance(text, str)]
        if len(texts) == len(value[:_MOST_TEXTS]):
            yield from [_placed(", ".join(texts), place)] if place and texts else texts
        else:
            for item in value[:_MOST_TEXTS]:
                yield from _statements(item, place, depth=depth + 1)


def _of_object(value: Mapping[str, Any], place: str, *, depth: int) -> Iterator[str]:
    members = {name.lower(): content for name, content in value.items()}
    place = (_place(members) if depth else "") or place
    any_text = False
    title = members.get("title")
    sentence = next((members[name] for name in _SENTENCES if _is_text(members.get(name))), None)
    if _is_text(title) and sentence is not None and title not in sentence:
        sentence = f"{title}: {sentence}"
    elif sentence is None and _is_text(title):
        sentence = title
    if sentence is not None:
        any_text = True
        yield _placed(sentence, place)
    for name in _GROUPS:
        content = members.get(name)
        if content is not None and (name == "errors" or not isinstance(content, str)):
            if name.endswith("errors") and isinstance(content, Mapping):
                texts = _of_fields(content, place, depth=depth + 1, excluded=_NEVER_FIELDS)
            else:
                texts = _statements(content, place, depth=depth + 1)
            for text in texts:
                any_text = True
                yield text
    if not any_text:
        yield from _of_fields(value, place, depth=depth, excluded=_ABOUT)


def _of_fields(
    value: Mapping[str, Any], place: str, *, depth: int, excluded: Set[str]
) -> Iterator[str]:
    """The texts of an object whose members are fields, each with what is wrong with it. A text of a member
    whose name is ``excluded`` is nothing that is wrong."""
    for name, content in value.items():
        is_about = name.lower() in (excluded if isinstance(content, str) else _NEVER_FIELDS)
        if is_about or not isinstance(content, (str, list, dict)):
            continue
        inner = place if name in _NO_FIELDS else f"{place}.{name}" if place else name
        yield from _statements(content, inner, depth=depth + 1)


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _place(members: Mapping[str, Any]) -> str:
    """The place that an error names: ``email``, ``body.email``, ``/data/attributes/email``."""
    for name in _PLACES:
        content = members.get(name)
        if isinstance(content, Mapping):
            content = next((text for text in content.values() if _is_text(text)), None)
        if isinstance(content, list) and name in ("loc", "path"):
            content = ".".join(str(part) for part in content[:8] if isinstance(part, (str, int)))
        if _is_text(content):
            return str(content)[:80]
    return ""


def _placed(text: str, place: str) -> str:
    return f"{place}: {text}" if place else text


# --- texts and pages -----------------------------------------------------------------------------


def _decoded(body: bytes) -> str:
    """Text of an unknown encoding; ``""`` for what is no text."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body[: 4 * _PAGE_CHARACTERS].decode("utf-16", "replace")
    head = body[: 8 * _PAGE_CHARACTERS].decode("utf-8", "replace").removeprefix("\ufeff")
    unreadable = sum(not (letter.isprintable() or letter.isspace()) for letter in head)
    return "" if (unreadable + head.count("\ufffd")) * 10 > len(head) else head


def _page_text(text: str) -> str:
    """A text, or what stands on a page of HTML or XML: its title, else its words."""
    if not text.lstrip().startswith("<"):
        return text[:_PAGE_CHARACTERS].rpartition(" ")[0] if len(text) > _PAGE_CHARACTERS else text
    if title := _TITLE.search(text):
        return html.unescape(title[1])
    words = _TAG.sub(" ", _INVISIBLE.sub(" ", text[:_PAGE_CHARACTERS]))
    return html.unescape(words)


def _one_line(text: str) -> str:
    letters = (letter if letter.isprintable() else " " for letter in text)
    return " ".join("".join(letters).split())
