"""The rules of all facets with a member of their own, in the order of the facets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from reconciler.authoring.documents import Document
from reconciler.authoring.facets.access_levels import ACCESS_RULES
from reconciler.authoring.facets.custom_attributes import ATTRIBUTE_RULES
from reconciler.authoring.facets.installation import INSTALLATION_RULES
from reconciler.authoring.facets.integrations import INTEGRATION_RULES
from reconciler.authoring.facets.refund_saver import REFUND_RULES
from reconciler.authoring.facets.rules import FacetRules
from reconciler.core.contract import Contract
from reconciler.errors import Diagnostic

FACET_RULES: tuple[FacetRules, ...] = (
    *(ATTRIBUTE_RULES, INSTALLATION_RULES),
    *(ACCESS_RULES, INTEGRATION_RULES, REFUND_RULES),
)
BY_GROUP: Mapping[str, FacetRules] = {rules.group: rules for rules in FACET_RULES}
"""The rules of each member of a profile file that holds several fields."""
SOLE: FacetRules = next(rules for rules in FACET_RULES if rules.sole_key)
"""The rules of the facet with a value that only one profile may have."""


def listed_findings(
    documents: Iterable[Document], contract: Contract, *, listed: Mapping[str, Sequence[str]]
) -> Iterator[Diagnostic]:
    """The findings about keys that the configuration does not list. ``listed`` gives the keys for each member
    that it limits."""
    if not listed:
        return
    for document in documents:
        for group, names in listed.items():
            if isinstance(document.value, dict) and (content := document.value.get(group)):
                yield from BY_GROUP[group].named_findings(
                    content, document, names=names, contract=contract
                )
