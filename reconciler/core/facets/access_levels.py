"""Access levels: granted and revoked by requests of their own, shown by every answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.core.access import (
    FOR,
    TOLERANCE,
    Access,
    AccessStep,
    access_of,
    begins_later,
    declared_access,
    step,
)
from reconciler.core.contract import Contract
from reconciler.core.facets.facet import (
    AS_IT_IS,
    Decision,
    Facet,
    FacetPlan,
    Need,
    Situation,
    ValueMask,
)
from reconciler.core.facets.parts import text_of
from reconciler.core.instants import instant_of, instant_text
from reconciler.core.lifetimes import is_span, seconds_of
from reconciler.core.plan import Basis, FieldChange, Hazard, HazardKind, Op, Request
from reconciler.core.profiles import Profile
from reconciler.core.records import Fact, Known, Origin, Record
from reconciler.errors import Diagnostic, StateRefused, error, warning
from reconciler.values import FieldPath, Json, Scalar, same

_GROUP = "access_levels"
_BASE = "/api/v2/server-side-api/purchase/profile"
GRANT = f"{_BASE}/grant/access-level/"
REVOKE = f"{_BASE}/revoke/access-level/"
_LEVEL, _STARTS_AT, _EXPIRES_AT, _REVOKE_AT = (
    *("access_level_id", "starts_at", "expires_at"),
    "revoke_at",
)
_OURS = "adapty"
"""The store of access that was granted without a purchase (adapty-api 8.1)."""
_APPLY_TIME = "<time of apply> + "
"""Begins an end in a shown request that depends on when the request leaves."""


class AccessLevels(Facet):
    """The access levels of a profile. A value is the text of an `Access`; absent is *not active*."""

    group = _GROUP
    paths = frozenset({GRANT, REVOKE})
    is_shown = True
    keeps_undeclared = True
    decides = True
    converts_text = True
    absent = "not active"
    kind = "lifetime, an instant, or a map"

    # --- values and contract ---

    def normalise(self, value: Any) -> Scalar | None:
        return None if value is None else declared_access(value).text

    def declared(self, value: Scalar) -> Any:
        access = access_of(str(value))
        if access.span:
            return {"for": access.span}
        end = "lifetime" if access.end is None else instant_text(access.end)
        if access.start is None:
            return end
        return {_STARTS_AT: instant_text(access.start), _EXPIRES_AT: end}

    def undeclarable(self, value: Scalar, *, now: float) -> str:
        access = access_of(str(value))
        if access.store:
            return f"it was bought ({access.text})"
        return f"it ended ({access.text})" if access.is_over(now) else ""

    def in_full(self, content: Any) -> Any:
        """In tests a span of time such as ``1h`` stands for ``{for: 1h}``."""
        if not isinstance(content, Mapping):
            return content
        return {
            level: {FOR: value} if isinstance(value, str) and is_span(value) else value
            for level, value in content.items()
        }

    def standing(self, values: Mapping[FieldPath, Scalar | None], *, now: float) -> dict[str, str]:
        shown = {path: value for path, value in values.items() if value is not None}
        return {self.path(level): text for level, text in self.active(shown, now=now).items()}

    def active(self, values: Mapping[FieldPath, Scalar], *, now: float) -> dict[str, str]:
        """The access at a time by level, ``lifetime`` or ``until`` an instant, that answers show. Access that
        begins or ends at that very time has begun, or ended: instants are rounded."""
        levels = {level: _access(value) for level, value in self.by_key(values).items()}
        return {
            level: Access(end=access.end).text
            for level, access in levels.items()
            if access is not None and access.is_active(now + TOLERANCE)
        }

    def taken_back(
        self, before: Scalar | None, present: Scalar | None, *, now: float
    ) -> Iterable[Scalar | None]:
        """Bought access is left alone. Access that is over is none."""
        was, is_now = _access(before), _access(present)
        if any(access is not None and access.store for access in (was, is_now)):
            return ()
        return (None if was is None or was.is_over(now) else was.text,)

    def properties(self, contract: Contract) -> dict[str, Any]:
        facts = contract.groups[_GROUP].facts
        instant = {
            "description": "A time with a zone, such as 2027-01-31T00:00:00Z.",
            "type": "string",
            "minLength": 1,
        }
        end = {"description": "A time with a zone, or lifetime.", "type": "string", "minLength": 1}
        schema = {
            "description": facts["description"] + " Write lifetime, the time of the end, "
            "{for: 30d}, {starts_at: …, expires_at: …}, or null to make sure that it is not active.",
            "type": "object",
            "propertyNames": {"type": "string", "minLength": 1},
            "additionalProperties": {
                "description": facts["level"]["description"],
                "anyOf": [
                    {"type": ["string", "null"], "minLength": 1},
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "starts_at": instant,
                            "expires_at": end,
                            "for": {
                                "description": "How long access lasts from the apply that grants it: a "
                                "number and s, m, h, d or w. It is granted again once it has run out.",
                                "type": "string",
                                "minLength": 1,
                            },
                        },
                    },
                ],
                "examples": ["lifetime", "2027-01-31T00:00:00Z", {"for": "30d"}],
            },
            "x-reconcile": {
                "clear": facts["clear"],
                "personal": facts["personal"],
                "source": facts["source"],
                "assumed": facts["assumed"],
            },
        }
        return {_GROUP: schema}

    def can_clear(
        self, path: FieldPath, values: Mapping[FieldPath, Scalar | None], *, contract: Contract
    ) -> bool:
        return True

    def is_personal(self, path: FieldPath, *, contract: Contract, public: Sequence[str]) -> bool:
        return False

    def depends_on_time(self, value: Scalar | None) -> bool:
        return value is not None and access_of(str(value)) != Access()

    # --- deciding ---

    def decide(
        self,
        path: FieldPath,
        fact: Fact | None,
        *,
        profile: Profile,
        record: Record | None,
        now: float,
    ) -> Decision:
        """What happens to a level, by the table of adapty-api 8.3."""
        declared = path in profile.values
        wanted = profile.values.get(path)
        if fact is None or fact.known in (Known.UNKNOWN, Known.UNCERTAIN):
            return self._decide_unseen(path, fact, profile=profile, record=record, now=now)
        present = _access(fact.value)
        if not declared:
            is_ours = record is not None and path in record.granted
            lasts = step(present, None, now=now) is AccessStep.REVOKE
            if not is_ours or not lasts or (present is not None and present.store):
                return Decision()
            return Decision(Op.CLEAR)
        target = _access(wanted)
        way = step(present, target, now=now)
        if way is AccessStep.NOTHING:
            return Decision()
        takes_away = way is not AccessStep.GRANT or begins_later(present, target, now=now)
        if present is not None and present.store and takes_away:
            return Decision(problem=_bought(path, present, profile=profile))
        return Decision(Op.CLEAR if way is AccessStep.REVOKE else Op.SET)

    def _decide_unseen(
        self,
        path: FieldPath,
        fact: Fact | None,
        *,
        profile: Profile,
        record: Record | None,
        now: float,
    ) -> Decision:
        """What happens to a level that no answer has shown: the applier reads first."""
        if path not in profile.values:
            is_ours = record is not None and path in record.granted
            return Decision(Op.CLEAR) if fact is not None and is_ours else Decision()
        target = _access(profile.values[path])
        if target is None:
            return Decision(Op.CLEAR)
        return Decision() if target.is_over(now) else Decision(Op.SET)

    def satisfies(self, fact: Fact, after: Scalar | None, *, now: float) -> bool:
        if fact.known not in (Known.VALUE, Known.CLEARED):
            return False
        return step(_access(fact.value), _access(after), now=now) is AccessStep.NOTHING

    def agrees(self, known: Scalar | None, shown: Scalar | None, *, at: float | None) -> bool:
        if same(known, shown) or at is None:
            return same(known, shown)
        present, wanted = _access(shown), _access(known)
        if wanted is not None and wanted.is_over(at):
            wanted = None
        return step(present, wanted, now=at) is AccessStep.NOTHING

    def warnings(self, profile: Profile, *, now: float) -> Iterator[Diagnostic]:
        for path, value in profile.values.items():
            if not path.startswith(self.prefix) or value is None:
                continue
            access = access_of(str(value))
            if access.end is not None and access.is_over(now):
                yield warning(
                    "access/ended",
                    f"`{path}` of {profile.address} ended at {instant_text(access.end)}: it asks for "
                    "nothing any more",
                    source=_place(profile, path),
                    hint="Write null to make sure that it is not active, or take it out.",
                )

    # --- requests ---

    def plan(self, changes: Sequence[FieldChange], situation: Situation) -> FacetPlan:
        """The hazards of the changes."""
        if not changes:
            return AS_IT_IS
        hazards: list[Hazard] = []
        record, now = situation.record, situation.now
        is_adopted = record is not None and record.origin is Origin.ADOPTED
        for change in changes:
            present, wanted = _access(change.before), _access(change.after)
            name = self.keys_of([change.path])[0]
            if change.op is Op.CLEAR or step(present, wanted, now=now) is AccessStep.SHORTEN:
                if present is not None and present.is_active(now):
                    what = "loses" if change.op is Op.CLEAR else "loses earlier"
                    hazards.append(
                        Hazard(HazardKind.ACCESS_REVOKED, f"the user {what} access to {name}")
                    )
                elif change.basis in (Basis.NONE, Basis.UNCERTAIN):
                    message = f"the user loses access to {name}, if there is any"
                    hazards.append(Hazard(HazardKind.ACCESS_REVOKED, message))
                continue
            if (
                present is not None
                and present.is_active(now)
                and begins_later(present, wanted, now=now)
            ):
                hazards.append(
                    Hazard(
                        HazardKind.ACCESS_REVOKED,
                        f"the user loses access to {name} until it begins again",
                    )
                )
            if wanted is not None and wanted.end is None and not wanted.span:
                hazards.append(
                    Hazard(HazardKind.ACCESS_LIFETIME, f"grants access to {name} for ever")
                )
            if present is not None and present.store:
                hazards.append(
                    Hazard(
                        HazardKind.ACCESS_BOUGHT,
                        f"extends access to {name} that was bought in {present.store}; "
                        "billing does not change",
                    )
                )
            if is_adopted:
                hazards.append(
                    Hazard(
                        HazardKind.ACCESS_ADOPTED,
                        f"grants access to {name} to a profile that this tool did not create",
                    )
                )
        return FacetPlan(hazards=hazards)

    def requests(
        self, changes: Sequence[FieldChange], situation: Situation, *, named: Mapping[str, str]
    ) -> Iterator[Request]:
        for change in changes:
            level = self.keys_of([change.path])[0]
            wanted = _access(change.after)
            is_seen = change.basis in (Basis.OBSERVED, Basis.RECORDED)
            way = step(_access(change.before), wanted, now=situation.now)
            if not is_seen:
                way = _way_unseen(way, is_ended=change.op is Op.CLEAR)
            requests = _requests(way, level, wanted=wanted, named=named, if_needed=not is_seen)
            yield from requests
            is_granted = way in (AccessStep.GRANT, AccessStep.SHORTEN_AND_GRANT)
            if is_granted and _is_late(_access(change.before), wanted):
                # A level that was ended before it began may count as lasting until then.
                yield next(
                    _requests(AccessStep.SHORTEN, level, wanted=wanted, named=named, if_needed=True)
                )

    def written_by(self, request: Request) -> Iterator[tuple[FieldPath, Scalar | None]]:
        body = request.body or {}
        path = self.path(str(body[_LEVEL]))
        if request.path == REVOKE:
            at = body.get(_REVOKE_AT)
            yield path, None if at is None else Access(end=instant_of(str(at))).text
            return
        start, end = body.get(_STARTS_AT), body.get(_EXPIRES_AT)
        if isinstance(end, str) and end.startswith(_APPLY_TIME):
            span = end.removeprefix(_APPLY_TIME)
            seconds_of(span)
            yield path, Access(span=span).text
            return
        yield (
            path,
            Access(
                None if start is None else instant_of(str(start)),
                None if end is None else instant_of(str(end)),
            ).text,
        )

    def written_over(
        self, request: Request, record: Record
    ) -> Iterator[tuple[FieldPath, Scalar | None]]:
        """A revoke at a time keeps the beginning."""
        for path, value in self.written_by(request):
            fact = self.last_shown(record, path)
            yield path, _ending(request, value, present=fact.value if fact is not None else None)

    def counts_each(self, request: Request) -> bool:
        """Each grant may emit an event (adapty-api 8.4). A revoke is refused where access is over, and could
        end what was granted since."""
        return True

    def takes_away(self, request: Request) -> bool:
        """A revoke could cut off what the user has bought since the last answer."""
        return request.path == REVOKE

    def has_landed(self, late: Scalar | None, known: Scalar | None, *, now: float | None) -> bool:
        return self.agrees(late, known, at=now)

    def granted_by(self, request: Request) -> Iterable[FieldPath]:
        if request.path == GRANT:
            yield self.path(str((request.body or {})[_LEVEL]))

    def masked_body(self, body: Mapping[str, Json], *, mask: ValueMask) -> Mapping[str, Json]:
        return body

    def need(self, request: Request, record: Record, *, now: float) -> Need:
        """A grant that gives nothing is not sent, since each may emit an event (adapty-api 8.4); nor is a
        revoke of a level that no answer has shown active."""
        ((path, value),) = self.written_by(request)
        fact = self.last_shown(record, path)
        request = _timed(request, now=now)
        if fact is None or fact.known not in (Known.VALUE, Known.CLEARED):
            return Need(request if request.path == GRANT else None)
        present, wanted = _access(fact.value), _access(_ending(request, value, present=fact.value))
        way = step(present, wanted, now=now)
        if way is AccessStep.NOTHING:
            return Need(None)
        if request.path == GRANT:
            if way in (AccessStep.SHORTEN, AccessStep.SHORTEN_AND_GRANT, AccessStep.REVOKE):
                return Need(
                    None,
                    warnings=(
                        f"{path}: the API shows {fact.value}, which a grant does not shorten: plan again",
                    ),
                )
            if present is not None and present.store and begins_later(present, wanted, now=now):
                return Need(
                    None, refusal=f"{path} was bought in {present.store}: it is not cut off"
                )
            return Need(request)
        if present is not None and present.store:
            return Need(None, refusal=f"{path} was bought in {present.store}: it is not revoked")
        if way is AccessStep.GRANT and value is not None and not request.if_needed:
            return Need(
                None,
                warnings=(
                    f"{path}: the API shows {fact.value or 'no access'}, which a revoke does not extend: "
                    "plan again",
                ),
            )
        return Need(request if way in (AccessStep.SHORTEN, AccessStep.REVOKE) else None)

    def is_settled(
        self, request: Request, shown: Mapping[FieldPath, Scalar], *, now: float
    ) -> bool:
        ((path, value),) = self.written_by(request)
        wanted = _access(_ending(request, value, present=shown.get(path)))
        return step(_access(shown.get(path)), wanted, now=now) is AccessStep.NOTHING

    # --- answers ---

    def refusal_note(self, body: Mapping[str, Json], code: str) -> str:
        hint = _REFUSALS.get(code)
        return f" ({hint})" if hint else ""

    def shown(self, data: Mapping[str, Any]) -> Mapping[FieldPath, Scalar]:
        """The levels that an answer lists, those that are over included (adapty-api 5.2, 8.1). Null is an
        empty list (adapty-api 7.23)."""
        levels = data.get(_GROUP)
        if levels is None:
            return {}
        if not isinstance(levels, list):
            raise TypeError
        out: dict[FieldPath, Scalar] = {}
        for level in levels:
            path = self.path(text_of(level[_LEVEL]))
            if path in out:
                raise ValueError
            start, end = level.get(_STARTS_AT), level.get(_EXPIRES_AT)
            store = level.get("store") or _OURS
            out[path] = Access(
                None if start is None else instant_of(text_of(start)),
                None if end is None else instant_of(text_of(end)),
                store="" if store == _OURS else text_of(store),
            ).text
        return out


ACCESS_LEVELS = AccessLevels()

_REFUSALS = {
    "paid_access_level_does_not_exist": "the app has no such access level: correct its id, or create it in "
    "the dashboard",
    "profile_paid_access_level_does_not_exist": "the profile does not have the level any more: refresh, and "
    "plan again",
    "revocation_date_more_than_expiration_date": "access ends earlier than was known: "
    "refresh, and plan again",
    "value_error": "the end has passed since the plan was made: plan again",
}
"""What to do about the documented errors of grants and revokes (adapty-api 6.2)."""


def _access(value: Scalar | None) -> Access | None:
    """The access that a value stands for. Values come from files that were validated, from plans that were
    checked, from answers that were read, and from the state."""
    if value is None:
        return None
    try:
        return access_of(str(value))
    except ValueError:
        raise StateRefused(
            "the state holds access in a form that this program does not know",
            hint="Upgrade reconcile, or restore a backup of the state.",
        ) from None


def _requests(
    way: AccessStep, level: str, *, wanted: Access | None, named: Mapping[str, str], if_needed: bool
) -> Iterator[Request]:
    body: dict[str, Json] = {_LEVEL: level}
    if way in (AccessStep.SHORTEN, AccessStep.SHORTEN_AND_GRANT) and wanted is not None:
        assert wanted.end is not None
        shorter: dict[str, Json] = {_LEVEL: level, _REVOKE_AT: instant_text(wanted.end)}
        yield Request("POST", REVOKE, named, shorter, if_needed=if_needed)
    if way in (AccessStep.GRANT, AccessStep.SHORTEN_AND_GRANT) and wanted is not None:
        if wanted.start is not None:
            body[_STARTS_AT] = instant_text(wanted.start)
        if wanted.span:
            body[_EXPIRES_AT] = _APPLY_TIME + wanted.span
        elif wanted.end is not None:
            body[_EXPIRES_AT] = instant_text(wanted.end)
        yield Request("POST", GRANT, named, body, if_needed=if_needed)
    if way is AccessStep.REVOKE:
        yield Request("POST", REVOKE, named, body, if_needed=if_needed)


def _way_unseen(way: AccessStep, *, is_ended: bool) -> AccessStep:
    """All that may be needed where no answer has shown the access. ``way`` is the one from what was known
    before a write of unknown outcome."""
    if is_ended:
        return AccessStep.REVOKE
    shortens = way in (AccessStep.SHORTEN, AccessStep.SHORTEN_AND_GRANT)
    return AccessStep.SHORTEN_AND_GRANT if shortens else AccessStep.GRANT


def _ending(request: Request, value: Scalar | None, *, present: Scalar | None) -> Scalar | None:
    """The access that a request gives where there is some at present. A revoke keeps the beginning, and one
    at a time before it ends the access altogether (assumed: adapty-api 8.2)."""
    if request.path != REVOKE or value is None or present is None:
        return value
    access = Access(access_of(str(present)).start, access_of(str(value)).end)
    return None if _is_late(access, access) else access.text


def _is_late(present: Access | None, wanted: Access | None) -> bool:
    """Whether the present access begins only where the wanted one has ended."""
    if present is None or wanted is None or present.start is None or wanted.end is None:
        return False
    return wanted.end <= present.start


def _timed(request: Request, *, now: float) -> Request:
    """A request with an instant in the place of a span."""
    body = dict(request.body or {})
    end = body.get(_EXPIRES_AT)
    if not isinstance(end, str) or not end.startswith(_APPLY_TIME):
        return request
    body[_EXPIRES_AT] = instant_text(int(now) + seconds_of(end.removeprefix(_APPLY_TIME)))
    return request._replace(body=body)


def _place(profile: Profile, path: FieldPath) -> Any:
    source = profile.source
    file = profile.files.get(path, source.file)
    return source._replace(file=file, line=profile.lines.get(path, source.line), column=1)


def _bought(path: FieldPath, present: Access, *, profile: Profile) -> Diagnostic:
    return error(
        "access/bought",
        f"`{path}` of {profile.address} was bought in {present.store}: this tool neither revokes nor "
        "shortens it",
        source=_place(profile, path),
        hint=f"Take it out, and stop managing it: list `{path}` under meta.forget.",
    )
