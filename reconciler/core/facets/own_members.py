"""Named members with a path of their own: a POST writes some of them, a GET reads all. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from reconciler.core.contract import Clear, Contract
from reconciler.core.endpoints import PROFILE_HEADER
from reconciler.core.facets.facet import Facet, Situation, ValueMask
from reconciler.core.facets.parts import property_of, text_of
from reconciler.core.plan import FieldChange, Request
from reconciler.values import FieldPath, Json, Scalar


class OwnMembers(Facet):
    """The members of one path. Members that a POST leaves out keep their values (assumed: adapty-api 1.1,
    1.2), so it may be sent again."""

    address = ""
    """The path of both requests."""
    api_names: ClassVar[Mapping[str, str]] = {}
    """The names that the API has for some members, by the names in files."""
    within = ""
    """The member of an answer that holds the members; empty if they are its own."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.paths = frozenset({cls.address})

    def properties(self, contract: Contract) -> dict[str, Any]:
        facts = contract.groups[self.group].facts
        schema = {
            "description": facts["description"],
            "type": "object",
            "additionalProperties": False,
            "properties": {
                path.removeprefix(self.prefix): property_of(contract.fields[path])
                for path in contract.members(self.group)
            },
            "x-reconcile": {"source": facts["source"], "assumed": facts["assumed"]},
        }
        return {self.group: schema}

    # --- requests of its own ---

    def requests(
        self, changes: Sequence[FieldChange], situation: Situation, *, named: Mapping[str, str]
    ) -> Iterator[Request]:
        body: dict[str, Json] = {}
        for change in changes:
            is_emptied = situation.contract.field(change.path).clear is Clear.EMPTY
            cleared: Json = "" if is_emptied else None
            name = self._api_name(change.path.removeprefix(self.prefix))
            body[name] = cleared if change.after is None else change.after
        if body:
            yield Request("POST", self.address, named, body)

    def written_by(self, request: Request) -> Iterator[tuple[FieldPath, Scalar | None]]:
        for name, content in (request.body or {}).items():
            yield self.path(self._key(name)), None if content in (None, "") else _value_of(content)

    def masked_body(self, body: Mapping[str, Json], *, mask: ValueMask) -> Mapping[str, Json]:
        return {name: mask(self.path(self._key(name)), content) for name, content in body.items()}

    def reading(self, named: Mapping[str, str]) -> Request | None:
        return Request("GET", self.address, named)

    def own_answer(self, request: Request, content: Any) -> Mapping[FieldPath, Scalar] | None:
        if content is None and request.method == "POST" and not self.within:
            return {}  # which says that they were written (adapty-api 1.2)
        named = request.headers.get(PROFILE_HEADER)
        if named is not None and content.get("profile_id", named) != named:
            raise ValueError
        members = content[self.within] if self.within else content
        if not isinstance(members, Mapping):
            raise TypeError
        return {
            self.path(self._key(name)): _value_of(value)
            for name, value in self._members(members)
            if value not in (None, "")
        }

    def refusal_note(self, body: Mapping[str, Json], code: str) -> str:
        if code != "validation_error":
            return ""
        names = " or ".join(self.path(self._key(name)) for name in body)
        return f" (correct {names} in the file, or take it out)"

    def _members(self, members: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """The members of an answer that are of the group, by their names at the API. Raises LookupError if
        there are none: then it is no answer of the API."""
        raise NotImplementedError

    def _api_name(self, key: str) -> str:
        return self.api_names.get(key, key)

    def _key(self, name: str) -> str:
        return next((key for key, own in self.api_names.items() if own == name), name)


def _value_of(content: Any) -> Scalar:
    """The value of a member. Raises TypeError or ValueError for what is none."""
    return content if isinstance(content, bool) else text_of(content)
