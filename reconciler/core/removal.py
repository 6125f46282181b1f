"""Deleting recorded profiles: orphans that are pruned, expired profiles that are swept. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reconciler.core.lifetimes import expiry, utc
from reconciler.core.plan import (
    Action,
    Change,
    Hazard,
    HazardKind,
    Head,
    Mode,
    Plan,
    Request,
    Scope,
)
from reconciler.core.plan_format import assemble_plan
from reconciler.core.records import Header, Presence, Record
from reconciler.core.requests import PATH, headers

_IN_NO_FILE = "in no file"


def removal(record: Record, reason: str = _IN_NO_FILE, *, exact: bool = False) -> Change:
    if record.presence is Presence.GONE:
        return Change(
            record.address,
            Action.FORGET,
            f"{reason}, and the API said that it does not exist: dropped from the state",
            source=record.source,
            revision=record.revision,
        )
    anonymous = record.address != record.customer_user_id or (exact and record.profile_id)
    named = headers(None, record.profile_id) if anonymous else headers(record.address, None)
    return Change(
        record.address,
        Action.DELETE,
        reason,
        requests=(Request("DELETE", PATH, named),),
        hazards=(
            Hazard(HazardKind.DELETE, "deletes the profile and its related data; there is no undo"),
        ),
        source=record.source,
        revision=record.revision,
    )


def expired(records: Iterable[Record], *, now: float) -> Iterator[tuple[Record, str]]:
    """Those of some records that may be swept at a time (Unix seconds), each with the reason: this tool
    created the profile, and its lifetime is over. Protected ones never are."""
    for record in records:
        if record.created_at is None or record.lifetime is None or record.protect:
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
    scope: Scope | None = None,
    hazards: Iterable[Hazard] = (),
) -> Plan:
    """The plan that deletes some recorded profiles, each for its reason, and nothing else.

    A profile is deleted by the id that it got from the API, where that is known: one that was given its
    customer id since is not touched. Protected ones stay, which the plan says.
    """
    wanted = sorted(removed, key=lambda item: item[0].address)
    head = Head(
        environment, mode, header.lineage, header.serial, header.application, scope or Scope()
    )
    protected = [record.address for record, _ in wanted if record.protect]
    return assemble_plan(
        head,
        changes=tuple(
            removal(record, reason, exact=True) for record, reason in wanted if not record.protect
        ),
        hazards=(*hazards, *kept_hazards(protected, "to be deleted")),
    )


def kept_hazards(protected: Sequence[str], reason: str = _IN_NO_FILE) -> Iterator[Hazard]:
    if protected:
        yield Hazard(
            HazardKind.PROTECTED,
            f"kept although {reason}, because protected: {', '.join(protected)}",
        )
