"""The right way for those who come from other programs: a wrong word of a command line is answered with the
line that does what was meant.

Only a line that cannot be understood imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import click

from reconciler.commands import Command, Invocation

_ALIKE = 0.8
"""How much a word has to look like another one: 1 is equal."""


class Advice(NamedTuple):
    """A sentence, and the command that does it."""

    text: str
    words: tuple[str, ...] = ()

    def line(self, invocation: Invocation) -> str:
        """The advice as a line."""
        if not self.words:
            return self.text
        return f"{self.text}: {Command(self.words).text(invocation)}"


def _to(text: str, *words: str) -> Advice:
    return Advice(text, words)


_PLAN = _to("What would change", "plan")
_SHOW = _to("What is recorded of a profile", "state", "show", "ADDRESS")
_ENVIRONMENT = Advice("An environment is chosen with --env NAME, on any command")
_KEY = _to("The key is read from the variable that api.key_env names; to check it", "doctor")
_DELETE = _to(
    "Take the profile out of its file, and delete what no file declares: plan --prune. To tear down "
    "test users",
    "destroy",
    "--select",
    "ADDRESS",
)

COMMANDS: Mapping[str, Advice] = {
    # terraform
    "untaint": _to(
        "Send all values of a profile again", "apply", "--reassert", "--select", "ADDRESS"
    ),
    "taint": _to(
        "Send all values of a profile again", "apply", "--reassert", "--select", "ADDRESS"
    ),
    "workspace": _ENVIRONMENT,
    "output": _SHOW,
    "force-unlock": _to("Remove a lock", "state", "unlock", "ID"),
    "version": _to("The version", "--version"),
    "providers": Advice("There is one provider, the API that reconcile.yaml names"),
    "test": Advice("Profiles for tests come from the pytest plugin: docs/testing.md"),
    "console": _to("What files mean, with everything filled in", "render"),
    # kubectl
    "get": _to("What is recorded", "state", "list"),
    "describe": _SHOW,
    "view": _SHOW,
    "list": _to("What is recorded", "state", "list"),
    "ls": _to("What is recorded", "state", "list"),
    "create": _to("Write a file below profiles/, and", "apply"),
    "edit": _to("Edit the file of the profile, and", "plan"),
    "delete": _DELETE,
    "rm": _DELETE,
    "remove": _DELETE,
    "logs": _to("Who applied what, and when", "history"),
    "rollout": Advice("Revert the commit with git, and apply again"),
    "undo": Advice("Revert the commit with git, and apply again"),
    "rollback": Advice("Revert the commit with git, and apply again"),
    "scale": Advice("A template makes many profiles: for_each, in docs/profile-reference.md"),
    # git
    "status": _PLAN,
    "diff": _PLAN,
    "log": _to("Who applied what, and when", "history"),
    "push": _to("Make it so", "apply"),
    "pull": _to("Read what the API shows of the recorded profiles", "refresh"),
    "fetch": _to("Read what the API shows of the recorded profiles", "refresh"),
    "revert": Advice("Revert the commit with git, and apply again"),
    "blame": _to("Who wrote each line behind a plan", "plan", "--blame"),
    "add": _to(
        "Every file below profiles/ counts. For profiles that exist at the API", "import", "ID"
    ),
    "commit": _to("Files are committed with git. To make the changes at the API", "apply"),
    "checkout": _ENVIRONMENT,
    "switch": _ENVIRONMENT,
    # gh
    "auth": _KEY,
    "login": _KEY,
    "run": _to("Who applied what, and when", "history"),
    # ruff
    "check": _to("Check profile files", "validate"),
    "lint": _to("Check profile files", "validate"),
    "format": _to("Put profile files in canonical form", "fmt"),
    "rule": _to("What a rule is about", "explain", "RULE"),
    "clean": _to("Read every file, whatever the cache says", "plan", "--no-cache"),
    "sync": _to("Make it so", "apply"),
    "config": _to("Settings are in reconcile.yaml; what may stand there", "schema", "config"),
}
"""Commands of other programs, by what people type."""

OPTIONS: Mapping[str, Advice] = {
    "--target": Advice("Choose profiles with --select ADDRESS, or --select label:NAME"),
    "--selector": Advice("Choose profiles with --select ADDRESS, or --select label:NAME"),
    "-l": Advice("Choose profiles with --select label:NAME"),
    "--var": Advice("Variables are in reconcile.yaml, under `variables` of an environment"),
    "--var-file": Advice("Variables are in reconcile.yaml, under `variables` of an environment"),
    "--replace": _to(
        "Send all values of a profile again", "apply", "--reassert", "--select", "ADDRESS"
    ),
    "--refresh-only": _to("Read what the API shows, and record it", "refresh"),
    "--destroy": _to("What would be deleted", "destroy", "--dry-run", "--select", "GLOB"),
    "--upgrade": Advice("There is nothing to upgrade: reconcile has no plugins and no lock file"),
    "--input": Advice("Without a terminal nothing is asked; give --auto-approve"),
    "--no-color": Advice("Write --color never, or set NO_COLOR"),
    "--no-colour": Advice("Write --color never, or set NO_COLOR"),
    "--lock": Advice("The state is always locked while it is written"),
    "--lock-timeout": Advice("A locked state is refused at once; run again later"),
    "--recursive": Advice("Folders are always taken with all that is below them"),
    "--write": _to("Files are written unless --check or --diff is given", "fmt"),
    "--chdir": Advice("Name the configuration: --config FOLDER/reconcile.yaml"),
    "-C": Advice("Name the configuration: --config FOLDER/reconcile.yaml"),
    "--filename": _to(
        "Plan the profiles of a file, and apply that plan", "plan", "FILE", "--out", "a.plan"
    ),
    "-f": _to(
        "Plan the profiles of a file, and apply that plan", "plan", "FILE", "--out", "a.plan"
    ),
    "-k": _to(
        "Plan the profiles of a folder, and apply that plan", "plan", "FOLDER", "--out", "a.plan"
    ),
    "-o": Advice("Write --out FILE for a saved plan, --format NAME for another format"),
    "--output": Advice("Write --out FILE for a saved plan, --format NAME for another format"),
    "--output-format": Advice("Write --format NAME"),
    "-n": _ENVIRONMENT,
    "--namespace": _ENVIRONMENT,
    "--context": _ENVIRONMENT,
    "--environment": _ENVIRONMENT,
    "--workspace": _ENVIRONMENT,
    "--profile": _ENVIRONMENT,
    "--fix": _to("Put files in canonical form; other findings are mended by hand", "fmt"),
    "--watch": Advice("Run it again: a second plan reads only what changed"),
    "-w": Advice("Run it again: a second plan reads only what changed"),
    "-y": Advice("Write --auto-approve"),
    "--yes": Advice("Write --auto-approve"),
    "--force": Advice("No option forces anything; the message above says what was refused"),
    "--approve": Advice("Write --auto-approve"),
    "--delete": Advice("Write --prune"),
    "--debug": Advice("Write --verbose"),
    "--log-level": Advice("Write --verbose, or --quiet"),
    "--key": _KEY,
    "--token": _KEY,
    "--api-key": _KEY,
    "--url": Advice("The address of the API is in reconcile.yaml, under api.url of an environment"),
}
"""Options of other programs, with the two dashes of a long one."""


def advice_on(
    problem: click.UsageError, words: Sequence[str], *, invocation: Invocation
) -> str | None:
    """What to write instead; ``None`` where nothing is known. ``words`` are those of the command line."""
    context = problem.ctx
    match problem:
        case click.exceptions.NoSuchCommand(command_name=name):
            is_top = context is not None and context.parent is None
            found = _found(name, COMMANDS, possibilities=problem.possibilities) if is_top else None
            return None if found is None else found.line(invocation)
        case click.exceptions.NoSuchOption(option_name=name):
            single = next((word for word in words if _is_long_with_one_dash(word, name)), None)
            option, _, value = (f"-{single}" if single else name).partition("=")
            if single and context is not None and option in _options_of(context):
                is_flag = value.lower() in ("", "true", "false")
                return f"Long options have two dashes: {option if is_flag else f'-{single}'}"
            found = _found(option, OPTIONS, possibilities=problem.possibilities)
            return None if found is None else found.line(invocation)
        case _:
            return _on_extra_words(problem, invocation)


def _found(
    word: str, table: Mapping[str, Advice], *, possibilities: Sequence[str] | None
) -> Advice | None:
    """The advice on a word, or on one that looks like it, unless it looks like one of ours."""
    if word in table or possibilities:
        return table.get(word)
    alike = get_close_matches(word, table, n=1, cutoff=_ALIKE)
    return table[alike[0]] if alike else None


def _is_long_with_one_dash(word: str, short: str) -> bool:
    """Whether a word is a long option as Go programs write it, which was read as a row of short ones."""
    return len(word) > 2 and word[0] == "-" != word[1] and short[1:2] in word


def _options_of(context: click.Context) -> set[str]:
    parameters = context.command.get_params(context)
    return {name for each in parameters for name in (*each.opts, *each.secondary_opts)}


_SELECTING = frozenset({"refresh", "sweep", "destroy"})
_UNEXPECTED = "unexpected extra argument"


def _on_extra_words(problem: click.UsageError, invocation: Invocation) -> str | None:
    context = problem.ctx
    if context is None or _UNEXPECTED not in problem.message:
        return None
    name = context.command.name or ""
    if name in _SELECTING:
        return Advice("Profiles are chosen by options", (name, "--select", "ADDRESS")).line(
            invocation
        )
    if name in ("list", "history"):
        return Advice("For one profile", ("state", "show", "ADDRESS")).line(invocation)
    return None
