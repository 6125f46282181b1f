"""The rules of findings and the kinds of hazards, explained: ``schemas/rules.json``.

The page of all rules, `reconcile explain`, SARIF and the HTML page are written from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from reconciler.resources import load_schema

PAGE = "https://github.com/OWNER/reconcile/blob/main/docs/rules.md"
"""The page of all rules. OWNER stands for the owner of the repository, as in the other documents."""


class Rule(NamedTuple):
    """A rule of findings, or a kind of hazard."""

    name: str
    """The id of the rule (``yaml/duplicate-key``), or the kind of the hazard (``max_delete``)."""
    title: str
    """The thing that is found, in a few words."""
    why: str
    """Why it matters, in whole sentences."""
    mend: str
    """What to do about it, in whole sentences."""
    case: str
    """An example in words; empty where there is a file."""
    example: str
    """A profile file in which it is found; empty where a file cannot show it."""
    mended: str
    """The file after it was mended; empty without an example."""
    is_hazard: bool

    @property
    def anchor(self) -> str:
        """The name of its heading on the page, as GitHub makes it."""
        return self.name.replace("/", "")

    @property
    def url(self) -> str:
        """Its address on the page."""
        return f"{PAGE}#{self.anchor}"


@cache
def load_rules() -> Mapping[str, Rule]:
    """All rules and then all kinds of hazards, by name."""
    data = load_schema("rules")
    return {
        name: _rule(name, members, is_hazard=group == "hazards")
        for group in ("rules", "hazards")
        for name, members in data[group].items()
    }


def _rule(name: str, members: Mapping[str, Any], *, is_hazard: bool) -> Rule:
    example, mended = ("\n".join(members.get(key, ())) for key in ("example", "mended"))
    return Rule(
        name,
        members["title"],
        members["why"],
        members["mend"],
        members.get("case", ""),
        example,
        mended,
        is_hazard,
    )
