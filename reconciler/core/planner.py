"""The planner: desired profiles and recorded state in, plan out. Pure and deterministic.

Per field path it follows one table (`_decide`); the rest is which requests carry the result, and what
a reviewer must know about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from fnmatch import fnmatchcase
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

from reconciler.core.contract import (
    ATTRIBUTES,
    DEVICE_ID,
    INSTALLATION,
    IP_COUNTRY,
    Clear,
    Contract,
    ways_out,
)
from reconciler.core.lifetimes import expiry, utc
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    Changes,
    FieldChange,
    Hazard,
    HazardKind,
    Head,
    Mode,
    Op,
    Plan,
    Request,
    Scope,
    Totals,
)
from reconciler.core.profiles import Profile, ProfileMeta
from reconciler.core.record_codec import OBSERVED, spelled_facts, spelled_scalar
from reconciler.core.records import Fact, Header, Known, Presence, Record
from reconciler.core.transitions import PATH, Sending, body, headers, sends_new_device
from reconciler.errors import Diagnostic, Source, error
from reconciler.values import FieldPath, Json, Scalar, same

_ATTRIBUTE = f"{ATTRIBUTES}."
_MEMBER = f"{INSTALLATION}."


class Count(NamedTuple):
    """A cap on deletions as a number of profiles."""

    profiles: int

    def allows(self, count: int, recorded: int) -> bool:
        """Whether ``count`` of ``recorded`` profiles may be deleted."""
        return count <= self.profiles

    def __str__(self) -> str:
        return str(self.profiles)


class Share(NamedTuple):
    """A cap on deletions as a whole percentage of the recorded profiles."""

    percent: int

    def allows(self, count: int, recorded: int) -> bool:
        """Whether ``count`` of ``recorded`` profiles may be deleted."""
        return count * 100 <= recorded * self.percent

    def __str__(self) -> str:
        return f"{self.percent}%"


Cap: TypeAlias = Count | Share


class Selection(NamedTuple):
    """Which profiles a plan is about: address globs, or ``label:NAME`` with a glob for the name.

    Without ``select`` all are; ``exclude`` wins. ``within`` limits it further, to some addresses.
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    within: frozenset[str] | None = None

    def takes(self, address: str, labels: Sequence[str]) -> bool:
        def matches(pattern: str) -> bool:
            if pattern.startswith("label:"):
                return any(fnmatchcase(label, pattern[6:]) for label in labels)
            return fnmatchcase(address, pattern)

        return (
            (self.within is None or address in self.within)
            and (not self.select or any(map(matches, self.select)))
            and not any(map(matches, self.exclude))
        )


class Options(NamedTuple):
    """What a plan is made with, beside files and state."""

    environment: str = "local"
    prune: bool = False
    reassert: bool = False
    selection: Selection = Selection()
    sending: Sending = Sending()
    since: str | None = None
    """The commit behind ``selection.within``, to be named in the plan."""
    refreshed: bool = False
    """Whether the records were read from the API for this plan."""
    max_changes: int | None = None
    """More changes than this is a hazard that apply refuses."""
    max_delete: Cap = Share(100)
    """More deletions than this is a hazard that apply refuses."""


def make_plan(
    desired: Iterable[Profile],
    recorded: Mapping[str, Record],
    *,
    header: Header,
    contract: Contract,
    options: Options,
) -> Plan | list[Diagnostic]:
    """The plan that takes the recorded profiles to the desired ones, or the errors that prevent it.

    ``desired`` are valid profiles with distinct addresses, in any order; ``recorded`` is keyed by
    address. Orphans stay untouched unless ``options.prune``. `Planner` does the same without holding
    everything in memory.
    """
    profiles = {profile.address: profile for profile in desired}
    links = Links.of(recorded.values())
    links.claim(
        (profile.customer_user_id, profile.profile_id)
        for address, profile in profiles.items()
        if address not in recorded
    )
    planner = Planner(contract, options, links)
    changes = [
        change
        for address in sorted(profiles.keys() | recorded.keys())
        if (change := planner.plan(profiles.get(address), recorded.get(address)))
    ]
    if diagnostics := planner.found.diagnostics:
        return sorted(diagnostics, key=Diagnostic.sort_key)
    return planner.finish(header, tuple(changes))


