"""The command line. A command reads options, calls the façade, renders, and returns an exit code.

One door (`_Door.main`) turns errors into messages and exit codes. Heavy modules are imported inside
commands, so that ``--help`` and ``--version`` cost what importing click costs.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn, TextIO, TypeVar

import click

from reconciler import __version__
from reconciler.errors import (
    Diagnostic,
    ExitCode,
    InputError,
    Interrupted,
    ReconcileError,
    Refused,
    UsageError,
)
from reconciler.values import shown, spelled

if TYPE_CHECKING:
    from reconciler.core.outcomes import ApplyReport, Result
    from reconciler.core.plan import Plan
    from reconciler.core.profiles import Profile
    from reconciler.errors import Diagnostic
    from reconciler.reports.masking import Mask
    from reconciler.reports.progress import Narrator
    from reconciler.reports.tally import Tally
    from reconciler.reports.view import Links, PlanView
    from reconciler.workspace.facade import Told, Workspace

Command = TypeVar("Command", bound=Callable[..., Any])

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Progress:
    """Says on a terminal how far the reading and planning is, once that takes longer than a second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next = monotonic() + 1
        self._shown = False
        self._wanted = stream.isatty() and os.environ.get("TERM") != "dumb"

    def __call__(self, told: Told) -> None:
        now = monotonic()
        if self._wanted and now >= self._next:
            self._next = now + 0.1
            of = "" if told.total is None else f" of {told.total:,}"
            self._shown = True
            _write(self._stream, f"\r\x1b[K{told.doing}: {told.done:,}{of}")

    def clear(self) -> None:
        """Takes away what stands on the terminal."""
        if self._shown:
            self._shown = False
            _write(self._stream, "\r\x1b[K")


_NEVER_MASKED = frozenset({"customer_user_id", "profile_id", "platform", "meta"})
"""Members of a document that name the profile, or are ours."""


@dataclass
class _App:
    """What the options of the group say, and whether a signal asked for the end."""

    config: str | None = None
    env: str | None = None
    color: str = "auto"
    run: str | None = None
    worker: str | None = None
    stopping: list[int] = field(default_factory=list)
    mask: Mask | None = None
    """Replaces personal values in whatever is printed, errors included."""

    progress: _Progress = field(default_factory=lambda: _Progress(sys.stderr))

    @contextmanager
    def workspace(self, *, mask: bool | None = None, cache: bool = True) -> Iterator[Workspace]:
        """The workspace that the options mean; errors leave it masked. ``mask`` overrides the
        configured choice."""
        from reconciler.workspace.facade import Workspace, processes

        with Workspace.open(
            self.config,
            self.env,
            stop=lambda: bool(self.stopping),
            tell=self.progress,
            pool=processes,
            cache=cache,
            run=self.run,
            worker=self.worker,
        ) as workspace:
            config = workspace.config
            if config.mask if mask is None else mask:
                from reconciler.reports.masking import Mask

                self.mask = Mask(workspace.contract, config.public_attributes)
            try:
                yield workspace
            except ReconcileError as problem:
                if self.mask is not None:
                    self.mask.error(problem)
                raise

    def view(self, made: Plan, *, tally: Tally | None = None, **settings: Any) -> PlanView:
        """The view of a plan, masked if that is asked for."""
        from reconciler.reports.view import PlanView

        if self.mask is None:
            return PlanView.of(made, tally=tally, **settings)
        return PlanView.of(self.mask.plan(made), masked=(self.mask.kind,), **settings)

    def result(self, result: Result) -> Result:
        """An outcome, masked if that is asked for."""
        return result if self.mask is None else self.mask.result(result)

    def findings(self, diagnostics: Sequence[Diagnostic]) -> Sequence[Diagnostic]:
        """Findings, masked if that is asked for."""
        if self.mask is None:
            return diagnostics
        return [self.mask.finding(diagnostic) for diagnostic in diagnostics]

    def member(self, path: Sequence[str | int], value: Any) -> Any:
        """What stands at a path of a document, masked if that is asked for."""
        name = ".".join(str(part) for part in path)
        if (
            self.mask is None
            or value is None
            or path[0] in _NEVER_MASKED
            or not self.mask.hides(name)
        ):
            return value
        return str(self.mask.value(name, value)) if not isinstance(value, list) else "(personal)"

    def document(self, value: Any, path: tuple[str, ...] = ()) -> Any:
        """A document, masked if that is asked for."""
        if isinstance(value, dict) and path not in {("meta",)}:
            return {name: self.document(item, (*path, name)) for name, item in value.items()}
        return self.member(path, value)

    def colored(self, stream: IO[Any]) -> bool:
        """``--color``, then NO_COLOR, FORCE_COLOR and CLICOLOR_FORCE, then whether it is a terminal."""
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        forced = (os.environ.get(name, "") for name in ("FORCE_COLOR", "CLICOLOR_FORCE"))
        if any(value not in ("", "0") for value in forced):
            return True
        return stream.isatty() and os.environ.get("TERM") != "dumb"


