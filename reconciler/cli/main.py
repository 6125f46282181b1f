"""All commands with their arguments and options.

A command is declared here; the function of the same name, in the module that `implemented_in` names,
carries it out. That module is imported when the command runs, so that ``--help``, ``--version`` and
completion cost what importing click costs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reconciler import __version__
from reconciler.cli.app import App, ErrorHandlingGroup, implemented_in
from reconciler.cli.grammar import completed_by, with_program_options
from reconciler.cli.options import (
    auto_approve_option,
    digest_option,
    events_options,
    links_option,
    mask_option,
    max_changes_option,
    no_cache_option,
    no_progress_option,
    option,
    output_options,
    plan_options,
    rate_option,
    result_options,
    selection_options,
    show_requests_option,
)

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=ErrorHandlingGroup, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="reconcile")
@with_program_options(option)
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Manage end-user profiles the way Terraform manages infrastructure.

    Desired profiles are YAML files; `plan` shows what would change, `apply` makes the changes. The options
    below may stand before the command and after it.
    """
    context.obj = App()
    for name, value in options.items():
        context.obj.set_option(name, value)


# --- profile files -------------------------------------------------------------------------------


@main.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@implemented_in("files", interrupted="files that were named are written, others are not")
def init() -> None:
    """Write a first configuration and profile. Schemas for editors and .gitignore lines come along."""


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@result_options("text", "json", "markdown", "github", "gitlab", "sarif", "junit")
@option("--strict", is_flag=True, help="Fail for warnings too.")
@option("--all", "everything", is_flag=True, help="List every finding, also those that are alike.")
@links_option
@mask_option
@implemented_in("files")
def validate() -> None:
    """Check profile files offline, without a key."""


@main.command()
@click.argument("rule", required=False, shell_complete=completed_by("rules"))
@result_options("text", "json")
@implemented_in("explaining")
def explain() -> None:
    """Explain a RULE of findings or a kind of hazard. Without one, list all of them."""


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@selection_options
@result_options("yaml", "json")
@mask_option
@implemented_in("files")
def render() -> None:
    """Print profile files with everything filled in. Defaults, templates and placeholders are applied."""


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@option("--check", is_flag=True, help="Write nothing; exit with 1 where a file would change.")
@option("--diff", is_flag=True, help="Write nothing; print what would change.")
@implemented_in("files", interrupted="each file is formatted, or as it was")
def fmt() -> None:
    """Put profile files in canonical form. Comments stay.

    Needs the extra `fmt`. Identifiers come first, then the fields in their order, then meta.
    """


# --- plans and what becomes of them --------------------------------------------------------------


@main.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path))
@option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Save the plan for apply; - is standard output.",
)
@output_options
@plan_options
@no_cache_option
@option("--blame", is_flag=True, help="Show who wrote or removed each line, from git blame.")
@option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes.")
@implemented_in("planning")
def plan() -> None:
    """Show what apply would change. With PATHs, only for the profiles of these files and folders."""


@main.command()
@click.argument("file", metavar="PLAN", type=click.Path(path_type=Path))
@output_options
@implemented_in("planning")
def show() -> None:
    """Print a saved plan; - reads it from standard input."""


@main.command()
@click.argument("file", metavar="[PLAN]", required=False, type=click.Path(path_type=Path))
@auto_approve_option
@plan_options
@show_requests_option
@option(
    "--parallelism",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Change at most N profiles at a time; by default as many as the rate needs.",
)
@rate_option
@max_changes_option
@digest_option
@option("--dry-run", is_flag=True, help="Show the plan, as `plan` and `show` do, and send nothing.")
@events_options
@no_progress_option
@mask_option
@implemented_in("applying")
def apply() -> None:
    """Apply a saved PLAN, or make a plan and apply it. - reads the PLAN from standard input."""


@main.command()
@selection_options
@rate_option
@result_options("text", "json")
@option("--detailed-exitcode", is_flag=True, help="Exit with 2 when a profile differs.")
@no_progress_option
@mask_option
@implemented_in("remote")
def refresh() -> None:
    """Read recorded profiles, and report drift. The state records what the API shows."""


@main.command("import")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@option(
    "--ids",
    "ids_file",
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Also the ids in this file, one a line; # begins a comment, - is standard input.",
)
@option(
    "--csv",
    "table",
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Write the profiles of this table instead, offline; the header names fields, such as "
    "custom_attributes.tier.",
)
@option(
    "--to",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Where the files go, below the folder of profiles; by default that folder.",
)
@option(
    "--with",
    "groups",
    multiple=True,
    metavar="GROUP",
    help="Also read this group of fields, by one more request for each profile. Can be repeated.",
)
@option("--dry-run", is_flag=True, help="Read the API, and write and record nothing.")
@events_options
@mask_option
@implemented_in("importing")
def import_profiles() -> None:
    """Write files for profiles that exist. They are recorded too; an ID is a customer id or profile:UUID.

    The next plan is empty. Existing files stay as they are, so the command can be repeated. The files may
    hold data of real people.
    """