class Links(NamedTuple):
    """Recorded profiles by the identifiers that are not their address: a profile that is not recorded
    under its address may be one of them."""

    by_profile_id: Mapping[str, Record]
    by_learned_customer: Mapping[str, Record]
    """Those declared by their profile id alone, whose customer id an answer told."""
    claimed: set[str]
    """Addresses of the recorded profiles that are wanted under another one, and so are no orphans."""

    @classmethod
    def of(cls, recorded: Iterable[Record]) -> Links:
        by_profile_id: dict[str, Record] = {}
        by_learned_customer: dict[str, Record] = {}
        for record in recorded:
            if record.profile_id:
                by_profile_id[record.profile_id] = record
                if record.customer_user_id not in (None, record.address):
                    by_learned_customer[record.customer_user_id or ""] = record
        return cls(by_profile_id, by_learned_customer, set())

    def claim(self, unrecorded: Iterable[tuple[str | None, str | None]]) -> None:
        """Take note of the customer id and profile id of profiles that are not recorded under their
        address."""
        for customer_user_id, profile_id in unrecorded:
            record = self._named(customer_user_id, profile_id)
            if record is not None:
                self.claimed.add(record.address)

    def _named(self, customer_user_id: str | None, profile_id: str | None) -> Record | None:
        if profile_id is None:
            return self.by_learned_customer.get(customer_user_id or "")
        return self.by_profile_id.get(profile_id)

    def match(self, profile: Profile, record: Record | None) -> Record | Diagnostic | None:
        """The record of a profile: that of its address; else one to be linked, by the other
        identifier."""
        if record is None:
            return self._to_be_linked(profile)
        conflict = (
            profile.profile_id and record.profile_id and profile.profile_id != record.profile_id
        )
        if conflict and record.presence is Presence.PRESENT:
            return _identity(
                profile,
                f"{profile.address} is recorded as profile {record.profile_id}, "
                f"the file says {profile.profile_id}",
                "Take profile_id out of the file, or correct it.",
            )
        return record

    def _to_be_linked(self, profile: Profile) -> Record | Diagnostic | None:
        record = self._named(profile.customer_user_id, profile.profile_id)
        if profile.profile_id is None:
            return record
        by_customer = self.by_learned_customer.get(profile.customer_user_id or "")
        if record is not None and record.customer_user_id not in (None, profile.customer_user_id):
            return _identity(
                profile,
                f"profile {profile.profile_id} is recorded with the customer id "
                f"{record.customer_user_id}",
                "A link cannot be undone through the API: write `customer_user_id: "
                f"{record.customer_user_id}`.",
            )
        if by_customer is not None and by_customer is not record:
            return _identity(
                profile,
                f"the customer id {profile.customer_user_id} is recorded for profile "
                f"{by_customer.profile_id}",
                "Take profile_id out of the file, or correct it.",
            )
        return record


class Found:
    """What planning addresses came to besides changes: what was found of some can be added to what was
    found of those before them."""

    __slots__ = (
        "deletes",
        "diagnostics",
        "orphans",
        "present",
        "protected",
        "recorded",
        "unchanged",
    )

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        """Errors that prevent the plan; what was planned all the same is to be thrown away."""
        self.orphans: list[str] = []
        self.protected: list[str] = []
        """Of the orphans, those that are kept when others are deleted."""
        self.unchanged = 0
        self.recorded = 0
        self.present = 0
        """Of the recorded profiles, those that may exist."""
        self.deletes = 0

    def add(self, more: Found) -> None:
        self.diagnostics += more.diagnostics
        self.orphans += more.orphans
        self.protected += more.protected
        self.unchanged += more.unchanged
        self.recorded += more.recorded
        self.present += more.present
        self.deletes += more.deletes

    def settled(self, count: int) -> None:
        """Take note of profiles that are known to be as recorded, without looking at them."""
        self.recorded += count
        self.present += count
        self.unchanged += count


