"""Clients of the emulator, for tests that look at HTTP itself.

`Api` sends requests over one kept connection. `hear` sends any bytes and records every byte that comes
back. Neither retries, redirects or repairs anything.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest

from reconciler.emulator import (
    GRANT_PATH,
    PROFILE_PATH,
    REVOKE_PATH,
    Emulator,
    EmulatorServer,
    Received,
    parse_fault,
)

KEY = "secret_live_12345678.abcdefghijklmnopqrstuvwxyz012345"


@dataclass
class ApiReply:
    """An answer to a request of `Api`."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def data(self) -> Any:
        assert self.status == 200, self.raw
        return self.json["data"]

    @property
    def attributes(self) -> dict[str, Any]:
        return {each["key"]: each["value"] for each in self.data["custom_attributes"]}

    @property
    def code(self) -> str:
        return str(self.json["error_code"])

    @property
    def sources(self) -> list[str | None]:
        return [each["source"] for each in self.json["errors"]]


@dataclass
class Api:
    """A client with one kept connection."""

    server: EmulatorServer
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)

    @property
    def emulator(self) -> Emulator:
        return self.server.emulator

    def raw(
        self,
        method: str,
        path: str = PROFILE_PATH,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> ApiReply:
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        return ApiReply(response.status, dict(response.getheaders()), response.read())

    def send(
        self,
        method: str,
        body: Any = None,
        *,
        user: str | None = "jane",
        profile: str | None = None,
        platform: str | None = None,
        path: str = PROFILE_PATH,
    ) -> ApiReply:
        headers = {
            "Authorization": f"Api-Key {KEY}",
            "adapty-customer-user-id": user,
            "adapty-profile-id": profile,
            "adapty-platform": platform,
            "Content-Type": None if body is None else "application/json",
        }
        return self.raw(
            method,
            path,
            headers={name: value for name, value in headers.items() if value is not None},
            body=None if body is None else json.dumps(body).encode(),
        )

    def create(self, body: Any = None, *, user: str = "jane") -> str:
        reply = self.send("POST", {} if body is None else body, user=user)
        return str(reply.data["profile_id"])

    def grant(self, level: str = "premium", *, user: str = "jane", **period: Any) -> ApiReply:
        return self.send("POST", {"access_level_id": level, **period}, user=user, path=GRANT_PATH)

    def revoke(self, level: str = "premium", *, user: str = "jane", **period: Any) -> ApiReply:
        return self.send("POST", {"access_level_id": level, **period}, user=user, path=REVOKE_PATH)

    def level(self, level: str = "premium", *, user: str = "jane") -> dict[str, Any]:
        """An access level as the next answer shows it."""
        shown = self.send("GET", user=user).data["access_levels"]
        (only,) = [each for each in shown if each["access_level_id"] == level]
        return dict(only)

    def patch(self, body: Any) -> ApiReply:
        return self.send("PATCH", body)

    def stored(self, user: str = "jane") -> dict[str, Any]:
        """All that the emulator stores about a customer."""
        (profile,) = [each for each in self.emulator.profiles() if each["customer_user_id"] == user]
        return profile


Serve: TypeAlias = Callable[..., Api]
"""The fixture ``serve``: puts an emulator on a port. The arguments are those of EmulatorServer."""


def served(serve: Serve, *texts: str, **options: Any) -> Api:
    """An emulator with faults."""
    return serve(faults=[parse_fault(text) for text in texts], **options)


def last_entry(api: Api) -> Received:
    """The last entry of the emulator's log."""
    return api.emulator.log[-1]


def attribute_pairs(**attributes: Any) -> dict[str, Any]:
    """A body with custom attributes."""
    return {"custom_attributes": [{"key": k, "value": v} for k, v in attributes.items()]}


def wait_until(done: Callable[[], bool]) -> None:
    """Wait until a condition holds; the test fails after ten seconds."""
    for _ in range(2000):
        if done():
            return
        time.sleep(0.005)
    pytest.fail("the condition did not become true")


@dataclass
class Transcript:
    """Every byte that came over a connection, and its end: ``closed``, ``reset``, or ``open`` if the
    server fell silent."""

    raw: bytes
    end: str

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]


def request_bytes(
    method: str = "POST", body: bytes = b"{}", *, user: str = "jane", **headers: str
) -> bytes:
    """The bytes of a request. Underscores in the names of ``headers`` become dashes."""
    lines = [
        f"{method} {PROFILE_PATH} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Api-Key {KEY}",
        f"adapty-customer-user-id: {user}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def closing_request() -> bytes:
    """The bytes of a POST that asks the server to close the connection."""
    return request_bytes(Connection="close")


def hear(
    port: int, sent: bytes | None = None, *, patience: float = 10.0, first: float = 10.0
) -> Transcript:
    """Send bytes over a new connection and listen until it ends or the server falls silent.

    The server is silent if nothing comes for ``first`` seconds at the beginning, or for ``patience``
    seconds later.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request_bytes() if sent is None else sent)
        return listen(connection, patience=patience, first=first)


def transcript_of(serve: Serve, *texts: str, patience: float = 10.0) -> Transcript:
    """The bytes that a client receives for a POST to an emulator with faults."""
    return hear(served(serve, *texts).server.port, patience=patience)


def listen(connection: socket.socket, *, patience: float = 10.0, first: float = 10.0) -> Transcript:
    """Read the rest of the bytes of a connection."""
    connection.settimeout(first)
    pieces = []
    try:
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
            connection.settimeout(patience)
    except ConnectionResetError:
        return Transcript(b"".join(pieces), "reset")
    except TimeoutError:
        return Transcript(b"".join(pieces), "open")
    return Transcript(b"".join(pieces), "closed")


def create(emulator: Emulator, customer: str, **attributes: Any) -> None:
    """Create a profile, or set its attributes, as a client other than the one under test."""
    items = [{"key": key, "value": value} for key, value in attributes.items()]
    answer = emulator.handle(
        "POST",
        PROFILE_PATH,
        headers={
            "Authorization": "Api-Key k",
            "Content-Type": "application/json",
            "adapty-customer-user-id": customer,
        },
        body=json.dumps({"custom_attributes": items} if items else {}).encode(),
    )
    assert answer.status == 200
