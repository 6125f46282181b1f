"""One installation of the app on one device, sent whole. No answer shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from reconciler.core.contract import Contract
from reconciler.core.facets.facet import AS_IT_IS, Facet, FacetPlan, Situation, ValueMask
from reconciler.core.facets.parts import property_of, scalar
from reconciler.core.options import RequestOptions
from reconciler.core.plan import Basis, FieldChange, Hazard, HazardKind, Op
from reconciler.core.records import Fact
from reconciler.values import FieldPath, Json, Scalar, same

_GROUP = "installation_meta"
DEVICE_ID = f"{_GROUP}.device_id"
"""The field that every request with an installation needs (adapty-api 3.4)."""
ADVERTISING_IDS = frozenset(f"{_GROUP}.{key}" for key in ("idfa", "idfv", "advertising_id"))
"""The API empties these while analytics are disabled (assumed: adapty-api 7.27)."""
_ANALYTICS_DISABLED = "analytics_disabled"


class Installation(Facet):
    """The members of installation_meta (adapty-api 3.4)."""

    group = _GROUP

    def normalise(self, value: Scalar | None) -> Scalar | None:
        """``""`` means cleared."""
        return value if value != "" else None

    def properties(self, contract: Contract) -> dict[str, Any]:
        facts = contract.data[_GROUP]
        schema = {
            "description": facts["description"],
            "type": "object",
            "additionalProperties": False,
            "required": facts["required"],
            "properties": {
                path.partition(".")[2]: property_of(contract.fields[path])
                for path in contract.members(_GROUP)
            },
            "x-reconcile": {key: facts[key] for key in ("merge", "source", "assumed")},
        }
        return {_GROUP: schema}

    def can_clear(
        self, path: FieldPath, values: Mapping[FieldPath, Scalar | None], *, contract: Contract
    ) -> bool:
        """A member is cleared in a request that names the device."""
        return values.get(DEVICE_ID) is not None and super().can_clear(
            path, values, contract=contract
        )

    def unclearable(self, path: FieldPath) -> FieldPath:
        """An installation is one finding."""
        return _GROUP

    def uncompared(self, values: Mapping[FieldPath, Scalar | None]) -> Set[FieldPath]:
        return ADVERTISING_IDS if values.get(_ANALYTICS_DISABLED) is True else frozenset()

    def doubtful(
        self, facts: Mapping[FieldPath, Fact], *, changed: Set[FieldPath] = frozenset()
    ) -> Set[FieldPath]:
        """Advertising ids where analytics are disabled, or may be."""
        fact = facts.get(_ANALYTICS_DISABLED)
        may_be_disabled = fact is not None and (fact.value is True or fact.attempt is True)
        return ADVERTISING_IDS if may_be_disabled or _ANALYTICS_DISABLED in changed else frozenset()

    def plan(self, changes: Sequence[FieldChange], situation: Situation) -> FacetPlan:
        for change in changes:
            if change.path == DEVICE_ID and change.op is Op.SET:
                is_known = change.basis is not Basis.NONE and same(change.before, change.after)
                return AS_IT_IS if is_known else _WITH_NEW_DEVICE
        return AS_IT_IS

    def along(
        self,
        changed: Mapping[FieldPath, Scalar | None],
        wanted: Mapping[FieldPath, Scalar | None],
        *,
        options: RequestOptions,
    ) -> Mapping[FieldPath, Scalar | None]:
        """All declared members go along whenever one changes, which is right whether the server merges or
        replaces (adapty-api 3.4)."""
        prefix = self.prefix
        if wanted.keys() <= changed.keys() or not any(path.startswith(prefix) for path in changed):
            return {}
        return {
            path: value
            for path, value in wanted.items()
            if path.startswith(prefix) and path not in changed
        }

    def members(
        self,
        keys: Sequence[str],
        values: Sequence[Scalar | None],
        *,
        contract: Contract,
        options: RequestOptions,
    ) -> Mapping[str, Json]:
        if None in values:
            values = ["" if value is None else value for value in values]
        return {_GROUP: dict(zip(keys, values, strict=True))}

    def written(self, name: str, content: Json) -> Iterator[tuple[FieldPath, Scalar | None]]:
        assert isinstance(content, Mapping)
        for member, value in content.items():
            yield f"{name}.{member}", scalar(value)

    def masked(self, name: str, content: Any, *, mask: ValueMask) -> Json:
        if not isinstance(content, Mapping):
            return mask(name, content)
        return {key: mask(f"{name}.{key}", value) for key, value in content.items()}

    def refusal_note(self, body: Mapping[str, Json], code: str) -> str:
        if _GROUP in body:
            return ""
        return (
            " (if nothing else explains it: later documents of the API call "
            "installation_meta required)"
        )


INSTALLATION = Installation()

_WITH_NEW_DEVICE = FacetPlan(
    hazards=(
        Hazard(
            HazardKind.NEW_DEVICE_ID,
            "a new device_id makes an installation that cannot be removed through the API (assumed)",
        ),
    )
)
