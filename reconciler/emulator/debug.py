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
from reconciler.emulator.judge import Rejected, method_not_allowed, not_found, parse_json
from reconciler.emulator.responses import error_answer, json_answer
from reconciler.errors import InputError, UsageError
from reconciler.values import Json

DEBUG_ROOT = "/debug/"
DEBUG_PATH = "/debug/profiles/"
_DURATION_HINT = 'write {"days": 31}; the units are weeks, days, hours, minutes and seconds'
_FAULTS_PATH = re.compile(r"/debug/faults/(?:([0-9]{1,15})/?)?")


class Inspectable(Protocol):
    """The parts of an emulator that the endpoint shows."""

    def profiles(self) -> list[dict[str, Any]]: ...

    def add_anonymous(self) -> str: ...

    def plant(self, seed: Json) -> list[dict[str, Json]]: ...

    def advance(self, **durations: float) -> None: ...

    def clock(self) -> dict[str, Json]: ...

    def events_after(self, number: int) -> Json: ...

    def rates(self) -> dict[str, Json]: ...

    def log_after(self, number: int) -> Json: ...


class FaultControl(Protocol):
    """The parts of a server that the endpoint changes."""

    @property
    def faults(self) -> Faults: ...

    def set_fault(self, fault: Fault) -> int | None: ...


def inspect(emulator: Inspectable, *, method: str, path: str, body: bytes = b"") -> Answer:
    """The answer to a request about an emulator's content or its clock."""
    try:
        return _inspect(emulator, method=method, path=path, body=body)
    except Rejected as rejected:
        return error_answer(rejected)
    except InputError as problem:
        findings = [
            (str(each.source), f"{each.message}. {each.hint}") for each in problem.diagnostics
        ]
        return error_answer(Rejected(400, "bad_seed", errors=findings))
    except UsageError as problem:
        said = f"{problem.message}; {problem.hint}"
        return error_answer(Rejected(400, "bad_request", errors=[(None, said)]))


def _inspect(emulator: Inspectable, *, method: str, path: str, body: bytes) -> Answer:
    place, _, query = path.partition("?")
    match place, method:
        case "/debug/profiles/", "GET":
            return json_answer(200, emulator.profiles())
        case "/debug/profiles/", "POST":
            return json_answer(200, {"profile_id": emulator.add_anonymous()})
        case "/debug/profiles/", _:
            raise method_not_allowed(method, "GET, POST")
        case "/debug/seed/", "POST":
            return json_answer(200, emulator.plant(parse_json(body)))
        case "/debug/seed/", _:
            raise method_not_allowed(method, "POST")
        case "/debug/advance/", "POST":
            emulator.advance(**_durations(parse_json(body)))
            return json_answer(200, emulator.clock())
        case "/debug/advance/", "GET":
            return json_answer(200, emulator.clock())
        case "/debug/advance/", _:
            raise method_not_allowed(method, "GET, POST")
        case "/debug/events/", "GET":
            return json_answer(200, emulator.events_after(_after(query)))
        case "/debug/log/", "GET":
            return json_answer(200, emulator.log_after(_after(query)))
        case "/debug/rates/", "GET":
            return json_answer(200, emulator.rates())
        case (("/debug/log/" | "/debug/rates/" | "/debug/events/"), _):
            raise method_not_allowed(method, "GET")
        case _:
            raise not_found()


def _after(query: str) -> int:
    """The number in a query ``after=17``; 0 for any other query."""
    match = re.fullmatch(r"after=([0-9]{1,15})", query)
    return int(match[1]) if match else 0


def _durations(value: Json) -> dict[str, float]:
    """The arguments of `Emulator.advance` in a body; raises UsageError for anything else."""
    if not isinstance(value, Mapping) or not value:
        raise UsageError("the body names no duration", hint=_DURATION_HINT)
    durations: dict[str, float] = {}
    for name, amount in value.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise UsageError(f"{name} is not a number", hint=_DURATION_HINT)
        durations[name] = amount
    return durations


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
