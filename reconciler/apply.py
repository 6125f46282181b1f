"""The applier: executes a plan, one change after the other, and loses nothing on the way.

Around every request the record of its profile is written twice, durably: before it leaves (what it
writes is *uncertain* then) and once its outcome is known. A crash at any instant therefore leaves a
state that says what is uncertain, and the next plan sends just that again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, assert_never

from reconciler.client import Answer, Ending
from reconciler.errors import Refused
from reconciler.plan import Action, ApplyReport, Change, Drift, Outcome, Plan, Request, Result
from reconciler.planner import REFUSED_HAZARDS
from reconciler.profiles import PROFILE_PREFIX, Profile
from reconciler.protocol import (
    CUSTOMER_HEADER,
    PLATFORM_HEADER,
    PROFILE_HEADER,
    Observed,
    Standing,
    accepted,
    attempted,
    contradicts,
    forgotten,
    gone,
    observed,
    read,
    request_digest,
    standing,
)
from reconciler.state import Entry, Header, Known, Presence, Record, Run, differs
from reconciler.store import Store, Writer

_MISSING = frozenset({"profile_does_not_exist", "profile_not_found"})
"""Error codes that say that there is no such profile (adapty-api 6.2, 7.13)."""


class Sender(Protocol):
    """What the applier needs of a client."""

    def send(self, request: Request) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What the applier is given, so that a test can hold all of it."""

    sender: Sender
    now: Callable[[], float]
    """Unix time in seconds."""
    sleep: Callable[[float], None]
    stop: Callable[[], bool]
    """Whether the user asked for the end: nothing new starts then."""
    run: str
    """Names this run in journal and history."""
    quiet_period: float = 60.0
    """Seconds that a different value waits after a write of unknown outcome (see `contradicts`)."""
    report: Callable[[Result], None] = field(default=lambda result: None)
    """Told every outcome, once it is durable."""


def check_plan(plan: Plan, header: Header, *, environment: str, max_changes: int) -> None:
    """Whether a plan may be applied to this state at all.

    Raises Refused for another environment, lineage or application, and for a plan above a cap.
    """
    if plan.environment != environment:
        raise Refused(
            f"the plan was made for environment {plan.environment}, not {environment}",
            hint=f"Apply it with --env {plan.environment}.",
        )
    if plan.lineage is not None and plan.lineage != header.lineage:
        raise Refused(
            "the plan was made from another state: its lineage is not that of this one",
            hint="Plan again.",
        )
    if plan.application and header.application and plan.application != header.application:
        raise Refused("the plan was made for another application", hint="Plan again.")
    over = [hazard for hazard in plan.hazards if hazard.kind in REFUSED_HAZARDS - {"max_changes"}]
    if over:
        raise Refused(
            f"the plan {over[0].message}",
            hint="Raise the limit in reconcile.yaml if this is meant, or plan a part with --select.",
        )
    if len(plan.changes) > max_changes:
        raise Refused(
            f"the plan has {len(plan.changes)} changes, above the limit of {max_changes}",
            hint="Allow it with --max-changes, or plan a part with --select.",
        )


