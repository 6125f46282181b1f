"""A plan as one HTML page that needs nothing else: no network, no other file.

Jinja2 escapes every value. The changes are embedded as JSON; the page's script turns them into text
nodes, a hundred at a time, so that ten thousand open as quickly as ten. A policy in the page allows this
one style and this one script, by their digests, and nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from reconciler import __version__
from reconciler.core.plan import Action, Change, HazardSeverity
from reconciler.reports.view import (
    ACTIONS_BY_SEVERITY,
    REFUSED,
    ChangeView,
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


def plan_html(view: PlanView) -> str:
    """A plan as a page: search, filters, side by side, requests on demand."""
    style, script = load_template("plan.css"), load_template("plan.js")
    grave = [hazard for hazard in view.hazards if not hazard.is_summed]
    summary = view.summary
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
        grave=grave,
        summed=[hazard for hazard in view.hazards if hazard.is_summed],
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
        data=[_data(view.change(change), severity_rank(change)) for change in view.plan.changes],
    )


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
