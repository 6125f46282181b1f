"""What belongs to a profile of a simulation beside itself: access levels, integration identifiers and refund
preferences, as the API keeps them.

Of the answers that the documents allow, the remote gives the one that trips a client up, as the emulator
does: a grant never shortens, a revoke of access that is over is refused, and each grant is an event.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

from reconciler.core.endpoints import PATH
from reconciler.core.instants import instant_of, instant_text
from reconciler.core.plan import Request
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.values import FieldPath, Scalar

LEVEL = "access_levels."
LEVELS = ("p", "q")
"""Those that files declare; other people grant them as well."""
STORE = "app_store"
IDENTIFIER = "integrations.amplitude_user_id"
PREFERENCE = "refund_saver.preference"

_PURCHASE = "/api/v2/server-side-api/purchase/profile"
GRANT = f"{_PURCHASE}/grant/access-level/"
REVOKE = f"{_PURCHASE}/revoke/access-level/"
_IDENTIFIERS = "/api/v2/server-side-api/integration/profile/set/integration-identifiers/"
_REFUND_SAVER = f"{_PURCHASE}/refund-saver/settings/"
_PATHS_OF = {_IDENTIFIERS: IDENTIFIER, _REFUND_SAVER: PREFERENCE}
_MEMBERS = {IDENTIFIER: "amplitude_user_id", PREFERENCE: "custom_preference"}
_DEFAULT_PREFERENCE = "no_preference"

Values = Mapping[FieldPath, Scalar | None]


class Level(NamedTuple):
    """A level of a profile: an answer shows it whether or not it is over."""

    start: float | None = None
    end: float | None = None
    store: str = ""
    """Where it was bought; empty if it was granted."""

    def is_over(self, now: float) -> bool:
        return self.end is not None and (
            self.end <= now or (self.start is not None and self.end <= self.start)
        )

    def is_active(self, now: float) -> bool:
        return not self.is_over(now) and (self.start is None or self.start <= now)

    @property
    def shown(self) -> str:
        """The value that the program makes of it. An instant of an answer is rounded."""
        start, end = (None if at is None else _text(at) for at in (self.start, self.end))
        if end is None:
            text = "lifetime" if start is None else f"lifetime from {start}"
        else:
            text = f"until {end}" if start is None else f"{start} until {end}"
        return f"{text}, bought in {self.store}" if self.store else text


def _text(at: float) -> str:
    return instant_text(int(at + 0.5))


def level_of_text(text: str) -> Level:
    """The level that is shown in such a way."""
    text, _, store = text.partition(", bought in ")
    first, *rest = text.split(" ")
    if first == "lifetime":
        return Level(instant_of(rest[1]) if rest else None, store=store)
    start = None if first == "until" else instant_of(first)
    return Level(start, instant_of(rest[-1]), store)


class Grant(NamedTuple):
    """An event of the API: a grant that it carried out."""

    path: FieldPath
    before: Level | None
    asked: Level


def is_own(request: Request) -> bool:
    """Whether a request is about something that belongs to a profile, rather than the profile itself."""
    return request.path != PATH


# --- what files say ------------------------------------------------------------------------------


def level_of_file(text: str) -> Any:
    """What a file says of a level: ``""`` is null, ``8s`` for a span, ``1020 1040`` from and until, and so
    on."""
    if text in ("", "lifetime"):
        return text or None
    if text.endswith("s"):
        return {"for": text}
    start, _, end = text.rpartition(" ")
    until = instant_text(int(end))
    return {"starts_at": instant_text(int(start)), "expires_at": until} if start else until


# --- what requests say ---------------------------------------------------------------------------


def own_content(request: Request) -> Values:
    """What a request writes of that which belongs to a profile; ``None`` for what it ends or clears."""
    body: Any = request.body
    if request.path == GRANT:
        return {LEVEL + body["access_level_id"]: asked_of(body).shown}
    if request.path == REVOKE:
        at = body.get("revoke_at")
        end = None if at is None else Level(end=instant_of(at)).shown
        return {LEVEL + body["access_level_id"]: end}
    path = _PATHS_OF[request.path]
    return {path: body[_MEMBERS[path]] or None}


def level_of(request: Request) -> FieldPath:
    """The level that a grant or a revoke is about."""
    body: Any = request.body
    return f"{LEVEL}{body['access_level_id']}"


def asked_of(body: Mapping[str, Any]) -> Level:
    """The access that a grant asks for."""
    start, end = body.get("starts_at"), body.get("expires_at")
    return Level(
        None if start is None else instant_of(start), None if end is None else instant_of(end)
    )


# --- what the API makes of them ------------------------------------------------------------------


def missing(request: Request) -> ApiAnswer:
    """The answer about a profile that does not exist (adapty-api 6.2)."""
    if not is_own(request):
        status, code = 404, "profile_does_not_exist"
    elif request.path == _IDENTIFIERS:
        status, code = 404, "profile_not_found"
    else:
        status, code = 400, "profile_does_not_exist"
    return ApiAnswer(CallResult.REFUSED, status=status, error_code=code, message="no such profile")


def _refused(code: str) -> ApiAnswer:
    return ApiAnswer(CallResult.REFUSED, status=400, error_code=code, message=code)


def carry_grant(request: Request, levels: MutableMapping[FieldPath, Level], *, now: float) -> Grant:
    """Carries out a grant. It extends, and moves the beginning; it never shortens."""
    body: Any = request.body
    path, asked = LEVEL + body["access_level_id"], asked_of(body)
    before = levels.get(path)
    after = asked
    if before is not None and (before.end is None or before.end > now):
        is_longer = before.end is not None and (asked.end is None or asked.end > before.end)
        after = before._replace(start=asked.start, end=asked.end if is_longer else before.end)
    levels[path] = after
    return Grant(path, before, asked)


def carry_revoke(
    request: Request, levels: MutableMapping[FieldPath, Level], *, now: float
) -> ApiAnswer | None:
    """Carries out a revoke; the answer if it is refused."""
    body: Any = request.body
    path, at = LEVEL + body["access_level_id"], body.get("revoke_at")
    when = now if at is None else instant_of(at)
    if at is not None and when <= now:
        return _refused("value_error")
    level = levels.get(path)
    if level is None:
        return _refused("profile_paid_access_level_does_not_exist")
    if level.end is not None and (when > level.end or level.end <= now):
        return _refused("revocation_date_more_than_expiration_date")
    levels[path] = level._replace(end=max(when, level.start or when))
    return None


def own_answer(request: Request, values: Mapping[FieldPath, Scalar]) -> Mapping[FieldPath, Scalar]:
    """What the answer to a request for members with a path of their own shows."""
    path = _PATHS_OF[request.path]
    if path == PREFERENCE:
        return {path: values.get(path, _DEFAULT_PREFERENCE)}
    if request.method == "POST":
        return {}
    return {path: values[path]} if path in values else {}
