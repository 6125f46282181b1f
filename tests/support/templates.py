"""Documents with defaults, templates and placeholders, expanded as those of a file are."""

from __future__ import annotations

from typing import Any

from reconciler.authoring.defaults import Defaults
from reconciler.authoring.documents import Document
from reconciler.authoring.loader import load_text
from reconciler.authoring.placeholders import PlaceholderValues
from reconciler.authoring.templates import Expanded, expand

VALUES = PlaceholderValues(
    variables={"tier": "gold", "level": 5, "beta": True},
    environ={"QA_DOMAIN": "example.org"},
    prefix="QA_",
    run="r7",
    worker="gw1",
    fakes=lambda: "fakes 1",
)


def documents(text: str, file: str = "p.yaml") -> list[Document]:
    loaded, findings = load_text(text.encode(), file)
    assert not [each for each in findings if each.is_error]
    return loaded


def expanded(text: str, defaults: str = "", placeholders: PlaceholderValues = VALUES) -> Expanded:
    below = None
    if defaults:
        (document,) = documents(defaults, "_defaults.yaml")
        below = Defaults(document, "d", True)
    return expand(
        documents(text), below, values=placeholders, fake=lambda name, seed: f"<{name} of {seed}>"
    )


def values(
    text: str, defaults: str = "", placeholders: PlaceholderValues = VALUES
) -> list[dict[str, Any]]:
    result = expanded(text, defaults, placeholders)
    assert not result.findings
    return [document.value for document in result.documents]


def messages(
    text: str, defaults: str = "", placeholders: PlaceholderValues = VALUES
) -> list[tuple[str, str]]:
    result = expanded(text, defaults, placeholders)
    return [(str(each.source), each.message) for each in result.findings]
