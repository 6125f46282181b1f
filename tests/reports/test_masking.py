"""Personal values are tags before any writer sees them, equal ones the same, and nothing else is lost."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from reconciler.core.contract import Contract
from reconciler.core.contract_files import load_contract
from reconciler.core.outcomes import Outcome, Result
from reconciler.core.plan import Action
from reconciler.core.plan_format import encode
from reconciler.core.records import Fact, Known, Record
from reconciler.errors import InputError, Message, Quote, Source, error
from reconciler.reports.findings_text import diagnostics_text
from reconciler.reports.json import plan_json
from reconciler.reports.masking import Mask
from reconciler.reports.view import PlanView
from tests.support.plans import EVERYTHING, SMALL
from tests.support.projects import Project

BAD_INPUT = Path(__file__).parent.parent / "bad_input"


@pytest.fixture
def mask(contract: Contract) -> Mask:
    return Mask(contract)


def test_fields_that_the_contract_calls_personal_are_hidden(mask: Mask) -> None:
    for path, field in mask.contract.fields.items():
        assert mask.hides(path) == field.personal, path


def test_a_custom_attribute_is_personal_unless_listed(contract: Contract) -> None:
    mask = Mask(contract, ("tier", "exp.*"))
    hidden = {
        key: mask.hides(f"custom_attributes.{key}") for key in ("tier", "tiers", "exp.a", "note")
    }
    assert hidden == {"tier": False, "tiers": True, "exp.a": False, "note": True}


def test_an_unknown_field_is_personal(mask: Mask) -> None:
    assert mask.hides("some_new_field")


def test_equal_values_have_the_same_tag_and_others_do_not(mask: Mask) -> None:
    tags = [mask.value("first_name", text) for text in ("Jane", "Anna", "Jane")]
    assert tags == ["(personal #1)", "(personal #2)", "(personal #1)"]
    assert mask.value("custom_attributes.x", "Jane") == "(personal #1)"


def test_an_absent_value_is_shown_as_absent(mask: Mask) -> None:
    assert mask.value("first_name", None) is None


def test_a_masked_plan_has_the_digest_and_totals_of_the_real_one(mask: Mask) -> None:
    masked = mask.plan(EVERYTHING)
    assert (masked.digest, masked.summary) == (EVERYTHING.digest, EVERYTHING.summary)
    assert [c.address for c in masked.changes] == [c.address for c in EVERYTHING.changes]


def test_tags_are_numbered_in_the_order_of_the_plan(contract: Contract) -> None:
    once, again = Mask(contract), Mask(contract)
    backwards = list(once.plan(EVERYTHING).changes)[::-1]
    assert backwards[::-1] == list(again.plan(EVERYTHING).changes)


def test_bodies_keep_their_shape(mask: Mask) -> None:
    body = mask.body(
        {
            "email": "a@example.com",
            "store": "app_store",
            "last_name": None,
            "custom_attributes": [{"key": "a", "value": 1.0}, {"key": "b", "value": None}],
            "installation_meta": {"device_id": "d", "locale": "en", "idfa": ""},
        }
    )
    assert body == {
        "email": "(personal #1)",
        "store": "app_store",
        "last_name": None,
        "custom_attributes": [{"key": "a", "value": "(personal #2)"}, {"key": "b", "value": None}],
        "installation_meta": {"device_id": "(personal #3)", "locale": "en", "idfa": ""},
    }


def test_a_value_that_looks_like_a_tag_is_not_taken_for_one(mask: Mask) -> None:
    fake = replace(SMALL, changes=tuple(
        c._replace(fields=tuple(f._replace(after="(personal #1)", path="store") for f in c.fields))
        for c in SMALL.changes
    ))  # fmt: skip
    (change,) = PlanView.of(mask.plan(fake)).changes
    (real,) = PlanView.of(mask.plan(SMALL)).changes
    assert change.fields[1].after == '"(personal #1)"'
    assert real.fields[1].after == "(personal #1)"


def test_a_masked_plan_says_so_and_does_not_pass_for_the_plan(mask: Mask) -> None:
    data = json.loads(plan_json(PlanView.of(mask.plan(SMALL), masked=(mask.kind,))))
    assert data["masked"] == ["personal"]
    assert data["digest"] == SMALL.digest
    assert {**data, "masked": None} != {**encode(SMALL), "masked": None}


def test_a_reason_of_the_api_is_masked_where_it_repeats_a_value(mask: Mask) -> None:
    mask.plan(EVERYTHING)
    result = Result(
        "qa-anna", Action.CREATE, Outcome.FAILED, "email P@Example.com is taken, says Anna", "id",
        ("Annabel is fine",),
    )  # fmt: skip
    masked = mask.result(result)
    assert "xample" not in masked.reason
    assert "Anna" not in masked.reason
    assert masked.warnings == ("Annabel is fine",)


def test_the_attempted_values_of_a_record_are_masked(mask: Mask) -> None:
    record = Record(
        "jane",
        facts={
            "email": Fact(Known.UNCERTAIN, value="a@b.c", attempt="d@e.f"),
            "store": Fact.of("stripe"),
        },
        unknown_write={"email": "d@e.f"},
    )
    masked = mask.record(record)
    assert masked.facts["email"] == Fact(Known.UNCERTAIN, "(personal #1)", "(personal #2)")
    assert masked.facts["store"] == Fact.of("stripe")
    assert masked.unknown_write == {"email": "(personal #2)"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (("`email` is ", Quote("a@b.c"), ", which is odd"), "`email` is (personal #1), which is odd"),
        ((Quote("+1234567890", "`"), " is text here"), "(personal #1) is text here"),
        (("not the number ", Quote("4155551234", "")), "not the number (personal #1)"),
        (("is ", Quote('a"b'), " or ", Quote("c"), ";"), "is (personal #1) or (personal #2);"),
        (("is ", Quote("a"), ", not ", Quote("a", "`")), "is (personal #1), not (personal #1)"),
        (("the key ", Quote("email", "`", is_name=True)), "the key `email`"),
        (("the key ", Quote("Jane", "`", is_name=True)), "the key (personal #1)"),
        ((Quote("meta.labels[1]", "`", is_name=True), " is odd"), "`meta.labels[1]` is odd"),
        ((Quote("custom_attributes.a-b", is_name=True), "!"), '"custom_attributes.a-b"!'),
        ((Quote("custom_attributes.Jane Doe", is_name=True), "!"), "(personal #1)!"),
        ((Quote("meta.Jane", is_name=True), "!"), "(personal #1)!"),
        (("is ", Quote(""), ", which is odd"), 'is "", which is odd'),
        (("our own `words`, and \"quotes\"",), "our own `words`, and \"quotes\""),
    ],
)  # fmt: skip
def test_a_finding_keeps_its_words_and_loses_the_values_it_quotes(
    mask: Mask, message: tuple[str | Quote, ...], expected: str
) -> None:
    finding = error(
        "profile/value", Message.of(*message), source=Source("a.yaml", 1), hint=Message.of(*message)
    )
    masked = mask.finding(finding)
    assert (masked.message, masked.hint) == (expected, expected)
    assert (masked.values, masked.hint_values) == ((), ())


def test_a_failure_loses_the_values_it_quotes(mask: Mask) -> None:
    finding = error("r", Message.of(Quote("Jane"), "!"), source=Source("a.yaml"))
    problem = InputError(Message.of("not ", Quote("Jane")), diagnostics=[finding])
    mask.error(problem)
    assert (problem.message, problem.diagnostics[0].message) == (
        "not (personal #1)",
        "(personal #1)!",
    )


def personal_texts(folder: Path) -> set[str]:
    """Texts of personal fields in the files of a folder, as far as those can be read at all."""
    found: set[str] = set()
    contract = load_contract("openapi")
    for path in folder.rglob("*.y*ml"):
        try:
            documents = list(yaml.load_all(path.read_text("utf-8"), Loader=yaml.BaseLoader))
        except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError):
            continue
        for document in documents:
            for name, content in document.items() if isinstance(document, dict) else ():
                field = contract.fields.get(name)
                if isinstance(content, str) and field is not None and field.personal:
                    found.add(content)
                elif name == "custom_attributes" and isinstance(content, dict):
                    found |= {text for text in content.values() if isinstance(text, str)}
    return {text for text in found if len(text) > 3 and text not in ("null", "true", "false")}


@pytest.mark.parametrize("folder", sorted(BAD_INPUT.iterdir()), ids=lambda path: path.name)
def test_no_finding_repeats_a_personal_value_when_masked(folder: Path, tmp_path: Path) -> None:
    with Project(tmp_path).workspace() as workspace:
        mask = Mask(workspace.contract)
        found = [mask.finding(item) for item in workspace.validate([folder]).diagnostics]
    text = re.sub(r"^.*?: (error|warning): ", "", diagnostics_text(found, color=False), flags=re.M)
    assert [value for value in personal_texts(folder) if value in text] == []
