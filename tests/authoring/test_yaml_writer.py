"""A document written as a profile file declares the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.authoring.documents import Document
from reconciler.authoring.yaml_writer import profile_yaml
from reconciler.errors import Source
from tests.support.templates import expanded, values


def test_the_text_of_a_profile_says_where_its_values_come_from() -> None:
    (result,) = expanded(
        "customer_user_id: a\nbirthday: '2000-12-31'\n", "store: s\nmeta: {labels: [x]}\n"
    ).documents

    assert profile_yaml(result) == (
        "# p.yaml:1\n"
        "customer_user_id: a\n"
        'birthday: "2000-12-31"\n'
        "store: s  # _defaults.yaml:1\n"
        "meta:  # _defaults.yaml:2\n"
        "  labels: [x]  # _defaults.yaml:2\n"
    )


def test_a_key_that_looks_like_a_placeholder_is_written_as_it_is() -> None:
    value = {"customer_user_id": "a", "custom_attributes": {"{run}": "{run}"}}
    text = profile_yaml(Document(value, Source("p.yaml", 1, 1), {}))
    assert '"{run}": "{{run}}"' in text
    (read,) = values(text)
    assert read == value


TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=20)
PIECES = st.lists(
    st.sampled_from(
        ["{index}", "{{index}}", "${var.tier}", "$${x}", "$", "{", "}", "{x}", "a", " "]
    ),
    max_size=6,
).map("".join)
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | TEXTS | PIECES


@given(
    st.dictionaries(
        (TEXTS | PIECES).filter(lambda text: text not in ("for_each", "customer_user_id")),
        SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXTS, SCALARS, max_size=3),
        max_size=4,
    )
)
def test_the_text_of_a_profile_declares_the_same(value: dict[str, Any]) -> None:
    document = Document({"customer_user_id": "a", **value}, Source("p.yaml", 1, 1), {})

    (read,) = values(profile_yaml(document))

    assert read == document.value


def test_nothing_in_the_text_is_obeyed_by_a_terminal_or_a_log() -> None:
    value = {"customer_user_id": "##[error]x", "custom_attributes": {"a##vso[x": "é 💥 \u202e\x85"}}
    source = Source("a\n::error::b.yaml", 1, 1)
    text = profile_yaml(Document(value, source, {}, template="##[group]{index}"))
    assert text == (
        "# a\\x0a::error::b.yaml:1  \\x23#[group]{index}\n"
        'customer_user_id: "\\x23#[error]x"\n'
        "custom_attributes:\n"
        '  "a\\x23#vso[x": "é 💥 \\u202e\\x85"\n'
    )
