"""Every rule of findings and every kind of hazard is explained, and the examples show what they say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import reconciler
from reconciler.core.plan import HazardKind
from reconciler.core.rules import load_rules
from reconciler.workspace.facade import Workspace

RULES = load_rules()
SHOWN = [rule for rule in RULES.values() if rule.example]
_KINDS = ("unknown-field", "missing-field", "type", "value", "more-findings")
"""The kinds of violations of a schema: `reconciler.authoring.json_schema`."""
_MADE = {
    "profile/": _KINDS,
    "config/": (*_KINDS, "outside", "insecure", "key-env-missing"),
    "trust/": _KINDS,
    "attribute/": ("key", "value"),
}
"""The rest of the rules whose names the program puts together."""


def named_in_the_program() -> set[str]:
    """The rules that the source names as a whole."""
    names = set()
    for path in Path(reconciler.__file__).parent.rglob("*.py"):
        if "emulator" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.add(node.value)
    groups = {name.partition("/")[0] for name in RULES if "/" in name}
    return {
        name
        for name in names
        if re.fullmatch(r"[a-z]+/[a-z][a-z-]*", name) and name.partition("/")[0] in groups
    }


def test_every_rule_is_explained_and_no_other() -> None:
    made = {f"{group}{name}" for group, names in _MADE.items() for name in names}
    explained = {rule.name for rule in RULES.values() if not rule.is_hazard}
    assert named_in_the_program() - explained == set()
    assert explained - named_in_the_program() - made == set()


def test_every_kind_of_hazard_is_explained_in_its_order() -> None:
    assert [rule.name for rule in RULES.values() if rule.is_hazard] == [*HazardKind]


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_an_explanation_says_why_and_what_to_do_in_sentences(rule: object) -> None:
    title, why, mend = rule.title, rule.why, rule.mend  # type: ignore[attr-defined]
    assert not title.endswith(".")
    assert re.fullmatch(r"[^\n]+[.]", why)
    assert re.fullmatch(r"[^\n]+[.:\"Z]+", mend)


def findings(folder: Path, files: dict[str, str]) -> dict[str, set[str]]:
    """The rules of the findings about each file."""
    (folder / "profiles").mkdir(parents=True)
    (folder / "reconcile.yaml").write_text(
        "version: 1\nenvironments: {local: {api: {url: emulator}}}\n", "utf-8"
    )
    for name, text in files.items():
        # Each file declares profiles of its own.
        unique = re.sub(r"\bqa-", f"qa-{name}-", text)
        (folder / "profiles" / f"{name}.yaml").write_text(f"{unique}\n", "utf-8")
    with Workspace.open(folder / "reconcile.yaml") as workspace:
        checked = workspace.validate()
    rules: dict[str, set[str]] = {name: set() for name in files}
    for each in checked.diagnostics:
        rules[Path(each.source.file).stem].add(each.rule)
    return rules


def test_the_examples_show_what_they_say_and_mended_ones_are_clean(tmp_path: Path) -> None:
    names = {rule.name: rule.name.replace("/", "-") for rule in SHOWN}
    examples = findings(tmp_path / "examples", {names[rule.name]: rule.example for rule in SHOWN})
    mended = findings(tmp_path / "mended", {names[rule.name]: rule.mended for rule in SHOWN})
    assert {
        r.name: examples[names[r.name]] for r in SHOWN if r.name not in examples[names[r.name]]
    } == {}
    assert {name: rules for name, rules in mended.items() if rules} == {}
