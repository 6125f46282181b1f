"""Rules and hazards explained: one of them, the list, and the page of all. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from reconciler.commands import Command
from reconciler.core.rules import Rule
from reconciler.reports.style import BOLD, DIM, GREEN, RED, Pen
from reconciler.values import Json, shown

HAZARDS = "hazards"
"""The group of the kinds of hazards, as the list and the page call it."""


def rule_text(rule: Rule, pen: Pen) -> str:
    """All about one rule, for a terminal."""
    lines = [pen.wrap(f"{rule.name}: {rule.title}").replace(rule.name, pen(rule.name, BOLD), 1)]
    lines += ["", pen.wrap(rule.why)]
    if rule.case:
        lines += ["", pen.wrap(f"For example: {rule.case}")]
    if rule.example:
        lines += ["", "For example:", "", *_indented(rule.example, pen, code=RED)]
    lines += ["", pen.wrap(f"To mend it: {rule.mend}")]
    if rule.mended:
        lines += ["", *_indented(rule.mended, pen, code=GREEN)]
    return "\n".join([*lines, ""])


def _indented(text: str, pen: Pen, *, code: str) -> Iterator[str]:
    for line in text.split("\n"):
        yield pen(f"    {shown(line)}", code)


def rules_text(rules: Iterable[Rule], pen: Pen) -> str:
    """A line for each rule, under the heading of its group."""
    rules = list(rules)
    width = max(len(rule.name) for rule in rules)
    lines = []
    for group, members in _groups(rules):
        lines.append(pen(group, BOLD))
        lines += [
            pen.wrap(f"  {rule.name:<{width}}  {rule.title}", " " * (width + 4)) for rule in members
        ]
        lines.append("")
    command = Command.of("explain", "RULE", is_global=False).text()
    return "\n".join([*lines, pen(f"`{command}` says all about one of them.", DIM), ""])


def rules_json(rules: Iterable[Rule]) -> Json:
    """The rules as JSON."""
    return {
        "format_version": 1,
        "rules": [
            {
                "rule": rule.name,
                "hazard": rule.is_hazard,
                "title": rule.title,
                "why": rule.why,
                "mend": rule.mend,
                "case": rule.case,
                "example": rule.example,
                "mended": rule.mended,
            }
            for rule in rules
        ],
    }


def rule_markdown(rule: Rule) -> str:
    """All about one rule, as Markdown without its heading."""
    parts = [f"*{rule.title[0].upper()}{rule.title[1:]}.* {rule.why}"]
    if rule.case:
        parts.append(f"Example: `{rule.case}`")
    if rule.example:
        parts.append(f"```yaml\n{rule.example}\n```")
    parts.append(f"**To mend it:** {rule.mend}")
    if rule.mended:
        parts.append(f"```yaml\n{rule.mended}\n```")
    return "\n\n".join(parts)


def rules_page(rules: Iterable[Rule]) -> str:
    """The page ``docs/rules.md``."""
    parts = [_INTRODUCTION]
    for group, members in _groups(rules):
        parts.append(f"## {group}")
        for rule in members:
            parts += [f"### {rule.name}", rule_markdown(rule)]
    return "\n\n".join(parts) + "\n"


def _groups(rules: Iterable[Rule]) -> Iterator[tuple[str, Sequence[Rule]]]:
    """Rules by the part of the name before the slash; the kinds of hazards come last."""

    def group(rule: Rule) -> str:
        return HAZARDS if rule.is_hazard else rule.name.partition("/")[0]

    for name, members in groupby(rules, key=group):
        yield name, list(members)


_INTRODUCTION = """\
# Rules and hazards

This page explains every rule of findings and every kind of hazard. `make docs` writes it from
`schemas/rules.json`. `reconcile explain RULE` prints the same at a terminal; `reconcile explain` lists all.

- A *finding* is about a file. Errors stop a plan. Warnings do not; `validate --strict` fails for them too.
- A *hazard* is a danger of a change, or of a plan as a whole. Some of them `apply` refuses."""
