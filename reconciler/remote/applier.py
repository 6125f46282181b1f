"""The applier: executes a plan, many profiles at a time, and loses nothing on the way.

It writes the record of a profile twice around every request, durably: before the request leaves (its
fields are *uncertain* then), and once its outcome is known. A crash at any instant therefore leaves a
state that says which fields are uncertain, and the next plan sends just those again.

`reconciler.remote.change_flow` decides what a change writes and sends, and `reconciler.remote.engine` does it
for many changes at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from reconciler.core.endpoints import PROFILE_HEADER
from reconciler.core.options import Target
from reconciler.core.outcomes import ApplyReport, Halt, Outcome, Progress, Result
from reconciler.core.plan import Action, Change, HazardKind, HazardSeverity, Plan
from reconciler.core.profiles import PROFILE_PREFIX, Profile
from reconciler.core.records import Header, JournalEntry, JournalKind, Record, Run, differs
from reconciler.core.transitions import declared_by
from reconciler.errors import Refused
from reconciler.remote.change_flow import ChangeFlow, skipped
from reconciler.remote.context import ApplyContext
from reconciler.remote.engine import Engine
from reconciler.remote.run import ApplyRun
from reconciler.state.store import Store, Writer
from reconciler.values import shown

_RECORDS_AT_ONCE = 64
_DECLARATIONS_AT_ONCE = 1_000
MOST_PROBLEMS = 1_000
"""Results that need a look and that a report keeps. The listener takes all of them."""


def check_plan(
    plan: Plan,
    header: Header,
    *,
    environment: str,
    max_changes: int,
    target: Target | None = None,
) -> None:
    """Checks that a plan may be applied to this state at all. ``target`` is where its requests would go.

    Raises Refused for another environment, target, lineage or application, and for a plan above a limit.
    """
    if plan.environment != environment:
        raise Refused(
            f"the plan was made for environment {plan.environment}, not {environment}",
            hint=f"Apply it with --env {plan.environment}.",
        )
    if target is not None and plan.target != target:
        raise _other_target(plan.target, target)
    if plan.lineage is not None and plan.lineage != header.lineage:
        raise Refused(
            "the plan was made from another state: its lineage is not that of this one",
            hint="Plan again.",
        )
    if plan.application and header.application and plan.application != header.application:
        raise Refused("the plan was made for another application", hint="Plan again.")
    refused = [
        hazard
        for hazard in plan.hazards
        if hazard.severity is HazardSeverity.REFUSED
        and hazard.kind != HazardKind.MAX_CHANGES  # the limit of this apply counts, see below
    ]
    if refused:
        hint = _WAYS_OUT.get(refused[0].kind, _RAISE_THE_LIMIT)
        raise Refused(f"the plan {refused[0].message}", hint=hint)
    if plan.count > max_changes:
        raise Refused(
            f"the plan makes {plan.count:,} changes, and the limit is {max_changes:,}",
            hint="Allow it with --max-changes, or plan a part with --select.",
        )


_RAISE_THE_LIMIT = (
    "Raise the limit in reconcile.yaml if this is meant, or plan a part with --select."
)
_WAYS_OUT: dict[str, str] = {
    HazardKind.DELETE_EVERYTHING: "No setting allows that: keep a profile, or delete the last ones by other "
    "means.",
    HazardKind.EXISTING: "Record them with the command import, leave them out with --exclude, or write "
    "`on_existing: adopt`.",
}
"""The advice about a hazard that apply refuses, where it is no limit."""


def _linked(change: Change) -> str:
    """The profile id that a link names. Later requests, of other groups of fields, name the customer id."""
    named = (request.headers.get(PROFILE_HEADER) for request in change.requests)
    return next(profile_id for profile_id in named if profile_id)


def _other_target(planned: Target | None, target: Target) -> Refused:
    if planned is None:
        return Refused("the plan does not say where its requests go", hint="Plan again.")
    settings = ["api.url", *(f"api.{name}" for name in Target._fields[1:-1]), "on_existing"]
    different = [
        setting
        for setting, before, now in zip(settings, planned, target, strict=True)
        if before != now
    ]
    return Refused(
        f"the plan was made for another target: {', '.join(different)} changed since",
        hint="Plan again, and have it reviewed.",
    )


class Applier:
    """Applies plans to one environment, holding its lock."""

    def __init__(self, store: Store, writer: Writer, *, context: ApplyContext) -> None:
        self._store = store
        self._writer = writer
        self._context = context
        self._run = ApplyRun(context, application=store.header().application)
        self._flows = ChangeFlow(self._run, store)
        self._revisions_before_recovery: dict[str, int] = {}

    def apply(self, plan: Plan, *, desired: Mapping[str, Profile]) -> ApplyReport:
        """Applies the changes of a plan, beginning in their order, and reports the result of each.

        ``desired`` are the profiles of the files by address, as far as the caller has them. Their labels,
        protection and places are recorded without a line in the plan.

        Raises `StateWriteFailed` if the state cannot be written.
        """
        context, run = self._context, self._run
        started = run.unix_time()
        self._recover()
        outcomes = OutcomeCounter(context.listener.on_result)
        planned = (plan.summary.get("requests", 0), plan.summary.get("requests_max", 0))
        engine = Engine[Result](
            context.calls,
            self._writer,
            in_flight=context.gate.in_flight,
            stop=context.gate.stop,
            monotonic=context.clock.monotonic,
            on_state_write=context.listener.on_state_write,
            on_tick=lambda: context.listener.on_progress(
                outcomes.progress(
                    plan.count,
                    under_way=engine.calls_under_way,
                    requests=run.requests,
                    waits=engine.waits,
                )._replace(planned=planned)
            ),
        )
        changes = iter(self._with_records(plan.changes))
        for result in engine.run(self._flows.flow(change, record) for change, record in changes):
            outcomes.add(result)
        for change, _ in changes:
            outcomes.add(skipped(change, Halt.INTERRUPTED))
        if run.is_stopping:
            run.halted = run.halted or Halt.INTERRUPTED
        self._record_declarations(desired.values())
        report = ApplyReport(
            run=context.run,
            counts=outcomes.counts,
            problems=tuple(outcomes.problems),
            halt=run.halted,
            requests=run.requests,
            seconds=run.unix_time() - started,
            recovered=len(self._revisions_before_recovery),
            clock_jumps=run.clock_jumps,
        )
        if not plan.is_empty:
            counts = {outcome.value: count for outcome, count in report.counts.items() if count}
            finished = run.unix_time()
            self._writer.finish(
                Run(context.run, started, finished, plan.digest, counts, context.starter)
            )
        if outcomes.listener_error is not None:
            raise outcomes.listener_error
        return report

    def _recover(self) -> None:
        """Begins the quiet period of every profile that an earlier run had under way when it was cut off.

        The requests of that run may have left later than their intents say. The revisions from before
        this mark are kept, because the plan may come from them.
        """
        interrupted = self._store.records_of(self._store.interrupted_addresses())
        now = self._run.unix_time()
        marked = [
            record._replace(unknown_at=now)
            for record in interrupted.values()
            if record.unknown_at is not None
        ]
        if marked:
            entries = [
                JournalEntry(
                    run=self._context.run,
                    address=record.address,
                    kind=JournalKind.RECOVERED,
                    at=now,
                )
                for record in marked
            ]
            self._writer.write(put=marked, journal=entries)
            self._revisions_before_recovery = {record.address: record.revision for record in marked}

    def _with_records(self, changes: Iterable[Change]) -> Iterator[tuple[Change, Record | None]]:
        """The changes, each with the record of its profile, read for many at once.

        Nobody else writes while we hold the lock, and a profile has one change. So a record stays true
        until its change begins.
        """
        source = iter(changes)
        while batch := list(islice(source, _RECORDS_AT_ONCE)):
            records = self._store.records_of([change.address for change in batch])
            for change in batch:
                record = records.get(change.address)
                if record is None and change.renamed_from:
                    record = self._store.record(change.renamed_from)
                elif record is None and change.action is Action.LINK:
                    record = self._store.record(f"{PROFILE_PREFIX}{_linked(change)}")
                if record is not None and record.address in self._revisions_before_recovery:
                    revision = self._revisions_before_recovery[record.address]
                    record = record._replace(revision=revision)
                yield change, record

    def _record_declarations(self, desired: Iterable[Profile]) -> None:
        """Records labels, protection, platform, lifetime and places that changed although no field did."""
        source = iter(desired)
        changed = []
        while batch := list(islice(source, _DECLARATIONS_AT_ONCE)):
            records = self._store.records_of([profile.address for profile in batch])
            for profile in batch:
                record = records.get(profile.address)
                if record is None:
                    continue
                after = declared_by(record, profile)
                if differs(record, after):
                    changed.append(after)
        if changed:
            self._writer.write(put=changed)


class OutcomeCounter:
    """Counts outcomes, keeps the first problems, and passes every result to a listener.

    A listener that fails must not stop a run. Its error is kept for the end, and it hears no more.
    """

    def __init__(
        self, listener: Callable[[Result], None], *, most_problems: int = MOST_PROBLEMS
    ) -> None:
        self.counts = dict.fromkeys(Outcome, 0)
        self.problems: list[Result] = []
        self.listener_error: Exception | None = None
        self._listener = listener
        self._most_problems = most_problems

    def add(self, result: Result) -> None:
        self.counts[result.outcome] += 1
        if result.needs_a_look and len(self.problems) < self._most_problems:
            self.problems.append(result)
        if self.listener_error is None:
            try:
                self._listener(result)
            except Exception as error:
                self.listener_error = error

    def progress(
        self, total: int, *, under_way: int, requests: int, waits: Sequence[tuple[str, float]] = ()
    ) -> Progress:
        """``waits`` are the addresses of profiles that wait out a quiet period, with the seconds left."""
        bad = (Outcome.FAILED, Outcome.UNCERTAIN, Outcome.STALE)
        return Progress(
            total=total,
            done=sum(self.counts.values()),
            failed=sum(self.counts[outcome] for outcome in bad),
            under_way=under_way,
            requests=requests,
            waiting_for=_quiet_text(waits),
        )


def _quiet_text(waits: Sequence[tuple[str, float]]) -> str:
    """Who waits out a quiet period, and for how long, for people; "" for nobody."""
    if not waits:
        return ""
    seconds = math.ceil(max(left for _, left in waits))
    if len(waits) == 1:
        return f"waiting {seconds} s for {shown(waits[0][0])}: an earlier write may still land"
    return f"waiting up to {seconds} s for {len(waits)} profiles: earlier writes may still land"
