"""The planner: desired profiles and recorded state in, plan out. Pure and deterministic.

Per field path it follows one table (`_decide`); the rest is which requests carry the result, and what
a reviewer must know about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeAlias

from reconciler.contract import (
    ATTRIBUTES,
    DEVICE_ID,
    INSTALLATION,
    IP_COUNTRY,
    Clear,
    Contract,
    ways_out,
)
from reconciler.errors import Diagnostic, Source, error
from reconciler.plan import (
    Action,
    Basis,
    Change,
    FieldChange,
    Hazard,
    Mode,
    Op,
    Plan,
    Request,
    Scope,
)
from reconciler.profiles import Profile
from reconciler.protocol import PATH, Sending, body, headers, sends_new_device
from reconciler.state import Fact, Header, Known, Presence, Record
from reconciler.values import FieldPath, Json, Scalar, same

_ATTRIBUTE = f"{ATTRIBUTES}."
_MEMBER = f"{INSTALLATION}."


@dataclass(frozen=True, slots=True)
class Count:
    """A cap on deletions as a number of profiles."""

    profiles: int

    def allows(self, count: int, recorded: int) -> bool:
        """Whether ``count`` of ``recorded`` profiles may be deleted."""
        return count <= self.profiles

    def __str__(self) -> str:
        return str(self.profiles)


@dataclass(frozen=True, slots=True)
class Share:
    """A cap on deletions as a whole percentage of the recorded profiles."""

    percent: int

    def allows(self, count: int, recorded: int) -> bool:
        """Whether ``count`` of ``recorded`` profiles may be deleted."""
        return count * 100 <= recorded * self.percent

    def __str__(self) -> str:
        return f"{self.percent}%"


Cap: TypeAlias = Count | Share


@dataclass(frozen=True, slots=True)
class Selection:
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


@dataclass(frozen=True, slots=True)
class Options:
    """What a plan is made with, beside files and state."""

    environment: str = "local"
    prune: bool = False
    reassert: bool = False
    selection: Selection = field(default_factory=Selection)
    sending: Sending = field(default_factory=Sending)
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
    address. Orphans stay untouched unless ``options.prune``.
    """
    known = _Known.of(recorded)
    changes: list[Change] = []
    diagnostics: list[Diagnostic] = []
    claimed: set[str] = set()
    unchanged = 0
    for profile in sorted(desired, key=lambda profile: profile.address):
        match = known.match(profile)
        if isinstance(match, Diagnostic):
            diagnostics.append(match)
            continue
        if match is not None:
            claimed.add(match.address)
        if not options.selection.takes(profile.address, profile.labels):
            continue
        planned = _ProfilePlanner(profile, match, contract, options).plan()
        match planned:
            case Change():
                changes.append(planned)
            case None:
                unchanged += 1
            case findings:
                diagnostics.extend(findings)
    if diagnostics:
        return sorted(diagnostics, key=Diagnostic.sort_key)
    orphans = [
        record
        for address, record in recorded.items()
        if address not in claimed and options.selection.takes(address, record.labels)
    ]
    orphans.sort(key=lambda record: record.address)
    left = [record for record in orphans if record.protect or not options.prune]
    if options.prune:
        changes.extend(_removal(record) for record in orphans if not record.protect)
    changes.sort(key=lambda change: change.address)
    return Plan(
        environment=options.environment,
        mode=Mode.PRUNE if options.prune else Mode.ADDITIVE,
        lineage=header.lineage,
        serial=header.serial,
        application=header.application,
        changes=tuple(changes),
        orphans=tuple(record.address for record in left),
        unchanged=unchanged,
        hazards=(
            *_caps(changes, recorded.values(), options),
            *(_protected(left) if options.prune else ()),
        ),
        scope=Scope(
            select=options.selection.select,
            exclude=options.selection.exclude,
            since=options.since,
            reassert=options.reassert,
            refresh=options.refreshed,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """The recorded profiles by all that can name them."""

    by_address: Mapping[str, Record]
    by_profile_id: Mapping[str, Record]
    by_learned_customer: Mapping[str, Record]
    """Those declared by their profile id alone, whose customer id an answer told."""

    @classmethod
    def of(cls, recorded: Mapping[str, Record]) -> _Known:
        present = [record for record in recorded.values() if record.profile_id]
        return cls(
            recorded,
            {record.profile_id: record for record in present if record.profile_id},
            {
                record.customer_user_id: record
                for record in present
                if record.customer_user_id not in (None, record.address)
            },
        )

    def match(self, profile: Profile) -> Record | Diagnostic | None:
        """The record of a profile: by its address; else one to be linked, by the other identifier."""
        record = self.by_address.get(profile.address)
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
        by_customer = self.by_learned_customer.get(profile.customer_user_id or "")
        if profile.profile_id is None:
            return by_customer
        record = self.by_profile_id.get(profile.profile_id)
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


def _identity(profile: Profile, message: str, hint: str) -> Diagnostic:
    return error("profile/identity", message, profile.source, hint=hint)


@dataclass(frozen=True, slots=True)
class _ProfilePlanner:
    """Decides about one profile."""

    profile: Profile
    record: Record | None
    contract: Contract
    options: Options

    def plan(self) -> Change | None | list[Diagnostic]:
        action = self._action()
        fields = [change for path in self._paths() if (change := self._decide(path, action))]
        if diagnostics := list(self._refusals(fields)):
            return diagnostics
        sent = [change for change in fields if change.op is not Op.FORGET]
        if action is Action.UPDATE and not sent:
            if not fields:
                return None
            action = Action.FORGET
        requests = self._requests(action, sent)
        return Change(
            address=self.profile.address,
            action=action,
            reason=self._reason(action, fields),
            fields=tuple(fields),
            requests=requests,
            hazards=tuple(self._hazards(action, sent, requests)),
            source=Source(self.profile.source.file, self.profile.source.line),
            revision=self.record.revision if self.record else None,
            labels=self.profile.labels,
            protect=self.profile.protect,
        )

    def _action(self) -> Action:
        record, profile = self.record, self.profile
        if record is not None and record.address != profile.address:
            return Action.LINK
        if profile.customer_user_id and profile.profile_id:
            linked = record is not None and record.customer_user_id == profile.customer_user_id
            if not linked or record is None or record.profile_id is None:
                return Action.LINK
        if record is None or not record.exists:
            return Action.CREATE
        return Action.UPDATE

    def _paths(self) -> list[FieldPath]:
        facts = self.record.facts if self.record else {}
        return self.contract.ordered({*self.profile.values, *facts})

    def _decide(self, path: FieldPath, action: Action) -> FieldChange | None:
        """The table of what happens to a field."""
        fact = self.record.facts.get(path) if self.record else None
        declared = path in self.profile.values
        after = self.profile.values.get(path)
        line = self.profile.lines.get(path)
        if path in self.profile.forget:
            return self._change(path, Op.FORGET, None, line=line) if fact else None
        again = self.options.reassert or action is Action.CREATE
        if declared and after is not None:
            settled = fact is not None and fact.known is Known.VALUE and same(fact.value, after)
            if settled and not again:
                return None
            return self._change(path, Op.SET, after, line=line)
        if fact is not None and fact.known is Known.CLEARED:
            sent = again and self._can_clear(path)
            return self._change(path, Op.CLEAR, None, line=line) if sent else None
        if declared or (fact is not None and fact.known is not Known.UNKNOWN):
            return self._change(path, Op.CLEAR, None, line=line)
        return None

    def _change(
        self, path: FieldPath, op: Op, after: Scalar | None, *, line: int | None
    ) -> FieldChange:
        fact = self.record.facts.get(path) if self.record else None
        before, basis = _before(fact)
        return FieldChange(path, op, before, after, basis, line)

    def _can_clear(self, path: FieldPath) -> bool:
        """Whether the API can clear a field; members of installation_meta go with a device_id."""
        if _is_member(path) and self.profile.values.get(DEVICE_ID) is None:
            return False
        return self.contract.knows(path) and self.contract.field(path).clear is not Clear.NEVER

    def _refusals(self, fields: Sequence[FieldChange]) -> Iterator[Diagnostic]:
        """What the API cannot do of the field changes. An installation is one finding."""
        address, source = self.profile.address, self.profile.source
        impossible = [f.path for f in fields if f.op is Op.CLEAR and not self._can_clear(f.path)]
        for path in impossible:
            if not self.contract.knows(path):
                yield error(
                    "plan/unknown-field",
                    f"{path} is recorded for {address}, but the {self.contract.dialect} dialect "
                    "does not know it",
                    source,
                    hint=f"List `{path}` under meta.forget, or use the dialect that wrote it.",
                )
        known = [path for path in impossible if self.contract.knows(path)]
        for path in dict.fromkeys(INSTALLATION if _is_member(path) else path for path in known):
            yield error(
                "profile/cannot-clear",
                f"{path} of {address} is set and no longer declared, and the API cannot clear it",
                source,
                hint=ways_out(path),
            )

    def _requests(self, action: Action, sent: list[FieldChange]) -> tuple[Request, ...]:
        profile = self.profile
        if action is Action.FORGET:
            return ()
        if action is Action.LINK:
            first = headers(None, self._profile_id(), profile.platform)
            both = headers(profile.customer_user_id, self._profile_id(), profile.platform)
            return (
                *(Request("PATCH", PATH, first, self._body(part)) for part in self._early(sent)),
                Request("POST", PATH, both, self._body(self._late(sent))),
            )
        named = headers(
            profile.customer_user_id,
            None if profile.customer_user_id else profile.profile_id,
            profile.platform,
        )
        fallback = "POST" if action is Action.CREATE and profile.customer_user_id else None
        if not sent:
            return (Request("GET", PATH, named, fallback=fallback),)
        return (
            *(Request("PATCH", PATH, named, self._body(part)) for part in self._early(sent)),
            Request("PATCH", PATH, named, self._body(self._late(sent)), fallback),
        )

    def _profile_id(self) -> str | None:
        return self.profile.profile_id or (self.record.profile_id if self.record else None)

    def _body(self, fields: Sequence[FieldChange]) -> dict[str, Json]:
        return body(fields, self.profile.values, self.contract, self.options.sending)

    def _early(self, sent: list[FieldChange]) -> list[list[FieldChange]]:
        """Deletions that must take effect before the additions, near the limit (adapty-api 4.4)."""
        existing = self._existing()
        deleted = [f for f in sent if f.op is Op.CLEAR and f.path in existing]
        added = [f for f in sent if f.op is Op.SET and _is_attribute(f) and f.path not in existing]
        full = len(existing) + len(added) > self.contract.max_attributes
        return [deleted] if deleted and added and full else []

    def _late(self, sent: list[FieldChange]) -> list[FieldChange]:
        early = {change.path for part in self._early(sent) for change in part}
        return [change for change in sent if change.path not in early]

    def _existing(self) -> set[FieldPath]:
        """Custom attributes that the profile has at the API, as far as we know."""
        if self.record is None or not self.record.exists:
            return set()
        managed = {
            path
            for path, fact in self.record.facts.items()
            if path.startswith(_ATTRIBUTE) and fact.known in (Known.VALUE, Known.UNCERTAIN)
        }
        return managed | {_ATTRIBUTE + key for key in self.record.unmanaged}

    def _hazards(
        self, action: Action, sent: list[FieldChange], requests: Sequence[Request]
    ) -> Iterator[Hazard]:
        if action is Action.LINK:
            yield Hazard(
                "link",
                f"links customer id {self.profile.customer_user_id} to profile "
                f"{self._profile_id()}; the API has no way to undo it",
            )
        device = sends_new_device(sent)
        if device is not None and not (
            device.basis is not Basis.NONE and same(device.before, device.after)
        ):
            yield Hazard(
                "new_device_id",
                "a new device_id makes an installation that cannot be removed through the API "
                "(assumed)",
            )
        final = self._existing() | {f.path for f in sent if f.op is Op.SET and _is_attribute(f)}
        final -= {f.path for f in sent if f.op is Op.CLEAR}
        if len(final) > self.contract.max_attributes:
            yield Hazard(
                "attribute_limit",
                f"{len(final)} custom attributes with those that the profile already has; the API "
                f"takes {self.contract.max_attributes} and will refuse",
            )
        if self._early(sent):
            yield Hazard(
                "two_steps",
                "near the limit of custom attributes: deletions go in a first request, additions in "
                "a second; the two are not one step",
            )
        if any(_is_attribute(f) and f.op is Op.SET and f.after == 0.0 for f in sent):
            yield Hazard(
                "zero_value",
                "a custom attribute of 0 or false is stored as 0.0 (assumed: the API does not take "
                "it for an empty value)",
            )
        if any(request.body is not None and IP_COUNTRY not in request.body for request in requests):
            yield Hazard(
                "ip_country_from_sender",
                "sent without ip_country: the API may set the user's country from the address of "
                "this machine",
            )

    def _reason(self, action: Action, fields: Sequence[FieldChange]) -> str:
        match action:
            case Action.CREATE if self.record is None:
                return "not recorded: adopted if it exists, created if not"
            case Action.CREATE if self.record and self.record.presence is Presence.GONE:
                return "the API said that it does not exist: created again"
            case Action.CREATE if self.record and self.record.deleting:
                return "an earlier delete ended uncertain: adopted if it exists, created if not"
            case Action.CREATE:
                return "an earlier create ended uncertain: sent again"
            case Action.LINK:
                return "given a customer id: linked to its profile"
            case _:
                changed = {change.path for change in fields}
                unchanged = sum(1 for path in self.profile.values if path not in changed)
                return _counted(fields, unchanged, reassert=self.options.reassert)


def _before(fact: Fact | None) -> tuple[Scalar | None, Basis]:
    if fact is None or fact.known is Known.UNKNOWN:
        return None, Basis.NONE
    if fact.known is Known.UNCERTAIN:
        return fact.value, Basis.UNCERTAIN
    return fact.value, Basis.OBSERVED if fact.observed else Basis.RECORDED


def _is_attribute(change: FieldChange) -> bool:
    return change.path.startswith(_ATTRIBUTE)


def _is_member(path: FieldPath) -> bool:
    return path.startswith(_MEMBER)


def _counted(fields: Sequence[FieldChange], unchanged: int, *, reassert: bool) -> str:
    parts = [
        f"{count} to {op}" for op in Op if (count := sum(1 for change in fields if change.op is op))
    ]
    uncertain = sum(1 for change in fields if change.basis is Basis.UNCERTAIN)
    text = ("reasserted: " if reassert else "") + ", ".join(parts)
    text += f" ({uncertain} uncertain after an unknown outcome)" if uncertain else ""
    return text + (f"; {unchanged} unchanged" if unchanged else "")


def _removal(record: Record) -> Change:
    if record.presence is Presence.GONE:
        return Change(
            record.address,
            Action.FORGET,
            "in no file, and the API said that it does not exist: dropped from the state",
            source=record.source,
            revision=record.revision,
        )
    anonymous = record.address != record.customer_user_id
    named = headers(None, record.profile_id) if anonymous else headers(record.address, None)
    return Change(
        record.address,
        Action.DELETE,
        "in no file",
        requests=(Request("DELETE", PATH, named),),
        hazards=(Hazard("delete", "deletes the profile and its related data; there is no undo"),),
        source=record.source,
        revision=record.revision,
    )


def _protected(left: Sequence[Record]) -> Iterator[Hazard]:
    kept = [record.address for record in left if record.protect]
    if kept:
        yield Hazard("protected", f"kept although in no file, because protected: {', '.join(kept)}")


REFUSED_HAZARDS = frozenset({"max_changes", "max_delete", "delete_everything"})
"""Hazards of a whole plan that apply refuses."""


def _caps(
    changes: Sequence[Change], recorded: Collection[Record], options: Options
) -> Iterator[Hazard]:
    deletes = sum(1 for change in changes if change.action is Action.DELETE)
    if options.max_changes is not None and len(changes) > options.max_changes:
        yield Hazard(
            "max_changes", f"makes {len(changes)} changes, above max_changes {options.max_changes}"
        )
    if deletes and deletes == sum(1 for record in recorded if record.presence is not Presence.GONE):
        yield Hazard("delete_everything", "deletes every recorded profile")
    if not options.max_delete.allows(deletes, len(recorded)):
        yield Hazard(
            "max_delete",
            f"deletes {deletes} of {len(recorded)} recorded profiles, above max_delete "
            f"{options.max_delete}",
        )
