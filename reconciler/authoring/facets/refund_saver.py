"""The rules of refund preferences. Pure."""

from __future__ import annotations

from reconciler.authoring.facets.own_members import MemberRules
from reconciler.core.facets.refund_saver import REFUND_SAVER

REFUND_RULES = MemberRules(REFUND_SAVER)
