"""Plans and findings for builds: GitHub annotations, SARIF, JUnit, GitLab code quality. Pure.

What these formats mean: GitHub's workflow commands, SARIF 2.1.0 (OASIS), JUnit's XML as Jenkins and
GitLab read it, GitLab's code quality report and its Terraform report.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappush, heappushpop
from urllib.parse import quote
from xml.etree import ElementTree

from reconciler.commands import Command
from reconciler.core.plan import Action, Change, HazardScope, HazardSeverity
from reconciler.core.rules import Rule
from reconciler.errors import Diagnostic, Severity
from reconciler.reports.explanations import rule_markdown, rule_text
from reconciler.reports.style import Pen
from reconciler.reports.view import ChangeView, Links, PlanView, severity_rank
from reconciler.reports.wording import count
from reconciler.values import Json, shown, spelled

_MOST_OF_A_KIND = 10
"""Annotations of each kind that GitHub keeps for a step; it silently drops the rest."""
_LONGEST = 1_000
"""Characters of a message."""


@dataclass(frozen=True, slots=True)
class _Note:
    """An annotation: ``error``, ``warning`` or ``notice``, at a line of a file (0: none)."""

    kind: str
    title: str
    message: str
    file: str = ""
    line: int = 0
    column: int = 0


# --- GitHub annotations --------------------------------------------------------------------------


def plan_annotations(view: PlanView) -> str:
    """A plan as workflow commands of GitHub: the gravest changes first, and a line with the totals last.

    Deletions and what apply refuses are errors, other hazards warnings, the rest notices.
    """
    notes = [
        _Note(
            "error" if hazard.refused else "warning",
            title=hazard.kind,
            message=hazard.sentence,
            file=view.links.path(hazard.file) if hazard.file else "",
        )
        for hazard in view.hazards
        if hazard.scope is not HazardScope.CHANGE
    ]
    notes += [
        _Note("warning", hazard.kind, hazard.sentence)
        for hazard in view.hazards
        if hazard.is_summed
    ]
    kinds: Counter[str] = Counter()
    worst: dict[str, list[tuple[int, int, Change]]] = defaultdict(list)
    for position, change in enumerate(view.leaders):
        kind = _kind(change)
        kinds[kind] += 1
        keep = heappush if kinds[kind] <= _MOST_OF_A_KIND else heappushpop
        keep(worst[kind], (-severity_rank(change), -position, change))
    total = kinds + Counter(note.kind for note in notes)
    for kind, heap in worst.items():
        notes += [
            _change_note(view.group(change), kind=kind, links=view.links)
            for _, _, change in sorted(heap, key=lambda item: item[:2], reverse=True)
        ]
    return "".join(f"{line}\n" for line in [*_annotations(notes, total), *_closing(view)])


def _closing(view: PlanView) -> Iterator[str]:
    """The last lines of the log: what a reviewer needs beside the annotations."""
    if view.is_idle_sweep:
        yield "reconcile: Nothing has expired."
        return
    yield f"reconcile: Plan for {view.environment}: {view.effect}. {view.digest}"
    sentences = (f"{view.planned}." if view.planned else "", view.blindness)
    undo = f"To undo: {view.undo}" if view.undo else ""
    for sentence in filter(None, (*sentences, undo)):
        yield f"reconcile: {sentence}"


def diagnostics_annotations(diagnostics: Sequence[Diagnostic], links: Links | None = None) -> str:
    """Findings as workflow commands of GitHub: errors first, and a line with the totals last."""
    place = links or Links()
    ordered = sorted(diagnostics, key=lambda item: (not item.is_error, item.sort_key()))
    notes = [
        _Note(
            str(item.severity),
            title=item.rule,
            message=f"{_sentence(item)} ({_explain(item.rule)})",
            file=place.path(item.source.file),
            line=item.source.line,
            column=item.source.column,
        )
        for item in ordered
    ]
    total = Counter(note.kind for note in notes)
    closing = f"reconcile: {count(total['error'], 'error')}, {count(total['warning'], 'warning')}."
    return "".join(f"{line}\n" for line in [*_annotations(notes, total), closing])


def _explain(rule: str) -> str:
    return Command.of("explain", rule, is_global=False).text()


def _kind(change: Change) -> str:
    if change.action is Action.DELETE:
        return "error"
    return "warning" if severity_rank(change) <= 2 and change.hazards else "notice"


def _change_note(change: ChangeView, *, kind: str, links: Links) -> _Note:
    marks = [f"{field.mark} {field.path}" for field in change.fields]
    dangers = [
        hazard.message for hazard in change.hazards if hazard.severity is HazardSeverity.NAMED
    ]
    file, line = _changed_place(change)
    return _Note(
        kind,
        title=f"{change.action} {change.address}",
        message="; ".join(
            [
                change.reason,
                *dangers,
                *([", ".join(marks)] if marks else []),
                *([change.author] if change.author else []),
            ]
        ),
        file=links.path(file),
        line=line,
    )


def _changed_place(change: ChangeView) -> tuple[str, int]:
    """The file and line of what changes: of the first field that has a line, if the profile exists, else of
    the profile."""
    if change.action in (Action.UPDATE, Action.ADOPT, Action.LINK):
        for field in change.fields:
            if field.line:
                return field.file, field.line
    return change.file, change.line


def _annotations(notes: Iterable[_Note], total: Mapping[str, int]) -> Iterator[str]:
    """At most as many of each kind as GitHub keeps; the last one says how many are missing."""
    by_kind: dict[str, list[_Note]] = defaultdict(list)
    for note in notes:
        by_kind[note.kind].append(note)
    for kind in ("error", "warning", "notice"):
        more = total[kind] - _MOST_OF_A_KIND
        for note in by_kind[kind][: _MOST_OF_A_KIND - (more > 0)]:
            yield _annotation(note)
        if more > 0:
            message = f"and {more + 1:,} more of this kind; see the report of the plan"
            yield _annotation(_Note(kind, "reconcile", message))


def _annotation(note: _Note) -> str:
    where: dict[str, str] = {}
    if note.file:
        where["file"] = shown(note.file)
        if note.line:
            where["line"] = str(note.line)
        if note.column:
            where["col"] = str(note.column)
    where["title"] = shown(note.title)
    properties = ",".join(f"{name}={_property(value)}" for name, value in where.items())
    message = note.message if len(note.message) <= _LONGEST else f"{note.message[: _LONGEST - 1]}…"
    return f"::{note.kind} {properties}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# --- GitLab --------------------------------------------------------------------------------------


def plan_gitlab(view: PlanView) -> str:
    """The totals of a plan as GitLab's ``artifacts:reports:terraform``; it holds no values."""
    summary = view.summary
    return spelled(
        {
            "create": summary["create"],
            "update": sum(
                summary[action] for action in ("adopt", "update", "rename", "link", "forget")
            ),
            "delete": summary["delete"],
        }
    )


