"""The documents say what the program does."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from reconciler.cli.main import main
from reconciler.core.contract import Clear
from reconciler.core.contract_files import generated, load_contract
from reconciler.errors import ExitCode
from reconciler.homes import CACHE_VARIABLE, STATE_VARIABLE
from reconciler.reports.plan_text import plan_text
from reconciler.reports.view import PlanView
from tests.support.generated_pages import PAGES
from tests.support.projects import Project

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SECURITY = ROOT / "SECURITY.md"
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "README.md"]


def commands() -> list[str]:
    lines = re.findall(r"^\$ (reconcile .*)$", README, re.MULTILINE)
    return [re.split(r" > |  #", line)[0].strip() for line in lines]


def test_the_readme_shows_commands() -> None:
    assert len(commands()) > 15


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_readme_parses(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = main
    context = click.Context(main, info_name="reconcile", **main.context_settings)
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)  # type: ignore[assignment]
        assert command is not None, name
    command.make_context(line, words, parent=context)


def test_the_exit_codes_are_those_of_the_program() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \| ", README, re.MULTILINE)}
    assert told == {int(code) for code in ExitCode}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_that_are_made_from_the_program_are_current(page: Path) -> None:
    assert page.read_text("utf-8") == PAGES[page](), "run `make docs`"


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "dirhtml"),
            *("-c", "docs/site", "-d", tmp_path / "doctrees", ".", tmp_path / "site"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for page in ("index.html", "docs/index.html", "docs/cli/index.html", "searchindex.js"):
        assert (tmp_path / "site" / page).is_file(), page


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = re.findall(
        r"^([\w./-]+\.md)$", (ROOT / "docs/index.md").read_text("utf-8"), re.MULTILINE
    )
    listed = {(ROOT / "docs" / name).resolve() for name in menu}
    assert {*ROOT.glob("docs/*.md")} - listed == {ROOT / "docs" / "index.md"}


@pytest.mark.parametrize("name", sorted(generated()))
def test_the_generated_files_are_current(name: str) -> None:
    assert (ROOT / name).read_text("utf-8") == generated()[name], "run `make schemas`"


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target, anchor in re.findall(
            r"\]\(([^)#:]*)(?:#([^)]+))?\)", document.read_text("utf-8")
        ):
            page = document.parent / target if target else document
            assert page.exists(), f"{document.name}: {target}"
            assert not anchor or anchor in anchors(page), f"{document.name}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def puzzling_sentences(text: str) -> list[str]:
    """Sentences that begin with a word after which a reader has to wait for the noun."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    start = r"(?:^[\s\-*#>]*|[.!?:] |\| *)\**"
    return re.findall(start + r"((?:What|Who|Whoever|Of)\b.{0,60})", prose, re.MULTILINE)


GENERATED = {"profile-reference.md", *(page.name for page in PAGES)}
PROSE = [path for path in DOCUMENTS if path.name not in GENERATED]


@pytest.mark.parametrize("document", PROSE, ids=lambda path: path.name)
def test_no_sentence_makes_the_reader_wait_for_its_noun(document: Path) -> None:
    assert puzzling_sentences(document.read_text("utf-8")) == []


def test_a_puzzling_sentence_is_found() -> None:
    text = "A plan is pure. What it shows is sent.\n\n- Of many, one.\n\n| a | Whoever waits |\n"
    assert len(puzzling_sentences(text)) == 3


DECISIONS = sorted(ROOT.glob("docs/decisions/[0-9]*.md"))


def test_the_index_of_decisions_lists_each_under_its_title() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[(\d{4})\]\((.+?)\) \| (.+?) \|$", index, re.MULTILINE)
    titles = [re.match(r"# (\d{4})\. (.+)", path.read_text("utf-8")) for path in DECISIONS]
    expected = [
        (title[1], path.name, title[2])
        for path, title in zip(DECISIONS, titles, strict=True)
        if title
    ]
    assert listed == expected
    assert len(expected) == len(DECISIONS) > 25


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_is_short_and_has_its_four_parts(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    parts = [part for line in lines for part in re.findall(r"^\*\*(\w+)\.\*\*", line)]
    assert parts == ["Context", "Decision", "Consequence", "Tests"]
    assert 10 <= sum(not line.startswith("|") for line in lines) <= 20


def test_every_test_that_the_documents_name_exists() -> None:
    sources = [path.read_text("utf-8") for path in ROOT.glob("tests/**/*.py")]
    defined = {name for text in sources for name in re.findall(r"def (test_\w+)", text)}
    for document in DOCUMENTS:
        named = re.findall(r"`(test_\w+)`", document.read_text("utf-8"))
        assert set(named) <= defined, document.name
        assert named or document not in DECISIONS, document.name
    assert len(set(re.findall(r"`(test_\w+)`", SECURITY.read_text("utf-8")))) > 40


def test_every_test_file_that_contributing_names_exists() -> None:
    table = re.findall(r"^\|.*\|$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    named = {name for row in table for name in re.findall(r"`([a-z]+/test_\w+\.py)`", row)}
    assert len(named) > 20
    assert sorted(name for name in named if not (ROOT / "tests" / name).exists()) == []


def test_every_variable_of_an_option_follows_the_rule() -> None:
    def walk(command: click.Command) -> None:
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.envvar:
                long = max(parameter.opts, key=len).removeprefix("--")
                assert parameter.envvar == "RECONCILE_" + long.upper().replace("-", "_")
        if isinstance(command, click.Group):
            for child in command.commands.values():
                walk(child)

    walk(main)


def test_every_variable_that_the_documents_name_is_read() -> None:
    def variables(command: click.Command) -> set[str]:
        own = {str(p.envvar) for p in command.params if p.envvar}
        below = command.commands.values() if isinstance(command, click.Group) else ()
        return own.union(*(variables(child) for child in below))

    for document in DOCUMENTS:
        named = set(re.findall(r"\bRECONCILE_[A-Z_]+\b", document.read_text("utf-8")))
        assert named - {STATE_VARIABLE, CACHE_VARIABLE} <= variables(main), document.name


def test_the_fields_that_the_readme_calls_unclearable_are_those_of_the_contract() -> None:
    sentence = re.search(r"cannot be cleared \(in the `guide` dialect: (.*?)\)", README, re.DOTALL)
    assert sentence is not None
    contract = load_contract("guide")
    never = {path for path in contract.fields if contract.field(path).clear is Clear.NEVER}
    assert set(re.findall(r"`([a-z_.]+)`", sentence[1])) == never


def test_every_make_target_that_the_documents_name_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"(?:`|\$ )make ([a-z]+)", document.read_text("utf-8")))
        assert named <= targets, document.name


def test_the_example_of_the_readme_is_what_the_program_prints(tmp_path: Path) -> None:
    yaml, printed = re.findall(r"```(?:yaml|console)\n(.*?)```", README, re.DOTALL)[:2]
    project = Project(tmp_path)
    project.profile("qa/jane", yaml.replace("tier: platinum        # was: gold", "tier: gold"))
    with project.workspace() as workspace:
        workspace.apply(workspace.plan())
        project.profile("qa/jane", yaml)
        text = plan_text(PlanView.of(workspace.plan()), color=False)
    expected = printed.removeprefix("$ reconcile plan\n")
    assert _undigested(text) == _undigested(expected)


def test_the_demo_goes_as_it_says(tmp_path: Path) -> None:
    program = tmp_path / "reconcile"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reconciler "$@"\n', "utf-8")
    program.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "examples/demo.sh"],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _undigested(text: str) -> str:
    """Digests aside: a plan's differs with the lineage of the state."""
    return re.sub(r"sha256:\S+", "sha256:…", text)


NAMING_FILES = [ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md", *DECISIONS]


@pytest.mark.parametrize("document", NAMING_FILES, ids=lambda path: path.name)
def test_every_source_file_that_a_document_names_exists(document: Path) -> None:
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", document.read_text("utf-8"))
    places = [ROOT, ROOT / "reconciler", ROOT / "tests", ROOT / "tests" / "torture"]
    missing = {name for name in named if not any((place / name).exists() for place in places)}
    assert missing == set()


def test_every_word_of_the_code_in_the_glossary_is_a_name_in_the_code() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    table = text.partition("### Words of the code")[2].partition("\n## ")[0]
    words = {
        word
        for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
        for word in re.findall(r"`(\w+)`", row)
    }
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "reconciler").rglob("*.py"))
    names = set(re.findall(r"\w+", sources))
    assert words - names == set()
    assert len(words) > 30