@main.command()
@auto_approve_option
@option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@selection_options
@max_changes_option
@digest_option
@events_options
@implemented_in("applying")
def sweep() -> None:
    """Delete expired profiles that this tool created, and no others."""


@main.command()
@option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Save the plan for apply instead; - is standard output.",
)
@auto_approve_option
@option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@selection_options
@show_requests_option
@max_changes_option
@digest_option
@events_options
@implemented_in("applying")
def destroy() -> None:
    """Delete selected profiles that this tool created. It does so also where files declare them.

    Needs --select. Protected profiles and those that this tool did not create stay, and the limits of a
    prune hold. The next plan says what files still declare and apply would create again.
    """


@main.command()
@click.argument("run_name", metavar="[RUN]", required=False, shell_complete=completed_by("runs"))
@option(
    "--address",
    metavar="ID",
    shell_complete=completed_by("recorded"),
    help="The changes of this profile instead, in every run whose journal is kept.",
)
@option(
    "--last",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="Show the last N runs.",
)
@result_options("text", "json")
@implemented_in("history")
def history() -> None:
    """Show what was applied, when and by whom. For a RUN, show each of its changes.

    A RUN may be shortened. The changes of the last hundred runs are kept.
    """


_STATE_INTERRUPTED = "the state is as it was, or as it was to be"
"""Writing the state is one transaction."""


# --- the state -----------------------------------------------------------------------------------


@main.group()
def state() -> None:
    """Inspect the state, and repair it by hand."""


@state.command("list")
@result_options("text", "json")
@mask_option
@implemented_in("state")
def state_list() -> None:
    """List the recorded profiles."""


@state.command("show")
@click.argument("address", shell_complete=completed_by("recorded"))
@result_options("text", "json")
@mask_option
@implemented_in("state")
def state_show() -> None:
    """Show the record of one profile."""


@state.command("rm")
@click.argument(
    "addresses",
    nargs=-1,
    required=True,
    metavar="ADDRESS...",
    shell_complete=completed_by("recorded"),
)
@implemented_in("state", interrupted=_STATE_INTERRUPTED)
def state_rm() -> None:
    """Forget profiles; nothing is sent. A backup is made first."""


@state.command("mv")
@click.argument("former", metavar="OLD", shell_complete=completed_by("recorded"))
@click.argument("address", metavar="NEW")
@implemented_in("state", interrupted=_STATE_INTERRUPTED)
def state_mv() -> None:
    """Rename the record of a profile. Its address changed; nothing is sent. A backup is made first.

    The address changes where profile:UUID was linked to a customer id elsewhere, or back. The API cannot
    change a customer id. `meta.previously` in a file does the same in review.
    """


@state.command("pull")
@implemented_in("state")
def state_pull() -> None:
    """Print the whole state as JSON."""


@state.command("push")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@option(
    "--force", is_flag=True, help="Accept an older state, or one of another lineage or application."
)
@implemented_in("state", interrupted=_STATE_INTERRUPTED)
def state_push() -> None:
    """Replace the state with the output of `state pull`, edited. A backup is made first."""


@state.command("backups")
@result_options("text", "json")
@implemented_in("state_stores")
def state_backups() -> None:
    """List the backups that are kept of the state, newest first."""


@state.command("migrate")
@option("--to", metavar="URL", help="The new place; reconcile.yaml still names the present one.")
@option(
    "--from",
    "source",
    metavar="URL",
    help="The present place; reconcile.yaml names the new one already, with all of its settings.",
)
@implemented_in("state_stores", interrupted=_STATE_INTERRUPTED)
def state_migrate() -> None:
    """Take the state to another store. It may be a file, PostgreSQL, or object storage.

    Both places are locked, the copy is compared with the state, and the old place says from then on where the
    state is. The same command goes on after an interruption.
    """


@state.command("restore")
@click.argument("file", metavar="ID|FILE")
@implemented_in("state", interrupted=_STATE_INTERRUPTED)
def state_restore() -> None:
    """Put a backup of the state back. It is one of `state backups`, a file, or the output of `state pull`.

    A backup of the state before is made first; a damaged state is set aside.
    """


@state.command("new")
@implemented_in("state", interrupted=_STATE_INTERRUPTED)
def state_new() -> None:
    """Begin a new state on purpose. The one that was seen here before is gone."""


