"""The meaning of an answer of the API, and the result of a call. Pure.

A call is done only if a complete JSON body names the requested profile. If the request may have taken
effect and no such body says so, the result is *unknown* (reliability 2, P14 and P15). A refusal is one by
its status alone, whatever its body is: the body only gives the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz
from enum import StrEnum
from typing import NamedTuple

from reconciler.core.endpoints import CUSTOMER_HEADER, PROFILE_HEADER
from reconciler.core.facets.facet import Facet
from reconciler.core.facets.parts import text_of
from reconciler.core.facets.registry import facet_of_request, shown_values
from reconciler.core.plan import Request
from reconciler.remote.error_text import read_error, strict_json
from reconciler.values import FieldPath, Scalar

MISSING = frozenset({"profile_does_not_exist", "profile_not_found"})
"""Error codes for a profile that does not exist (adapty-api 6.2, 7.13)."""
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NOT_PROCESSED = 408
"""The server did not wait for the request, or says so of a connection on which none was sent."""
_LONGEST_REASON = 300
"""Characters."""
_LONGEST_PAGE = 100
"""Characters of a page that is shown in place of an answer."""
_LONG_KEY = 16
_SHORT_KEY = 8
"""Characters. No text holds a key of 16 by chance. Many hold one of less than 8, or a short word."""


class CallResult(StrEnum):
    """How a call ended."""

    DONE = "done"
    REFUSED = "refused"
    """The API judged the request and said no. We assume that nothing took effect (adapty-api 7.36)."""
    NOT_SENT = "not_sent"
    """No byte of the request left, or the API did not process it."""
    UNKNOWN = "unknown"
    """The request may have taken effect, or may do so later."""


class Body(NamedTuple):
    """The body of a response, decoded."""

    content: bytes
    flaw: str = ""
    """The reason why the content is not what was sent, or not all of it: "an incomplete body", say."""


class ProfileData(NamedTuple):
    """The profile of a successful answer (adapty-api 5.1)."""

    app_id: str | None
    profile_id: str
    customer_user_id: str | None
    timestamp: int | None
    values: Mapping[FieldPath, Scalar]
    """The normalised values of all fields that answers show."""


class ApiAnswer(NamedTuple):
    """The result of a call, with all that the API said. ``message`` may be the API's own text, so it is
    untrusted. It holds neither the key nor our values, unless the API quotes them."""

    result: CallResult
    status: int | None = None
    data: ProfileData | None = None
    own: Mapping[FieldPath, Scalar] | None = None
    """The values that the answer to a facet's own request shows; ``None`` if it is a profile."""
    error_code: str | None = None
    message: str = ""
    request_id: str | None = None
    attempts: int = 1
    """Requests that left, or tried to. 0 for a call that was stopped, or that cannot be sent at all."""
    unknown_before: bool = False
    """Whether an earlier attempt of the call has an unknown outcome, so that it may still land."""
    retry_after: float | None = None
    """Seconds that the API asked us to wait."""
    served_at: float | None = None
    """The time of the answer by the API's clock, in Unix seconds."""
    is_legible: bool = True
    """Whether the body could be read. If not, the status is all that is known."""
    is_outage: bool = False
    """Whether somebody else answered in place of the API, such as a maintenance page with status 200."""

    @property
    def is_missing(self) -> bool:
        """Whether the API said that there is no such profile."""
        return self.result is CallResult.REFUSED and (self.error_code or "") in MISSING

    @property
    def may_be_missing(self) -> bool:
        """Whether this is a 404 that does not say of what, so that a read has to tell."""
        return self.result is CallResult.REFUSED and self.status == 404 and not self.is_legible

    @property
    def is_unauthorised(self) -> bool:
        """Whether the API refused the key."""
        return self.result is CallResult.REFUSED and self.status in (401, 403)

    @property
    def is_unavailable(self) -> bool:
        """Whether the API was away or short of capacity, rather than against the request."""
        return self.result in (CallResult.NOT_SENT, CallResult.UNKNOWN) or self.status == 429


def judge(
    request: Request,
    status: int,
    *,
    headers: Mapping[str, str],
    body: Body,
    key: str,
    now: float,
) -> ApiAnswer:
    """The meaning of a response to ``request``.

    ``key`` is removed from every text of the API. ``now`` is Unix time in seconds, for a ``Retry-After``
    that is a date, in an answer without one.
    """
    base = ApiAnswer(
        CallResult.UNKNOWN,
        status=status,
        request_id=_token(headers.get("Request-Id"), key),
        served_at=_unix_time(headers.get("Date", "")),
        is_legible=not body.flaw and bool(body.content.strip()),
    )
    if request.method == "DELETE" and status == 204:
        return base._replace(result=CallResult.DONE, is_legible=True)
    if 200 <= status < 300:
        return _success(request, base, body=body, key=key)
    error = read_error(without_key_bytes(body.content, key))
    code = read_error(body.content).code if not body.flaw else None
    text = without_key(error.reason, key) or f"the API answered {status}"
    if not error.reason and body.flaw:
        text += f" with {body.flaw}"
    if 300 <= status < 400:
        text = f"the API answered with a redirect ({status}), which is not followed"
    is_refusal = 400 <= status < 500 and status != _NOT_PROCESSED
    return base._replace(
        result=CallResult.REFUSED if is_refusal else CallResult.UNKNOWN,
        error_code=_token(code, key) or ("rate_limited" if status == 429 else None),
        message=text[:_LONGEST_REASON],
        retry_after=_retry_after(headers, now=now),
    )


