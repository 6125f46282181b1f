"""Deleting recorded profiles: orphans that are pruned, expired profiles that are swept. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from reconciler.core.endpoints import PATH, headers, read_recorded
from reconciler.core.lifetimes import expiry, utc
from reconciler.core.options import Target
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    FieldChange,
    Hazard,
    HazardKind,
    Head,
    Mode,
    Op,
    Plan,
    Request,
    Scope,
)
from reconciler.core.plan_format import assemble_plan
from reconciler.core.records import Fact, Header, Known, Origin, Presence, Record

_IN_NO_FILE = "in no file"
_TEARDOWN = "selected to be destroyed"


def removal_reason(*, is_teardown: bool) -> str:
    """Why a record is to be deleted."""
    return _TEARDOWN if is_teardown else _IN_NO_FILE


def removal(record: Record, reason: str = _IN_NO_FILE, *, is_read: bool = False) -> Change:
    """The change that deletes a recorded profile by the ``profile_id`` that the API gave it: another profile
    that got its customer id since is not touched. A profile without one is looked up, never deleted.

    ``is_read`` says that the record is what the API said for this plan, and not what the state holds.
    """
    if record.presence is Presence.GONE or record.profile_id is None:
        return _removal_of_record(record, reason, is_read=is_read)
    hazards = [Hazard(HazardKind.DELETE, "will be deleted with all related data; there is no undo")]
    if record.origin is not Origin.CREATED:
        hazards.append(_NOT_CREATED)
    return Change(
        record.address,
        Action.DELETE,
        reason,
        fields=tuple(_lost(record)),
        requests=(Request("DELETE", PATH, headers(None, record.profile_id)),),
        hazards=tuple(hazards),
        source=record.source,
        revision=record.revision,
        was_from_environment=record.from_environment,
    )


def _lost(record: Record) -> Iterator[FieldChange]:
    """What is known of a profile, which its deletion takes away: the managed fields, and those that were seen
    at the API although nobody declares them."""
    values = {
        path: (fact.value, _basis(fact))
        for path, fact in record.facts.items()
        if fact.known in (Known.VALUE, Known.UNCERTAIN)
    }
    seen = {
        path: (value, Basis.OBSERVED) for path, value in record.seen.items() if value is not None
    }
    for path, (value, basis) in sorted({**seen, **values}.items()):
        yield FieldChange(path, Op.CLEAR, before=value, after=None, basis=basis)


def _basis(fact: Fact) -> Basis:
    if fact.known is Known.UNCERTAIN:
        return Basis.UNCERTAIN
    return Basis.OBSERVED if fact.observed else Basis.RECORDED


def _removal_of_record(record: Record, reason: str, *, is_read: bool) -> Change:
    """The change that drops the record of a profile that does not exist, as far as we know. It is read first
    where an earlier write may have made it meanwhile, and where only the plan knows that it is gone; if it is
    there, the record stays."""
    finding = "the API said that it does not exist: dropped from the state"
    if is_read:
        finding += " if that is still so"
    if record.presence is not Presence.GONE:
        finding = (
            "its creation ended unknown: dropped from the state if the API knows no such profile"
        )
    is_looked_up = is_read or record.presence is not Presence.GONE or record.unknown_at is not None
    return Change(
        record.address,
        Action.FORGET,
        f"{reason}, and {finding}",
        requests=(read_recorded(record),) if is_looked_up else (),
        source=record.source,
        revision=record.revision,
    )


_NOT_CREATED = Hazard(
    HazardKind.DELETE_ADOPTED,
    "will be deleted although this tool did not create it, or is not known to have",
)


def expired(records: Iterable[Record], *, now: float) -> Iterator[tuple[Record, str]]:
    """Those of some records that may be swept at a time (Unix seconds), each with the reason: this tool
    created the profile, and its lifetime is over. Protected ones never are."""
    for record in records:
        is_ours = record.origin is Origin.CREATED and record.created_at is not None
        if not is_ours or record.lifetime is None or record.protect:
            continue
        end = expiry(record.lifetime, record.created_at)
        if end is not None and end <= now:
            yield record, f"created by this tool, and expired on {utc(end)}"


def make_removal(
    removed: Iterable[tuple[Record, str]],
    *,
    header: Header,
    environment: str,
    mode: Mode,
    target: Target | None = None,
    scope: Scope | None = None,
    hazards: Iterable[Hazard] = (),
) -> Plan:
    """The plan that deletes some recorded profiles, each for its reason, and nothing else.

    A profile is deleted by the id that it got from the API, where that is known: one that was given its
    customer id since is not touched. Protected ones stay, which the plan says.
    """
    wanted = sorted(removed, key=lambda item: item[0].address)
    head = Head(
        environment,
        mode,
        header.lineage,
        header.serial,
        header.application,
        scope or Scope(),
        target,
    )
    protected = [record.address for record, _ in wanted if record.protect]
    return assemble_plan(
        head,
        changes=tuple(removal(record, reason) for record, reason in wanted if not record.protect),
        hazards=(*hazards, *kept_hazards(protected, "to be deleted")),
    )


_MOST_NAMED = 50
"""Profiles that a sentence about kept ones names. The orphans of a plan name all of them."""


def kept_hazards(
    protected: Sequence[str], reason: str = _IN_NO_FILE, *, adopted: Sequence[str] = ()
) -> Iterator[Hazard]:
    """Says which profiles are not deleted: the protected ones, and those that this tool did not create."""
    if protected:
        yield Hazard(
            HazardKind.PROTECTED,
            f"kept although {reason}, because protected: {_named(protected)}",
        )
    if adopted:
        way_out = "; --include-adopted deletes them too" if reason == _IN_NO_FILE else ""
        yield Hazard(
            HazardKind.ADOPTED,
            f"kept although {reason}, because this tool did not create them, or is not known to have: "
            f"{_named(adopted)}{way_out}",
        )


def existing_hazards(existing: Sequence[str]) -> Iterator[Hazard]:
    """Says which profiles exist that the state does not record, where none may be adopted."""
    if existing:
        noun = (
            "a profile that exists and is" if len(existing) == 1 else "profiles that exist and are"
        )
        yield Hazard(
            HazardKind.EXISTING,
            f"writes {noun} not recorded, which `on_existing: refuse` forbids: {_named(existing)}",
        )


def shrunk_hazards(
    orphans: Mapping[str, int], is_present: Callable[[str], bool], *, committed_only: bool
) -> Iterator[Hazard]:
    """Says which of the files that orphans are recorded from still exist: a file that was cut between two
    documents is valid. ``orphans`` are counted by file.

    With ``committed_only``, the sentences name the condition under which apply deletes these orphans.
    """
    condition = (
        "; apply deletes them only if git has the file committed as it is" if committed_only else ""
    )
    for file, number in sorted(orphans.items()):
        if is_present(file):
            phrase = "profile of it is" if number == 1 else "profiles of it are"
            yield Hazard(
                HazardKind.FILE_SHRANK,
                f"{file} still exists, but {number} {phrase} no longer declared: make sure that it was not "
                f"cut off{condition}",
                file,
                number,
            )


def _named(addresses: Sequence[str]) -> str:
    more = len(addresses) - _MOST_NAMED
    return ", ".join(addresses[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
