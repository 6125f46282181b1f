"""The debug endpoint: what was written, the log, the rates, and the active faults.

It belongs to the emulator, not to the API: it needs no key, and neither faults nor the log apply to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from reconciler.emulator.active_faults import Faults
from reconciler.emulator.faults import Fault, parse_fault
from reconciler.emulator.http import Answer, HttpRequest
from reconciler.emulator.judge import Rejected, method_not_allowed, not_found
from reconciler.emulator.responses import error_answer, json_answer
from reconciler.errors import UsageError
from reconciler.values import Json

DEBUG_ROOT = "/debug/"
DEBUG_PATH = "/debug/profiles/"
_FAULTS_PATH = re.compile(r"/debug/faults/(?:([0-9]{1,15})/?)?")


class Inspectable(Protocol):
    """The parts of an emulator that the endpoint shows."""

    def profiles(self) -> list[dict[str, Any]]: ...

    def add_anonymous(self) -> str: ...

    def rates(self) -> dict[str, Json]: ...

    def log_after(self, number: int) -> Json: ...


class FaultControl(Protocol):
    """The parts of a server that the endpoint changes."""

    @property
    def faults(self) -> Faults: ...

    def set_fault(self, fault: Fault) -> int | None: ...


def inspect(emulator: Inspectable, *, method: str, path: str) -> Answer:
    """The answer to a request about an emulator's content."""
    try:
        return _inspect(emulator, method=method, path=path)
    except Rejected as rejected:
        return error_answer(rejected)


def _inspect(emulator: Inspectable, *, method: str, path: str) -> Answer:
    place, _, query = path.partition("?")
    match place, method:
        case "/debug/profiles/", "GET":
            return json_answer(200, emulator.profiles())
        case "/debug/profiles/", "POST":
            return json_answer(200, {"profile_id": emulator.add_anonymous()})
        case "/debug/profiles/", _:
            raise method_not_allowed(method, "GET, POST")
        case "/debug/log/", "GET":
            after = re.fullmatch(r"after=([0-9]{1,15})", query)
            return json_answer(200, emulator.log_after(int(after[1]) if after else 0))
        case "/debug/rates/", "GET":
            return json_answer(200, emulator.rates())
        case (("/debug/log/" | "/debug/rates/"), _):
            raise method_not_allowed(method, "GET")
        case _:
            raise not_found()


def refuse_browsers(headers: Mapping[str, str]) -> None:
    """Raise Rejected for a page in a browser, whatever name the page gives this machine."""
    host = headers.get("host", "").partition(":")[0]
    if host not in ("127.0.0.1", "localhost", "") or "origin" in headers:
        raise Rejected(403, "forbidden", errors=[(None, "only for programs on this machine")])


def control_faults(server: FaultControl, request: HttpRequest) -> Answer | None:
    """The answer to a request that lists or changes faults; None if the path is another one.

    Raises Rejected for a request that it refuses.
    """
    match = _FAULTS_PATH.fullmatch(request.path)
    if match is None:
        return None
    try:
        _change_faults(server, request, number=int(match[1]) if match[1] else None)
    except UsageError as problem:
        raise Rejected(400, "bad_fault", errors=[(None, problem.message)]) from None
    listing: list[Json] = [
        {
            "id": each.id,
            "fault": str(each.fault),
            "seen": each.matches,
            "struck": each.strikes,
        }
        for each in server.faults.entries()
    ]
    return json_answer(200, listing)


def _change_faults(server: FaultControl, request: HttpRequest, *, number: int | None) -> None:
    match request.method:
        case "DELETE" if number is not None:
            if not server.faults.remove(number):
                message = f"no fault {number} is set"
                raise Rejected(404, "not_found", errors=[(None, message)])
        case _ if number is not None:
            raise method_not_allowed(request.method, "DELETE")
        case "GET":
            pass
        case "POST":
            lines = request.body.decode("utf-8", "replace").splitlines()
            for fault in [parse_fault(line.strip()) for line in lines if line.strip()]:
                server.set_fault(fault)
        case "DELETE":
            server.faults.clear()
        case _:
            raise method_not_allowed(request.method, "GET, POST, DELETE")
