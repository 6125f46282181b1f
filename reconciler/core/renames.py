"""Records whose address changed in the files: which one it is, and what stands against it. Pure.

A customer id cannot be changed at the API. So a record is only renamed where its address changed form: from
``profile:<uuid>`` to the customer id of the same profile, after a link that was made elsewhere, or back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from reconciler.commands import Command
from reconciler.core.profiles import PROFILE_PREFIX, Profile, address_of
from reconciler.core.records import Record
from reconciler.errors import Diagnostic, Message, Quote, error

RULE = "meta/previously"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Identifiers(NamedTuple):
    """The identifiers of a profile that a record is to belong to."""

    customer_user_id: str | None
    profile_id: str | None

    @classmethod
    def of_address(cls, address: str) -> Identifiers:
        """Those that an address tells."""
        if address.startswith(PROFILE_PREFIX):
            return cls(None, address.removeprefix(PROFILE_PREFIX))
        return cls(address, None)

    @property
    def address(self) -> str:
        return address_of(self.customer_user_id, self.profile_id)


class Problem(NamedTuple):
    """Why a record cannot be renamed, and what to do."""

    message: Message
    hint: str | Message


def former_address(text: str) -> str:
    """An address as a user writes it; a profile id has one spelling."""
    return text.lower() if text.lower().startswith(PROFILE_PREFIX) else text


def impossible(former: str, ids: Identifiers) -> Problem | None:
    """Why no record of a former address can ever be that of a profile, whatever the state holds."""
    is_anonymous = former.startswith(PROFILE_PREFIX)
    if is_anonymous and re.fullmatch(_UUID, former.removeprefix(PROFILE_PREFIX)) is None:
        return Problem(
            Message.of(Quote(former), " is no address"),
            "Write a customer id, or profile: and a UUID.",
        )
    if former == ids.address:
        return Problem(
            Message.of(Quote(former), " is the address that it has"), "Name the former one."
        )
    if not is_anonymous and ids.customer_user_id is not None:
        return Problem(
            Message.of(
                Quote(former),
                " and ",
                Quote(ids.customer_user_id),
                " are two customer ids, and the API cannot change the customer id of a profile",
            ),
            "A record is renamed only from profile:<uuid> to the customer id of the same profile, or back. "
            "Another customer id is another profile: declare both, or prune the old one.",
        )
    if is_anonymous and ids.profile_id not in (None, former.removeprefix(PROFILE_PREFIX)):
        return Problem(
            Message.of(Quote(former), f" is another profile than {ids.profile_id}"),
            "Correct one of the two ids.",
        )
    return None


def refused(record: Record, ids: Identifiers) -> Problem | None:
    """Why a record is not that of a profile."""
    customer, profile_id = ids
    if customer is not None and record.customer_user_id not in (None, customer):
        return Problem(
            Message.of(
                Quote(record.address),
                " is recorded with the customer id ",
                Quote(record.customer_user_id or ""),
            ),
            "The API cannot change the customer id of a profile.",
        )
    if profile_id is not None and record.profile_id != profile_id:
        known = f"profile {record.profile_id}" if record.profile_id else "no profile id"
        return Problem(
            Message.of(Quote(record.address), f" is recorded with {known}, not with {profile_id}"),
            "Correct the id, or refresh to learn it.",
        )
    return None


def renamed(record: Record, ids: Identifiers) -> Record:
    """The record under its new address. All that is known stays: facts, marks of writes that may still land,
    and its revision."""
    return record._replace(
        address=ids.address,
        customer_user_id=ids.customer_user_id or record.customer_user_id,
        profile_id=record.profile_id or ids.profile_id,
    )


def record_to_rename(
    profile: Profile, record: Record | None, *, previous: Mapping[str, Record]
) -> Record | Diagnostic | None:
    """The record under a former address of a profile, or what prevents that it is renamed; ``None`` if
    nothing is recorded under one. ``record`` is that of its own address, and ``previous`` holds records by
    their addresses."""
    formers = [previous[former] for former in profile.previously if former in previous]
    if not formers:
        return None
    if record is not None:
        problem: Problem | None = Problem(
            Message.of(
                Quote(formers[0].address),
                " and ",
                Quote(profile.address),
                " are both recorded, so neither is renamed",
            ),
            Message.of(
                "Forget the record that is wrong: ", Command.of("state", "rm", "ADDRESS"), "."
            ),
        )
    elif len(formers) > 1:
        problem = Problem(
            Message.of(
                "two former addresses of ",
                Quote(profile.address),
                " are recorded: ",
                Quote(formers[0].address),
                " and ",
                Quote(formers[1].address),
            ),
            "Name the one that it is.",
        )
    else:
        problem = refused(formers[0], Identifiers(profile.customer_user_id, profile.profile_id))
    if problem is None:
        return formers[0]
    return error(RULE, problem.message, source=profile.source, hint=problem.hint)