class _Door(click.Group):
    """The one door: every end of the program passes here."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        extra["standalone_mode"] = False
        _open_streams()
        try:
            code = super().main(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as problem:
            click.echo(problem.format_message(), err=True)
            code = ExitCode.USAGE
        except click.UsageError as problem:
            problem.show()
            code = ExitCode.USAGE
        except click.Abort:
            _say("interrupted")
            code = ExitCode.INTERRUPTED
        except click.ClickException as problem:
            problem.show()
            code = ExitCode.FAILED
        except ReconcileError as problem:
            _tell(problem)
            code = problem.exit_code
        except KeyboardInterrupt:
            _say("interrupted")
            code = ExitCode.INTERRUPTED
        except BrokenPipeError:
            code = ExitCode.FAILED
        except OSError as problem:
            where = f"{problem.filename}: " if problem.filename else ""
            _say(f"error: {shown(where + (problem.strerror or type(problem).__name__))}")
            code = ExitCode.FAILED
        _leave(int(code or 0))


def _open_streams() -> None:
    """Gives closed standard streams a place to go, before a file can take their descriptors: text
    for the user must never land in the state."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _leave(code: int) -> NoReturn:
    """Ends the program; a stream that could not take everything turns success into failure."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _BROKEN.add(stream)
    if not _BROKEN.isdisjoint((sys.stdout, sys.stderr)):
        code = code or ExitCode.FAILED
    sys.exit(code)


def _tell(problem: ReconcileError) -> None:
    from reconciler.reports.text import diagnostics_text

    diagnostics = problem.diagnostics if isinstance(problem, InputError) else ()
    if diagnostics:
        _say(diagnostics_text(diagnostics, color=False).rstrip("\n"))
    _say(f"error: {shown(problem.message)}")
    if problem.hint:
        _say(f"  {shown(problem.hint)}")


_BROKEN: set[TextIO] = set()
"""Streams that could not take what was written to them."""


def _say(text: str) -> None:
    """Prints to stderr; whatever that stream cannot encode is escaped."""
    _write(sys.stderr, text + "\n")


def _print(text: str) -> None:
    """Prints a result to stdout."""
    _write(sys.stdout, text if text.endswith("\n") else text + "\n")


def _document(parts: Iterable[str]) -> None:
    """Prints a document of a format that is UTF-8 whatever the terminal is."""
    try:
        sys.stdout.flush()
        for part in parts:
            sys.stdout.buffer.write(part.encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()
    except (OSError, ValueError):
        _BROKEN.add(sys.stdout)


def _write(stream: TextIO, text: str) -> None:
    """Writes what the stream can encode. One that fails stops nothing: `_leave` notices."""
    data = text.encode(stream.encoding or "ascii", "backslashreplace")
    try:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()
    except (OSError, ValueError):  # ValueError: it was closed
        _BROKEN.add(stream)


def _ascii(stream: TextIO) -> bool:
    try:
        "→".encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return True
    return False


_STOPPING = b"stopping: what is under way is finished and saved; once more to leave at once\n"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _signals(app: _App) -> Iterator[None]:
    """First SIGINT, SIGTERM or SIGHUP: nothing new starts. Second: out at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if app.stopping:
            os._exit(ExitCode.INTERRUPTED)
        app.stopping.append(number)
        with suppress(OSError):  # not through the stream, which may be in the middle of a write
            os.write(2, _STOPPING)

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


# --- options -------------------------------------------------------------------------------------


def _option(name: str, *names: str, **extra: Any) -> Callable[[Command], Command]:
    """An option with its variable: RECONCILE_ plus the long option in capitals."""
    variable = "RECONCILE_" + name.removeprefix("--").split("/")[0].upper().replace("-", "_")
    return click.option(name, *names, envvar=variable, show_envvar=True, **extra)


def _format(*choices: str) -> Callable[[Command], Command]:
    return _option(
        "--format",
        "format_",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="How to print the result.",
    )


def _masking(command: Command) -> Command:
    return _option(
        "--mask/--no-mask",
        default=None,
        help="Show tags like (personal #1) instead of personal values, or not, whatever is configured.",
    )(command)


class _Output(NamedTuple):
    """How and where a plan is shown."""

    format_: str
    json_out: Path | None
    html_out: Path | None
    markdown_out: Path | None
    show_requests: bool
    links: str | None
    max_bytes: int

    def files(self) -> Iterator[tuple[str, Path]]:
        """The format of each file to be written, and where it goes."""
        for format_, path in (
            ("json", self.json_out),
            ("html", self.html_out),
            ("markdown", self.markdown_out),
        ):
            if path is not None:
                yield format_, path


