"""Reading recorded profiles back from the API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple

from reconciler.config.settings import Environment
from reconciler.core.options import Rate, Selection
from reconciler.core.outcomes import Drift, DriftKind, clock_text
from reconciler.core.profiles import Profile
from reconciler.core.records import Fact, Known, Presence, Record
from reconciler.core.transitions import LookUp, Observed, with_seen, without_expired_mark
from reconciler.errors import (
    InputError,
    Interrupted,
    Message,
    NotAuthorised,
    Refused,
    RemoteUnavailable,
)
from reconciler.planning.limits import ProgressEvent, ProgressPhase
from reconciler.remote.refresh import NO_MORE, ReadBack, read_back
from reconciler.state.store import Writer
from reconciler.values import FieldPath
from reconciler.workspace.connection import Connection
from reconciler.workspace.results import refuse_unread
from reconciler.workspace.state_admin import StateAdmin


class RecordReads(NamedTuple):
    """The recorded profiles that were read for a plan."""

    observed: Mapping[str, Record]
    """By address: the records with what the API says, where the state does not record that."""
    read: int
    """How many profiles were read."""
    read_apart: int
    """The requests beside those, which read what no answer about a profile shows."""


class Refresh:
    """Reads profiles at the API, and compares them with the state."""

    def __init__(
        self,
        environment: Environment,
        *,
        state: StateAdmin,
        connection: Connection,
        now: Callable[[], float],
        stop: Callable[[], bool],
        on_progress: Callable[[ProgressEvent], None] = lambda event: None,
        on_warning: Callable[[Message], None] = lambda message: None,
    ) -> None:
        self._environment = environment
        self._state = state
        self._connection = connection
        self.now = now
        self.stop = stop
        self._on_progress = on_progress
        self._on_warning = on_warning

    def run(
        self, selection: Selection, *, record: bool, complete: bool, rate: Rate | None = None
    ) -> list[Drift]:
        """Reads the selected recorded profiles and returns the drift by address. The state records what
        was read, if ``record``. ``rate`` overrides the configured one.

        A ``complete`` refresh comes before a plan, which shows no drift: a clock of the API that jumped is
        told as a warning.

        Only identifiers and custom attributes can be read (adapty-api 5.3).

        Raises Interrupted when asked to stop, and ReconcileError where a profile could not be read
        although the refresh was to be ``complete``. InputError where the key is missing, and where there is
        no state, unless the refresh comes before a first apply and is to be ``complete``.
        """
        reads = self._read_all(selection, record=record, complete=complete, rate=rate)
        return sorted((each.drift for each in reads), key=lambda drift: drift.address)

    def before_plan(
        self, selection: Selection, *, also: Mapping[str, Collection[FieldPath]], record: bool
    ) -> RecordReads:
        """Reads the selected recorded profiles for a plan. ``also`` names, by address, fields that are read
        although the records do not hold them; they never are recorded. The state records the rest if
        ``record``.

        Raises Interrupted when asked to stop, and ReconcileError where a profile could not be read.
        """
        store = self._state.store
        if record:
            reads = self._read_all(selection, record=True, complete=True, also=also)
            after = store.records_of([*also])
        else:
            reads = list(self.read_back(list(store.records()), selection, also=also))
            if self.stop():
                raise Interrupted("interrupted; nothing was planned")
            drifts = [each.drift for each in reads]
            self._warn_of_clock(drifts)
            refuse_unread(drifts)
            after = {each.after.address: each.after for each in reads}
        observed = {
            read.before.address: with_seen(
                after[read.before.address],
                read.observed,
                paths=also.get(read.before.address, ()),
            )
            if read.observed is not None
            else after[read.before.address]
            for read in reads
            if read.before.address in after
        }
        return RecordReads(observed, len(reads), sum(each.drift.read_apart for each in reads))

    def _read_all(
        self,
        selection: Selection,
        *,
        record: bool,
        complete: bool,
        also: Mapping[str, Collection[FieldPath]] = NO_MORE,
        rate: Rate | None = None,
    ) -> list[ReadBack]:
        if self._state.exists:
            self._connection.require_key()
        elif not complete:
            raise InputError(
                f"environment {self._environment.name} has no state yet, so there is nothing to read",
                hint="The first apply makes it.",
            )
        with ExitStack() as stack:
            writer = (
                stack.enter_context(self._state.locked("refresh")) if self._state.exists else None
            )
            reads, gone = [], []
            for each in self.read_back(
                list(self._state.store.records()),
                selection,
                writer=writer if record else None,
                also=also,
                rate=rate,
            ):
                reads.append(each)
                if each.drift.kind is DriftKind.GONE:
                    gone.append(each.after)
            if gone and writer is not None and record:
                writer.backup()
                writer.write(put=gone)
        if self.stop():
            raise Interrupted("interrupted; what was read is recorded")
        if complete:
            drifts = [each.drift for each in reads]
            self._warn_of_clock(drifts)
            refuse_unread(drifts)
        return reads

    def _warn_of_clock(self, drifts: Iterable[Drift]) -> None:
        if jumps := sum(drift.clock_went_back for drift in drifts):
            self._on_warning(Message(clock_text(jumps)))

    def look_up(self, profiles: Iterable[Profile]) -> dict[str, LookUp]:
        """The answers of the API about profiles that the state does not record, by address. One that is
        declared by both ids is read by its profile id. Records nothing.

        Raises ReconcileError where a profile could not be read, Interrupted when asked to stop.
        """
        records = [
            Record(
                profile.address,
                None if profile.profile_id else profile.customer_user_id,
                profile.profile_id,
                presence=Presence.UNCONFIRMED,
                facts={path: Fact(Known.UNKNOWN) for path in profile.values},
            )
            for profile in profiles
        ]
        drifts, look_ups = [], {}
        for read in self.read_back(records, Selection(), all_may_be_gone=True):
            drifts.append(read.drift)
            look_ups[read.before.address] = LookUp(read.observed)
        if self.stop():
            raise Interrupted("interrupted; nothing was planned")
        refuse_unread(drifts)
        return look_ups

    def observe(self, profile: Profile) -> Observed | None:
        """The profile as the API returns it now; ``None`` if the API knows none. Records nothing.

        Raises ReconcileError where it cannot be read.
        """
        facts = {path: Fact(Known.UNKNOWN) for path in profile.values}
        record = Record(profile.address, profile.customer_user_id, profile.profile_id, facts=facts)
        (read,) = self.read_back([record], Selection())
        refuse_unread([read.drift])
        return read.observed

    def read_back(
        self,
        records: Iterable[Record],
        selection: Selection,
        *,
        writer: Writer | None = None,
        all_may_be_gone: bool = False,
        to_record: Callable[[ReadBack], Record | None] | None = None,
        also: Mapping[str, Collection[FieldPath]] = NO_MORE,
        rate: Rate | None = None,
    ) -> Iterator[ReadBack]:
        """Reads the selected profiles of some records, and records what was read if there is a writer.
        ``to_record`` gives the record to be written for a read, by default what is new. ``also`` names, by
        address, fields that are read beside those of the records.

        Raises NotAuthorised for a refused key, RemoteUnavailable where the API does not answer, and
        Refused where it knows none of several profiles, unless ``all_may_be_gone``. Ends early when asked to
        stop; then the caller raises Interrupted.
        """
        selection = selection.exact(self._state.store.records_of)
        selected = [record for record in records if selection.takes(record.address, record.labels)]
        if not selected:
            return
        kinds: Counter[DriftKind] = Counter()
        reason = ""
        with self._connection.calls(rate=rate) as api:
            for each in read_back(
                selected,
                api.calls,
                application=self._state.store.header().application,
                writer=writer,
                without_expired_mark=self._without_expired_mark(),
                now=self.now,
                to_record=to_record,
                also=also,
                stop=lambda: self.stop() or api.pace.given_up,
                in_flight=api.in_flight,
                on_tick=lambda: self._on_progress(
                    ProgressEvent(
                        ProgressPhase.ASKING,
                        kinds.total(),
                        len(selected),
                        waiting_for=api.pace.waiting_for(),
                        rate=api.pace.rate,
                    )
                ),
            ):
                if each.answer.is_unauthorised:
                    raise NotAuthorised(
                        f"the API refused the key: {each.answer.message}",
                        hint=self._connection.key_hint,
                    )
                kinds[each.drift.kind] += 1
                if each.drift.kind is DriftKind.UNREAD and each.answer.attempts:
                    reason = f": {each.answer.message}"
                yield each
            if api.pace.given_up and not self.stop():
                limited = "the API answers 429 to every request"
                message = limited if api.pace.is_limited else f"the API does not answer{reason}"
                raise RemoteUnavailable(message, hint="Try again later.")
        gone = kinds[DriftKind.GONE]
        if not all_may_be_gone and gone == kinds.total() > 1:
            if self.stop():
                raise Interrupted("interrupted; nothing was recorded")
            raise Refused(
                f"the API knows none of the {gone} recorded profiles; nothing was recorded",
                hint="Check --env and the key: it may be the key of another application."
                + (
                    " A plan with --refresh reads the others too, which tells."
                    if selection.within is not None
                    else ""
                ),
            )

    def _without_expired_mark(self) -> Callable[[Record], Record]:
        """Removes the marks whose quiet period is over from a record. The quiet period of an interrupted
        run has not begun: its requests may have left later than their intents say."""
        interrupted = frozenset(self._state.store.interrupted_addresses())
        period = self._environment.quiet_period
        return lambda record: (
            record
            if record.address in interrupted
            else without_expired_mark(record, now=self.now(), quiet_period=period)
        )
