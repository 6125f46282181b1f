"""How a record moves with each attempt and answer, and whether a change still fits it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from enum import StrEnum
from typing import NamedTuple, assert_never

from reconciler.core.endpoints import CUSTOMER_HEADER, PROFILE_HEADER, is_about_profile
from reconciler.core.facets.custom_attributes import CUSTOM_ATTRIBUTES
from reconciler.core.facets.facet import Facet
from reconciler.core.facets.registry import (
    EXCLUSIVE,
    KEPT,
    SHOWN,
    believed,
    counts_each,
    doubtful_fields,
    facet_of,
    granted_by,
    is_readable,
    is_shown,
    last_shown,
)
from reconciler.core.plan import Action, Basis, Change, FieldChange, Op, Request
from reconciler.core.profiles import Profile
from reconciler.core.records import Fact, Known, Origin, Presence, Record
from reconciler.core.renames import Identifiers, refused
from reconciler.core.requests import values_of, values_over
from reconciler.values import FieldPath, Scalar, same

_CLOCK_TOLERANCE = 60_000
"""Milliseconds by which clocks that are right may differ."""
_LATEST = 1 << 53
"""The largest time of an answer, in milliseconds, that is recorded: 285,000 years. Larger ones are none."""


class Observed(NamedTuple):
    """A profile as an answer shows it (adapty-api 5.1): identifiers and the values of all fields that answers
    show, normalised. ``timestamp`` is the API's time of the answer in milliseconds."""

    profile_id: str
    customer_user_id: str | None
    values: Mapping[FieldPath, Scalar]
    timestamp: int | None = None
    prefixes: tuple[str, ...] = SHOWN
    """The beginnings of the paths of all fields that it shows."""

    def shows(self, path: FieldPath) -> bool:
        """Whether it tells the value of a field, or that there is none."""
        return path.startswith(self.prefixes)

    def with_own(self, facet: Facet, values: Mapping[FieldPath, Scalar]) -> Observed:
        """The profile with what the answer to a facet's own request shows."""
        return self._replace(
            values={**self.values, **values}, prefixes=(*self.prefixes, facet.prefix)
        )

    @property
    def read_apart(self) -> int:
        """The answers to own requests of facets that it holds."""
        return len(self.prefixes) - len(SHOWN)

    @property
    def custom_attributes(self) -> Mapping[str, Scalar]:
        """All custom attributes by key."""
        return CUSTOM_ATTRIBUTES.by_key(self.values)


class LookUp(NamedTuple):
    """What the API said of a declared profile that the state does not record."""

    observed: Observed | None
    """``None`` if the API knows no such profile."""

    def record(self, profile: Profile) -> Record | None:
        """The record that a state would have of it; ``None`` if there is no such profile."""
        if self.observed is None:
            return None
        paths = filter(self.observed.shows, profile.values)
        unread = Record(
            profile.address,
            customer_user_id=None if profile.profile_id else profile.customer_user_id,
            profile_id=self.observed.profile_id,
            facts={path: Fact(Known.UNKNOWN) for path in paths},
            origin=Origin.ADOPTED,
        )
        return observed(unread, self.observed)[0]


# --- what a change does to a record --------------------------------------------------------------


def attempted(record: Record, change: Change, *, request: Request, at: float) -> Record:
    """The record while a request is under way: what it writes is uncertain.

    Written durably before the request leaves, so that a crash needs no recovery of its own.
    """
    if request.method == "GET":
        return record
    if change.action is Action.DELETE:
        return record._replace(deleting=True, unknown_at=at, unknown_write={})
    facts = dict(record.facts)
    if record.deleting:  # the delete may have taken all of it away
        for path, fact in facts.items():
            if fact.known is Known.VALUE:
                facts[path] = Fact(Known.UNCERTAIN, fact.value)
    for path, value in _written(record, change, request=request).items():
        before = last_shown(record, path)
        last = None if before is None or before.known is Known.UNKNOWN else before.value
        facts[path] = Fact(Known.UNCERTAIN, value=last, attempt=value)
    presence = record.presence
    if change.action in (Action.CREATE, Action.ADOPT) and is_about_profile(request):
        presence = Presence.UNCONFIRMED
    if creates(change, request):
        record = _creation(record, change, request=request, at=at)
    elif change.action is Action.LINK and presence is not Presence.PRESENT:
        # The profile that the file names was there before, whatever our POST made.
        record = record._replace(origin=Origin.ADOPTED, created_at=None)
    return record._replace(
        facts=believed(facts),
        granted=record.granted.union(granted_by(request)),
        presence=presence,
        deleting=False,
        linking=record.linking or is_link(change, request),
        unknown_at=at,
        # An even earlier write of other fields may be on its way.
        unknown_write={**record.unknown_write, **values_of(request)},
        from_environment=tuple(sorted({*record.from_environment, *change.from_environment})),
    )


