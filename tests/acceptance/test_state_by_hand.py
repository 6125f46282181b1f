"""The state changed by hand: exports pushed, also such that went through other tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.record_codec import decode_export, encode_export
from reconciler.core.records import Export, Fact, Header, Known, Record
from reconciler.errors import StateRefused
from reconciler.workspace.state_admin import parse_export
from tests.support.projects import Project

PROFILE = (
    "customer_user_id: jane\nfirst_name: '5'\nip_country: FR\natt_status: 3\n"
    "custom_attributes: {level: 5, beta: true, ratio: 2.5, none: 0, code: '7'}\n"
)


@pytest.fixture
def applied(tmp_path: Path) -> Project:
    """A profile with numbers of every kind, applied; ``export.json`` holds the state."""
    config = "version: 1\nenvironments:\n  local: {api: {url: emulator, dialect: openapi}}\n"
    project = Project(tmp_path, config, profiles={"jane": PROFILE})
    project.run("apply", "--auto-approve")
    project.write("export.json", project.run("state", "pull"))
    return project


def respelled(value: Any, spell: Callable[[Any], Any]) -> Any:
    """JSON with every number spelled anew."""
    if isinstance(value, dict):
        return {name: respelled(item, spell) for name, item in value.items()}
    if isinstance(value, list):
        return [respelled(item, spell) for item in value]
    return spell(value) if type(value) in (int, float) else value


def as_whole(number: float) -> float:
    return int(number) if number == int(number) else number


@pytest.mark.parametrize("spell", [float, as_whole], ids=["as-floats", "as-integers"])
def test_an_export_that_went_through_another_tool_plans_nothing(
    applied: Project, spell: Callable[[Any], Any]
) -> None:
    before = json.loads((applied.folder / "export.json").read_text())
    applied.write("export.json", json.dumps(respelled(before, spell)))
    applied.run("state", "push", "export.json")
    assert applied.plan()["changes"] == []
    after = json.loads(applied.run("state", "pull"))
    assert after == {**before, "serial": before["serial"] + 1}


NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
FACTS = st.dictionaries(
    st.sampled_from(["custom_attributes.a", "custom_attributes.b"]),
    NUMBERS.map(lambda number: Fact.of(float(number) + 0.0))
    | NUMBERS.map(lambda n: Fact(Known.UNCERTAIN, attempt=float(n) + 0.0)),
)


@given(facts=FACTS, at=NUMBERS, revision=st.integers(0, 2**53 - 1))
def test_numbers_come_back_however_they_are_spelled(
    facts: dict[str, Fact], at: float, revision: int
) -> None:
    record = Record("jane", facts=facts, unknown_at=abs(float(at)), timestamp=17, revision=revision)
    export = Export(Header("lineage", 4, "local"), (record,))
    encoded = encode_export(export)
    for spell in (float, as_whole):
        decoded = decode_export(json.loads(json.dumps(respelled(encoded, spell))))
        assert decoded == export
        assert json.dumps(encode_export(decoded)) == json.dumps(encoded)


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity", "1" + "0" * 400])
def test_an_impossible_number_in_an_export_is_refused(applied: Project, number: str) -> None:
    text = (applied.folder / "export.json").read_text().replace("2.5", number)
    applied.write("export.json", text)
    applied.run("state", "push", "export.json", code=6)


def test_an_export_with_a_byte_order_mark_is_taken(applied: Project) -> None:
    export = applied.folder / "export.json"
    export.write_bytes(b"\xef\xbb\xbf" + export.read_bytes())
    applied.run("state", "push", "export.json")
    assert applied.plan()["changes"] == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_an_export_in_another_encoding_is_refused_by_its_name(
    applied: Project, encoding: str
) -> None:
    export = applied.folder / "export.json"
    export.write_bytes(export.read_text().encode(encoding))
    applied.run("state", "push", "export.json", code=6)
    assert encoding[:6].upper() in applied.err


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"\x80", b"[" * 100_000])
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(StateRefused):
        parse_export(content)


def test_an_older_export_is_refused_unless_forced(applied: Project) -> None:
    applied.profile("jane", PROFILE.replace("FR", "DE"))
    applied.run("apply", "--auto-approve")
    applied.run("state", "push", "export.json", code=6)
    assert "older than the state" in applied.err
    assert "DE" in applied.run("state", "show", "jane")
    applied.run("state", "push", "--force", "export.json")
    assert "FR" in applied.run("state", "show", "jane")
    assert json.loads(applied.run("state", "pull"))["serial"] > 1_000_000
