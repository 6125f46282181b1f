"""The benchmarks run, in sizes that measure nothing, and say what is so."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import (
    apply,
    growth,
    identical,
    measuring,
    planning,
    reports,
    rivals,
    slow_state,
    startup,
)
from benchmarks.corpora import LAYOUTS, Corpus, document
from benchmarks.plot import svg
from reconciler import Workspace
from reconciler.core.plan import Action


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Young files are only read once more than needed, which no test here is about; and nothing that
    is kept is written."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(measuring, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(growth, "PLOT", tmp_path / "growth.svg")
    (tmp_path / "RESULTS.md").write_text("# Results\n", "utf-8")


# --- corpora -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_corpus_is_valid_and_always_the_same(layout: str, tmp_path: Path) -> None:
    digests = set()
    for seed in (None, 1):
        corpus = Corpus(tmp_path / f"{seed}", 230, layout, seed=seed)
        files = sorted(corpus.root.rglob("*.yaml"))
        assert len(files) == corpus.files == (3 if layout == "many" else 230)
        assert sum(file.stat().st_size for file in files) == corpus.bytes
        names = [str(file.relative_to(corpus.root)).encode() for file in files]
        content = [file.read_bytes() for file in files]
        digests.add(hashlib.sha256(b"\0".join(itertools.chain(names, content))).hexdigest())
    with Workspace.open(start=corpus.folder) as workspace:
        checked = workspace.validate()
    assert checked.diagnostics == ()
    assert len(checked.profiles) == 230
    assert len(digests) == 1


def test_profiles_have_the_size_of_real_ones() -> None:
    lines = [document(number).count("\n") for number in range(1000)]
    assert 24 <= sum(lines) / len(lines) <= 28


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_recorded_is_what_an_apply_would_have_recorded(layout: str, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "corpus", 150, layout)
    saved = tmp_path / "saved.plan"
    planning.Plans(corpus).new(saved)
    corpus.record(saved)
    corpus.change(3, version=1)
    with Workspace.open(start=corpus.folder) as workspace:
        changes = list(workspace.plan().changes)
    assert [change.action for change in changes] == [Action.UPDATE] * 3
    paths = [[field.path for field in change.fields] for change in changes]
    assert paths == [["last_name", "custom_attributes.tier"]] * 3
    corpus.change(3, version=0)
    with Workspace.open(start=corpus.folder) as workspace:
        assert workspace.plan().is_empty


# --- measuring -----------------------------------------------------------------------------------


def test_a_program_that_fails_is_not_measured() -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3.*oh no"):
        measuring.run(
            [sys.executable, "-c", "import sys; print('oh no', file=sys.stderr); exit(3)"]
        )


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_memory_is_that_of_a_process_and_its_children() -> None:
    child = "import time; held = bytes(range(256)) * 4 * 40_960; ready = print(flush=True); input()"
    code = textwrap.dedent(
        f"""
        import subprocess, sys
        pipe = subprocess.PIPE
        child = subprocess.Popen([sys.executable, "-c", {child!r}], stdin=pipe, stdout=pipe)
        child.stdout.readline()
        print(flush=True)
        input()
        child.communicate(b"\\n")
        """
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        held = measuring._memory(process.pid)
        process.communicate(b"\n")
    assert 40 * measuring.MIB < held < 90 * measuring.MIB


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_what_starts_inside_has_so_many_processors() -> None:
    code = "import os; print(len(os.sched_getaffinity(0)))"
    with measuring.cores(1):
        assert measuring.run([sys.executable, "-c", code]).output == b"1\n"
    told = measuring.run([sys.executable, "-c", code]).output
    assert int(told) == measuring.processors()


def test_every_round_does_every_task_and_begins_with_another_one() -> None:
    done: list[str] = []

    def task(name: str) -> float:
        done.append(name)
        return float(len(done))

    taken = measuring.rounds(2, {"a": lambda: task("a"), "b": lambda: task("b")})
    assert done == ["a", "b", "b", "a"]
    assert taken == {"a": [1.0, 4.0], "b": [2.0, 3.0]}


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    assert str(measuring.Ratio.of([1, 6, 9], [1, 2, 1])) == "3.00 (1.00–9.00)"


def test_targets_hold_or_do_not() -> None:
    assert measuring.holds(2.0, most=2.0) == measuring.holds(4.0, least=4.0) == "holds"
    assert measuring.holds(2.1, most=2.0) == measuring.holds(3.9, least=4.0) == "MISSED"
    assert measuring.holds(None, most=1.0) == "not measured"


def test_a_section_is_replaced_or_added() -> None:
    text = "# Results\n\n## A\n\nold\n\n## B\n\nkept\n"
    assert measuring.replaced(text, "A", "new") == "# Results\n\n## A\n\nnew\n\n## B\n\nkept\n"
    assert measuring.replaced(text, "B", "new") == "# Results\n\n## A\n\nold\n\n## B\n\nnew\n"
    assert measuring.replaced(text, "C", "new") == text + "\n## C\n\nnew\n"


def test_the_exponent_is_that_of_the_power() -> None:
    assert growth.exponent([(x, 3 * x**1.5) for x in (10, 100, 1000)]) == pytest.approx(1.5)


def test_the_plot_is_an_image_that_names_its_lines() -> None:
    lines = {"cold & new": [(10.0, 0.1), (100.0, 1.0)], "warm": [(10.0, 0.1), (100.0, 0.1)]}
    root = ElementTree.fromstring(svg("Seconds", lines))
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Seconds", "cold & new", "warm", "10", "100", "0.1 s", "1 s"} <= texts


# --- the benchmarks ------------------------------------------------------------------------------


def _written(tmp_path: Path) -> str:
    return (tmp_path / "RESULTS.md").read_text("utf-8")


def test_planning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planning.main("--profiles 120 --rounds 1 --layouts many --changed 2,100 --write".split())
    told = capsys.readouterr().out
    assert "warm, nothing changed" in told
    assert "warm, 100 changed, more" in told
    assert "| cold, all new, printed and saved, 1 core |" in _written(tmp_path)


def test_growth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    growth.main("--sizes 10,20 --rounds 1 --write".split())
    assert "cold, all recorded" in capsys.readouterr().out
    assert "](growth.svg)" in _written(tmp_path)
    ElementTree.parse(tmp_path / "growth.svg")


def test_identical(capsys: pytest.CaptureFixture[str]) -> None:
    identical.main("--profiles 250 --layouts many".split())
    told = capsys.readouterr().out
    assert told.count("same\n") == 7
    assert "DIFFERS" not in told


def test_startup(capsys: pytest.CaptureFixture[str]) -> None:
    startup.main("--rounds 1".split())
    told = capsys.readouterr().out
    assert "completion" in told
    assert "the warm plan imports: click" in told


def test_rivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside a stand-in, since tests install nothing: it finds as many changes as there are."""
    program = tmp_path / "environment" / "bin" / "octodns-sync"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "source, target = (open(f'{side}/bench.example.yaml').read().splitlines()\n"
        "                  for side in ('source', 'target'))\n"
        "count = sum(a != b for a, b in zip(source, target, strict=True))\n"
        "print(f'Updates={count},' if count else 'No changes were planned', file=sys.stderr)\n",
        "utf-8",
    )
    program.chmod(0o755)
    rivals.main(["--sizes", "100", "--rounds", "1", "--octodns", str(program.parent.parent)])
    told = capsys.readouterr().out
    assert told.count("\n  octoDNS, ") == 2
    assert told.count("≥ 30") == 2


