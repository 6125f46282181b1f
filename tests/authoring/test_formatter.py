"""Canonical form: order, quoting, every comment with what it is about, and no value ever changed."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from reconciler.authoring.formatter import format_text
from reconciler.authoring.loader import load_text
from reconciler.core.contract import Contract
from reconciler.errors import InputError
from tests.support.projects import Project


def formatted(text: str, contract: Contract) -> str:
    return format_text(text, "a.yaml", contract=contract)


def test_order_quoting_and_comments_in_full(contract: Contract) -> None:
    assert formatted(
        "# yaml-language-server: $schema=x\n"
        "# Jane, of QA\n"
        "email: 'jane@example.com'   # her mail\n"
        "# before the id\n"
        "\n"
        "# right before the id\n"
        'customer_user_id: "qa-jane"\n'
        "zzz: 1\n"
        "meta:\n"
        "  forget: [birthday]   # for now\n"
        "  # some labels\n"
        "  labels:\n"
        "  # of QA\n"
        "  - 'qa'  # first\n"
        "  - NO\n"
        "phone_number: +1234567890\n"
        "custom_attributes:  # ours\n"
        "  # a tier\n"
        "  tier: gold  # or silver\n"
        "  # a level\n"
        "  level: 5\n"
        "  beta: ~\n"
        "  # the end of ours\n"
        "# a name\n"
        "first_name: 'it''s: x'\n"
        "# the end\n",
        contract,
    ) == (
        "# yaml-language-server: $schema=x\n"
        "# Jane, of QA\n"
        "# before the id\n"
        "\n"
        "# right before the id\n"
        "customer_user_id: qa-jane\n"
        "# a name\n"
        'first_name: "it\'s: x"\n'
        "email: jane@example.com     # her mail\n"
        'phone_number: "+1234567890"\n'
        "custom_attributes:  # ours\n"
        "  beta: null\n"
        "  # the end of ours\n"
        "  # a level\n"
        "  level: 5\n"
        "  # a tier\n"
        "  tier: gold  # or silver\n"
        "zzz: 1\n"
        "meta:\n"
        "  # some labels\n"
        "  labels:\n"
        "    # of QA\n"
        "    - qa  # first\n"
        '    - "NO"\n'
        "  forget: [birthday]   # for now\n"
        "# the end\n"
    )


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("'gold'", "gold"),
        ('"gold"', "gold"),
        ("NO", '"NO"'),
        ("'NO'", '"NO"'),
        ("2000-12-31", '"2000-12-31"'),
        ("'5'", '"5"'),
        ("5", "5"),
        ("5.50", "5.50"),
        ("true", "true"),
        ("'true'", '"true"'),
        ("~", "null"),
        ("", "null"),
        ("it's fine", "it's fine"),
        ("'a: b'", '"a: b"'),
        ("'a #b'", '"a #b"'),
        ("a, b", '"a, b"'),
        ('"\\u00eb"', "ë"),
        ("'[x]'", '"[x]"'),
        ("007", '"007"'),
        ("x: y", None),
    ],
)
def test_a_scalar_has_one_spelling(contract: Contract, written: str, canonical: str | None) -> None:
    text = f"customer_user_id: x\ncustom_attributes:\n  k: {written}\n"
    if canonical is None:
        with pytest.raises(InputError):
            formatted(text, contract)
        return
    assert (
        formatted(text, contract) == f"customer_user_id: x\ncustom_attributes:\n  k: {canonical}\n"
    )


def test_a_key_has_one_spelling_too(contract: Contract) -> None:
    text = "customer_user_id: x\n'email': e\ncustom_attributes:\n  \"b\": 1  # one\n  a.b: 2\n"
    assert formatted(text, contract) == (
        "customer_user_id: x\nemail: e\ncustom_attributes:\n  a.b: 2\n  b: 1    # one\n"
    )


def test_a_block_keeps_its_lines_and_the_comment_at_its_head(contract: Contract) -> None:
    text = (
        "first_name: |  # two lines\n  a: b\n  # no comment\n# about the id\ncustomer_user_id: x\n"
    )
    assert formatted(text, contract) == (
        "# about the id\ncustomer_user_id: x\nfirst_name: |  # two lines\n  a: b\n  # no comment\n"
    )


def test_documents_stay_apart(contract: Contract) -> None:
    text = "# one\ncustomer_user_id: a\n# two\n---\n# three\nfirst_name: B\ncustomer_user_id: b\n"
    assert formatted(text, contract) == (
        "# one\ncustomer_user_id: a\n# two\n---\n# three\ncustomer_user_id: b\nfirst_name: B\n"
    )


def test_line_ends_of_windows_stay(contract: Contract) -> None:
    text = "first_name: B\r\ncustomer_user_id: b\r\n"
    assert formatted(text, contract) == "customer_user_id: b\r\nfirst_name: B\r\n"


def test_anchors_and_merges_keep_their_meaning(contract: Contract) -> None:
    text = (
        "last_name: &name Doe\ncustomer_user_id: x\nfirst_name: *name\n"
        "custom_attributes: &all {b: 1}\n"
        "---\ncustomer_user_id: y\ncustom_attributes:\n  <<: {z: 1, a: 2}\n  a: 3\n"
    )
    result = formatted(text, contract)
    before, after = (load_text(one.encode(), "a")[0] for one in (text, result))
    assert [document.value for document in before] == [document.value for document in after]


def test_a_comment_that_cannot_be_kept_is_refused_rather_than_lost(contract: Contract) -> None:
    text = "customer_user_id: x\ncustom_attributes: {b: 1, # inside\n  a: 2}\n"
    with pytest.raises(InputError) as caught:
        formatted(text, contract)
    assert caught.value.diagnostics[0].rule == "fmt/not-safely"


def test_a_file_that_does_not_parse_is_reported(contract: Contract) -> None:
    with pytest.raises(InputError) as caught:
        formatted("a: 1\na: 2\n", contract)
    assert caught.value.diagnostics[0].rule == "yaml/duplicate-key"


SCALARS = (
    "Jane", "'x'", '"NO"', "NO", "+123", "12", "true", "~", "", '"a: b"', "'it''s'", "Zoë", "2000-01-01",
    "5.0", "'5'", '"\\u00e9"', ">-\n    folded", "|\n    lit",
)  # fmt: skip


class Writer:
    """Writes profile files as people do, with a comment here and there that names what it is about."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.number = 0

    def likely(self, share: float) -> bool:
        return self.chance.random() < share

    def above(self, column: int, key: str) -> str:
        lines = ""
        while self.likely(0.25):
            self.number += 1
            about = f"# above {key} {self.number}"
            lines += f"{' ' * column}{about}\n" if self.likely(0.8) else "\n"
        return lines

    def beside(self, key: str) -> str:
        if not self.likely(0.25):
            return ""
        self.number += 1
        return f"{' ' * self.chance.randint(1, 4)}# beside {key} {self.number}"

    def field(self, column: int, key: str, *, first: bool) -> str:
        value = self.chance.choice(SCALARS[:16] if column else SCALARS)
        beside = "" if value[:1] in (">", "|") else self.beside(key)
        above = "" if first else self.above(column, key)
        return f"{above}{' ' * column}{key}: {value}{beside}\n"

    def document(self) -> str:
        names = ["customer_user_id", "first_name", "email", "phone_number", "store", "ip_country"]
        names += ["custom_attributes", "installation_meta", "meta"]
        self.chance.shuffle(names)
        text = ""
        for name in names[: self.chance.randint(1, 9)]:
            first = not text
            if name in ("custom_attributes", "installation_meta"):
                above = "" if first else self.above(0, name)
                if self.likely(0.3):
                    text += f'{above}{name}: {{b: 1, a: "x"}}{self.beside(name)}\n'
                    continue
                text += f"{above}{name}:{self.beside(name)}\n"
                keys = self.chance.sample("abcdef", self.chance.randint(1, 4))
                text += "".join(self.field(2, f"{name}_{key}", first=False) for key in keys)
            elif name == "meta":
                text += f"{'' if first else self.above(0, name)}meta:{self.beside(name)}\n"
                for key in self.chance.sample(
                    ["labels", "protect", "forget"], self.chance.randint(1, 3)
                ):
                    text += self.above(2, key)
                    if key == "protect":
                        text += f"  protect: true{self.beside(key)}\n"
                    elif self.likely(0.5):
                        text += f'  {key}: [a, "b"]{self.beside(key)}\n'
                    else:
                        dash = " " * self.chance.choice([2, 4])
                        items = "".join(f"{dash}- {item}\n" for item in ("x", "'y y'"))
                        text += f"  {key}:{self.beside(key)}\n{items}"
            else:
                text += self.field(0, name, first=first)
        return text