def creates(change: Change, request: Request) -> bool:
    """Whether a request makes a profile: it is sent once the API said that there is none."""
    return change.action is Action.CREATE and request.method == "POST" and is_about_profile(request)


def is_link(change: Change, request: Request) -> bool:
    """Whether a request gives a profile its customer id."""
    return change.action is Action.LINK and request.method == "POST" and is_about_profile(request)


def _creation(record: Record, change: Change, *, request: Request, at: float) -> Record:
    """The record before a request that makes its profile: it says that the profile is ours, even if nothing
    is ever heard of it.

    It does not where an earlier PATCH may still write the same attributes to a profile of others, which
    would then pass for ours. See `is_proven_ours`.
    """
    is_repeated = unproven_creation(record, change) and record.profile_id is None
    earlier = record.unknown_write
    proofs = [
        not (path in earlier and same(earlier[path], value))
        for path, value in values_of(request).items()
        if is_shown(path) and value is not None
    ]
    is_unmistakable = not any(map(is_shown, earlier))
    is_ours = is_repeated or any(proofs) or (not proofs and is_unmistakable)
    return record._replace(
        origin=Origin.CREATED if is_ours else Origin.ADOPTED,
        created_at=at if is_ours else None,
        lifetime=change.lifetime,
        profile_id=None if CUSTOMER_HEADER in request.headers else record.profile_id,
    )


def is_creation(record: Record, observation: Observed, *, request: Request) -> bool:
    """Whether the POST that an answer confirms made the profile, so far as the answer tells: one with a
    custom attribute, or a value of one, that none of our requests wrote was made by others, after the API had
    said that there is none. ``record`` is the one from before."""
    writes = (*values_of(request).items(), *record.unknown_write.items())
    return all(
        any(path == written and same(value, sent) for written, sent in writes)
        for path, value in observation.values.items()
        if path.startswith(EXCLUSIVE.prefix)
    )


def unproven_creation(record: Record, change: Change) -> bool:
    """Whether an earlier create of the profile ended unknown: it may be ours by now, or somebody else's."""
    return (
        change.action is Action.CREATE
        and record.presence is Presence.UNCONFIRMED
        and record.origin is Origin.CREATED
    )


def after_look(record: Record, observation: Observed) -> Record:
    """The record whose create ended unknown, once a look found a profile, before anything is sent to it.

    The profile is ours only if it holds what our POST asked for. Nothing tells the creators of profiles
    apart, so one that was to have no custom attribute counts as adopted. From here on its ``profile_id``
    tells.
    """
    if not _is_ours(record, observation):
        record = record._replace(origin=Origin.ADOPTED, created_at=None)
    return record._replace(profile_id=observation.profile_id)


def is_others(record: Record, observation: Observed) -> bool:
    """Whether a profile cannot be the recorded one. One whose creation ended unknown counts as the recorded
    one unless it has other custom attributes than our requests wrote."""
    if record.profile_id is not None:
        return record.profile_id != observation.profile_id
    if record.presence is Presence.PRESENT:
        return False
    if record.presence is Presence.GONE or record.origin is not Origin.CREATED:
        return True
    attempts = _attempts(record)
    is_same = all(same(value, observation.values.get(path)) for path, value in attempts.items())
    return not is_same or _has_others(observation, attempts.keys() | record.unknown_write.keys())


def put_back(record: Record) -> Record:
    """The record in a state that was put back from a backup.

    A creation that had an unknown outcome then cannot be proven any more: the attributes may be there because
    of what was sent since. A deletion that had one is not to be repeated by the plan that it came from: the
    profile may have been declared again since.
    """
    if record.deleting:
        record = record._replace(deleting=False)
    if (
        record.presence is Presence.UNCONFIRMED
        and record.origin is Origin.CREATED
        and record.profile_id is None
    ):
        return record._replace(origin=Origin.ADOPTED, created_at=None)
    return record


