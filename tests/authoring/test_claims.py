"""Findings across documents: an address or a device may be declared once."""

from __future__ import annotations

from reconciler.authoring.validation import validate_documents
from reconciler.core.contract_files import load_contract
from reconciler.errors import Severity
from tests.support.documents import UUID, check, document


def test_an_address_declared_twice_names_both_places() -> None:
    [finding] = check("customer_user_id: a\n---\nfirst_name: Jane\ncustomer_user_id: a\n")
    assert (finding.rule, str(finding.source), finding.message) == (
        "profile/duplicate-address",
        "a.yaml:4:1",
        '`customer_user_id` "a" is declared twice, first at a.yaml:1:1',
    )


def test_a_profile_id_declared_twice_is_found_whatever_its_case() -> None:
    findings = check(
        f"customer_user_id: a\nprofile_id: {UUID}\n---\ncustomer_user_id: b\n"
        f"profile_id: {UUID.upper()}\n"
    )
    assert [(item.rule, str(item.source)) for item in findings] == [
        ("profile/duplicate-address", "a.yaml:5:1")
    ]


def test_two_equal_documents_are_one_finding() -> None:
    text = f"customer_user_id: a\nprofile_id: {UUID}\n"
    assert len(check(f"{text}---\n{text}")) == 1


def test_three_of_an_address_are_two_findings_in_any_order() -> None:
    documents = [document({"customer_user_id": "a"}, f"{name}.yaml") for name in "abc"]
    findings = validate_documents(documents, load_contract())
    assert [str(item.source) for item in findings] == ["b.yaml:1:1", "c.yaml:1:1"]
    assert validate_documents(documents[::-1], load_contract()) == findings


def test_a_device_of_two_profiles_is_a_warning() -> None:
    device = f"installation_meta: {{device_id: {UUID}}}"
    [finding] = check(f"customer_user_id: a\n{device}\n---\ncustomer_user_id: b\n{device}\n")
    assert (finding.severity, finding.rule, str(finding.source)) == (
        Severity.WARNING,
        "profile/duplicate-device",
        "a.yaml:5:21",
    )
