"""Integration identifiers: the ids of the end user in other services. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.core.facets.own_members import OwnMembers


class Integrations(OwnMembers):
    """The integration identifiers of a profile (adapty-api 1.2). The answer to a POST is empty; that to a GET
    has all of them, each a text or null."""

    group = "integrations"
    address = "/api/v2/server-side-api/integration/profile/set/integration-identifiers/"

    def _members(self, members: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name in _ALWAYS:
            members[name]
        return iter(members.items())


INTEGRATIONS = Integrations()

_ALWAYS = ("amplitude_user_id", "appsflyer_id", "mixpanel_user_id")
"""Some of the members that each answer to a GET has: a gateway's page has none of them."""