def _output(command: Command) -> Command:
    """The options of an `_Output`, given to the command as ``output``."""

    @wraps(command)
    def gathered(*arguments: Any, **options: Any) -> Any:
        output = _Output(**{name: options.pop(name) for name in _Output._fields})
        return command(*arguments, output=output, **options)

    for option in (
        _masking,
        _option(
            "--max-bytes",
            type=click.IntRange(min=8_000),
            default=65_000,
            metavar="N",
            show_default=True,
            help="The size of the Markdown; the least important is cut. GitHub takes 65,536.",
        ),
        _links,
        _show_requests,
        *(
            _option(
                f"--{name}-out",
                metavar="FILE",
                type=click.Path(path_type=Path, dir_okay=False),
                help=f"Write the plan as {title} too.",
            )
            for name, title in (("markdown", "Markdown"), ("html", "HTML"), ("json", "JSON"))
        ),
        _format("text", "json", "markdown", "html", "github", "gitlab"),
    ):
        gathered = option(gathered)
    return gathered  # type: ignore[return-value]


def _links(command: Command) -> Command:
    return _option(
        "--links",
        metavar="URL",
        help="Where the files can be read, for links to lines: https://HOST/OWNER/NAME/blob/COMMIT/. "
        "Known by itself in GitHub Actions and GitLab CI.",
    )(command)


def _selection(command: Command) -> Command:
    command = _option(
        "--exclude",
        multiple=True,
        metavar="GLOB",
        help="Leave out these addresses, or label:NAME. Can be repeated; wins over --select.",
    )(command)
    return _option(
        "--select",
        multiple=True,
        metavar="GLOB",
        help="Only these addresses, or label:NAME. Can be repeated.",
    )(command)


_no_cache = _option(
    "--no-cache",
    is_flag=True,
    help="Read every file, also those that did not change since they were read last.",
)


def _plan_options(command: Command) -> Command:
    for option in (
        _option(
            "--since",
            metavar="REVISION",
            help="Only profiles whose files changed since this git revision.",
        ),
        _selection,
        _option(
            "--prune",
            is_flag=True,
            help="Delete recorded profiles that are in no file, within the caps.",
        ),
        _option(
            "--reassert",
            is_flag=True,
            help="Send every managed field again, whatever the state says.",
        ),
        _option(
            "--refresh",
            is_flag=True,
            help="First read what the API will tell: custom attributes and identifiers.",
        ),
    ):
        command = option(command)
    return command


_show_requests = _option("--show-requests", is_flag=True, help="Print the exact requests.")


@click.group(cls=_Door, context_settings=HELP)
@click.version_option(__version__, prog_name="reconcile")
@_option("--config", metavar="FILE", help="The configuration; by default found upwards from here.")
@_option("--env", metavar="NAME", help="The environment; by default the configured one.")
@_option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="When to use colour; auto respects NO_COLOR.",
)
@_option("--run", metavar="NAME", help="What {run} stands for in profile files.")
@_option("--worker", metavar="NAME", help="What {worker} stands for in them; main by default.")
@click.pass_context
def main(
    context: click.Context,
    config: str | None,
    env: str | None,
    color: str,
    run: str | None,
    worker: str | None,
) -> None:
    """Manage end-user profiles the way Terraform manages infrastructure.

    Desired profiles are YAML files; `plan` shows what would change, `apply` makes it so.
    """
    context.obj = _App(config, env, color, run, worker)


# --- commands ------------------------------------------------------------------------------------


