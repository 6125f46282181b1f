"""What an apply shows while it runs, and that no stream can stop it."""

from __future__ import annotations

import io
import json

import pytest

from reconciler.core.outcomes import ApplyReport, Failure, Halt, Outcome, Progress, Result
from reconciler.core.plan import Action, Change, Plan
from reconciler.errors import ExitCode, ReconcileError
from reconciler.reports.progress import EventReporter, LineReporter
from reconciler.reports.text import bar_text
from tests.support.clock import ManualClock
from tests.support.plans import plan_with

APPLIED = Result("jane", Action.UPDATE, Outcome.UPDATED)
FAILED = Result("joe", Action.UPDATE, Outcome.FAILED, "no \x1b[31m", "abc", failure=Failure.REFUSED)
SKIPPED = Result("zoe", Action.UPDATE, Outcome.SKIPPED, "interrupted", failure=Failure.HALTED)
HALFWAY = Progress(total=100, done=40, failed=1, under_way=3, requests=44, rate=5.0)


def plan(count: int = 3) -> Plan:
    return plan_with([Change(f"u{at:04}", Action.UPDATE, "1 to set") for at in range(count)])


def report(**outcomes: int) -> ApplyReport:
    counts = {outcome: outcomes.get(outcome.value, 0) for outcome in Outcome}
    return ApplyReport("run-1", counts, problems=(FAILED, SKIPPED), halt=Halt.INTERRUPTED)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def lines(
    out: io.StringIO, err: io.StringIO, *, bar: bool = False, clock: ManualClock
) -> LineReporter:
    return LineReporter(
        out, err, color=False, bar=bar, clock=clock, again="reconcile --env qa apply"
    )


