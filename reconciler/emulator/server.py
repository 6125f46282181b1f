"""The emulator on a port of 127.0.0.1, with faults between the connection and the API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, Self, TypeAlias

from reconciler.emulator.active_faults import FaultPlan, Faults
from reconciler.emulator.api import Emulator
from reconciler.emulator.debug import DEBUG_ROOT, control_faults, refuse_browsers
from reconciler.emulator.faults import Fault, FaultKind, parse_fault, split_faults
from reconciler.emulator.http import Answer, End, HttpRequest, Loopback, Reply, in_thread
from reconciler.emulator.judge import Rejected
from reconciler.emulator.responses import error_answer, json_answer
from reconciler.emulator.routes import has_flat_errors
from reconciler.emulator.traffic import Received, Sent
from reconciler.emulator.wire import encode_reply, injected_answer
from reconciler.errors import UsageError

FAULT_HEADER = "emulator-fault"
_SETTLE_INTERVAL = 0.005
"""Seconds between two looks at the requests that take effect late."""


class FaultHook(Protocol):
    """Code between the connection and the API. It runs in a thread of its own and may wait."""

    def around(self, received: Received, answer: Callable[[], Answer]) -> Answer | Reply | None:
        """The answer to send, or a reply byte by byte; None resets the connection.

        It calls ``answer`` at most once. The request takes effect only if it does.
        """


FaultChooser: TypeAlias = Callable[[Received], Iterable[Fault]]
"""The faults that strike a request. The function must not wait."""


class EmulatorServer:
    """Serves an emulator on a port of 127.0.0.1 (0 takes a free one) from a background thread.

    ``faults`` are faults to set, which may be changed while the server runs; or a function that chooses
    faults for each request; or a hook. With ``header_faults`` a request may bring its own faults.
    ``seed`` makes random decisions repeatable.

    A context manager. Leaving it closes the port and every connection, and drops requests that have not
    taken effect yet. The emulator stays usable, so a test can look at its content afterwards. Entering
    raises UsageError if the port is taken.
    """

    def __init__(
        self,
        emulator: Emulator,
        *,
        port: int = 0,
        faults: Iterable[Fault] | Faults | FaultChooser | FaultHook = (),
        seed: int = 0,
        header_faults: bool = False,
    ) -> None:
        self.emulator = emulator
        self.faults = faults if isinstance(faults, Faults) else Faults(seed=seed)
        self._requested_port = port
        self._initial_outage = 0.0
        self._loopback: Loopback | None = None
        choose: FaultChooser | None = None
        hook: FaultHook | None = None
        if isinstance(faults, Faults):
            pass
        elif isinstance(faults, Iterable):
            for fault in faults:
                self.set_fault(fault)
        elif callable(faults):
            choose = faults
        else:
            hook = faults
        self._front = _Front(self, choose=choose, hook=hook, header_faults=header_faults)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self._running.port

    @property
    def url(self) -> str:
        """The base address, without a final slash."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        try:
            self._loopback = Loopback(self._front, port=self._requested_port)
        except OSError as problem:
            raise UsageError(
                f"the emulator cannot listen on port {self._requested_port}: {problem.strerror}",
                hint="give another port, or 0 for a free one",
            ) from None
        self.faults.start()
        self._loopback.start(outage=self._initial_outage)
        return self

    def stop(self) -> None:
        if self._loopback is not None:
            self._loopback.stop()
            self._loopback = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    # --- while it runs ---

    def set_fault(self, fault: Fault) -> int | None:
        """Set one more fault; returns its number in `faults`.

        An outage without conditions has no number (None). It begins at once, or when the server starts.
        """
        if fault.kind is not FaultKind.OUTAGE or fault.is_conditional:
            return self.faults.add(fault)
        if self._loopback is None:
            self._initial_outage = fault.seconds
        else:
            self.outage(fault.seconds)
        return None

    def outage(self, seconds: float) -> None:
        """From now on, reset every connection and refuse new ones for so many seconds."""
        self._running.cut_off(seconds)

    def advance(self, **durations: float) -> None:
        """Move the clock of the API forward, as `Emulator.advance` does: ``days=31``."""
        self.emulator.advance(**durations)

    def settle(self, timeout: float) -> bool:
        """Wait until every late request has taken effect; False if ``timeout`` seconds pass before."""
        deadline = time.monotonic() + timeout
        while self._front.late_requests:
            if time.monotonic() > deadline:
                return False
            time.sleep(_SETTLE_INTERVAL)
        return True

    @property
    def _running(self) -> Loopback:
        if self._loopback is None:
            raise RuntimeError("the emulator is not running")
        return self._loopback


