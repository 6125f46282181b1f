"""The rules of all facets with a member of their own, in the order of the facets. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.authoring.facets.custom_attributes import ATTRIBUTE_RULES
from reconciler.authoring.facets.installation import INSTALLATION_RULES
from reconciler.authoring.facets.rules import FacetRules

FACET_RULES: tuple[FacetRules, ...] = (ATTRIBUTE_RULES, INSTALLATION_RULES)
BY_GROUP: Mapping[str, FacetRules] = {rules.group: rules for rules in FACET_RULES}
"""The rules of each member of a profile file that holds several fields."""
SOLE: FacetRules = next(rules for rules in FACET_RULES if rules.sole_key)
"""The rules of the facet with a value that only one profile may have."""
