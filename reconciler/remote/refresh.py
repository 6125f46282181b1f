"""Reads recorded profiles back from the API, and compares them with their records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from reconciler.core.endpoints import read_recorded
from reconciler.core.facets.facet import Facet
from reconciler.core.facets.registry import readings
from reconciler.core.outcomes import Drift, DriftKind
from reconciler.core.records import Known, Presence, Record, differs
from reconciler.core.transitions import Observed, gone, is_dated_before, observed
from reconciler.errors import Refused
from reconciler.remote.answers import ApiAnswer, CallResult, ProfileData
from reconciler.remote.engine import Calls, Engine, Flow, Step, Writes
from reconciler.state.store import Writer
from reconciler.values import FieldPath

NO_MORE: Mapping[str, Collection[FieldPath]] = {}
"""No fields beside those of the records."""


class ReadBack(NamedTuple):
    """A profile as the API returned it, beside its record.

    If the answer is neither a profile nor "does not exist", the drift is ``unread`` and ``after`` is
    ``before``.
    """

    before: Record
    after: Record
    """The record with all that the answer says."""
    drift: Drift
    answer: ApiAnswer
    observed: Observed | None = None
    """The profile, with what the extra reads of facets show; ``None`` if it was not read."""


def read_back(
    records: Iterable[Record],
    calls: Calls,
    *,
    application: str | None,
    writer: Writer | None,
    without_expired_mark: Callable[[Record], Record],
    now: Callable[[], float],
    stop: Callable[[], bool],
    in_flight: Callable[[], int],
    on_tick: Callable[[], None] = lambda: None,
    to_record: Callable[[ReadBack], Record | None] | None = None,
    also: Mapping[str, Collection[FieldPath]] = NO_MORE,
) -> Iterator[ReadBack]:
    """Reads the profiles of records, in any order. With a ``writer`` it records the answers, except that
    a profile is gone: its absence may also mean that the key belongs to another application.

    ``to_record`` gives the record that is written for an answer, ``None`` for none; by default what is new.
    ``without_expired_mark`` removes the mark of an earlier write that can no longer land late, and ``now``
    gives Unix time in seconds by our own clock. ``on_tick`` is called about twice a second. ``also`` names,
    by address, fields that are read beside those of the record.

    Ends when the API refuses the key. Raises Refused if an answer names another application than
    ``application``.
    """
    is_key_refused = False

    def flow(record: Record) -> Flow[ReadBack]:
        nonlocal is_key_refused, application
        # An earlier write may land between the read and its answer, so it is now that the mark must be over.
        unmarked = without_expired_mark(record)
        answer = yield Step(request=read_recorded(record))
        assert answer is not None
        is_key_refused = is_key_refused or answer.is_unauthorised
        answered_by = answer.data.app_id if answer.data else None
        if None not in (application, answered_by) and answered_by != application:
            raise Refused(
                "the API answered for another application than the state was made for",
                hint="Check --env and the key.",
            )
        own: list[tuple[Facet, ApiAnswer]] = []
        if answer.data is not None:
            paths = {*record.facts, *also.get(record.address, ())}
            for facet, request in readings(paths, read_recorded(record).headers):
                more = yield Step(request=request)
                assert more is not None
                own.append((facet, more))
        comparison = compare(unmarked, answer, own=own, now=now())
        after = _news(record, comparison) if to_record is None else to_record(comparison)
        if writer is not None and after is not None:
            learned = answered_by if application is None else None
            application = application or answered_by
            yield Step(Writes(put=(after,), application=learned))
        return comparison

    readable = (record for record in records if record.customer_user_id or record.profile_id)
    engine = Engine[ReadBack](
        calls,
        writer,
        in_flight=in_flight,
        stop=lambda: is_key_refused or stop(),
        on_tick=on_tick,
    )
    return engine.run(map(flow, readable))


def _news(record: Record, read: ReadBack) -> Record | None:
    """What is recorded of a read: the record after it, if the answer tells something new."""
    is_new = differs(record, read.after) or read.drift.clock_went_back
    return read.after if is_new and not read.answer.is_missing else None


def compare(
    record: Record,
    answer: ApiAnswer,
    *,
    now: float,
    own: Sequence[tuple[Facet, ApiAnswer]] = (),
) -> ReadBack:
    """The answer to a read, beside the record of its profile. ``own`` are the answers to the extra reads of
    facets, and ``now`` is Unix time in seconds by our own clock."""
    if answer.is_missing and record.presence is Presence.UNCONFIRMED:
        # Nothing says that the profile exists, and an uncertain POST may still create it.
        return ReadBack(record, record, Drift(record.address, DriftKind.SAME), answer)
    if answer.is_missing:
        kind = DriftKind.SAME if record.presence is Presence.GONE else DriftKind.GONE
        return ReadBack(record, gone(record), Drift(record.address, kind), answer)
    if answer.result is not CallResult.DONE or answer.data is None:
        return _unread(record, answer)
    profile = observation(answer.data)
    for facet, more in own:
        if more.own is None:
            return _unread(record, more)
        profile = profile.with_own(facet, more.own)
    after, differences = observed(record, profile, now=now)
    kind = DriftKind.CHANGED if differences else DriftKind.SAME
    if record.profile_id not in (None, profile.profile_id):
        kind = DriftKind.RECREATED
    unverifiable = sum(
        1
        for path, fact in after.facts.items()
        if not profile.shows(path) and fact.known is not Known.UNKNOWN
    )
    drift = Drift(
        record.address,
        kind,
        fields=tuple(differences),
        unverifiable=unverifiable,
        from_environment=record.from_environment,
        clock_went_back=is_dated_before(record, profile),
        read_apart=profile.read_apart,
    )
    return ReadBack(record, after, drift, answer, profile)


def _unread(record: Record, answer: ApiAnswer) -> ReadBack:
    """The comparison of a profile that could not be read."""
    drift = Drift(record.address, DriftKind.UNREAD, reason=answer.message)
    return ReadBack(record, record, drift, answer)


def observation(data: ProfileData) -> Observed:
    """The profile of an answer, normalised."""
    return Observed(data.profile_id.lower(), data.customer_user_id, data.values, data.timestamp)
