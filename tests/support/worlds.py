"""A world for tests: a state, an emulator and a clock, joined by the real planner and applier."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.authoring.declare import profile_of
from reconciler.authoring.documents import Document
from reconciler.core.contract_files import load_contract
from reconciler.core.facets.registry import facet_of_request, shown_values
from reconciler.core.options import Options
from reconciler.core.outcomes import ApplyReport, Progress, Result
from reconciler.core.plan import Plan, Request
from reconciler.core.planner import make_plan
from reconciler.core.profiles import Profile
from reconciler.core.records import by_address
from reconciler.emulator import Emulator
from reconciler.errors import Source
from reconciler.remote.answers import ApiAnswer, CallResult, ProfileData
from reconciler.remote.applier import Applier
from reconciler.remote.context import ApplyContext, ApplyListener, Gate, RunClock
from reconciler.state.memory import MemoryStore
from reconciler.state.store import Holder, Store
from tests.support.clock import ManualClock


def profiles_of(values: Sequence[dict[str, Any]], dialect: str = "guide") -> list[Profile]:
    """The profiles that some valid documents declare."""
    contract = load_contract(dialect)
    return [
        profile_of(Document(value, Source(f"profiles/{index}.yaml", 1, 1), {}), contract)
        for index, value in enumerate(values)
    ]


class Wire:
    """A sender that hands requests to an emulator, and loses what a test asks it to lose.

    ``faults`` maps the number of a call (from 0) to a function that makes its answer; it is given what
    carries the request out.
    """

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.sent: list[Request] = []
        self.faults: dict[int, Callable[[Callable[[], ApiAnswer]], ApiAnswer]] = {}

    def send(self, request: Request) -> ApiAnswer:
        self.sent.append(request)
        fault = self.faults.get(len(self.sent) - 1)
        return fault(lambda: self._carry(request)) if fault else self._carry(request)

    def _carry(self, request: Request) -> ApiAnswer:
        sends_body = request.body is not None and request.method in ("PATCH", "POST")
        reply = self.emulator.handle(
            request.method,
            request.path,
            headers={
                **request.headers,
                "Authorization": "Api-Key k",
                "Content-Type": "application/json",
            },
            body=json.dumps(request.body).encode() if sends_body else b"",
        )
        if reply.status == 204:
            return answer(CallResult.DONE, status=204)
        body = json.loads(reply.body) if reply.body else None
        facet = facet_of_request(request)
        if reply.status == 200 and facet is not None:
            own = facet.own_answer(request, body)
            if own is not None:
                return answer(CallResult.DONE, status=200)._replace(own=own)
        if reply.status == 200:
            data = body["data"]
            return answer(
                CallResult.DONE,
                status=200,
                data=ProfileData(
                    app_id=data["app_id"],
                    profile_id=data["profile_id"],
                    customer_user_id=data["customer_user_id"],
                    timestamp=data["timestamp"],
                    values=shown_values(data),
                ),
            )
        return answer(
            CallResult.REFUSED,
            status=reply.status,
            error_code=body["error_code"],
            message=str(body["errors"]),
        )


def answer(
    result: CallResult,
    *,
    status: int | None = None,
    data: ProfileData | None = None,
    error_code: str | None = None,
    message: str = "",
    unknown_before: bool = False,
) -> ApiAnswer:
    return ApiAnswer(
        result=result,
        status=status,
        data=data,
        error_code=error_code,
        message=message,
        request_id="0" * 32,
        attempts=1,
        unknown_before=unknown_before,
    )


def lost_before(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
    """The request is lost before it takes effect; nobody can know."""
    return answer(CallResult.UNKNOWN, message="no answer within the deadline")


def lost_after(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
    """The request takes effect, and its answer is lost."""
    carry()
    return answer(CallResult.UNKNOWN, message="the connection broke")


def done_at_the_second_attempt(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
    return carry()._replace(unknown_before=True)


def refused_key(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
    return answer(
        CallResult.REFUSED, status=401, error_code="not_authenticated", message="wrong key"
    )


def away(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
    return answer(CallResult.NOT_SENT, message="connection refused")


class Crash(BaseException):
    """The process dies here."""


def crash_before(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
    raise Crash


def crash_after(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
    carry()
    raise Crash


@dataclass(frozen=True)
class Applied:
    """What an apply said: its report, and the results in the order in which they were told."""

    report: ApplyReport
    results: list[Result]


class SerialCalls:
    """Calls that end before anything else begins; waiting moves the clock of the world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._ended: list[tuple[int, ApiAnswer]] = []

    def begin(self, ticket: int, request: Request) -> None:
        self._ended.append((ticket, self.world.wire.send(request)))

    def poll(self, timeout: float) -> list[tuple[int, ApiAnswer]]:
        if not self._ended:
            self.world.clock.sleep(timeout)
        ended, self._ended = self._ended, []
        return ended


@dataclass
class World:
    """An environment without files and network."""

    dialect: str = "guide"
    store: Store = field(default_factory=lambda: MemoryStore())
    clock: ManualClock = field(default_factory=lambda: ManualClock(1_000_000.0))
    stopping: bool = False
    runs: Iterator[int] = field(default_factory=itertools.count)
    progress: list[Progress] = field(default_factory=list)
    """What applies told of their progress."""

    def __post_init__(self) -> None:
        self.emulator = Emulator(
            dialect=self.dialect, clock=self.clock, access_levels=["pro", "trial", "beta"]
        )
        self.wire = Wire(self.emulator)

    def plan(self, *values: dict[str, Any], **options: Any) -> Plan:
        outcome = make_plan(
            profiles_of(values, self.dialect),
            by_address(self.store.records()),
            header=self.store.header(),
            contract=load_contract(self.dialect),
            options=Options(**{"now": self.clock.time, **options}),
        )
        assert isinstance(outcome, Plan), outcome
        return outcome

    def apply(
        self,
        plan: Plan,
        *values: dict[str, Any],
        quiet_period: float = 60.0,
        tell: Callable[[Result], object] = lambda result: None,
    ) -> Applied:
        results: list[Result] = []

        def report(result: Result) -> None:
            results.append(result)
            tell(result)

        context = ApplyContext(
            calls=SerialCalls(self),
            run=f"run-{next(self.runs)}",
            clock=RunClock(self.clock, monotonic=self.clock),
            gate=Gate(lambda: self.stopping),
            listener=ApplyListener(report, on_progress=self.progress.append),
            quiet_period=quiet_period,
        )
        holder = Holder("tester", "here", 1, "test")
        with self.store.lock(holder, now=self.clock) as writer:
            desired = {profile.address: profile for profile in profiles_of(values, self.dialect)}
            done = Applier(self.store, writer, context=context).apply(plan, desired=desired)
        return Applied(done, results)

    def reach(self, *values: dict[str, Any], **options: Any) -> Applied:
        """Plan and apply."""
        return self.apply(self.plan(*values, **options), *values)
