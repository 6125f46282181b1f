"""Templates make several profiles."""

from __future__ import annotations

import pytest

from reconciler.errors import Source
from tests.support.templates import expanded, messages, values


def test_a_count_makes_so_many() -> None:
    made = values("for_each: 3\ncustomer_user_id: u-{index}\nlast_name: 'n{index:03}'\n")

    assert [(each["customer_user_id"], each["last_name"]) for each in made] == [
        ("u-1", "n001"),
        ("u-2", "n002"),
        ("u-3", "n003"),
    ]


def test_a_list_gives_items_with_their_types() -> None:
    made = values(
        "for_each: [{n: a, level: 7, beta: true}, {n: b, level: 8, beta: false}]\n"
        "customer_user_id: u-{item.n}\n"
        "custom_attributes: {level: '{item.level}', beta: '{item.beta}', text: 'l{item.level}'}\n"
    )

    assert made[1] == {
        "customer_user_id": "u-b",
        "custom_attributes": {"level": 8, "beta": False, "text": "l8"},
    }
    assert [each["customer_user_id"] for each in values(
        "for_each: [x, y]\ncustomer_user_id: u-{item}\n"
    )] == ["u-x", "u-y"]  # fmt: skip


def test_profiles_of_a_template_name_it_and_share_its_place() -> None:
    made = expanded("# a comment\nfor_each: 2\ncustomer_user_id: u-{index}\n").documents

    assert {each.template for each in made} == {"u-{index}"}
    assert {each.source for each in made} == {Source("p.yaml", 2, 1)}


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