@state.command("path")
@result_options("text", "json")
@implemented_in("state")
def state_path() -> None:
    """Print where the state is. As JSON, where caches and everything else is as well."""


@state.command("move")
@option(
    "--to",
    type=click.Choice(["home", "project"]),
    default="home",
    show_default=True,
    help="The user's home, or the folder .reconcile of the project.",
)
@option(
    "--from",
    "former",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Take the states along that the project had when its folder was called FOLDER.",
)
@implemented_in("state", interrupted="run it again: it ends a move that was cut off")
def state_move() -> None:
    """Take the state out of the project, or back. In the project's folder, a checkout can replace it."""


@state.command("setup")
@option(
    "--print", "is_printed", is_flag=True, help="Print the SQL for the owner, and connect nowhere."
)
@option(
    "--writer",
    metavar="ROLE",
    help="The database role that gets the rights of an apply; with --print, reconcile_writer by default.",
)
@option(
    "--reader",
    metavar="ROLE",
    help="The role that gets the rights of a plan; with --print, reconcile_reader by default.",
)
@implemented_in("state")
def state_setup() -> None:
    """Set a state in PostgreSQL up. Its owner makes the schema, and grants rights on it.

    It can be run again. Other states need no setup: the first write makes them.
    """


@state.command("unlock")
@click.argument("lock_id", metavar="ID", shell_complete=completed_by("locks"))
@implemented_in("state")
def state_unlock() -> None:
    """Remove the lock of a process that is gone. The message that refused the lock shows the ID."""


@main.command()
@result_options("text", "json")
@implemented_in("doctor")
def doctor() -> None:
    """Check key, address, clock, state and disk. Each check says what to do next.

    It sends one GET of a profile that cannot exist, to a host that is allowed. The exit code is that of the
    first failure: 3 configuration or key, 4 key refused, 5 API away, 6 state or host refused, 1 anything
    else. Warnings leave it at 0.
    """


# --- the program itself --------------------------------------------------------------------------


@main.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@implemented_in("guide")
def help_() -> None:
    """Show the help of a command."""


@main.command()
@click.argument(
    "name",
    type=click.Choice(["profile", "config", "plan", "findings", "drift", "state", "trust"]),
)
@option(
    "--dialect",
    type=click.Choice(["guide", "openapi"]),
    default="guide",
    show_default=True,
    help="The version of the API's contract that profile files are written for.",
)
@implemented_in("guide")
def schema() -> None:
    """Print a JSON Schema of this version. It is of profile files, of reconcile.yaml, or of what is printed.

    Editors check and complete by it; docs/editors.md says how.
    """


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@implemented_in("completion")
def completion() -> None:
    """Print the completion script of a shell.

    Environments, addresses, labels, runs and locks are completed from the project that the shell is in.
    """


# --- the local API -------------------------------------------------------------------------------


@main.command()
@option("--port", type=click.IntRange(0, 65535), default=0, help="The port; 0 takes a free one.")
@option("--db", metavar="FILE", type=click.Path(path_type=Path), help="Keep profiles in this file.")
@option(
    "--fault", multiple=True, metavar="FAULT", help="Inject a fault; docs/emulator.md lists them."
)
@option(
    "--seed",
    metavar="FILE",
    help="Begin with the content of this file, such as store purchases; docs/emulator.md describes it.",
)
@option(
    "--access-level",
    multiple=True,
    metavar="ID",
    help="An access level of the app beside premium, which every app has.",
)
@option("--fault-seed", type=int, metavar="N", help="The seed of random faults; 0 by default.")
@option(
    "--header-faults",
    is_flag=True,
    help="Let a request ask for faults in its header emulator-fault.",
)
@option(
    "--rate-limit",
    multiple=True,
    metavar="N/s|N/min",
    help="The most requests that one key may send.",
)
@option(
    "--rate-mode",
    type=click.Choice(["refuse", "bare", "record"]),
    default="refuse",
    show_default=True,
    help="Above the limit, answer 429, answer 429 without Retry-After, or only record the request.",
)
@option(
    "--log",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Append requests to this file; - is standard output.",
)
@option(
    "--dialect",
    type=click.Choice(["guide", "openapi"]),
    default="guide",
    show_default=True,
    help="The version of the API's contract to check requests against.",
)
@option("--debug", is_flag=True, help="Show and change its contents at /debug/.")
@option(
    "--list",
    "is_list",
    is_flag=True,
    help="Print the routes, errors, faults and assumptions of this version, and end.",
)
@implemented_in("emulator")
def emulator() -> None:
    """Run the local API, on 127.0.0.1, until interrupted."""
