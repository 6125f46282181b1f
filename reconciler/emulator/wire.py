"""Answers as bytes and pauses, with the alterations of faults.

`injected_answer` builds the answer of a fault that replaces the API's. `encode_reply` writes an answer
for the connection and lets faults alter its body, its headers, its framing and its pace.
"""

from __future__ import annotations

import email.utils
import gzip
import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from reconciler.emulator.faults import Fault, FaultKind
from reconciler.emulator.http import Answer, End, Reply
from reconciler.emulator.judge import Rejected
from reconciler.emulator.responses import error_answer, json_answer
from reconciler.emulator.routes import has_flat_errors
from reconciler.values import Json

_BLOCK = 1 << 20
_JSON = "application/json"
_DRIPS_PER_SECOND = 50
"""At most so many pieces a second are sent by a fault that slows an answer down."""
_HTML_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n"
    b"<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body></html>\n"
)


# --- answers of faults ---------------------------------------------------------------------------


def injected_answer(
    fault: Fault | None, api_answer: Answer | None, *, path: str, now: float
) -> Answer | None:
    """The answer of a fault that ends a request; None without such a fault.

    ``api_answer`` is the API's answer, if the request took effect; ``path`` is that of the request, and
    ``now`` the time in seconds since the epoch.
    """
    if fault is None:
        return None
    if fault.kind is FaultKind.REDIRECT:
        return json_answer(fault.status, headers={"Location": fault.text or path})
    status = int(fault.text) if fault.kind is FaultKind.LATE else fault.status
    if status in (204, 205, 304):
        return json_answer(status)
    if status < 300:
        return replace(api_answer or json_answer(200, {"data": {}}), status=status)
    code = fault.code or ("rate_limited" if status == 429 else "injected_fault")
    headers = {}
    if fault.retry_after is not None:
        headers["Retry-After"] = retry_after(fault.retry_after, now)
    errors = [(None, "Injected by the emulator")]
    rejected = Rejected(status, code, errors=errors, headers=headers)
    return error_answer(rejected, is_flat=has_flat_errors(path))


def retry_after(text: str, now: float) -> str:
    """The value of a Retry-After header.

    ``date+N`` and ``date-N`` become an HTTP date N seconds after or before ``now`` (seconds since the
    epoch). Other text stays as it is.
    """
    match = re.fullmatch(r"date(?:([+-][0-9]{1,9}))?", text)
    return email.utils.formatdate(now + int(match[1] or 0), usegmt=True) if match else text


# --- altered answers -----------------------------------------------------------------------------


@dataclass(slots=True)
class _HttpMessage:
    """An answer while faults alter it."""

    status: int
    headers: dict[str, str]
    body: list[bytes]
    header_lines: list[str]
    """Further header lines, sent as they are."""
    before: bytes = b""
    """Bytes in front of the status line."""
    end: End = End.KEEP
    idle_limit: float | None = None

    @property
    def size(self) -> int:
        return sum(map(len, self.body))

    def replace_body(self, *pieces: bytes, content_type: str | None = None) -> None:
        self.body = list(pieces)
        if "Content-Length" in self.headers or self.size:
            self.headers["Content-Length"] = str(self.size)
        if content_type is not None:
            self.headers["Content-Type"] = content_type


def encode_reply(
    answer: Answer,
    alterations: Sequence[Fault] = (),
    *,
    close: bool = False,
    head_only: bool = False,
    other_answer: Callable[[], Answer] | None = None,
) -> Reply:
    """The reply that carries an answer, altered by faults in their order.

    ``close`` announces the end of the connection, ``head_only`` omits the body, and ``other_answer``
    gives the answer about another profile.
    """
    is_other = any(fault.kind is FaultKind.OTHER_PROFILE for fault in alterations)
    if is_other and other_answer is not None:
        answer = other_answer()
    message = _HttpMessage(answer.status, dict(answer.headers), [answer.body], [])
    for fault in alterations:
        _alter(message, fault)
    if close:
        message.header_lines.append("Connection: close")
    head = Answer(message.status, message.headers, b"").head(*message.header_lines)
    pieces = [message.before + head, *([] if head_only else message.body)]
    return Reply(_steps(pieces, alterations), message.end, message.idle_limit)


