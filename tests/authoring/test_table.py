"""Tables become documents whose members have the places of their cells."""

from __future__ import annotations

import pytest

from reconciler.authoring.table import read_table
from reconciler.core.contract import Contract


def test_a_row_is_a_document_and_types_follow_the_schema(contract: Contract) -> None:
    text = (
        "customer_user_id,first_name,custom_attributes.a,custom_attributes.b,access_levels.premium\r\n"
        '007,12,12,"say ""hi"", {x}",lifetime\r\n'
        "\r\n"
        "joe,,true,007,null\r\n"
    )
    documents, findings = read_table(text, "t.csv", contract=contract)
    assert not findings
    assert [document.value for document in documents] == [
        {
            "customer_user_id": "007",
            "first_name": "12",
            "custom_attributes": {"a": 12, "b": 'say "hi", {x}'},
            "access_levels": {"premium": "lifetime"},
        },
        {
            "customer_user_id": "joe",
            "custom_attributes": {"a": True, "b": "007"},
            "access_levels": {"premium": None},
        },
    ]
    assert documents[0].at(("custom_attributes", "b"))[1:] == (2, 11)
    assert documents[1].at(("access_levels", "premium"))[1:] == (4, 15)


def test_a_line_break_in_a_cell_counts_as_a_line(contract: Contract) -> None:
    text = 'customer_user_id,custom_attributes.a,last_name\njane,"x\ny",Doe\njoe,,x'
    documents, _ = read_table(text, "t.csv", contract=contract)
    assert documents[0].at(("last_name",))[1:] == (3, 4)
    assert documents[1].at(("last_name",))[1:] == (4, 6)


@pytest.mark.parametrize(
    ("text", "place", "rule"),
    [
        ("", (0, 0), "table/header"),
        ("email\nx\n", (1, 1), "table/header"),
        ("customer_user_id,\n", (1, 18), "table/header"),
        ("customer_user_id,email,email\n", (1, 24), "table/header"),
        ("customer_user_id,email\njane,a,b\n", (2, 8), "table/cells"),
        ('customer_user_id,email\njane,a"b\n', (2, 6), "table/quotes"),
        ('customer_user_id,email\njane,"ab\n', (2, 6), "table/quotes"),
    ],
)
def test_what_is_no_table_is_told_with_its_place(
    text: str, place: tuple[int, int], rule: str, contract: Contract
) -> None:
    documents, (finding,) = read_table(text, "t.csv", contract=contract)
    assert not documents
    assert (finding.rule, finding.source[1:]) == (rule, place)
    assert finding.hint
