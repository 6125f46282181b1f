"""The groups of members with a path of their own: integration identifiers and refund preferences.

Their errors are lists of texts (adapty-api 6.1), under one code for everything that is wrong with a body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.emulator.judge import (
    EXTRA,
    NOT_A_DICT,
    FieldRule,
    Rejected,
    Switches,
    field_rules,
    value_problem,
)
from reconciler.emulator.profile import StoredProfile
from reconciler.values import Json

NO_IDENTIFIER = "At least one integration identifier must be provided."
NO_SETTING = "Profile refund saver settings must have either consent or custom_preference or both"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberGroup:
    """The rules of one group, by the members' names at the API."""

    rules: Mapping[str, FieldRule]
    nothing: str
    """The message for a body without any member of the group."""
    switches: Switches

    @classmethod
    def of(
        cls,
        contract: Mapping[str, Any],
        facet: str,
        *,
        nothing: str,
        dialect: str,
        switches: Switches,
    ) -> MemberGroup:
        """The group of a facet that the contract's data describes."""
        fields = contract["facets"][facet]["fields"]
        rules = field_rules(contract, fields, dialect=dialect)
        return cls(rules=rules, nothing=nothing, switches=switches)

    def write(self, body: Json, target: dict[str, Any]) -> None:
        """Write a body into the members of a profile; null clears one. Raises Rejected with every error,
        and changes nothing then."""
        if not isinstance(body, Mapping):
            raise _invalid([NOT_A_DICT[1]])
        problems = []
        for name, value in body.items():
            problem = self._problem(name, value)
            if problem is not None:
                problems.append(f"{name}: {problem}")
        if problems:
            raise _invalid(problems)
        values = {name: value for name, value in body.items() if name in self.rules}
        if not values:
            raise _invalid([self.nothing])
        for name, value in values.items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = value

    def _problem(self, name: str, value: Json) -> str | None:
        rule = self.rules.get(name)
        if rule is None:
            return EXTRA[1] if self.switches.strict else None
        if value is None and rule.nullable:
            return None
        problem = value_problem(rule.schema, value, name=name, checks_length=self.switches.strict)
        return problem and problem[1]


def shown_identifiers(group: MemberGroup, profile: StoredProfile) -> dict[str, Json]:
    """The body of an answer: every identifier, null where there is none (adapty-api 1.2)."""
    return {name: profile.identifiers.get(name) for name in group.rules}


def shown_refund_saver(profile: StoredProfile, switches: Switches) -> dict[str, Json]:
    """The body of an answer. A member that is not set shows the app's default (assumed: adapty-api 8.5)."""
    defaults: dict[str, Json] = {
        "consent": switches.default_consent,
        "custom_preference": switches.default_preference,
    }
    settings = {**defaults, **profile.refund_saver}
    return {"profile_id": profile.profile_id, "settings": settings}


def _invalid(messages: list[str]) -> Rejected:
    return Rejected(400, "validation_error", errors=[(None, each) for each in messages])