class _Front:
    """Answers the requests of a server in the thread of its loopback: with the emulator's answer, or as
    faults demand."""

    def __init__(
        self,
        server: EmulatorServer,
        *,
        choose: FaultChooser | None,
        hook: FaultHook | None,
        header_faults: bool,
    ) -> None:
        self._server = server
        self._emulator = server.emulator
        self._choose = choose
        self._hook = hook
        self._header_faults = header_faults
        self._may_block = type(server.emulator).handle is not Emulator.handle
        self.late_requests: set[asyncio.Task[None]] = set()
        """The requests that have not taken effect yet."""

    def serve(self, request: HttpRequest) -> bytes | Callable[[], Awaitable[Reply]]:
        emulator = self._emulator
        if emulator.debug and request.path.startswith(DEBUG_ROOT):
            return _encoded(request, self._debug(request))
        received = emulator.receive(
            request.method, request.path, headers=request.headers, body=request.body
        )
        try:
            received.faults = self._striking_faults(received)
        except UsageError as problem:
            errors = [(FAULT_HEADER, problem.message)]
            answer = error_answer(
                Rejected(400, "bad_fault", errors=errors), is_flat=has_flat_errors(request.path)
            )
            emulator.conclude(received, answer, sent=Sent.ALTERED)
            return _encoded(request, answer)
        if received.faults or self._may_block or self._hook is not None:
            return lambda: self._reply(request, received)
        answer = self._handle(request, received)
        emulator.conclude(received, answer)
        return _encoded(request, answer)

    def malformed(self, status: int, message: str) -> bytes:
        answer = error_answer(Rejected(status, "bad_request", errors=[(None, message)]))
        return answer.head("Connection: close") + answer.body

    def _striking_faults(self, received: Received) -> tuple[Fault, ...]:
        """The faults for a request; raises UsageError for a bad fault in its header."""
        striking: tuple[Fault, ...] = ()
        if self._server.faults:
            striking = self._server.faults.strike(
                received.method, received.address, route=received.route
            )
        if self._choose is not None:
            striking += tuple(self._choose(received))
        if self._header_faults and FAULT_HEADER in received.headers:
            own_faults = [
                parse_fault(text) for text in split_faults(received.headers[FAULT_HEADER])
            ]
            for fault in own_faults:
                if fault.is_conditional:
                    raise UsageError(f"{fault} has conditions, but is for this request alone")
            striking += tuple(own_faults)
        return striking

    def _handle(self, request: HttpRequest, received: Received) -> Answer:
        return self._emulator.handle(
            request.method,
            request.path,
            headers=request.headers,
            body=request.body,
            peer_ip=request.peer_ip,
            received=received,
        )

    async def _reply(self, request: HttpRequest, received: Received) -> Reply:
        plan = FaultPlan.of(received.faults)
        if plan.latency:
            await asyncio.sleep(plan.latency)
        result: Answer | Reply | None = None
        if plan.takes_effect:
            result = await self._carry_out(request, received)
        if plan.lag:
            await asyncio.sleep(plan.lag)
        for fault in received.faults:
            if fault.kind is FaultKind.OUTAGE:
                self._server.outage(fault.seconds)
        if plan.late_effect is not None:
            self._carry_out_late(received, request.peer_ip, delay=plan.late_effect)
        return self._conclude(request, received, plan=plan, result=result)

    async def _carry_out(self, request: HttpRequest, received: Received) -> Answer | Reply | None:
        """The answer of the API, or the result of the hook around it."""
        hook = self._hook
        if hook is not None:
            return await in_thread(
                lambda: hook.around(received, lambda: self._handle(request, received))
            )
        if self._may_block:
            return await in_thread(lambda: self._handle(request, received))
        return self._handle(request, received)

    def _carry_out_late(self, received: Received, peer_ip: str, *, delay: float) -> None:
        emulator = self._emulator

        async def later() -> None:
            await asyncio.sleep(delay)
            if self._may_block:
                await in_thread(lambda: emulator.take_effect_late(received, peer_ip=peer_ip))
            else:
                emulator.take_effect_late(received, peer_ip=peer_ip)

        task = asyncio.get_running_loop().create_task(later())
        self.late_requests.add(task)
        task.add_done_callback(self.late_requests.discard)

    def _conclude(
        self,
        request: HttpRequest,
        received: Received,
        *,
        plan: FaultPlan,
        result: Answer | Reply | None,
    ) -> Reply:
        """The reply to a request, which the log concludes with it."""
        if isinstance(result, Reply):
            self._emulator.conclude(received, None, sent=Sent.ALTERED)
            return result
        silence = plan.silence()
        if silence is None and result is None and plan.takes_effect:
            silence = Reply((), End.RESET)  # the hook returned None
        if silence is not None:
            self._emulator.conclude(received, result, sent=Sent.NOTHING)
            return silence
        answer = (
            injected_answer(plan.ending, result, path=request.path, now=time.time())
            or result
            or json_answer(200, {"data": {}})
        )
        is_unchanged = answer is received.answer and not plan.alterations
        sent = Sent.ANSWER if is_unchanged else Sent.ALTERED
        self._emulator.conclude(received, answer, sent=sent)
        return encode_reply(
            answer,
            plan.alterations,
            close=not request.keep_alive,
            head_only=request.method == "HEAD",
            other_answer=lambda: self._emulator.answer_about_another(received),
        )

    def _debug(self, request: HttpRequest) -> Answer:
        try:
            refuse_browsers(request.headers)
            answer = control_faults(self._server, request)
        except Rejected as rejected:
            return error_answer(rejected)
        return answer or self._emulator.handle(
            request.method, request.path, headers=request.headers, body=request.body
        )


def _encoded(request: HttpRequest, answer: Answer) -> bytes:
    head = answer.head() if request.keep_alive else answer.head("Connection: close")
    return head if request.method == "HEAD" else head + answer.body
