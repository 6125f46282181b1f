"""What stays as it is from 1.0 (docs/stability.md), as data. ``make frozen`` writes it anew.

The file is what a reviewer reads: a line that goes or changes breaks somebody, and one that is added is a
promise.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from _pytest.fixtures import FixtureFunctionDefinition

import reconciler
import reconciler.testing
from reconciler.cli.main import main
from reconciler.core.plan import HazardKind
from reconciler.errors import ExitCode
from reconciler.testing import pytest_plugin
from tests.support.generated_pages import Schema, commands

TARGET = Path(__file__).parent.parent / "project" / "frozen.json"
SCHEMAS = ("config", "profile", "plan", "findings", "drift", "state")


def _options(command: click.Command) -> dict[str, str]:
    """Every parameter with its form."""
    found = {}
    for parameter in command.params:
        kind = parameter.type
        form = "|".join(kind.choices) if isinstance(kind, click.Choice) else kind.name
        if isinstance(parameter, click.Option):
            name = ", ".join(sorted([*parameter.opts, *parameter.secondary_opts]))
            form = "flag" if parameter.is_flag else form
        else:
            name = parameter.human_readable_name
        several = " ..." if parameter.multiple or parameter.nargs != 1 else ""
        found[name] = f"{form}{several}{' (required)' if parameter.required else ''}"
    return dict(sorted(found.items()))


def _signature(value: Any) -> str:
    """How it is called; nothing for what is not."""
    try:
        return re.sub(r"<\w+ (\S+) at 0x\w+>", r"\1", str(inspect.signature(value)))
    except (TypeError, ValueError):
        return ""


def _library(module: Any) -> dict[str, Any]:
    """The exported names, with the parameters of functions and of the public methods of classes."""
    names: dict[str, Any] = {}
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if not inspect.isclass(value):
            names[name] = _signature(value)
            continue
        members = {
            member: _signature(getattr(value, member))
            for owner in value.__mro__
            if owner.__module__.startswith("reconciler")
            for member in vars(owner)
            if not member.startswith("_")
        }
        names[name] = dict(sorted(members.items()))
    return names


def frozen() -> Mapping[str, Any]:
    """Everything that is frozen, by kind."""
    return {
        "commands": {name: _options(each) for name, each in commands(main, "reconcile")},
        "exit_codes": {code.name: int(code) for code in ExitCode},
        "hazards": sorted(kind.value for kind in HazardKind),
        "schemas": {
            name: {
                path: kind
                for schema in [Schema(f"{name}.schema")]
                for path, kind, _ in schema.rows(schema.resolved(schema.root))
            }
            for name in SCHEMAS
        },
        "library": {
            "reconciler": _library(reconciler),
            "reconciler.testing": _library(reconciler.testing),
        },
        "fixtures": sorted(
            name
            for name, value in vars(pytest_plugin).items()
            if isinstance(value, FixtureFunctionDefinition) and not name.startswith("_")
        ),
    }


def text() -> str:
    return json.dumps(frozen(), indent=1, ensure_ascii=False) + "\n"


def broken(before: Any, after: Any, *, path: str = "") -> list[str]:
    """What was frozen and is gone or different, by its path."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            problem
            for name, value in before.items()
            for problem in (
                broken(value, after[name], path=f"{path}/{name}")
                if name in after
                else [f"{path}/{name} is gone"]
            )
        ]
    if isinstance(before, list) and isinstance(after, list):
        return [f"{path}/{each} is gone" for each in before if each not in after]
    return [] if before == after else [f"{path} was {before!r} and is {after!r}"]


if __name__ == "__main__":
    TARGET.write_text(text(), "utf-8")
