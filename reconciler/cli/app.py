"""Parts of all commands: the options of the program, the workspace that they name, and masking. One
group of commands, `ErrorHandlingGroup`, turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, TextIO

import click

from reconciler.cli.grammar import ProgramCommand, ProgramGroup, write_examples
from reconciler.cli.lock_notice import LockNotice
from reconciler.cli.questions import ask
from reconciler.cli.stopping import ending_on_signals
from reconciler.cli.streams import (
    StatusLine,
    exit_with,
    is_smart_terminal,
    open_closed_streams,
    print_error,
    stderr_line,
)
from reconciler.cli.tracing import print_exchange
from reconciler.commands import CONFIG_NAME, Invocation, Permissions
from reconciler.errors import HIDDEN, ExitCode, InputError, ReconcileError
from reconciler.values import shown

if TYPE_CHECKING:
    from reconciler.core.contract import Contract
    from reconciler.core.outcomes import Result
    from reconciler.errors import Diagnostic, Message
    from reconciler.remote.client import Exchange
    from reconciler.reports.masking import Mask
    from reconciler.workspace.connection import HostQuestion
    from reconciler.workspace.facade import Workspace


_NEVER_MASKED = frozenset({"customer_user_id", "profile_id", "platform", "meta"})
"""Members of a document that name the profile, or belong to this program."""


@dataclass
class App:
    """The options of the program, whether a signal asked it to stop, and the mask of this run."""

    config: str | None = None
    env: str | None = None
    color: str = "auto"
    run: str | None = None
    worker: str | None = None
    permissions: Permissions = field(default_factory=Permissions)
    lock_timeout: float | None = None
    """Seconds to wait for the lock of the state, where an option says so."""
    quiet: bool = False
    verbose: bool = False
    signals: list[int] = field(default_factory=list)
    """Signals that asked the program to stop."""

    mask: Mask | None = None
    """Replaces personal values in everything that is printed, errors included."""

    hiding: Mask | None = None
    """Replaces values from the environment only, where ``mask`` is ``None``; made on first use."""

    environment: str | None = None
    """The environment of the workspace, where the configuration has several."""

    root: Path = field(default_factory=Path)
    """The folder that the names of files in findings are relative to."""

    status: StatusLine = field(default_factory=lambda: StatusLine(sys.stderr))

    def set_option(self, name: str, value: Any) -> None:
        """Takes the value of an option of the program."""
        if name in Permissions._fields:
            self.permissions = self.permissions._replace(**{name: value})
        else:
            setattr(self, name, value)
        self.status.is_quiet = self.quiet or self.verbose  # requests are shown one by one

    @property
    def is_stopping(self) -> bool:
        """Whether a signal asked the program to stop: nothing new starts."""
        return bool(self.signals)

    @property
    def invocation(self) -> Invocation:
        """The options that suggested commands repeat."""
        env = self.env or self.environment
        config = None if self.config == CONFIG_NAME else self.config  # the search begins with it
        return Invocation(config, env, self.run, self.worker, self.permissions)

    def may_use_host(self, question: HostQuestion) -> bool:
        """Whether the person at the terminal lets a key go to a host. Without a terminal the answer is no."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        self.status.clear()
        noun = "Send requests through the proxy" if question.is_proxy else "Send the key to"
        stderr_line(
            f"{noun} {shown(question.host)}? The checkout's configuration says so (environment "
            f"{shown(question.environment)}, key in {shown(question.key_env)}), and nothing outside of the "
            "checkout allows it."
        )
        stderr_line(
            "  To allow it for good, add the host to RECONCILE_ALLOWED_HOSTS or to trust.yaml."
        )
        return ask('Only "yes" is accepted: ', is_stopping=self.is_stopping) == "yes"

    @contextmanager
    def workspace(self, *, mask: bool | None = None, cache: bool = True) -> Iterator[Workspace]:
        """The workspace that the options name; errors leave it masked. ``mask`` overrides the
        configured choice."""
        from reconciler.planning.workers import processes
        from reconciler.workspace.facade import Workspace

        with Workspace.open(
            self.config,
            self.env,
            permissions=self.permissions,
            ask_host=self.may_use_host,
            stop=lambda: self.is_stopping,
            on_progress=self.status.update,
            on_warning=self.warn,
            on_exchange=self.print_exchange if self.verbose else lambda exchange: None,
            pool=processes,
            cache=cache,
            run=self.run,
            worker=self.worker,
        ) as workspace:
            config, state = workspace.config, workspace.state
            self.root = config.root
            if self.lock_timeout is not None:
                state.lock_wait = self.lock_timeout
            if state.lock_wait:
                state.on_lock_wait = LockNotice(self.note, seconds=state.lock_wait)
            if len(config.environments) > 1:
                self.environment = workspace.environment.name
            if config.mask if mask is None else mask:
                self.mask_values(workspace.contract, config.public_attributes)
            try:
                yield workspace
            except ReconcileError as problem:
                problem.repeat(self.invocation)
                if (mask_ := self.mask or self.hiding) is not None:
                    mask_.error(problem)
                raise
            finally:
                self.status.clear()

    def warn(self, message: Message) -> None:
        """Prints a warning to stderr."""
        self.status.clear()
        stderr_line(f"warning: {shown(message.for_invocation(self.invocation).text)}")

    def print_exchange(self, exchange: Exchange) -> None:
        """Prints a request and its answer to stderr, in any thread."""
        self.status.clear()
        print_exchange(exchange)

    def note(self, text: str) -> None:
        """Prints a note to stderr: what a user may want to know, and ``--quiet`` leaves out."""
        if not self.quiet:
            stderr_line(text)

    def mask_values(self, contract: Contract, public_attributes: tuple[str, ...]) -> None:
        """Masks personal values from here on; ``public_attributes`` are patterns of keys that are shown."""
        self.mask = replace(self.any_mask(), contract=contract, public=public_attributes)

    def any_mask(self) -> Mask:
        """The mask of this run. It always replaces values that came from the environment."""
        if self.mask is not None:
            return self.mask
        if self.hiding is None:
            from reconciler.reports.masking import Mask

            self.hiding = Mask(None)
        return self.hiding

    def result(self, result: Result) -> Result:
        """The result of a change, masked. The API may repeat a value in it."""
        mask = self.mask or self.hiding
        return result if mask is None else mask.result(result)

    def findings(self, diagnostics: Sequence[Diagnostic]) -> Sequence[Diagnostic]:
        """Findings, with the commands that they suggest, masked if that is asked for."""
        diagnostics = [diagnostic.for_invocation(self.invocation) for diagnostic in diagnostics]
        if self.mask is None:
            return diagnostics
        return [self.mask.finding(diagnostic) for diagnostic in diagnostics]

    def findings_text(
        self, findings: Sequence[Diagnostic], *, stream: TextIO, everything: bool = False
    ) -> str:
        """Findings as text for a stream, with the lines of their files."""
        from reconciler.cli.findings import text_of_findings  # not needed where there are none

        return text_of_findings(
            findings,
            stream,
            color=self.uses_color(stream),
            root=self.root,
            mask=self.mask,
            everything=everything,
            invocation=self.invocation,
        )

    def member(
        self,
        path: Sequence[str | int],
        value: Any,
        *,
        hidden: Collection[tuple[str | int, ...]] = (),
    ) -> Any:
        """The value at a path of a document, masked if that is asked for. Those at the ``hidden`` paths came
        from the environment, and always are."""
        if any(each[: len(path)] == tuple(path) for each in hidden):
            return HIDDEN
        name = ".".join(str(part) for part in path)
        if (
            self.mask is None
            or value is None
            or path[0] in _NEVER_MASKED
            or not self.mask.hides(name)
        ):
            return value
        return str(self.mask.value(name, value)) if not isinstance(value, list) else "(personal)"

    def document(
        self,
        value: Any,
        path: tuple[str, ...] = (),
        *,
        hidden: Collection[tuple[str | int, ...]] = (),
    ) -> Any:
        """A document, masked like its members."""
        if isinstance(value, dict) and path not in {("meta",)}:
            return {
                name: self.document(item, (*path, name), hidden=hidden)
                for name, item in value.items()
            }
        return self.member(path, value, hidden=hidden)

    def uses_color(self, stream: IO[Any]) -> bool:
        """``--color``, then NO_COLOR, FORCE_COLOR and CLICOLOR_FORCE, then whether it is a terminal."""
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        forced = (os.environ.get(name, "") for name in ("FORCE_COLOR", "CLICOLOR_FORCE"))
        if any(value not in ("", "0") for value in forced):
            return True
        return is_smart_terminal(stream)