def diagnostics_gitlab(diagnostics: Sequence[Diagnostic], links: Links | None = None) -> str:
    """Findings as GitLab's ``artifacts:reports:codequality``."""
    place = links or Links()
    return (
        spelled(
            [
                {
                    "description": _sentence(item),
                    "check_name": item.rule,
                    "fingerprint": print_,
                    "severity": "major" if item.is_error else "minor",
                    "location": {
                        "path": shown(place.path(item.source.file)),
                        "lines": {"begin": max(item.source.line, 1)},
                    },
                }
                for item, print_ in _fingerprinted(diagnostics)
            ],
            indent=2,
        )
        + "\n"
    )


# --- SARIF ---------------------------------------------------------------------------------------


def diagnostics_sarif(
    diagnostics: Sequence[Diagnostic],
    *,
    version: str,
    explained: Mapping[str, Rule] | None = None,
    links: Links | None = None,
) -> str:
    """Findings as SARIF 2.1.0, for code scanning. ``version`` is this program's; ``explained`` has its
    rules."""
    place = links or Links()
    rules = sorted({item.rule for item in diagnostics})
    results: list[Json] = [
        {
            "ruleId": item.rule,
            "ruleIndex": rules.index(item.rule),
            "level": str(item.severity),
            "message": {"text": _sentence(item)},
            "locations": [{"physicalLocation": _physical(item, place)}],
            "partialFingerprints": {"reconcile/v1": print_},
        }
        for item, print_ in _fingerprinted(diagnostics)
    ]
    return (
        spelled(
            {
                "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
                "version": "2.1.0",
                "runs": [
                    {
                        "tool": {
                            "driver": {
                                "name": "reconcile",
                                "version": version,
                                "rules": [
                                    _sarif_rule(rule, (explained or {}).get(rule)) for rule in rules
                                ],
                            }
                        },
                        "columnKind": "unicodeCodePoints",
                        "originalUriBaseIds": {"ROOT": {"description": {"text": "the repository"}}},
                        "results": results,
                    }
                ],
            },
            indent=2,
        )
        + "\n"
    )