@main.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Write a first reconcile.yaml, profiles/ and .gitignore lines."""
    from reconciler.config.template import TEMPLATE

    example = (
        "customer_user_id: qa-jane\n"
        "first_name: Jane\n"
        "email: jane.doe@example.com\n"
        "custom_attributes:\n"
        "  favourite_sport: yoga\n"
        "meta:\n"
        "  labels: [qa]\n"
    )
    config = folder / "reconcile.yaml"
    if config.exists():
        raise Refused(f"{config} exists already; nothing was written", hint="Edit it instead.")
    profiles = folder / "profiles"
    profiles.mkdir(parents=True, exist_ok=True)
    config.write_text(TEMPLATE, "utf-8")
    _print(f"wrote {shown(str(config))}")
    if not any(profiles.iterdir()):
        (profiles / "jane.yaml").write_text(example, "utf-8")
        _print(f"wrote {shown(str(profiles / 'jane.yaml'))}")
    ignore = folder / ".gitignore"
    present = ignore.read_bytes() if ignore.exists() else b""
    missing = [line for line in (b".reconcile/", b"*.plan") if line not in present.splitlines()]
    if missing:
        separator = b"" if present.endswith((b"\n", b"\r")) or not present else b"\n"
        ignore.write_bytes(present + separator + b"\n".join(missing) + b"\n")
        _print(f"wrote {shown(str(ignore))}")
    there = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    _print(f"next: {shown(there)}reconcile plan")


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@_format("text", "json", "markdown", "github", "gitlab", "sarif", "junit")
@_links
@_masking
@click.pass_obj
def validate(
    app: _App, paths: Sequence[Path], format_: str, links: str | None, mask: bool | None
) -> int:
    """Check profile files offline, without a key."""
    with app.workspace(mask=mask) as workspace:
        checked = workspace.validate(paths)
        place = _place_of(workspace.config.root, links) if format_ in _LINKED else None
        name = workspace.environment.name
    found = app.findings(checked.diagnostics)
    if format_ == "text":
        from reconciler.reports.text import diagnostics_text

        if found:
            _print(diagnostics_text(found, color=app.colored(sys.stdout)))
        if checked.valid:
            noun = "profile" if checked.documents == 1 else "profiles"
            _print(f"{checked.documents} {noun} valid.")
    else:
        text = _findings_as(
            format_, found, links=place, environment=name, documents=checked.documents
        )
        _document([text])
    return ExitCode.DONE if checked.valid else ExitCode.INVALID


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@_selection
@_format("yaml", "json")
@_masking
@click.pass_obj
def render(
    app: _App,
    paths: Sequence[Path],
    select: Sequence[str],
    exclude: Sequence[str],
    format_: str,
    mask: bool | None,
) -> None:
    """Print what the profile files mean: defaults, templates and placeholders filled in."""
    from reconciler.authoring.yaml_writer import profile_yaml

    with app.workspace(mask=mask) as workspace:
        found = list(workspace.render(paths, select=select, exclude=exclude))
    if format_ == "yaml":
        _document([f"---\n{profile_yaml(document, app.member)}" for _, document in found])
        return
    _print_json(
        [
            {
                "address": profile.address,
                "source": {"file": profile.source.file, "line": profile.source.line},
                "template": profile.template or None,
                "document": app.document(document.value),
            }
            for profile, document in found
        ]
    )


@main.command("fmt")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@_option("--check", is_flag=True, help="Write nothing; exit with 1 where a file would change.")
@_option("--diff", is_flag=True, help="Write nothing; print what would change.")
@click.pass_obj
def fmt_(app: _App, paths: Sequence[Path], check: bool, diff: bool) -> int:
    """Put profile files in canonical order and quoting; comments stay.

    Needs the extra `fmt`. Identifiers come first, then the fields in their order, then meta.
    """
    from reconciler.reports.text import diagnostics_text, difference_of_texts
    from reconciler.reports.wording import count

    with app.workspace() as workspace:
        done = workspace.format(paths, write=not (check or diff))
    verb = "would format" if check or diff else "formatted"
    for name, before, after in done.changed:
        if diff and app.mask is None:
            color = app.colored(sys.stdout)
            _print(difference_of_texts(name, before=before, after=after, color=color))
        else:
            _print(f"{verb} {shown(name)}")
    if done.diagnostics:
        found = app.findings(done.diagnostics)
        _say(diagnostics_text(found, color=app.colored(sys.stderr)).rstrip("\n"))
    rest = done.files - len(done.changed)
    what = "to format" if check or diff else "formatted"
    _say(f"{count(len(done.changed), 'file')} {what}, {rest:,} left as they are.")
    if done.diagnostics:
        return ExitCode.INVALID
    return ExitCode.FAILED if check and done.changed else ExitCode.DONE


_LINKED = ("markdown", "html", "github", "gitlab", "sarif")
"""Formats that name files from the root of the repository, or link to them."""


def _findings_as(
    format_: str,
    found: Sequence[Diagnostic],
    *,
    links: Links | None,
    environment: str,
    documents: int = 0,
    limit: int | None = None,
) -> str:
    from reconciler.reports import ci
    from reconciler.reports.json import diagnostics_json
    from reconciler.reports.markdown import LIMIT, diagnostics_markdown

    match format_:
        case "json":
            return diagnostics_json(found)
        case "markdown":
            return diagnostics_markdown(
                found, environment=environment, links=links, limit=limit or LIMIT
            )
        case "github":
            return ci.diagnostics_annotations(found, links)
        case "gitlab":
            return ci.diagnostics_gitlab(found, links)
        case "sarif":
            return ci.diagnostics_sarif(found, version=__version__, links=links)
        case "junit":
            return ci.diagnostics_junit(found, documents=documents)
        case _:
            raise AssertionError(format_)


def _place_of(root: Path, base: str | None) -> Links:
    """Where files can be read: as the option says, else as the build says."""
    from reconciler.config.buildinfo import build_info
    from reconciler.reports.blame import folder_in_repository
    from reconciler.reports.view import Links

    if base is None:
        base = build_info(os.environ).files_url
    if base and not re.fullmatch(r"https?://[\w.~:/%@+-]+", base, re.ASCII):
        raise UsageError(
            "--links is not an address of files",
            hint="Write it like https://github.com/OWNER/NAME/blob/COMMIT/.",
        )
    if base and not base.endswith("/"):
        base += "/"
    return Links(base or "", folder_in_repository(root))


@main.command()
@_option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Save the plan for apply.")
@_output
@_plan_options
@_no_cache
@_option("--blame", is_flag=True, help="Say who wrote each line, and who removed one: git blame.")
@_option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes.")
@click.pass_obj
def plan(
    app: _App,
    /,
    out: Path | None,
    output: _Output,
    mask: bool | None,
    blame: bool,
    no_cache: bool,
    detailed_exitcode: bool,
    **options: Any,
) -> int:
    """Show what apply would change."""
    with _signals(app), app.workspace(mask=mask, cache=not no_cache) as workspace:
        links = _links_of(output, workspace.config.root)
        try:
            made, tally = _planned(app, workspace, options, out=out)
        except InputError as problem:
            _deliver_findings(app, problem, output, links, workspace.environment.name)
            raise
        view = app.view(
            made,
            tally=tally,
            rate=workspace.environment.rate,
            blame=workspace.blame(made) if blame else None,
            links=links,
        )
        _deliver(app, view, output)
    if out is not None and output.format_ == "text":
        _say(
            f"saved to {shown(str(out))}; apply exactly this with: reconcile apply {shown(str(out))}"
        )
    pending = detailed_exitcode and not made.is_empty
    return ExitCode.CHANGES if pending else ExitCode.DONE


def _links_of(output: _Output, root: Path) -> Links | None:
    formats = {output.format_, *(format_ for format_, _ in output.files())}
    return _place_of(root, output.links) if formats & {*_LINKED} else None


def _deliver(app: _App, view: PlanView, output: _Output) -> None:
    """Prints a plan, and writes the files that are asked for beside it."""
    from reconciler.atomicfile import write_whole

    for format_, path in output.files():
        write_whole(path, _plan_as(format_, view, output))
    if output.format_ == "text":
        _print_plan(app, view, show_requests=output.show_requests)
    else:
        _document(_plan_as(output.format_, view, output))


def _plan_as(format_: str, view: PlanView, output: _Output) -> Iterable[str]:
    """A plan in a format, in parts."""
    match format_:
        case "json":
            from reconciler.reports.json import plan_json_parts

            return plan_json_parts(view)
        case "markdown":
            from reconciler.reports.markdown import plan_markdown

            return [plan_markdown(view, limit=output.max_bytes, show_requests=output.show_requests)]
        case "html":
            from reconciler.reports.html import plan_html

            return [plan_html(view)]
        case "github":
            from reconciler.reports.ci import plan_annotations

            return [plan_annotations(view)]
        case "gitlab":
            from reconciler.reports.ci import plan_gitlab

            return [plan_gitlab(view)]
        case _:
            raise AssertionError(format_)


def _deliver_findings(
    app: _App, problem: InputError, output: _Output, links: Links | None, environment: str
) -> None:
    """What a review sees instead of a plan that cannot be made."""
    from reconciler.atomicfile import write_whole

    def text(format_: str) -> str:
        found = app.findings(problem.diagnostics)
        return _findings_as(
            format_, found, links=links, environment=environment, limit=output.max_bytes
        )

    if not problem.diagnostics:
        return
    if output.markdown_out is not None:
        write_whole(output.markdown_out, [text("markdown")])
    if output.format_ in ("markdown", "github"):
        _document([text(output.format_)])


def _planned(
    app: _App,
    workspace: Workspace,
    options: dict[str, Any],
    *,
    out: Path | None = None,
) -> tuple[Plan, Tally]:
    """The plan of the files, and its sums; warnings go to stderr."""
    from reconciler.reports.tally import Tally

    def tell(findings: Sequence[Diagnostic]) -> None:
        from reconciler.reports.text import diagnostics_text

        app.progress.clear()
        found = app.findings(findings)
        _say(diagnostics_text(found, color=app.colored(sys.stderr)).rstrip("\n"))

    made, tally = workspace.plan_counted(Tally(), out=out, on_findings=tell, **options)
    app.progress.clear()
    if app.stopping:
        raise Interrupted("interrupted; nothing was planned")
    selecting = options["select"] or options["exclude"] or options["since"]
    if selecting and made.is_empty and not (made.unchanged or made.orphans):
        _say("warning: --select, --exclude and --since leave no profile")
    return made, tally


def _print_plan(app: _App, view: PlanView, *, show_requests: bool = False) -> None:
    from reconciler.reports.plan_text import plan_text_parts

    parts = plan_text_parts(
        view,
        color=app.colored(sys.stdout),
        show_requests=show_requests,
        ascii=_ascii(sys.stdout),
    )
    held, size = [], 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= _AT_ONCE:
            _write(sys.stdout, "".join(held))
            held, size = [], 0
    _write(sys.stdout, "".join(held))


_AT_ONCE = 1 << 18
"""Characters that are printed at a time."""


@main.command()
@click.argument("file", metavar="PLAN", type=click.Path(path_type=Path))
@_output
@click.pass_obj
def show(app: _App, file: Path, output: _Output, mask: bool | None) -> None:
    """Print a saved plan."""
    from reconciler.config.reader import find_config, load_config
    from reconciler.core.contract_files import load_contract
    from reconciler.reports.masking import Mask
    from reconciler.workspace.facade import read_plan

    made = read_plan(file)
    here = Path.cwd()
    given = Path(app.config) if app.config else find_config(here)
    config = load_config(given, start=here) if given else None
    if (config is not None and config.mask) if mask is None else mask:
        # A plan does not say its dialect; the later one knows every field, and all others are masked.
        app.mask = Mask(load_contract("openapi"), config.public_attributes if config else ())
    links = _links_of(output, config.root if config else here)
    _deliver(app, app.view(made, links=links), output)


@main.command()
@click.argument("file", metavar="[PLAN]", required=False, type=click.Path(path_type=Path))
@_option("--auto-approve", is_flag=True, help="Do not ask.")
@_plan_options
@_show_requests
@_option(
    "--parallelism",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="The most profiles under way at a time; by default as many as the rate makes use of.",
)
@_option(
    "--rate",
    metavar="N/min",
    help="Requests per minute or second, or auto to learn it; instead of the configured.",
)
@_option("--max-changes", type=click.IntRange(min=0), metavar="N", help="Refuse a larger plan.")
@_option("--digest", metavar="sha256:…", help="Apply only the plan with this digest.")
@_option("--json", "json_", is_flag=True, help="Print an event stream, one JSON object a line.")
@_option("--no-progress", is_flag=True, help="No progress bar on a terminal; a line now and then.")
@_masking
@click.pass_obj
def apply(
    app: _App,
    /,
    file: Path | None,
    auto_approve: bool,
    show_requests: bool,
    parallelism: int | None,
    rate: str | None,
    max_changes: int | None,
    digest: str | None,
    json_: bool,
    no_progress: bool,
    mask: bool | None,
    **options: Any,
) -> int:
    """Make it so: apply a saved PLAN, or plan now and apply that."""
    from reconciler.config.settings import parse_rate
    from reconciler.workspace.facade import read_plan

    given_rate = parse_rate(rate) if rate is not None else None
    if file is not None and any(options.values()):
        raise UsageError("a saved plan is applied as it is: plan options do not go with it")
    narrator = _narrator(app, json_=json_, bar=not no_progress)
    with _signals(app), _narrated(narrator), app.workspace(mask=mask) as workspace:
        profiles: Iterable[Profile] | None = None
        tally = None
        if file is not None:
            made = read_plan(file)
        else:
            if options.pop("refresh"):
                workspace.refresh(
                    select=options["select"], exclude=options["exclude"], complete=True
                )
            made, tally = _planned(app, workspace, options)
            profiles = workspace.declared
        workspace.check(made, max_changes=max_changes)
        rate_shown = workspace.environment.rate if given_rate is None else given_rate
        view = app.view(made, tally=tally, rate=rate_shown)
        if not json_:
            _print_plan(app, view, show_requests=show_requests)
        _approve(app, workspace, made, auto_approve=auto_approve, digest=digest)
        code = _carried_out(
            app,
            workspace,
            narrator,
            made,
            max_changes=max_changes,
            rate=given_rate,
            parallelism=parallelism,
            profiles=profiles,
        )
    return code if code or not narrator.broken else ExitCode.FAILED


def _carried_out(
    app: _App, workspace: Workspace, narrator: Narrator, made: Plan, **how: Any
) -> ExitCode:
    """Applies an approved plan, and has the narrator tell it from first to last."""
    narrator.begin(made)
    done = workspace.apply(
        made,
        on_result=lambda result: narrator.result(app.result(result)),
        on_progress=narrator.progress,
        **how,
    )
    code = _code(done, made)
    problems = tuple(map(app.result, done.problems))
    narrator.end(done._replace(problems=problems), code)
    return code


def _narrator(app: _App, *, json_: bool, bar: bool) -> Narrator:
    from reconciler.reports.progress import Events, Lines

    if json_:
        return Events(sys.stdout)
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return Lines(
        sys.stdout,
        sys.stderr,
        color=app.colored(sys.stdout),
        bar=bar and terminal and not os.environ.get("CI"),
    )


@contextmanager
def _narrated(narrator: Narrator) -> Iterator[None]:
    """Has the narrator tell its end also where the run ends by an error."""
    try:
        yield
    except ReconcileError as problem:
        narrator.fail(problem)
        raise


def _approve(
    app: _App,
    workspace: Workspace,
    made: Plan,
    *,
    auto_approve: bool,
    digest: str | None,
) -> None:
    """Asks, where it was not approved before; the only accepted answer is ``yes``.

    Raises Refused where the digest is another one, or nobody can be asked.
    """
    if digest is not None and digest != made.digest:
        raise Refused(
            f"the plan has digest {made.digest}, not the one that was given",
            hint="Plan again, have it reviewed, and apply with its digest.",
        )
    if made.is_empty:
        return
    if auto_approve:
        if workspace.environment.confirm and digest is None:
            raise Refused(
                f"environment {workspace.environment.name} asks for more than --auto-approve",
                hint=f"Give the digest of the reviewed plan too: --digest {made.digest}",
            )
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            "there is no terminal to ask at, and --auto-approve was not given; nothing was sent"
        )
    name = shown(workspace.environment.name)
    answer = _ask(app, f'Apply these changes to "{name}"? Only "yes" is accepted: ')
    if answer != "yes":
        raise Refused("not approved; nothing was sent")


def _ask(app: _App, question: str) -> str:
    """Asks at the terminal. A signal ends the waiting, instead of being noted for later."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in _SIGNALS}
    try:
        if app.stopping:
            raise KeyboardInterrupt
        _write(sys.stderr, question)
        return sys.stdin.readline().strip()
    except KeyboardInterrupt:
        _say("")
        raise Interrupted("interrupted; nothing was sent") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _code(done: ApplyReport, made: Plan) -> ExitCode:
    from reconciler.core.outcomes import Halt, Outcome
    from reconciler.core.plan import HazardKind

    counts = done.counts
    match done.halt:
        case Halt.KEY:
            return ExitCode.NOT_AUTHORISED
        case Halt.APPLICATION:
            return ExitCode.REFUSED
        case Halt.INTERRUPTED:
            return ExitCode.INTERRUPTED
        case _:
            pass
    if done.failed or counts[Outcome.SKIPPED]:
        nothing = not (counts[Outcome.APPLIED] or counts[Outcome.ALREADY])
        away = nothing and all(
            result.unavailable or result.outcome is Outcome.STALE for result in done.problems
        )
        return ExitCode.UNAVAILABLE if away else ExitCode.FAILED
    protected = any(hazard.kind == HazardKind.PROTECTED for hazard in made.hazards)
    return ExitCode.REFUSED if counts[Outcome.STALE] or protected else ExitCode.DONE


