"""Renames of records: findings about those that files ask for, and a rename by hand. An edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from reconciler.commands import Command
from reconciler.core.profiles import Profile
from reconciler.core.records import JournalEntry, JournalKind, Record
from reconciler.core.renames import (
    Identifiers,
    former_address,
    impossible,
    record_to_rename,
    refused,
    renamed,
)
from reconciler.errors import Diagnostic, Message, Quote, Refused, warning
from reconciler.values import shown
from reconciler.workspace.sources import Sources
from reconciler.workspace.state_admin import StateAdmin

_BATCH = 2_000
"""Records that are looked up at a time."""


def rename_findings(
    previously: Iterable[tuple[str, int, Sequence[str]]],
    *,
    records_of: Callable[[Sequence[str]], Mapping[str, Record]],
    profile_of: Callable[[int], Profile],
) -> list[Diagnostic]:
    """Errors about renames that the state does not allow, and warnings about those that it no longer needs.

    ``previously`` gives address, id and former addresses of each declared profile that names some.
    """
    findings = []
    source = iter(previously)
    while batch := [*islice(source, _BATCH)]:
        records = records_of(
            [name for address, _, formers in batch for name in (address, *formers)]
        )
        for address, number, formers in batch:
            record, profile = records.get(address), profile_of(number)
            match = record_to_rename(profile, record, previous=records)
            if isinstance(match, Diagnostic):
                findings.append(match)
            elif match is None and record is not None:
                findings.append(_carried_out(profile, formers))
    return findings


def _carried_out(profile: Profile, formers: Sequence[str]) -> Diagnostic:
    return warning(
        "meta/previously-done",
        Message.of(
            "`meta.previously` of ",
            Quote(profile.address),
            " names no record any more: ",
            Quote(", ".join(formers)),
        ),
        source=profile.source,
        hint="Take it out once the state of every environment says so.",
    )


def rename_record(
    former: str,
    address: str,
    *,
    state: StateAdmin,
    sources: Sources,
    now: Callable[[], float],
) -> str | None:
    """Gives the record of a former address a new one; sends nothing. Returns the backup made before, if any.

    All that is known goes along, marks of writes that may still land as well. The quiet period of a profile
    that an apply had under way when it was cut off begins now.

    Raises Refused where the state or the files do not allow it.
    """
    former, address = former_address(former), former_address(address)
    ids = Identifiers.of_address(address)
    problem = impossible(former, ids)
    if problem is not None:
        raise Refused(problem.message, hint=problem.hint)
    _refuse_declared(former, sources)
    with state.locked("state mv") as writer:
        store = state.store
        record = store.record(former)
        if record is None:
            known = f"; {shown(address)} is recorded" if store.record(address) is not None else ""
            raise Refused(
                f"the state does not know {shown(former)}{known}",
                hint=Message.of("See ", Command.of("state", "list"), "."),
            )
        for other in store.records():
            if other.address != former and _is_of(other, ids):
                raise Refused(
                    f"{shown(address)} is recorded already"
                    + (f", as {shown(other.address)}" if other.address != address else ""),
                    hint=Message.of(
                        "Forget the record that is wrong: ",
                        Command.of("state", "rm", "ADDRESS"),
                        ".",
                    ),
                )
        problem = refused(record, ids)
        if problem is not None:
            raise Refused(problem.message, hint=problem.hint)
        backup = writer.backup()
        journal = []
        if record.unknown_at is not None and former in store.interrupted_addresses():
            at = now()
            record = record._replace(unknown_at=at)
            journal.append(JournalEntry("", former, JournalKind.RECOVERED, at))
        writer.write(put=[renamed(record, ids)], remove=[former], journal=journal)
        return backup


def _is_of(record: Record, ids: Identifiers) -> bool:
    """Whether a record is of a profile with one of some identifiers."""
    customer, profile_id = ids
    return record.address == ids.address or (
        customer is not None and record.customer_user_id == customer
        if profile_id is None
        else record.profile_id == profile_id
    )


def _refuse_declared(former: str, sources: Sources) -> None:
    """Raises Refused where a file declares the former address: the next plan would make it anew."""
    for profile in sources.validate().profiles:
        if profile.address == former:
            raise Refused(
                Message.of(Quote(former), f" is still declared, at {profile.source}"),
                hint="Declare it under its new address first.",
            )
