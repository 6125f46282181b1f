"""Defaults lie under the profiles of their folder."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.authoring.defaults import merged
from reconciler.authoring.documents import Document
from reconciler.errors import Source
from tests.support.templates import expanded, values


def test_defaults_lie_under_a_profile_map_by_map() -> None:
    (profile,) = values(
        "customer_user_id: a\nfirst_name: Jane\ncustom_attributes: {tier: gold}\n",
        "first_name: Jo\nstore: s\ncustom_attributes: {tier: silver, level: 1}\n",
    )

    assert profile == {
        "customer_user_id": "a",
        "first_name": "Jane",
        "custom_attributes": {"tier": "gold", "level": 1},
        "store": "s",
    }


def test_null_takes_a_default_away_and_stays_null_where_there_is_none() -> None:
    (profile,) = values("customer_user_id: a\nstore: null\nemail: null\n", "store: s\n")

    assert profile == {"customer_user_id": "a", "email": None}


def test_lists_replace_and_attributes_are_joined_in_either_form() -> None:
    (profile,) = values(
        "customer_user_id: a\nmeta: {labels: [x]}\n"
        "custom_attributes:\n- {key: tier, value: gold}\n",
        "meta: {labels: [y, z], protect: true}\ncustom_attributes: {level: 1}\n",
    )

    assert profile["meta"] == {"labels": ["x"], "protect": True}
    assert profile["custom_attributes"] == {"tier": "gold", "level": 1}


def test_every_value_keeps_its_place() -> None:
    (profile,) = expanded(
        "customer_user_id: a\ncustom_attributes:\n- {key: tier, value: gold}\nmeta: {labels: [x]}\n",
        "store: s\ncustom_attributes:\n  level: 1\nmeta: {labels: [y, z]}\n",
    ).documents

    assert profile.at(("store",)) == Source("_defaults.yaml", 1, 1)
    assert profile.at(("custom_attributes", "level")) == Source("_defaults.yaml", 3, 3)
    assert profile.at(("custom_attributes", "tier")) == Source("p.yaml", 3, 15)
    assert profile.at(("meta", "labels", 1)) == Source("p.yaml", 4, 8)


NODES = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
MAPS = st.dictionaries(st.sampled_from("abc"), NODES, max_size=3)


@given(over=MAPS, below=MAPS)
def test_defaults_follow_merge_patch(over: dict[str, Any], below: dict[str, Any]) -> None:
    """RFC 7396, but for null where there is nothing to take away: there it is an own wish."""

    def patched(below: Any, over: Any) -> Any:
        if not isinstance(over, dict) or not isinstance(below, dict):
            return over
        out = dict(below)
        for key, value in over.items():
            if value is None and key in below:
                del out[key]
            else:
                out[key] = patched(out.get(key), value)
        return out

    profile = merged(Document(over, Source("a"), {}), Document(below, Source("b"), {}))

    assert profile.value == patched(below, over)
