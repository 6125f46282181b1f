"""One file: what is read as what, what is refused, and that nothing crashes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.authoring import yaml_findings, yaml_reader
from reconciler.authoring.loader import load_text
from reconciler.errors import ReconcileError, Source


def read(text: str | bytes) -> Any:
    """The value of the one document; fails on any finding but a warning."""
    data = text if isinstance(text, bytes) else text.encode()
    documents, diagnostics = load_text(data, "f.yaml")
    assert [item for item in diagnostics if item.is_error] == []
    assert len(documents) == 1
    return documents[0].value


def findings(text: str | bytes) -> list[str]:
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    return [f"{item.rule} {item.source}" for item in load_text(data, "f")[1]]


# --- scalars ---


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("false", False),
        ("5", 5),
        ("-5", -5),
        ("5.0", 5.0),
        ("1e3", 1000.0),
        ("1.5E-2", 0.015),
        ("-0", 0),
        ("-0.0", 0.0),
        ("9007199254740993", 9007199254740993),
        ('"5"', "5"),
        ("'true'", "true"),
        ("!!str 5", "5"),
        ("nullable", "nullable"),
        ("5 apples", "5 apples"),
        ("2000-12-31x", "2000-12-31x"),
        ("1.2.3", "1.2.3"),
        ("::1", "::1"),
    ],
)
def test_a_scalar_is_read_as_json_reads_it(text: str, value: object) -> None:
    documents, diagnostics = load_text(f"v: {text}\n".encode(), "f")
    value_read = documents[0].value["v"]
    assert (value_read, type(value_read), str(value_read)) == (value, type(value), str(value))
    assert diagnostics == []


@pytest.mark.parametrize(
    "text",
    "NO no Yes on OFF y N True TRUE False Null NULL +1234567890 +1.5 007 0x10 0o17 0b101 1_000 1. .5 "
    "12:30 190:20:30.15 2000-12-31 2001-12-14t21:59:43.10-05:00 2001-1-1 .inf -.INF .NaN = <<"
    .split(),
)  # fmt: skip
def test_a_scalar_that_other_tools_read_otherwise_is_text_with_a_warning(text: str) -> None:
    documents, diagnostics = load_text(f"v: {text}\n".encode(), "f")
    assert documents[0].value == {"v": text}
    assert [(item.rule, item.is_error) for item in diagnostics] == [
        ("yaml/ambiguous-scalar", False)
    ]
    assert diagnostics[0].source == Source("f", 1, 4)


@pytest.mark.parametrize("text", ["NO", "+1", "007", "2000-12-31"])
def test_quotes_silence_that_warning(text: str) -> None:
    assert findings(f'v: "{text}"\n') == []


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e-999", "9" * 400, "9" * 5000])
def test_a_number_that_no_float_comes_near_is_an_error(number: str) -> None:
    assert findings(f"v: {number}\n") == ["yaml/number-range f:1:4"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc-._ ", min_size=1), inner),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.text("abcxyz", min_size=1), json_values, max_size=5))
def test_json_is_read_as_json(value: dict[str, Any]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    documents, diagnostics = load_text(text.encode(), "f")
    rules = {item.rule for item in diagnostics}
    if rules:  # too deep, or a denormal that JSON writes and reads
        assert rules <= {"yaml/too-deep"}
    else:
        assert json.dumps(_plain(documents[0].value)) == json.dumps(_plain(value))


def _plain(value: Any) -> Any:
    """A value without negative zeros, which are zero here."""
    match value:
        case float():
            return value + 0.0
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case _:
            return value


# --- keys, structure ---


def test_a_duplicate_key_names_the_first_place() -> None:
    _, diagnostics = load_text(b"a: 1\nb: 2\n'a': 3\n", "f")
    assert "line 1, column 1" in diagnostics[0].message
    assert diagnostics[0].source == Source("f", 3, 1)


def test_all_findings_of_a_file_are_reported() -> None:
    assert findings("a: 1\na: 2\n1: x\nb: !x z\nc: 1e999\n---\n- x\n---\nd: *no\n") == [
        "yaml/duplicate-key f:2:1",
        "yaml/non-string-key f:3:1",
        "yaml/tag f:4:4",
        "yaml/number-range f:5:4",
        "yaml/not-a-mapping f:7:1",
        "yaml/undefined-alias f:9:4",
    ]


def test_the_value_after_a_refused_key_is_read() -> None:
    documents, _ = load_text(b"? [k]\n: {v: [1]}\n? {k: 1}\n: [2]\n1: {w: 3}\nb: 4\n", "f")
    assert documents[0].value == {"b": 4}


def test_a_merge_key_fills_in_missing_keys() -> None:
    text = "a: &a {p: 1, q: 2}\nb: &b {q: 9, r: 9}\nc:\n  <<: [*a, *b]\n  p: 7\n"
    assert read(text)["c"] == {"p": 7, "q": 2, "r": 9}


def test_a_quoted_merge_key_is_a_key() -> None:
    assert read('"<<": {a: 1}\n') == {"<<": {"a": 1}}


def test_users_of_an_anchor_share_no_collection() -> None:
    value = read("a: &a {p: [1]}\nb: *a\n")
    value["a"]["p"].append(2)
    assert value["b"] == {"p": [1]}


def test_an_anchor_may_be_set_again() -> None:
    assert read("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_depth_is_bounded_exactly() -> None:
    fits = yaml_findings.MAX_DEPTH - 1
    assert findings("a: " + "[" * fits + "]" * fits) == []
    assert findings("a: " + "[" * (fits + 1) + "]" * (fits + 1)) == ["yaml/too-deep f:1:19"]


def test_nodes_are_bounded_exactly() -> None:
    fits = yaml_findings.MAX_NODES - 3  # the root, the key, the list
    assert findings("a:\n" + "- x\n" * fits) == []
    assert findings("a:\n" + "- x\n" * (fits + 1)) == [f"yaml/too-many-nodes f:{fits + 2}:3"]


def test_aliases_count_with_all_that_they_stand_for() -> None:
    anchor = "a: &a [" + "x, " * 9_000 + "]\n"
    assert findings(anchor + "b: *a\n") == []
    assert findings(anchor + "b: *a\nc: *a\n") == ["yaml/too-many-nodes f:3:4"]


def test_the_aliases_of_a_file_stand_for_a_bounded_number_of_nodes() -> None:
    document = f"a: &a [{'1, ' * 9_990}]\nb: *a\n"
    text = "---\n".join([document] * 101)

    assert findings(text) == ["yaml/too-many-nodes f:302:4"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "a: [", "a:\n- - ", "a: {b: "])
def test_absurd_nesting_is_refused_at_once(opening: str) -> None:
    started = time.perf_counter()
    assert findings(opening * 100_000) != []
    assert time.perf_counter() - started < 2


def test_an_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(20)]
    started = time.perf_counter()
    assert findings("\n".join(lines))[0].startswith("yaml/too-many-nodes")
    assert time.perf_counter() - started < 2


# --- characters, encodings ---


@pytest.mark.parametrize("code", [0x00, 0x07, 0x1B, 0x7F, 0x85, 0x9B, 0xAD, 0x200B, 0x200D, 0x200E, 0x2028,
                                  0x2029, 0x202E, 0x2060, 0x2066, 0xFEFF, 0xFFFF, 0xE0041])  # fmt: skip
def test_an_invisible_character_is_an_error_raw_and_as_an_escape(code: int) -> None:
    raw = load_text(f"ok: 1\nv: x{chr(code)}y\n".encode(), "f")[1]
    escaped = load_text(f'ok: 1\nv: "x\\U{code:08x}y"\n'.encode(), "f")[1]
    assert [str(item.source) for item in raw] == ["f:2:5"]
    assert [str(item.source) for item in escaped] == ["f:2:4"]
    for item in (*raw, *escaped):
        assert item.rule == "yaml/invisible-character"
        assert f"U+{code:04X}" in item.message
        assert chr(code) not in item.message


def test_a_lone_carriage_return_is_an_error() -> None:
    assert findings("a: 1\rb: 2\n") == ["yaml/invisible-character f:1:5"]


@pytest.mark.parametrize("text", ["می\u200cخواهم", "👩\u200d🔬", "naïve", "日本", "a\tb"])
def test_text_of_any_script_is_read(text: str) -> None:
    assert read(f"v: {text}\n") == {"v": text}


def test_many_invisible_characters_are_counted_not_listed() -> None:
    _, diagnostics = load_text(b"v: " + b"\x01" * 1_000_000, "f")
    assert len(diagnostics) == yaml_findings.MAX_FINDINGS
    assert f"and {1_000_000 - yaml_findings.MAX_FINDINGS} more" in diagnostics[-1].message


def test_windows_line_ends_and_a_byte_order_mark_are_read() -> None:
    documents, diagnostics = load_text(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f")
    assert (documents[0].value, diagnostics) == ({"a": 1, "b": 2}, [])
    assert documents[0].at(("b",)) == Source("f", 2, 1)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ("a: 1".encode("utf-16"), "UTF-16"),
        ("a: 1".encode("utf-16-be"), "UTF-16"),
        ("a: 1".encode("utf-16-le"), "UTF-16"),
        ("a: 1".encode("utf-32"), "UTF-32"),
        (b"a: caf\xe9\n", "not UTF-8"),
        (b"a: \xc0\xaf\n", "not UTF-8"),
        (b"a: \xed\xa0\x80\n", "not UTF-8"),
    ],
)
def test_only_utf_8_is_read(data: bytes, word: str) -> None:
    documents, diagnostics = load_text(data, "f")
    assert (documents, [item.rule for item in diagnostics]) == ([], ["file/encoding"])
    assert word in diagnostics[0].message


# --- documents and places ---


def test_a_trailing_separator_is_fine_and_an_empty_document_before_another_is_not() -> None:
    assert read("a: 1\n---\n") == {"a": 1}
    assert findings("a: 1\n---\n---\nb: 2\n") == ["yaml/empty-document f:2:1"]


@pytest.mark.parametrize("text", ["", "\n \n", "# a: 1\n", "---\n", "---\n---\n", "\ufeff"])
def test_a_file_without_a_document_is_an_error(text: str) -> None:
    assert findings(text) == ["file/empty f"]


def test_every_key_and_item_has_its_place() -> None:
    text = b"# note\na: 1\nb:\n  c: {d: 2}\n  e:\n    - 3\n    - f: 4\n"
    assert load_text(text, "f")[0][0].places == {
        (): (2, 1),
        ("a",): (2, 1),
        ("b",): (3, 1),
        ("b", "c"): (4, 3),
        ("b", "c", "d"): (4, 7),
        ("b", "e"): (5, 3),
        ("b", "e", 0): (6, 7),
        ("b", "e", 1): (7, 7),
        ("b", "e", 1, "f"): (7, 7),
    }


def test_each_document_has_the_place_of_its_root() -> None:
    documents, _ = load_text(b"a: 1\n---\n# note\n  b: 2\n", "f")
    assert [str(item.source) for item in documents] == ["f:1:1", "f:4:3"]


def test_a_path_without_a_place_has_that_of_its_nearest_ancestor() -> None:
    document = load_text(b"x: &x {p: {q: 1}}\ny: *x\n", "f")[0][0]
    assert document.at(("y", "p", "q")) == Source("f", 2, 1)
    assert document.at(("missing",)) == Source("f", 1, 1)


def test_a_merged_value_has_the_place_of_the_merge() -> None:
    document = load_text(b"x: &x {p: 1}\ny:\n  <<: *x\n", "f")[0][0]
    assert document.at(("y", "p")) == Source("f", 3, 7)


def test_documents_before_a_syntax_error_come_with_the_error() -> None:
    documents, diagnostics = load_text(b"a: 1\n---\nb: [\n", "f")
    assert [item.value for item in documents] == [{"a": 1}]
    assert [item.rule for item in diagnostics] == ["yaml/syntax"]


@given(st.binary(max_size=60) | st.text("ab:-?[]{}&*!|>'\"%@`#,<~ \n\t\\019.x", max_size=60))
def test_no_input_raises_and_none_is_passed_over_in_silence(text: bytes | str) -> None:
    data = text.encode() if isinstance(text, str) else text
    documents, diagnostics = load_text(data, "f")
    assert documents or any(item.is_error for item in diagnostics)
    for document in documents:
        json.dumps(document.value, allow_nan=False)


@pytest.mark.parametrize("problem", [ValueError, MemoryError, RecursionError, KeyError])
def test_any_error_of_the_parser_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, problem: type[Exception]
) -> None:
    class Broken:
        def __init__(self, data: bytes) -> None: ...

        def get_event(self) -> object:
            raise problem

        def dispose(self) -> None: ...

    monkeypatch.setattr(yaml_reader, "CParser", Broken)
    assert findings("a: 1\n") == ["yaml/syntax f"]


def test_without_libyaml_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "CParser", None)
    with pytest.raises(ReconcileError, match="libyaml"):
        load_text(b"a: 1\n", "f")
