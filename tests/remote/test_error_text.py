"""The reason of an error reaches the user, whatever the shape of its body."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.remote.error_text import read_error

SHAPES: dict[str, tuple[Any, str]] = {
    "documented": (
        {"errors": [{"source": "email", "errors": ["bad", "worse"]}, {"source": None, "errors": ["x"]}]},
        "email: bad, worse; x",
    ),
    "documented, flat": ({"errors": ["one", "two"], "error_code": "c"}, "one; two"),
    "errors is a text": ({"errors": "too bad"}, "too bad"),
    "errors of an entry is a text": ({"errors": [{"source": "email", "errors": "bad"}]}, "email: bad"),
    "errors is an object": ({"errors": {"email": ["bad"], "name": "short"}}, "email: bad; name: short"),
    "errors is an empty list": ({"errors": [], "error_code": "no_luck"}, "no_luck"),
    "JSON:API": (
        {"errors": [{"title": "Invalid", "detail": "Bad.", "source": {"pointer": "/data/x"}}]},
        "/data/x: Invalid: Bad.",
    ),
    "Django REST Framework, detail": ({"detail": "Not allowed."}, "Not allowed."),
    "Django REST Framework, fields": (
        {"email": ["Bad."], "name": ["Short.", "Odd."], "non_field_errors": ["All wrong."]},
        "email: Bad.; name: Short., Odd.; All wrong.",
    ),
    "Django REST Framework, nested": ({"profile": {"name": ["Short."]}}, "profile.name: Short."),
    "FastAPI": (
        {"detail": [{"loc": ["body", "items", 0], "msg": "field required", "type": "missing"}]},
        "body.items.0: field required",
    ),
    "problem+json": (
        {"type": "about:blank", "title": "Forbidden", "status": 403, "detail": "No.", "instance": "/a"},
        "Forbidden: No.",
    ),
    "problem+json, title only": ({"title": "Forbidden", "status": 403}, "Forbidden"),
    "problem+json, parameters": (
        {"title": "Invalid", "invalid-params": [{"name": "age", "reason": "negative"}]},
        "Invalid; age: negative",
    ),
    "Google": ({"error": {"code": 404, "message": "gone", "status": "NOT_FOUND"}}, "gone"),
    "OAuth": ({"error": "invalid_client", "error_description": "Unknown."}, "Unknown."),
    "error is a text": ({"error": "nope"}, "nope"),
    "Spring": (
        {"timestamp": "t", "status": 400, "error": "Bad Request", "message": "m", "path": "/api"},
        "m",
    ),
    "NestJS": ({"statusCode": 400, "message": ["a", "b"], "error": "Bad Request"}, "Bad Request; a; b"),
    "AWS": ({"Message": "User is not authorized"}, "User is not authorized"),
    "Cloudflare": (
        {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}], "result": None},
        "Authentication error",
    ),
    "GraphQL": ({"errors": [{"message": "bad", "path": ["user", 1]}]}, "user.1: bad"),
    "a text": ("quota exceeded", "quota exceeded"),
    "a list": (["one", "two"], "one; two"),
    "a code alone": ({"code": "QUOTA"}, "QUOTA"),
    "nothing": ({"status": 400}, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_json_of_every_shape_gives_its_reason(name: str) -> None:
    content, reason = SHAPES[name]
    assert read_error(json.dumps(content).encode()).reason == reason


PAGES: dict[str, tuple[bytes, str]] = {
    "plain text": (b"upstream connect error\r\n", "upstream connect error"),
    "page with a title": (
        b"<html><head><title>502 Bad\n Gateway</title></head>",
        "502 Bad Gateway",
    ),
    "page without a title": (
        b"<!DOCTYPE html><style>b{}</style><h1>Back&nbsp;soon</h1><script>x<y</script><p>Sorry",
        "Back soon Sorry",
    ),
    "XML": (b"<?xml version='1.0'?><Error><Code>A</Code><Message>No</Message></Error>", "A No"),
    "JSON with a mark": (b'\xef\xbb\xbf{"detail": "No."}', "No."),
    "JSON in UTF-16": ('{"detail": "Nö."}'.encode("utf-16"), "Nö."),
    "text in UTF-16": ("Nö.".encode("utf-16"), "Nö."),
    "JSON with a name twice": (b'{"detail": "a", "detail": "b"}', "b"),
    "bytes": (bytes(range(256)), ""),
    "nothing": (b"", ""),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_gives_its_title_or_its_words(name: str) -> None:
    body, reason = PAGES[name]
    assert read_error(body).reason == reason


def test_a_code_is_taken_from_valid_json_only() -> None:
    assert read_error(b'{"error_code": "a"}').code == "a"
    assert read_error(b'{"error_code": "a", "error_code": "b"}').code is None
    assert read_error(b'{"error": {"error_code": "a"}}').code is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["errors", "error", "detail", "message", "source", "loc", "title"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_body_gives_one_bounded_line(body: bytes) -> None:
    reason = read_error(body).reason
    assert len(reason) <= 1000
    assert reason == " ".join(reason.split())
    assert reason.isprintable()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 500_000,
        b'{"detail":' * 100_000 + b"1" + b"}" * 100_000,
        json.dumps({"errors": ["x" * 100] * 9_000}).encode(),
        json.dumps({"errors": {f"f{number}": ["x"] for number in range(50_000)}}).encode(),
        b"<" * (1 << 20),
        b"<script" * 150_000,
        b"<!--" * 250_000,
        b"<title" * 170_000,
        b"&" * (1 << 20),
    ],
    ids=["lists", "objects", "many", "fields", "angles", "scripts", "comments", "titles", "marks"],
)
def test_a_hostile_body_of_a_megabyte_takes_no_time(body: bytes) -> None:
    started = time.process_time()
    read_error(body)
    assert time.process_time() - started < 1
