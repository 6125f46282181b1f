"""Refund preferences: what the App Store is told about a refund request of the end user. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from reconciler.core.facets.own_members import OwnMembers
from reconciler.core.records import Fact, Known
from reconciler.values import Scalar

_KEY, _API_NAME = "preference", "custom_preference"


class RefundSaver(OwnMembers):
    """The refund preference and consent of a profile (adapty-api 1.1, 8.5). Answers show the app's default
    for a member that was never set or that was cleared, so a cleared one is not compared."""

    group = "refund_saver"
    address = "/api/v2/server-side-api/purchase/profile/refund-saver/settings/"
    api_names: ClassVar[Mapping[str, str]] = {_KEY: _API_NAME}
    within = "settings"

    def agrees(self, known: Scalar | None, shown: Scalar | None, *, at: float | None) -> bool:
        return known is None or super().agrees(known, shown, at=at)

    def value_after(self, fact: Fact, shown: Scalar | None) -> Scalar | None:
        return None if fact.known is Known.CLEARED else shown

    def _members(self, members: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        return iter([(name, members[name]) for name in ("consent", _API_NAME)])


REFUND_SAVER = RefundSaver()