@main.command()
@_selection
@_format("text", "json")
@_masking
@click.pass_obj
def refresh(
    app: _App, select: Sequence[str], exclude: Sequence[str], format_: str, mask: bool | None
) -> int:
    """Read what the API will tell, record it, report drift."""
    from reconciler.core.outcomes import DriftKind
    from reconciler.reports.json import drift_json
    from reconciler.reports.text import drift_text

    with _signals(app), app.workspace(mask=mask) as workspace:
        drifts = workspace.refresh(select=select, exclude=exclude)
    if app.mask is not None:
        drifts = [app.mask.drift(drift) for drift in drifts]
    if format_ == "json":
        _print(drift_json(drifts))
    else:
        _print(drift_text(drifts, color=app.colored(sys.stdout)))
    return ExitCode.FAILED if any(d.kind is DriftKind.UNREAD for d in drifts) else ExitCode.DONE


@main.command()
@_option("--auto-approve", is_flag=True, help="Do not ask.")
@_option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@_selection
@_option("--max-changes", type=click.IntRange(min=0), metavar="N", help="Refuse a larger plan.")
@_option("--digest", metavar="sha256:…", help="Apply only the plan with this digest.")
@_option("--json", "json_", is_flag=True, help="Print an event stream, one JSON object a line.")
@click.pass_obj
def sweep(
    app: _App,
    auto_approve: bool,
    dry_run: bool,
    select: Sequence[str],
    exclude: Sequence[str],
    max_changes: int | None,
    digest: str | None,
    json_: bool,
) -> int:
    """Delete what has expired: profiles that this tool created, and no other."""
    narrator = _narrator(app, json_=json_, bar=True)
    with _signals(app), _narrated(narrator), app.workspace() as workspace:
        made = workspace.plan_sweep(select=select, exclude=exclude)
        if not json_:
            _print_plan(app, app.view(made, rate=workspace.environment.rate))
        if dry_run:
            return ExitCode.DONE
        workspace.check(made, max_changes=max_changes)
        _approve(app, workspace, made, auto_approve=auto_approve, digest=digest)
        code = _carried_out(app, workspace, narrator, made, max_changes=max_changes, profiles=())
    return code if code or not narrator.broken else ExitCode.FAILED


