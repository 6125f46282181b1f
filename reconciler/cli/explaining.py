"""The command that explains rules: explain."""

from __future__ import annotations

from pathlib import Path

from reconciler.authoring.phrases import did_you_mean
from reconciler.cli.app import App
from reconciler.cli.outputs import print_or_write, result_stream
from reconciler.cli.streams import can_encode, columns, json_text
from reconciler.commands import Command
from reconciler.core.rules import load_rules
from reconciler.errors import Message, UsageError
from reconciler.reports.explanations import rule_text, rules_json, rules_text
from reconciler.reports.style import Pen


def explain(app: App, *, rule: str | None, format_: str, json_out: Path | None) -> None:
    """Prints all about one rule or kind of hazard, or the list of them.

    Raises UsageError for a name that none has.
    """
    rules = load_rules()
    if rule is not None and rule not in rules:
        raise _unknown(rule, [*rules])
    chosen = [*rules.values()] if rule is None else [rules[rule]]
    stream = result_stream(json_out, None, format_=format_)
    pen = Pen(app.uses_color(stream), not can_encode(stream, "→"), columns(stream))
    print_or_write(
        stream,
        text=lambda: rules_text(chosen, pen) if rule is None else rule_text(chosen[0], pen),
        data=lambda: json_text(rules_json(chosen)),
        format_=format_,
        json_out=json_out,
    )


def _unknown(rule: str, names: list[str]) -> UsageError:
    """The error about a name that no rule has. Whoever leaves out the group of a rule gets it named."""
    named = [name for name in names if name.rpartition("/")[2] == rule]
    meant = named[0] if named else did_you_mean(rule, names)
    listed = Command.of("explain", is_global=False)
    if meant is None:
        return UsageError(
            f"there is no rule {rule}", hint=Message.of("List them with ", listed, ".")
        )
    command = Command.of("explain", meant, is_global=False)
    return UsageError(f"there is no rule {rule}", hint=Message.of("Did you mean ", command, "?"))
