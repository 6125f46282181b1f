"""The rules of access levels: how access over time is written, and which levels the app has. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from reconciler.authoring.documents import Document, Path
from reconciler.authoring.facets.rules import Explanation, FacetRules
from reconciler.authoring.json_schema import SchemaViolation
from reconciler.authoring.phrases import did_you_mean, kind_of, place_name, quote
from reconciler.core.access import EXPIRES_AT, FOR, LIFETIME, STARTS_AT
from reconciler.core.contract import Contract
from reconciler.core.facets.access_levels import ACCESS_LEVELS
from reconciler.core.instants import NoTime, NoZone, instant_of
from reconciler.core.lifetimes import is_span, seconds_of
from reconciler.errors import Diagnostic, Message, Quote, error

_GROUP = ACCESS_LEVELS.group
_FORMS = (
    "Write `lifetime`, the time of the end such as 2027-01-31T00:00:00Z, {for: 30d}, "
    "{starts_at: …, expires_at: …}, or null to make sure that it is not active."
)


class AccessRules(FacetRules):
    """The rules of access levels."""

    parts = (FOR, STARTS_AT, EXPIRES_AT)

    def explain(self, violation: SchemaViolation, contract: Contract) -> Explanation | None:
        message: str | Message
        path = violation.path
        if len(path) == 1 and violation.instance is None:
            hint = "To end access, name each level with null; or leave the field out."
            return Explanation(f"profile/{violation.kind}", violation.message, hint)
        if len(path) < 2 or violation.kind == "unknown-field":
            return None
        if violation.of_key:
            message = "an empty name is no access level"
            return Explanation("access/level", message, "Write the id of an access level.")
        if violation.instance == "":
            message = Message.of(place_name(path), " is empty text")
            return Explanation("access/value", message, _FORMS)
        kinds = "text" if len(path) > 2 else "text, a map or null"
        message = Message.of(
            place_name(path), f" must be {kinds}, not ", kind_of(violation.instance)
        )
        return Explanation("access/value", message, _FORMS)

    def findings(
        self, content: Any, document: Document, *, contract: Contract
    ) -> Iterator[Diagnostic]:
        if type(content) is not dict:
            return
        for level, value in content.items():
            place = (_GROUP, level)
            if isinstance(value, str) and value:
                if value != LIFETIME:
                    yield from _instant(value, place, document=document, or_lifetime=True)
            elif isinstance(value, dict):
                yield from _map(value, place, document=document)

    def named_findings(
        self, content: Any, document: Document, *, names: Collection[str], contract: Contract
    ) -> Iterator[Diagnostic]:
        """Levels that every app has need not be listed."""
        if not names or type(content) is not dict:
            return
        names = {*names, *contract.groups[_GROUP].facts["level"]["always"]}
        for level in content:
            if level not in names:
                suggestion = did_you_mean(level, names)
                yield error(
                    "access/level",
                    Message.of(
                        "there is no access level ",
                        quote(level, is_name=True),
                        f" among the `{_GROUP}` of reconcile.yaml",
                    ),
                    source=document.at((_GROUP, level)),
                    hint=f'Did you mean "{suggestion}"?'
                    if suggestion
                    else f"Correct it, or list it under `{_GROUP}` in reconcile.yaml.",
                )


ACCESS_RULES = AccessRules(ACCESS_LEVELS)


def _map(value: dict[str, Any], place: Path, *, document: Document) -> Iterator[Diagnostic]:
    names = {FOR, STARTS_AT, EXPIRES_AT} & value.keys()
    if FOR in names and len(names) > 1:
        other = next(name for name in (STARTS_AT, EXPIRES_AT) if name in names)
        message = Message.of(place_name(place), f" has both `{FOR}` and `{other}`")
        hint = "Keep one of the two."
        yield error("access/period", message, source=document.at((*place, other)), hint=hint)
        return
    if FOR in names:
        yield from _span(value[FOR], (*place, FOR), document=document)
        return
    if EXPIRES_AT not in names:
        message = Message.of(place_name(place), f" lacks `{EXPIRES_AT}`")
        hint = f"Add `{EXPIRES_AT}`, a time or `{LIFETIME}`: access for ever is never implied."
        yield error("access/period", message, source=document.at(place), hint=hint)
    findings: list[Diagnostic] = []
    for name in (STARTS_AT, EXPIRES_AT):
        text = value.get(name)
        if isinstance(text, str) and text and (name, text) != (EXPIRES_AT, LIFETIME):
            or_lifetime = name == EXPIRES_AT
            findings += _instant(text, (*place, name), document=document, or_lifetime=or_lifetime)
    yield from findings
    start, end = value.get(STARTS_AT), value.get(EXPIRES_AT)
    if findings or not (isinstance(start, str) and isinstance(end, str) and start and end):
        return
    if end != LIFETIME and instant_of(start) >= instant_of(end):
        message = Message.of(
            place_name((*place, STARTS_AT)),
            " is ",
            quote(start),
            f", which is not before `{EXPIRES_AT}`",
        )
        hint = "Access begins before it ends: exchange the two, or correct one."
        yield error("access/period", message, source=document.at((*place, STARTS_AT)), hint=hint)


def _span(text: Any, place: Path, *, document: Document) -> Iterator[Diagnostic]:
    if not isinstance(text, str) or not text:
        return
    try:
        seconds_of(text)
    except ValueError:
        message = Message.of(place_name(place), " is ", quote(text), ", which is no span of time")
        hint = "Write a number and s, m, h, d or w, such as 30d."
        yield error("access/span", message, source=document.at(place), hint=hint)


def _instant(
    text: str, place: Path, *, document: Document, or_lifetime: bool
) -> Iterator[Diagnostic]:
    try:
        instant_of(text)
        return
    except NoZone:
        problem = ", which names no zone"
        hint: str | Message = Message.of("Write ", quote(f"{text}Z"), " if it is a time in UTC.")
    except NoTime:
        problem = ", which is a day without a time"
        hint = Message.of(
            "Write ", quote(f"{text}T00:00:00Z"), " if it is the begin of that day in UTC."
        )
    except ValueError:
        problem, hint = ", which is no time", "Write it like 2027-01-31T00:00:00Z."
        if is_span(text):
            problem = ", which is a span of time"
            hint = Message.of(
                "Write the level as {for: ", Quote(text, ""), "}, from the apply that grants it."
            )
        elif (shown := _as_plans_show(text)) and len(place) == len((_GROUP, "level")):
            hint = Message.of("Plans show it so. In a file, write ", shown, ".")
        elif or_lifetime and did_you_mean(text, [LIFETIME]):
            hint = f'Did you mean "{LIFETIME}"?'
        elif or_lifetime:
            hint = f"Write it like 2027-01-31T00:00:00Z, or `{LIFETIME}`."
    message = Message.of(place_name(place), " is ", quote(text), problem)
    yield error("access/instant", message, source=document.at(place), hint=hint)


def _as_plans_show(text: str) -> Message | None:
    """How a file says access that a plan shows in such words; ``None`` for other words."""
    try:
        declared = ACCESS_LEVELS.declared(text)
    except ValueError:
        return None
    if isinstance(declared, str):
        return Message.of(quote(declared))
    parts = [f"{name}: {value}" for name, value in declared.items()]
    return Message.of(Quote("{" + ", ".join(parts) + "}", ""))
