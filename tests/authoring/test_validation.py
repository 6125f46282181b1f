"""Everything that is wrong with profile files, all at once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings

from reconciler.authoring.json_schema import verdict_of
from reconciler.authoring.validation import validate_documents
from reconciler.core.contract import Contract, Dialect
from reconciler.core.contract_files import load_contract
from reconciler.core.profile_schema import profile_schema
from reconciler.errors import Severity
from tests.support.documents import ANYTHING, SEED, UUID, check, document, mutated


def only(text: str, dialect: str = "guide") -> tuple[str, str, str, str]:
    """Rule, place, message and hint of the one finding about a profile ``a``."""
    [finding] = check(f"customer_user_id: a\n{text}\n", dialect)
    return finding.rule, str(finding.source), finding.message, finding.hint


@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_profile_of_the_seed_has_no_finding(dialect: Dialect) -> None:
    assert validate_documents([document(SEED)], load_contract(dialect.value)) == []


def test_attributes_may_be_the_list_of_the_api() -> None:
    assert check("customer_user_id: a\ncustom_attributes: [{key: tier, value: gold}]\n") == []


@pytest.mark.parametrize("empty", ["{}", "[]"])
def test_no_attributes_is_not_mentioning_them(empty: str) -> None:
    assert check(f"customer_user_id: a\ncustom_attributes: {empty}\n") == []


# --- what is wrong, where, and what to do --------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "frist_name: Jane",
            (
                "profile/unknown-field",
                "a.yaml:2:1",
                'unknown field "frist_name"',
                "Did you mean `first_name`?",
            ),
        ),
        (
            "firstName: Jane",
            (
                "profile/unknown-field",
                "a.yaml:2:1",
                'unknown field "firstName"',
                "Did you mean `first_name`?",
            ),
        ),
        (
            "att_status: 1",
            (
                "profile/unknown-field",
                "a.yaml:2:1",
                'unknown field "att_status"',
                "The openapi dialect has it: set `dialect: openapi` for the environment in "
                "reconcile.yaml, or remove the field.",
            ),
        ),
        (
            "locale: en",
            (
                "profile/unknown-field",
                "a.yaml:2:1",
                'unknown field "locale"',
                "It belongs under `installation_meta`.",
            ),
        ),
        (
            "labels: [qa]",
            (
                "profile/unknown-field",
                "a.yaml:2:1",
                'unknown field "labels"',
                "It belongs under `meta`.",
            ),
        ),
        (
            "phone_number: 1234567890",
            (
                "profile/type",
                "a.yaml:2:1",
                "`phone_number` must be text or null, not the number 1234567890",
                'Quote it, so that it is text: "1234567890".',
            ),
        ),
        (
            "first_name: true",
            (
                "profile/type",
                "a.yaml:2:1",
                "`first_name` must be text or null, not true",
                'Quote it: "true".',
            ),
        ),
        (
            "analytics_disabled: yes",
            (
                "profile/type",
                "a.yaml:2:1",
                "`analytics_disabled` must be true or false, not text",
                "Write true or false, without quotes.",
            ),
        ),
        (
            "birthday: 2023-02-30",
            (
                "profile/value",
                "a.yaml:2:1",
                '`birthday` is "2023-02-30", which is not a date of the calendar',
                "Write it as YYYY-MM-DD, for example 2000-12-31.",
            ),
        ),
        (
            "ip_country: fr",
            (
                "profile/value",
                "a.yaml:2:1",
                '`ip_country` is "fr", which does not have the right form',
                'Did you mean "FR"?',
            ),
        ),
        (
            "platform: ios",
            (
                "profile/value",
                "a.yaml:2:1",
                '`platform` is "ios", which is not one of iOS, macOS, iPadOS, visionOS, Android, web',
                'Did you mean "iOS"?',
            ),
        ),
        (
            "store: steam",
            (
                "profile/value",
                "a.yaml:2:1",
                '`store` is "steam", which is not one of app_store, play_store, stripe',
                "Write one of: app_store, play_store, stripe, null.",
            ),
        ),
        (
            "first_name: ''",
            (
                "profile/value",
                "a.yaml:2:1",
                "`first_name` is empty text",
                "Write null to clear it.",
            ),
        ),
        (
            "birthday: null",
            (
                "profile/cannot-clear",
                "a.yaml:2:1",
                "`birthday` cannot be cleared: the API does not accept null for it",
                "Put the value back, set another value, or leave it out and list `birthday` under "
                "meta.forget: it is no longer managed then, and stays as it is at the API.",
            ),
        ),
        (
            "profile_id: jane",
            (
                "profile/id",
                "a.yaml:2:1",
                '`profile_id` is "jane", which is not a UUID',
                "Write it like 3fa85f64-5717-4562-b3fc-2c963f66afa6.",
            ),
        ),
        (
            "custom_attributes: null",
            (
                "profile/type",
                "a.yaml:2:1",
                "`custom_attributes` must be a map or a list, not null",
                "To delete attributes, name each key with null; or leave the field out.",
            ),
        ),
        (
            "installation_meta: null",
            (
                "profile/type",
                "a.yaml:2:1",
                "`installation_meta` must be a map, not null",
                "Leave it out; to stop managing it, list `installation_meta` under meta.forget.",
            ),
        ),
        (
            "installation_meta: {}",
            (
                "installation/device-id-missing",
                "a.yaml:2:1",
                "`installation_meta` needs a `device_id`",
                "Add the `device_id` that the app made on the device, or remove the whole map.",
            ),
        ),
        (
            "custom_attributes:\n  a b: 1",
            (
                "attribute/key",
                "a.yaml:3:3",
                'the key "a b" is not a key of a custom attribute',
                "A key has 1 to 30 ASCII letters, digits, dashes, periods or underscores.",
            ),
        ),
        (
            "custom_attributes:\n  tier: ''",
            (
                "attribute/value",
                "a.yaml:3:3",
                "`custom_attributes.tier` is empty text",
                "Write null to make sure that the attribute is absent.",
            ),
        ),
        (
            "custom_attributes:\n  tier: [gold]",
            (
                "attribute/value",
                "a.yaml:3:3",
                "`custom_attributes.tier` must be text, a number, true, false or null, not a list",
                "Write one value; an attribute holds neither lists nor maps.",
            ),
        ),
        (
            "custom_attributes:\n  id: 9007199254740993",
            (
                "attribute/value",
                "a.yaml:3:3",
                "`custom_attributes.id` is a number that a float does not hold exactly",
                "Stay within ±9007199254740992, or quote it, so that it is text.",
            ),
        ),
        (
            "custom_attributes:\n- {key: a, value: 1}\n- {key: a, value: 2}",
            (
                "attribute/duplicate",
                "a.yaml:4:4",
                'the custom attribute "a" is listed twice, first in line 3',
                "Remove one of them.",
            ),
        ),
        (
            "custom_attributes:\n- {key: a}",
            (
                "attribute/value",
                "a.yaml:3:3",
                "`value` is missing in `custom_attributes[0]`",
                "Add `value`. null makes sure that the attribute is absent.",
            ),
        ),
        (
            "meta:\n  forget: [birthdate]",
            (
                "meta/forget",
                "a.yaml:3:12",
                'meta.forget: there is no field "birthdate"',
                'Did you mean "birthday"?',
            ),
        ),
        (
            "meta:\n  forget: [custom_attributes]",
            (
                "meta/forget",
                "a.yaml:3:12",
                'meta.forget: there is no field "custom_attributes"',
                "Name each key: custom_attributes.KEY.",
            ),
        ),
        (
            "birthday: '2000-12-31'\nmeta:\n  forget: [birthday]",
            (
                "meta/forget",
                "a.yaml:4:12",
                "`birthday` is both declared and listed under meta.forget",
                "Remove it from one of the two.",
            ),
        ),
        (
            "meta:\n  forget: [birthday, birthday]",
            (
                "meta/forget",
                "a.yaml:3:3",
                '`meta.forget` lists "birthday" twice',
                "Remove one of them.",
            ),
        ),
    ],
)
def test_a_finding_says_what_is_wrong_where_and_what_to_do(
    text: str, expected: tuple[str, str, str, str]
) -> None:
    assert only(text) == expected


@pytest.mark.parametrize("name", ["birthday", "ip_country", "analytics_disabled"])
def test_null_for_a_field_that_cannot_be_cleared_is_fine_in_the_later_dialect(name: str) -> None:
    assert check(f"customer_user_id: a\n{name}: null\n", "openapi") == []


def test_null_for_a_device_id_names_the_whole_map_as_the_way_out() -> None:
    rule, _, _, hint = only("installation_meta: {device_id: null}")
    assert (rule, "`installation_meta` under meta.forget" in hint) == (
        "profile/cannot-clear",
        True,
    )


@pytest.mark.parametrize("id_", ["''", "profile:x", "a b", "jäne", '"a\\n"'])
def test_a_customer_id_that_cannot_travel_or_looks_like_an_address_is_refused(id_: str) -> None:
    assert [finding.rule for finding in check(f"customer_user_id: {id_}\n")] == ["profile/id"]


def test_a_profile_without_identifier_is_refused() -> None:
    assert [finding.rule for finding in check("first_name: Jane\n")] == ["profile/missing-id"]


def test_all_findings_are_reported_in_the_order_of_their_places() -> None:
    findings = check("first_name: 5\nlsat_name: Doe\nstore: x\nmeta: {forget: [nothing]}\n")
    assert [(str(item.source), item.rule) for item in findings] == [
        ("a.yaml:1:1", "profile/missing-id"),
        ("a.yaml:1:1", "profile/type"),
        ("a.yaml:2:1", "profile/unknown-field"),
        ("a.yaml:3:1", "profile/value"),
        ("a.yaml:4:17", "meta/forget"),
    ]


def test_long_values_are_quoted_briefly() -> None:
    [finding] = validate_documents(
        [document({"customer_user_id": "a", "birthday": "x" * 1000})], load_contract()
    )
    assert len(finding.message) < 120


def test_thirty_attributes_are_allowed_and_nulls_do_not_count() -> None:
    attributes = {f"k{index}": 1 for index in range(30)} | {"gone": None}
    value = {"customer_user_id": "a", "custom_attributes": attributes}
    assert validate_documents([document(value)], load_contract()) == []


def test_thirty_one_attributes_are_too_many() -> None:
    attributes = [{"key": f"k{index}", "value": 1} for index in range(31)]
    value = {"customer_user_id": "a", "custom_attributes": attributes}
    findings = validate_documents([document(value)], load_contract())
    assert [item.rule for item in findings] == ["attribute/too-many"]


@pytest.mark.parametrize(("dialect", "limit"), [("guide", 30), ("openapi", 50)])
def test_the_length_of_an_attribute_counts_utf_16_units_where_they_are_more(
    dialect: str, limit: int
) -> None:
    def rules(text: str) -> list[str]:
        value = {"customer_user_id": "a", "custom_attributes": {"k": text}}
        return [item.rule for item in validate_documents([document(value)], load_contract(dialect))]

    assert [rules("é" * limit), rules("😀" * (limit // 2))] == [[], []]
    assert [rules("é" * (limit + 1)), rules("😀" * (limit // 2 + 1))] == [["attribute/value"]] * 2


@pytest.mark.parametrize("status", ["1.0", "'1'", "true", "9"])
def test_a_whole_number_is_asked_for_as_one(status: str) -> None:
    assert only(f"att_status: {status}", "openapi")[0] in ("profile/type", "profile/value")


def test_a_forgotten_map_may_not_have_declared_members() -> None:
    text = f"installation_meta: {{device_id: {UUID}}}\nmeta: {{forget: [installation_meta]}}"
    assert only(text)[0] == "meta/forget"


def test_a_member_that_is_not_declared_can_be_forgotten() -> None:
    text = f"installation_meta: {{device_id: {UUID}}}\nmeta: {{forget: [installation_meta.os]}}"
    assert check(f"customer_user_id: a\n{text}\n") == []


# --- warnings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("gender: female", "a.yaml:2:1"),
        ("email: jane", "a.yaml:2:1"),
        ('email: "jane@example.com\\n"', "a.yaml:2:1"),
        ("ip_country: XX", "a.yaml:2:1"),
        ("store_country: Norway", "a.yaml:2:1"),
        ("installation_meta:\n  device_id: phone", "a.yaml:3:3"),
        (f"installation_meta:\n  device_id: {UUID}\n  platform: ios", "a.yaml:4:3"),
        (
            f"analytics_disabled: true\ninstallation_meta:\n  device_id: {UUID}\n  idfa: x",
            "a.yaml:5:3",
        ),
    ],
)
def test_a_suspicious_value_is_a_warning(text: str, place: str) -> None:
    [finding] = check(f"customer_user_id: a\n{text}\n")
    assert (finding.severity, finding.rule, str(finding.source)) == (
        Severity.WARNING,
        "profile/suspicious",
        place,
    )


def test_a_value_that_is_wrong_is_not_suspicious_as_well() -> None:
    assert only("ip_country: France")[0] == "profile/value"


# --- anything at all -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(value=mutated() | ANYTHING)
def test_no_document_crashes_and_every_refused_one_has_an_error(value: Any) -> None:
    contract = load_contract()
    findings = validate_documents([document(value)], contract)
    if not verdict_of(profile_schema(contract))(value):
        assert any(item.is_error for item in findings)


@settings(deadline=None, max_examples=100)
@given(value=mutated())
def test_findings_never_quote_at_length(value: Any) -> None:
    findings = validate_documents([document(value)], load_contract())
    assert [item.message for item in findings if len(item.message) > 300] == []


@pytest.mark.parametrize("value", [None, [], "text", 5, {1: 2}, {"custom_attributes": [[], 1]}])
def test_a_document_of_another_kind_is_an_error(value: Any, contract: Contract) -> None:
    assert any(item.is_error for item in validate_documents([document(value)], contract))


def test_a_number_of_five_thousand_digits_is_an_error(contract: Contract) -> None:
    value = {"customer_user_id": "a", "first_name": 10**5000, "custom_attributes": {"k": 10**5000}}
    findings = validate_documents([document(value)], contract)
    assert [item.rule for item in findings] == ["attribute/value", "profile/type"]


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_json_does_not_have_is_an_error(contract: Contract, number: float) -> None:
    value = {"customer_user_id": "a", "custom_attributes": {"k": number}}
    findings = validate_documents([document(value)], contract)
    assert [item.rule for item in findings] == ["attribute/value"]


def test_jsonschema_is_not_imported_for_valid_profiles() -> None:
    code = (
        "import json, sys\n"
        "from reconciler.authoring.documents import Document\n"
        "from reconciler.errors import Source\n"
        "from reconciler.core.contract_files import load_contract\n"
        "from reconciler.authoring.validation import validate_documents\n"
        "assert 'jsonschema_rs' not in sys.modules\n"
        "document = Document(json.loads(sys.argv[1]), Source('a'), {})\n"
        "assert validate_documents([document], load_contract()) == []\n"
        "assert 'jsonschema' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(SEED)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
