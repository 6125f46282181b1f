"""The planner: desired profiles and recorded state in, plan out. Pure and deterministic.

`_fields` follows one table for each field path. `requests` renders the result, `removal` deletes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from reconciler.core.contract import Contract, ways_out
from reconciler.core.facets.facet import Situation
from reconciler.core.facets.registry import (
    APART,
    DECIDING,
    EXCLUSIVE,
    believed,
    facet_of,
    last_shown,
    standing_values,
    time_warnings,
    uncompared,
    undeclared,
)
from reconciler.core.identity import IdentityIndex
from reconciler.core.options import Options
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
from reconciler.core.plan_format import assemble_plan
from reconciler.core.profiles import Profile
from reconciler.core.records import Fact, Header, Known, Origin, Presence, Record
from reconciler.core.removal import (
    existing_hazards,
    kept_hazards,
    removal,
    removal_reason,
    shrunk_hazards,
)
from reconciler.core.renames import Identifiers, renamed
from reconciler.core.requests import RequestBuilder
from reconciler.core.transitions import LookUp
from reconciler.core.written import WrittenProfiles
from reconciler.errors import Diagnostic, Source, error
from reconciler.values import FieldPath, Scalar, same


def make_plan(
    desired: Iterable[Profile],
    recorded: Mapping[str, Record],
    *,
    header: Header,
    contract: Contract,
    options: Options,
    look_ups: Mapping[str, LookUp] | None = None,
    is_present: Callable[[str], bool] = lambda file: False,
) -> Plan | list[Diagnostic]:
    """The plan that takes the recorded profiles to the desired ones, or the errors that prevent it.

    ``desired`` are valid profiles with distinct addresses, in any order; ``recorded`` is keyed by
    address, and so are the ``look_ups`` of profiles that are not recorded. Orphans stay untouched unless
    ``options.prune``. ``is_present`` tells whether a file that records come from still exists. `Planner`
    does the same without holding everything in memory.
    """
    planner, changes = _planned(
        desired, recorded, contract=contract, options=options, look_ups=look_ups
    )
    if diagnostics := planner.totals.diagnostics:
        return sorted(diagnostics, key=Diagnostic.sort_key)
    return assemble_plan(
        planner.head(header),
        changes=tuple(changes),
        orphans=tuple(planner.totals.orphans),
        unchanged=planner.totals.unchanged,
        hazards=planner.hazards(len(changes), is_present=is_present),
    )


def written_profiles(
    desired: Iterable[Profile],
    recorded: Mapping[str, Record],
    *,
    contract: Contract,
    options: Options,
) -> WrittenProfiles:
    """The profiles that such a plan would write, and those whose change an error prevents."""
    planner, changes = _planned(desired, recorded, contract=contract, options=options)
    written = WrittenProfiles()
    for change in changes:
        written.add(change)
    written.add_blocked(planner.totals.blocked)
    return written


def _planned(
    desired: Iterable[Profile],
    recorded: Mapping[str, Record],
    *,
    contract: Contract,
    options: Options,
    look_ups: Mapping[str, LookUp] | None = None,
) -> tuple[Planner, list[Change]]:
    """The changes, and the planner with its totals."""
    profiles = {profile.address: profile for profile in desired}
    formers = {former for profile in profiles.values() for former in profile.previously}
    identities = IdentityIndex.of(
        recorded.values(),
        previous={former: recorded[former] for former in formers if former in recorded},
    )
    identities.claim(
        (profile.customer_user_id, profile.profile_id)
        for address, profile in profiles.items()
        if address not in recorded
    )
    planner = Planner(contract, options, identities=identities)
    changes = [
        change
        for address in sorted(profiles.keys() | recorded.keys())
        if (
            change := planner.plan(
                profiles.get(address),
                recorded.get(address),
                look_up=(look_ups or {}).get(address),
            )
        )
    ]
    return planner, changes


class PlanningTotals:
    """The counts that planning some addresses gives besides their changes. Totals of later addresses can be
    added."""

    __slots__ = (
        "adopted",
        "blocked",
        "deletes",
        "diagnostics",
        "existing",
        "orphan_files",
        "orphans",
        "present",
        "protected",
        "recorded",
        "unchanged",
        "warnings",
    )

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        """Errors that prevent the plan. With any of them its changes do not count."""
        self.blocked: list[str] = []
        """The profiles whose change such an error prevents, by the addresses of their records."""
        self.warnings: list[Diagnostic] = []
        """Warnings that depend on the time."""
        self.orphans: list[str] = []
        self.orphan_files: Counter[str] = Counter()
        """The files that orphans are recorded from, each with how many, deleted ones included."""
        self.protected: list[str] = []
        """The orphans that are kept when others are deleted."""
        self.adopted: list[str] = []
        """The orphans that are kept because this tool did not create them, or is not known to have."""
        self.existing: list[str] = []
        """Declared profiles that the API has and that the state does not record."""
        self.unchanged = 0
        self.recorded = 0
        self.present = 0
        """The recorded profiles that may exist."""
        self.deletes = 0

    def add(self, more: PlanningTotals) -> None:
        self.diagnostics += more.diagnostics
        self.blocked += more.blocked
        self.warnings += more.warnings
        self.orphans += more.orphans
        self.orphan_files.update(more.orphan_files)
        self.protected += more.protected
        self.adopted += more.adopted
        self.existing += more.existing
        self.unchanged += more.unchanged
        self.recorded += more.recorded
        self.present += more.present
        self.deletes += more.deletes

    def add_in_sync(self, count: int) -> None:
        """Count profiles that are known to be as recorded, without looking at them."""
        self.recorded += count
        self.present += count
        self.unchanged += count


class Planner:
    """Plans address by address, so that no profile, record or change needs to be held."""

    def __init__(
        self, contract: Contract, options: Options, *, identities: IdentityIndex | None = None
    ) -> None:
        """``identities`` holds the records that profiles may have under another address than their own."""
        self.totals = PlanningTotals()
        self._contract = contract
        self._options = options
        self._identities = identities or IdentityIndex.of(())

    def plan(
        self,
        profile: Profile | None,
        record: Record | None,
        *,
        look_up: LookUp | None = None,
    ) -> Change | None:
        """The change of one address, given what the files and the state say of it, or ``None``. ``look_up``
        is the answer of the API about a profile that the state does not record.

        To be called for every address that either of them knows, in their order.
        """
        totals = self.totals
        if record is not None:
            totals.recorded += 1
            totals.present += record.presence is not Presence.GONE
        if profile is None:
            return None if record is None else self._plan_orphan(record)
        totals.warnings += time_warnings(profile, now=self._options.now)
        match = self._identities.match(profile, record)
        if isinstance(match, Diagnostic):
            totals.diagnostics.append(match)
            return None
        if not self._options.selection.takes(profile.address, profile.labels):
            return None
        decision = _plan_profile(
            profile,
            match,
            look_up=look_up if match is None else None,
            contract=self._contract,
            options=self._options,
        )
        if decision is None:
            totals.unchanged += 1
            return None
        if isinstance(decision, Change):
            if match is None and look_up is not None and look_up.observed is not None:
                totals.existing.append(profile.address)
            return decision
        totals.diagnostics += decision
        totals.blocked.append(profile.address if match is None else match.address)
        return None

    def _plan_orphan(self, record: Record) -> Change | None:
        options = self._options
        if record.address in self._identities.claimed or not options.selection.takes(
            record.address, record.labels
        ):
            return None
        totals = self.totals
        if record.source is not None:
            totals.orphan_files[record.source.file] += 1
        if options.prune and not record.protect:
            reason = removal_reason(is_teardown=options.is_teardown)
            change = removal(record, reason, is_read=options.refreshed is not None)
            is_ours = record.origin is Origin.CREATED or options.include_adopted
            if change.action is Action.FORGET or is_ours:
                totals.deletes += change.action is Action.DELETE
                return change
        if not options.is_teardown:  # whether a file declares it is not known then
            totals.orphans.append(record.address)
        if options.prune:
            (totals.protected if record.protect else totals.adopted).append(record.address)
        return None

    def hazards(self, changes: int, *, is_present: Callable[[str], bool]) -> tuple[Hazard, ...]:
        """Dangers of the plan as a whole, which has so many changes, and of the profiles of a file.
        ``is_present`` tells whether a file that records come from still exists."""
        totals, options = self.totals, self._options
        existing = totals.existing if options.requests.refuse_existing else ()
        return (
            *existing_hazards(existing),
            *self._caps(changes),
            *kept_hazards(
                totals.protected,
                removal_reason(is_teardown=options.is_teardown),
                adopted=totals.adopted,
            ),
            *shrunk_hazards(
                totals.orphan_files,
                is_present,
                committed_only=options.prune and options.committed_only,
            ),
        )

    def _caps(self, changes: int) -> Iterator[Hazard]:
        totals, options = self.totals, self._options
        deletes = totals.deletes
        if options.max_changes is not None and changes > options.max_changes:
            yield Hazard(
                HazardKind.MAX_CHANGES,
                f"makes {changes:,} changes, and environments.{options.environment}.limits.max_changes is "
                f"{options.max_changes}",
            )
        # A tear-down names what it deletes, so it may be all; a prune deletes what is not there any more.
        if deletes and deletes == totals.present and not options.is_teardown:
            yield Hazard(HazardKind.DELETE_EVERYTHING, "deletes every recorded profile")
        if not options.max_delete.allows(deletes, totals.recorded):
            yield Hazard(
                HazardKind.MAX_DELETE,
                f"deletes {deletes:,} of {totals.recorded:,} recorded profiles, and "
                f"environments.{options.environment}.limits.max_delete is {options.max_delete}",
            )

    def head(self, header: Header) -> Head:
        options = self._options
        mode = Mode.PRUNE if options.prune else Mode.ADDITIVE
        if options.is_teardown:
            mode = Mode.DESTROY
        scope = Scope(
            select=options.selection.select,
            exclude=options.selection.exclude,
            since=options.since,
            reassert=options.reassert,
            include_adopted=options.prune and options.include_adopted,
            refresh=options.refreshed,
            read=options.read,
            read_apart=options.read_apart,
            looked_up=options.looked_up,
            paths=options.paths,
        )
        return Head(
            options.environment,
            mode,
            header.lineage,
            header.serial,
            header.application,
            scope,
            options.target,
        )

    def finish(
        self, header: Header, changes: Changes, *, hazards: tuple[Hazard, ...], totals: Totals
    ) -> Plan:
        """The plan, once every address has been asked for; ``changes`` are those that `plan` gave."""
        return assemble_plan(
            self.head(header),
            changes=changes,
            orphans=tuple(self.totals.orphans),
            unchanged=self.totals.unchanged,
            hazards=hazards,
            totals=totals,
        )


def _plan_profile(
    profile: Profile,
    record: Record | None,
    *,
    look_up: LookUp | None,
    contract: Contract,
    options: Options,
) -> Change | None | list[Diagnostic]:
    """The change of one profile, or the errors that prevent it."""
    revision = record.revision if record else None
    if look_up is not None:
        record = look_up.record(profile)
    action, former = _action(profile, record), ""
    if action is Action.UPDATE and look_up is not None:
        action = Action.ADOPT
    elif action is Action.RENAME and record is not None:
        former = record.address
        record = renamed(record, Identifiers(profile.customer_user_id, profile.profile_id))
    resend = options.reassert or action in (Action.CREATE, Action.ADOPT)
    fields = _fields(profile, record, contract=contract, resend=resend)
    if former and record is not None and not record.exists:
        fields = []  # it is created again by the plan after the rename
    if fields and (fields[-1].op is Op.FORGET or fields[-1].path.startswith(APART)):
        fields, problems = _decided(fields, profile, record=record, now=options.now)
        if problems:
            return problems
    ops = {change.op for change in fields}
    if Op.CLEAR in ops and (diagnostics := [*_refusals(fields, profile, contract=contract)]):
        return diagnostics
    sent = fields
    if Op.FORGET in ops:
        sent = [change for change in fields if change.op is not Op.FORGET]
    if action is Action.UPDATE and not sent:
        if not fields:
            return None
        action = Action.FORGET
    situation = Situation(profile, record, contract, options.now)
    builder = RequestBuilder(situation, sent)
    requests: tuple[Request, ...] = ()
    if former and sent:
        requests = builder.requests(Action.UPDATE, options.requests)
    elif not former and action is not Action.FORGET:
        requests = builder.requests(action, options.requests)
    if look_up is not None and action is not Action.LINK:
        reason = _reason_after_look_up(record, now=options.now)
    elif record is None and action is Action.CREATE and options.requests.refuse_existing:
        reason = "not recorded, nothing is known of it: created, or refused if it exists"
    else:
        reason = _reason(action, profile, record=record, fields=fields, reassert=options.reassert)
    if former:
        reason = f"recorded as {former}" + (f"; {reason}" if fields else "; nothing is sent")
    if profile.exclusive and (requests or not former):
        reason += "; custom attributes that nobody declares are removed"
    return Change(
        address=profile.address,
        action=action,
        reason=reason,
        fields=tuple(fields),
        requests=requests,
        hazards=tuple(builder.hazards(action, requests)),
        source=Source(profile.source.file, profile.source.line),
        revision=revision,
        labels=profile.labels,
        protect=profile.protect,
        template=profile.template,
        lifetime=profile.lifetime,
        exclusive=_left_alone(profile) if profile.exclusive else None,
        from_environment=profile.from_environment,
        was_from_environment=record.from_environment if record is not None else (),
        renamed_from=former,
    )


def _left_alone(profile: Profile) -> tuple[str, ...]:
    """The keys that an exclusive profile stops managing, and so does not remove."""
    return tuple(sorted(EXCLUSIVE.keys_of(profile.forget)))


def _action(profile: Profile, record: Record | None) -> Action:
    if record is not None and record.address in profile.previously:
        return Action.RENAME
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
    profile: Profile, record: Record | None, *, contract: Contract, resend: bool
) -> list[FieldChange]:
    """The change of every field, in the order of a request body.

    With ``resend``, fields that are as recorded are sent all the same.
    """
    if record is None:
        return _fields_of_new(profile)
    facts = believed(record.facts)
    values, forget, seen = profile.values, profile.forget, record.seen
    passed_over = frozenset() if resend else uncompared(values)
    removed = undeclared(profile, record)
    paths: Iterable[FieldPath] = values
    if removed or not facts.keys() <= values.keys():
        paths = contract.ordered({*values, *facts, *removed})
    changes = []
    for path in paths:
        fact, after = facts.get(path), values.get(path)
        last = fact
        if seen and fact is None and path in seen:
            last = Fact.of(seen[path], observed=True)
        if forget and path in forget:
            if fact is not None:
                changes.append(_field_change(profile, path, op=Op.FORGET, fact=fact))
        elif path in passed_over:
            continue
        elif after is not None:
            is_known = fact is not None and fact.known is Known.VALUE and same(fact.value, after)
            if resend or not is_known:
                changes.append(_field_change(profile, path, op=Op.SET, after=after, fact=last))
        elif fact is not None and fact.known is Known.CLEARED:
            if resend and facet_of(path).can_clear(path, values, contract=contract):
                changes.append(_field_change(profile, path, op=Op.CLEAR, fact=fact))
        elif path in values or path in removed or (fact and fact.known is not Known.UNKNOWN):
            changes.append(_field_change(profile, path, op=Op.CLEAR, fact=last))
    return changes


def _decided(
    fields: Sequence[FieldChange], profile: Profile, *, record: Record | None, now: float
) -> tuple[list[FieldChange], list[Diagnostic]]:
    """The changes of fields, where those of some facets are as the facet decides; and what prevents them."""
    decided: list[FieldChange] = []
    problems: list[Diagnostic] = []
    for change in fields:
        path = change.path
        if change.op is Op.FORGET or not path.startswith(DECIDING):
            decided.append(change)
            continue
        fact = None if record is None else last_shown(record, path)
        decision = facet_of(path).decide(path, fact, profile=profile, record=record, now=now)
        if decision.problem is not None:
            problems.append(decision.problem)
        elif decision.op is not None:
            after = change.after if decision.op is Op.SET else None
            decided.append(_field_change(profile, path, op=decision.op, after=after, fact=fact))
    return decided, problems


def _fields_of_new(profile: Profile) -> list[FieldChange]:
    """The change of every field of a profile that the state does not know."""
    lines, files, forget = profile.lines, profile.files, profile.forget
    return [
        FieldChange(
            path,
            Op.CLEAR if value is None else Op.SET,
            None,
            value,
            Basis.NONE,
            lines.get(path),
            files.get(path) if files else None,
        )
        for path, value in profile.values.items()
        if path not in forget
    ]


def _field_change(
    profile: Profile,
    path: FieldPath,
    *,
    op: Op,
    fact: Fact | None,
    after: Scalar | None = None,
) -> FieldChange:
    before: Scalar | None = None
    if fact is None or fact.known is Known.UNKNOWN:
        basis = Basis.NONE
    elif fact.known is Known.UNCERTAIN:
        before, basis = fact.value, Basis.UNCERTAIN
    else:
        before, basis = fact.value, Basis.OBSERVED if fact.observed else Basis.RECORDED
    return FieldChange(
        path,
        op,
        before=before,
        after=after,
        basis=basis,
        line=profile.lines.get(path),
        file=profile.files.get(path),
    )


def _refusals(
    fields: Sequence[FieldChange], profile: Profile, *, contract: Contract
) -> Iterator[Diagnostic]:
    """A finding for each field change that the API cannot do."""
    address, source = profile.address, profile.source
    impossible = [
        change.path
        for change in fields
        if change.op is Op.CLEAR
        and not facet_of(change.path).can_clear(change.path, profile.values, contract=contract)
    ]
    for path in impossible:
        if not contract.knows(path):
            yield error(
                "plan/unknown-field",
                f"{path} is recorded for {address}, but the {contract.dialect} dialect "
                "does not know it",
                source=source,
                hint=_ways_out_of_unknown(path, contract),
            )
    known = [path for path in impossible if contract.knows(path)]
    for path in dict.fromkeys(facet_of(path).unclearable(path) for path in known):
        yield error(
            "profile/cannot-clear",
            f"{path} of {address} is set and no longer declared, and the API cannot clear it",
            source=source,
            hint=ways_out(path),
        )


def _ways_out_of_unknown(path: FieldPath, contract: Contract) -> str:
    """The advice about a recorded field that the dialect does not know."""
    dialects = contract.dialects_with(path)
    if not dialects:
        return "A newer version of reconcile recorded it: upgrade, and plan with that."
    return (
        f"List `{path}` under meta.forget, or set `dialect: {dialects[0]}` for the environment in "
        "reconcile.yaml."
    )


def _reason(
    action: Action,
    profile: Profile,
    *,
    record: Record | None,
    fields: Sequence[FieldChange],
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
            return _reason_of_update(fields, unchanged, reassert=reassert)


_MOST_KEYS = 10
"""Custom attributes in no file that a reason names."""


def _reason_after_look_up(record: Record | None, *, now: float) -> str:
    if record is None:
        return "not recorded, and the API knows no such profile: created"
    text = f"not recorded, and the API has it as profile {record.profile_id}: adopted"
    if standing := standing_values(record.seen, now=now):
        named = [f"{path} ({value})" for path, value in sorted(standing.items())]
        text += f"; it has what no file declares: {_first_keys(named)}"
    if not record.unmanaged:
        return text
    return (
        f"{text}; it has custom attributes that no file declares: {_first_keys(record.unmanaged)}"
    )


def _first_keys(keys: Sequence[str]) -> str:
    more = len(keys) - _MOST_KEYS
    return ", ".join(keys[:_MOST_KEYS]) + (f" and {more} more" if more > 0 else "")


def _reason_of_create(record: Record | None) -> str:
    if record is None:
        return "not recorded, nothing is known of it: adopted if it exists, created if not"
    if record.presence is Presence.GONE:
        return "the API said that it does not exist: created again"
    if record.deleting:
        return "an earlier delete ended uncertain: adopted if it exists, created if not"
    return "an earlier create ended uncertain: sent again"


def _reason_of_update(fields: Sequence[FieldChange], unchanged: int, *, reassert: bool) -> str:
    parts = [
        f"{count} to {op}" for op in Op if (count := sum(1 for change in fields if change.op is op))
    ]
    uncertain = sum(1 for change in fields if change.basis is Basis.UNCERTAIN)
    text = ("reasserted: " if reassert else "") + ", ".join(parts)
    text += f" ({uncertain} uncertain after an unknown outcome)" if uncertain else ""
    return text + (f"; {unchanged} unchanged" if unchanged else "")
