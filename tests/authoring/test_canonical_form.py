"""The quick test for canonical form says yes only where the slow way changes nothing."""

from __future__ import annotations

import random

import pytest

from reconciler.authoring import formatter
from reconciler.authoring.canonical_form import KeyOrder, documents_of, is_canonical
from reconciler.authoring.formatter import format_text
from reconciler.authoring.loader import load_text
from reconciler.core.contract import Contract
from reconciler.errors import InputError

WORDS = (
    "Jane", "a b", "a  b", "NO", "on", "12", "007", "5.50", "1e3", "+12", "+1", "true", "null", "Null",
    "2000-12-31", "12:30", "1_000", "0x1f", "a/b", "a+b", "a@b.example", "a: b", "a:b", "=", "a-", "---x",
    "<<", "[a, b]", "[a, 'b']", "[12, NO]", "[a,b]", "[]",
    '"a"', '"NO"', '"12"', '""', '" a"', '"a: b"', '"a, b"',
    '"it\'s"', "'a'", '"\\n"', '"---"', "Zoë", '"Zoë"', "a\\b", "~", "it's", "a,b", "x" * 300,
    f'"{"x" * 300}"', f'"{"x: " * 90}"', "|\n    lit",
    ">-\n    folded\n    more", "|+\n    kept", "{b: 1, a: x}", "{a: x, b: 1}", "{a: NO}",
    "{device_id: d}", "{12: x}", "!!str 5",
)  # fmt: skip
KEYS = (
    "customer_user_id", "profile_id", "first_name", "email", "store", "meta", "custom_attributes", "zzz",
    "platform", "gender", "a.b", "12", '"b"', "it-s", "x" * 130, "<<", "installation_meta", "labels",
    "device_id", "protect", "forget", "b", "a", "null", "NO",
)  # fmt: skip


def member(chance: random.Random, indent: str, key: str) -> str:
    return f"{indent}{key}: {chance.choice(WORDS[:12] if chance.random() < 0.6 else WORDS)}\n"


def document(chance: random.Random, order: KeyOrder) -> str:
    """A document, which is in order as often as not."""
    names = KEYS[:8] if chance.random() < 0.6 else KEYS
    keys = chance.sample(names, chance.randint(1, 4))
    if chance.random() < 0.7:
        keys.sort(key=lambda key: order.rank((), key))
    text = ""
    for key in keys:
        if chance.random() < 0.3:
            inner = chance.sample(KEYS, chance.randint(0, 3))
            if chance.random() < 0.7:
                inner.sort(key=lambda each, key=key: order.rank((key,), each))
            indent = " " * chance.choice([2, 2, 2, 4])
            text += f"{key}:\n" + "".join(member(chance, indent, each) for each in inner)
        else:
            text += member(chance, "", key)
    return text


def file(chance: random.Random, order: KeyOrder) -> str:
    heads = (
        "",
        "",
        "",
        "",
        "",
        "# of QA\n",
        "# of QA\n",
        "#x\n#  y \n",
        "# of QA\n\n",
        "---\n",
        "%YAML 1.2\n---\n",
        "\n",
    )
    between = (*["---\n"] * 9, "--- \n", "---\n---\n", "---\n# c\n", "...\n", "\n---\n")
    text = chance.choice(heads) + document(chance, order)
    for _ in range(chance.randint(0, 3)):
        text += chance.choice(between) + document(chance, order)
    return text + chance.choice([*[""] * 9, "---\n", "# end\n", "\n"])


def whole(text: str, contract: Contract) -> str | None:
    """The text after one round of the slow way over the whole file; ``None`` where it fails."""
    try:
        return formatter._by_ruamel(text, "a", order=KeyOrder(contract))
    except InputError:
        return None


@pytest.mark.parametrize("seed", range(20))
def test_documents_that_are_taken_one_by_one_are_what_the_whole_file_would_be(
    contract: Contract, seed: int
) -> None:
    chance, order = random.Random(seed), KeyOrder(contract)
    divided = in_order = 0
    for _ in range(150):
        text = file(chance, order)
        if any(problem.is_error for problem in load_text(text.encode(), "a")[1]):
            continue
        documents = documents_of(text)
        if documents is None:
            continue
        divided += 1
        assert "---\n".join(documents) == text.removeprefix("---\n")
        expected = whole(text, contract)
        try:
            assert formatter._formatted(text, "a", order=order) == expected, text
        except InputError:
            assert expected is None, text
        for each in documents:
            if is_canonical(each, order):
                in_order += 1
                assert whole(each, contract) == each
    assert divided > 5
    assert in_order


PROFILE = (
    "customer_user_id: qa-7\nfirst_name: Jane Doe\nemail: jane@example.com\n"
    'phone_number: "+1234567890"\nbirthday: "2000-12-31"\nstore: app_store\n'
    "custom_attributes:\n  level: 5\n  tier: gold\nmeta:\n  labels: [qa, eu]\n  protect: true\n"
)


@pytest.mark.parametrize("head", ["", "# yaml-language-server: $schema=x\n"])
def test_ordinary_profiles_in_canonical_form_are_not_read_by_the_slow_reader(
    contract: Contract, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{head}{PROFILE}---\n{PROFILE}---\ncustomer_user_id: b\n"
    monkeypatch.setattr(formatter, "YAML", None)
    assert format_text(text, "a", contract=contract) == text


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("qa-7\nfirst_name: Jane Doe", "qa-7\nzzz: 1\nfirst_name: Jane"),
        ("  level: 5\n  tier: gold\n", "  tier: gold\n  level: 5\n"),
        ("store: app_store\n", "store: 'app_store'\n"),
        ("store: app_store\n", 'store: "app_store"\n'),
        ('"2000-12-31"', "2000-12-31"),
        ("true", "~"),
        ("[qa, eu]", "[qa,eu]"),
    ],
)
def test_what_is_not_in_canonical_form_is_seen(contract: Contract, line: str, other: str) -> None:
    assert line in PROFILE
    text = PROFILE.replace(line, other)
    assert not is_canonical(text, KeyOrder(contract))


def test_simple_documents_are_put_in_order_without_the_slow_writer(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'first_name: yes\ncustomer_user_id: "a"\nmeta:\n  protect: true\n  labels: [qa]\n'
    monkeypatch.setattr(formatter, "YAML", None)
    assert format_text(f"# QA\n{text}---\n{text}", "a", contract=contract) == (
        "# QA\n"
        + "---\n".join(
            ['customer_user_id: a\nfirst_name: "yes"\nmeta:\n  labels: [qa]\n  protect: true\n'] * 2
        )
    )
