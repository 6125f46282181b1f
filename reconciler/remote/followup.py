"""The requests that follow from an answer: the look-up of a POST, and what comes after it. Pure."""

from __future__ import annotations

from reconciler.core.endpoints import CUSTOMER_HEADER, PROFILE_HEADER, read, without_profile_id
from reconciler.core.plan import Request
from reconciler.remote.answers import ApiAnswer


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
    return post._replace(method="PATCH", headers=without_profile_id(post.headers))
