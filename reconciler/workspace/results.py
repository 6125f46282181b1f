"""The values that the façade returns, and the errors for invalid files and unread profiles. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from reconciler.commands import Command
from reconciler.core.outcomes import Drift, DriftKind
from reconciler.core.profiles import Profile
from reconciler.errors import Diagnostic, InputError, Message, ReconcileError
from reconciler.values import shown

if TYPE_CHECKING:
    from reconciler.planning.catalog import DeclaredProfiles


class Checked(NamedTuple):
    """The result of a validation: the valid profiles in the order of their addresses, and all findings.

    Many profiles are not held in memory. They are read from the index, as it was at the time of the
    validation, each time the caller iterates over them; that ends once the workspace is closed.
    """

    profiles: DeclaredProfiles | tuple[Profile, ...]
    diagnostics: tuple[Diagnostic, ...]
    documents: int

    @property
    def valid(self) -> bool:
        return not any(diagnostic.is_error for diagnostic in self.diagnostics)


class Formatted(NamedTuple):
    """The result of `Workspace.format`.

    ``changed`` holds each file that was not in canonical form, with its text before and after.
    ``diagnostics`` are the errors for which other files stay as they are; ``files`` counts all files.
    """

    changed: tuple[tuple[str, str, str], ...]
    diagnostics: tuple[Diagnostic, ...]
    files: int


def invalid_files(diagnostics: Sequence[Diagnostic]) -> InputError:
    """The error that says how many of some findings are errors, and carries them all."""
    errors = sum(1 for diagnostic in diagnostics if diagnostic.is_error)
    noun = "error" if errors == 1 else "errors"
    return InputError(f"{errors} {noun}; nothing was planned", diagnostics=diagnostics)


def refuse_unread(drifts: Sequence[Drift]) -> None:
    """Raises ReconcileError where a profile could not be read."""
    unread = [drift for drift in drifts if drift.kind is DriftKind.UNREAD]
    if unread:
        first = min(unread, key=lambda drift: drift.address)
        reason = f" ({shown(first.reason)})" if first.reason else ""
        raise ReconcileError(
            f"{len(unread)} of {len(drifts)} profiles could not be read, {shown(first.address)} "
            f"for one{reason}; nothing was planned",
            hint=Message.of("See ", Command.of("refresh"), ", or plan without --refresh."),
        )