class Planner:
    """Plans address by address, so that neither profiles nor records nor changes need be held."""

    def __init__(self, contract: Contract, options: Options, links: Links | None = None) -> None:
        """``links`` are the records that profiles may be under another address than their own."""
        self.found = Found()
        self._contract = contract
        self._options = options
        self._links = links or Links.of(())

    def plan(self, profile: Profile | None, record: Record | None) -> Change | None:
        """The change of one address, given what the files and the state say of it, or ``None``.

        To be called for every address that either of them knows, in their order.
        """
        found = self.found
        if record is not None:
            found.recorded += 1
            found.present += record.presence is not Presence.GONE
        if profile is None:
            return None if record is None else self._orphan(record)
        match = self._links.match(profile, record)
        if isinstance(match, Diagnostic):
            found.diagnostics.append(match)
            return None
        if not self._options.selection.takes(profile.address, profile.labels):
            return None
        planned = _decided(profile, match, self._contract, self._options)
        if planned is None:
            found.unchanged += 1
            return None
        if isinstance(planned, Change):
            return planned
        found.diagnostics += planned
        return None

    def _orphan(self, record: Record) -> Change | None:
        options = self._options
        if record.address in self._links.claimed or not options.selection.takes(
            record.address, record.labels
        ):
            return None
        if options.prune and not record.protect:
            change = _removal(record)
            self.found.deletes += change.action is Action.DELETE
            return change
        self.found.orphans.append(record.address)
        if options.prune:
            self.found.protected.append(record.address)
        return None

    def hazards(self, changes: int) -> tuple[Hazard, ...]:
        """Dangers of the plan as a whole, which has so many changes."""
        return (*self._caps(changes), *_kept(self.found.protected))

    def _caps(self, changes: int) -> Iterator[Hazard]:
        found, options = self.found, self._options
        deletes = found.deletes
        if options.max_changes is not None and changes > options.max_changes:
            yield Hazard(
                HazardKind.MAX_CHANGES,
                f"makes {changes} changes, above max_changes {options.max_changes}",
            )
        if deletes and deletes == found.present:
            yield Hazard(HazardKind.DELETE_EVERYTHING, "deletes every recorded profile")
        if not options.max_delete.allows(deletes, found.recorded):
            yield Hazard(
                HazardKind.MAX_DELETE,
                f"deletes {deletes} of {found.recorded} recorded profiles, above max_delete "
                f"{options.max_delete}",
            )

    def head(self, header: Header) -> Head:
        mode = Mode.PRUNE if self._options.prune else Mode.ADDITIVE
        options = self._options
        scope = Scope(
            select=options.selection.select,
            exclude=options.selection.exclude,
            since=options.since,
            reassert=options.reassert,
            refresh=options.refreshed,
        )
        return Head(
            options.environment, mode, header.lineage, header.serial, header.application, scope
        )

    def finish(self, header: Header, changes: Changes, totals: Totals | None = None) -> Plan:
        """The plan, once every address has been asked for; ``changes`` are those that `plan` gave."""
        head = self.head(header)
        return Plan(
            environment=head.environment,
            mode=head.mode,
            lineage=head.lineage,
            serial=head.serial,
            application=head.application,
            changes=changes,
            orphans=tuple(self.found.orphans),
            unchanged=self.found.unchanged,
            hazards=self.hazards(len(changes)),
            scope=head.scope,
            totals=totals,
        )


