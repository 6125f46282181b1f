"""The requests that follow from an answer: the look-up of a POST, and what comes after it. Pure."""

from __future__ import annotations

from reconciler.core.endpoints import CUSTOMER_HEADER, PROFILE_HEADER, read, without_profile_id
from reconciler.core.facets.registry import facet_of_request
from reconciler.core.plan import Request
from reconciler.remote.answers import ApiAnswer


def profile_of(request: Request) -> Request:
    """The request that reads the profile which a request is about."""
    return read(request.headers.get(CUSTOMER_HEADER), request.headers.get(PROFILE_HEADER))


def look_up(post: Request) -> Request:
    """The request whose answer tells whether a POST has taken effect."""
    facet = facet_of_request(post)
    own = None if facet is None else facet.reading(profile_of(post).headers)
    return own or profile_of(post)


def after_look_up(post: Request, answer: ApiAnswer, *, now: float = 0.0) -> Request | None:
    """The request to send instead of a POST after the ``answer`` to its look-up; ``None`` for nothing.
    ``now`` is Unix time in seconds."""
    facet = facet_of_request(post)
    if facet is not None:
        shown = answer.own if answer.data is None else answer.data.values
        return None if shown is not None and facet.is_settled(post, shown, now=now) else post
    profile_id = post.headers.get(PROFILE_HEADER)
    if answer.data is None or profile_id not in (None, answer.data.profile_id.lower()):
        return post
    if not post.body:
        return None
    return post._replace(method="PATCH", headers=without_profile_id(post.headers))