class Applier:
    """Applies plans to one environment, holding its lock."""

    def __init__(self, store: Store, writer: Writer, tools: Tools) -> None:
        self._store = store
        self._writer = writer
        self._tools = tools
        self._application = store.header().application
        self._requests = 0
        self._halt: Result | None = None
        self._not_authorised = False

    def apply(self, plan: Plan, *, desired: Mapping[str, Profile]) -> ApplyReport:
        """Applies the changes of a plan in order, and returns a result for each.

        ``desired`` are the profiles of the files by address, as far as they are at hand: labels,
        protection and places are recorded from there, without a line in the plan.
        """
        tools = self._tools
        started = tools.now()
        results = []
        for change in plan.changes:
            result = self._skipped(change) or self._change(change)
            results.append(result)
            tools.report(result)
        interrupted = tools.stop()
        self._record_declarations(desired.values())
        report = ApplyReport(
            run=tools.run,
            results=tuple(results),
            interrupted=interrupted,
            not_authorised=self._not_authorised,
            requests=self._requests,
            seconds=tools.now() - started,
        )
        if results:
            outcomes = {outcome.value: count for outcome, count in report.counts.items() if count}
            self._writer.finish(Run(tools.run, started, tools.now(), plan.digest, outcomes))
        return report

    # --- one change --------------------------------------------------------------------------

    def _skipped(self, change: Change) -> Result | None:
        if self._halt is not None:
            return Result(change.address, change.action, Outcome.SKIPPED, self._halt.reason)
        if self._tools.stop():
            return Result(change.address, change.action, Outcome.SKIPPED, "interrupted")
        return None

    def _change(self, change: Change) -> Result:
        record = self._record_of(change)
        stand, why = standing(change, record)
        match stand:
            case Standing.ALREADY:
                return Result(change.address, change.action, Outcome.ALREADY, why)
            case Standing.STALE:
                return Result(change.address, change.action, Outcome.STALE, why)
            case Standing.CURRENT:
                pass
            case _:
                assert_never(stand)
        if change.action is Action.FORGET:
            return self._forget(change, record)
        before = record or Record(
            change.address,
            customer_user_id=change.requests[0].headers.get(CUSTOMER_HEADER),
            profile_id=change.requests[0].headers.get(PROFILE_HEADER),
            presence=Presence.UNCONFIRMED,
        )
        warnings: tuple[str, ...] = ()
        for request in change.requests:
            last = request is change.requests[-1]
            result, before = self._send(_Step(change, request, before, last))
            if result.outcome is not Outcome.APPLIED:
                return result
            warnings += result.warnings
        return replace(result, warnings=warnings)

    def _record_of(self, change: Change) -> Record | None:
        record = self._store.record(change.address)
        if record is None and change.action is Action.LINK:
            profile_id = change.requests[-1].headers[PROFILE_HEADER]
            record = self._store.record(f"{PROFILE_PREFIX}{profile_id}")
        return record

    def _forget(self, change: Change, record: Record | None) -> Result:
        journal = [self._entry(change, "applied")]
        if record is not None and change.fields:
            after = _declared_by(change, forgotten(record, change))
            self._writer.write(put=[after], journal=journal)
        else:
            self._writer.write(remove=[change.address], journal=journal)
        return Result(change.address, change.action, Outcome.APPLIED)

    # --- one request -------------------------------------------------------------------------

    def _send(self, step: _Step) -> tuple[Result, Record]:
        """Sends a request, its fallback where the profile does not exist, and settles the record."""
        answer = self._attempt(step)
        if _is_missing(answer) and step.request.fallback is not None:
            step = replace(
                step,
                request=replace(
                    step.request,
                    method=step.request.fallback,
                    body=step.request.body or {},
                    fallback=None,
                ),
            )
            answer = self._attempt(step)
        if answer.ending is Ending.UNKNOWN and step.request.method == "POST":
            answer = self._after_unknown_post(step, answer)
        return self._settle(step, answer)

    def _attempt(self, step: _Step) -> Answer:
        """One call of the client, its intent durable before."""
        tools, change, request = self._tools, step.change, step.request
        self._wait_quiet(step)
        if request.method != "GET":
            intent = attempted(step.record, change, request, at=tools.now())
            self._writer.write(
                put=[intent], journal=[self._entry(change, "intent", request=request)]
            )
        self._requests += 1
        return tools.sender.send(request)

    def _after_unknown_post(self, step: _Step, unknown: Answer) -> Answer:
        """An uncertain POST is looked up before it is sent again (adapty-api 6.3)."""
        if self._tools.stop():
            return unknown
        asked = step.request.headers
        self._requests += 1
        found = self._tools.sender.send(read(asked.get(CUSTOMER_HEADER), asked.get(PROFILE_HEADER)))
        if found.ending is not Ending.DONE and not _is_missing(found):
            return unknown
        again = step.request
        if found.ending is Ending.DONE and step.change.action is Action.CREATE:
            if not again.body:
                return replace(found, unknown_before=True)
            again = replace(again, method="PATCH")
        self._requests += 1
        answer = self._tools.sender.send(again)
        return replace(answer, unknown_before=True)

    def _wait_quiet(self, step: _Step) -> None:
        record = step.record
        if record.unknown_at is None or not contradicts(record, step.change, step.request):
            return
        until = record.unknown_at + self._tools.quiet_period
        while (left := until - self._tools.now()) > 0 and not self._tools.stop():
            self._tools.sleep(min(left, 0.2))
            self._writer.renew()

    def _settle(self, step: _Step, answer: Answer) -> tuple[Result, Record]:
        """Makes the outcome of a request durable, and says what it was."""
        change = step.change
        match answer.ending:
            case Ending.DONE:
                return self._done(step, answer)
            case Ending.UNKNOWN:
                reason = f"{answer.message}; whether it took effect is unknown"
                return self._record_outcome(step, answer, Outcome.UNCERTAIN, reason)
            case Ending.NOT_SENT if self._tools.stop():
                return self._restore(step, answer, Outcome.SKIPPED, "interrupted")
            case Ending.NOT_SENT:
                return self._restore(step, answer, Outcome.FAILED, answer.message)
            case Ending.REFUSED if _is_missing(answer):
                return self._missing(step, answer)
            case Ending.REFUSED:
                if answer.status in (401, 403):
                    self._not_authorised = True
                    self._halt = Result(
                        change.address, change.action, Outcome.SKIPPED, "the API refused the key"
                    )
                return self._restore(step, answer, Outcome.FAILED, answer.message)
            case _:
                assert_never(answer.ending)

    def _done(self, step: _Step, answer: Answer) -> tuple[Result, Record]:
        change, request = step.change, step.request
        if change.action is Action.DELETE:
            self._writer.write(
                remove=[change.address], journal=[self._entry(change, "applied", answer=answer)]
            )
            return self._result(step, answer, Outcome.APPLIED, ""), step.record
        assert answer.data is not None
        if answer.data.app_id and self._application not in (None, answer.data.app_id):
            reason = "the answer came from another application than the state was made for"
            self._halt = Result(change.address, change.action, Outcome.SKIPPED, reason)
            return self._record_outcome(step, answer, Outcome.UNCERTAIN, reason)
        seen = Observed(
            answer.data.profile_id.lower(),
            answer.data.customer_user_id,
            answer.data.custom_attributes,
        )
        base = self._other_profile(step.record, seen)
        after, differences = observed(accepted(base, change, request), seen)
        after = replace(
            _declared_by(change, forgotten(after, change)) if step.last else after,
            address=change.address,
            customer_user_id=request.headers.get(CUSTOMER_HEADER) or after.customer_user_id,
            platform=request.headers.get(PLATFORM_HEADER),
            unknown_at=step.record.unknown_at,
            unknown_write=step.record.unknown_write,
            deleting=False,
        )
        if answer.unknown_before:
            marked = attempted(step.record, change, request, at=self._tools.now())
            after = replace(after, unknown_at=marked.unknown_at, unknown_write=marked.unknown_write)
        warnings = [
            f"{difference.path}: the API holds another value than was sent"
            for difference in differences
        ]
        if base is not step.record:
            warnings.append(
                "the API knows the customer id under another profile_id: its write-only fields are "
                "unknown now and will be sent again"
            )
        moved = [step.record.address] if step.record.address != change.address else []
        self._writer.write(
            put=[after],
            remove=moved,
            journal=[self._entry(change, "applied", request=request, answer=answer)],
            application=answer.data.app_id if self._application is None else None,
        )
        self._application = self._application or answer.data.app_id
        result = self._result(step, answer, Outcome.APPLIED, "")
        return replace(result, warnings=tuple(warnings)), after

    def _other_profile(self, record: Record, seen: Observed) -> Record:
        """The record with every write-only field unknown, where the answer names another profile.

        What the request itself wrote went to the profile that answered, and is accepted after this.
        """
        if record.profile_id in (None, seen.profile_id):
            return record
        moved, _ = observed(record, seen)
        return moved

    def _missing(self, step: _Step, answer: Answer) -> tuple[Result, Record]:
        change = step.change
        if change.action is Action.DELETE:
            self._writer.write(
                remove=[change.address], journal=[self._entry(change, "already", answer=answer)]
            )
            result = self._result(step, answer, Outcome.ALREADY, "it did not exist any more")
            return result, step.record
        if change.action in (Action.CREATE, Action.LINK):
            reason = "the API knows no profile with this profile_id"
            return self._restore(step, answer, Outcome.FAILED, reason)
        after = gone(step.record)
        self._writer.write(put=[after], journal=[self._entry(change, "failed", answer=answer)])
        reason = "the API says that the profile does not exist"
        if CUSTOMER_HEADER in step.request.headers:
            reason += "; the next plan creates it"
        return self._result(step, answer, Outcome.FAILED, reason), after

    def _restore(
        self, step: _Step, answer: Answer, outcome: Outcome, reason: str
    ) -> tuple[Result, Record]:
        """Nothing took effect (assumed of a refusal: adapty-api 7.36): the record is as before, unless
        an earlier attempt of the same call may still land."""
        if answer.unknown_before:
            return self._record_outcome(step, answer, outcome, reason)
        journal = [self._entry(step.change, outcome.value, answer=answer)]
        known = self._store.record(step.record.address)
        if step.request.method == "GET" or known is None:
            self._writer.write(journal=journal)
        elif _never_recorded(step.record):
            self._writer.write(remove=[step.record.address], journal=journal)
        else:
            self._writer.write(put=[step.record], journal=journal)
        return self._result(step, answer, outcome, reason), step.record

    def _record_outcome(
        self, step: _Step, answer: Answer, outcome: Outcome, reason: str
    ) -> tuple[Result, Record]:
        """The intent stands: the record stays as it was written before the request."""
        if step.request.method == "GET":
            outcome = Outcome.FAILED
        self._writer.write(journal=[self._entry(step.change, outcome.value, answer=answer)])
        return self._result(step, answer, outcome, reason), step.record

    def _result(self, step: _Step, answer: Answer, outcome: Outcome, reason: str) -> Result:
        away = answer.ending in (Ending.NOT_SENT, Ending.UNKNOWN) or (answer.status or 0) in (
            429,
            500,
            502,
            503,
            504,
        )
        return Result(
            step.change.address,
            step.change.action,
            outcome,
            reason,
            answer.request_id,
            unavailable=away and outcome in (Outcome.FAILED, Outcome.UNCERTAIN),
        )

    def _entry(
        self,
        change: Change,
        kind: str,
        *,
        request: Request | None = None,
        answer: Answer | None = None,
    ) -> Entry:
        detail = ""
        if answer is not None:
            known = [str(answer.status or answer.ending), answer.error_code, answer.request_id]
            detail = " ".join(part for part in known if part)
        return Entry(
            run=self._tools.run,
            address=change.address,
            kind=kind,
            at=self._tools.now(),
            action=change.action.value,
            request=request_digest(request) if request else "",
            detail=detail,
        )

    # --- what needs no request ---------------------------------------------------------------

    def _record_declarations(self, desired: Iterable[Profile]) -> None:
        """Records labels, protection, platform and places that changed without a change of a field."""
        moved = []
        for profile in desired:
            record = self._store.record(profile.address)
            if record is None:
                continue
            after = replace(
                record,
                labels=profile.labels,
                protect=profile.protect,
                platform=profile.platform,
                source=replace(profile.source, column=0),
            )
            if differs(record, after):
                moved.append(after)
        if moved:
            self._writer.write(put=moved)