@main.group()
def state() -> None:
    """Look at the state, and mend it by hand."""


@state.command("list")
@_format("text", "json")
@_masking
@click.pass_obj
def state_list(app: _App, format_: str, mask: bool | None) -> None:
    """List the recorded profiles."""
    from reconciler.core.record_codec import encode_record
    from reconciler.reports.text import records_text

    with app.workspace(mask=mask) as workspace:
        records = list(workspace.store.records())
    if app.mask is not None:
        records = [app.mask.record(record) for record in records]
    if format_ == "json":
        _print_json([encode_record(record) for record in records])
    else:
        _print(records_text(records, color=app.colored(sys.stdout)))


@state.command("show")
@click.argument("address")
@_format("text", "json")
@_masking
@click.pass_obj
def state_show(app: _App, address: str, format_: str, mask: bool | None) -> None:
    """Show what is known of one profile."""
    from reconciler.core.record_codec import encode_record
    from reconciler.reports.text import record_text

    with app.workspace(mask=mask) as workspace:
        record = workspace.store.record(address)
    if record is None:
        raise Refused(f"the state does not know {address}", hint="See `reconcile state list`.")
    if app.mask is not None:
        record = app.mask.record(record)
    if format_ == "json":
        _print_json(encode_record(record))
    else:
        _print(record_text(record, color=app.colored(sys.stdout)))