@pytest.mark.parametrize("seed", range(150))
def test_comments_stay_with_their_keys(contract: Contract, seed: int) -> None:
    writer = Writer(seed)
    text = "---\n".join(writer.document() for _ in range(1 + seed % 3))
    result = formatted(text, contract)
    assert formatted(result, contract) == result
    before, after = (load_text(one.encode(), "a")[0] for one in (text, result))
    assert [document.value for document in before] == [document.value for document in after]
    comments = re.compile("# (?:above|beside) .*")
    assert sorted(comments.findall(text)) == sorted(comments.findall(result))
    lines = result.splitlines()
    for at, line in enumerate(lines):
        key = re.match(r" *(\w+):", line)
        beside = re.search(r"# beside (\w+) \d+$", line)
        if beside is not None:
            assert key is not None, result
            assert key[1] == beside[1], result
        above = re.match(r" *# above (\w+) \d+$", line)
        if above is not None:
            following = (re.match(r" *(\w+):", later) for later in lines[at + 1 :])
            assert next((comment[1] for comment in following if comment), None) == above[1], result


# --- at the command line -------------------------------------------------------------------------

LOOSE = "first_name: 'Jane'  # her name\ncustomer_user_id: jane\n"
CANONICAL = "customer_user_id: jane\nfirst_name: Jane    # her name\n"


