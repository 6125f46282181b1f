"""Field changes → the requests that carry them, and the hazards of sending those. Pure.

Plans show the very requests that are sent, so no other module renders one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import lru_cache

from reconciler.core.contract import (
    ATTRIBUTES,
    DEVICE_ID,
    INSTALLATION,
    IP_COUNTRY,
    Clear,
    Contract,
)
from reconciler.core.options import RequestOptions
from reconciler.core.plan import Action, Basis, FieldChange, Hazard, HazardKind, Op, Request
from reconciler.core.profiles import PROFILE_PREFIX, Profile
from reconciler.core.records import Known, Record
from reconciler.values import FieldPath, Json, Scalar, digest, same

PATH = "/api/v2/server-side-api/profile/"
"""Every method has this path; the slash at the end counts (adapty-api 1, 7.30)."""

CUSTOMER_HEADER = "adapty-customer-user-id"
PROFILE_HEADER = "adapty-profile-id"
PLATFORM_HEADER = "adapty-platform"

_ATTRIBUTE = f"{ATTRIBUTES}."
_MEMBER = f"{INSTALLATION}."


def headers(
    customer_user_id: str | None, profile_id: str | None, *, platform: str | None = None
) -> dict[str, str]:
    """The headers that name a profile. Authorisation is the client's."""
    named = {
        CUSTOMER_HEADER: customer_user_id,
        PROFILE_HEADER: profile_id,
        PLATFORM_HEADER: platform,
    }
    return {name: value for name, value in named.items() if value is not None}


def read(customer_user_id: str | None, profile_id: str | None) -> Request:
    """The request that reads a profile, by its customer id where it has one."""
    named = headers(customer_user_id, None if customer_user_id else profile_id)
    return Request("GET", PATH, named)


def read_recorded(record: Record) -> Request:
    """The request that reads a recorded profile by what it was declared with: a customer id that the
    API told of an anonymous one may be another profile's by now."""
    anonymous = record.address == f"{PROFILE_PREFIX}{record.profile_id}"
    return read(None if anonymous else record.customer_user_id, record.profile_id)


def body(
    fields: Sequence[FieldChange],
    wanted: Mapping[FieldPath, Scalar | None],
    *,
    contract: Contract,
    options: RequestOptions,
) -> dict[str, Json]:
    """The minimal body for some field changes of a profile that declares ``wanted``.

    Custom attributes that do not change are not named (they merge by key, adapty-api 4.1);
    installation_meta is sent whole, cleared members as ``""``, whenever one of its members changes,
    which is right whether the server merges or replaces (adapty-api 3.4).
    """
    changed = {field.path: field.after for field in fields if field.op is not Op.FORGET}
    named = len(changed)
    if options.send_ip_country_always and wanted.get(IP_COUNTRY) is not None:
        changed.setdefault(IP_COUNTRY, wanted[IP_COUNTRY])
    if not wanted.keys() <= changed.keys() and any(path.startswith(_MEMBER) for path in changed):
        members = {path: value for path, value in wanted.items() if path.startswith(_MEMBER)}
        changed = members | changed if not members.keys() <= changed.keys() else changed
    if len(changed) != named:  # the fields come in the order of a body
        changed = {path: changed[path] for path in contract.ordered(changed)}
    out: dict[str, Json] = {}
    attributes: list[Json] = []
    installation: dict[str, Json] = {}
    emptied = "" if options.delete_attribute_with is Clear.EMPTY else None
    for (group, name), value in zip(_slots(tuple(changed)), changed.values(), strict=True):
        if group == ATTRIBUTES:
            attributes.append({"key": name, "value": emptied if value is None else value})
            out[ATTRIBUTES] = attributes
        elif group:
            installation[name] = "" if value is None else value
            out[INSTALLATION] = installation
        elif value is None and contract.field(name).clear is Clear.EMPTY:
            out[name] = ""
        else:
            out[name] = value
    return out


@lru_cache(maxsize=4096)
def _slots(paths: tuple[FieldPath, ...]) -> list[tuple[str, str]]:
    """The group (``""`` for a standard field) and the name of each path."""
    parts = [path.partition(".") for path in paths]
    return [(group, name) if dot else ("", group) for group, dot, name in parts]


def request_digest(request: Request) -> str:
    """Names a request in the journal without its content: what it is and whom it is for."""
    return digest(request.method, dict(request.headers), request.body)


def values_of(request: Request) -> dict[FieldPath, Scalar | None]:
    """The values that a request writes, by field path; a cleared field is ``None``."""
    out: dict[FieldPath, Scalar | None] = {}
    for name, content in (request.body or {}).items():
        if name == ATTRIBUTES:
            assert isinstance(content, Sequence)
            for item in content:
                assert isinstance(item, Mapping)
                out[f"{_ATTRIBUTE}{item['key']}"] = _scalar(item["value"])
        elif name == INSTALLATION:
            assert isinstance(content, Mapping)
            for member, value in content.items():
                out[f"{_MEMBER}{member}"] = _scalar(value)
        else:
            out[name] = _scalar(content)
    return out


def _scalar(value: Json) -> Scalar | None:
    return value if isinstance(value, (str, bool, int, float)) and value != "" else None


def sends_new_device(fields: Sequence[FieldChange]) -> FieldChange | None:
    """The change of ``device_id``, if there is one."""
    return next((f for f in fields if f.path == DEVICE_ID and f.op is Op.SET), None)


class RequestBuilder:
    """The requests that carry the field changes of a profile, and their hazards."""

    def __init__(
        self,
        profile: Profile,
        *,
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
        self.deletions_first = self._deletions_first()
        self.rest = (
            [change for change in sent if change not in self.deletions_first]
            if self.deletions_first
            else sent
        )

    def _deletions_first(self) -> list[FieldChange]:
        """Deletions that must take effect before the additions, near the limit (adapty-api 4.4)."""
        existing = self.existing
        if not existing:
            return []
        deleted = [f for f in self.attributes if f.op is Op.CLEAR and f.path in existing]
        added = [f for f in self.attributes if f.op is Op.SET and f.path not in existing]
        full = len(existing) + len(added) > self.contract.max_attributes
        return deleted if deleted and added and full else []

    def requests(self, action: Action, options: RequestOptions) -> tuple[Request, ...]:
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
        if not self.deletions_first:
            return (last,)
        return (Request("PATCH", PATH, first, self._body(self.deletions_first, options)), last)

    def _body(self, fields: list[FieldChange], options: RequestOptions) -> dict[str, Json]:
        return body(fields, self.profile.values, contract=self.contract, options=options)

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
        if self.deletions_first:
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
