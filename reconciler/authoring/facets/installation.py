"""The rules of an installation: its device, and identifiers that the API empties. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.authoring.documents import Document
from reconciler.authoring.facets.rules import Explanation, FacetRules
from reconciler.authoring.json_schema import SchemaViolation
from reconciler.core.contract import Contract
from reconciler.core.facets.installation import ADVERTISING_IDS, DEVICE_ID, INSTALLATION
from reconciler.errors import Diagnostic, warning

_GROUP = INSTALLATION.group
_DEVICE = DEVICE_ID.partition(".")[2]


class InstallationRules(FacetRules):
    """The rules of the members of installation_meta."""

    sole_key = _DEVICE

    def explain(self, violation: SchemaViolation, contract: Contract) -> Explanation | None:
        if violation.path != (_GROUP,):
            return None
        if violation.kind == "missing-field":
            return Explanation(
                "installation/device-id-missing",
                f"`{_GROUP}` needs a `{_DEVICE}`",
                f"Add the `{_DEVICE}` that the app made on the device, or remove the whole map.",
            )
        if violation.instance is None:
            return Explanation(
                f"profile/{violation.kind}",
                violation.message,
                f"Leave it out; to stop managing it, list `{_GROUP}` under meta.forget.",
            )
        return None

    def findings(
        self, content: Any, document: Document, *, contract: Contract
    ) -> Iterator[Diagnostic]:
        if document.value.get("analytics_disabled") is not True or type(content) is not dict:
            return
        for name in sorted(INSTALLATION.keys_of(ADVERTISING_IDS)):
            if content.get(name):
                yield warning(
                    "profile/suspicious",
                    f"`{_GROUP}.{name}` is declared while `analytics_disabled` is true: "
                    "the API empties it, and it is not compared until they are on again (assumed)",
                    source=document.at((_GROUP, name)),
                    hint="Remove the identifier, or set `analytics_disabled` to false.",
                )

    def ordered_keys(self, contract: Contract) -> list[str]:
        return INSTALLATION.keys_of(contract.members(_GROUP))


INSTALLATION_RULES = InstallationRules(INSTALLATION)
