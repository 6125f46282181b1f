"""A plan, or findings, as a comment of a review: GitHub's and GitLab's Markdown. Pure.

Text from files or from the API stands in code spans and fences only: there, neither GitHub nor GitLab
looks for markup, mentions, links, images or references. In a sentence that may hold such text, plain
words stay, and everything else becomes a code span.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from itertools import islice
from urllib.parse import quote

from reconciler.commands import Command
from reconciler.core.plan import Change, HazardSeverity, Op
from reconciler.errors import Diagnostic
from reconciler.reports.findings_text import ListedFinding, group_findings
from reconciler.reports.tally import count_by_severity
from reconciler.reports.view import (
    REFUSED,
    ChangeView,
    FieldView,
    HazardView,
    Links,
    PlanView,
    severity_rank,
)
from reconciler.reports.wording import count
from reconciler.values import shown

LIMIT = 65_000
"""Bytes. GitHub takes 65,536 characters and GitLab 1,000,000; there are never more of them than bytes."""
LEAST = 8_000
"""Bytes that hold the parts that are never cut."""

_MOST_ROWS = 1_000
_MOST_HAZARDS = 20
_MOST_ORPHANS = 20
_MOST_FIELDS = 6
_LONGEST_VALUE = 160
_LONGEST_NAME = 100
_LONGEST_SENTENCE = 300


def plan_markdown(view: PlanView, *, limit: int = LIMIT, show_requests: bool = False) -> str:
    """A plan as a comment of at most ``limit`` bytes.

    If it does not fit, the least severe changes are cut first; deletions and links stay longest. Totals,
    digest and command are never cut. The comment says what is missing.
    """
    head = "\n".join(_head(view)) + "\n"
    foot = "\n".join(_foot(view)) + "\n"
    room = limit - _size(head) - _size(foot) - 600
    body, cut = (
        _body(view, room=room, show_requests=show_requests) if not view.is_empty else ("", [])
    )
    note = f"\n> [!NOTE]\n> Cut to fit: {'; '.join(cut)}.\n" if cut else ""
    return head + body + note + foot


def diagnostics_markdown(
    diagnostics: Sequence[Diagnostic],
    *,
    environment: str,
    links: Links | None = None,
    limit: int = LIMIT,
) -> str:
    """Findings as a comment of at most ``limit`` bytes, errors first; it says how many are missing."""
    counts = count_by_severity(diagnostics)
    total = f"{count(counts.errors, 'error')}, {count(counts.warnings, 'warning')}"
    verdict = "**not valid**" if counts.errors else "valid"
    lines = [marker(environment), f"### Profile files: {verdict}", "", f"{total}.", ""]
    if diagnostics:
        lines += ["| | where | what | rule |", "| --- | --- | --- | --- |"]
    room = limit - _size("\n".join(lines)) - 200
    ordered = sorted(diagnostics, key=lambda item: (not item.is_error, item.sort_key()))
    grouped = group_findings(ordered)
    rows = list(_fitting((_finding_row(item, links or Links()) for item in grouped), room))
    lines += rows
    if len(rows) < len(grouped):
        lines += ["", f"Cut to fit: {len(rows):,} of {len(grouped):,} rows are shown."]
    if diagnostics:
        lines += ["", f"{code(_EXPLAIN)} explains a rule; {code(_ALL)} lists every finding."]
    return "\n".join(lines) + "\n"


def marker(environment: str, digest: str = "", *, since: str | None = None) -> str:
    """The hidden line that a later run finds the comment of an environment by, and reads its digest from."""
    name = quote(environment.encode("utf-8", "surrogatepass"), safe="")
    suffix = f" {digest}" if _DIGEST(digest) else ""
    if suffix and since is not None and _SINCE(since):
        suffix += f" since:{since}"
    return f"<!-- reconcile:plan:{name}{suffix} -->"


# --- the parts of a plan -------------------------------------------------------------------------


def _head(view: PlanView) -> Iterator[str]:
    yield marker(view.plan.environment, view.digest, since=view.plan.scope.since)
    name = code(_clipped(view.environment, _LONGEST_NAME))
    if view.is_idle_sweep:
        yield f"### Plan for {name}: nothing has expired"
    elif view.is_empty:
        yield f"### No changes. Plan for {name}: {view.effect}"
    else:
        yield f"### Plan for {name}: {view.effect}"
    yield ""
    if view.requests:
        yield f"{view.requests}."
    if view.planned:
        yield f"{_prose(view.planned)}."
    if view.scope:
        limits = "; ".join(_prose(_clipped(text, _LONGEST_SENTENCE)) for text in view.scope[:10])
        yield f"**This plan:** {limits}."
    if view.masked:
        yield f"Masked: {', '.join(view.masked)} values; equal ones have the same number."
    yield ""
    yield from _hazards(view.hazards)


def _hazards(hazards: Sequence[HazardView]) -> Iterator[str]:
    grave = [hazard for hazard in hazards if not hazard.is_summed]
    summed = [hazard for hazard in hazards if hazard.is_summed]
    if grave:
        yield "> [!CAUTION]"
        for hazard in grave[:_MOST_HAZARDS]:
            yield f"> - {_hazard_sentence(hazard)}"
        if len(grave) > _MOST_HAZARDS:
            kinds: dict[str, int] = {}
            for hazard in grave[_MOST_HAZARDS:]:
                kinds[hazard.kind] = kinds.get(hazard.kind, 0) + 1
            more = ", ".join(
                f"{number:,} {code(_clipped(shown(kind), _LONGEST_NAME))}"
                for kind, number in sorted(kinds.items())[:_MOST_FIELDS]
            )
            yield f"> - and {len(grave) - _MOST_HAZARDS:,} more: {more}"
        yield ""
    if summed:
        yield "> [!WARNING]"
        for hazard in summed[:_MOST_HAZARDS]:
            yield f"> - {_hazard_sentence(hazard)}"
        yield ""


def _hazard_sentence(hazard: HazardView) -> str:
    sentence = _prose(_clipped(hazard.message, _LONGEST_SENTENCE))
    if hazard.refused:
        return f"**{REFUSED.rstrip()}** {sentence}"
    names = [code(_clipped(address, _LONGEST_NAME)) for address in hazard.addresses]
    if len(names) == 1 == hazard.number:
        return f"{names[0]}: {sentence}"
    if not hazard.subject:
        return sentence
    more = [", …"] if hazard.number > len(names) else []
    some = f" ({', '.join(names)}{''.join(more)})" if names else ""
    return f"{count(hazard.number, 'profile')}{some}: {sentence}"


def _body(view: PlanView, *, room: int, show_requests: bool) -> tuple[str, list[str]]:
    # Of a group the requests are not the same.
    changes, view_of = (
        (view.plan.changes, view.change) if show_requests else (view.leaders, view.group)
    )
    total = 0

    def counted(changes: Iterable[Change]) -> Iterator[Change]:
        nonlocal total
        for change in changes:
            total += 1
            yield change

    chosen = [
        view_of(change)
        for _, _, change in nsmallest(
            _MOST_ROWS,
            (
                (severity_rank(change), position, change)
                for position, change in enumerate(counted(changes))
            ),
            key=lambda item: item[:2],
        )
    ]
    table = "\n| | profile | what changes | where |\n| --- | --- | --- | --- |\n"
    rows = list(_fitting(map(_row, chosen), room * (4 if total > len(chosen) else 5) // 10))
    room -= _size(table) + sum(_size(row) + 1 for row in rows)
    fence = "`" * max(3, 1 + _longest_run(chosen))
    opening = f"\n<details><summary>Every field, before and after</summary>\n\n{fence}diff\n"
    closing = f"{fence}\n\n</details>\n"
    details = list(_fitting(map(_detail, chosen), room - _size(opening + closing)))
    room -= _size(opening + closing) + sum(_size(detail) + 1 for detail in details)
    body = table + "".join(f"{row}\n" for row in rows)
    body += opening + "\n".join(details) + closing
    cut = []
    if len(rows) < total:
        cut.append(f"the table has {len(rows):,} of {count(total, 'change')}, the gravest first")
    if len(details) < total:
        cut.append(f"the details are of {len(details):,}")
    if show_requests:
        text, missing = _requests(chosen, room)
        body += text
        if missing or total > len(chosen):
            cut.append("some requests are left out")
    if cut:
        cut.append(
            "the whole plan is in the report beside this comment, or printed by "
            f"{code(_clipped(view.plan_command, 500))}"
        )
    return body, cut


def _requests(chosen: Sequence[ChangeView], room: int) -> tuple[str, bool]:
    texts = ["\n".join("\n".join(lines) for lines in change.requests) for change in chosen]
    fence = "`" * max(3, 1 + max((_run_of(text) for text in texts), default=0))
    opening = f"\n<details><summary>The exact requests</summary>\n\n{fence}http\n"
    closing = f"{fence}\n\n</details>\n"
    fitting = list(_fitting(texts, room - _size(opening + closing)))
    if not fitting:
        return "", bool(texts)
    body = "".join(f"{text}\n" for text in fitting if text)
    return opening + body + closing, len(fitting) < len(texts)


def _row(change: ChangeView) -> str:
    fields = [_field_link(field) for field in change.fields[:_MOST_FIELDS]]
    if len(change.fields) > _MOST_FIELDS:
        fields.append(f"and {len(change.fields) - _MOST_FIELDS:,} more")
    what = ", ".join(fields) or _prose(_clipped(change.reason, _LONGEST_SENTENCE))
    place = code(_clipped(change.place, _LONGEST_NAME)) if change.place else ""
    where = f"[{place}]({change.link})" if change.link else place
    author = f"<br>{_prose(_clipped(change.author, _LONGEST_SENTENCE))}" if change.author else ""
    address = code(_clipped(change.address, _LONGEST_NAME))
    cells = (f"`{change.symbol}` {change.action}", address, what, where + author)
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _field_link(field: FieldView) -> str:
    name = code(_clipped(field.path, _LONGEST_NAME))
    return f"[{name}]({field.link})" if field.link else name


def _detail(change: ChangeView) -> str:
    place = f"  {_clipped(change.place, _LONGEST_NAME)}" if change.place else ""
    lines = [f"@@ {_clipped(change.address, _LONGEST_NAME)}  {change.action}{place} @@"]
    lines.append(f"# {_clipped(change.reason, _LONGEST_SENTENCE)}")
    if change.author:
        lines.append(f"# {_clipped(change.author, _LONGEST_SENTENCE)}")
    lines += [
        f"# hazard: {_clipped(hazard.message, _LONGEST_SENTENCE)}"
        for hazard in change.hazards
        if hazard.severity is HazardSeverity.NAMED
    ]
    lines += [_diff_line(field) for field in change.fields]
    return "\n".join([*lines, ""])


def _diff_line(field: FieldView) -> str:
    marks = {"~": "!", "x": "#"}
    path = _clipped(field.path, _LONGEST_NAME)
    after = _clipped(field.after, _LONGEST_VALUE)
    if field.before is None:
        value = after
    elif field.op is Op.FORGET:
        value = _clipped(field.before, _LONGEST_VALUE)
    else:
        value = f"{_clipped(field.before, _LONGEST_VALUE)} → {after}"
    note = f"  ({field.note})" if field.note else ""
    author = f"  [{_clipped(field.author, _LONGEST_NAME)}]" if field.author else ""
    return f"{marks.get(field.mark, field.mark)} {path}  {value}{note}{author}"


def _foot(view: PlanView) -> Iterator[str]:
    orphans = len(view.orphans)
    if orphans:
        named = ", ".join(_orphan(view, address) for address in view.orphans[:_MOST_ORPHANS])
        more = f" and {orphans - _MOST_ORPHANS:,} more" if orphans > _MOST_ORPHANS else ""
        yield ""
        note = f" {view.orphan_note}." if view.orphan_note else ""
        yield f"**{count(orphans, 'orphan')}**, recorded but in no file, left alone: {named}{more}.{note}"
    for title, text in (
        ("How sure", view.certainty),
        ("Cannot be verified", view.blindness),
        ("To undo", view.undo),
    ):
        if text:
            yield ""
            yield f"**{title}:** {_prose(text)}"
    yield ""
    yield f"Digest {code(view.digest)}"
    if view.is_empty:
        return
    yield "Exactly this plan, or nothing, is applied by"
    yield ""
    command = _clipped(view.command, 2_000)
    fence = "`" * max(3, 1 + _run_of(command))
    yield f"{fence}sh"
    yield command
    yield fence


def _orphan(view: PlanView, address: str) -> str:
    name = code(_clipped(shown(address), _LONGEST_NAME))
    author = view.orphan_author(address)
    return f"{name} ({_prose(_clipped(author, _LONGEST_SENTENCE))})" if author else name


_SINCE = re.compile(r"[0-9a-f]{40,64}").fullmatch
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}").fullmatch


_EXPLAIN = Command.of("explain", "RULE", is_global=False).text()
_ALL = Command.of("validate", "--all").text()


def _finding_row(listed: ListedFinding, links: Links) -> str:
    diagnostic = listed.finding
    place = code(_clipped(shown(str(diagnostic.source)), _LONGEST_NAME))
    link = links.to(diagnostic.source)
    message = _prose(_clipped(shown(diagnostic.message), _LONGEST_SENTENCE))
    hint = _prose(_clipped(shown(diagnostic.hint), _LONGEST_SENTENCE))
    cells = (
        f"**{diagnostic.severity}**" if diagnostic.is_error else str(diagnostic.severity),
        f"[{place}]({link})" if link else place,
        message
        + (f"<br>{hint}" if hint else "")
        + (f"<br>and {listed.alike:,} more" if listed.alike else ""),
        code(_clipped(shown(diagnostic.rule), _LONGEST_NAME)),
    )
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


# --- safe text -----------------------------------------------------------------------------------


def code(text: str) -> str:
    """A line of text as a code span, whatever backticks it holds."""
    if not text.strip():
        text = f"{text}·"
    ticks = "`" * (1 + _run_of(text))
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _prose(text: str) -> str:
    """A sentence: plain words stay, every run of anything else becomes a code span."""
    parts: list[tuple[bool, list[str]]] = []
    for word in text.split(" "):
        plain = bool(_PLAIN(word)) and not _COMMIT(word)
        if parts and parts[-1][0] == plain:
            parts[-1][1].append(word)
        else:
            parts.append((plain, [word]))
    return " ".join(
        " ".join(words) if plain else _spans(words) for plain, words in parts if any(words)
    )


def _spans(words: list[str]) -> str:
    """A run of words that are not plain, as one code span; punctuation at its end stays outside."""
    text = " ".join(words)
    end = len(text.rstrip(",.;:"))
    return (code(text[:end]) if end else "") + (text[end:] if end and not _COMMAND(text) else "")


_PLAIN = re.compile(r"\(?[A-Za-z]+(?:['-][A-Za-z]+)*\)?[,.;:]?|[0-9]{1,6}[,;:]?|").fullmatch
_COMMIT = re.compile(r"\(?[a-f]{7,}\W?").match
_COMMAND = re.compile(r"[,.;:]{2,}$").search


def _cell(text: str) -> str:
    """Inside of a table a bar ends the cell, in a code span too, unless a backslash stands before it."""
    return text.replace("|", "\\|")


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _run_of(text: str) -> int:
    """The length of the longest run of backticks."""
    return max((len(run) for run in re.findall("`+", text)), default=0) if "`" in text else 0


def _longest_run(changes: Iterable[ChangeView]) -> int:
    return max((_run_of(_detail(change)) for change in changes), default=0)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _fitting(texts: Iterable[str], room: int) -> Iterator[str]:
    """As many texts from the first on as fit into so many bytes, a line end after each."""
    for text in islice(texts, _MOST_ROWS):
        room -= _size(text) + 1
        if room < 0:
            return
        yield text
