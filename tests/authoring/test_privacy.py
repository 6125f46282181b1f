"""The guard against data of real people."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.authoring.documents import Document
from reconciler.authoring.privacy import Guard, Level, personal_data_findings
from reconciler.core.contract import Contract
from reconciler.errors import Severity, Source


def places(value: dict[str, Any], contract: Contract, guard: Guard | None = None) -> list[str]:
    document = Document({"customer_user_id": "a", **value}, Source("p.yaml", 1, 1), {})
    findings = [*personal_data_findings(document, contract, guard=guard or Guard())]
    assert all(str(text) not in each.message for text in value.values() for each in findings)
    return [each.message.split("`")[1] for each in findings]


@pytest.mark.parametrize(
    "email", ["jane@gmail.com", "JANE@Example.COM.br", "j@notexample.com", "j@sub.corp.io"]
)
def test_an_address_outside_reserved_domains_is_reported(email: str, contract: Contract) -> None:
    assert places({"email": email}, contract) == ["email"]


@pytest.mark.parametrize(
    "email",
    ["jane@example.com", "jane@mail.Example.ORG", "j@shop.test", "j@x.invalid", "not an address"],
)
def test_a_reserved_address_is_fine(email: str, contract: Contract) -> None:
    assert places({"email": email}, contract) == []


def test_configured_domains_and_all_below_them_are_nobodys(contract: Contract) -> None:
    guard = Guard(domains=("qa.corp.io",))

    assert places({"email": "a@mail.qa.corp.io"}, contract, guard) == []
    assert places({"email": "a@corp.io"}, contract, guard) == ["email"]


@pytest.mark.parametrize(
    "phone", ["+4915112345678", "+1 (202) 555-0200", "+12025559123", "0151 1234567"]
)
def test_a_number_outside_reserved_ranges_is_reported(phone: str, contract: Contract) -> None:
    assert places({"phone_number": phone}, contract) == ["phone_number"]


@pytest.mark.parametrize(
    "phone",
    [
        *("+12025550123", "+1 (202) 555-0199", "202-555-0100", "+447700900123", "+442079460958"),
        *(
            "+61 2 5550 1234",
            "+33 6 39 98 12 34",
            "+49 30 23125 123",
            "+353 20 910 1234",
            "+1234567890",
        ),
    ],
)
def test_a_number_of_a_reserved_range_is_fine(phone: str, contract: Contract) -> None:
    assert places({"phone_number": phone}, contract) == []


def test_custom_attributes_and_names_are_looked_at_too(contract: Contract) -> None:
    assert places(
        {"custom_attributes": {"mail": "to a@b.com!", "level": 5, "id": "123456789"}}, contract
    ) == ["custom_attributes.mail"]
    listed = [{"key": "phone", "value": "+49 151 12345678"}]
    assert places({"custom_attributes": listed}, contract) == ["custom_attributes.0.value"]
    assert places({"customer_user_id": "jane@gmail.com"}, contract) == ["customer_user_id"]


def test_a_reason_keeps_it_quiet_and_the_level_is_configured(contract: Contract) -> None:
    email = {"email": "a@b.com"}
    assert places({**email, "meta": {"contains_personal_data": "our own staff"}}, contract) == []
    assert places(email, contract, Guard(Level.OFF)) == []

    document = Document({"customer_user_id": "a", **email}, Source("p.yaml", 1, 1), {})
    for level, severity in ((Level.WARN, Severity.WARNING), (Level.ERROR, Severity.ERROR)):
        (finding,) = personal_data_findings(document, contract, guard=Guard(level))
        assert finding.severity is severity
