"""A plan is the same whichever worker makes it: this process, threads or other processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.corpora import document
from reconciler.core.options import Options
from reconciler.core.plan import Plan
from reconciler.core.plan_format import to_lines
from reconciler.core.planner import make_plan
from reconciler.core.records import Fact, Record
from reconciler.errors import ReconcileError
from reconciler.planning import planfile
from reconciler.planning.limits import Limits
from reconciler.planning.workers import processes
from reconciler.reports.plan_text import plan_text
from reconciler.reports.tally import Tally
from reconciler.reports.view import PlanView
from reconciler.state.store import Holder
from reconciler.workspace.facade import Workspace
from reconciler.workspace.plans import PlanRequest, target_of
from tests.support.projects import Project, remote

HOLDER = Holder("jane", "localhost", 1, "test")
MANY = 400


SMALL_BATCHES = Limits(
    processors=2, profiles_per_batch=16, profiles_per_process=50, changes_held=30
)
"""A few profiles are worth as much work as many are."""


def make(folder: Path, *, odd: bool = False) -> None:
    """Profiles of which some are recorded, some as they are declared; with orphans."""
    project = Project(folder, remote("http://127.0.0.1:9", name="here"))
    documents = [document(number) for number in range(MANY)]
    if odd:
        documents += [
            "customer_user_id: '%s-##[x]'\nfirst_name: 'Zo\u00eb \"%d\"'\nmeta: {protect: true}\n",
            "for_each: 3\ncustomer_user_id: 'made-{index}'\nfirst_name: A\n",
        ]
    project.profile("all", "---\n".join(documents))
    with project.workspace() as place, place.store.lock(HOLDER) as writer:
        desired = [*place.desired()]
        writer.write(
            put=[
                *(
                    Record(
                        profile.address,
                        customer_user_id=profile.address,
                        facts={path: Fact.of(value) for path, value in profile.values.items()},
                    )
                    for profile in desired[::5]
                ),
                *(
                    Record(profile.address, customer_user_id=profile.address)
                    for profile in desired[1::7]
                    if profile.address not in {each.address for each in desired[::5]}
                ),
                Record("orphan-1", customer_user_id="orphan-1"),
                Record("orphan-2", customer_user_id="orphan-2", protect=True),
            ]
        )


def planned(
    folder: Path,
    pool: Callable[[], Executor] | None,
    *,
    limits: Limits = SMALL_BATCHES,
    **options: Any,
) -> tuple[Plan, str]:
    """A plan, and its text with the sums that were counted while it was made."""
    with Workspace.open(start=folder, pool=pool, cache=False, limits=limits) as place:
        outcome, tally = place.plans.make(PlanRequest(**options), Tally())
        lines = [*to_lines(outcome)]
    assert lines == [*to_lines(outcome)]
    counted = PlanView.of(outcome, tally=tally)
    afterwards = PlanView.of(outcome)
    assert counted.hazards == afterwards.hazards
    assert counted.basis == afterwards.basis
    assert counted.unverifiable == afterwards.unverifiable
    return outcome, plan_text(counted, color=False)


def alone(folder: Path, **options: Any) -> Plan:
    """The same plan as it is made of values in memory."""
    with Workspace.open(start=folder, cache=False) as place:
        store = place.store
        outcome = make_plan(
            [*place.desired()],
            {record.address: record for record in store.records()},
            header=store.header(),
            contract=place.contract,
            options=Options(
                environment="here",
                target=target_of(place.environment, place.config.root),
                **options,
            ),
        )
    assert isinstance(outcome, Plan)
    return outcome


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("options", [{}, {"prune": True}, {"reassert": True}], ids=str)
@pytest.mark.parametrize(
    "pool", [None, lambda: ThreadPoolExecutor(1), processes], ids=["here", "threads", "processes"]
)
def test_a_plan_is_the_same_whoever_makes_it(
    tmp_path: Path,
    pool: Callable[[], Executor] | None,
    options: dict[str, Any],
    odd: bool,
) -> None:
    make(tmp_path, odd=odd)
    expected = alone(tmp_path, **options)
    outcome, text = planned(tmp_path, pool, **options)
    assert [*to_lines(outcome)] == [*to_lines(expected)]
    assert outcome.digest == expected.digest
    assert text == plan_text(PlanView.of(expected), color=False)


def test_changes_that_were_made_elsewhere_can_be_gone_through_again(tmp_path: Path) -> None:
    make(tmp_path)
    outcome, _ = planned(tmp_path, lambda: ThreadPoolExecutor(1))
    assert not isinstance(outcome.changes, tuple)
    assert [*outcome.changes] == [*outcome.changes] == [*alone(tmp_path).changes]
    assert len(outcome.changes) > MANY // 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_a_plan_that_there_is_no_room_for_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    monkeypatch.setattr(planfile, "_unnamed", lambda folder: os.open("/dev/full", os.O_RDWR))
    with (
        Workspace.open(start=tmp_path, cache=False, limits=Limits(text_held=100)) as place,
        pytest.raises(ReconcileError, match="No space left") as failed,
    ):
        place.plan()
    assert "--select" in failed.value.hint


def test_a_few_changes_are_held(tmp_path: Path) -> None:
    make(tmp_path)
    outcome, _ = planned(tmp_path, processes, limits=Limits())
    assert isinstance(outcome.changes, tuple)
