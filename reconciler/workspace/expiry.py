"""Warnings about declared profiles whose lifetime has ended, or soon will. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from reconciler.commands import Command
from reconciler.core.lifetimes import expiry, utc
from reconciler.core.profiles import Profile
from reconciler.core.records import Record
from reconciler.errors import Diagnostic, Message, Source, warning

NOTICE = 3 * 86400.0
"""Seconds before its end from which on a lifetime is warned of; of a short one, its last quarter."""
_BATCH = 2_000
"""Records that are looked up at a time."""


def expiry_warnings(
    lifetimes: Iterable[tuple[str, int, str]],
    *,
    records_of: Callable[[Sequence[str]], Mapping[str, Record]],
    profile_of: Callable[[int], Profile],
    now: float,
) -> list[Diagnostic]:
    """Warnings of profiles that have expired at ``now`` (Unix seconds), or soon will; one a template.

    ``lifetimes`` gives address, id and lifetime of each declared profile that has a lifetime.
    """
    ending: dict[tuple[Source, bool], list[tuple[float, Profile]]] = {}
    lifetimes = iter(lifetimes)
    while batch := [*islice(lifetimes, _BATCH)]:
        records = records_of([address for address, _, _ in batch])
        for address, number, lifetime in batch:
            record = records.get(address)
            created = record.created_at if record else None
            end = expiry(lifetime, created)
            notice = NOTICE if created is None else min(NOTICE, ((end or 0) - created) / 4)
            if end is not None and end - now <= notice:
                profile = profile_of(number)
                ending.setdefault((profile.source, end <= now), []).append((end, profile))
    return [
        _warning(ends, source, is_over=is_over)
        for (source, is_over), ends in sorted(ending.items(), key=lambda item: item[0])
    ]


def _warning(ends: Sequence[tuple[float, Profile]], source: Source, *, is_over: bool) -> Diagnostic:
    end, profile = min(ends, key=lambda item: item[0])
    subject = profile.address
    if len(ends) > 1:
        subject = f"{len(ends)} profiles of {profile.template or profile.address}"
    verb = "expired" if is_over else "expire" if len(ends) > 1 else "expires"
    return warning(
        "meta/expired" if is_over else "meta/expires-soon",
        f"{subject} {verb} on {utc(end)}" + (", the first of them" if len(ends) > 1 else ""),
        source=source,
        hint=Message.of(
            Command.of("sweep"),
            " deletes what this tool created, and the next apply would create it again: take it out "
            "of the files, or give it more time.",
        )
        if is_over
        else "Give it more time, or take it out of the files by then.",
    )
