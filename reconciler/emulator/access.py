"""Access levels: the verdict on grants and revokes, and their effect on a profile (adapty-api 8).

A level is kept as answers show it (adapty-api 5.2). It stays after its end, so that a profile without
access is one whose levels are over. Instants are microseconds since the epoch; in a level they are texts.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from reconciler.emulator.instants import SECOND, format_instant, parse_instant, plain_instant
from reconciler.emulator.judge import (
    EXTRA,
    MISSING,
    NOT_A_DICT,
    Rejected,
    RequestErrors,
    Switches,
    value_problem,
)
from reconciler.emulator.profile import StoredProfile
from reconciler.values import Json

SERVER_PRODUCT = "adapty_server_side_product"
DASHBOARD_PRODUCT = "adapty_dashboard_product"
"""The ``store_product_id`` of levels that were granted by a server, and in the dashboard (adapty-api 8.1)."""
GRANT_STORE = "adapty"
"""The ``store`` of a level that was granted without a purchase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessEvent:
    """An ``access_level_updated`` that a webhook would get (adapty-api 5.5). The end of a level by its date
    sends none."""

    number: int
    """1 for the first event."""
    at: str
    cause: str
    """``grant`` or ``revoke``."""
    profile_id: str
    customer_user_id: str | None
    access_level_id: str
    starts_at: str | None
    expires_at: str | None

    def as_json(self) -> dict[str, Json]:
        """The form of the debug endpoint and of the database."""
        return {"event": "access_level_updated", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelOrigin:
    """How access came about: the members of a level that name a purchase, or that there was none."""

    store: str
    store_product_id: str
    store_transaction_id: str
    store_original_transaction_id: str
    purchased_at: str
    originally_purchased_at: str

    @classmethod
    def without_purchase(cls, product: str, *, transaction: str, now: int) -> LevelOrigin:
        """The origin of a grant. Its transaction id is generated (assumed: a text is documented)."""
        at = format_instant(now)
        return cls(
            store=GRANT_STORE,
            store_product_id=product,
            store_transaction_id=transaction,
            store_original_transaction_id=transaction,
            purchased_at=at,
            originally_purchased_at=at,
        )


def new_level(
    level_id: str, origin: LevelOrigin, *, starts_at: int | None, expires_at: int | None
) -> dict[str, Any]:
    """A level with all members of the documented object (adapty-api 5.2)."""
    return {
        "access_level_id": level_id,
        "store": origin.store,
        "store_product_id": origin.store_product_id,
        "store_base_plan_id": None,
        "store_transaction_id": origin.store_transaction_id,
        "store_original_transaction_id": origin.store_original_transaction_id,
        "offer": None,
        "starts_at": _text(starts_at),
        "purchased_at": origin.purchased_at,
        "originally_purchased_at": origin.originally_purchased_at,
        "expires_at": _text(expires_at),
        "renewal_cancelled_at": None,
        "billing_issue_detected_at": None,
        "is_in_grace_period": False,
        "cancellation_reason": None,
    }


def is_over(level: Mapping[str, Any], now: int) -> bool:
    """Whether the end of a level has passed (adapty-api 8.1)."""
    end = parse_instant(level["expires_at"])
    return end is not None and end <= now


def active_levels(profile: StoredProfile, now: int) -> dict[str, int | None]:
    """The levels that have begun and are not over, with their ends (adapty-api 8.1). In a grace period,
    the end is that of the period."""
    active = {}
    for level_id, level in profile.access_levels.items():
        start = parse_instant(level["starts_at"])
        if (start is None or start <= now) and not is_over(level, now):
            active[level_id] = parse_instant(level["expires_at"])
    return active


def access_over_time(profile: StoredProfile, now: int) -> dict[str, Json]:
    """The access that a profile has from ``now`` on: of each level that is not over, its store, its end,
    and its beginning if that lies ahead."""
    access: dict[str, Json] = {}
    for level_id, level in profile.access_levels.items():
        start, end = parse_instant(level["starts_at"]), parse_instant(level["expires_at"])
        begins = start if start is not None and start > now else None
        if end is None or end > max(now, begins or now):
            access[level_id] = {
                "store": level["store"],
                "starts_at": _text(begins),
                "expires_at": _text(end),
            }
    return access


def shown_level(level: Mapping[str, Any], *, whole_seconds: bool) -> dict[str, Any]:
    """A level as an answer shows it."""
    if not whole_seconds:
        return dict(level)
    shown = {name: parse_instant(value) for name, value in level.items() if name.endswith("_at")}
    return {
        **level,
        **{name: _text(at // SECOND * SECOND) for name, at in shown.items() if at is not None},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessJudge:
    """The rules for grants and revokes."""

    requests: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """The members of each request's body."""
    switches: Switches

    @classmethod
    def of(cls, contract: Mapping[str, Any], *, switches: Switches) -> AccessJudge:
        """The judge that the contract's data describes. The dialects do not differ here."""
        requests = contract["facets"]["access_levels"]["requests"]
        members = {name: request["members"] for name, request in requests.items()}
        return cls(requests=members, switches=switches)

    def grant(
        self,
        body: Json,
        profile: StoredProfile,
        *,
        levels: Container[str],
        now: int,
        transaction: str,
    ) -> str:
        """Carry out a grant; returns the id of its level. ``levels`` are those of the app, and
        ``transaction`` is the id of a grant that begins access. Raises Rejected.

        A grant extends. Whether it may also shorten, or move the start, nobody documents (8.3): see
        `Switches`. A bought level that is extended stays a bought one (assumed: granting does not change
        billing, 8.4).
        """
        values = self._values("grant", body)
        level_id = self._level_of_app(values, levels)
        starts_at, expires_at = (parse_instant(values.get(name)) for name in _PERIOD)
        before = profile.access_levels.get(level_id)
        if before is None or is_over(before, now):
            origin = LevelOrigin.without_purchase(SERVER_PRODUCT, transaction=transaction, now=now)
            after = new_level(level_id, origin, starts_at=starts_at, expires_at=expires_at)
        else:
            after = dict(before)
            if self.switches.grant_moves_start:
                after["starts_at"] = _text(starts_at)
            if self.switches.grant_shortens or _is_later(expires_at, before):
                after["expires_at"] = _text(expires_at)
        profile.access_levels[level_id] = after
        return level_id

    def revoke(
        self, body: Json, profile: StoredProfile, *, levels: Container[str], now: int
    ) -> str:
        """Carry out a revoke; returns the id of its level. Raises Rejected.

        A level that has not begun ends where it would begin. A level that is over cannot end again
        (assumed: adapty-api 8.3 expects the error about the dates).
        """
        values = self._values("revoke", body)
        at = parse_instant(values.get("revoke_at"))
        if at is not None and at <= now:
            message = "Must be greater than the current time or null"
            raise Rejected(400, "value_error", errors=[(None, message)])
        level_id = self._level_of_app(values, levels)
        level = profile.access_levels.get(level_id)
        if level is None:
            message = f"Profile `{profile.profile_id}` has no `{level_id}` access level"
            errors = [("non_field_errors", message)]
            raise Rejected(400, "profile_paid_access_level_does_not_exist", errors=errors)
        start, end = (parse_instant(level[name]) for name in _PERIOD)
        revoked_at = now if at is None else at
        if end is not None and (revoked_at > end or end <= now):
            message = (
                f"Revocation date ({plain_instant(revoked_at)}) is more than current expiration date "
                f"({plain_instant(end)})"
            )
            code = "revocation_date_more_than_expiration_date"
            raise Rejected(400, code, errors=[("revoke_at", message)])
        after = {**level, "expires_at": format_instant(max(revoked_at, start or revoked_at))}
        if at is None:
            after |= {
                "renewal_cancelled_at": format_instant(now),
                "cancellation_reason": "adapty_revoked",
            }
        profile.access_levels[level_id] = after
        return level_id

    def _values(self, request: str, body: Json) -> Mapping[str, Any]:
        """The members of a body; raises Rejected with every error of one."""
        errors = RequestErrors()
        if not isinstance(body, Mapping):
            errors.add("non_field_errors", NOT_A_DICT)
            errors.raise_if_any()
            return {}
        members = self.requests[request]
        for name, rule in members.items():
            if name not in body:
                if rule["required"]:
                    errors.add(name, MISSING)
            elif body[name] is not None or not rule["nullable"]:
                checks_length = self.switches.strict
                problem = value_problem(
                    rule["schema"], body[name], name=name, checks_length=checks_length
                )
                if problem:
                    errors.add(name, problem)
        if self.switches.strict:
            for name in body:
                if name not in members:
                    errors.add(name, EXTRA)
        errors.raise_if_any()
        return body

    def _level_of_app(self, values: Mapping[str, Any], levels: Container[str]) -> str:
        level_id = str(values["access_level_id"])
        if level_id not in levels:
            message = f"Paid access level `{level_id}` does not exist"
            status = 404 if self.switches.missing_is_404 else 400
            errors = [("non_field_errors", message)]
            raise Rejected(status, "paid_access_level_does_not_exist", errors=errors)
        return level_id


_PERIOD = ("starts_at", "expires_at")


def _text(instant: int | None) -> str | None:
    return None if instant is None else format_instant(instant)


def _is_later(end: int | None, level: Mapping[str, Any]) -> bool:
    """Whether an end lies after the present end of a level; None is no end."""
    present = parse_instant(level["expires_at"])
    return present is not None and (end is None or end > present)