def is_as_recorded(
    paths: tuple[FieldPath, ...], values: Sequence[Scalar | None], about: ProfileMeta, body: str
) -> bool:
    """Whether `Planner.plan` would find nothing to change of a profile that declares these, unless it
    reasserts, as far as that can be told from the text in which its record is kept; it mostly can, in a
    fraction of the time that parsing takes.

    Members of a record stand in the order of their names, so that of ``deleting`` is between the two that
    must follow each other; and no text within it holds a quote that is not escaped.
    """
    if about.forget or about.exclusive or '"presence":"present"' not in body:
        return False
    customer, facts = "", f'"facts":{spelled_facts(paths, values)},'
    if about.customer_user_id is not None:
        customer = f'"customer_user_id":{spelled_scalar(about.customer_user_id)},'
    elif '"customer_user_id":' in body or '"deleting":' in body:
        return False
    return (
        customer + facts in body.replace(OBSERVED, "")
        and body.startswith(f'{{"address":{spelled_scalar(about.address)},')
        and (about.profile_id is None or f'"profile_id":{spelled_scalar(about.profile_id)}' in body)
    )


def _identity(profile: Profile, message: str, hint: str) -> Diagnostic:
    return error("profile/identity", message, profile.source, hint=hint)


def _decided(
    profile: Profile, record: Record | None, contract: Contract, options: Options
) -> Change | None | list[Diagnostic]:
    """The change of one profile, or the errors that prevent it."""
    action = _action(profile, record)
    again = options.reassert or action is Action.CREATE
    fields = _fields(profile, record, contract, again=again)
    ops = {change.op for change in fields}
    if Op.CLEAR in ops and (diagnostics := [*_refusals(fields, profile, contract)]):
        return diagnostics
    sent = fields
    if Op.FORGET in ops:
        sent = [change for change in fields if change.op is not Op.FORGET]
    if action is Action.UPDATE and not sent:
        if not fields:
            return None
        action = Action.FORGET
    steps = _Steps(profile, record, contract, sent)
    requests = () if action is Action.FORGET else steps.requests(action, options.sending)
    return Change(
        address=profile.address,
        action=action,
        reason=_reason(action, profile, record, fields, reassert=options.reassert)
        + ("; custom attributes that nobody declares are removed" if profile.exclusive else ""),
        fields=tuple(fields),
        requests=requests,
        hazards=tuple(steps.hazards(action, requests)),
        source=Source(profile.source.file, profile.source.line),
        revision=record.revision if record else None,
        labels=profile.labels,
        protect=profile.protect,
        template=profile.template,
        lifetime=profile.lifetime,
        exclusive=tuple(
            sorted(
                path.removeprefix(_ATTRIBUTE)
                for path in profile.forget
                if path.startswith(_ATTRIBUTE)
            )
        )
        if profile.exclusive
        else None,
    )


def _action(profile: Profile, record: Record | None) -> Action:
    if record is not None and record.address != profile.address:
        return Action.LINK
    if profile.customer_user_id and profile.profile_id:
        linked = (
            record is not None
            and record.customer_user_id == profile.customer_user_id
            and record.profile_id is not None
            and record.presence is not Presence.UNCONFIRMED
        )
        if not linked:
            return Action.LINK
    if record is None or not record.exists:
        return Action.CREATE
    return Action.UPDATE


def _fields(
    profile: Profile, record: Record | None, contract: Contract, *, again: bool
) -> list[FieldChange]:
    """What happens to every field, in the order of a request body.

    ``again``: what is settled is sent all the same.
    """
    if record is None:
        return _unknown_fields(profile)
    facts = record.facts
    values, forget = profile.values, profile.forget
    strange = _strange(profile, record)
    paths: Iterable[FieldPath] = values
    if strange or not facts.keys() <= values.keys():
        paths = contract.ordered({*values, *facts, *strange})
    found = []
    for path in paths:
        fact, after = facts.get(path), values.get(path)
        if forget and path in forget:
            if fact is not None:
                found.append(_changed(path, Op.FORGET, None, fact, profile))
        elif after is not None:
            settled = fact is not None and fact.known is Known.VALUE and same(fact.value, after)
            if again or not settled:
                found.append(_changed(path, Op.SET, after, fact, profile))
        elif fact is not None and fact.known is Known.CLEARED:
            if again and _can_clear(path, profile, contract):
                found.append(_changed(path, Op.CLEAR, None, fact, profile))
        elif path in values or path in strange or (fact and fact.known is not Known.UNKNOWN):
            found.append(_changed(path, Op.CLEAR, None, fact, profile))
    return found


