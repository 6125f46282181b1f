"""Files to documents: in which order, under which names, and by which of the readers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.authoring.loader import load, parse_yaml


def test_a_configuration_is_one_document() -> None:
    assert parse_yaml(b"a: 1\n", "f")[0] is not None
    assert parse_yaml(b"a: 1\na: 2\n", "f")[0] is None
    document, diagnostics = parse_yaml(b"a: 1\n---\nb: 2\n", "f")
    assert document is None
    assert [f"{item.rule} {item.source}" for item in diagnostics] == ["file/one-document f:3:1"]


@pytest.mark.parametrize(
    ("text", "needs_yaml"),
    [
        ("a: 1\nb: [p, q]\n", False),
        ("a: {b: 1}\n", True),
        ("a: yes\n", True),
        ("a: \u200b\n", True),
    ],
)
def test_only_text_that_is_not_plain_goes_to_the_strict_reader(text: str, needs_yaml: bool) -> None:
    program = (
        "import sys\n"
        "from reconciler.authoring.loader import load_quickly\n"
        "assert 'yaml' not in sys.modules\n"
        f"load_quickly({text.encode()!r}, 'f')\n"
        "print('yaml' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(needs_yaml)


# --- folders ---


def test_nested_files_are_read_in_the_order_of_their_paths(root: Path) -> None:
    for name in (
        "b/z.yml",
        "b.yaml",
        "a/y.yaml",
        ".hidden.yaml",
        ".git/x.yaml",
        "note.txt",
        "x.yaml~",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("a: 1\n")
    loaded = load(root, display=lambda path: path.relative_to(root).as_posix())
    names = [item.source.file for item in loaded.documents]
    assert names == ["a/y.yaml", "b/z.yml", "b.yaml", "good.yaml"]
    assert (loaded.diagnostics, loaded.files) == ((), 4)


def test_a_file_is_named_by_its_path_by_default(root: Path) -> None:
    assert load(root).documents[0].source.file == (root / "good.yaml").as_posix()


def test_one_file_can_be_loaded(root: Path) -> None:
    assert [item.value for item in load(root / "good.yaml").documents] == [{"a": 1}]
