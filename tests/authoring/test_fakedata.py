"""Made-up data: the same everywhere, and nobody's."""

from __future__ import annotations

import pytest

from reconciler.authoring.documents import Document
from reconciler.authoring.fakedata import NAMES, fake, version
from reconciler.authoring.privacy import Guard, personal_data_findings
from reconciler.authoring.validation import validate_document
from reconciler.core.contract import Contract
from reconciler.errors import Source

SEEDS = [f"\nqa-user-{number}" for number in range(200)]


def test_the_same_seed_gives_the_same_on_every_machine() -> None:
    assert version() == "Faker 40.63.0", "other data: say so in the changelog"
    assert {
        name: fake(name, "s\nqa-user-1") for name in ("first_name", "email", "phone_number")
    } == {
        "first_name": "Benjamin",
        "email": "benjamin.santiago.2146@example.com",
        "phone_number": "+16175550148",
    }


def test_other_profiles_get_other_data() -> None:
    assert len({fake("email", seed) for seed in SEEDS}) > 190
    assert fake("email", "a\nx") != fake("email", "b\nx")


def test_an_unknown_name_is_not_made_up() -> None:
    assert fake("free_email", "s") is None


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_can_be_an_attribute(name: str, contract: Contract) -> None:
    for seed in SEEDS:
        text = fake(name, seed)
        document = Document(
            {"customer_user_id": "a", "custom_attributes": {"x": text}}, Source("p", 1, 1), {}
        )
        assert text
        assert [
            f for f in validate_document(document, contract) if f.rule != "attribute/value"
        ] == []
        assert [*personal_data_findings(document, contract, guard=Guard())] == []


def test_made_up_profiles_are_valid_and_cannot_be_a_real_person(contract: Contract) -> None:
    for seed in SEEDS:
        value = {
            name: fake(name, seed) for name in ("first_name", "email", "phone_number", "birthday")
        }
        value["installation_meta"] = {"device_id": fake("uuid", seed)}  # type: ignore[assignment]
        document = Document({"customer_user_id": "a", **value}, Source("p", 1, 1), {})
        assert validate_document(document, contract) == []
        assert [*personal_data_findings(document, contract, guard=Guard())] == []


def test_an_address_is_made_of_the_name() -> None:
    first = str(fake("first_name", "s\nx")).lower()
    assert str(fake("email", "s\nx")).startswith(first)