def _unknown_fields(profile: Profile) -> list[FieldChange]:
    """The same of a profile of which nothing is known."""
    values, forget = profile.values, profile.forget
    if forget:
        values = {path: value for path, value in values.items() if path not in forget}
    ops = [Op.CLEAR if value is None else Op.SET for value in values.values()]
    lines, files = map(profile.lines.get, values), map(profile.files.get, values)
    never, nothing = repeat(Basis.NONE), repeat(None)
    # A first plan has nothing else, and by their constructor they would take three times as long.
    each = zip(values, ops, nothing, values.values(), never, lines, files)  # noqa: B905
    return [*map(_FIELD_CHANGE, each)]


_FIELD_CHANGE: Callable[[tuple[Any, ...]], FieldChange] = partial(tuple.__new__, FieldChange)


def _changed(
    path: FieldPath,
    op: Op,
    after: Scalar | None,
    fact: Fact | None,
    profile: Profile,
) -> FieldChange:
    before: Scalar | None = None
    if fact is None or fact.known is Known.UNKNOWN:
        basis = Basis.NONE
    elif fact.known is Known.UNCERTAIN:
        before, basis = fact.value, Basis.UNCERTAIN
    else:
        before, basis = fact.value, Basis.OBSERVED if fact.observed else Basis.RECORDED
    line, file = profile.lines.get(path), profile.files.get(path)
    return FieldChange._make((path, op, before, after, basis, line, file))


def _strange(profile: Profile, record: Record) -> Set[FieldPath]:
    """Custom attributes seen at the API that an exclusive profile is not to have."""
    if not profile.exclusive or not record.exists:
        return frozenset()
    return {_ATTRIBUTE + key for key in record.unmanaged} - profile.forget


def _is_member(path: FieldPath) -> bool:
    return path.startswith(_MEMBER)


def _can_clear(path: FieldPath, profile: Profile, contract: Contract) -> bool:
    """Whether the API can clear a field; members of installation_meta go with a device_id."""
    if _is_member(path) and profile.values.get(DEVICE_ID) is None:
        return False
    return contract.knows(path) and contract.field(path).clear is not Clear.NEVER


def _refusals(
    fields: Sequence[FieldChange], profile: Profile, contract: Contract
) -> Iterator[Diagnostic]:
    """What the API cannot do of the field changes. An installation is one finding."""
    address, source = profile.address, profile.source
    impossible = [
        change.path
        for change in fields
        if change.op is Op.CLEAR and not _can_clear(change.path, profile, contract)
    ]
    for path in impossible:
        if not contract.knows(path):
            yield error(
                "plan/unknown-field",
                f"{path} is recorded for {address}, but the {contract.dialect} dialect "
                "does not know it",
                source,
                hint=f"List `{path}` under meta.forget, or use the dialect that wrote it.",
            )
    known = [path for path in impossible if contract.knows(path)]
    for path in dict.fromkeys(INSTALLATION if _is_member(path) else path for path in known):
        yield error(
            "profile/cannot-clear",
            f"{path} of {address} is set and no longer declared, and the API cannot clear it",
            source,
            hint=ways_out(path),
        )


