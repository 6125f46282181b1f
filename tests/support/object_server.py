"""An object server on loopback: what obstore speaks of S3, of Google Cloud Storage (its XML API) and of Azure
Blob, with faults to order.

It checks no signature. Names of objects are those of the path, so the three dialects see the same objects.
As a program (``python -m tests.support.object_server PORT``) it takes its faults by ``POST /__faults``.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import socket
import struct
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""The key that the emulators of Azure share; public."""
ACCOUNT = "devstoreaccount1"
BUCKET = "bucket1"


@dataclass
class Faults:
    """Shares are between 0 and 1, of all requests or of those with the method ``only``."""

    lost_requests: float = 0.0
    """The connection breaks before anything is done."""
    lost_answers: float = 0.0
    """The connection breaks after everything is done."""
    conflicts: float = 0.0
    """409 for a write, and nothing is done: S3 answers so under contention."""
    throttled: float = 0.0
    """429, and nothing is done."""
    throttled_but_done: float = 0.0
    """429 for a write that is done: Google Cloud Storage is known to answer so."""
    unavailable: float = 0.0
    """503, and nothing is done."""
    latency: tuple[float, float] = (0.0, 0.0)
    """Seconds, from and to."""
    ignores_creation: bool = False
    """Writes over what exists although the request says that it must not."""
    ignores_match: bool = False
    """Replaces whatever the request says about the content that is there."""
    never_matches: bool = False
    """Refuses each replacement."""
    knows_no_conditions: bool = False
    """501 for each write with a condition."""
    forbids_missing: bool = False
    """403 instead of 404, as S3 answers to those who may not list."""
    read_only: bool = False
    """403 for each write, as to those who may only read."""
    refuses_credentials: bool = False
    """401 for everything."""
    has_no_bucket: bool = False
    """404 for the bucket as a whole."""
    clock: float = 0.0
    """Seconds by which the clock of the server is ahead."""
    only: str = ""
    seed: int = 0


class Stored(NamedTuple):
    """An object as the server keeps it."""

    data: bytes
    tag: str
    generation: int
    modified: float


@dataclass
class Cloud:
    """The objects of a server by their paths, and the requests that it had by method."""

    objects: dict[str, Stored] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    requests: Counter[str] = field(default_factory=Counter)
    clock: Callable[[], float] = time.time
    last_authorization: str = ""
    """The header with which the last request showed who it is from."""
    generation: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    random: random.Random = field(default_factory=lambda: random.Random(0))

    def set_faults(self, faults: Faults) -> None:
        self.faults = faults
        self.random = random.Random(faults.seed)


