"""The requests that follow from an answer: the look-up of a POST, what comes after it, and the removal of
attributes that nobody declared. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core.contract import ATTRIBUTES, IP_COUNTRY, Clear
from reconciler.core.plan import Action, Basis, Change, FieldChange, Op, Request
from reconciler.core.records import Record
from reconciler.core.requests import CUSTOMER_HEADER, PROFILE_HEADER, read
from reconciler.remote.answers import ApiAnswer
from reconciler.values import Json


def look_up(post: Request) -> Request:
    """The request whose answer tells whether a POST has taken effect."""
    return read(post.headers.get(CUSTOMER_HEADER), post.headers.get(PROFILE_HEADER))


def after_look_up(post: Request, answer: ApiAnswer) -> Request | None:
    """The request to send instead of a POST after the ``answer`` to its look-up; ``None`` for nothing."""
    profile_id = post.headers.get(PROFILE_HEADER)
    if answer.data is None or profile_id not in (None, answer.data.profile_id.lower()):
        return post
    if not post.body:
        return None
    return post._replace(method="PATCH", headers=_without(post.headers, PROFILE_HEADER))


def removal_of_undeclared(
    change: Change, record: Record, *, delete_attribute_with: Clear
) -> Change | None:
    """The change that removes custom attributes which nobody declared from an exclusive profile.

    ``record`` is the record after ``change``. The profile got these attributes after its last read,
    and the answer to ``change`` showed them. ``None`` if there are none, or the profile is not exclusive.
    """
    if change.exclusive is None:
        return None
    keys = [key for key in record.unmanaged if key not in change.exclusive]
    if not keys:
        return None
    empty = "" if delete_attribute_with is Clear.EMPTY else None
    last = change.requests[-1]
    request = Request(
        "PATCH",
        last.path,
        _without(last.headers, PROFILE_HEADER) if CUSTOMER_HEADER in last.headers else last.headers,
        {
            **_sent_country(last),
            ATTRIBUTES: [{"key": key, "value": empty} for key in keys],
        },
    )
    fields = tuple(
        FieldChange(f"{ATTRIBUTES}.{key}", Op.CLEAR, None, None, Basis.NONE) for key in keys
    )
    return change._replace(action=Action.UPDATE, fields=fields, requests=(request,))


def _sent_country(request: Request) -> dict[str, Json]:
    """The country that a request sent: the API may take it from the sender's address where a later request
    of the same profile has none (adapty-api 3.2)."""
    country = (request.body or {}).get(IP_COUNTRY)
    return {} if country is None else {IP_COUNTRY: country}


def _without(headers: Mapping[str, str], excluded: str) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != excluded}