def test_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    together = importlib.import_module("benchmarks.__main__")
    short = {startup.main: "--rounds 1", growth.main: "--sizes 10 --rounds 1"}
    monkeypatch.setattr(together, "SHORT", short)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--write", "--folder", str(tmp_path)])
    together.main()
    assert [line for line in _written(tmp_path).splitlines() if line.startswith("#")] == [
        "# Results",
        "## Start-up",
        "## Growth",
    ]


def test_the_results_have_a_place_for_each_part() -> None:
    text = (measuring.ROOT / "benchmarks" / "RESULTS.md").read_text("utf-8")
    sources = (path.read_text("utf-8") for path in (measuring.ROOT / "benchmarks").glob("*.py"))
    parts = {part for source in sources for part in re.findall(r'publish\("([^"]+)"', source)}
    assert len(parts) == 7
    assert parts <= set(re.findall(r"^## (.*)$", text, re.MULTILINE))


def test_reports(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(reports, "PROGRAM", None)
    reports.main(50)
    assert "html" in capsys.readouterr().out


def test_apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apply.at_once(tmp_path, 20, 1)
    apply.memory(tmp_path, 20)
    assert "memory, 20 changes" in capsys.readouterr().out


# --- a distant state -----------------------------------------------------------------------------


def test_an_apply_beside_a_distant_state_is_measured() -> None:
    table = slow_state.table([0], seconds=0.05)
    ((name, usual, chosen, *_),) = table.rows
    assert name == "0 ms"
    assert all(float(share.rstrip("%")) > 0 for share in (usual, chosen))