@state.command("rm")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@click.pass_obj
def state_rm(app: _App, addresses: Sequence[str]) -> None:
    """Forget profiles; nothing is sent. A backup is made first."""
    with app.workspace() as workspace:
        backup = workspace.forget(addresses)
    _print("\n".join(f"forgot {shown(address)}" for address in addresses))
    _say(f"the state before is in {shown(str(backup))}")


@state.command("pull")
@click.pass_obj
def state_pull(app: _App) -> None:
    """Print the whole state as JSON."""
    from reconciler.core.record_codec import encode_export

    with app.workspace() as workspace:
        _print_json(encode_export(workspace.export()))


@state.command("push")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@_option("--force", is_flag=True, help="Take a state of another lineage or application.")
@click.pass_obj
def state_push(app: _App, file: Path, force: bool) -> None:
    """Replace the state by what `state pull` printed. A backup is made first."""
    import json

    from reconciler.core.record_codec import encode_export
    from reconciler.reports.text import difference_text

    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        data = json.loads(content.decode("utf-8"))
    except OSError as problem:
        raise InputError(f"cannot read {file}: {problem.strerror}") from None
    except (ValueError, RecursionError):
        raise Refused("this is not a state export: it is not JSON") from None
    with app.workspace() as workspace:
        before, backup = workspace.import_state(data, force=force)
        after = workspace.export()
    if app.mask is not None:
        before, after = app.mask.export(before), app.mask.export(after)
    _print(difference_text(encode_export(before), encode_export(after)))
    if backup is not None:
        _say(f"the state before is in {shown(str(backup))}")


