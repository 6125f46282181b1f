"""Placeholders stand for values."""

from __future__ import annotations

import pytest

from reconciler.authoring.finding_limits import LimitedFindings
from reconciler.authoring.placeholders import PlaceholderValues, needs_expansion
from tests.support.templates import VALUES, expanded, messages, values


def test_placeholders_stand_in_any_text() -> None:
    (result,) = values(
        "customer_user_id: u-{run}-{worker}\nemail: a@${env.QA_DOMAIN}\n"
        "first_name: '{fake.first_name}'\n"
        "custom_attributes: {tier: '${var.tier}', level: '${var.level}', s: 'x${var.beta}'}\n"
    )

    assert result == {
        "customer_user_id": "u-r7-gw1",
        "email": "a@example.org",
        "first_name": "<first_name of \nu-{run}-{worker}>",
        "custom_attributes": {"tier": "gold", "level": 5, "s": "xtrue"},
    }


def test_doubled_and_other_braces_stand_for_themselves() -> None:
    (result,) = values(
        "customer_user_id: a\nfirst_name: '{{index}} $${var.tier} {x} {\"a\": 1} {{x}} {run.x}'\n"
    )

    assert result["first_name"] == '{index} ${var.tier} {x} {"a": 1} {{x}} {run.x}'


def test_a_filled_in_value_is_not_searched_for_placeholders() -> None:
    (result,) = values(
        "customer_user_id: a\nfirst_name: '${var.x}'\n",
        placeholders=PlaceholderValues(variables={"x": "{run}"}),
    )

    assert result["first_name"] == "{run}"


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
def test_an_undefined_placeholder_is_an_error_at_its_place(text: str, message: str) -> None:
    assert messages(f"customer_user_id: a\nfirst_name: 'x {text}'\n") == [("p.yaml:2:1", message)]


def test_a_run_without_a_name_and_a_missing_faker_are_errors() -> None:
    bare = PlaceholderValues()

    assert messages("customer_user_id: 'u-{run}'\n", placeholders=bare) == [
        ("p.yaml:1:1", "{run} is not defined: this run has no name")
    ]
    assert messages("customer_user_id: a\nemail: '{fake.email}'\n", placeholders=bare) == [
        ("p.yaml:2:1", "{fake.…} needs Faker, which is not installed")
    ]
    assert messages("customer_user_id: '{fake.name}'\n") == [
        ("p.yaml:1:1", "a name cannot be made up: data is made up for a name")
    ]


def test_a_misspelt_placeholder_of_a_template_is_an_error() -> None:
    (finding,) = expanded("for_each: 1\ncustomer_user_id: 'u-{indx}'\n").findings

    assert (finding.message, finding.hint) == (
        "{indx} is not a placeholder",
        "Did you mean {index}?",
    )


def test_a_default_that_cannot_be_filled_in_is_reported_in_its_own_file() -> None:
    assert messages("customer_user_id: a\n", "store: ${var.nope}\n") == [
        ("_defaults.yaml:1:1", "${var.nope} is not defined")
    ]


def test_only_used_sources_are_named() -> None:
    result = expanded("customer_user_id: u-{run}\nfirst_name: '${var.tier}'\nstore: '{worker}'\n")

    assert result.sources == {
        name: VALUES.digest_of(name) for name in ("run", "var.tier", "worker")
    }
    assert VALUES.digest_of("var.nope") != PlaceholderValues().digest_of("var.nope") == ""


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


def test_the_same_finding_about_the_same_place_is_reported_once() -> None:
    result = expanded("for_each: 50\ncustomer_user_id: u-{index}\nstore: ${var.no}\n")

    findings = LimitedFindings(distinct=True)
    findings.extend(result.findings)

    assert len(findings.listed()) == 1
