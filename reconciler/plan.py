"""What a plan is, and how it is written down. Pure.

The digest of a plan covers its canonical JSON line by line (header, changes, footer), so that it can be
taken while a plan is streamed, and both formats of a plan have the same one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from reconciler.errors import Refused, Source
from reconciler.values import FieldPath, Json, Scalar, digest

FORMAT_VERSION = 1


class Action(StrEnum):
    """What a change does to its profile."""

    CREATE = "create"
    UPDATE = "update"
    LINK = "link"
    DELETE = "delete"
    FORGET = "forget"


class Op(StrEnum):
    """What happens to a field: set, clear, or forget (stop managing it; nothing is sent)."""

    SET = "set"
    CLEAR = "clear"
    FORGET = "forget"


class Basis(StrEnum):
    """How we know ``before``."""

    OBSERVED = "observed"
    RECORDED = "recorded"
    UNCERTAIN = "uncertain"
    NONE = "none"


class Mode(StrEnum):
    """Whether orphans are left alone or deleted."""

    ADDITIVE = "additive"
    PRUNE = "prune"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """``before`` is ``None`` for a field that was cleared or never known: see ``basis``."""

    path: FieldPath
    op: Op
    before: Scalar | None
    after: Scalar | None
    basis: Basis
    line: int | None = None
    """Where the field is declared, in the file of the change; ``None`` where the file says nothing."""


@dataclass(frozen=True, slots=True)
class Hazard:
    """A named danger that a change carries, with a sentence."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it is shown and sent; authorisation is added by the client alone.

    ``fallback`` is ``POST`` on the PATCH (or GET, for a profile without fields) of a create: sent with
    the same headers and body (``{}`` where there is none) when the API says that the profile does not
    exist.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Json] | None = None
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one profile, and why."""

    address: str
    action: Action
    reason: str
    fields: tuple[FieldChange, ...] = ()
    requests: tuple[Request, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    source: Source | None = None
    revision: int | None = None
    """Revision of the record that the change was made from; ``None`` without one."""
    labels: tuple[str, ...] = ()
    protect: bool = False


@dataclass(frozen=True)
class Plan:
    """The ordered changes plus lineage, serial and digest. Changes are ordered by address."""

    environment: str
    mode: Mode
    lineage: str | None
    serial: int
    application: str | None
    changes: tuple[Change, ...]
    orphans: tuple[str, ...]
    unchanged: int
    hazards: tuple[Hazard, ...] = ()
    """Dangers of the plan as a whole: caps, deleting everything."""

    @cached_property
    def summary(self) -> Mapping[str, int]:
        """Changes by action, unchanged profiles, orphans, and requests (one for a change with a
        fallback)."""
        counts = dict.fromkeys((action.value for action in Action), 0)
        for change in self.changes:
            counts[change.action.value] += 1
        return counts | {
            "unchanged": self.unchanged,
            "orphans": len(self.orphans),
            "requests": sum(len(change.requests) for change in self.changes),
        }

    @cached_property
    def digest(self) -> str:
        return digest(*_lines(self))

    @property
    def count(self) -> int:
        """How many changes there are."""
        return len(self.changes)

    @property
    def is_empty(self) -> bool:
        return not self.changes


# --- written down --------------------------------------------------------------------------------


def encode(plan: Plan) -> dict[str, Json]:
    """A plan as one JSON object: schema ``plan.schema.json``."""
    header, *changes, footer = _lines(plan)
    return {**header, "changes": changes, **footer, "digest": plan.digest}


def to_lines(plan: Plan) -> Iterator[str]:
    """A plan as JSON Lines: a header, a line per change, a footer. Each ends with a newline.

    Members keep their order, so that a body read back is sent in the very order that was shown.
    """
    header, *changes, footer = _lines(plan)
    for line in (header, *changes, {**footer, "digest": plan.digest}):
        yield json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n"


def from_lines(lines: Iterable[str]) -> Plan:
    """The plan that `to_lines` wrote, or the one object that `encode` made, its digest checked.

    Raises Refused for a plan that is truncated, altered, of a newer format, or no plan at all.
    """
    text = list(lines)
    try:
        parsed = _parse(text)
        version = parsed[0].get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise Refused(
                f"the plan has format {version}, this program reads up to {FORMAT_VERSION}",
                hint="Upgrade reconcile, or plan again.",
            )
        if version != FORMAT_VERSION or "digest" not in parsed[-1]:
            raise Refused(
                "the plan is truncated, or it is not a plan", hint="Plan again with --out."
            )
        written = parsed[-1].pop("digest")
        plan = _decode(parsed)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise Refused(
            "this is not a plan that reconcile wrote", hint="Plan again with --out."
        ) from None
    if digest(*parsed) != written or plan.digest != written:
        raise Refused(
            "the plan was altered after it was written: its digest does not match",
            hint="Plan again, and apply what was reviewed.",
        )
    return plan


def _lines(plan: Plan) -> list[dict[str, Json]]:
    header: dict[str, Json] = {
        "format_version": FORMAT_VERSION,
        "environment": plan.environment,
        "mode": plan.mode.value,
        "state": {
            "lineage": plan.lineage,
            "serial": plan.serial,
            "application": plan.application,
        },
    }
    footer: dict[str, Json] = {
        "orphans": list(plan.orphans),
        "hazards": [_encode_hazard(hazard) for hazard in plan.hazards],
        "summary": dict(plan.summary),
    }
    return [header, *(_encode_change(change) for change in plan.changes), footer]


def _encode_change(change: Change) -> dict[str, Json]:
    source = change.source
    return {
        "address": change.address,
        "action": change.action.value,
        "reason": change.reason,
        "hazards": [_encode_hazard(hazard) for hazard in change.hazards],
        "source": {"file": source.file, "line": source.line} if source else None,
        "revision": change.revision,
        "fields": [
            {
                "path": field.path,
                "op": field.op.value,
                "before": field.before,
                "after": field.after,
                "basis": field.basis.value,
                "line": field.line,
            }
            for field in change.fields
        ],
        "requests": [_encode_request(request) for request in change.requests],
        **({"labels": list(change.labels)} if change.labels else {}),
        **({"protect": True} if change.protect else {}),
    }


def _encode_hazard(hazard: Hazard) -> dict[str, Json]:
    return {"kind": hazard.kind, "message": hazard.message}


def _encode_request(request: Request) -> dict[str, Json]:
    data: dict[str, Json] = {
        "method": request.method,
        "path": request.path,
        "headers": dict(request.headers),
    }
    if request.body is not None:
        data["body"] = request.body
    if request.fallback is not None:
        data["fallback"] = request.fallback
    return data


def _parse(text: list[str]) -> list[dict[str, Any]]:
    whole = [line for line in text if line.strip()]
    first = json.loads(whole[0]) if len(whole) > 1 and whole[0].rstrip().endswith("}") else None
    if first is not None:
        return [first, *(json.loads(line) for line in whole[1:])]
    data = json.loads("".join(text))
    footer = {key: data.pop(key) for key in ("orphans", "hazards", "summary", "digest")}
    return [data, *data.pop("changes"), footer]


def _decode(lines: list[dict[str, Any]]) -> Plan:
    header, *changes, footer = lines
    return Plan(
        environment=header["environment"],
        mode=Mode(header["mode"]),
        lineage=header["state"]["lineage"],
        serial=header["state"]["serial"],
        application=header["state"]["application"],
        changes=tuple(_decode_change(data) for data in changes),
        orphans=tuple(footer["orphans"]),
        unchanged=footer["summary"]["unchanged"],
        hazards=_decode_hazards(footer["hazards"]),
    )


def _decode_hazards(data: Any) -> tuple[Hazard, ...]:
    return tuple(Hazard(item["kind"], item["message"]) for item in data)


def _decode_change(data: dict[str, Any]) -> Change:
    source = data["source"]
    return Change(
        address=data["address"],
        action=Action(data["action"]),
        reason=data["reason"],
        fields=tuple(
            FieldChange(
                path=item["path"],
                op=Op(item["op"]),
                before=item["before"],
                after=item["after"],
                basis=Basis(item["basis"]),
                line=item["line"],
            )
            for item in data["fields"]
        ),
        requests=tuple(
            Request(
                method=item["method"],
                path=item["path"],
                headers=item["headers"],
                body=item.get("body"),
                fallback=item.get("fallback"),
            )
            for item in data["requests"]
        ),
        hazards=_decode_hazards(data["hazards"]),
        source=Source(source["file"], source["line"]) if source else None,
        revision=data["revision"],
        labels=tuple(data.get("labels", ())),
        protect=data.get("protect", False),
    )