@state.command("unlock")
@click.argument("lock_id", metavar="ID")
@click.pass_obj
def state_unlock(app: _App, lock_id: str) -> None:
    """Take the lock from a holder that is gone. The ID is in the message of the refusal."""
    with app.workspace() as workspace:
        workspace.store.unlock(lock_id)
    _print("unlocked")


@main.command()
@_option("--port", type=click.IntRange(0, 65535), default=0, help="The port; 0 takes a free one.")
@_option("--db", metavar="FILE", type=click.Path(path_type=Path), help="Keep profiles here.")
@_option("--fault", multiple=True, metavar="FAULT", help="A fault on request: docs/emulator.md.")
@_option("--seed", type=int, default=0, show_default=True, help="What chance begins with.")
@_option("--header-faults", is_flag=True, help="Let requests bring faults: emulator-fault.")
@_option("--rate-limit", multiple=True, metavar="N/s|N/min", help="The most requests of a key.")
@_option(
    "--rate-mode",
    type=click.Choice(["refuse", "bare", "record"]),
    default="refuse",
    show_default=True,
    help="Above it: 429, 429 without Retry-After, or nothing. It is recorded in any case.",
)
@_option("--log", metavar="FILE", type=click.Path(path_type=Path), help="Append requests here.")
@_option(
    "--dialect",
    type=click.Choice(["guide", "openapi"]),
    default="guide",
    show_default=True,
    help="Which version of the API's contract to judge by.",
)
@_option("--debug", is_flag=True, help="Show and change its inside at /debug/.")
@click.pass_obj
def emulator(
    app: _App,
    port: int,
    db: Path | None,
    fault: Sequence[str],
    seed: int,
    header_faults: bool,
    rate_limit: Sequence[str],
    rate_mode: str,
    log: Path | None,
    dialect: str,
    debug: bool,
) -> int:
    """Run the local API, on 127.0.0.1, until interrupted."""
    from time import sleep

    from reconciler.emulator.api import Emulator, EmulatorServer, RateLimit, RateMode, parse_fault

    faults = [parse_fault(text) for text in fault]
    api = Emulator(
        dialect=dialect,
        db=db,
        debug=debug,
        rate_limits=[RateLimit.parse(text) for text in rate_limit],
        rate_mode=RateMode(rate_mode),
        log_file=log,
    )
    server = EmulatorServer(api, port=port, faults=faults, seed=seed, header_faults=header_faults)
    with _signals(app), server:
        _print(f"listening on {server.url}")
        while not app.stopping:
            sleep(0.1)
            if api.log_problem is not None:
                raise ReconcileError(api.log_problem)
    return ExitCode.INTERRUPTED


def _print_json(value: Any) -> None:
    _print(spelled(value, indent=2))
