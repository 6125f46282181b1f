"""The errors of a state in a bucket: what is wrong, and what to do next. Pure.

No message repeats what lies in the bucket, but for the name of an environment.
"""

from __future__ import annotations

from reconciler.errors import Message, ReconcileError, StateRefused
from reconciler.state.store import RESTORE_HINT, StateUnreachable
from reconciler.values import shown


def newer_format() -> StateRefused:
    """A newer version of this program wrote the state."""
    return StateRefused(
        "the state in the bucket has a newer format than this program reads",
        hint="Upgrade reconcile; a newer version wrote this state.",
    )


def other_environment(theirs: str, ours: str) -> StateRefused:
    """The prefix is that of another environment."""
    return StateRefused(
        f"this is the state of environment {shown(theirs)}, not of {shown(ours)}",
        hint="Give each environment its own `state.url` in reconcile.yaml.",
    )


def unreadable(what: str) -> StateRefused:
    """An object is not as this program wrote it. ``what`` names it: "the head", "segment 7"."""
    return StateRefused(
        f"{what} of the state in the bucket is damaged, or another program wrote it",
        hint=RESTORE_HINT,
    )


def gap(position: int) -> StateRefused:
    """A segment is missing, though later ones exist."""
    return StateRefused(
        f"segment {position} of the state in the bucket is missing, though later ones exist",
        hint=Message.of(
            "Somebody or something deleted objects of the state, such as a lifecycle rule of the bucket. "
            "Switch that off. ",
            RESTORE_HINT,
        ),
    )


def rolled_back(cache: str | None) -> StateRefused:
    """The bucket holds an older state than the cache, or another one of the same incarnation."""
    way_on = f"If that was meant, remove {shown(cache)} and run again. " if cache else ""
    return StateRefused(
        "the state in the bucket is older than the one that this machine saw last, or another one",
        hint=Message.of(
            "The bucket was put back to an earlier time, or objects of it were deleted. ",
            way_on,
            RESTORE_HINT,
        ),
    )


def no_head() -> StateRefused:
    """Objects are there, but not the one that all begins with."""
    return StateRefused(
        "the head of the state in the bucket is missing, though other objects are there",
        hint="Put the object `head` back, for example from the versions that the bucket keeps. To begin "
        "anew, remove everything below the prefix of the state.",
    )


def no_snapshot() -> StateRefused:
    """What the head names is not there."""
    return StateRefused(
        "the snapshots of the state in the bucket are missing or damaged",
        hint=Message.of("Objects of the state were deleted or altered. ", RESTORE_HINT),
    )


def unsteady() -> ReconcileError:
    """The log was compacted faster than it could be read."""
    return StateUnreachable(
        "the state changed faster than it could be read",
        hint="Run again. If it stays so, look at who writes this state all the time.",
    )


def cache_damaged() -> ReconcileError:
    """The local copy failed; it was thrown away."""
    return StateUnreachable(
        "the local copy of the state could not be used, and was thrown away",
        hint="Run again; it is made anew from the bucket. Check the free space of the disk.",
    )
