"""Every writer of the program, one after the other, over texts that want to be more than text.

Each rendering is parsed back: JSON by a JSON parser, YAML by our reader, commands by shells, other texts by
their lines, which must be those of a harmless text and hold each value as `shown` spells it.

``make hostile`` makes 50,000 renderings, ``make test`` 1,500.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reconciler.authoring.documents import Document
from reconciler.authoring.yaml_writer import profile_yaml
from reconciler.cli.main import main
from reconciler.cli.streams import print_error
from reconciler.commands import Command, Invocation, arguments
from reconciler.core.contract_files import load_contract
from reconciler.core.outcomes import (
    ApplyReport,
    Drift,
    DriftKind,
    Failure,
    Outcome,
    Progress,
    Result,
)
from reconciler.core.plan import Action, Basis, FieldChange, LineAuthor, Mode, Op
from reconciler.core.plan_format import encode, from_lines, to_lines
from reconciler.core.record_codec import decode_record, encode_export, encode_record
from reconciler.core.records import Export, Fact, Header, Known, Record
from reconciler.errors import (
    Diagnostic,
    ExitCode,
    InputError,
    Message,
    Quote,
    Refused,
    Source,
    error,
)
from reconciler.remote.error_text import read_error
from reconciler.reports import ci, markdown
from reconciler.reports.findings_text import diagnostics_text
from reconciler.reports.html import plan_html
from reconciler.reports.json import (
    change_event,
    diagnostics_json,
    drift_json,
    plan_json,
    progress_event,
    start_event,
    summary_event,
)
from reconciler.reports.masking import Mask
from reconciler.reports.plan_text import plan_text
from reconciler.reports.progress import EventReporter, LineReporter
from reconciler.reports.progress_bar import Bar
from reconciler.reports.text import (
    apply_text,
    difference_of_texts,
    difference_text,
    drift_text,
    progress_text,
    record_text,
    records_text,
    result_line,
)
from reconciler.reports.view import Links, PlanView
from reconciler.reports.wording import author_text
from reconciler.values import quoted, shown, spelled
from tests.reports.test_hostile import UNSAFE, commands
from tests.support.hostile import harmless, mixed, plan_of
from tests.support.projects import Project
from tests.support.templates import values

RENDERINGS = int(os.environ.get("HOSTILE_RENDERINGS", "1500"))
Texts = Iterator[str]


class Rendering:
    """What a writer made, and the texts that must be in it as `shown` or `quoted` spell them."""

    def __init__(self, output: str, *told: str, has_lines: bool = True) -> None:
        self.output = output
        self.told = told
        self.has_lines = has_lines
        """Whether the number of lines does not depend on the texts."""


# --- values that hold a text in every place ------------------------------------------------------


def result_of(texts: Texts) -> Result:
    return Result(
        next(texts), Action.UPDATE, Outcome.FAILED, next(texts), next(texts), (next(texts),),
        Failure.REFUSED,
    )  # fmt: skip


def report_of(texts: Texts) -> ApplyReport:
    counts = dict.fromkeys(Outcome, 0) | {Outcome.FAILED: 1, Outcome.SKIPPED: 2}
    skipped = result_of(texts)._replace(outcome=Outcome.SKIPPED, failure=Failure.HALTED)
    return ApplyReport(next(texts), counts, problems=(result_of(texts), skipped), requests=1)


def drift_of(texts: Texts) -> Drift:
    field = FieldChange(
        f"custom_attributes.{next(texts)}", Op.SET, next(texts), next(texts), Basis.OBSERVED
    )
    return Drift(next(texts), DriftKind.CHANGED, (field,), 1)


def record_of(texts: Texts) -> Record:
    return Record(
        next(texts),
        customer_user_id=next(texts),
        profile_id=f"x{next(texts)}",
        facts={
            f"custom_attributes.{next(texts)}": Fact.of(next(texts)),
            "email": Fact(Known.UNCERTAIN, value=next(texts), attempt=next(texts)),
        },
        forgotten=frozenset({f"x{next(texts)}"}),
        unmanaged=(f"x{next(texts)}",),
        labels=(f"x{next(texts)}",),
        source=Source(f"x{next(texts)}", 3),
    )


def finding_of(texts: Texts) -> Diagnostic:
    return error("profile/value", next(texts), source=Source(next(texts), 2, 1), hint=next(texts))


def progress_of(texts: Texts) -> Progress:
    waiting = f"waiting 48 s for {shown(next(texts))}"  # as the applier puts it
    return Progress(10, done=3, failed=1, under_way=2, requests=4, rate=5.0, waiting_for=waiting)


def document_of(texts: Texts, *, only_valid: bool) -> Document:
    def text() -> str:
        found = next(texts)
        while only_valid and not (found.isprintable() and found.strip()):
            found = next(texts)
        return found

    value = {
        "customer_user_id": "a",
        "first_name": text(),
        "custom_attributes": {f"k{text()}"[:100]: text()},
        "meta": {"labels": [text()]},
    }
    path = ("first_name",)
    source = Source(next(texts), 3, 1)
    return Document(value, source, {path: (1, 1)}, files={path: next(texts)}, template=next(texts))


# --- the writers ---------------------------------------------------------------------------------


def outcome(texts: Texts) -> Rendering:
    result = result_of(texts)
    told = (result.address, result.reason, *result.warnings)
    return Rendering(result_line(result, color=False), *told)


def outcome_above_a_bar(texts: Texts) -> Rendering:
    stream = io.StringIO()
    line = result_line(result_of(texts), color=False)
    bar = Bar(stream, 3)
    bar.print_above(line)
    bar.close()
    assert stream.getvalue().rstrip() == line.rstrip()
    return Rendering(stream.getvalue(), has_lines=False)


def summary(texts: Texts) -> Rendering:
    report = report_of(texts)
    return Rendering(apply_text(report, color=False, problems=True), report.problems[0].address)


def apply_lines(texts: Texts) -> Rendering:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    clock = iter(range(0, 1000, 20))
    reporter = LineReporter(out, err, color=False, bar=False, clock=lambda: next(clock))
    result = result_of(texts)
    reporter.result(result)
    reporter.progress(progress_of(texts))
    reporter.end(report_of(texts), ExitCode.FAILED)
    for stream in (out, err):
        stream.seek(0)
    return Rendering(out.read() + err.read(), result.address)


def apply_events(texts: Texts) -> Rendering:
    out = io.StringIO()
    reporter = EventReporter(out, clock=lambda: 0.0)
    view, _ = plan_of(texts, 1)
    result = result_of(texts)
    reporter.begin(view.plan)
    reporter.result(result)
    reporter.fail(Refused(next(texts), hint=next(texts)))
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["type"] for event in events] == ["version", "start", "change", "summary"]
    assert (events[2]["address"], events[2]["reason"]) == (result.address, result.reason)
    return Rendering(out.getvalue())


def single_events(texts: Texts) -> Rendering:
    problem, result = Refused(next(texts), hint=next(texts)), result_of(texts)
    lines = [
        start_event(plan_of(texts, 1)[0].plan),
        change_event(result),
        progress_event(progress_of(texts), seconds=1),
        summary_event(report_of(texts), ExitCode.REFUSED, problem=problem),
    ]
    read = [*map(json.loads, lines)]
    assert read[3]["error"] == problem.message
    assert read[1]["warnings"] == [*result.warnings]
    return Rendering("\n".join(lines))


def progress(texts: Texts) -> Rendering:
    return Rendering(progress_text(progress_of(texts), seconds=3))


def drift(texts: Texts) -> Rendering:
    item = drift_of(texts)
    return Rendering(drift_text([item], color=False), item.address, item.fields[0].path)


def drift_as_json(texts: Texts) -> Rendering:
    item = drift_of(texts)
    output = drift_json([item])
    (read,) = json.loads(output)["profiles"]
    field = item.fields[0]
    assert (read["address"], read["fields"][0]["path"]) == (item.address, field.path)
    return Rendering(output)


def state_list(texts: Texts) -> Rendering:
    record = record_of(texts)
    return Rendering(records_text([record], color=False), record.address, str(record.source))


def state_show(texts: Texts) -> Rendering:
    record = record_of(texts)
    return Rendering(record_text(record, color=False), record.address, *record.labels)


def state_as_json(texts: Texts) -> Rendering:
    record = record_of(texts)
    output = spelled(encode_record(record), indent=2)
    assert decode_record(json.loads(output)) == record
    return Rendering(output)


def state_replaced(texts: Texts) -> Rendering:
    header = Header(next(texts), 1, next(texts))
    before = Export(header, (record_of(texts),))
    record = record_of(texts)._replace(address=before.records[0].address)
    after = Export(header._replace(serial=2), (record,))
    lines = difference_text(encode_export(before), encode_export(after))
    return Rendering(lines, has_lines=False)


def masked_state(texts: Texts) -> Rendering:
    record = Mask(load_contract("openapi"), ()).record(record_of(texts))
    return Rendering(record_text(record, color=False), record.address)


def findings(texts: Texts) -> Rendering:
    found = [finding_of(texts), finding_of(texts)]
    told = [item.message for item in found]
    # A hint that is empty has no line.
    return Rendering(diagnostics_text(found, color=False), *told, has_lines=False)


def findings_as_json(texts: Texts) -> Rendering:
    found = [finding_of(texts), finding_of(texts)]
    output = diagnostics_json(found)
    read = json.loads(output)["diagnostics"]
    assert [item["message"] for item in read] == [item.message for item in found]
    return Rendering(output)


def findings_for_builds(texts: Texts) -> Rendering:
    found = [finding_of(texts), finding_of(texts)]
    links = Links("https://git.example/x/", "app/")
    issues = json.loads(ci.diagnostics_gitlab(found, links))
    assert [issue["location"]["path"] for issue in issues] == [
        shown(links.path(item.source.file)) for item in found
    ]
    output = ci.diagnostics_sarif(found, version="1", links=links)
    output += ci.diagnostics_junit(found, documents=2)
    return Rendering(
        output, has_lines=False
    )  # two files may be one, and one outside of the project


def errors(texts: Texts) -> Rendering:
    """The one place that prints errors: messages with quotes, hints with commands, findings."""
    hint = Message.of("See ", Command.of("state", "show", *arguments([next(texts)])), ".")
    problem = InputError(next(texts), diagnostics=[finding_of(texts)], hint=hint)
    problem.repeat(Invocation(next(texts), next(texts), next(texts), next(texts)))
    refused = Refused(Message.of("x ", Quote(next(texts)), " y").text, hint="z")
    line = next(texts)
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stderr(stream):
        print_error(problem)
        print_error(refused)
        problem.rendered = diagnostics_text(
            [finding_of(texts)], color=False, excerpts=lambda source: line
        )
        print_error(problem)
    stream.seek(0)
    return Rendering(stream.read(), problem.message, has_lines=False)


def reasons_of_the_api(texts: Texts) -> Rendering:
    one, two, three = next(texts), next(texts), next(texts)
    bodies = (
        json.dumps({"errors": [{"source": one, "errors": [two]}], "error_code": three}).encode(),
        json.dumps({"detail": one, one: [two], "message": {three: two}}).encode(),
        f"<html><title>{one}</title><body>{two}</body>".encode("utf-8", "surrogatepass"),
        f"{one} {two}".encode("utf-8", "surrogatepass"),
    )
    lines = []
    for body in bodies:
        read = read_error(body)
        assert "\n" not in read.reason
        failed = Result("a", Action.UPDATE, Outcome.FAILED, read.reason, read.code)
        lines.append(result_line(failed, color=False))
    return Rendering("\n".join(lines))


def author(texts: Texts) -> Rendering:
    wrote = LineAuthor(f"x{next(texts)}", next(texts), next(texts), next(texts))
    cannot = LineAuthor("", "", "", "", problem=next(texts))
    return Rendering(f"{author_text(wrote)}\n{author_text(cannot)}", wrote.author)


def plan_as_text(texts: Texts) -> Rendering:
    view, _ = plan_of(texts, 2)
    told = [change.address for change in view.plan.changes]
    told += [hazard.message for hazard in view.plan.hazards]
    return Rendering(plan_text(view, color=False, show_requests=True), *told)


def additive_plan(texts: Texts) -> Rendering:
    plan = plan_of(texts, 1)[0].plan
    orphans = (f"o{next(texts)}", f"o{next(texts)}")
    view = PlanView.of(
        from_lines(to_lines(plan)),
        blame={(orphans[0], ""): LineAuthor(next(texts), next(texts), next(texts), "")},
    )
    changed = view.plan.__class__(**{**vars(view.plan), "mode": Mode.ADDITIVE, "orphans": orphans})
    view = view._replace(plan=changed, orphans=orphans)
    return Rendering(plan_text(view, color=False), *orphans)


def masked_plan(texts: Texts) -> Rendering:
    plan = Mask(load_contract("openapi"), ()).plan(plan_of(texts, 2)[0].plan)
    view = PlanView.of(plan, masked=("personal",))
    json.loads(plan_json(view))
    return Rendering(plan_text(view, color=False) + plan_json(view), has_lines=False)


def plan_for_builds(texts: Texts) -> Rendering:
    view, _ = plan_of(texts, 2)
    lines = ci.plan_annotations(view).splitlines()
    closing = [line for line in lines if line.startswith("reconcile: ")]
    notes = lines[: len(lines) - len(closing)]
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in notes)
    return Rendering("\n".join([ci.plan_gitlab(view), *closing]), has_lines=False)


def plan_lines(texts: Texts) -> Rendering:
    plan = plan_of(texts, 2)[0].plan
    lines = [*to_lines(plan)]
    assert encode(from_lines(lines)) == encode(plan)
    return Rendering("".join(lines))


def plan_for_reviews(texts: Texts) -> Rendering:
    view, _ = plan_of(texts, 1)
    return Rendering(plan_html(view) + markdown.plan_markdown(view), has_lines=False)


def rendered(texts: Texts) -> Rendering:
    return Rendering(profile_yaml(document_of(texts, only_valid=False)))


def rendered_and_read(texts: Texts) -> Rendering:
    document = document_of(texts, only_valid=True)
    output = profile_yaml(document)
    (read,) = values(output)
    assert read == document.value
    return Rendering(output)


def formatted(texts: Texts) -> Rendering:
    before, after = next(texts), next(texts)
    output = difference_of_texts(next(texts), before=before, after=after, color=False)
    return Rendering(output, has_lines=False)


WRITERS: tuple[Callable[[Texts], Rendering], ...] = (
    outcome, outcome_above_a_bar, summary, apply_lines, apply_events, single_events, progress, drift,
    drift_as_json, state_list, state_show, state_as_json, state_replaced, masked_state, findings,
    findings_as_json, findings_for_builds, errors, reasons_of_the_api, author, plan_as_text,
    additive_plan, masked_plan, plan_for_builds, plan_lines, plan_for_reviews, rendered,
    rendered_and_read, formatted,
)  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: str(writer.__name__))
def test_every_writer_keeps_hostile_text_as_text(writer: Callable[[Texts], Rendering]) -> None:
    texts = mixed(WRITERS.index(writer))
    lines = writer(harmless()).output.count("\n")
    for _ in range(RENDERINGS // len(WRITERS)):
        rendering = writer(texts)
        output = rendering.output
        assert not UNSAFE.search(output), UNSAFE.search(output)
        assert commands(output) == []
        if rendering.has_lines:
            assert output.count("\n") == lines, output
        for text in rendering.told:
            assert shown(text) in output or quoted(text) in output, text


def test_the_campaign_finds_a_writer_that_prints_a_text_as_it_is() -> None:
    """The checks above can fail: among the first texts are some that each of them objects to."""
    texts = mixed(0)
    raw = [next(texts) for _ in range(300)]
    assert any(UNSAFE.search(text) for text in raw)
    assert any(commands(f"{text}\n") for text in raw)
    assert any("\n" in text for text in raw)


# --- shells --------------------------------------------------------------------------------------


def read_by(shell: str, line: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [shell, "-c", f"reconcile() {{ printf '%s\\0' \"$@\"; }}; {line}"],
        capture_output=True,
        check=True,
        cwd=folder,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    return [word.decode("utf-8", "surrogateescape") for word in done.stdout.split(b"\0")[:-1]]


def words_of(texts: Texts, number: int) -> list[str]:
    """Texts that can be arguments: without NUL and lone surrogates. Some want to run a command."""
    attacks = cycle(
        ["a'; touch ran; #\n", "$(touch ran)\x1b", "`touch ran`", "'\n touch ran\n'", "\\"]
    )
    words: list[str] = []
    for text in texts:
        clean = "".join(c for c in text if c != "\0" and not "\ud800" <= c <= "\udfff")
        words += [clean, next(attacks) + clean]
        if len(words) >= number:
            return words
    raise AssertionError


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh", "ksh", "mksh"])
def test_a_suggested_command_is_read_as_meant_or_at_least_runs_nothing(
    shell: str, tmp_path: Path
) -> None:
    """dash knows no ``$'…'``: words with characters that cannot be shown are other words there, and
    nothing more."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    texts = mixed(77)
    for _ in range(max(1, RENDERINGS // 1000)):
        words = words_of(texts, 100)
        line = Command(tuple(words)).text()
        read = read_by(shell, line, tmp_path)
        assert len(read) == len(words)
        if shell != "dash":
            assert read == words
        assert not UNSAFE.search(line)
        assert commands(line) == []
    assert [*tmp_path.iterdir()] == []


# --- the command line ----------------------------------------------------------------------------


def test_errors_of_the_command_line_show_their_words(tmp_path: Path) -> None:
    odd = "a\n::error::x\x1b[31m##[add-mask]y"
    lines: list[list[str]] = [[odd], ["plan", odd], ["plan", f"--{odd}"], ["plan", "--format", odd]]
    lines += [["apply", "--parallelism", odd], ["state", "show", odd, odd], ["state", odd]]
    for line in lines:
        result: Any = CliRunner().invoke(main, line)
        assert result.exit_code in (3, 64), (line, result.output)
        assert not UNSAFE.search(result.output), result.output
        assert commands(result.output) == []


def test_a_name_of_a_file_makes_no_line_of_its_own_in_what_render_prints(tmp_path: Path) -> None:
    project = Project(tmp_path, profiles={"a\n::error::x": 'customer_user_id: "##[error]x"\n'})
    for arguments_ in (("render",), ("render", "--format", "json"), ("plan", "--out", "-")):
        output = project.run(*arguments_)
        assert commands(output) == []
        assert "error]x" in output