def _alter(message: _HttpMessage, fault: Fault) -> None:
    match fault.kind:
        case FaultKind.PROFILE_ID:
            _set_member(message, "profile_id", value=fault.text)
        case FaultKind.APP_ID:
            _set_member(message, "app_id", value=fault.text)
        case FaultKind.CLOCK:
            _shift_timestamp(message, seconds=fault.size)
        case FaultKind.BODY:
            message.status = fault.status or message.status
            _alter_body(message, fault)
        case FaultKind.HEADERS:
            message.header_lines += [f"X-Filler-{number}: {number}" for number in range(fault.size)]
        case FaultKind.BIG_HEADER:
            message.header_lines.append("X-Filler: " + "x" * fault.size)
        case FaultKind.LENGTH:
            message.headers["Content-Length"] = str(max(0, message.size + fault.size))
            message.end = fault.end or (End.CLOSE if fault.size > 0 else End.KEEP)
        case FaultKind.FRAMING:
            _alter_framing(message, fault)
        case FaultKind.INTERIM:
            message.before += Answer(fault.status, {}, b"").head()
        case FaultKind.TRUNCATE:
            message.end = fault.end or End.CLOSE
        case FaultKind.IDLE_CLOSE:
            message.idle_limit = fault.seconds
        case _:  # faults of the whole reply: see _steps
            pass


def _set_member(message: _HttpMessage, name: str, *, value: str) -> None:
    """Change a member of the profile in an answer. Without a ``value``, the new one is derived from the
    true one, so that it stays the same."""
    try:
        content = json.loads(b"".join(message.body))
        data = content.get("data", content)
        data[name] = value or str(uuid.uuid5(uuid.NAMESPACE_OID, str(data[name])))
    except (ValueError, LookupError, TypeError, AttributeError):
        return
    message.replace_body(json.dumps(content).encode("ascii"))


def _shift_timestamp(message: _HttpMessage, *, seconds: int) -> None:
    """Let the answer bear another time, as from a clock that is so many seconds ahead."""
    try:
        content = json.loads(b"".join(message.body))
        content["data"]["timestamp"] += 1000 * seconds
    except (ValueError, LookupError, TypeError):
        return
    message.replace_body(json.dumps(content).encode("ascii"))