@dataclass(frozen=True, slots=True)
class _Step:
    """A request of a change, and the record from before it."""

    change: Change
    request: Request
    record: Record
    last: bool
    """Whether the change is complete once this request is."""


def _is_missing(answer: Answer) -> bool:
    return answer.ending is Ending.REFUSED and (answer.error_code or "") in _MISSING


def _never_recorded(record: Record) -> bool:
    """Whether the record exists only because this change wrote its intent."""
    return record.revision == 0 and not record.facts


def _declared_by(change: Change, record: Record) -> Record:
    return replace(
        record,
        labels=change.labels,
        protect=change.protect,
        source=change.source or record.source,
        forgotten=record.forgotten - {f.path for f in change.fields if f.after is not None},
    )


# --- refresh -------------------------------------------------------------------------------------


def look(
    records: Iterable[Record], sender: Sender, *, stop: Callable[[], bool]
) -> Iterable[tuple[Record, Record, Drift, Answer]]:
    """Reads every record's profile: the record, what it becomes, the drift, and the answer.

    An answer that is neither a profile nor "does not exist" gives drift ``unread`` and the record as
    it was.
    """
    for record in records:
        if stop():
            return
        if record.presence is Presence.GONE and not (record.customer_user_id or record.profile_id):
            continue
        answer = sender.send(read(record.customer_user_id, record.profile_id))
        if answer.ending is Ending.DONE and answer.data is not None:
            data = answer.data
            seen = Observed(data.profile_id.lower(), data.customer_user_id, data.custom_attributes)
            after, differences = observed(record, seen)
            kind = "changed" if differences else "same"
            if record.profile_id not in (None, seen.profile_id):
                kind = "recreated"
            blind = sum(
                1
                for path, fact in after.facts.items()
                if not path.startswith("custom_attributes.") and fact.known is not Known.UNKNOWN
            )
            yield record, after, Drift(record.address, kind, tuple(differences), blind), answer
        elif _is_missing(answer):
            kind = "same" if record.presence is Presence.GONE else "gone"
            yield record, gone(record), Drift(record.address, kind), answer
        else:
            yield record, record, Drift(record.address, "unread"), answer
