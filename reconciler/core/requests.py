"""Field changes → the requests that carry them, and the hazards of sending those. Pure.

Plans show the very requests that are sent, so no other module renders one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.core.contract import Contract
from reconciler.core.endpoints import PATH, headers, read, without_fallback
from reconciler.core.facets.facet import Situation
from reconciler.core.facets.registry import (
    ALONG,
    HAZARDOUS,
    PLANNING,
    WITH_REQUESTS,
    FacetFields,
    by_facet,
    facet_of_member,
    facet_of_request,
)
from reconciler.core.options import RequestOptions
from reconciler.core.plan import Action, FieldChange, Hazard, HazardKind, Op, Request
from reconciler.core.records import Record
from reconciler.values import FieldPath, Json, Scalar, digest


def body(
    fields: Sequence[FieldChange],
    wanted: Mapping[FieldPath, Scalar | None],
    *,
    contract: Contract,
    options: RequestOptions,
    groups: Sequence[FacetFields] | None = None,
) -> dict[str, Json]:
    """The minimal body for some field changes of a profile that declares ``wanted``: the fields that change,
    and those that a facet sends along. ``groups`` are the fields by their facets, if the caller knows."""
    changed = {field.path: field.after for field in fields if field.op is not Op.FORGET}
    named = len(changed)
    for facet in ALONG:
        if more := facet.along(changed, wanted, options=options):
            changed.update(more)
    if len(changed) != named:  # the fields come in the order of a body
        changed = {path: changed[path] for path in contract.ordered(changed)}
        groups = None
    out: dict[str, Json] = {}
    values = [*changed.values()]
    for group in by_facet(tuple(changed)) if groups is None else groups:
        out |= group.facet.members(group.keys, group.of(values), contract=contract, options=options)
    return out


def request_digest(request: Request) -> str:
    """Names a request in the journal without its content: what it is and whom it is for."""
    return digest(request.method, dict(request.headers), request.body)


def values_of(request: Request) -> dict[FieldPath, Scalar | None]:
    """The values that a request writes, by field path; a cleared field is ``None``."""
    facet = facet_of_request(request)
    if facet is not None:
        return dict(facet.written_by(request))
    return {
        path: value
        for name, content in (request.body or {}).items()
        for path, value in facet_of_member(name).written(name, content)
    }


def values_over(request: Request, record: Record) -> dict[FieldPath, Scalar | None]:
    """The values that fields have after a request, where they are as the ``record`` says before it."""
    facet = facet_of_request(request)
    return values_of(request) if facet is None else dict(facet.written_over(request, record))


_EXAMINED = frozenset({*PLANNING, *WITH_REQUESTS})


def _relies_on_an_answer(request: Request) -> bool:
    """Whether a request of a facet must not be sent unless an answer about the profile came right before."""
    facet = facet_of_request(request)
    return request.if_needed or (facet is not None and facet.takes_away(request))


class RequestBuilder:
    """The requests that carry the field changes of a profile, and their hazards."""

    def __init__(self, situation: Situation, sent: list[FieldChange]) -> None:
        profile, record, contract, _ = situation
        self.situation = situation
        self.profile = profile
        self.contract = contract
        self.profile_id = profile.profile_id or (record.profile_id if record else None)
        groups = by_facet(tuple([change.path for change in sent]))
        changes = {group.facet: group.of(sent) for group in groups if group.facet in _EXAMINED}
        self.own = [(facet, of_facet) for facet, of_facet in changes.items() if facet.paths]
        """The changes that requests of their facets carry, in the order of these."""
        if self.own:
            apart = {change.path for _, of_facet in self.own for change in of_facet}
            sent = [change for change in sent if change.path not in apart]
            groups = by_facet(tuple([change.path for change in sent]))
        self.groups = groups
        self.sent = sent
        """The changes that the profile's requests carry."""
        plans = [facet.plan(changes.get(facet, ()), situation) for facet in PLANNING]
        self.facet_hazards = [hazard for plan in plans for hazard in plan.hazards]
        self.first = [change for plan in plans for change in plan.first]
        """Changes that must have taken effect before the others are sent."""
        self.rest = [change for change in sent if change not in self.first] if self.first else sent

    def requests(self, action: Action, options: RequestOptions) -> tuple[Request, ...]:
        """The requests of the profile, which must exist first, then those of the facets."""
        if not self.own:
            return self._of_profile(action, options)
        is_known = action is Action.UPDATE and not self.sent
        requests = () if is_known else self._of_profile(action, options)
        profile = self.profile
        named = headers(
            profile.customer_user_id, None if profile.customer_user_id else profile.profile_id
        )
        own = [
            request
            for facet, changes in self.own
            for request in facet.requests(changes, self.situation, named=named)
        ]
        if is_known and any(map(_relies_on_an_answer, own)):
            requests = (Request("GET", PATH, named),)
        return (*requests, *own)

    def _of_profile(self, action: Action, options: RequestOptions) -> tuple[Request, ...]:
        requests = self._writing(action, options)
        record = self.situation.record
        is_new = action is Action.CREATE or (
            action is Action.LINK and (record is None or not record.exists)
        )
        if not (options.refuse_existing and is_new):
            return requests
        customer = None if action is Action.LINK else self.profile.customer_user_id
        look = read(customer, self.profile_id)._replace(expects_none=True)
        return (look, *map(without_fallback, requests))

    def _writing(self, action: Action, options: RequestOptions) -> tuple[Request, ...]:
        profile = self.profile
        if action is Action.LINK:
            named = headers(profile.customer_user_id, self.profile_id, platform=profile.platform)
            first = headers(None, self.profile_id, platform=profile.platform)
            last = Request("POST", PATH, named, self._body(self.rest, options))
        else:
            named = first = headers(
                profile.customer_user_id,
                None if profile.customer_user_id else profile.profile_id,
                platform=profile.platform,
            )
            fallback = "POST" if action is Action.CREATE and profile.customer_user_id else None
            if not self.sent:
                return (Request("GET", PATH, named, fallback=fallback),)
            last = Request("PATCH", PATH, named, self._body(self.rest, options), fallback)
        if not self.first:
            return (last,)
        return (Request("PATCH", PATH, first, self._body(self.first, options)), last)

    def _body(self, fields: list[FieldChange], options: RequestOptions) -> dict[str, Json]:
        return body(
            fields,
            self.profile.values,
            contract=self.contract,
            options=options,
            groups=self.groups if fields is self.sent else None,
        )

    def hazards(self, action: Action, requests: Sequence[Request]) -> Iterator[Hazard]:
        """The dangers of the requests of an action."""
        if action is Action.LINK:
            yield Hazard(
                HazardKind.LINK,
                f"links customer id {self.profile.customer_user_id} to profile "
                f"{self.profile_id}; the API has no way to undo it",
            )
        yield from self.facet_hazards
        for facet in HAZARDOUS:
            yield from facet.hazards(requests)
