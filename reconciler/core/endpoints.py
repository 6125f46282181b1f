"""The paths and headers of requests, and the requests that read. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core.plan import Request
from reconciler.core.profiles import PROFILE_PREFIX
from reconciler.core.records import Record

PATH = "/api/v2/server-side-api/profile/"
"""Every method has this path; the slash at the end counts (adapty-api 1, 7.30)."""

CUSTOMER_HEADER = "adapty-customer-user-id"
PROFILE_HEADER = "adapty-profile-id"
PLATFORM_HEADER = "adapty-platform"


def is_about_profile(request: Request) -> bool:
    """Whether a request writes or reads the profile itself, rather than something that belongs to it."""
    return request.path == PATH


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


def without_fallback(request: Request) -> Request:
    """The request that is sent where the API knows no such profile."""
    if request.fallback is None:
        return request
    return request._replace(method=request.fallback, body=request.body or {}, fallback=None)


def with_fallback(request: Request) -> Request:
    """The opposite for a request that would make a profile: it updates the one that is there. Without
    anything to write it reads it."""
    if request.method != "POST" or not is_about_profile(request):
        return request
    if not request.body:
        return request._replace(method="GET", body=None, fallback="POST")
    return request._replace(method="PATCH", fallback="POST")


def without_profile_id(named: Mapping[str, str]) -> dict[str, str]:
    """Headers without the one that holds the profile id."""
    return {name: value for name, value in named.items() if name != PROFILE_HEADER}
