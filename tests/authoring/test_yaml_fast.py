"""Plain documents: read as the loader reads them, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.authoring import yaml_fast as plain
from reconciler.authoring.documents import Document
from reconciler.authoring.loader import load_quickly, load_text
from reconciler.authoring.yaml_fast import read_plain

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


@pytest.fixture(autouse=True, scope="module")
def shapes_at_once() -> Iterator[None]:
    """Every outline has a shape from its first document on, and many are tried."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "_WORTH_A_SHAPE", 1)
        patch.setattr(plain, "_MOST_SHAPES", 20)
        forget()
        yield
    forget()


def forget() -> None:
    plain._outlines.clear()
    plain._shapes.clear()


def plainly(text: str) -> list[Document] | None:
    return read_plain(text, "f")


def strictly(text: str) -> list[Document]:
    documents, findings = load_text(text.encode(), "f")
    assert findings == []
    return documents


def without_items(document: Document) -> dict[object, object]:
    return {
        path: place
        for path, place in document.placed().items()
        if not path or not isinstance(path[-1], int)
    }


def assert_same(text: str) -> None:
    """Whatever is read plainly is what the loader reads, places included; line by line, and by the shape
    that was learnt."""
    found = plainly(text)
    if found is None:
        return
    expected = strictly(text)
    assert_equal(found, expected)
    again = plainly(text)
    assert again is not None
    assert_equal(again, expected)


def assert_equal(found: list[Document], expected: list[Document]) -> None:
    assert [(document.value, document.source) for document in found] == [
        (document.value, document.source) for document in expected
    ]
    assert [repr(document.value) for document in found] == [
        repr(document.value) for document in expected
    ]
    assert [document.placed() for document in found] == [
        without_items(document) for document in expected
    ]


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
def test_plain_text_is_read(text: str) -> None:
    assert plainly(text) is not None
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
def test_what_is_not_plain_is_left_to_the_loader(text: str) -> None:
    assert plainly(text) is None


@pytest.mark.parametrize(
    "character", ["\u202e", "\u200d", "\x00", "\x07", "\x7f", "\x85", "\ufeff"]
)
def test_invisible_characters_are_found_among_any_others(character: str) -> None:
    for text in (f"a: b{character}\n", f"é: b\na: é{character}é\n", f"a: b\r\n# {character}\r\n"):
        data = text.encode()
        assert load_quickly(data, "f") == load_text(data, "f")


def test_what_is_read_quickly_is_what_is_read() -> None:
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


@pytest.mark.parametrize("first", VALUES)
def test_a_shape_takes_only_what_means_the_same(first: str) -> None:
    for second in VALUES:
        forget()
        for value in (first, second):
            assert_same(
                f"a: {value}\nb:\n  c: {value}\n  d:\n  - {value}\n  -   {value}\ne: {value}"
            )


def test_a_shape_that_saw_several_kinds_takes_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    monkeypatch.setattr(plain, "_WORTH_A_SHAPE", 4)
    monkeypatch.setattr(plain, "_SAMPLED", 1)
    texts = [f"a: {value}\nb: [x]\nc:\n" for value in ("text", '"text"', "5", "")]
    for text in texts:
        assert_same(text)
    assert [len(shapes) for shapes in plain._shapes.values()] == [1]
    with monkeypatch.context() as patch:
        patch.setattr(plain, "_LINE", None)  # no line is looked at by itself
        for text in texts:
            assert plainly(text) is not None
    for text in texts:
        assert_same(text)


@pytest.mark.parametrize("below", ["  b: c", "  - c", "- c"])
def test_a_key_with_more_below_it_has_no_value_of_its_own(below: str) -> None:
    forget()
    for opener in ("a:  # why", "a:", "a:   "):
        assert plainly(f"{opener}\n{below}\n") is not None
        assert_same(f"{opener}\n{below}\n")
    for value in VALUES:
        if value and not value.startswith("#"):
            assert plainly(f"a: {value}\n{below}\n") is None


def test_shapes_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    monkeypatch.setattr(plain, "_MOST_OUTLINES", 30)
    for number in range(100):
        assert_same(f"a{number}: b\n")
        assert len(plain._outlines) <= 30
        assert sum(map(len, plain._shapes.values())) <= plain._MOST_SHAPES


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
def test_random_pieces_mean_the_same_to_both(text: str) -> None:
    assert_same(text)


@given(st.data())
def test_a_profile_with_a_few_changes_means_the_same_to_both(data: st.DataObject) -> None:
    text = PROFILE
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        gone = data.draw(st.integers(0, 3))
        text = text[:at] + data.draw(PIECES) + text[at + gone :]
    assert_same(text)


def test_the_shipped_profiles_mean_the_same_to_both() -> None:
    for path in (Path(__file__).parent.parent.parent / "profiles").rglob("*.yaml"):
        assert_same(path.read_text("utf-8"))
