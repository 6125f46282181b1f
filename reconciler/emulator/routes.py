"""The paths of the API that the emulator answers, and how each reports errors (adapty-api 1.1, 1.2, 6.1)."""

from __future__ import annotations

from typing import NamedTuple

PROFILE_PATH = "/api/v2/server-side-api/profile/"
GRANT_PATH = "/api/v2/server-side-api/purchase/profile/grant/access-level/"
REVOKE_PATH = "/api/v2/server-side-api/purchase/profile/revoke/access-level/"
IDENTIFIERS_PATH = "/api/v2/server-side-api/integration/profile/set/integration-identifiers/"
REFUND_SAVER_PATH = "/api/v2/server-side-api/purchase/profile/refund-saver/settings/"


class ApiRoute(NamedTuple):
    """A path and its methods."""

    name: str
    """The name in the conditions of faults."""
    path: str
    methods: tuple[str, ...]
    is_flat: bool
    """Whether ``errors`` is a list of texts (adapty-api 6.1: the second shape)."""


ROUTES = (
    ApiRoute("profile", PROFILE_PATH, ("GET", "POST", "PATCH", "DELETE"), is_flat=False),
    ApiRoute("grant", GRANT_PATH, ("POST",), is_flat=False),
    ApiRoute("revoke", REVOKE_PATH, ("POST",), is_flat=False),
    ApiRoute("identifiers", IDENTIFIERS_PATH, ("GET", "POST"), is_flat=True),
    ApiRoute("refund-saver", REFUND_SAVER_PATH, ("GET", "POST"), is_flat=True),
)
_BY_PATH = {route.path: route for route in ROUTES}


def route_of(path: str) -> ApiRoute | None:
    """The route of a request's path, whose query does not matter; None for a path that is not known."""
    return _BY_PATH.get(path.partition("?")[0])


def has_flat_errors(path: str) -> bool:
    """Whether the answers to requests with this path report errors as a list of texts."""
    route = route_of(path)
    return route is not None and route.is_flat
