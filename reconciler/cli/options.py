"""Options that several commands share, as decorators. Each option has an environment variable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click

from reconciler.cli.grammar import completed_by

if TYPE_CHECKING:
    from reconciler.core.options import ReadScope

Command = TypeVar("Command", bound=Callable[..., Any])


def option(name: str, *names: str, **extra: Any) -> Callable[[Command], Command]:
    """An option with its variable: RECONCILE_ plus the long option in capitals."""
    variable = "RECONCILE_" + name.removeprefix("--").split("/")[0].upper().replace("-", "_")
    return click.option(name, *names, envvar=variable, show_envvar=True, **extra)


_JSON = "reconciler.json"
"""Under this name, a context remembers that ``--json`` was given."""


def format_option(*choices: str) -> Callable[[Command], Command]:
    """``--format``, of which the first choice is the default; ``--json``, which is short for
    ``--format json``."""

    def take(context: click.Context, parameter: click.Parameter, value: str) -> str:
        if not context.meta.get(_JSON):
            return value
        if value not in (choices[0], "json"):
            raise click.UsageError(f"--json and --format {value} contradict each other.", context)
        return "json"

    def decorate(command: Command) -> Command:
        return _all_of(
            command,
            option(
                "--json",
                "is_json",
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_note_json,
                help="The same as --format json.",
            ),
            option(
                "--format",
                "format_",
                type=click.Choice(choices),
                default=choices[0],
                show_default=True,
                callback=take,
                help="How to print the result.",
            ),
        )

    return decorate


def _note_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[_JSON] = value


def json_out_option(what: str) -> Callable[[Command], Command]:
    """``--json-out``. ``what``: what is written."""
    return option(
        "--json-out",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
        help=f"Write {what} as JSON too; - is standard output.",
    )


def result_options(*choices: str) -> Callable[[Command], Command]:
    """`format_option` and ``--json-out``."""

    def decorate(command: Command) -> Command:
        return _all_of(command, json_out_option("the result"), format_option(*choices))

    return decorate


mask_option = option(
    "--mask/--no-mask",
    default=None,
    help="Replace personal values with tags such as (personal #1). Overrides `mask` in reconcile.yaml.",
)
links_option = option(
    "--links",
    metavar="URL",
    help="The base URL of links to lines of files: https://HOST/OWNER/NAME/blob/COMMIT/. "
    "Detected in GitHub Actions and GitLab CI.",
)
no_cache_option = option(
    "--no-cache",
    is_flag=True,
    help="Read every file, even those that did not change since the last run.",
)
show_requests_option = option("--show-requests", is_flag=True, help="Print the exact requests.")
auto_approve_option = option("--auto-approve", is_flag=True, help="Do not ask for approval.")
max_changes_option = option(
    "--max-changes",
    type=click.IntRange(min=0),
    metavar="N",
    help="Refuse a plan with more than N changes.",
)
digest_option = option("--digest", metavar="sha256:…", help="Apply only the plan with this digest.")
rate_option = option(
    "--rate",
    metavar="N/min",
    help="Requests per minute or second, or auto to learn the rate. Overrides the configured rate.",
)
no_progress_option = option(
    "--no-progress", is_flag=True, help="Print a line now and then instead of a progress bar."
)


def events_options(command: Command) -> Command:
    """``--json`` and ``--json-out`` of a command that tells what it does as it does it."""
    return _all_of(
        command,
        option(
            "--json-out",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write the event stream to a file too.",
        ),
        option(
            "--json", "json_", is_flag=True, help="Print an event stream, one JSON object a line."
        ),
    )


def selection_options(command: Command) -> Command:
    """``--select`` and ``--exclude``."""
    return _all_of(
        command,
        option(
            "--exclude",
            multiple=True,
            shell_complete=completed_by("patterns"),
            metavar="GLOB",
            help="Leave out these addresses, label:NAME or id:ADDRESS. Can be repeated; wins over --select.",
        ),
        option(
            "--select",
            multiple=True,
            shell_complete=completed_by("patterns"),
            metavar="GLOB",
            help="Only these addresses, label:NAME or id:ADDRESS. Can be repeated.",
        ),
    )


class _ReadScopeType(click.ParamType["ReadScope | None"]):
    """The value of ``--refresh``: none stands for ``all``. A variable may say yes or no as for a flag."""

    name = "scope"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> ReadScope | None:
        word = str(value).strip().lower()
        scopes = import_module("reconciler.core.options").ReadScope  # help needs none
        if word in (*scopes,):
            return cast("ReadScope", scopes(word))
        try:
            is_all = click.BOOL.convert(word, parameter, context)
            return cast("ReadScope", scopes.ALL) if is_all else None
        except click.BadParameter:
            self.fail(
                f"{value!r} is neither all nor changed; write --refresh or --refresh=changed",
                parameter,
                context,
            )


class PlanOptions(NamedTuple):
    """The options that decide which changes a plan has; the names are those of `Workspace.plan`."""

    refresh: ReadScope | None
    reassert: bool
    prune: bool
    include_adopted: bool
    select: tuple[str, ...]
    exclude: tuple[str, ...]
    since: str | None

    @property
    def is_default(self) -> bool:
        """Whether no option was given."""
        return not any(self)

    @property
    def is_selecting(self) -> bool:
        """Whether profiles may be left out."""
        return bool(self.select or self.exclude or self.since)


def plan_options(command: Command) -> Command:
    """The options of `PlanOptions`, passed to the command as ``plan_options``."""
    return _all_of(
        _gathered(command, PlanOptions, name="plan_options"),
        option(
            "--since",
            metavar="REVISION",
            help="Only profiles whose files changed since this git revision.",
        ),
        selection_options,
        option(
            "--include-adopted",
            is_flag=True,
            help="With --prune, also delete profiles that this tool did not create.",
        ),
        option(
            "--prune",
            is_flag=True,
            help="Delete recorded profiles that are in no file and that this tool created, within the caps.",
        ),
        option(
            "--reassert",
            is_flag=True,
            help="Send every managed field again, even those that the state records as set.",
        ),
        option(
            "--refresh",
            is_flag=False,
            flag_value="all",
            type=_ReadScopeType(),
            metavar="[=changed]",
            help="First read what the API shows of the recorded profiles, and look up profiles that are "
            "not recorded. With =changed, read only the recorded profiles that the plan would write.",
        ),
    )


MOST_MARKDOWN = 65_000
"""Bytes of Markdown by default."""


class OutputOptions(NamedTuple):
    """How and where a plan is shown."""

    format_: str
    json_out: Path | None
    html_out: Path | None
    markdown_out: Path | None
    show_requests: bool
    links: str | None
    max_bytes: int

    @classmethod
    def of(
        cls, format_: str, json_out: Path | None = None, *, show_requests: bool = False
    ) -> OutputOptions:
        """The output of a command without options for files of reviews."""
        return cls(format_, json_out, None, None, show_requests, None, MOST_MARKDOWN)

    def files(self) -> Iterator[tuple[str, Path]]:
        """The format and the path of each file to write."""
        for format_, path in (
            ("json", self.json_out),
            ("html", self.html_out),
            ("markdown", self.markdown_out),
        ):
            if path is not None:
                yield format_, path

    def paths(self) -> list[Path]:
        """The paths of the files to write."""
        return [path for _, path in self.files()]

    def formats(self) -> set[str]:
        """All formats in which the plan is written."""
        return {self.format_, *(format_ for format_, _ in self.files())}


def output_options(command: Command) -> Command:
    """The options of `OutputOptions`, passed to the command as ``output``, and ``--mask``."""
    return _all_of(
        _gathered(command, OutputOptions, name="output"),
        mask_option,
        option(
            "--max-bytes",
            type=click.IntRange(min=8_000),
            default=MOST_MARKDOWN,
            metavar="N",
            show_default=True,
            help="The largest size of the Markdown; the least important parts are cut. "
            "GitHub accepts 65,536.",
        ),
        links_option,
        show_requests_option,
        *(
            option(
                f"--{name}-out",
                metavar="FILE",
                type=click.Path(path_type=Path, dir_okay=False),
                help=f"Write the plan as {title} too; - is standard output.",
            )
            for name, title in (("markdown", "Markdown"), ("html", "HTML"), ("json", "JSON"))
        ),
        format_option("text", "json", "markdown", "html", "github", "gitlab"),
    )


def _gathered(command: Command, group: Any, *, name: str) -> Command:
    """A command that gets the options of a named tuple as one argument."""

    @wraps(command)
    def gathering(*arguments: Any, **options: Any) -> Any:
        options[name] = group(**{field: options.pop(field) for field in group._fields})
        return command(*arguments, **options)

    return gathering  # type: ignore[return-value]


def _all_of(command: Command, *options: Callable[[Command], Command]) -> Command:
    """A command with several options; help lists the last of them first."""
    for each in options:
        command = each(command)
    return command
