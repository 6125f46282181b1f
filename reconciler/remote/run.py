"""One apply under way: what it has learned so far, and the steps that all of its flows share."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias

from reconciler.core.outcomes import Halt
from reconciler.core.plan import Change, Request
from reconciler.core.records import JournalEntry, JournalKind, Record
from reconciler.core.requests import request_digest
from reconciler.core.transitions import without_expired_mark
from reconciler.remote.answers import ApiAnswer
from reconciler.remote.context import ApplyContext
from reconciler.remote.engine import Step, Writes

CallSteps: TypeAlias = Generator[Step, ApiAnswer | None, ApiAnswer]
"""Ends with the answer to a request."""
Steps: TypeAlias = Generator[Step, ApiAnswer | None, None]


class ApplyRun:
    """One apply under way. ``application`` is the one that the state is of, ``None`` if it is unknown."""

    def __init__(self, context: ApplyContext, *, application: str | None) -> None:
        self.context = context
        self.application = application
        self.requests = 0
        """Requests that left, or tried to, retries included."""
        self.clock_jumps = 0
        """Answers that bore a time from before that of an earlier one."""
        self.halted: Halt | None = None
        """The reason why this run ends early, whatever the user does from here on."""

    def halt(self) -> Halt | None:
        """The reason why nothing new may start, or ``None``."""
        gate = self.context.gate
        if self.halted is None and gate.is_away():
            self.halted = Halt.AWAY
        if self.halted is None and gate.is_limited():
            self.halted = Halt.LIMITED
        if self.halted is None and gate.stop():
            return Halt.INTERRUPTED
        return self.halted

    @property
    def is_stopping(self) -> bool:
        """Whether the user wants to stop."""
        return self.context.gate.stop()

    def unix_time(self) -> float:
        """Unix time in seconds."""
        return self.context.clock.unix_time()

    # --- steps -------------------------------------------------------------------------------

    def call(self, request: Request, writes: Writes | None = None) -> CallSteps:
        """Makes ``writes`` durable, then sends a request."""
        answer = yield Step(writes or Writes(), request)
        assert answer is not None
        self.requests += answer.attempts
        if answer.is_unauthorised:
            self.halted = Halt.KEY
        return answer

    def wait_quiet(self, record: Record) -> Steps:
        """Waits until an earlier write of the profile can no longer land late."""
        left = self.quiet_seconds_left(record)
        if left > 0:
            yield Step(wait=left, address=record.address)

    def quiet_seconds_left(self, record: Record) -> float:
        """Seconds until the quiet period of a record is over. They never exceed the quiet period, even if
        somebody sets the clock back."""
        if record.unknown_at is None:
            return 0.0
        quiet = self.context.quiet_period
        return min(quiet, record.unknown_at + quiet - self.unix_time())

    # --- values ------------------------------------------------------------------------------

    def without_expired_mark(self, record: Record) -> Record:
        """The record without the mark of an earlier write that can no longer land late."""
        return without_expired_mark(
            record, now=self.unix_time(), quiet_period=self.context.quiet_period
        )

    def entry(
        self,
        change: Change,
        kind: JournalKind,
        *,
        request: Request | None = None,
        answer: ApiAnswer | None = None,
        address: str | None = None,
    ) -> JournalEntry:
        """A journal entry. ``address`` is that of the record which it is about, if a link has yet to move
        the record to the address of the change."""
        detail = ""
        if answer is not None:
            parts = [str(answer.status or answer.result), answer.error_code, answer.request_id]
            detail = " ".join(part for part in parts if part)
        return JournalEntry(
            run=self.context.run,
            address=address or change.address,
            kind=kind,
            at=self.unix_time(),
            action=change.action.value,
            request=request_digest(request) if request else "",
            detail=detail,
        )