class ErrorHandlingGroup(click.Group):
    """The group of all commands: every run of the program ends in its `main`."""

    command_class = ProgramCommand
    group_class = ProgramGroup

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Runs a command, prints the error that it raised, and ends with its exit code."""
        extra["standalone_mode"] = False
        given = args[0] if args else extra.get("args")
        words = sys.argv[1:] if given is None else given
        if "_RECONCILE_COMPLETE" in os.environ:
            import_module("reconciler.cli.completion").answer(self)
            exit_with(ExitCode.DONE)
        open_closed_streams()
        try:
            code = super().main(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as problem:
            click.echo(problem.format_message(), err=True)
            code = ExitCode.USAGE
        except click.UsageError as problem:
            _show_with_advice(problem, words)
            code = ExitCode.USAGE
        except click.Abort:
            stderr_line("interrupted")
            code = ExitCode.INTERRUPTED
        except click.ClickException as problem:
            _show(problem)
            code = ExitCode.FAILED
        except ReconcileError as problem:
            print_error(problem)
            code = problem.exit_code
        except (MemoryError, RuntimeError, ImportError) as problem:
            if not _is_lack_of_memory(problem):
                raise
            stderr_line("error: there is not enough memory")
            stderr_line(
                "  Raise the limit (ulimit -v, or that of the container), or split the files."
            )
            code = ExitCode.FAILED
        except KeyboardInterrupt:
            stderr_line("interrupted")
            code = ExitCode.INTERRUPTED
        except BrokenPipeError:
            code = ExitCode.FAILED
        except OSError as problem:
            where = f"{problem.filename}: " if problem.filename else ""
            stderr_line(f"error: {shown(where + (problem.strerror or type(problem).__name__))}")
            code = ExitCode.FAILED
        exit_with(int(code or 0))


def _is_lack_of_memory(problem: Exception) -> bool:
    """Whether there was no memory for an object, for the stack of a thread, or to load a library."""
    if isinstance(problem, MemoryError):
        return True
    text = str(problem)
    return "can't start new thread" in text or (
        isinstance(problem, ImportError)
        and ("failed to map segment" in text or "Cannot allocate memory" in text)
    )


def _show(problem: click.ClickException) -> None:
    """Prints an error of the command line to stderr, which may quote names of files and values."""
    text = StringIO()
    problem.show(text)
    for line in text.getvalue().splitlines():
        stderr_line(shown(line.expandtabs(4)))


def _show_with_advice(problem: click.UsageError, words: Sequence[str]) -> None:
    """Prints an error about the words of a command line, and what to write instead, where that is known."""
    app = problem.ctx.obj if problem.ctx is not None else None
    invocation = app.invocation if isinstance(app, App) else Invocation()
    line = import_module("reconciler.cli.advice").advice_on(problem, words, invocation=invocation)
    # Advice is better than words that look alike, which are no part of the message itself.
    _show(problem if line is None else click.UsageError(problem.message, problem.ctx))
    if line is not None:
        stderr_line(f"  {shown(line)}")


def implemented_in(
    module: str, *, interrupted: str = "nothing was changed"
) -> Callable[[Callable[..., None]], Callable[..., Any]]:
    """Makes a declaration of a command run the function of its name in ``reconciler.cli.<module>``.

    That module, and everything that it needs, is imported when the command runs. So ``--version``,
    ``--help`` and completion import only the declarations. The function gets the `App`, then the
    options by their names. ``interrupted`` says what a signal leaves undone that comes while the command
    does not watch for signals itself: such a command ends at once.
    """

    def decorate(declaration: Callable[..., None]) -> Callable[..., Any]:
        @click.pass_obj
        @wraps(declaration)
        def run(app: App, /, **options: Any) -> Any:
            try:
                with ending_on_signals(interrupted):
                    return implementation(run)(app, **options)
            except ReconcileError as problem:
                problem.repeat(app.invocation)
                if isinstance(problem, InputError) and problem.diagnostics:
                    problem.rendered = app.findings_text(problem.diagnostics, stream=sys.stderr)
                raise

        vars(run)["implemented_in"] = module
        return run

    return decorate


def implementation(callback: Callable[..., Any]) -> Callable[..., Any]:
    """The function that carries out a command, by the callback of its declaration."""
    module = import_module(f"reconciler.cli.{vars(callback)['implemented_in']}")
    function: Callable[..., Any] = getattr(module, callback.__name__)
    return function