def _sarif_rule(name: str, rule: Rule | None) -> Json:
    """A rule with its whole text: GitHub shows it beside the finding."""
    if rule is None:
        return {"id": name, "shortDescription": {"text": name}}
    return {
        "id": name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "helpUri": rule.url,
        "help": {
            "text": rule_text(rule, Pen(False)).rstrip("\n"),
            "markdown": rule_markdown(rule),
        },
    }


def _physical(item: Diagnostic, links: Links) -> dict[str, Json]:
    path = quote(links.path(item.source.file).encode("utf-8", "surrogatepass"), safe="/")
    location: dict[str, Json] = {
        "artifactLocation": {"uri": path}
        if path.startswith("/")
        else {"uri": path, "uriBaseId": "ROOT"}
    }
    region: dict[str, Json] = {"startLine": max(item.source.line, 1)}
    if item.source.column:
        region["startColumn"] = item.source.column
    return {**location, "region": region}


# --- JUnit ---------------------------------------------------------------------------------------


def diagnostics_junit(diagnostics: Sequence[Diagnostic], *, documents: int) -> str:
    """Findings as JUnit's XML: a test case for each file with findings, and one for all the others.

    Errors fail their case, warnings are its output. ``documents`` is how many were read.
    """
    by_file: dict[str, list[Diagnostic]] = defaultdict(list)
    for item in diagnostics:
        by_file[item.source.file].append(item)
    suite = ElementTree.Element("testsuite", name="reconcile validate")
    failed = 0
    for file, findings in sorted(by_file.items()):
        case = ElementTree.SubElement(
            suite, "testcase", classname="reconcile.validate", name=shown(file), file=shown(file)
        )
        errors = [item for item in findings if item.is_error]
        if errors:
            failed += 1
            failure = ElementTree.SubElement(
                case, "failure", type=errors[0].rule, message=shown(_sentence(errors[0]))
            )
            failure.text = "\n".join(
                f"{shown(str(e.source))}: {shown(_sentence(e))}" for e in errors
            )
        warnings = [item for item in findings if item.severity is Severity.WARNING]
        if warnings:
            ElementTree.SubElement(case, "system-out").text = "\n".join(
                f"{shown(str(w.source))}: warning: {shown(_sentence(w))}" for w in warnings
            )
    ElementTree.SubElement(
        suite,
        "testcase",
        classname="reconcile.validate",
        name=f"{count(documents, 'document')} read",
    )
    suite.set("tests", str(len(by_file) + 1))
    suite.set("failures", str(failed))
    suite.set("errors", "0")
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


# --- shared --------------------------------------------------------------------------------------


def _sentence(item: Diagnostic) -> str:
    return (
        f"{shown(item.message)}. {shown(item.hint)}".strip() if item.hint else shown(item.message)
    )


def _fingerprinted(diagnostics: Sequence[Diagnostic]) -> Iterator[tuple[Diagnostic, str]]:
    """Each finding with a name that stays the same when lines move: a digest of file, rule and message, and
    a number among equal findings. GitLab drops findings that share a name."""
    repeats: Counter[tuple[str, str, str]] = Counter()
    for item in diagnostics:
        key = (item.source.file, item.rule, item.message)
        repeats[key] += 1
        text = "\0".join([*key, str(repeats[key])])
        yield item, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