def contradicts(record: Record, change: Change, *, request: Request) -> bool:
    """Whether a request differs from an earlier write of the profile that may still land late.

    Such a request waits out the quiet period: there is no ETag and no idempotency key that would keep
    the older write from landing over the newer one (adapty-api 6.4).
    """
    if record.unknown_at is None:
        return False
    if record.deleting or change.action is Action.DELETE:
        return record.deleting != (change.action is Action.DELETE)
    new = values_of(request)
    # A profile made anew has none of the fields that an earlier write would bring back.
    anew = record.presence is Presence.GONE
    return any(
        not same(new[path], value) if path in new else anew
        for path, value in record.unknown_write.items()
    )


def repeats(record: Record, request: Request, *, is_needed: bool) -> bool:
    """Whether a request would be sent while an earlier one for the same field may still land, and each of
    them counts. Such a request waits out the quiet period, and then what a read shows decides about it.
    ``is_needed`` says whether it has to be sent, as far as the record tells."""
    if not counts_each(request):
        return False
    facts = {path: record.facts.get(path) for path in values_of(request)}
    if any(fact is not None and fact.known is Known.UNCERTAIN for fact in facts.values()):
        return True  # no answer has shown the outcome, however long ago it left
    late = record.unknown_write if record.unknown_at is not None else {}
    return any(path in late and (is_needed or fact is None) for path, fact in facts.items())


def without_expired_mark(record: Record, *, now: float, quiet_period: float) -> Record:
    """The record without marks of what can no longer land late.

    A mark from a time that is still to come was made by a clock that has been set back since. Its quiet
    period begins now, so that it ends at all.
    """
    if record.unknown_at is None:
        return record
    if record.unknown_at > now:
        return record._replace(unknown_at=now)
    if now - record.unknown_at < quiet_period:
        return record
    return record._replace(unknown_at=None, unknown_write={})


class Staleness(StrEnum):
    """How a change stands against the record of its profile."""

    CURRENT = "current"
    ALREADY = "already"
    STALE = "stale"


def staleness(change: Change, record: Record | None, *, now: float = 0.0) -> tuple[Staleness, str]:
    """Whether a change may be sent, given what the state knows now, and why not.

    ``record`` is that of the change's address; for a link also that of the profile to be linked. A
    change can be sent again after a partial failure: its own uncertain writes do not make it stale.
    ``now`` is Unix time in seconds.
    """
    if change.action is Action.DELETE or (not change.fields and change.action is Action.FORGET):
        return _staleness_of_removal(change, record)
    facts = record.facts if record is not None else {}
    present = record is not None and record.exists
    moved = record is not None and record.revision != change.revision
    complete = all(_satisfied(field, facts.get(field.path), now=now) for field in change.fields)
    there = record is not None and present and record.address == change.address
    news = (Action.CREATE, Action.ADOPT)
    if change.action in (*news, Action.LINK) and there and moved and complete:
        return Staleness.ALREADY, "the state has this result already"
    if change.action is Action.RENAME:
        problem = _rename_problem(change, record)
        if problem:
            return Staleness.STALE, problem
        if there and complete:
            return Staleness.ALREADY, "the state has this result already"
    if change.action in news and present:
        return Staleness.STALE, "the profile is recorded since the plan was made"
    if change.action in (Action.UPDATE, Action.FORGET):
        if not present:
            return Staleness.STALE, "the profile is not recorded as present any more"
        if complete and moved:
            return Staleness.ALREADY, "the state has this result already"
    if record is None:
        return Staleness.CURRENT, ""
    for field in change.fields:
        fact = last_shown(record, field.path)
        if fact is None and _is_read_apart(field) and field.path not in record.forgotten:
            continue  # only the plan knows what was there
        if not _unmoved(field, fact, moved=moved, now=now):
            return Staleness.STALE, f"{field.path} moved since the plan was made"
    changed = {field.path for field in change.fields}
    changed |= doubtful_fields(facts, changed=changed)  # they may go along, and are not compared
    for request in change.requests:
        for path, value in values_of(request).items():
            if path not in changed and not same(value, _known_value(facts.get(path))):
                return Staleness.STALE, f"{path} moved since the plan was made"
    return Staleness.CURRENT, ""