def test_files_are_written_in_place_and_then_left_alone(project: Project) -> None:
    project.profile("jane", LOOSE)
    path = project.folder / "profiles" / "jane.yaml"
    path.chmod(0o640)
    assert project.run("fmt") == "formatted profiles/jane.yaml\n"
    assert path.read_text() == CANONICAL
    assert path.stat().st_mode & 0o777 == 0o640
    assert project.run("fmt") == ""
    assert sorted(one.name for one in path.parent.iterdir()) == ["jane.yaml"]


def test_check_writes_nothing_and_ends_with_1(project: Project) -> None:
    project.profile("jane", LOOSE)
    assert project.run("fmt", "--check", code=1) == "would format profiles/jane.yaml\n"
    assert (project.folder / "profiles" / "jane.yaml").read_text() == LOOSE
    project.profile("jane", CANONICAL)
    assert project.run("fmt", "--check") == ""


def test_diff_shows_what_would_change(project: Project) -> None:
    project.profile("jane", LOOSE)
    out = project.run("fmt", "--diff")
    assert "-first_name: 'Jane'  # her name\n" in out
    assert "+first_name: Jane    # her name\n" in out


def test_some_files_can_be_named(project: Project) -> None:
    project.profile("a", LOOSE)
    project.profile("b", LOOSE)
    assert project.run("fmt", "profiles/b.yaml") == "formatted profiles/b.yaml\n"


def test_a_broken_file_is_reported_and_the_others_formatted(project: Project) -> None:
    project.profile("a", "a: [\n")
    project.profile("jane", LOOSE)
    assert project.run("fmt", code=3) == "formatted profiles/jane.yaml\n"
    assert "profiles/a.yaml:" in project.err


def test_a_link_stays_a_link(project: Project) -> None:
    project.write("profiles/real.txt", LOOSE)
    link = project.folder / "profiles" / "jane.yaml"
    link.unlink()
    link.symlink_to("real.txt")
    project.run("fmt")
    assert link.is_symlink()
    assert (project.folder / "profiles" / "real.txt").read_text() == CANONICAL


def test_without_the_extra_it_says_how_to_get_it(project: Project, tmp_path: Path) -> None:
    project.write("hidden/ruamel/__init__.py", "raise ImportError\n")
    project.write("hidden/ruamel/yaml/__init__.py", "")
    root = Path(__file__).parent.parent.parent
    project.run("fmt", code=1, PYTHONPATH=f"{project.folder / 'hidden'}:{root}")
    assert "pip install 'ruamel.yaml>=" in project.err
