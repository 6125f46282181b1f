"""A number of findings of each rule is listed for a file, and the others are counted."""

from __future__ import annotations

from reconciler.authoring.finding_limits import LimitedFindings
from reconciler.authoring.json_schema import MOST_VIOLATIONS
from reconciler.errors import Source, warning
from tests.support.documents import check


def listed(limited: LimitedFindings) -> list[tuple[str, str]]:
    return [(str(each.source), each.message) for each in limited.listed()]


def test_the_last_one_that_is_listed_counts_the_others() -> None:
    limited = LimitedFindings(2)
    limited.extend(warning("a/b", "wrong", source=Source("f", line)) for line in range(1, 1_003))
    limited.add(warning("a/c", "wrong", source=Source("f", 5)))
    limited.add(warning("a/b", "wrong", source=Source("g", 1)))

    assert listed(limited) == [
        ("f:1", "wrong"),
        ("f:2", "wrong; and 1,000 more like it"),
        ("f:5", "wrong"),
        ("g:1", "wrong"),
    ]


def test_a_rule_that_is_full_is_counted_without_a_finding() -> None:
    limited = LimitedFindings(1)
    assert not limited.is_full("f", "a/b")
    limited.add(warning("a/b", "wrong", source=Source("f", 1)))
    assert limited.is_full("f", "a/b")
    limited.count("f", "a/b")

    assert listed(limited) == [("f:1", "wrong; and 1 more like it")]


def test_a_distinct_finding_counts_once_for_a_place() -> None:
    limited = LimitedFindings(1, distinct=True)
    limited.extend(warning("a/b", f"wrong {n}", source=Source("f", 1)) for n in range(9))

    assert listed(limited) == [("f:1", "wrong 0")]


def test_only_the_first_refused_documents_of_a_file_are_explained() -> None:
    number = MOST_VIOLATIONS + 1_000
    findings = check("---\n".join(f"customer_user_id: u{n}\nx: 1\n" for n in range(number)))

    assert [each.rule for each in findings] == [
        *["profile/unknown-field"] * MOST_VIOLATIONS,
        "profile/more-findings",
    ]
    assert findings[-1].message == (
        "this document and 999 more of this file are refused too, without an explanation"
    )
    assert findings[-1].source.line == 3 * MOST_VIOLATIONS + 1


def test_valid_documents_after_them_are_not_counted() -> None:
    refused = "---\n".join(f"customer_user_id: u{n}\nx: 1\n" for n in range(MOST_VIOLATIONS + 1))
    valid = "---\n".join(f"customer_user_id: v{n}\n" for n in range(9))
    *_, last = check(f"{refused}---\n{valid}")

    assert last.message == "this document is refused too, without an explanation"


def test_a_document_with_many_mistakes_says_that_there_are_more() -> None:
    text = "customer_user_id: u\n" + "".join(f"x{n}: 1\n" for n in range(1_000))
    findings = check(text)

    assert [each.rule for each in findings] == [
        "profile/more-findings",
        *["profile/unknown-field"] * MOST_VIOLATIONS,
    ]
