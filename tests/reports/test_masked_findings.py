"""No rendering of a masked finding holds a personal value, whatever the rule and the value."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.authoring import fakedata
from reconciler.authoring.loader import load_text
from reconciler.authoring.placeholders import PlaceholderValues
from reconciler.authoring.privacy import Guard, personal_data_findings
from reconciler.authoring.table import read_table
from reconciler.authoring.templates import expand
from reconciler.authoring.validation import validate_defaults, validate_documents
from reconciler.core.contract import Dialect
from reconciler.core.contract_files import load_contract
from reconciler.errors import Diagnostic
from reconciler.planning.index import decode_findings, encode_findings
from reconciler.reports import ci
from reconciler.reports.findings_text import diagnostics_text
from reconciler.reports.json import diagnostics_json
from reconciler.reports.markdown import diagnostics_markdown
from reconciler.reports.masking import Mask

CONTRACTS = [load_contract(dialect.value) for dialect in Dialect]
AUTHORING = Path(fakedata.__file__).parent

RENDERINGS: dict[str, Callable[[Sequence[Diagnostic]], str]] = {
    "text": lambda findings: diagnostics_text(findings, color=False),
    "JSON": diagnostics_json,
    "Markdown": lambda findings: diagnostics_markdown(findings, environment="qa"),
    "GitHub": ci.diagnostics_annotations,
    "GitLab": ci.diagnostics_gitlab,
    "SARIF": lambda findings: ci.diagnostics_sarif(findings, version="0"),
    "JUnit": lambda findings: ci.diagnostics_junit(findings, documents=1),
}

# TEXT is a value in double quotes, WORD is plain, CORE is the part of both that must not be seen,
# NUMBER is a number.
ONE = "customer_user_id: a\n"
FILES: dict[str, list[str]] = {
    "attribute/duplicate": [
        f"{ONE}custom_attributes: [{{key: CORE, value: 1}}, {{key: CORE, value: TEXT}}]"
    ],
    "attribute/key": [
        f"{ONE}custom_attributes: {{TEXT: 1}}",
        f"{ONE}custom_attributes: [{{key: TEXT, value: 1}}]",
        f"{ONE}custom_attributes: [{{TEXT: 1}}]",
    ],
    "attribute/too-many": [
        f"{ONE}custom_attributes: {{{', '.join(f'k{n}: TEXT' for n in range(31))}}}"
    ],
    "attribute/value": [
        f"{ONE}custom_attributes: {{k: [TEXT]}}",
        f"{ONE}custom_attributes: {{k: TEXT, l: {'é' * 51}}}",
        f"{ONE}custom_attributes: {{k: {'😀' * 26}}}\nemail: TEXT",
        f"{ONE}custom_attributes: [{{key: k, value: {{TEXT: TEXT}}}}]",
        f"{ONE}custom_attributes: {{k: NUMBER00000000000}}",
        f"{ONE}custom_attributes: [{{key: k}}]\nfirst_name: TEXT",
    ],
    "defaults/not-shared": ["customer_user_id: TEXT"],
    "file/empty": ["# CORE"],
    "file/encoding": ["\x00C\x00O\x00R\x00E # CORE"],
    "file/too-many-values": [
        f"customer_user_id: CORE{{index}}\nfor_each: 100000\nmeta: {{labels: [{'TEXT, ' * 30}]}}"
    ],
    "installation/device-id-missing": [f"{ONE}installation_meta: {{device: TEXT}}"],
    "meta/expires": [
        f"{ONE}meta: {{expires: TEXT}}",
        f"{ONE}meta: {{expires: 2030-02-30T10:00Z, ttl: 1d}}\nfirst_name: TEXT",
    ],
    "meta/forget": [
        f"{ONE}meta: {{forget: [TEXT]}}",
        f"{ONE}meta: {{forget: [email.CORE]}}",
        f"{ONE}meta: {{forget: [email]}}\nemail: TEXT",
        f"{ONE}meta: {{forget: [installation_meta.CORE]}}",
    ],
    "personal/real-person": [
        f"{ONE}email: CORE@CORE.com\ncustom_attributes: {{k: TEXT, m: x@CORE.org}}",
        f"{ONE}phone_number: '+49170NUMBER'",
        f"{ONE}custom_attributes: [{{key: CORE, value: '+49170NUMBER'}}]",
    ],
    "profile/cannot-clear": [f"{ONE}birthday: null\nfirst_name: TEXT"],
    "profile/duplicate-address": [
        "customer_user_id: CORE\nfirst_name: TEXT\n---\ncustomer_user_id: CORE"
    ],
    "profile/duplicate-device": [
        "\n---\n".join(
            f"customer_user_id: {name}\ninstallation_meta: {{device_id: TEXT}}" for name in "ab"
        )
    ],
    "profile/id": ["customer_user_id: TEXT é", "profile_id: TEXT"],
    "profile/missing-id": ["first_name: TEXT"],
    "profile/more-findings": [
        ONE + "".join(f"{n}CORE: TEXT\n" for n in "abcdefghijk" * 10),
        "\n---\n".join(f"{ONE}x{n}: TEXT" for n in range(101)),
    ],
    "profile/suspicious": [
        f"{ONE}gender: CORE\nemail: TEXT",
        f"{ONE}installation_meta: {{device_id: TEXT}}",
    ],
    "profile/type": [
        f"{ONE}first_name: NUMBER",
        f"{ONE}first_name: [TEXT]",
        f"{ONE}first_name: {{TEXT: TEXT}}",
        f"{ONE}analytics_disabled: TEXT",
        f"{ONE}analytics_disabled: NUMBER",
        f"{ONE}att_status: NUMBER.0",
        f"{ONE}att_status: NUMBER.5",
        f"{ONE}att_status: 'NUMBER'",
        f"{ONE}custom_attributes: [TEXT]",
    ],
    "profile/unknown-field": [
        f"{ONE}TEXT: 1",
        f"{ONE}CORE: TEXT",
        f"{ONE}installation_meta: {{device_id: x, CORE: 1}}",
        f"{ONE}meta: {{TEXT: 1}}",
        f"{ONE}custom_attributes: [{{key: k, value: 1, CORE: TEXT}}]",
    ],
    "profile/value": [
        f"{ONE}birthday: TEXT",
        f"{ONE}platform: TEXT",
        f"{ONE}store: CORE",
        f"{ONE}email: ' CORE '",
        f"{ONE}att_status: NUMBER",
        f"{ONE}ip_country: CORE",
        f"{ONE}first_name: {'x' * 300}CORE",
        f"{ONE}meta: {{labels: [TEXT, TEXT]}}",
        f"{ONE}meta: {{ttl: TEXT}}",
        f"{ONE}meta: {{exclusive: [TEXT]}}",
        f"{ONE}ip: TEXT",
    ],
    "template/for-each": [
        f"{ONE}for_each: TEXT",
        f"{ONE}for_each: -NUMBER",
        f"{ONE}for_each: [[TEXT]]",
        f"{ONE}for_each: [{{a: [TEXT]}}]",
    ],
    "template/not-unique": [f"{ONE}for_each: [TEXT, TEXT]\nfirst_name: TEXT"],
    "template/placeholder": [
        f"{ONE}first_name: '${{CORE}}'",
        f"{ONE}first_name: '${{var.CORE}} ${{env.CORE}} ${{env.QA_CORE}} {{index}} {{item.CORE}}'",
        "customer_user_id: a{index}\nfor_each: 2\nfirst_name: '{CORE} {fake.CORE} {item.CORE}'",
        "customer_user_id: a{index:CORE}\nfor_each: [{CORE: TEXT}]\nfirst_name: '{item.COREx}'",
        "customer_user_id: a{index}\nfor_each: [TEXT]\nfirst_name: '{item.CORE} {item.a} {fake.CORE}'",
    ],
    "yaml/alias-loop": ["CORE: &CORE [*CORE]"],
    "yaml/ambiguous-scalar": [f"{ONE}birthday: +NUMBER\nfirst_name: TEXT", f"{ONE}'x': 0NUMBER"],
    "yaml/duplicate-key": ["CORE: 1\nCORE: TEXT", "TEXT: 1\nTEXT: 2"],
    "yaml/empty-document": ["---\n---\nfirst_name: TEXT"],
    "yaml/invisible-character": ["first_name: CORE\u200b", 'first_name: "CORE\\u200b"'],
    "yaml/merge": ["<<: TEXT"],
    "yaml/non-string-key": ["NUMBER: TEXT", "[TEXT]: 1", "? {TEXT: 1}\n: 2", ": TEXT"],
    "yaml/not-a-mapping": ["TEXT", "- TEXT", "NUMBER"],
    "yaml/number-range": ["a: NUMBERe999"],
    "yaml/scalar-too-long": [f"a: TEXT{'x' * 70_000}", f"a: CORE{'x' * 70_000}"],
    "yaml/syntax": [
        "a: TEXT b",
        "CORE: [TEXT",
        "a: CORE: CORE",
        "a: @CORE",
        "a: `CORE",
        "a: CORE\n b: CORE\n",
        'a: "CORE',
        "a: %CORE",
        "<<<<<<< CORE\na: TEXT\n=======\n",
        'a: "\\qCORE"',
        "\ta: CORE",
    ],
    "yaml/tag": ["a: !CORE TEXT", "a: !<CORE> [TEXT]", "CORE: !!int TEXT"],
    "yaml/too-deep": [f"a: {'[' * 20}TEXT{']' * 20}"],
    "yaml/too-many-nodes": [f"a: [{'TEXT, ' * 20_001}]"],
    "yaml/undefined-alias": ["a: *CORE"],
    "table/cells": ["customer_user_id,email\na,TEXT,CORE"],
    "table/header": [
        "customer_user_id,custom_attributes.CORE,custom_attributes.CORE\na,1,2",
        "email,TEXT\na,b",
    ],
    "table/quotes": ["customer_user_id,email\na,CORE TEXT"],
}
"""Files that break each rule, with personal values everywhere."""

QUOTE_NOTHING = {
    "defaults/name": "it is about the name of a file",
    "file/ending": "it is about the name of a file",
    "file/link-broken": "it is about a link",
    "file/link-folder": "it is about a link",
    "file/link-outside": "it is about a link",
    "file/missing": "it is about a folder",
    "file/no-profiles": "it is about a folder",
    "file/not-regular": "it is about the kind of a file",
    "file/one-document": "it counts documents",
    "file/too-large": "it is about the size of a file",
    "file/unreadable": "it gives the reason of the operating system",
    "fmt/not-safely": "it is about a file as a whole",
}
"""Rules that look at no value of a document."""


def rules_of_authoring() -> set[str]:
    """Every text in the modules of authoring that has the form of a rule, docstrings aside."""
    return {
        node.value
        for path in AUTHORING.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        and node.value.count("/") == 1
        and all(part.replace("-", "").isalpha() and part.islower() for part in node.value.split("/"))
    }  # fmt: skip


def findings_about(text: str, *, rule: str) -> list[Diagnostic]:
    """All findings about a file in both dialects, as they come back from the index."""
    if rule.startswith("table/"):
        return read_table(text, "a.csv", contract=CONTRACTS[-1])[1]
    documents, findings = load_text(text.encode("utf-8", "surrogatepass"), "a.yaml")
    for contract in CONTRACTS:
        if rule.startswith("defaults/"):
            findings += validate_defaults(documents[0], contract, has_placeholders=False)
            continue
        expanded = expand(
            documents,
            None,
            values=PlaceholderValues(prefix="QA_", fakes=fakedata.version),
            fake=fakedata.fake,
        )
        findings += expanded.findings
        findings += validate_documents(expanded.documents, contract)
        for document in expanded.documents:
            findings += personal_data_findings(document, contract, guard=Guard())
    assert [*decode_findings(encode_findings(findings))] == findings
    return findings


PUNCTUATION = st.text("\"'`;,.:()[]{}<>*&!|#$%@\\/ \té…=-0159", max_size=6)
CORES = st.text("qxzjkvwQXZJKVW", min_size=9, max_size=12)


def assert_nothing_leaks(rule: str, *, core: str, text: str, number: int) -> None:
    replacements = {"TEXT": json.dumps(text), "CORE": core, "NUMBER": str(number)}
    for content in FILES[rule]:
        for place, value in replacements.items():
            content = content.replace(place, value)
        findings = findings_about(content, rule=rule)
        mask = Mask(CONTRACTS[-1])
        masked = [mask.finding(finding) for finding in findings]
        for name, render in RENDERINGS.items():
            output = render(masked).casefold()
            assert core.casefold() not in output, (name, content)
            assert str(number) not in output, (name, content)


def test_every_rule_of_authoring_is_driven() -> None:
    assert rules_of_authoring() - FILES.keys() - QUOTE_NOTHING.keys() == set()


@pytest.mark.parametrize("rule", sorted(FILES))
def test_the_files_break_the_rule(rule: str) -> None:
    rules: set[str] = set()
    for content in FILES[rule]:
        for place, value in {
            "TEXT": '"Qxzjk vwq"',
            "CORE": "Qxzjkvwq",
            "NUMBER": "918273645",
        }.items():
            content = content.replace(place, value)
        rules |= {finding.rule for finding in findings_about(content, rule=rule)}
    assert rule in rules


@pytest.mark.parametrize("rule", sorted(FILES))
@settings(deadline=None, max_examples=12)
@given(
    core=CORES, before=PUNCTUATION, after=PUNCTUATION, number=st.integers(100_000_000, 999_999_999)
)
def test_no_rendering_of_a_masked_finding_holds_a_value(
    rule: str, core: str, before: str, after: str, number: int
) -> None:
    assert_nothing_leaks(rule, core=core, text=f"{before}{core}{after}", number=number)


def test_the_check_notices_a_value_that_is_not_carried_as_data() -> None:
    """A planted bug: a finding that says a value in plain words."""
    findings = findings_about('customer_user_id: a\nbirthday: "Qxzjkvwq"', rule="profile/value")
    careless = [finding._replace(values=()) for finding in findings]
    masked = [Mask(CONTRACTS[-1]).finding(finding) for finding in careless]
    assert all("qxzjkvwq" in render(masked).casefold() for render in RENDERINGS.values())
