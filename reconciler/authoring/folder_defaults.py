"""The defaults of folders, from a root downwards: their files are read and checked here."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from reconciler.authoring.defaults import Defaults
from reconciler.authoring.loader import parse_yaml
from reconciler.authoring.placeholders import needs_expansion
from reconciler.authoring.validation import validate_defaults
from reconciler.authoring.walk import DEFAULTS, read_file_inside
from reconciler.core.contract import Contract
from reconciler.errors import Diagnostic
from reconciler.values import digest


class FolderDefaults:
    """The defaults of the folders below a root.

    Each file is read once, so that all profiles get the same ones. ``findings`` collects what is wrong
    with the files that were read so far.
    """

    def __init__(self, root: Path, *, display: Callable[[Path], str], contract: Contract) -> None:
        self.findings: list[Diagnostic] = []
        self._root = os.path.abspath(root)
        self._display = display
        self._contract = contract
        self._by_folder: dict[str, Defaults | None] = {}

    def of(self, folder: str) -> Defaults | None:
        """The defaults of a folder, laid over those of the folders above it; ``None`` if there are none.

        A file with an error counts as absent; the error is in ``findings``.
        """
        folder = os.path.abspath(folder)
        unknown: list[str] = []
        inside = os.path.join(self._root, "")
        while folder not in self._by_folder:
            unknown.append(folder)
            if not folder.startswith(inside):
                break
            folder = os.path.dirname(folder)
        defaults = self._by_folder.get(folder)
        for each in reversed(unknown):
            own = self._read(os.path.join(each, DEFAULTS))
            defaults = defaults if own is None else own.over(defaults)
            self._by_folder[each] = defaults
        return defaults

    def _read(self, path: str) -> Defaults | None:
        if not os.path.lexists(path):
            return None
        name = self._display(Path(path))
        match read_file_inside(path, name, folder=self._root):
            case Diagnostic() as problem:
                self.findings.append(problem)
                return None
            case data, _:
                pass
        document, findings = parse_yaml(data, name)
        has_placeholders = needs_expansion(data) is not None
        if document is not None:
            findings += validate_defaults(
                document, self._contract, has_placeholders=has_placeholders
            )
        self.findings += findings
        if document is None or any(finding.is_error for finding in findings):
            return None
        content = blake2b(data, digest_size=16).hexdigest()
        return Defaults(document, digest(name, content), has_placeholders)
