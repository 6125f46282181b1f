"""Standard fields: `first_name` to `analytics_disabled`, which the profile's own requests carry. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.core.contract import Clear, Contract
from reconciler.core.endpoints import is_about_profile
from reconciler.core.facets.facet import Facet
from reconciler.core.facets.parts import property_of, scalar
from reconciler.core.options import RequestOptions
from reconciler.core.plan import Hazard, HazardKind, Request
from reconciler.values import FieldPath, Json, Scalar

_COUNTRY = "ip_country"


class ProfileFields(Facet):
    """The standard fields. No answer shows them (adapty-api 5.3)."""

    def path(self, key: str) -> FieldPath:
        return key

    def properties(self, contract: Contract) -> dict[str, Any]:
        return {
            path: property_of(field) for path, field in contract.fields.items() if "." not in path
        }

    def along(
        self,
        changed: Mapping[FieldPath, Scalar | None],
        wanted: Mapping[FieldPath, Scalar | None],
        *,
        options: RequestOptions,
    ) -> Mapping[FieldPath, Scalar | None]:
        """A declared ip_country goes along in every request (adapty-api 3.2)."""
        if not options.send_ip_country_always or _COUNTRY in changed:
            return {}
        country = wanted.get(_COUNTRY)
        return {} if country is None else {_COUNTRY: country}

    def members(
        self,
        keys: Sequence[str],
        values: Sequence[Scalar | None],
        *,
        contract: Contract,
        options: RequestOptions,
    ) -> Mapping[str, Json]:
        out: dict[str, Json] = dict(zip(keys, values, strict=True))
        if None in values:
            for name, value in out.items():
                if value is None and contract.field(name).clear is Clear.EMPTY:
                    out[name] = ""
        return out

    def written(self, name: str, content: Json) -> Iterator[tuple[FieldPath, Scalar | None]]:
        yield name, scalar(content)

    def hazards(self, requests: Sequence[Request]) -> Iterator[Hazard]:
        if any(
            request.body is not None and _COUNTRY not in request.body and is_about_profile(request)
            for request in requests
        ):
            yield _FROM_SENDER


PROFILE_FIELDS = ProfileFields()


def sent_country(request: Request) -> dict[str, Json]:
    """The country that a request sent: the API may take it from the sender's address where a later request
    of the same profile has none (adapty-api 3.2)."""
    country = (request.body or {}).get(_COUNTRY)
    return {} if country is None else {_COUNTRY: country}


_FROM_SENDER = Hazard(
    HazardKind.IP_COUNTRY_FROM_SENDER,
    "sent without ip_country; the API may set the user's country from the address of this machine",
)
