"""Writes the pages of ``docs/`` that are made from the program.

``python -m tests.support.generated_pages``
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from reconciler.cli.main import main
from reconciler.core.rules import load_rules
from reconciler.reports.explanations import rules_page
from reconciler.resources import load_schema

DOCS = Path(__file__).parent.parent.parent / "docs"
WRITTEN = "`make docs` writes this page from"

COMMANDS = f"""\
# Command line

This page lists the help text of every command. {WRITTEN} the program itself.

- The options of the program, such as `--env`, may stand before the command and after it.
- `-` as a file is standard input or standard output. `--json` prints the result as JSON, `--json-out FILE`
  writes it beside the text.
- `reconcile completion bash|zsh|fish` prints the script by which a shell completes commands, options,
  environments, addresses, labels, runs and locks.
- `[env var: …]` names the environment variable that sets an option.
- Results go to standard output, everything else to standard error. With a JSON format, standard output
  holds only JSON.
- The [README](../README.md#exit-codes) explains the exit codes.
"""

CONFIGURATION = f"""\
# Configuration

The configuration is `reconcile.yaml`. {WRITTEN} its schema, `schemas/config.schema.json`.

- Commands look for the file in the working directory and then upwards, within the repository.
  `--config` names another one.
- Paths are relative to the file, and stay in the project.
- A checkout does not say alone where a key goes or what profiles read: see [Trust](trust.md).
- The file never holds a secret: it names the environment variables that do.
"""

FORMATS = f"""\
# JSON formats

This page lists the members of each JSON document that `reconcile` prints. {WRITTEN} the schemas below
`schemas/`, which are part of the package. Ignore members that you do not know: later versions add some.
[Output formats](formats.md) says which option prints what.
"""

FORMAT_SCHEMAS = ("plan", "findings", "drift", "state")
"""The schemas of what is printed, in the order of the page."""


# --- the command line ----------------------------------------------------------------------------


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, with their full names."""
    yield name, command
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            yield from commands(command.commands[child], f"{name} {child}")


def command_page() -> str:
    parts = [COMMANDS]
    for name, command in commands(main, "reconcile"):
        context = click.Context(
            command, info_name=name, terminal_width=100, **main.context_settings
        )
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


# --- schemas -------------------------------------------------------------------------------------


class Schema:
    """A JSON Schema whose members are listed as a table."""

    def __init__(self, name: str) -> None:
        self.root = load_schema(name)

    def resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """A node with the definition that it refers to. Its own members win."""
        while "$ref" in node:
            target: Any = self.root
            for word in node["$ref"].removeprefix("#/").split("/"):
                target = target[word]
            node = {**target, **{name: each for name, each in node.items() if name != "$ref"}}
        return node

    def rows(
        self, node: Mapping[str, Any], prefix: str = "", *, above: tuple[str, ...] = ()
    ) -> Iterator[tuple[str, str, str]]:
        """Path, type and meaning of every member below a node. A definition inside itself is not listed."""
        for name, member in node.get("properties", {}).items():
            yield from self._row(f"{prefix}{name}", member, above=above)
        others = node.get("additionalProperties")
        if isinstance(others, dict) and others:
            yield from self._row(f"{prefix}NAME", others, above=above)

    def _row(
        self, path: str, member: Mapping[str, Any], *, above: tuple[str, ...]
    ) -> Iterator[tuple[str, str, str]]:
        reference = member.get("$ref", "")
        if reference and reference in above:
            return
        above = (*above, reference) if reference else above
        node = self.resolved(member)
        yield path, self._type(node), node.get("description", "")
        yield from self.rows(node, f"{path}.", above=above)
        items = node.get("items")
        if isinstance(items, dict):
            inner = () if items.get("$ref", "") in above else (*above, items.get("$ref", ""))
            if inner:
                yield from self.rows(self.resolved(items), f"{path}[].", above=inner)

    def _type(self, node: Mapping[str, Any]) -> str:
        if "enum" in node:
            return ", ".join(_code(each) for each in node["enum"])
        if "const" in node:
            return _code(node["const"])
        for word in ("anyOf", "oneOf"):
            if word in node:
                kinds = [self._type(self.resolved(each)) for each in node[word]]
                return " or ".join(dict.fromkeys(kind for kind in kinds if kind))
        kind = node.get("type", "")
        return " or ".join(kind) if isinstance(kind, list) else str(kind)

    def table(self, node: Mapping[str, Any], prefix: str = "") -> str:
        lines = ["| member | type | meaning |", "| --- | --- | --- |"]
        for path, kind, meaning in self.rows(node, prefix):
            lines.append(f"| `{path}` | {_cell(kind)} | {_cell(meaning)} |")
        return "\n".join(lines)


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


_WORDS_OF_CODE = re.compile(
    r"(?<![\w`])(--[a-z][\w-]*|[A-Z]+_[A-Z_]*[A-Z]|\*\.\w+|\$?\{[\w.]+\}|[a-z]+_[a-z_]+)(?![\w`])"
)


def _cell(text: str) -> str:
    """Text of a schema as a cell. Options, variables, patterns and names of fields are set as code."""
    parts = re.split(r"(`[^`]*`)", text.replace("\n", " "))
    parts = [part if part.startswith("`") else _WORDS_OF_CODE.sub(r"`\1`", part) for part in parts]
    parts = re.split(r"(`[^`]*`)", "".join(parts))
    return "".join(
        part if part.startswith("`") else re.sub(r"([|*<>_\[\]$])", r"\\\1", part) for part in parts
    )


def configuration_page() -> str:
    schema = Schema("config.schema")
    general = {**schema.root, "properties": dict(schema.root["properties"])}
    environments = general["properties"].pop("environments")
    environment = schema.resolved(environments["additionalProperties"])
    return "\n".join(
        [
            CONFIGURATION,
            "## Settings for all environments\n",
            schema.table(general) + "\n",
            "## Settings of an environment\n",
            "Each stands below `environments` and the name of the environment.\n",
            schema.table(environment) + "\n",
        ]
    )


def format_page() -> str:
    parts = [FORMATS]
    for name in FORMAT_SCHEMAS:
        schema = Schema(f"{name}.schema")
        title = schema.root.get("title", name)
        parts += [f"## {title}\n", f"{_cell(schema.root.get('description', ''))}\n"]
        parts.append(schema.table(schema.resolved(schema.root)) + "\n")
    return "\n".join(parts)


PAGES: Mapping[Path, Callable[[], str]] = {
    DOCS / "cli.md": command_page,
    DOCS / "configuration.md": configuration_page,
    DOCS / "json.md": format_page,
    DOCS / "rules.md": lambda: rules_page(load_rules().values()),
}
"""The content of each generated page."""


if __name__ == "__main__":
    for page, content in PAGES.items():
        page.write_text(content(), "utf-8")
