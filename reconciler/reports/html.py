"""A plan as one HTML page that needs nothing else: no network, no other file.

Jinja2 escapes every value. The changes are embedded as JSON; the page's script turns them into text
nodes, a hundred at a time, so that ten thousand open as quickly as ten. A policy in the page allows this
one style and this one script, by their digests, and nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from reconciler import __version__
from reconciler.core.plan import Action, Change, HazardSeverity
from reconciler.core.rules import Rule
from reconciler.reports.tally import GroupKey, group_key
from reconciler.reports.view import (
    ACTIONS_BY_SEVERITY,
    REFUSED,
    ChangeView,
    HazardView,
    PlanView,
    severity_rank,
)
from reconciler.reports.wording import count
from reconciler.values import shown

_FEW, _MANY = 5, 200
"""Hazards that are visible at once, and that the list holds at all; the filter finds the others."""
_MOST_ADDRESSES = 8
"""Profiles that are named in the facts above the list."""
_MOST_ORPHANS = 10
_MOST_PLAIN = 500
"""Changes that a reader sees without scripts."""


@cache
def load_template(name: str) -> str:
    """A file of the page: ``plan.html``, ``plan.css`` or ``plan.js``."""
    return (Path(__file__).parent / "templates" / name).read_text("utf-8")


def plan_html(view: PlanView, *, explained: Mapping[str, Rule] | None = None) -> str:
    """A plan as a page: search, filters, side by side, requests on demand. ``explained`` has the kinds of
    hazards."""
    style, script = load_template("plan.css"), load_template("plan.js")
    hazards = list(_explained(view.hazards, explained or {}))
    summary = view.summary
    groups = _Groups(view)
    return _template().render(
        view=view,
        count=count,
        refused=REFUSED,
        policy=(
            f"default-src 'none'; style-src '{_source(style)}'; script-src '{_source(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        style=style,
        script=script,
        tiles=[(action.value, summary[action]) for action in ACTIONS_BY_SEVERITY],
        grave=[each for each in hazards if not each[0].is_summed],
        summed=[each for each in hazards if each[0].is_summed],
        few=_FEW,
        many=_MANY,
        orphans=[
            (shown(address), view.orphan_author(address))
            for address in view.orphans[:_MOST_ORPHANS]
        ],
        lineage=shown(view.plan.lineage or ""),
        who=[(shown(change.address), change.action.value) for change in _gravest(view)],
        plain=list(islice(view.changes, _MOST_PLAIN)),
        view_count=sum(summary[action] for action in Action),
        version=__version__,
        data={
            "changes": [groups.data(change) for change in view.plan.changes],
            "groups": groups.heads,
        },
    )


def _explained(
    hazards: Iterable[HazardView], explained: Mapping[str, Rule]
) -> Iterator[tuple[HazardView, Rule | None]]:
    """Hazards, the first of each kind with its explanation."""
    kinds: set[str] = set()
    for hazard in hazards:
        yield hazard, None if hazard.kind in kinds else explained.get(hazard.kind)
        kinds.add(hazard.kind)


class _Groups:
    """The changes of a plan as data, and the groups of those that a template made."""

    def __init__(self, view: PlanView) -> None:
        self.heads: list[dict[str, Any]] = []
        """What the changes of each group have in common."""
        self._view = view
        self._numbers: dict[GroupKey, int] = {}

    def data(self, change: Change) -> dict[str, Any]:
        """A change, with the number of its group if it has one."""
        rank = severity_rank(change)
        return {**_data(self._view.change(change), rank), "group": self._group(change, rank)}

    def _group(self, change: Change, rank: int) -> int | None:
        key = group_key(change)
        if key is None or self._view.groups[key].size < 2:
            return None
        if key not in self._numbers:
            self._numbers[key] = len(self.heads)
            self.heads.append(_data(self._view.group(change), rank))
        return self._numbers[key]


def _gravest(view: PlanView) -> list[Change]:
    ranked = (
        (severity_rank(change), place, change) for place, change in enumerate(view.plan.changes)
    )
    return [
        change for _, _, change in nsmallest(_MOST_ADDRESSES, ranked, key=lambda item: item[:2])
    ]


def _data(change: ChangeView, rank: int) -> dict[str, Any]:
    return {
        "rank": rank,
        "symbol": change.symbol,
        "address": change.address,
        "action": change.action.value,
        "reason": change.reason,
        "labels": change.labels,
        "protect": change.protect,
        "hazards": [
            (hazard.kind, hazard.message, hazard.severity is HazardSeverity.NAMED)
            for hazard in change.hazards
        ],
        "fields": [
            (
                field.mark,
                field.path,
                field.before,
                field.after,
                field.basis.value,
                field.line,
                field.author,
            )
            for field in change.fields
        ],
        "requests": ["\n".join(lines) for lines in change.requests],
        "place": change.place,
        "link": change.link,
        "origin": change.author,
    }


def _source(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment.from_string(load_template("plan.html"))
