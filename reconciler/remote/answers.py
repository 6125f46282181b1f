"""The meaning of an answer of the API, and the result of a call. Pure.

A call is done only if a complete JSON body names the requested profile. If the request may have taken
effect and no such body says so, the result is *unknown* (reliability 2, P14 and P15).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz
from enum import StrEnum
from typing import Any, NamedTuple

from reconciler.core.plan import Request
from reconciler.core.requests import CUSTOMER_HEADER, PROFILE_HEADER

MISSING = frozenset({"profile_does_not_exist", "profile_not_found"})
"""Error codes for a profile that does not exist (adapty-api 6.2, 7.13)."""
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class CallResult(StrEnum):
    """How a call ended."""

    DONE = "done"
    REFUSED = "refused"
    """The API judged the request and said no. We assume that nothing took effect (adapty-api 7.36)."""
    NOT_SENT = "not_sent"
    """No byte of the request left, or the API did not process it."""
    UNKNOWN = "unknown"
    """The request may have taken effect, or may do so later."""


class ProfileData(NamedTuple):
    """The profile of a successful answer (adapty-api 5.1). Numbers of custom attributes are floats."""

    app_id: str | None
    profile_id: str
    customer_user_id: str | None
    timestamp: int | None
    custom_attributes: Mapping[str, str | float]


class ApiAnswer(NamedTuple):
    """The result of a call, with all that the API said. ``message`` may be the API's own text, so it is
    untrusted. It holds neither the key nor our values, unless the API quotes them."""

    result: CallResult
    status: int | None = None
    data: ProfileData | None = None
    error_code: str | None = None
    message: str = ""
    request_id: str | None = None
    attempts: int = 1
    """Requests that left, or tried to. 0 for a call that was stopped, or that cannot be sent at all."""
    unknown_before: bool = False
    """Whether an earlier attempt of the call has an unknown outcome, so that it may still land."""
    retry_after: float | None = None
    """Seconds that the API asked us to wait."""

    @property
    def is_missing(self) -> bool:
        """Whether the API said that there is no such profile."""
        return self.result is CallResult.REFUSED and (self.error_code or "") in MISSING

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
    body: bytes | None,
    key: str,
    now: float,
) -> ApiAnswer:
    """The meaning of a response to ``request``.

    ``body`` is ``None`` if it is incomplete, oversized or encoded. ``key`` is removed from every text of
    the API. ``now`` is Unix time in seconds, for a ``Retry-After`` that is a date.
    """

    def token(text: str | None) -> str | None:
        fits = text is not None and _TOKEN.fullmatch(text) and key not in text
        return text if fits else None

    base = ApiAnswer(CallResult.UNKNOWN, status=status, request_id=token(headers.get("Request-Id")))
    if body is None:
        return base._replace(message=f"status {status} with an incomplete or oversized body")
    if request.method == "DELETE" and status == 204:
        return base._replace(result=CallResult.DONE)
    if 200 <= status < 300:
        data = _profile_data(body)
        if data is None:
            return base._replace(message=f"status {status} with a body that is not a profile")
        if not _names(data, request.headers):
            return base._replace(message="the answer is about another profile")
        return base._replace(result=CallResult.DONE, data=data)
    code, message = _error_body(body)
    text = message or f"the API answered {status}"
    if 300 <= status < 400:
        text = f"the API answered with a redirect ({status}), which is not followed"
    code = token(code)
    return base._replace(
        result=CallResult.REFUSED if 400 <= status < 500 else CallResult.UNKNOWN,
        error_code=code or ("rate_limited" if status == 429 else None),
        message=text.replace(key, "(key)")[:300],
        retry_after=_retry_after(headers.get("Retry-After"), now=now),
    )


def _strict(body: bytes) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(items)
        if len(out) != len(items):
            raise ValueError
        return out

    def refuse(text: str) -> float:
        raise ValueError(text)

    return json.loads(body.decode("utf-8"), object_pairs_hook=pairs, parse_constant=refuse)


def _profile_data(body: bytes) -> ProfileData | None:
    """The profile in a body. ``None`` if the body is no profile, or does not mention custom attributes:
    that does not mean that there are none."""
    try:
        data = _strict(body)["data"]
        optional = [data.get(name) for name in ("app_id", "customer_user_id")]
        app_id, customer = [None if text is None else _text(text) for text in optional]
        timestamp = data.get("timestamp")
        return ProfileData(
            app_id=app_id,
            profile_id=_text(data["profile_id"]),
            customer_user_id=customer,
            timestamp=timestamp if type(timestamp) is int else None,
            custom_attributes=_attributes(data["custom_attributes"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _text(value: Any) -> str:
    """A text that is not empty and can be encoded. Raises TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError
    if not value.encode("utf-8"):  # which also refuses lone surrogates
        raise ValueError
    return value


def _attributes(items: Any) -> dict[str, str | float]:
    """Custom attributes by key; null and ``""`` are absent (adapty-api 4)."""
    if items is None:
        return {}
    if not isinstance(items, list):
        raise TypeError
    out: dict[str, str | float] = {}
    keys: set[str] = set()
    for item in items:
        key, value = _text(item["key"]), item["value"]
        if key in keys:
            raise ValueError
        keys.add(key)
        if value is None or value == "":
            continue
        if isinstance(value, str):
            out[key] = _text(value)
        elif isinstance(value, (bool, int, float)) and abs(value) < float("inf"):
            out[key] = float(value) + 0.0  # no -0.0
        else:
            raise TypeError
    return out


def _names(data: ProfileData, headers: Mapping[str, str]) -> bool:
    """Whether the profile of an answer is the one that the headers of its request name."""
    by_name = {name.lower(): value for name, value in headers.items()}
    customer, profile = by_name.get(CUSTOMER_HEADER), by_name.get(PROFILE_HEADER)
    if customer is None and profile is None:
        return False
    return (customer is None or data.customer_user_id == customer) and (
        profile is None or data.profile_id.lower() == profile.lower()
    )


def _error_body(body: bytes) -> tuple[str | None, str]:
    """The code and the text of an error, in either form of adapty-api 6.1."""
    try:
        data = _strict(body)
        code, errors = data.get("error_code"), data.get("errors")
        parts = []
        for item in errors if isinstance(errors, list) else ():
            if isinstance(item, str):
                parts.append(item)
            elif isinstance(item, dict):
                message = ", ".join(str(text) for text in item.get("errors") or ())
                source = item.get("source")
                parts.append(f"{source}: {message}" if source else message)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None, ""
    return code if isinstance(code, str) else None, "; ".join(parts)


def _retry_after(text: str | None, *, now: float) -> float | None:
    """The seconds of a ``Retry-After`` in either form. ``None`` for anything else."""
    if text is None:
        return None
    text = text.strip()
    if re.fullmatch(r"[0-9]+", text, re.ASCII):
        return float(text)
    try:
        parts = parsedate_tz(text)
        return max(0.0, mktime_tz((*parts[:9], parts[9] or 0)) - now) if parts else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
