"""The fast reader returns what the strict reader returns, or leaves the text to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.authoring.documents import Document
from reconciler.authoring.loader import load_quickly, load_text
from reconciler.authoring.yaml_fast import read

PROFILE = """\
customer_user_id: qa-jane   # who

first_name: "Jane"
last_name: 'Doe'
email: jane.doe@example.com
url: http://example.com/a:b
nothing:
tilde: ~
analytics_disabled: true
custom_attributes:
  level: 5
  share: -0.5e1

  # nothing
  tier: two words
installation_meta:
    device_id: 3fa85f64-5717-4562-b3fc-2c963f66afa6
    deep:
      er: Zoë
meta:
  labels: [qa, 5, smoke]
  forget: []
  block:
    - qa   # why
    - "5"

    - 'six'
    - 7
    # more
    - [a, null]
  beside:
  - -1
  - true
  last: 0.5
"""


def quickly(text: str) -> list[Document] | None:
    return read(text, "f")


def strictly(text: str) -> list[Document]:
    documents, findings = load_text(text.encode(), "f")
    assert findings == []
    return documents


def without_items(document: Document) -> dict[object, object]:
    return {
        path: place
        for path, place in document.places.items()
        if not path or not isinstance(path[-1], int)
    }


def assert_same(text: str) -> None:
    """The fast reader leaves a text to the strict one, or returns the same documents and places."""
    documents = quickly(text)
    if documents is None:
        return
    expected = strictly(text)
    assert [(each.value, each.source) for each in documents] == [
        (each.value, each.source) for each in expected
    ]
    # Since 1 == True == 1.0, and mappings are equal in any order.
    assert [repr(each.value) for each in documents] == [repr(each.value) for each in expected]
    assert [dict(each.places) for each in documents] == [without_items(each) for each in expected]


@pytest.mark.parametrize(
    "text",
    [
        PROFILE,
        PROFILE + "---\n" + PROFILE.replace("jane", "joe"),
        "---\n" + PROFILE,
        PROFILE.replace("\n", "\r\n"),
        "a:\n- b\n- c\nd:\n  - e\n",
        "a:\n  b:\n  - c\n  d:\n  -   e\nf: 1\n",
        "a:\n  - ~\n  - null\n",
        "a: 1",
        "a: 1\n",
        "a:\nb:\n",
        "a:\n  b:\n    c:\n      d: 1\n  e: 2\nf: 3\n",
    ],
)
def test_plain_text_is_read_as_the_strict_reader_reads_it(text: str) -> None:
    assert quickly(text) is not None
    assert_same(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "# nothing\n",
        "---\n",
        "a: 1\n---\n",
        "a: 1\n---\n---\nb: 1\n",
        "a: 1\n...\n",
        "%YAML 1.2\n---\na: 1\n",
        "a: 1\n  b: 2\n",
        "a:\n  b: 1\n c: 2\n",
        " a: 1\n",
        "a: 1\na: 2\n",
        "a: b: c\n",
        "a: b:\n",
        "a:b\n",
        "a: [b\n",
        "a: [b, [c]]\n",
        "a: [b,]\n",
        "a: &x b\n",
        "a: *x\n",
        "a: !!str b\n",
        "a: |\n  b\n",
        "a: >-\n  b\n",
        "a: b\n  c\n",
        'a: "b\n  c"\n',
        'a: "b\\n"\n',
        "a: 'it''s'\n",
        "a: {b: c}\n",
        "- a\n",
        "a: - b\n",
        "a:\n-\n",
        "a:\n- b: c\n",
        "a:\n- - b\n",
        "a:\n- # b\n",
        "a:\n- b\n  c\n",
        "a:\n- b\n  - c\n",
        "a:\n  - b\n- c\n",
        "a:\n  - b\n c: 1\n",
        "a:\n  - b\n  c: 1\n",
        "a:\n  b:\n  - c\n- d\n",
        "a:\n  b: 1\n  - c\n",
        "a: 1\n- b\n",
        "a: 1\n  - b\n",
        "a:\n- yes\n",
        "a:\n- ? b\n",
        "a:\n-b\n",
        "? a\n: b\n",
        '"a": b\n',
        "<<: b\n",
        "yes: b\n",
        "null: b\n",
        "a: yes\n",
        "a: 2000-12-31\n",
        "a: +1234\n",
        "a: 1e999\n",
        "a: [no]\n",
        "a:\tb\n",
        "\ufeffa: b\n",
        "a: " + "b" * 20_000,
        "a: @b\n",
        "a: `b\n",
        "a: %b\n",
        "a: ]b\n",
        "a: x #\ty\n",
    ],
)
def test_other_text_is_left_to_the_strict_reader(text: str) -> None:
    assert quickly(text) is None


@pytest.mark.parametrize(
    "character", ["\u202e", "\u200d", "\x00", "\x07", "\x7f", "\x85", "\ufeff"]
)
def test_an_invisible_character_is_found_among_any_others(character: str) -> None:
    for text in (f"a: b{character}\n", f"é: b\na: é{character}é\n", f"a: b\r\n# {character}\r\n"):
        data = text.encode()
        assert load_quickly(data, "f") == load_text(data, "f")


def test_loading_quickly_gives_what_loading_gives() -> None:
    text = PROFILE + "---\n" + PROFILE
    assert [document.value for document in load_quickly(text.encode(), "f")[0]] == [
        document.value for document in strictly(text)
    ]
    assert load_quickly(b"a: yes\n", "f") == load_text(b"a: yes\n", "f")
    assert load_quickly(b"a: \xff\n", "f") == load_text(b"a: \xff\n", "f")
    assert load_quickly("a: \u202e\n".encode(), "f") == load_text("a: \u202e\n".encode(), "f")


VALUES = [
    *("text", "Text here", "née", "yes", "no # why", "Off", "y", "null", "~", "", "true", "false"),
    *("True", "0", "7", "-7", "007", "1.5", "1e3", "1_0", "12:30", "123456789012345678", "<<", "="),
    *("true  ", "text  ", "text # why", "7 # why", "# nothing", "a#b", "a:b", "a: b", "a:", "é"),
    *('"quoted"', "'quoted'", '"yes"', '""', "''", '"a"  # why', '"a\\n"', '"a" b', "'a''b'"),
    *("[a, 1]", "[]", "[yes]", "[a", "{a: b}", "&a b", "*a", "!a b", "|", "- a", "-", "a\u00a0"),
    *("3fa85f64-5717-4562-b3fc-2c963f66afa6", "3FA85F64-5717-4562-B3FC-2C963F66AFA6"),
    *("1234567e-5717-4562-b3fc-2c963f66afa6", "2000-12-31", "+1234", ".5", "...", "\n    more"),
]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_read_alike_wherever_it_stands(value: str) -> None:
    assert_same(f"a: {value}\nb:\n  c: {value}\n  d:\n  - {value}\n  -   {value}\ne: {value}")


@pytest.mark.parametrize("below", ["  b: c", "  - c", "- c"])
def test_a_key_with_members_has_no_value_of_its_own(below: str) -> None:
    for opener in ("a:  # why", "a:", "a:   "):
        assert quickly(f"{opener}\n{below}\n") is not None
        assert_same(f"{opener}\n{below}\n")
    for value in VALUES:
        if value and not value.startswith("#"):
            assert quickly(f"a: {value}\n{below}\n") is None


def test_documents_with_the_same_keys_keep_their_own_places() -> None:
    first, second = quickly("a: 1\n---\na: 2\n") or []
    assert (first.at(("a",)).line, second.at(("a",)).line) == (1, 3)
    assert ("b",) not in second.places
    assert (len(second.places), [*second.places]) == (2, [(), ("a",)])


PIECES = st.sampled_from(
    [
        *("a", "b", "key_1", "yes", "null", "<<", "x.y-z"),
        *(
            ": ",
            ":",
            " ",
            "  ",
            "    ",
            "\n",
            "\n",
            "\n  ",
            "\n    ",
            "\n---\n",
            "\r\n",
            "- ",
            "? ",
        ),
        *(
            '"',
            "'",
            "#",
            " # ",
            "[",
            "]",
            ", ",
            "{",
            "}",
            "&",
            "*",
            "!",
            "|",
            ">",
            "%",
            "@",
            "`",
            "\\",
        ),
        *(
            "1",
            "-1.5",
            "0x1",
            "1e3",
            "-0",
            "0.0",
            "~",
            "true",
            "12:30",
            "2000-12-31",
            "+",
            "é",
            "\xa0",
        ),
        *(
            ": 1\n",
            ": text\n",
            ': "q"\n',
            ": 's'\n",
            ":\n",
            ": [a, b]\n",
            "\n- ",
            "\n  - ",
            "    - a\n",
            "...",
            "\t",
            "---",
        ),
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_random_pieces_are_read_alike(text: str) -> None:
    assert_same(text)


@given(st.data())
def test_a_profile_with_a_few_random_changes_is_read_alike(data: st.DataObject) -> None:
    text = PROFILE
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        gone = data.draw(st.integers(0, 3))
        text = text[:at] + data.draw(PIECES) + text[at + gone :]
    assert_same(text)


PLAIN_KEYS = ["a", "b", "key_1", "x.y-z", "email", "_", "t", "o1", "f_", "yes_no", "c", "d"]
PLAIN_VALUES = [value for value in VALUES if quickly(f"a: {value}\nb:\n- {value or 0}\n")]
BLANK_LINES = st.sampled_from(["", "", "", "\n", "# note\n", "   \n", "  # note\n"])


@st.composite
def block_documents(draw: st.DrawFn) -> str:
    """A document in block style: mappings, lists, indents, notes and values by chance.

    In most of them, every key and every value alone is plain.
    """
    is_plain = draw(st.integers(0, 3)) > 0
    keys = PLAIN_KEYS if is_plain else [*PLAIN_KEYS, "n", "on", "no"]
    values = st.sampled_from(PLAIN_VALUES if is_plain else VALUES)
    lines: list[str] = []

    def members(indent: int, depth: int) -> None:
        margin = " " * indent
        for key in draw(st.lists(st.sampled_from(keys), min_size=1, max_size=4, unique=is_plain)):
            lines.append(draw(BLANK_LINES))
            kind = draw(st.integers(0, 5)) if depth else 0
            if kind == 4:
                lines.append(f"{margin}{key}:\n")
                members(indent + draw(st.integers(1, 4)), depth - 1)
            elif kind == 5:
                lines.append(f"{margin}{key}:\n")
                deeper = " " * (indent + draw(st.integers(0, 3)))
                for _ in range(draw(st.integers(1, 3))):
                    lines.append(f"{deeper}- {draw(values) or 0}\n")
            else:
                lines.append(f"{margin}{key}: {draw(values)}\n")

    members(0, 3)
    return "".join(lines)


@given(st.lists(block_documents(), min_size=1, max_size=3), st.booleans())
def test_random_block_documents_are_read_alike(texts: list[str], marked: bool) -> None:
    assert_same(("---\n" if marked else "") + "---\n".join(texts))


def test_the_shipped_profiles_are_read_alike() -> None:
    for path in (Path(__file__).parent.parent.parent / "profiles").rglob("*.yaml"):
        assert_same(path.read_text("utf-8"))
