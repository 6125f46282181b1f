"""Files → documents.

A reader is imported when the first file needs it: `yaml_fast` for nearly all files, `yaml_reader` for the
others and wherever exact places are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from reconciler.authoring.documents import Document
from reconciler.authoring.walk import Walk, read_file
from reconciler.errors import Diagnostic, error


class Loaded(NamedTuple):
    """The documents below a root, ordered by file name; ``files`` counts the files read."""

    documents: tuple[Document, ...]
    diagnostics: tuple[Diagnostic, ...]
    files: int


def load_text(data: bytes, file: str) -> tuple[list[Document], list[Diagnostic]]:
    """The documents of one file and all that is wrong with it.

    Some documents are returned in spite of errors, so that validation can add its findings. Nothing may
    be planned from a file with errors.

    Raises ReconcileError when PyYAML lacks libyaml.
    """
    from reconciler.authoring.yaml_reader import read_events

    return read_events(data, file)


def load_quickly(data: bytes, file: str) -> tuple[list[Document], list[Diagnostic]]:
    """As `load_text`, but a file without findings may lack the places of list items."""
    from reconciler.authoring.yaml_fast import read
    from reconciler.authoring.yaml_scalars import visible_text

    text = visible_text(data)
    documents = None if text is None else read(text, file)
    return load_text(data, file) if documents is None else (documents, [])


def parse_yaml(data: bytes, file: str) -> tuple[Document | None, list[Diagnostic]]:
    """The one document of a file, read as strictly as a profile; ``None`` after an error."""
    documents, diagnostics = load_text(data, file)
    if len(documents) > 1:
        diagnostics.append(
            error(
                "file/one-document",
                f"this file must hold one document, found {len(documents)}",
                source=documents[1].source,
                hint="Remove everything from the second `---` on.",
            )
        )
    if not documents or any(diagnostic.is_error for diagnostic in diagnostics):
        return None, diagnostics
    return documents[0], diagnostics


def load(root: Path, *, display: Callable[[Path], str] | None = None) -> Loaded:
    """Every document below a folder (hidden files and folders aside), or those of one file.

    ``display`` gives the name that a file or folder has in messages and sources; by default its path,
    with slashes. A name that is not UTF-8 is shown with escapes.

    Raises ReconcileError when PyYAML lacks libyaml.
    """
    walk = Walk(root, display)
    files = walk.files()
    documents: list[Document] = []
    diagnostics = walk.diagnostics
    for _, path, name in files:
        match read_file(path, name):
            case Diagnostic() as problem:
                diagnostics.append(problem)
            case data, _:
                loaded, problems = load_text(data, name)
                documents += loaded
                diagnostics += problems
    return Loaded(tuple(documents), tuple(diagnostics), len(files))