class _Steps:
    """The requests that carry field changes, and what they endanger."""

    def __init__(
        self,
        profile: Profile,
        record: Record | None,
        contract: Contract,
        sent: list[FieldChange],
    ) -> None:
        self.profile = profile
        self.contract = contract
        self.sent = sent
        self.profile_id = profile.profile_id or (record.profile_id if record else None)
        self.existing = _existing(record)
        self.attributes = [change for change in sent if change.path.startswith(_ATTRIBUTE)]
        self.early = self._early()
        self.late = [change for change in sent if change not in self.early] if self.early else sent

    def _early(self) -> list[FieldChange]:
        """Deletions that must take effect before the additions, near the limit (adapty-api 4.4)."""
        existing = self.existing
        if not existing:
            return []
        deleted = [f for f in self.attributes if f.op is Op.CLEAR and f.path in existing]
        added = [f for f in self.attributes if f.op is Op.SET and f.path not in existing]
        full = len(existing) + len(added) > self.contract.max_attributes
        return deleted if deleted and added and full else []

    def requests(self, action: Action, sending: Sending) -> tuple[Request, ...]:
        profile = self.profile
        if action is Action.LINK:
            named = headers(profile.customer_user_id, self.profile_id, profile.platform)
            first = headers(None, self.profile_id, profile.platform)
            last = Request("POST", PATH, named, self._body(self.late, sending))
        else:
            named = first = headers(
                profile.customer_user_id,
                None if profile.customer_user_id else profile.profile_id,
                profile.platform,
            )
            fallback = "POST" if action is Action.CREATE and profile.customer_user_id else None
            if not self.sent:
                return (Request("GET", PATH, named, fallback=fallback),)
            last = Request("PATCH", PATH, named, self._body(self.late, sending), fallback)
        if not self.early:
            return (last,)
        return (Request("PATCH", PATH, first, self._body(self.early, sending)), last)

    def _body(self, fields: list[FieldChange], sending: Sending) -> dict[str, Json]:
        return body(fields, self.profile.values, self.contract, sending)

    def hazards(self, action: Action, requests: Sequence[Request]) -> Iterator[Hazard]:
        if action is Action.LINK:
            yield Hazard(
                HazardKind.LINK,
                f"links customer id {self.profile.customer_user_id} to profile "
                f"{self.profile_id}; the API has no way to undo it",
            )
        device = sends_new_device(self.sent)
        if device is not None and not (
            device.basis is not Basis.NONE and same(device.before, device.after)
        ):
            yield _NEW_DEVICE
        if (final := self._attributes_after()) > self.contract.max_attributes:
            yield Hazard(
                HazardKind.ATTRIBUTE_LIMIT,
                f"{final} custom attributes with those that the profile already has; the API "
                f"takes {self.contract.max_attributes} and will refuse",
            )
        if self.early:
            yield _TWO_STEPS
        if 0.0 in [f.after for f in self.attributes if f.op is Op.SET]:
            yield _ZERO_VALUE
        if any(request.body is not None and IP_COUNTRY not in request.body for request in requests):
            yield _FROM_SENDER

    def _attributes_after(self) -> int:
        """How many custom attributes the profile has after the change; no more than so many, as long as that
        is within the limit."""
        existing, changed = self.existing, self.attributes
        if len(existing) + len(changed) <= self.contract.max_attributes:
            return len(existing) + len(changed)
        final = existing | {f.path for f in changed if f.op is Op.SET}
        return len(final - {f.path for f in changed if f.op is Op.CLEAR})


_NEW_DEVICE = Hazard(
    HazardKind.NEW_DEVICE_ID,
    "a new device_id makes an installation that cannot be removed through the API (assumed)",
)
_TWO_STEPS = Hazard(
    HazardKind.TWO_STEPS,
    "near the limit of custom attributes: deletions go in a first request, additions in "
    "a second; the two are not one step",
)
_ZERO_VALUE = Hazard(
    HazardKind.ZERO_VALUE,
    "a custom attribute of 0 or false is stored as 0.0 (assumed: the API does not take "
    "it for an empty value)",
)
_FROM_SENDER = Hazard(
    HazardKind.IP_COUNTRY_FROM_SENDER,
    "sent without ip_country: the API may set the user's country from the address of this machine",
)


def _existing(record: Record | None) -> Set[FieldPath]:
    """Custom attributes that the profile has at the API, as far as we know."""
    if record is None or not record.exists:
        return frozenset()
    managed = {
        path
        for path, fact in record.facts.items()
        if path.startswith(_ATTRIBUTE) and fact.known in (Known.VALUE, Known.UNCERTAIN)
    }
    return managed | {_ATTRIBUTE + key for key in record.unmanaged}


