"""Findings as the index keeps them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from reconciler.errors import Diagnostic, QuotedValue, Severity, Source


def encode_findings(findings: Sequence[Diagnostic]) -> str:
    """Findings as JSON; `decode_findings` is the reverse."""
    return json.dumps(
        [
            [
                *(each.severity.value, each.rule, each.message, each.source, each.hint),
                *(each.values, each.hint_values),
            ]
            for each in findings
        ]
    )


def decode_findings(text: str) -> Iterator[Diagnostic]:
    """The reverse of `encode_findings`."""
    for severity, rule, message, source, hint, values, hint_values in json.loads(text):
        yield Diagnostic(
            Severity(severity),
            rule,
            message,
            Source(*source),
            hint,
            tuple(QuotedValue(*value) for value in values),
            tuple(QuotedValue(*value) for value in hint_values),
        )
