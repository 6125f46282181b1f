"""Custom attributes: what follows when an answer shows undeclared ones."""

from __future__ import annotations

import pytest

from reconciler.core.contract import Clear
from reconciler.core.facets.registry import follow_up
from reconciler.core.options import RequestOptions
from reconciler.core.plan import Change
from reconciler.core.records import Record
from tests.support.worlds import World


@pytest.mark.parametrize(("clear", "value"), [(Clear.NULL, None), (Clear.EMPTY, "")])
def test_undeclared_attributes_of_an_exclusive_profile_are_removed(
    clear: Clear, value: str | None
) -> None:
    (change,) = World().plan({"customer_user_id": "jane", "custom_attributes": {"a": 1}}).changes
    record = Record("jane", unmanaged=("a", "b"))

    def removal(change: Change) -> Change | None:
        return follow_up(change, record, options=RequestOptions(clear))

    assert removal(change._replace(exclusive=None)) is None
    assert removal(change._replace(exclusive=frozenset("ab"))) is None
    later = removal(change._replace(exclusive=frozenset("a")))
    assert later is not None
    assert [request.body for request in later.requests] == [
        {"custom_attributes": [{"key": "b", "value": value}]}
    ]


def test_the_country_goes_along_when_undeclared_attributes_are_removed() -> None:
    (change,) = World().plan({"customer_user_id": "jane", "ip_country": "FR"}).changes

    later = follow_up(
        change._replace(exclusive=()),
        Record("jane", unmanaged=("b",)),
        options=RequestOptions(),
    )

    assert later is not None
    (request,) = later.requests
    assert request.body is not None
    assert request.body["ip_country"] == "FR"