def _rename_problem(change: Change, record: Record | None) -> str:
    """Why a rename that was planned does not fit its record any more; empty if it does."""
    if record is None:
        return "the profile is not recorded any more"
    if change.requests and not record.exists:
        return "the profile is not recorded as present any more"
    if record.address == change.address:
        return ""
    problem = refused(record, Identifiers.of_address(change.address))
    return "" if problem is None else problem.message.text


def _staleness_of_removal(change: Change, record: Record | None) -> tuple[Staleness, str]:
    if record is None:
        return Staleness.ALREADY, "the state does not record the profile any more"
    if record.protect:
        return Staleness.STALE, "the profile is protected"
    for request in change.requests:
        named = request.headers.get(PROFILE_HEADER)
        if (
            request.method == "DELETE"
            and None not in (named, record.profile_id)
            and (named != record.profile_id)
        ):
            return Staleness.STALE, "another profile has its customer id since the plan was made"
    if record.revision != change.revision and not record.deleting:
        return Staleness.STALE, "the profile moved since the plan was made"
    return Staleness.CURRENT, ""


def _satisfied(field: FieldChange, fact: Fact | None, *, now: float) -> bool:
    match field.op:
        case Op.SET | Op.CLEAR:
            return fact is not None and facet_of(field.path).satisfies(fact, field.after, now=now)
        case Op.FORGET:
            return fact is None
        case _:
            assert_never(field.op)


def _unmoved(field: FieldChange, fact: Fact | None, *, moved: bool, now: float) -> bool:
    if fact is None or fact.known is Known.UNKNOWN:
        return field.basis is Basis.NONE
    if fact.known is Known.UNCERTAIN:
        # A plan does not say what had been attempted: only an unmoved record has the same attempt.
        return same(fact.attempt, field.after) or (
            field.basis is Basis.UNCERTAIN and same(fact.value, field.before) and not moved
        )
    if _satisfied(field, fact, now=now):
        return True
    return field.basis in (Basis.RECORDED, Basis.OBSERVED) and same(fact.value, field.before)


def _is_read_apart(field: FieldChange) -> bool:
    """Whether a plan read a field that no answer about its profile shows."""
    path = field.path
    return field.basis is Basis.OBSERVED and is_readable(path) and not is_shown(path)


def _known_value(fact: Fact | None) -> Scalar | None:
    return fact.value if fact is not None and fact.known is Known.VALUE else None


def _written(record: Record, change: Change, *, request: Request) -> dict[FieldPath, Scalar | None]:
    """The values of a request that the record does not hold already. These are the values of the change. A
    request also repeats values (members of installation_meta, ip_country); they count if the profile may
    lack them, for example because another profile took the place of the recorded one."""
    changed = {field.path for field in change.fields}
    return {
        path: value
        for path, value in values_over(request, record).items()
        if path in changed or not same(value, _known_value(record.facts.get(path)))
    }


def accepted(record: Record, change: Change, *, request: Request) -> Record:
    """The record once the API confirmed a request: what it wrote is known."""
    written = {
        path: Fact.of(value) for path, value in _written(record, change, request=request).items()
    }
    facts = believed({**record.facts, **written})
    granted = record.granted.union(granted_by(request))
    return record._replace(facts=facts, presence=Presence.PRESENT, granted=granted)


def forgotten(record: Record, change: Change) -> Record:
    """The record without the fields that the change forgets; they are remembered by name."""
    paths = {field.path for field in change.fields if field.op is Op.FORGET}
    if not paths:
        return record
    left = {path: record.facts[path] for path in paths & record.facts.keys()}
    facts = {path: fact for path, fact in record.facts.items() if path not in paths}
    record = record._replace(
        facts=facts, forgotten=record.forgotten | paths, granted=record.granted - paths
    )
    return _with_seen(record, left)


def _with_seen(record: Record, facts: Mapping[FieldPath, Fact]) -> Record:
    """The record that keeps what is known of fields which are managed no longer, where their facet keeps
    that. Where nothing is known for sure, it is as if no answer had shown any."""
    kept = {path: fact for path, fact in facts.items() if path.startswith(KEPT)}
    if not kept:
        return record
    seen = {path: fact.value for path, fact in kept.items() if fact.value is not None}
    is_sure = all(fact.known in (Known.VALUE, Known.CLEARED) for fact in kept.values())
    return record._replace(
        seen={**record.seen, **seen}, timestamp=record.timestamp if is_sure else None
    )