def _success(request: Request, base: ApiAnswer, *, body: Body, key: str) -> ApiAnswer:
    """The answer of a status that says success: the body decides whether it is one."""
    status = base.status
    if body.flaw:
        return base._replace(message=f"status {status} with {body.flaw}", is_outage=True)
    facet = facet_of_request(request)
    if facet is not None and (own := _own_values(facet, request, body=body.content)) is not None:
        return base._replace(result=CallResult.DONE, own=own, is_legible=True)
    data = _profile_data(body.content)
    if data is None and not _is_of_api(body.content):
        page = without_key(read_error(without_key_bytes(body.content, key)).reason, key)
        what = "a page in place of a profile" if body.content.strip() else "an empty body"
        text = f"status {status} with {what}"
        return base._replace(
            message=f"{text}: {page[:_LONGEST_PAGE]}" if page else text, is_outage=True
        )
    if data is None:
        return base._replace(message=f"status {status} with a body that is not a profile")
    if not _names(data, request.headers):
        return base._replace(message="the answer is about another profile")
    return base._replace(result=CallResult.DONE, data=data)


def _is_of_api(body: bytes) -> bool:
    """Whether the body of a success has the outermost member that every such body of the API has."""
    try:
        data = strict_json(body)
    except (ValueError, RecursionError):
        # Damaged JSON may well be the API's; a page is none.
        return body.lstrip()[:1] in (b"{", b"[")
    return isinstance(data, dict) and "data" in data


# --- the key -------------------------------------------------------------------------------------


def without_key(text: str, key: str) -> str:
    """The text without the key. A key that texts contain by chance stays: it is no secret."""
    return text.replace(key, "(key)") if _is_secret(key) else text


def without_key_bytes(content: bytes, key: str) -> bytes:
    """The same for the bytes of a body, so that no cut can leave half of a key."""
    return content.replace(key.encode(), b"(key)") if _is_secret(key) else content


def _is_secret(key: str) -> bool:
    return len(key) >= _LONG_KEY or (len(key) >= _SHORT_KEY and not key.isalpha())


def _token(text: str | None, key: str) -> str | None:
    """A code or an id of an answer, if it is one. A code that the program understands is never the key."""
    if text in MISSING:
        return text
    fits = text is not None and _TOKEN.fullmatch(text) and without_key(text, key) == text
    return text if fits else None


# --- the parts of an answer ----------------------------------------------------------------------


def _profile_data(body: bytes) -> ProfileData | None:
    """The profile in a body. ``None`` if the body is no profile, or not a whole one."""
    try:
        data = strict_json(body)["data"]
        optional = [data.get(name) for name in ("app_id", "customer_user_id")]
        app_id, customer = [None if text is None else text_of(text) for text in optional]
        timestamp = data.get("timestamp")
        return ProfileData(
            app_id=app_id,
            profile_id=text_of(data["profile_id"]),
            customer_user_id=customer,
            timestamp=timestamp if type(timestamp) is int else None,
            values=shown_values(data),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _own_values(
    facet: Facet, request: Request, *, body: bytes
) -> Mapping[FieldPath, Scalar] | None:
    """The values in the answer to a facet's own request. ``None`` if it is to be a profile, or none of the
    API's."""
    try:
        content = strict_json(body) if body.strip() else None
        return facet.own_answer(request, content)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _names(data: ProfileData, headers: Mapping[str, str]) -> bool:
    """Whether the profile of an answer is the one that the headers of its request name."""
    by_name = {name.lower(): value for name, value in headers.items()}
    customer, profile = by_name.get(CUSTOMER_HEADER), by_name.get(PROFILE_HEADER)
    if customer is None and profile is None:
        return False
    return (customer is None or data.customer_user_id == customer) and (
        profile is None or data.profile_id.lower() == profile.lower()
    )


def _retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """The seconds of a ``Retry-After`` in either form. ``None`` for anything else.

    A date is compared with the date of the answer, if it has one: both are of one clock, and ours may differ.
    """
    text = headers.get("Retry-After")
    if text is None:
        return None
    if re.fullmatch(r"[0-9]+", text.strip(), re.ASCII):
        return float(text)
    until = _unix_time(text)
    answered = _unix_time(headers.get("Date", ""))
    return None if until is None else max(0.0, until - (now if answered is None else answered))


def _unix_time(text: str) -> float | None:
    """The Unix time of a date as HTTP writes it, in seconds. ``None`` for anything else."""
    try:
        parts = parsedate_tz(text.strip())
        return float(mktime_tz((*parts[:9], parts[9] or 0))) if parts else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
