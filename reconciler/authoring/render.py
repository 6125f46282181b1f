"""Files → the documents that they stand for.

A file is read and laid over the defaults of its folder; its templates are expanded, its placeholders
filled in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import NamedTuple

from reconciler.authoring.defaults import Defaults
from reconciler.authoring.documents import Document
from reconciler.authoring.fakedata import fake
from reconciler.authoring.folder_defaults import FolderDefaults
from reconciler.authoring.loader import load_text
from reconciler.authoring.placeholders import PlaceholderValues, needs_expansion
from reconciler.authoring.templates import expand
from reconciler.authoring.walk import DEFAULTS, Walk, read_file
from reconciler.errors import Diagnostic


class ExpandedFile(NamedTuple):
    """The documents that a file stands for."""

    documents: list[Document]
    findings: list[Diagnostic]
    sources: Mapping[str, str] | None
    """Digests of the values that placeholders stood for, by name; ``None`` if the file has neither defaults,
    templates nor placeholders."""


def expand_file(
    data: bytes,
    loaded: tuple[list[Document], list[Diagnostic]],
    *,
    defaults: Defaults | None,
    values: PlaceholderValues,
) -> ExpandedFile:
    """The documents that a file stands for, from what a loader read from its ``data``."""
    documents, findings = loaded
    fill = needs_expansion(data) is not None or (defaults is not None and defaults.has_placeholders)
    if defaults is None and not fill:
        return ExpandedFile(documents, findings, None)
    expanded = expand(documents, defaults, values=values, fake=fake, fill=fill)
    return ExpandedFile(expanded.documents, findings + expanded.findings, expanded.sources)


def rendered_documents(
    root: Path,
    defaults: FolderDefaults,
    *,
    values: PlaceholderValues,
    display: Callable[[Path], str],
    names: Container[str] | None = None,
) -> tuple[list[Document], list[Diagnostic]]:
    """The documents that the files below a root stand for, and all findings of reading them.

    ``names`` restricts them to some files, by their names in messages. Places are exact; nothing is
    validated, and nothing comes from an index.
    """
    documents: list[Document] = []
    walk = Walk(root, display)
    findings = walk.diagnostics
    for parts, path, name in walk.files():
        if names is not None and name not in names:
            continue
        below = defaults.of(os.sep.join(parts[:-1]) or os.sep)
        if parts[-1] == DEFAULTS:
            continue
        match read_file(path, name):
            case Diagnostic() as problem:
                findings.append(problem)
            case data, _:
                loaded = load_text(data, name)
                expanded = expand_file(data, loaded, defaults=below, values=values)
                documents += expanded.documents
                findings += expanded.findings
    return documents, findings
