"""The rules of named members with a path of their own. Pure."""

from __future__ import annotations

from reconciler.authoring.facets.rules import Explanation, FacetRules
from reconciler.authoring.json_schema import SchemaViolation
from reconciler.core.contract import Contract


class MemberRules(FacetRules):
    """The rules of named members, which are written in the order of the contract."""

    def explain(self, violation: SchemaViolation, contract: Contract) -> Explanation | None:
        if violation.path != (self.group,) or violation.instance is not None:
            return None
        hint = "To clear members, name each with null; or leave the field out."
        return Explanation(f"profile/{violation.kind}", violation.message, hint)

    def ordered_keys(self, contract: Contract) -> list[str]:
        return self.facet.keys_of(contract.members(self.group))
