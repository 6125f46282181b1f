"""How a plan is written down: as lines of JSON under one digest. Pure.

A plan may have more changes than fit into memory, so it is written and read as a stream of lines (header,
a line a change, footer). Its digest covers these lines as they are written; both formats of a plan have
the same one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b, sha256
from itertools import chain, islice
from typing import Any, NamedTuple, TypeAlias

from reconciler.core.facets.registry import check_change
from reconciler.core.options import ReadScope, Target
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    Changes,
    FieldChange,
    Hazard,
    Head,
    Mode,
    Op,
    Plan,
    Request,
    Scope,
    Totals,
    hazard_kind,
)
from reconciler.errors import Refused, Source
from reconciler.jsontext import spelled_exactly, unpacked_exactly
from reconciler.values import Json, unobeyed

FORMAT_VERSION = 1


class PlanEncoder:
    """Writes the lines of a plan, counts them and digests them. It keeps none of them.

    The three kinds of line are asked for in their order; each ends with a newline. Members keep their
    order, so that a body read back is sent in the very order that was shown.
    """

    totals: Totals
    """After the footer."""

    def __init__(self, head: Head) -> None:
        self._actions = dict.fromkeys((action.value for action in Action), 0)
        self._requests = self._requests_max = 0
        self._reads = head.scope.reads
        self.header = _line(_encode_head(head))
        self._sha = sha256(self.header.encode("ascii"))

    def change(self, change: Change) -> str:
        line = line_of(change)
        self.count_line(change, line)
        return line.decode("ascii")

    def count_line(self, change: Change, line: bytes) -> None:
        """Count a change whose line was written before."""
        self._sha.update(line)
        self._actions[change.action.value] += 1
        self._requests += change.requests_least
        self._requests_max += change.requests_max

    def count_lines(self, lines: PlanLines) -> None:
        """Count the lines of several changes."""
        self._sha.update(lines.text)
        for action, number in lines.actions.items():
            self._actions[action.value] += number
        self._requests += lines.requests
        self._requests_max += lines.requests_max

    def footer(self, orphans: Iterable[str], hazards: Iterable[Hazard], *, unchanged: int) -> str:
        named = list(orphans)
        summary = self._actions | {
            "unchanged": unchanged,
            "orphans": len(named),
            "requests": self._requests,
            "requests_max": self._requests_max,
        }
        if self._reads:
            summary["reads"] = self._reads
        footer: dict[str, Json] = {
            "orphans": named,
            "hazards": [_encode_hazard(hazard) for hazard in hazards],
            "summary": summary,
        }
        self._sha.update(_line(footer).encode("ascii"))
        self.totals = Totals(summary, f"sha256:{self._sha.hexdigest()}")
        return _line({**footer, "digest": self.totals.digest})


class PlanLines(NamedTuple):
    """Changes in a row, as they are written down."""

    text: bytes
    """ASCII."""
    digests: bytes
    """The digests of the lines: see `line_digest`."""
    actions: Mapping[Action, int]
    requests: int
    requests_max: int

    @classmethod
    def of(cls, changes: Sequence[Change]) -> PlanLines:
        """The lines of changes."""
        lines = [*map(line_of, changes)]
        return cls(
            b"".join(lines),
            b"".join(map(line_digest, lines)),
            Counter([change.action for change in changes]),
            sum([change.requests_least for change in changes]),
            sum([change.requests_max for change in changes]),
        )


def line_of(change: Change) -> bytes:
    """A change as a line of a plan."""
    source = change.source
    line = {
        "address": change.address,
        "action": change.action,
        "reason": change.reason,
        "hazards": [_encode_hazard(hazard) for hazard in change.hazards],
        "source": None if source is None else {"file": source.file, "line": source.line},
        "revision": change.revision,
        "fields": [_encode_field(field) for field in change.fields],
        "requests": [_encode_request(request) for request in change.requests],
        **_rare_members(change),
    }
    data = spelled_exactly(line, numbers=_numbers(change))
    if b"##" in data:
        data = unobeyed(data.decode("ascii")).encode("ascii")
    return data + b"\n"


def _numbers(change: Change) -> list[Json]:
    """The parts of a change that may hold numbers which are not whole."""
    return [
        *[field.before for field in change.fields],
        *[field.after for field in change.fields],
        *[request.body for request in change.requests],
    ]


def assemble_plan(
    head: Head,
    *,
    changes: Changes,
    orphans: tuple[str, ...] = (),
    unchanged: int = 0,
    hazards: tuple[Hazard, ...] = (),
    totals: Totals | None = None,
) -> Plan:
    """The plan of some changes in the order of their addresses. Without ``totals`` its lines are encoded
    to count and digest them."""
    if totals is None:
        encoder = PlanEncoder(head)
        for change in changes:
            encoder.change(change)
        encoder.footer(orphans, hazards, unchanged=unchanged)
        totals = encoder.totals
    return Plan(
        environment=head.environment,
        mode=head.mode,
        lineage=head.lineage,
        serial=head.serial,
        application=head.application,
        changes=changes,
        orphans=orphans,
        unchanged=unchanged,
        totals=totals,
        hazards=hazards,
        scope=head.scope,
        target=head.target,
    )


def to_lines(plan: Plan) -> Iterator[str]:
    """A plan as JSON Lines: a header, a line per change, a footer. Each ends with a newline."""
    encoder = PlanEncoder(plan.head)
    yield encoder.header
    for change in plan.changes:
        yield encoder.change(change)
    yield encoder.footer(plan.orphans, plan.hazards, unchanged=plan.unchanged)


def encode(plan: Plan) -> dict[str, Json]:
    """A plan as one JSON object: schema ``plan.schema.json``."""
    header, *changes, footer = (json.loads(line) for line in to_lines(plan))
    return {**header, "changes": changes, **footer}


Conforms: TypeAlias = Callable[[str, Any], bool]
"""Whether a ``header``, ``change`` or ``footer`` (named first) has the form that its schema gives it."""


def from_lines(lines: Iterable[str], conforms: Conforms = lambda kind, data: True) -> Plan:
    """The plan that `to_lines` wrote, or the one object that `encode` made, in memory.

    A digest can be made by anybody, so what comes from outside is to pass ``conforms``.

    Raises Refused for a plan that is truncated, altered, masked, of a newer format, or no plan at all.
    """
    changes: list[Change] = []
    plan = _checked(lines, conforms, on_change=lambda change, line: changes.append(change))
    return replace(plan, changes=tuple(changes))


def from_stream(lines: Callable[[], Iterable[bytes]], conforms: Conforms) -> Plan:
    """The same plan, its changes decoded anew each time that they are gone through.

    ``lines`` gives the lines from the first one on, as often as it is called. All of them are checked
    here, once; of each change a digest is kept, so that going through the changes later yields what
    was checked or raises Refused.
    """
    digests = bytearray()
    plan = _checked(
        (line.decode("utf-8") for line in lines()),
        conforms,
        on_change=lambda change, line: digests.extend(line_digest(line)),
    )
    return replace(plan, changes=Stream(lines, len(digests) // DIGEST_SIZE, digests=bytes(digests)))


class Stream:
    """Changes on the lines of a plan that is kept elsewhere; ``digests`` are those of the lines."""

    def __init__(
        self, lines: Callable[[], Iterable[bytes]], count: int, *, digests: bytes | None = None
    ) -> None:
        self._lines = lines
        self._count = count
        self._digests = digests

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Change]:
        lines: Iterator[bytes] = (
            line + b"\n" for text in self._lines() if (line := text.strip(_BLANKS))
        )
        if _holds_all(next(lines, b"")):
            parts = _lines_of(text.decode("utf-8") for text in self._lines())
            next(parts)
            lines = map(_line_bytes, parts)
        digests, position = self._digests, 0
        for line in islice(lines, self._count):
            if digests is not None and digests[
                position * DIGEST_SIZE : (position + 1) * DIGEST_SIZE
            ] != line_digest(line):
                break
            position += 1
            yield _decode_change(unpacked_exactly(line))
        if position != self._count:
            raise Refused("the plan was altered while it was in use", hint="Plan again with --out.")


DIGEST_SIZE = 16
"""Bytes of a digest that tells one line from another."""


def line_digest(line: bytes) -> bytes:
    """The digest that tells a line of a plan from every other."""
    return blake2b(line, digest_size=DIGEST_SIZE).digest()


def _checked(
    lines: Iterable[str], conforms: Conforms, *, on_change: Callable[[Change, bytes], None]
) -> Plan:
    """A plan without its changes, each of which is given to ``on_change`` with its line."""

    def read_as(kind: str, line: str) -> Any:
        data = json.loads(line)
        if not conforms(kind, data):
            raise ValueError
        return data

    try:
        read = _lines_of(lines)
        first = next(read)
        header = json.loads(first)
        version = header.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise Refused(
                f"the plan has format {version}, this program reads up to {FORMAT_VERSION}",
                hint="Upgrade reconcile, or plan again.",
            )
        if version != FORMAT_VERSION:
            raise Refused("this is not a plan", hint="Plan again with --out.")
        if header.get("masked"):
            raise Refused(
                "this plan is masked: made to be read, it does not hold what would be sent",
                hint="Save the plan itself with --out.",
            )
        head = _decode_head(read_as("header", first))
        encoder = PlanEncoder(head)
        last = next(read)
        for line in read:
            change = _decode_change(read_as("change", last))
            check_change(change)
            data = _line_bytes(last)
            encoder.count_line(change, data)
            on_change(change, data)
            last = line
        footer = json.loads(last)
        if "digest" not in footer:
            raise Refused("the plan is truncated", hint="Plan again with --out.")
        footer = read_as("footer", last)
        orphans = tuple(footer["orphans"])
        unchanged = footer["summary"]["unchanged"]
        hazards = _decode_hazards(footer["hazards"])
        footer_line = encoder.footer(orphans, hazards, unchanged=unchanged)
        intact = first == encoder.header and last == footer_line
    except _NOT_A_PLAN:
        raise Refused(
            "this is not a plan that reconcile wrote", hint="Plan again with --out."
        ) from None
    if not intact:
        raise Refused(
            "the plan was altered after it was written: its digest does not match",
            hint="Plan again, and apply what was reviewed.",
        )
    return assemble_plan(
        head,
        changes=(),
        orphans=orphans,
        unchanged=unchanged,
        hazards=hazards,
        totals=encoder.totals,
    )


_NOT_A_PLAN = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError),
    *(StopIteration, RuntimeError),  # too few lines: here, and inside of a generator
)


def _lines_of(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a plan in either format. Only the one object is taken into memory."""
    read = _whole(lines)
    first = next(read, "")
    if not _holds_all(first):
        yield first
        yield from read
        return
    data = json.loads("".join(chain([first], read)))
    data.pop("blame", None)  # said beside the plan; no part of it
    footer = {name: data.pop(name) for name in ("orphans", "hazards", "summary", "digest")}
    changes = data.pop("changes")
    for part in (data, *changes, footer):
        yield _line(part)


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Lines that hold something, each ended by one newline."""
    return (f"{text}\n" for line in lines if (text := line.strip(_BLANKS.decode())))


_BLANKS = b" \t\r\n"


def _line_bytes(line: str) -> bytes:
    return line.encode("utf-8", "surrogatepass")


def _holds_all(first: str | bytes) -> bool:
    """Whether a first line begins the one object, rather than being the header."""
    try:
        data = json.loads(first)
    except ValueError:
        return True
    return isinstance(data, dict) and "changes" in data


_encoded = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _line(data: Json) -> str:
    return unobeyed(_encoded(data)) + "\n"


def _encode_head(head: Head) -> dict[str, Json]:
    scope = {name: value for name, value in head.scope._asdict().items() if value}
    if head.scope.refresh is ReadScope.ALL:
        scope["refresh"] = True
    target = head.target._asdict() if head.target is not None else {}
    target = {name: value for name, value in target.items() if value is not None}
    return {
        "format_version": FORMAT_VERSION,
        "environment": head.environment,
        "mode": head.mode.value,
        **({"target": target} if target else {}),
        "state": {
            "lineage": head.lineage,
            "serial": head.serial,
            "application": head.application,
        },
        **({"scope": scope} if scope else {}),
    }


def _decode_head(data: dict[str, Any]) -> Head:
    state, scope = data["state"], dict(data.get("scope", {}))
    if "refresh" in scope:
        is_all = scope["refresh"] is True
        scope["refresh"] = ReadScope.ALL if is_all else ReadScope(scope["refresh"])
    for name in ("select", "exclude", "paths"):
        scope[name] = tuple(scope.get(name, ()))
    return Head(
        data["environment"],
        Mode(data["mode"]),
        state["lineage"],
        state["serial"],
        state["application"],
        Scope(**scope),
        Target(**data["target"]) if "target" in data else None,
    )


def _rare_members(change: Change) -> dict[str, Json]:
    """The members of a line that are left out where they have their default, as in most changes."""
    return {
        **({"labels": list(change.labels)} if change.labels else {}),
        **({"protect": True} if change.protect else {}),
        **({"template": change.template} if change.template else {}),
        **({"lifetime": change.lifetime} if change.lifetime is not None else {}),
        **({"exclusive": list(change.exclusive)} if change.exclusive is not None else {}),
        **({"from_environment": list(change.from_environment)} if change.from_environment else {}),
        **(
            {"was_from_environment": list(change.was_from_environment)}
            if change.was_from_environment
            else {}
        ),
        **({"renamed_from": change.renamed_from} if change.renamed_from else {}),
    }


def _encode_field(field: FieldChange) -> dict[str, Json]:
    data: dict[str, Json] = {
        "path": field.path,
        "op": field.op,
        "before": field.before,
        "after": field.after,
        "basis": field.basis,
        "line": field.line,
    }
    if field.file is not None:
        data["file"] = field.file
    return data


def _encode_hazard(hazard: Hazard) -> dict[str, Json]:
    data: dict[str, Json] = {"kind": hazard.kind, "message": hazard.message}
    if hazard.file:
        data |= {"file": hazard.file, "number": hazard.number}
    return data


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
    if request.if_needed:
        data["if_needed"] = True
    if request.expects_none:
        data["expects_none"] = True
    return data


def _decode_hazards(data: Any) -> tuple[Hazard, ...]:
    return tuple(
        Hazard(
            hazard_kind(item["kind"]), item["message"], item.get("file", ""), item.get("number", 0)
        )
        for item in data
    )


# Looking up is many times faster than calling an enumeration.
_ACTIONS = {action.value: action for action in Action}
_OPS = {op.value: op for op in Op}
_BASES = {basis.value: basis for basis in Basis}


def _decode_change(data: dict[str, Any]) -> Change:
    source = data["source"]
    return Change(
        address=data["address"],
        action=_ACTIONS[data["action"]],
        reason=data["reason"],
        fields=tuple(
            [
                FieldChange._make(
                    (
                        item["path"],
                        _OPS[item["op"]],
                        item["before"],
                        item["after"],
                        _BASES[item["basis"]],
                        item["line"],
                        item.get("file"),
                    )
                )
                for item in data["fields"]
            ]
        ),
        requests=tuple(
            Request(
                method=item["method"],
                path=item["path"],
                headers=item["headers"],
                body=item.get("body"),
                fallback=item.get("fallback"),
                if_needed=item.get("if_needed", False),
                expects_none=item.get("expects_none", False),
            )
            for item in data["requests"]
        ),
        hazards=_decode_hazards(data["hazards"]),
        source=Source(source["file"], source["line"]) if source else None,
        revision=data["revision"],
        labels=tuple(data.get("labels", ())),
        protect=data.get("protect", False),
        template=data.get("template", ""),
        lifetime=data.get("lifetime"),
        exclusive=tuple(data["exclusive"]) if "exclusive" in data else None,
        from_environment=tuple(data.get("from_environment", ())),
        was_from_environment=tuple(data.get("was_from_environment", ())),
        renamed_from=data.get("renamed_from", ""),
    )
