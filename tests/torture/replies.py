"""Answers of a broken or hostile server, and cuts at every byte: none counts as success, none crashes
the client, none makes it grow, and no redirect leads anywhere.

The client that meets the large ones runs in a process of its own, whose memory is measured::

    python -m tests.torture.replies URL DEADLINE NAME...
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reconciler.core.endpoints import PATH
from reconciler.core.plan import Request
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.client import Client
from tests.torture.tally import Tally
from tests.torture.world import KEY, ROOT

GROWTH = 64 << 20
"""Bytes that a client may grow by over its size after a normal answer."""
HEADERS = {"adapty-customer-user-id": "jane"}
REQUESTS = {
    "PATCH": Request("PATCH", PATH, HEADERS, {"first_name": "Jane"}),
    "POST": Request("POST", PATH, HEADERS, {"first_name": "Jane"}),
    "GET": Request("GET", PATH, HEADERS),
    "DELETE": Request("DELETE", PATH, HEADERS),
}
PROFILE = {
    "app_id": "a",
    "profile_id": "3286abd3-48b0-4e9c-a5f6-ac0a006804a6",
    "customer_user_id": "jane",
    "timestamp": 1,
    "custom_attributes": [{"key": "level", "value": 5}],
}
GOOD = json.dumps({"data": PROFILE}).encode()
MISSING = b'{"errors": [], "error_code": "profile_does_not_exist", "status_code": 404}'

Script = Iterable[bytes]


def reply(body: bytes = GOOD, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *(headers or (f"Content-Length: {len(body)}",))]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return reply(body + end, "Transfer-Encoding: chunked")


def _endless(head: bytes, piece: bytes) -> Iterator[bytes]:
    yield head
    yield from itertools.repeat(piece, 20_000)


def _large(head: bytes, size: int) -> Iterator[bytes]:
    """A body of so many bytes, which would be a profile with one long name."""
    yield head
    yield GOOD[:-2] + b', "x": "'
    yield from itertools.repeat(b"x" * 65536, size // 65536)
    yield b'"}}'


def _whole(content: bytes) -> Script:
    return (content,)


def _with(**changes: Any) -> bytes:
    return json.dumps({"data": {**PROFILE, **changes}}).encode()


def answers() -> dict[str, Callable[[], Script]]:
    """Answers with status 200 that are no success, by name."""
    length = f"Content-Length: {len(GOOD)}"
    long = f"Content-Length: {len(GOOD) - 2 + len(', _x_: _') + 800 * 65536 + len(', ') + 1}"
    twice = gzip.compress(gzip.compress(b"\0" * (200 << 20), 1))
    whole: dict[str, bytes] = {
        # F14: framing
        "longer than said": reply(GOOD, f"Content-Length: {len(GOOD) - 1}"),
        "shorter than said": reply(GOOD, f"Content-Length: {len(GOOD) + 1}"),
        "two lengths": reply(GOOD, length, "Content-Length: 5"),
        "two lengths in one": reply(GOOD, f"{length}, 5"),
        "length with a sign": reply(GOOD, f"Content-Length: +{len(GOOD)}"),
        "negative length": reply(GOOD, "Content-Length: -1"),
        "length that is text": reply(GOOD, "Content-Length: many"),
        "length and chunks": reply(
            chunked(GOOD).partition(b"\r\n\r\n")[2], length, "Transfer-Encoding: chunked"
        ),
        "no length": reply(GOOD, "Content-Type: application/json"),
        "no length, HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + GOOD,
        "unknown transfer encoding": reply(GOOD, "Transfer-Encoding: gzip"),
        "chunk without end": chunked(GOOD, end=b""),
        "chunk with half an end": chunked(GOOD, end=b"0\r\n"),
        "chunk size that is text": reply(b"zz\r\n" + GOOD, "Transfer-Encoding: chunked"),
        "negative chunk": reply(b"-5\r\n" + GOOD, "Transfer-Encoding: chunked"),
        "huge chunk": reply(b"ffffffffffffffff\r\n" + GOOD, "Transfer-Encoding: chunked"),
        "chunk longer than said": reply(
            b"5\r\n" + GOOD + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"
        ),
        "bare line feeds cut": b"HTTP/1.1 200 OK\nContent-Length: 500\n\n" + GOOD,
        "no status line": GOOD,
        "status of four digits": reply(status="2000 OK"),
        "status that is text": reply(status="fine OK"),
        "nothing": b"",
        "switching protocols": reply(status="101 Switching Protocols"),
        "partial content that is none": reply(GOOD[:-5], status="206 Partial Content"),
        "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
        # F21: content
        "HTML": reply(b"<html><body>It works</body></html>"),
        "empty": reply(b""),
        "null": reply(b"null"),
        "list": reply(b"[%s]" % GOOD),
        "number": reply(b"7"),
        "null data": reply(b'{"data": null}'),
        "NaN": reply(GOOD.replace(b'"value": 5', b'"value": NaN')),
        "infinite": reply(GOOD.replace(b'"value": 5', b'"value": 1e999')),
        "duplicate key": reply(GOOD[:-2] + b', "profile_id": "b"}}'),
        "deep": reply(b"[" * 100_000 + b"]" * 100_000),
        "deep inside": reply(GOOD[:-2] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"),
        "bad UTF-8": reply(GOOD.replace(b"level", b"\xff\xfe")),
        "UTF-16": reply(GOOD.decode().encode("utf-16")),
        "BOM": reply(b"\xef\xbb\xbf" + GOOD),
        "garbage after": reply(GOOD + b"x"),
        "two objects": reply(GOOD + GOOD),
        "another profile": reply(_with(customer_user_id="joe")),
        "no customer": reply(_with(customer_user_id=None)),
        "profile id that is a number": reply(_with(profile_id=5)),
        "attributes as a map": reply(_with(custom_attributes={"level": 5})),
        "attribute twice": reply(_with(custom_attributes=PROFILE["custom_attributes"] * 2)),
        "number of 5,000 digits": reply(GOOD.replace(b": 5}", b": " + b"9" * 5_000 + b"}")),
        "gzip cut": reply(
            gzip.compress(GOOD)[:-4],
            "Content-Encoding: gzip",
            f"Content-Length: {len(gzip.compress(GOOD)) - 4}",
        ),
        "gzip that is none": reply(GOOD, length, "Content-Encoding: gzip"),
        "unknown encoding": reply(GOOD, length, "Content-Encoding: br"),
        "gzip bomb": reply(
            gzip.decompress(twice),
            "Content-Encoding: gzip",
            f"Content-Length: {len(gzip.decompress(twice))}",
        ),
        "gzip bomb in gzip": reply(
            twice, "Content-Encoding: gzip, gzip", f"Content-Length: {len(twice)}"
        ),
        "deflate bomb": reply(
            zlib.compress(b"\0" * (50 << 20)),
            "Content-Encoding: deflate",
            f"Content-Length: {len(zlib.compress(bytes(50 << 20)))}",
        ),
        "200 headers": reply(GOOD, length, *(f"X-{number}: y" for number in range(200))),
        "header of 100 kB": reply(GOOD, length, "X: " + "y" * 100_000),
        "header with a NUL cut": reply(GOOD[:-1], "X: \0", length),
    }
    named: dict[str, Callable[[], Script]] = {
        name: partial(_whole, content) for name, content in whole.items()
    }
    return named | {
        "50 MiB": lambda: _large(reply(b"", long), 50 << 20),
        "50 MiB in chunks": lambda: (
            reply(b"", "Transfer-Encoding: chunked"),
            *itertools.repeat(b"10000\r\n" + b" " * 65536 + b"\r\n", 800),
            b"0\r\n\r\n",
        ),
        "endless chunks": lambda: _endless(
            reply(b"", "Transfer-Encoding: chunked"), b"10000\r\n" + b" " * 65536 + b"\r\n"
        ),
        "endless chunk line": lambda: _endless(
            reply(b"", "Transfer-Encoding: chunked"), b"0" * 65536
        ),
        "endless trailers": lambda: _endless(
            chunked(GOOD, end=b"0\r\n"), b"X-Trailer: yes\r\n" * 1000
        ),
        "endless headers": lambda: _endless(b"HTTP/1.1 200 OK\r\n", b"X-Header: yes\r\n" * 1000),
        "endless header": lambda: _endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536),
        "endless status line": lambda: _endless(b"HTTP/1.1 200 ", b"y" * 65536),
        "endless interim answers": lambda: _endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000),
    }


class RawServer:
    """Answers the one request of each connection with what the script makes of it, and closes: in
    order, or, with ``reset``, at once."""

    def __init__(self, script: Callable[[bytes], Script], *, reset: bool = False) -> None:
        self.received: list[bytes] = []
        self._script = script
        self._reset = reset
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            # Each in a thread, so that no slow answer keeps the next request from being met.
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = _read(connection)
            if request:
                self.received.append(request)
                for piece in self._script(request):
                    connection.sendall(piece)
            if self._reset:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def _read(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    while found and len(body) < int(found[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def _send(url: str, request: Request, **options: Any) -> ApiAnswer:
    """One call by a client of its own: a connection that the server is about to close, and does not
    say so, would end the next call before it arrives."""
    client = Client(base_url=url, key=KEY, **{"attempts": 1, "timeout": 2.0, **options})
    try:
        return client.send(request)
    finally:
        client.close()


# --- malformed answers, and memory ----------------------------------------------------------------


def malformed(*, deadline: float = 2.0) -> Tally:
    """Every malformed answer, to a client in a process of its own."""
    tally = Tally()
    scripts = answers()

    def script(request: bytes) -> Script:
        asked = re.search(rb"adapty-platform: ([^\r]+)", request)
        return list(scripts.values())[int(asked[1])]() if asked else (reply(),)

    with RawServer(script) as server:
        child = subprocess.run(
            [sys.executable, "-m", "tests.torture.replies", server.url, str(deadline), *scripts],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
        )
    seen = [json.loads(line) for line in child.stdout.splitlines()]
    if len(server.received) != len(scripts) + 1:
        tally.blame(f"replies.malformed({deadline=})", ["not every request arrived"])
    if child.returncode or [line["name"] for line in seen] != list(scripts):
        tally.blame(
            f"replies.malformed({deadline=})", [f"the client died: {child.stderr.strip()[-300:]}"]
        )
    for line in seen:
        tally.counts["malformed answers"] += 1
        tally.counts["most bytes grown"] = max(tally.counts["most bytes grown"], line["grown"])
        problems = []
        if line["result"] != CallResult.UNKNOWN:
            problems.append(f"{line['name']}: counted as {line['result']}")
        if line["grown"] > GROWTH:
            problems.append(f"{line['name']}: the client grew by {line['grown'] >> 20} MiB")
        if line["seconds"] > deadline + 2:
            problems.append(f"{line['name']}: took {line['seconds']:.1f} s")
        tally.blame(f"replies.malformed({deadline=})", problems)
    return tally


def _meet(url: str, deadline: float, names: Iterable[str]) -> None:
    """The child: one call for each answer, how it ended, how long it took and how much it grew."""
    assert _send(url, REQUESTS["PATCH"], timeout=deadline).result is CallResult.DONE
    base = _resident("VmRSS")
    for number, name in enumerate(names):
        asked = {**HEADERS, "adapty-platform": str(number)}
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        started = time.monotonic()
        answer = _send(url, Request("PATCH", PATH, asked, {}), timeout=deadline)
        told = {
            "name": name,
            "result": answer.result,
            "seconds": time.monotonic() - started,
            "grown": max(0, _resident("VmHWM") - base),
        }
        print(json.dumps(told), flush=True)


def _resident(what: str) -> int:
    found = re.search(rf"{what}:\s+([0-9]+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


# --- refusals -------------------------------------------------------------------------------------

NO_STATUS = frozenset(
    {"no status line", "status of four digits", "status that is text", "nothing",
     "switching protocols", "partial content that is none", "no content", "endless status line",
     "endless interim answers", "no length, HTTP/1.0"}
)  # fmt: skip
"""Answers of `answers` that do not begin with ``HTTP/1.1 200 OK``."""


def refusals(*, deadline: float = 3.0) -> Tally:
    """Every odd answer with the status of a refusal in place of 200: the status decides, in time, and no
    such answer says that a profile does not exist."""
    tally = Tally()
    scripts = {name: script for name, script in answers().items() if name not in NO_STATUS}
    names = list(scripts)

    def script(request: bytes) -> Script:
        status, number = re.search(rb"adapty-platform: (\d+)/(\d+)", request).groups()  # type: ignore[union-attr]
        head, *rest = itertools.islice(scripts[names[int(number)]](), 20_000)
        return (head.replace(b" 200 OK", b" %s Refused" % status, 1), *rest)

    with RawServer(script) as server:
        for status, (number, name) in itertools.product((400, 401, 404), enumerate(names)):
            asked = {**HEADERS, "adapty-platform": f"{status}/{number}"}
            started = time.monotonic()
            answer = _send(server.url, Request("PATCH", PATH, asked, {}), timeout=deadline)
            tally.counts["odd refusals"] += 1
            problems = []
            if answer.result is not CallResult.REFUSED or answer.is_missing:
                problems.append(f"{status}, {name}: {answer.result}")
            if time.monotonic() - started > deadline + 2:
                problems.append(f"{status}, {name}: took too long")
            tally.blame(f"replies.refusals({deadline=})", problems)
    return tally


# --- cuts -----------------------------------------------------------------------------------------

WHOLE: Mapping[str, tuple[str, bytes]] = {
    "success": ("PATCH", reply()),
    "success to a GET": ("GET", reply()),
    "success to a POST": ("POST", reply()),
    "success in chunks": ("PATCH", chunked(GOOD[:40], GOOD[40:])),
    "success to a DELETE": ("DELETE", b"HTTP/1.1 204 No Content\r\nRequest-Id: 01\r\n\r\n"),
    "refusal": ("PATCH", reply(MISSING, status="404 Not Found")),
    "refusal to a DELETE": ("DELETE", reply(MISSING, status="404 Not Found")),
    "refused key": ("PATCH", reply(b'{"error_code": "x"}', status="401 Unauthorized")),
    "asked to wait": (
        "PATCH",
        reply(b"", "Retry-After: 1", "Content-Length: 0", status="429 Too Many Requests"),
    ),
}


def cuts(names: Iterable[str] = tuple(WHOLE), *, step: int = 1) -> Tally:
    """Every reply cut at every ``step``-th byte, the connection closed in order and reset."""
    tally = Tally()
    for name in names:
        method, whole = WHOLE[name]
        for reset in (False, True):
            ends = iter(range(0, len(whole), step))
            with RawServer(lambda request: (whole[: next(ends)],), reset=reset) as server:  # noqa: B023
                for cut in range(0, len(whole), step):
                    # A 429 is not sent again: each cut is met once.
                    answer = _send(server.url, REQUESTS[method], patience=-1.0)
                    result = answer.result
                    tally.counts["cuts"] += 1
                    if answer.is_missing or result not in _results_of_cut(whole, cut):
                        how = "reset" if reset else "closed"
                        what = f"{name} cut at {cut} of {len(whole)} and {how}: {result}"
                        tally.blame(f"replies.cuts([{name!r}])", [what])
                if len(server.received) != len(range(0, len(whole), step)):
                    tally.blame(f"replies.cuts([{name!r}])", ["not every request arrived"])
    return tally


def _results_of_cut(whole: bytes, cut: int) -> tuple[CallResult, ...]:
    """The results that an answer cut at a byte may have. A whole status line of a refusal is a refusal.
    Nothing else is known of a cut answer."""
    is_refusal = whole[9:10] == b"4" and cut >= whole.index(b"\r\n") + 2
    return (CallResult.REFUSED,) if is_refusal else (CallResult.UNKNOWN,)


# --- redirects ------------------------------------------------------------------------------------


def redirects() -> Tally:
    """Every redirect for every method, to a thief, to itself, and elsewhere."""
    tally = Tally()
    targets: list[str] = []

    def script(request: bytes) -> Script:
        status, target = re.search(rb"adapty-platform: (\d+)/(\d+)", request).groups()  # type: ignore[union-attr]
        location = f"Location: {targets[int(target)]}"
        yield reply(b"", location, "Content-Length: 0", status=f"{status.decode()} Moved")

    statuses = (300, 301, 302, 303, 305, 307, 308)
    with RawServer(lambda request: (reply(),)) as thief, RawServer(script) as server:
        targets += [
            f"{thief.url}{PATH}",
            f"//127.0.0.1:{thief.port}{PATH}",
            f"http://localhost:{thief.port}{PATH}",
            f"http://user:secret@127.0.0.1:{thief.port}/",
            PATH,
            "",
            "file:///etc/passwd",
        ]
        for status, method, number in itertools.product(statuses, REQUESTS, range(len(targets))):
            asked = REQUESTS[method]
            named = {**asked.headers, "adapty-platform": f"{status}/{number}"}
            before = len(server.received)
            result = _send(server.url, asked._replace(headers=named), attempts=4).result
            tally.counts["redirects"] += 1
            told = f"{status} to {targets[number]} on {method}"
            problems = []
            if result not in (CallResult.UNKNOWN, CallResult.REFUSED):
                problems.append(f"{told}: {result}")
            if len(server.received) != before + 1:
                problems.append(f"{told}: followed")
            tally.blame("replies.redirects()", problems)
        if thief.received:
            tally.blame(
                "replies.redirects()", [f"{len(thief.received)} requests reached the thief"]
            )
    return tally


if __name__ == "__main__":
    _meet(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
