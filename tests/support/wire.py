"""A client of the emulator with no manners of its own, for tests that look at HTTP itself."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass, field
from typing import Any

from reconciler.emulator import PROFILE_PATH, Emulator, EmulatorServer

KEY = "secret_live_12345678.abcdefghijklmnopqrstuvwxyz012345"


@dataclass
class Reply:
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
    """A client with one kept connection and no manners of its own."""

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
    ) -> Reply:
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        return Reply(response.status, dict(response.getheaders()), response.read())

    def send(
        self,
        method: str,
        body: Any = None,
        *,
        user: str | None = "jane",
        profile: str | None = None,
        platform: str | None = None,
    ) -> Reply:
        headers = {
            "Authorization": f"Api-Key {KEY}",
            "adapty-customer-user-id": user,
            "adapty-profile-id": profile,
            "adapty-platform": platform,
            "Content-Type": None if body is None else "application/json",
        }
        return self.raw(
            method,
            headers={name: value for name, value in headers.items() if value is not None},
            body=None if body is None else json.dumps(body).encode(),
        )

    def create(self, body: Any = None, *, user: str = "jane") -> str:
        reply = self.send("POST", {} if body is None else body, user=user)
        return str(reply.data["profile_id"])

    def patch(self, body: Any) -> Reply:
        return self.send("PATCH", body)

    def stored(self, user: str = "jane") -> dict[str, Any]:
        found = [each for each in self.emulator.profiles() if each["customer_user_id"] == user]
        assert len(found) == 1
        return found[0]


@dataclass
class Heard:
    """Every byte that came over a connection, and how it ended: ``closed``, ``reset``, or ``open``
    when the server fell silent."""

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
    """A request as it goes over the wire; underscores in the names of ``headers`` are dashes."""
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


def hear(
    port: int, sent: bytes | None = None, *, patience: float = 10.0, first: float = 10.0
) -> Heard:
    """Sends bytes over a new connection and listens until it ends, or the server falls silent: for
    ``first`` seconds at the beginning, for ``patience`` seconds after it said something."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request_bytes() if sent is None else sent)
        return listen(connection, patience=patience, first=first)


def listen(connection: socket.socket, *, patience: float = 10.0, first: float = 10.0) -> Heard:
    """Reads what still comes over a connection."""
    connection.settimeout(first)
    got = []
    try:
        while piece := connection.recv(1 << 16):
            got.append(piece)
            connection.settimeout(patience)
    except ConnectionResetError:
        return Heard(b"".join(got), "reset")
    except TimeoutError:
        return Heard(b"".join(got), "open")
    return Heard(b"".join(got), "closed")


def create(emulator: Emulator, customer: str, **attributes: Any) -> None:
    """Has somebody else make a profile, or give it attributes."""
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