class _Broken(ConnectionError):
    """The connection is to break here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True
    cloud: Cloud

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        self._loses_answer = False
        try:
            self._route()
        except _Broken:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        except (OSError, ValueError):
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle

    def _route(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        path = unquote(parts.path)
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length) if length else b""
        if path == "/__faults":
            self.cloud.set_faults(Faults(**json.loads(data)))
            self._answer(200)
            return
        if path == "/__token":  # the token service of Google, for federated logins
            token = parse_qs(data.decode())["subject_token"][0]
            answer = {"access_token": f"token-for-{token}", "expires_in": 3600}
            answer["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token"
            answer["token_type"] = "Bearer"
            self._answer(200, json.dumps(answer).encode(), Content_Type="application/json")
            return
        with self.cloud.lock:
            self.cloud.requests[self.command] += 1
            self.cloud.last_authorization = self.headers.get("Authorization", "")
        if not self._fails(is_write=self.command in ("PUT", "DELETE", "POST")):
            getattr(self, f"_{self.command.lower()}")(path, query, data)

    def _fails(self, *, is_write: bool) -> bool:
        """Whether a fault has answered the request."""
        faults, chance = self.cloud.faults, self.cloud.random.random
        if faults.only not in ("", self.command):
            return False
        if faults.latency[1]:
            time.sleep(self.cloud.random.uniform(*faults.latency))
        if chance() < faults.lost_requests:
            raise _Broken
        if faults.refuses_credentials:
            return self._refuse(401, "AuthenticationFailed")
        if is_write and faults.read_only:
            return self._refuse(403, "AccessDenied")
        if faults.has_no_bucket:
            return self._refuse(404, "ContainerNotFound" if self._is_azure else "NoSuchBucket")
        if chance() < faults.unavailable:
            return self._refuse(503, "SlowDown")
        if chance() < faults.throttled:
            return self._refuse(429, "TooManyRequests")
        if self.command == "PUT" and chance() < faults.conflicts:
            return self._refuse(409, "ConditionalRequestConflict")
        self._loses_answer = chance() < faults.lost_answers
        return False

    # --- answers -----------------------------------------------------------------------------

    @property
    def _is_azure(self) -> bool:
        return "x-ms-version" in self.headers

    @property
    def _is_google(self) -> bool:
        return any(name.lower().startswith("x-goog") for name in self.headers)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        if self._loses_answer:
            raise _Broken
        self.send_response_only(status)
        length = headers.pop("Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", length)
        self.send_header(
            "Date", formatdate(self.cloud.clock() + self.cloud.faults.clock, usegmt=True)
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _refuse(self, status: int, code: str) -> bool:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a secret text</Message></Error>"
        self._answer(status, body.encode(), Content_Type="application/xml", x_ms_error_code=code)
        return True

    def _missing(self) -> None:
        if self.cloud.faults.forbids_missing:
            self._refuse(403, "AccessDenied")
        else:
            self._refuse(404, "BlobNotFound" if self._is_azure else "NoSuchKey")

    # --- methods -----------------------------------------------------------------------------

    def _put(self, path: str, query: Mapping[str, list[str]], data: bytes) -> None:
        cloud = self.cloud
        with cloud.lock:
            refusal = self._unmet_condition(cloud.objects.get(path))
            if refusal is None:
                cloud.generation += 1
                digest = hashlib.md5(data).hexdigest()
                tag = f'"0x{cloud.generation:X}"' if self._is_azure else f'"{digest}"'
                modified = cloud.clock() + cloud.faults.clock
                cloud.objects[path] = Stored(data, tag, cloud.generation, modified)
                generation = str(cloud.generation)
        if refusal is not None:
            self._refuse(*refusal)
        elif cloud.random.random() < cloud.faults.throttled_but_done:
            self._refuse(429, "SlowDown")
        else:
            status = 201 if self._is_azure else 200
            self._answer(status, ETag=tag, x_goog_generation=generation)

    def _unmet_condition(self, present: Stored | None) -> tuple[int, str] | None:
        """The refusal of a write whose condition does not hold, as each dialect words it."""
        faults, headers = self.cloud.faults, self.headers
        generation = headers.get("x-goog-if-generation-match")
        creates = headers.get("If-None-Match") == "*" or generation == "0"
        tag = headers.get("If-Match")
        matches = tag is not None or generation not in (None, "0")
        if faults.knows_no_conditions and (creates or matches):
            return 501, "NotImplemented"
        if creates and present is not None and not faults.ignores_creation:
            return (409, "BlobAlreadyExists") if self._is_azure else (412, "PreconditionFailed")
        if matches and not faults.ignores_match:
            there = None if present is None else (present.tag, str(present.generation))
            agrees = there is not None and (tag or there[0], generation or there[1]) == there
            if faults.never_matches or not agrees:
                return (412, "ConditionNotMet" if self._is_azure else "PreconditionFailed")
        return None

    def _get(self, path: str, query: Mapping[str, list[str]], data: bytes) -> None:
        if "list-type" in query or query.get("comp") == ["list"]:
            self._list(path, query)
            return
        with self.cloud.lock:
            there = self.cloud.objects.get(path)
        if there is None:
            self._missing()
            return
        self._answer(
            200,
            there.data,
            ETag=there.tag,
            x_goog_generation=str(there.generation),
            Last_Modified=formatdate(there.modified, usegmt=True),
            Content_Type="application/octet-stream",
            Length=str(len(there.data)),
        )

    _head = _get

    def _delete(self, path: str, query: Mapping[str, list[str]], data: bytes) -> None:
        with self.cloud.lock:
            was_there = self.cloud.objects.pop(path, None) is not None
        is_s3 = "x-amz-date" in self.headers
        if not was_there and not is_s3:
            self._missing()
        else:
            self._answer(202 if self._is_azure else 204)

    def _post(self, path: str, query: Mapping[str, list[str]], data: bytes) -> None:
        if "delete" in query:
            bucket = path.strip("/").split("/")[0]
            keys = re.findall(rb"<Key>(.*?)</Key>", data)
            with self.cloud.lock:
                for key in keys:
                    self.cloud.objects.pop(f"/{bucket}/{key.decode()}", None)
            entries = b"".join(b"<Deleted><Key>" + key + b"</Key></Deleted>" for key in keys)
            body = b"<DeleteResult>" + entries + b"</DeleteResult>"
            self._answer(200, body, Content_Type="application/xml")
        elif query.get("comp") == ["batch"]:
            self._answer(
                202, self._batch(path, data), Content_Type="multipart/mixed; boundary=part"
            )
        else:
            self._refuse(400, "NotSupported")

    def _batch(self, path: str, data: bytes) -> bytes:
        """The answers to the deletions of a batch of Azure."""
        answers = b""
        account = path.strip("/").split("/")[0]
        for number, match in enumerate(re.finditer(rb"DELETE (\S+) HTTP/1.1", data)):
            name = unquote(urlsplit(match[1].decode()).path)
            with self.cloud.lock:
                was_there = self.cloud.objects.pop(name, None) or self.cloud.objects.pop(
                    f"/{account}{name}", None
                )
            status = b"202 Accepted" if was_there else b"404 The specified blob does not exist."
            answers += (
                b"--part\r\nContent-Type: application/http\r\nContent-ID: %d\r\n\r\n"
                b"HTTP/1.1 %s\r\nx-ms-request-id: 1\r\n\r\n" % (number, status)
            )
        return answers + b"--part--\r\n"

    def _list(self, path: str, query: Mapping[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        marks = (query.get(name) for name in ("start-after", "continuation-token", "marker"))
        after = next((mark[0] for mark in marks if mark), "")
        base = path.rstrip("/") + "/"
        with self.cloud.lock:
            names = sorted(
                name.removeprefix(base)
                for name in self.cloud.objects
                if name.startswith(base + prefix) and name.removeprefix(base) > after
            )
            page = [(name, self.cloud.objects[base + name]) for name in names[:1000]]
        following = page[-1][0] if len(names) > 1000 else ""
        write = _azure_listing if query.get("comp") == ["list"] else _s3_listing
        body = write(page, following).encode()
        self._answer(200, body, Content_Type="application/xml")


def _s3_listing(page: list[tuple[str, Stored]], following: str) -> str:
    entries = "".join(
        f"<Contents><Key>{escape(name)}</Key>"
        f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(there.modified))}</LastModified>"
        f"<ETag>{escape(there.tag)}</ETag><Size>{len(there.data)}</Size></Contents>"
        for name, there in page
    )
    more = (
        f"<NextContinuationToken>{escape(following)}</NextContinuationToken>" if following else ""
    )
    return (
        f"<ListBucketResult><IsTruncated>{str(bool(following)).lower()}</IsTruncated>"
        f"{more}{entries}</ListBucketResult>"
    )


def _azure_listing(page: list[tuple[str, Stored]], following: str) -> str:
    entries = "".join(
        f"<Blob><Name>{escape(name)}</Name><Properties>"
        f"<Last-Modified>{formatdate(there.modified, usegmt=True)}</Last-Modified>"
        f"<Content-Length>{len(there.data)}</Content-Length><Content-Type>x</Content-Type>"
        f"<Etag>{escape(there.tag)}</Etag></Properties></Blob>"
        for name, there in page
    )
    return (
        f"<EnumerationResults><Blobs>{entries}</Blobs>"
        f"<NextMarker>{escape(following)}</NextMarker></EnumerationResults>"
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class ObjectServer:
    """A server in a thread of this process, on a port of its own."""

    def __init__(self, port: int = 0) -> None:
        self.cloud = Cloud()
        handler = type("Handler", (_Handler,), {"cloud": self.cloud})
        self._server = _Server(("127.0.0.1", port), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    @contextmanager
    def faults(self, **faults: object) -> Iterator[Cloud]:
        """The faults, until the block ends."""
        self.cloud.set_faults(Faults(**faults))  # type: ignore[arg-type]
        try:
            yield self.cloud
        finally:
            self.cloud.set_faults(Faults())

    def variables(self, kind: str) -> dict[str, str]:
        """The environment in which obstore and we find this server for ``s3``, ``gs`` or ``az``."""
        return variables_for(kind, self.endpoint)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def variables_for(kind: str, endpoint: str) -> dict[str, str]:
    """The environment in which a client finds a server that checks no signature."""
    if kind == "s3":
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "a-secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
        }
    if kind == "gs":
        account = {"gcs_base_url": endpoint, "disable_oauth": True}
        empty = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account | empty)}
    return {
        "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
        "AZURE_STORAGE_ENDPOINT": f"{endpoint}/{ACCOUNT}",
    }


_CLOUDS = ("AWS_", "AZURE_", "GOOGLE_", "IDENTITY_", "MSI_")


@contextmanager
def only_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """The environment with these variables, and no others that lead to a cloud. The library reads it by
    itself, so there is no other way to tell it."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(_CLOUDS)}
    with mock.patch.dict(os.environ, kept | dict(variables), clear=True):
        yield


def url_for(kind: str, prefix: str) -> str:
    """The address of a state on the test servers."""
    return f"az://{ACCOUNT}/{BUCKET}/{prefix}" if kind == "az" else f"{kind}://{BUCKET}/{prefix}"


@cache
def shared_server() -> ObjectServer:
    """The server of this process, started on first use. It ends with the process."""
    return ObjectServer()


def order_faults(endpoint: str, faults: Faults) -> None:
    """Sets the faults of a server in another process."""
    body = json.dumps(asdict(faults)).encode()
    request = urllib.request.Request(f"{endpoint}/__faults", data=body, method="POST")
    urllib.request.urlopen(request, timeout=10).read()


if __name__ == "__main__":
    ObjectServer(int(sys.argv[1]))
    print("ready", os.getpid(), flush=True)
    threading.Event().wait()