def _alter_body(message: _HttpMessage, fault: Fault) -> None:
    body = b"".join(message.body)
    match fault.text:
        case "html":
            message.replace_body(_HTML_PAGE, content_type="text/html; charset=utf-8")
        case "text":
            message.replace_body(b"OK", content_type="text/plain")
        case "empty":
            message.replace_body()
        case "null":
            message.replace_body(b"null", content_type=_JSON)
        case "list":
            message.replace_body(b"[" + body + b"]", content_type=_JSON)
        case "half":
            message.replace_body(body[: len(body) // 2])
        case "nan":
            message.replace_body(*_with_member(body, b'"score": NaN'))
        case "infinity":
            message.replace_body(*_with_member(body, b'"score": 1e999'))
        case "duplicate":
            other_id = b'"profile_id": "00000000-0000-4000-8000-000000000000"'
            message.replace_body(*_with_member(body, other_id))
        case "surrogate":
            message.replace_body(*_with_member(body, b'"note": "\\ud800"'))
        case "utf8":
            message.replace_body(*_with_member(body, b'"note": "\xff\xc0\x80"'))
        case "utf16":
            message.replace_body(body.decode("utf-8", "replace").encode("utf-16"))
        case "bom":
            message.replace_body(b"\xef\xbb\xbf" + body)
        case "nested":
            depth = fault.size or 100_000
            message.replace_body(*_with_member(body, b'"note": ', b"[" * depth, b"]" * depth))
        case "huge":
            blocks, rest = divmod(fault.size or 50 << 20, _BLOCK)
            padding = [b"x" * _BLOCK] * blocks + [b"x" * rest]
            message.replace_body(*_with_member(body, b'"note": "', *padding, b'"'))
        case "gzip":
            message.replace_body(gzip.compress(body, mtime=0))
            message.headers["Content-Encoding"] = "gzip"
        case "gzip-bomb":
            # A gzip file may have several members, so one compressed megabyte of blanks is repeated.
            blanks = gzip.compress(b" " * _BLOCK, mtime=0)
            count = -(-(fault.size or 200 << 20) // _BLOCK)
            message.replace_body(gzip.compress(body, mtime=0), *[blanks] * count)
            message.headers["Content-Encoding"] = "gzip"
        case "brotli":
            # Some bytes that begin like Brotli's. What matters is that no client of ours can read them.
            message.replace_body(b"\x1b\x2f\x00\xf8" + bytes(reversed(body)))
            message.headers["Content-Encoding"] = "br"
        case _:
            media_type, content = _refusal(fault.text, message.status)
            message.replace_body(json.dumps(content).encode("ascii"), content_type=media_type)


def _refusal(shape: str, status: int) -> tuple[str, Json]:
    """The media type and the content of a refusal as other frameworks shape it."""
    text = "refused by a fault"
    match shape:
        case "errors-text":
            return _JSON, {"errors": text, "error_code": "refused", "status_code": status}
        case "json-api":
            error: Json = {
                "status": str(status),
                "title": "Invalid attribute",
                "detail": text,
                "source": {"pointer": "/data/attributes/email"},
            }
            return "application/vnd.api+json", {"errors": [error]}
        case "django":
            return _JSON, {"email": [text], "non_field_errors": ["and again"]}
        case "fastapi":
            return _JSON, {
                "detail": [{"loc": ["body", "email"], "msg": text, "type": "value_error"}]
            }
        case "problem":
            content: Json = {
                "type": "about:blank",
                "title": "Not allowed",
                "status": status,
                "detail": text,
            }
            return "application/problem+json", content
        case _:
            raise AssertionError(shape)


def _with_member(body: bytes, *member: bytes) -> tuple[bytes, ...]:
    """The pieces of a JSON object with one more member, which comes first in ``data`` if there is one."""
    start = body.find(b'{"data": {')
    at = start + len(b'{"data": {') if start >= 0 else body.find(b"{") + 1
    if at == 0:
        return (b"{", *member, b"}")
    comma = b"" if body[at:].lstrip().startswith(b"}") else b", "
    return (body[:at], *member, comma + body[at:])


def _alter_framing(message: _HttpMessage, fault: Fault) -> None:
    """Announce a wrong end of the body, or none."""
    body = b"".join(message.body)
    length = message.headers.pop("Content-Length", str(len(body)))
    end = End.KEEP
    match fault.text:
        case "none":
            end = End.CLOSE
        case "two-lengths":
            message.header_lines += [
                f"Content-Length: {length}",
                f"Content-Length: {int(length) + 1}",
            ]
        case "bad-length":
            message.header_lines.append("Content-Length: many")
        case "negative-length":
            message.header_lines.append("Content-Length: -1")
        case "both" | "chunked" | "bad-chunk" | "negative-chunk" | "long-chunk" | "short-chunk":
            sizes = {
                "bad-chunk": b"zz",
                "negative-chunk": b"-5",
                "long-chunk": b"%x" % (len(body) + 5),
                "short-chunk": b"%x" % max(1, len(body) - 5),
            }
            size = sizes.get(fault.text, b"%x" % len(body))
            message.body = [size, b"\r\n", body, b"\r\n0\r\n\r\n"]
            message.header_lines.append("Transfer-Encoding: chunked")
            if fault.text == "both":
                message.header_lines.append(f"Content-Length: {length}")
            if fault.text == "long-chunk":
                end = End.CLOSE
        case "no-last-chunk":
            message.body = [b"%x\r\n" % len(body), body, b"\r\n"]
            message.header_lines.append("Transfer-Encoding: chunked")
            end = End.CLOSE
        case _:
            raise AssertionError(fault.text)
    message.end = fault.end or end


def _steps(pieces: list[bytes], alterations: Sequence[Fault]) -> Iterable[bytes | float]:
    """The bytes of a reply and its pauses; the first piece is the head."""
    head_size = len(pieces[0])
    steps: Iterable[bytes | float] = _joined(pieces)
    for fault in alterations:
        match fault.kind:
            case FaultKind.TRUNCATE:
                pieces = _truncated(pieces, fault.text, head_size=head_size)
                steps = _joined(pieces)
            case FaultKind.STRAY:
                answer = b"".join(pieces)
                again = Answer(fault.status, {}, b"").head() if fault.status else answer
                steps = (answer, fault.seconds, again) if fault.seconds else (answer + again,)
            case FaultKind.DRIP:
                steps = _slowed_down(steps, fault, head_size=head_size)
            case _:
                pass
    return steps


def _joined(pieces: list[bytes]) -> list[bytes | float]:
    """The pieces as one step if they are small. A second small segment would wait for the client's
    delayed acknowledgement."""
    return [b"".join(pieces)] if sum(map(len, pieces)) <= _BLOCK else list(pieces)


def _truncated(pieces: list[bytes], place: str, *, head_size: int) -> list[bytes]:
    """The pieces up to a place: bytes from the beginning or the end, or the middle of a part."""
    total = sum(map(len, pieces))
    match place:
        case "status":
            left = pieces[0].find(b"\r\n") // 2
        case "headers":
            left = (pieces[0].find(b"\r\n") + head_size) // 2
        case "body":
            left = head_size + (total - head_size) // 2
        case _:
            left = int(place) if not place.startswith("-") else max(0, total + int(place))
    result = []
    for piece in pieces:
        result.append(piece[:left])
        left -= len(result[-1])
    return result


def _slowed_down(
    steps: Iterable[bytes | float], fault: Fault, *, head_size: int
) -> Iterator[bytes | float]:
    """The same bytes at ``fault.speed`` bytes a second."""
    portion = max(1, round(fault.speed / _DRIPS_PER_SECOND))
    sent = 0
    for step in steps:
        if not isinstance(step, bytes):
            yield step
            continue
        at = 0
        while at < len(step):
            slow = fault.part == "all" or (fault.part == "headers") == (sent < head_size)
            length = portion if slow else len(step)
            if sent < head_size and fault.part != "all":
                length = min(length, head_size - sent)
            piece = step[at : at + length]
            yield piece
            at += len(piece)
            sent += len(piece)
            if slow:
                yield len(piece) / fault.speed