def _reason(
    action: Action,
    profile: Profile,
    record: Record | None,
    fields: Sequence[FieldChange],
    *,
    reassert: bool,
) -> str:
    match action:
        case Action.CREATE:
            return _reason_of_create(record)
        case Action.LINK:
            return "given a customer id: linked to its profile"
        case _:
            changed = {change.path for change in fields}
            unchanged = sum(1 for path in profile.values if path not in changed)
            return _counted(fields, unchanged, reassert=reassert)


def _reason_of_create(record: Record | None) -> str:
    if record is None:
        return "not recorded: adopted if it exists, created if not"
    if record.presence is Presence.GONE:
        return "the API said that it does not exist: created again"
    if record.deleting:
        return "an earlier delete ended uncertain: adopted if it exists, created if not"
    return "an earlier create ended uncertain: sent again"


def _counted(fields: Sequence[FieldChange], unchanged: int, *, reassert: bool) -> str:
    parts = [
        f"{count} to {op}" for op in Op if (count := sum(1 for change in fields if change.op is op))
    ]
    uncertain = sum(1 for change in fields if change.basis is Basis.UNCERTAIN)
    text = ("reasserted: " if reassert else "") + ", ".join(parts)
    text += f" ({uncertain} uncertain after an unknown outcome)" if uncertain else ""
    return text + (f"; {unchanged} unchanged" if unchanged else "")


_IN_NO_FILE = "in no file"


def _removal(record: Record, reason: str = _IN_NO_FILE, *, exact: bool = False) -> Change:
    if record.presence is Presence.GONE:
        return Change(
            record.address,
            Action.FORGET,
            f"{reason}, and the API said that it does not exist: dropped from the state",
            source=record.source,
            revision=record.revision,
        )
    anonymous = record.address != record.customer_user_id or (exact and record.profile_id)
    named = headers(None, record.profile_id) if anonymous else headers(record.address, None)
    return Change(
        record.address,
        Action.DELETE,
        reason,
        requests=(Request("DELETE", PATH, named),),
        hazards=(
            Hazard(HazardKind.DELETE, "deletes the profile and its related data; there is no undo"),
        ),
        source=record.source,
        revision=record.revision,
    )


def expired(records: Iterable[Record], *, now: float) -> Iterator[tuple[Record, str]]:
    """Those of some records that may be swept at a time (Unix seconds), each with the reason: this tool
    created the profile, and its lifetime is over. Protected ones never are."""
    for record in records:
        if record.created_at is None or record.lifetime is None or record.protect:
            continue
        end = expiry(record.lifetime, record.created_at)
        if end is not None and end <= now:
            yield record, f"created by this tool, and expired on {utc(end)}"


def make_removal(
    removed: Iterable[tuple[Record, str]],
    *,
    header: Header,
    environment: str,
    mode: Mode,
    scope: Scope | None = None,
    hazards: Iterable[Hazard] = (),
) -> Plan:
    """The plan that deletes some recorded profiles, each for its reason, and nothing else.

    A profile is deleted by the id that it got from the API, where that is known: one that was given its
    customer id since is not touched. Protected ones stay, which the plan says.
    """
    wanted = sorted(removed, key=lambda item: item[0].address)
    return Plan(
        environment=environment,
        mode=mode,
        lineage=header.lineage,
        serial=header.serial,
        application=header.application,
        changes=tuple(
            _removal(record, reason, exact=True) for record, reason in wanted if not record.protect
        ),
        orphans=(),
        unchanged=0,
        hazards=(
            *hazards,
            *_kept([record.address for record, _ in wanted if record.protect], "to be deleted"),
        ),
        scope=scope or Scope(),
    )


def _kept(protected: Sequence[str], reason: str = _IN_NO_FILE) -> Iterator[Hazard]:
    if protected:
        yield Hazard(
            HazardKind.PROTECTED,
            f"kept although {reason}, because protected: {', '.join(protected)}",
        )