def observed(
    record: Record, observation: Observed, *, now: float | None = None
) -> tuple[Record, list[FieldChange]]:
    """The record with what an answer says of it, and where the answer differs from the record.

    The answer is believed: another ``profile_id`` means another profile, of which nothing but the
    returned attributes is known (adapty-api 2.3, 7.32).

    The time in an answer decides nothing but which access that ran out is named as a difference: one request
    of a profile is under way at a time, so answers come in the order of the requests, and the clock of the
    API may jump. See `is_dated_before`. ``now`` is Unix time in seconds by our own clock; without it a late
    write has landed only where the answer shows its very value.
    """
    facts = dict(record.facts)
    if record.presence is Presence.GONE:  # what was on its way to it may have met this one
        facts = {
            path: Fact(Known.UNCERTAIN, attempt=value)
            for path, value in record.unknown_write.items()
        }
    elif record.profile_id is not None and record.profile_id != observation.profile_id:
        facts = {
            path: fact if observation.shows(path) else _of_another(path, fact, record=record)
            for path, fact in facts.items()
        }
    timestamp = observation.timestamp
    differences = _believe(
        observation.values,
        facts,
        prefixes=observation.prefixes,
        late=record.unknown_write,
        at=None if timestamp is None else timestamp / 1000,
        now=now,
        is_same=record.profile_id in (None, observation.profile_id),
    )
    undeclared = {path: value for path, value in observation.values.items() if path not in facts}
    if not _is_ours(record, observation):
        record = record._replace(origin=Origin.ADOPTED, created_at=None)
    if record.profile_id not in (None, observation.profile_id):
        record = record._replace(granted=frozenset())
    return (
        record._replace(
            facts=facts,
            profile_id=observation.profile_id,
            customer_user_id=observation.customer_user_id or record.customer_user_id,
            presence=Presence.PRESENT,
            unmanaged=tuple(sorted(EXCLUSIVE.keys_of(undeclared))),
            seen={path: value for path, value in undeclared.items() if path.startswith(KEPT)},
            timestamp=observation.timestamp if abs(observation.timestamp or 0) <= _LATEST else None,
            # A delete names the profile_id, so it cannot meet another profile of the same customer id.
            deleting=record.deleting and record.profile_id in (None, observation.profile_id),
        ),
        differences,
    )


def observed_own(
    record: Record, facet: Facet, *, values: Mapping[FieldPath, Scalar]
) -> tuple[Record, list[FieldChange]]:
    """The record with what the answer to a facet's own request says, and where it differs from the record."""
    facts = dict(record.facts)
    differences = _believe(values, facts, prefixes=facet.prefix, late=record.unknown_write)
    return record._replace(facts=facts), differences


def _believe(
    values: Mapping[FieldPath, Scalar],
    facts: dict[FieldPath, Fact],
    *,
    prefixes: str | tuple[str, ...],
    late: Mapping[FieldPath, Scalar | None],
    at: float | None = None,
    now: float | None = None,
    is_same: bool = True,
) -> list[FieldChange]:
    """Put what an answer shows into the facts, and return where it differs from them. ``late`` are the values
    of a write that may still land, ``at`` is the time of the answer by the clock of the API, and ``now`` the
    one by ours. ``is_same`` tells whether the answer is about the profile that the facts are about."""
    differences = []
    for path, fact in sorted(facts.items()):
        if not path.startswith(prefixes):
            continue
        shown = values.get(path)
        before = fact.value if fact.known is Known.VALUE else None
        settled = fact.known in (Known.VALUE, Known.CLEARED)
        if settled and not facet_of(path).agrees(before, shown, at=at):
            op = Op.CLEAR if shown is None else Op.SET
            basis = Basis.OBSERVED if fact.observed else Basis.RECORDED
            differences.append(FieldChange(path, op, before, shown, basis))
        known = facet_of(path).value_after(fact, shown) if is_same else shown
        if path in late and not facet_of(path).has_landed(late[path], known, now=now):
            facts[path] = Fact(
                Known.UNCERTAIN, value=shown, attempt=late[path]
            )  # it may still land
        else:
            facts[path] = Fact.of(known, observed=True)
    return differences


