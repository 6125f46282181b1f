"""The rules of integration identifiers. Pure."""

from __future__ import annotations

from reconciler.authoring.facets.own_members import MemberRules
from reconciler.core.facets.integrations import INTEGRATIONS

INTEGRATION_RULES = MemberRules(INTEGRATIONS)
