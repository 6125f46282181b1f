"""The API's answers as JSON over HTTP: results, and the error body."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from types import MappingProxyType

from reconciler.emulator.http import Answer
from reconciler.emulator.judge import Rejected
from reconciler.values import Json


def json_answer(
    status: int, body: Json = None, *, headers: Mapping[str, str] = MappingProxyType({})
) -> Answer:
    """An answer with a Request-Id of its own. Without a body it has no Content-Type."""
    content = b"" if body is None else json.dumps(body).encode("ascii")
    content_type = {"Content-Type": "application/json"} if content else {}
    generated = {"Request-Id": uuid.uuid4().hex, "Content-Length": str(len(content))}
    return Answer(status, {**content_type, **headers, **generated}, content)


def error_answer(rejected: Rejected, *, is_flat: bool = False) -> Answer:
    """The error body (adapty-api 6.1): one entry for each source, with all its messages; or, if it is
    flat, a list of the messages."""
    by_source: dict[str | None, list[str]] = {}
    for source, message in rejected.errors:
        by_source.setdefault(source, []).append(message)
    errors: Json = [
        {"source": source, "errors": messages} for source, messages in by_source.items()
    ]
    if is_flat:
        errors = [message for _, message in rejected.errors]
    body: Json = {
        "errors": errors,
        "error_code": rejected.code,
        "status_code": rejected.status,
    }
    return json_answer(rejected.status, body, headers=rejected.headers)
