"""Defaults, templates and placeholders: what documents mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.authoring.documents import Document
from reconciler.authoring.loader import load_text
from reconciler.authoring.templates import (
    Defaults,
    Expanded,
    PlaceholderValues,
    deduplicate,
    expand,
    merged,
    needs_expansion,
    written_out,
)
from reconciler.errors import Diagnostic, Source

GIVEN = PlaceholderValues(
    variables={"tier": "gold", "level": 5, "beta": True},
    environ={"QA_DOMAIN": "example.org"},
    prefix="QA_",
    run="r7",
    worker="gw1",
    fakes=lambda: "fakes 1",
)


def documents(text: str, file: str = "p.yaml") -> list[Document]:
    found, findings = load_text(text.encode(), file)
    assert not [each for each in findings if each.is_error]
    return found


def meaning(text: str, defaults: str = "", given_: PlaceholderValues = GIVEN) -> Expanded:
    below = None
    if defaults:
        (document,) = documents(defaults, "_defaults.yaml")
        below = Defaults(document, "d", True)
    return expand(documents(text), below, given_, lambda name, seed: f"<{name} of {seed}>")


def values(
    text: str, defaults: str = "", given_: PlaceholderValues = GIVEN
) -> list[dict[str, Any]]:
    made = meaning(text, defaults, given_)
    assert not made.findings
    return [document.value for document in made.documents]


def said(text: str, defaults: str = "", given_: PlaceholderValues = GIVEN) -> list[tuple[str, str]]:
    made = meaning(text, defaults, given_)
    return [(str(each.source), each.message) for each in made.findings]


# --- defaults ------------------------------------------------------------------------------------


def test_defaults_lie_under_a_profile_map_by_map() -> None:
    (made,) = values(
        "customer_user_id: a\nfirst_name: Jane\ncustom_attributes: {tier: gold}\n",
        "first_name: Jo\nstore: s\ncustom_attributes: {tier: silver, level: 1}\n",
    )

    assert made == {
        "customer_user_id": "a",
        "first_name": "Jane",
        "custom_attributes": {"tier": "gold", "level": 1},
        "store": "s",
    }


def test_null_takes_a_default_away_and_stays_null_where_there_is_none() -> None:
    (made,) = values("customer_user_id: a\nstore: null\nemail: null\n", "store: s\n")

    assert made == {"customer_user_id": "a", "email": None}


def test_lists_replace_and_attributes_are_joined_in_either_form() -> None:
    (made,) = values(
        "customer_user_id: a\nmeta: {labels: [x]}\n"
        "custom_attributes:\n- {key: tier, value: gold}\n",
        "meta: {labels: [y, z], protect: true}\ncustom_attributes: {level: 1}\n",
    )

    assert made["meta"] == {"labels": ["x"], "protect": True}
    assert made["custom_attributes"] == {"tier": "gold", "level": 1}


def test_every_value_keeps_its_place() -> None:
    (made,) = meaning(
        "customer_user_id: a\ncustom_attributes:\n- {key: tier, value: gold}\nmeta: {labels: [x]}\n",
        "store: s\ncustom_attributes:\n  level: 1\nmeta: {labels: [y, z]}\n",
    ).documents

    assert made.at(("store",)) == Source("_defaults.yaml", 1, 1)
    assert made.at(("custom_attributes", "level")) == Source("_defaults.yaml", 3, 3)
    assert made.at(("custom_attributes", "tier")) == Source("p.yaml", 3, 15)
    assert made.at(("meta", "labels", 1)) == Source("p.yaml", 4, 8)


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

    made = merged(Document(over, Source("a"), {}), Document(below, Source("b"), {}))

    assert made.value == patched(below, over)


# --- templates -----------------------------------------------------------------------------------


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


def test_made_profiles_know_their_template_and_share_its_place() -> None:
    made = meaning("# a comment\nfor_each: 2\ncustomer_user_id: u-{index}\n").documents

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
def test_what_cannot_be_a_template(text: str, message: str) -> None:
    assert said(f"{text}customer_user_id: u-{{index}}\n") == [("p.yaml:1:1", message)]


def test_the_profiles_of_a_template_need_names_that_differ() -> None:
    assert said("for_each: 3\ncustomer_user_id: u\n") == [
        ("p.yaml:2:1", "this template makes 3 profiles with 1 different names")
    ]


def test_templates_of_one_file_are_bounded_together() -> None:
    text = "for_each: 60000\ncustomer_user_id: {}-{{index}}\n"

    assert said(text.format("a") + "---\n" + text.format("b")) == [
        ("p.yaml:4:1", "the templates of this file make more than 100,000 profiles")
    ]


# --- placeholders --------------------------------------------------------------------------------


def test_placeholders_stand_in_any_text() -> None:
    (made,) = values(
        "customer_user_id: u-{run}-{worker}\nemail: a@${env.QA_DOMAIN}\n"
        "first_name: '{fake.first_name}'\n"
        "custom_attributes: {tier: '${var.tier}', level: '${var.level}', s: 'x${var.beta}'}\n"
    )

    assert made == {
        "customer_user_id": "u-r7-gw1",
        "email": "a@example.org",
        "first_name": "<first_name of \nu-{run}-{worker}>",
        "custom_attributes": {"tier": "gold", "level": 5, "s": "xtrue"},
    }


def test_what_is_doubled_stands_for_itself_and_other_braces_too() -> None:
    (made,) = values(
        "customer_user_id: a\nfirst_name: '{{index}} $${var.tier} {x} {\"a\": 1} {{x}} {run.x}'\n"
    )

    assert made["first_name"] == '{index} ${var.tier} {x} {"a": 1} {{x}} {run.x}'


def test_what_was_filled_in_is_not_looked_into() -> None:
    (made,) = values(
        "customer_user_id: a\nfirst_name: '${var.x}'\n",
        given_=PlaceholderValues(variables={"x": "{run}"}),
    )

    assert made["first_name"] == "{run}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${var.teir}", "${var.teir} is not defined"),
        ("${var}", "${var} is not a variable"),
        ("${HOME}", "${HOME} is not a variable"),
        ("${env.HOME}", "${env.HOME} may not be used: it does not begin with QA_"),
        ("${env.QA_NOTHING}", "${env.QA_NOTHING} is not defined"),
        ("{index}", "{index} means something only in a template"),
        ("{item.a}", "{item} means something only in a template"),
    ],
)
def test_what_is_not_defined_is_an_error_at_its_place(text: str, message: str) -> None:
    assert said(f"customer_user_id: a\nfirst_name: 'x {text}'\n") == [("p.yaml:2:1", message)]


def test_a_run_without_a_name_and_a_missing_faker_are_errors() -> None:
    bare = PlaceholderValues()

    assert said("customer_user_id: 'u-{run}'\n", given_=bare) == [
        ("p.yaml:1:1", "{run} is not defined: this run has no name")
    ]
    assert said("customer_user_id: a\nemail: '{fake.email}'\n", given_=bare) == [
        ("p.yaml:2:1", "{fake.…} needs Faker, which is not installed")
    ]
    assert said("customer_user_id: '{fake.name}'\n") == [
        ("p.yaml:1:1", "a name cannot be made up: data is made up for a name")
    ]


def test_a_misspelt_placeholder_of_a_template_is_an_error() -> None:
    (finding,) = meaning("for_each: 1\ncustomer_user_id: 'u-{indx}'\n").findings

    assert (finding.message, finding.hint) == (
        "{indx} is not a placeholder",
        "Did you mean {index}?",
    )


def test_a_default_that_cannot_be_filled_in_is_told_of_its_own_file() -> None:
    assert said("customer_user_id: a\n", "store: ${var.nope}\n") == [
        ("_defaults.yaml:1:1", "${var.nope} is not defined")
    ]


def test_what_was_used_is_named_and_what_was_not_is_not() -> None:
    made = meaning("customer_user_id: u-{run}\nfirst_name: '${var.tier}'\nstore: '{worker}'\n")

    assert made.sources == {name: GIVEN.digest_of(name) for name in ("run", "var.tier", "worker")}
    assert GIVEN.digest_of("var.nope") == ""


def test_the_digest_of_a_variable_tells_types_apart() -> None:
    assert PlaceholderValues(variables={"a": "1"}).digest_of("var.a") != PlaceholderValues(
        variables={"a": 1}
    ).digest_of("var.a")


@pytest.mark.parametrize(
    "text",
    [
        "for_each: 3",
        "a: ${var.x}",
        "a: '{index}'",
        "a: '{index:03}'",
        "a: '{fake.x}'",
        "a: {item.x}",
    ],
)
def test_a_file_that_may_need_it_is_noticed(text: str) -> None:
    assert needs_expansion(text.encode())


def test_a_plain_file_is_not_gone_through() -> None:
    assert not needs_expansion(b"customer_user_id: a\ncustom_attributes: {tier: gold}\n")


def test_the_same_of_the_same_place_is_told_once() -> None:
    made = meaning("for_each: 50\ncustomer_user_id: u-{index}\nstore: ${var.no}\n")

    found: list[Diagnostic] = deduplicate(made.findings)

    assert len(found) == 1


# --- written out ---------------------------------------------------------------------------------


def test_what_is_written_out_says_where_it_comes_from() -> None:
    (made,) = meaning(
        "customer_user_id: a\nbirthday: '2000-12-31'\n", "store: s\nmeta: {labels: [x]}\n"
    ).documents

    assert written_out(made) == (
        "# p.yaml:1\n"
        "customer_user_id: a\n"
        'birthday: "2000-12-31"\n'
        "store: s  # _defaults.yaml:1\n"
        "meta:  # _defaults.yaml:2\n"
        "  labels: [x]  # _defaults.yaml:2\n"
    )


def test_a_key_that_looks_like_a_placeholder_is_written_as_it_is() -> None:
    value = {"customer_user_id": "a", "custom_attributes": {"{run}": "{run}"}}
    text = written_out(Document(value, Source("p.yaml", 1, 1), {}))
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
def test_what_is_written_out_means_the_same(value: dict[str, Any]) -> None:
    document = Document({"customer_user_id": "a", **value}, Source("p.yaml", 1, 1), {})

    (read,) = values(written_out(document))

    assert read == document.value