def events_of(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_each_outcome_is_a_line_and_skipped_changes_are_summed_up() -> None:
    out, err = io.StringIO(), io.StringIO()
    reporter = lines(out, err, clock=ManualClock())
    reporter.begin(plan())
    for result in (APPLIED, FAILED, SKIPPED):
        reporter.result(result)
    reporter.end(report(updated=1, failed=1, skipped=1), ExitCode.INTERRUPTED)
    assert out.getvalue() == (
        "jane: updated\n"
        "joe: failed (no \\x1b[31m) [Request-Id abc]\n"
        "1 change not begun, because interrupted: zoe\n"
        "Apply incomplete: 1 updated, 1 failed, 1 skipped.\n"
        "Interrupted: run `reconcile --env qa apply` again to go on; what is done is recorded.\n"
    )
    assert err.getvalue() == ""


def test_after_many_changes_the_problems_are_listed_again() -> None:
    out = io.StringIO()
    reporter = lines(out, io.StringIO(), clock=ManualClock())
    reporter.begin(plan(30))
    reporter.end(report(updated=28, failed=1, skipped=1), ExitCode.INTERRUPTED)
    assert out.getvalue().startswith("joe: failed (no \\x1b[31m) [Request-Id abc]\n1 change not")


def test_without_a_terminal_heartbeat_lines_say_how_far_it_is() -> None:
    out, err, clock = io.StringIO(), io.StringIO(), ManualClock()
    reporter = lines(out, err, clock=clock)
    reporter.begin(plan(100))
    for clock.time in (5.0, 10.0, 12.0, 20.0):
        reporter.progress(HALFWAY)
    assert err.getvalue() == (
        "40/100, 1 failed, 15 s left, 264/min (limit 300)\n"
        "40/100, 1 failed, 30 s left, limit 300/min\n"
    )
    assert out.getvalue() == ""


def test_a_quiet_period_says_how_long_and_for_whom() -> None:
    waiting = "waiting 48 s for qa-jane: an earlier write may still land"
    progress = Progress(
        total=2_000, done=0, failed=0, under_way=0, requests=0, rate=5.0, waiting_for=waiting
    )
    assert bar_text(progress, seconds=9.0, pace=None) == f"0/2,000  {waiting}"


def test_the_text_beside_the_bar_has_separators_the_time_left_and_the_pace() -> None:
    progress = Progress(
        total=2_000, done=153, failed=0, under_way=16, requests=200, rate=4_000 / 60
    )
    text = bar_text(progress, seconds=4.8, pace=1_840 / 60)
    assert text == "153/2,000  58 s left  1,840/min (limit 4,000)"


def test_at_a_terminal_a_bar_appears_after_a_second_and_problems_stand_above_it() -> None:
    out, err, clock = Terminal(), Terminal(), ManualClock()
    reporter = lines(out, err, bar=True, clock=clock)
    reporter.begin(plan(100))
    reporter.progress(HALFWAY)
    assert err.getvalue() == ""
    clock.time = 1.5
    reporter.progress(HALFWAY)
    reporter.result(APPLIED)
    reporter.result(FAILED)
    reporter.end(report(updated=1, failed=1), ExitCode.FAILED)
    assert "40/100  1 failed  3 s left  1,760/min (limit 300)" in err.getvalue()
    assert "joe: failed (no \\x1b[31m)" in err.getvalue()
    assert "… further ones are only counted" in err.getvalue()
    assert "jane: updated" not in out.getvalue() + err.getvalue()
    assert "Apply incomplete" in out.getvalue()


def test_results_in_another_stream_than_the_bar_are_all_written() -> None:
    out, err, clock = io.StringIO(), Terminal(), ManualClock()
    reporter = lines(out, err, bar=True, clock=clock)
    reporter.begin(plan(100))
    clock.time = 2.0
    reporter.progress(HALFWAY)
    reporter.result(APPLIED)
    reporter.end(report(updated=1), ExitCode.DONE)
    assert out.getvalue().startswith("jane: updated\n")


@pytest.mark.parametrize("make", ["lines", "events"])
def test_a_broken_stream_is_given_up_and_does_not_stop_the_apply(make: str) -> None:
    out, clock = Full(), ManualClock()
    reporter = lines(out, out, clock=clock) if make == "lines" else EventReporter(out, clock=clock)
    reporter.begin(plan())
    reporter.result(FAILED)
    clock.time = 30.0
    reporter.progress(HALFWAY)
    reporter.end(report(failed=1), ExitCode.FAILED)
    assert reporter.broken


def test_a_bar_whose_terminal_is_gone_is_given_up() -> None:
    out, err, clock = io.StringIO(), Terminal(), ManualClock()
    reporter = lines(out, err, bar=True, clock=clock)
    reporter.begin(plan(100))
    clock.time = 2.0
    reporter.progress(HALFWAY)
    err.close()
    clock.time = 3.0
    reporter.progress(HALFWAY)
    reporter.result(FAILED)
    reporter.end(report(failed=1), ExitCode.FAILED)
    assert "joe: failed" in out.getvalue()


def test_what_a_stream_cannot_encode_is_escaped() -> None:
    raw = io.BytesIO()
    reporter = lines(io.TextIOWrapper(raw, "ascii"), io.StringIO(), clock=ManualClock())
    reporter.result(Result("jane", Action.UPDATE, Outcome.FAILED, "né"))
    assert raw.getvalue() == b"jane: failed (n\\xe9)\n"


def test_events_begin_with_the_version_and_end_with_the_summary() -> None:
    out, clock = io.StringIO(), ManualClock()
    reporter = EventReporter(out, clock=clock)
    reporter.begin(plan())
    reporter.result(FAILED)
    for clock.time in (5.0, 10.0):
        reporter.progress(HALFWAY)
    reporter.end(report(failed=1), ExitCode.FAILED)
    events = events_of(out)
    assert [event["type"] for event in events] == [
        "version", "start", "change", "progress", "summary",
    ]  # fmt: skip
    assert events[0]["format_version"] == 1
    assert events[1] == {
        "type": "start", "environment": "local", "digest": plan().digest, "changes": 3,
        "requests": 0,
        "requests_max": 0,
    }  # fmt: skip
    assert (events[2]["outcome"], events[2]["failure"]) == ("failed", "refused")
    assert (events[3]["done"], events[3]["rate_per_minute"]) == (40, 300.0)
    assert (events[4]["halt"], events[4]["exit_code"]) == ("interrupted", 1)


def test_a_run_that_ends_by_an_error_has_a_summary_too() -> None:
    out = io.StringIO()
    reporter = EventReporter(out, clock=ManualClock())
    reporter.result(APPLIED)
    reporter.fail(ReconcileError("the disk is full", hint="Free some space."))
    summary = events_of(out)[-1]
    assert summary["type"] == "summary"
    assert (summary["error"], summary["hint"]) == ("the disk is full", "Free some space.")
    assert summary["exit_code"] == 1
    outcomes = summary["outcomes"]
    assert isinstance(outcomes, dict)
    assert outcomes["updated"] == 1
