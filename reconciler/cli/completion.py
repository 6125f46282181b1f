"""Completion for shells: the script that asks this program, and its answers.

It is silent: where something goes wrong, there is nothing to complete. `completion_values` gives the values
of a project, and is imported only where they are asked for.
"""

from __future__ import annotations

import os
from contextlib import suppress

import click
from click.shell_completion import (
    BashComplete,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

from reconciler.cli.app import App
from reconciler.cli.streams import print_result

VARIABLE = "_RECONCILE_COMPLETE"
"""The variable by which a shell asks."""

_BASH = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                COMPREPLY+=("$value")
                [[ $value == *: ]] && compopt -o nospace
                ;;
        esac
    done < <(%(complete_var)s=bash_complete COMP_LINE="${COMP_LINE:0:COMP_POINT}" \\
        COMP_WORDBREAKS="$COMP_WORDBREAKS" "$1" 2>/dev/null)
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    """Bash breaks words at colons and other signs, and replaces only what follows the last of them. So it
    sends the line, and gets the rest of each value."""

    source_template = _BASH

    def source(self) -> str:
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_LINE")
        if line is None:
            return super().get_completion_args()
        words = split_arg_string(line)
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        return words[1:], incomplete

    def complete(self) -> str:
        words, incomplete = self.get_completion_args()
        signs = os.environ.get("COMP_WORDBREAKS", "")
        after = max((incomplete.rfind(sign) + 1 for sign in signs if not sign.isspace()), default=0)
        option, is_assigned, _ = incomplete.partition("=")
        skipped = after - (len(option) + 1 if is_assigned and option.startswith("--") else 0)
        return "\n".join(
            f"{item.type},{item.value[max(0, skipped) :]}"
            for item in self.get_completions(words, incomplete)
        )


_SHELLS: dict[str, type[ShellComplete]] = {
    "bash": _Bash,
    "zsh": ZshComplete,
    "fish": FishComplete,
}
SHELLS = tuple(_SHELLS)


def completion(app: App, *, shell: str) -> None:
    """Prints the script that makes a shell ask this program."""
    made = _SHELLS[shell](click.Command("reconcile"), {}, "reconcile", VARIABLE)
    print_result(made.source())


def answer(program: click.Command) -> None:
    """Prints what a shell asks for."""
    with suppress(Exception):
        shell, _, instruction = os.environ[VARIABLE].partition("_")
        made = _SHELLS[shell](program, {}, "reconcile", VARIABLE)
        print_result(made.source() if instruction == "source" else made.complete())
