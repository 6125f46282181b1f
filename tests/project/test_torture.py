"""The short form of `tests.torture`: every campaign, a few cases of each. ``make torture`` runs many."""

from __future__ import annotations

import pytest

from reconciler.state.objects.bucket import ObjectBucket
from tests.torture import (
    buckets,
    disks,
    kills,
    locks,
    planted,
    program,
    replies,
    restores,
    signals,
    simulation,
    streams,
)
from tests.torture.tally import Tally


def passes(tally: Tally) -> None:
    assert tally.violations == []
    assert tally.counts.total() > 0


@pytest.mark.parametrize("batch", [0, 1])
def test_no_schedule_loses_or_invents_a_write(batch: int) -> None:
    passes(simulation.unit(batch))


@pytest.mark.parametrize("fault", planted.FAULTS)
def test_the_simulation_finds_what_was_planted(fault: str) -> None:
    assert simulation.first_found(fault, most=40_000) is not None


@pytest.mark.parametrize("seed", [1, 5])
def test_killed_at_any_moment_nothing_is_lost_and_the_next_run_goes_on(seed: int) -> None:
    passes(kills.unit(seed, kills=4, profiles=16))


@pytest.mark.parametrize("variant", list(program.BROKEN))
def test_the_checker_fails_a_program_that_is_broken_on_purpose(variant: str) -> None:
    assert any(kills.unit(seed, kills=1, variant=variant).violations for seed in range(3))


@pytest.mark.parametrize(
    ("way", "scene"),
    [
        *((way, "at work") for way in signals.WAYS),
        ("SIGINT", "slow reply"),
        ("SIGTERM", "asked to wait"),
        ("terminal", "back-off"),
    ],
)
def test_a_signal_ends_a_run_in_time_and_nothing_is_lost(way: str, scene: str) -> None:
    passes(signals.unit(1, way=way, scene=scene))


def test_a_cancelled_job_whose_shell_passes_no_signal_on_loses_nothing() -> None:
    passes(signals.github(1, patience=0.5, mercy=0.3))


@pytest.mark.parametrize("way", streams.WAYS)
def test_output_that_goes_nowhere_loses_no_outcome(way: str) -> None:
    passes(streams.unit(1, way=way, json=way != "pipe closed at once"))


def test_no_malformed_answer_is_a_success_or_makes_the_client_grow() -> None:
    passes(replies.malformed(deadline=0.3))


def test_a_refusal_is_one_by_its_status_however_odd_the_rest_is() -> None:
    passes(replies.refusals(deadline=1.0))


def test_a_reply_cut_anywhere_says_no_more_than_its_status_line() -> None:
    passes(replies.cuts(step=7))


def test_no_redirect_leads_anywhere() -> None:
    passes(replies.redirects())


def test_of_processes_that_race_one_works_at_a_time_and_the_others_are_told_who() -> None:
    passes(locks.race(1, turns=1))


def test_a_holder_that_was_overtaken_while_it_was_stopped_writes_nothing_more() -> None:
    passes(locks.pause(1, lease=0.5))


def test_whichever_write_fails_nothing_acknowledged_is_lost() -> None:
    passes(disks.calls(1))


def test_what_the_state_could_not_take_is_in_a_file_of_its_own() -> None:
    passes(disks.emergency(1, step=5))


@pytest.mark.parametrize("part", [disks.small_files, disks.small_disks])
def test_a_disk_that_is_full_loses_nothing(part: disks.Part) -> None:
    passes(part(1, sizes=2))


def test_a_restore_that_is_killed_leaves_the_old_state_or_the_restored_one() -> None:
    passes(restores.unit(1, kills=6, profiles=12))


def test_a_restore_on_a_full_disk_leaves_the_old_state_or_the_restored_one() -> None:
    passes(restores.small_disk(1, sizes=3))


@pytest.mark.parametrize("kind", buckets.KINDS)
def test_writers_of_a_lossy_bucket_agree_with_what_they_were_told(kind: str) -> None:
    passes(buckets.lossy(1, kind=kind, writes=30))


@pytest.mark.parametrize("kind", buckets.KINDS)
def test_locks_in_a_lossy_bucket_let_one_write_at_a_time(kind: str) -> None:
    passes(buckets.locked(1, kind=kind, turns=8))


@pytest.mark.parametrize("variant", buckets.PLANTED)
def test_a_bucket_that_believes_what_it_is_told_is_found_out(variant: type[ObjectBucket]) -> None:
    assert buckets.lossy(1, writes=40, variant=variant).violations


@pytest.mark.parametrize("name", buckets.SERVERS)
def test_a_server_keeps_to_conditions_as_it_did(name: str) -> None:
    """Races of many are for ``make torture``: SeaweedFS takes seconds for each."""
    if not buckets.SERVERS[name].is_installed:
        pytest.skip("not installed")
    passes(buckets.conformance(name, races=1))
