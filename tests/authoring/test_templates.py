"""Templates make several profiles."""

from __future__ import annotations

import pytest

from reconciler.authoring.placeholders import MOST_CHARACTERS
from reconciler.errors import Source
from tests.support.templates import expanded, messages, values


def test_a_count_makes_so_many() -> None:
    results = values("for_each: 3\ncustomer_user_id: u-{index}\nlast_name: 'n{index:03}'\n")

    assert [(each["customer_user_id"], each["last_name"]) for each in results] == [
        ("u-1", "n001"),
        ("u-2", "n002"),
        ("u-3", "n003"),
    ]


def test_a_list_gives_items_with_their_types() -> None:
    results = values(
        "for_each: [{n: a, level: 7, beta: true}, {n: b, level: 8, beta: false}]\n"
        "customer_user_id: u-{item.n}\n"
        "custom_attributes: {level: '{item.level}', beta: '{item.beta}', text: 'l{item.level}'}\n"
    )

    assert results[1] == {
        "customer_user_id": "u-b",
        "custom_attributes": {"level": 8, "beta": False, "text": "l8"},
    }
    assert [each["customer_user_id"] for each in values(
        "for_each: [x, y]\ncustomer_user_id: u-{item}\n"
    )] == ["u-x", "u-y"]  # fmt: skip


def test_profiles_of_a_template_name_it_and_share_its_place() -> None:
    results = expanded("# a comment\nfor_each: 2\ncustomer_user_id: u-{index}\n").documents

    assert {each.template for each in results} == {"u-{index}"}
    assert {each.source for each in results} == {Source("p.yaml", 2, 1)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("for_each: 0\n", "`for_each` is 0; a template makes at least one profile"),
        ("for_each: []\n", "`for_each` is an empty list; a template makes at least one profile"),
        ("for_each: true\n", "`for_each` is neither a count nor a list"),
        ("for_each: x\n", "`for_each` is neither a count nor a list"),
        ("for_each: [[1]]\n", "`for_each` lists something that is neither a value nor a map"),
        ("for_each: [{a: {b: 1}}]\n", "`for_each` lists a map whose members are not plain values"),
        ("for_each: 100001\n", "`for_each` makes more than 100,000 profiles"),
    ],
)
def test_a_wrong_for_each_is_an_error(text: str, message: str) -> None:
    assert messages(f"{text}customer_user_id: u-{{index}}\n") == [("p.yaml:1:1", message)]


def test_the_profiles_of_a_template_need_names_that_differ() -> None:
    assert messages("for_each: 3\ncustomer_user_id: u\n") == [
        ("p.yaml:2:1", "this template makes 3 profiles with 1 different names")
    ]


def test_templates_of_one_file_are_bounded_together() -> None:
    text = "for_each: 60000\ncustomer_user_id: {}-{{index}}\n"

    assert messages(text.format("a") + "---\n" + text.format("b")) == [
        ("p.yaml:4:1", "the templates of this file make more than 100,000 profiles")
    ]


def test_templates_of_one_file_make_a_bounded_number_of_values() -> None:
    attributes = ", ".join(f"k{n}: v" for n in range(30))
    text = f"for_each: 100000\ncustomer_user_id: u-{{index}}\ncustom_attributes: {{{attributes}}}\n"

    assert messages(text) == [
        (
            "p.yaml:1:1",
            "the templates and defaults of this file make more than 2,000,000 values; every 64 "
            "characters of a text count as one",
        )
    ]
    assert len(expanded(text.replace("100000", "20000")).documents) == 20_000


def test_documents_take_over_a_bounded_number_of_values_from_defaults() -> None:
    text = "".join(f"---\ncustomer_user_id: u{n}\n" for n in range(3_000))
    results = expanded(text, f"first_name: {'y' * 60_000}\n")

    assert [each.rule for each in results.findings] == ["file/too-many-values"]
    assert 2_000 < len(results.documents) < 2_200


@pytest.mark.parametrize("text", ["{item}{item}", "{item}x"])
def test_a_text_that_is_filled_in_has_a_bounded_length(text: str) -> None:
    most = MOST_CHARACTERS // text.count("{item}") - text.count("x")
    template = f"customer_user_id: u-{{index}}\nlast_name: '{text}'\nfor_each: "

    assert len(values(f"{template}[{'y' * most}]\n")[0]["last_name"]) == MOST_CHARACTERS
    assert messages(f"{template}[{'y' * (most + 1)}]\n") == [
        (
            "p.yaml:2:1",
            "this text has more than 65,536 characters once its placeholders are filled in",
        )
    ]