def with_shown(record: Record, request: Request) -> Record:
    """The record with what answers showed of the fields that a request would have written, which was not
    needed."""
    facts = dict(record.facts)
    for path in values_of(request):
        if (fact := last_shown(record, path)) is not None:
            facts[path] = fact
    return record._replace(facts=facts)


def with_seen(record: Record, observation: Observed, *, paths: Iterable[FieldPath]) -> Record:
    """The record with what an answer shows of some fields that the files declare and that it does not hold
    yet. It serves a plan, and is not recorded: to record them would be to manage them."""
    more = {
        path: observation.values.get(path)
        for path in paths
        if path not in record.facts and observation.shows(path)
    }
    return record._replace(seen={**record.seen, **more}) if more else record


def is_dated_before(record: Record, observation: Observed) -> bool:
    """Whether an answer bears a time from before that of an earlier answer about the same profile, by more
    than the clocks of two servers may differ: the clock of the API jumped."""
    if record.profile_id != observation.profile_id or None in (
        record.timestamp,
        observation.timestamp,
    ):
        return False
    return (observation.timestamp or 0) < (record.timestamp or 0) - _CLOCK_TOLERANCE


def _is_ours(record: Record, observation: Observed) -> bool:
    """Whether a profile can be the recorded one, so that the origin that is recorded is its own: it has its
    id; or it holds what the POST asked for of which nothing was heard."""
    if record.presence is not Presence.PRESENT and record.origin is not Origin.CREATED:
        return False
    if record.profile_id is not None or record.presence is Presence.PRESENT:
        return record.profile_id in (None, observation.profile_id)
    return is_proven_ours(record, observation)


def is_proven_ours(record: Record, observation: Observed) -> bool:
    """Whether a profile holds every custom attribute that a create of unknown outcome asked for, and it
    asked for one at least; and no attribute that we did not write."""
    attempts = _attempts(record)
    return (
        bool(attempts)
        and all(same(value, observation.values.get(path)) for path, value in attempts.items())
        and not _has_others(observation, attempts.keys() | record.unknown_write.keys())
    )


def _attempts(record: Record) -> dict[FieldPath, Scalar]:
    """The values that a write of unknown outcome asked for, of fields that answers show."""
    return {
        path: fact.attempt
        for path, fact in record.facts.items()
        if is_shown(path) and fact.known is Known.UNCERTAIN and fact.attempt is not None
    }


def _has_others(observation: Observed, written: Set[FieldPath]) -> bool:
    """Whether a profile has custom attributes other than those that our requests wrote."""
    return any(
        path not in written for path in observation.values if path.startswith(EXCLUSIVE.prefix)
    )


def _of_another(path: FieldPath, fact: Fact, *, record: Record) -> Fact:
    """The fact of a write-only field of another profile under the same customer id. Nothing is known of it,
    except that our writes may have reached that profile, or may still do so."""
    if path in record.unknown_write:
        return Fact(Known.UNCERTAIN, attempt=record.unknown_write[path])
    if fact.known is Known.UNCERTAIN:
        return fact._replace(value=None)
    return Fact(Known.UNKNOWN)


def declared_by(record: Record, profile: Profile) -> Record:
    """The record with what the document of its profile says beside the fields: labels, protection, platform,
    lifetime, place, and the fields whose values come from the environment."""
    return record._replace(
        labels=profile.labels,
        protect=profile.protect,
        platform=profile.platform,
        lifetime=profile.lifetime,
        from_environment=tuple(sorted(profile.from_environment)),
        source=profile.source._replace(column=0),
    )


def gone(record: Record) -> Record:
    """The record once the API said that the profile does not exist.

    A write that may still land late stays marked: it would meet the profile that is made in its place, and a
    POST would make one. A plan that is to drop the record reads the profile first as long as there is a mark.
    """
    return record._replace(
        presence=Presence.GONE,
        origin=Origin.UNKNOWN,
        created_at=None,
        facts={},
        unmanaged=(),
        seen={},
        granted=frozenset(),
        profile_id=None if record.customer_user_id else record.profile_id,
    )
