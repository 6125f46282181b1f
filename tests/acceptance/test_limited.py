"""Applies against an API that limits the rate, or hangs: the real client, threads and sockets."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from reconciler.emulator import Emulator, EmulatorServer, RateLimit, RateMode, parse_fault
from reconciler.remote.pacing import RETRY_AFTER_CAP
from tests.support.projects import KEYS, Project, remote

PROFILES = "---\n".join(f"customer_user_id: qa-{number}\nfirst_name: A\n" for number in range(25))


def project(tmp_path: Path, url: str, **api: object) -> Project:
    return Project(tmp_path, remote(url, api=api), profiles={"all": PROFILES})


@pytest.mark.parametrize("mode", [RateMode.REFUSE, RateMode.BARE])
def test_an_api_with_a_lower_rate_than_the_configured_one_makes_no_profile_fail(
    tmp_path: Path, mode: RateMode
) -> None:
    emulator = Emulator(rate_limits=[RateLimit(20, 1)], rate_mode=mode)
    with EmulatorServer(emulator) as server:
        shop = project(tmp_path, server.url, rate="60000/min")
        began = time.monotonic()
        shop.run("apply", "--auto-approve", **KEYS)
        assert time.monotonic() - began < RETRY_AFTER_CAP / 2
    statuses = [entry.status for entry in emulator.log]
    assert 429 in statuses
    assert len(emulator.content()) == 25


def test_an_apply_ends_once_its_patience_with_429s_is_over(tmp_path: Path) -> None:
    with EmulatorServer(Emulator(), faults=[parse_fault("429:after=10")]) as server:
        shop = project(tmp_path, server.url, rate="60000/min", patience=1)
        lines = shop.run("apply", "--auto-approve", "--json", code=1, **KEYS).splitlines()
    events = [json.loads(line) for line in lines]
    assert events[-1]["halt"] == "limited"
    assert "rate_limited" in {event.get("failure") for event in events}


def test_a_hung_attempt_does_not_use_up_the_deadline(tmp_path: Path) -> None:
    faults = [parse_fault("stall-after:times=1:address=qa-3")]
    with EmulatorServer(Emulator(), faults=faults) as server:
        shop = project(tmp_path, server.url, rate="60000/min", attempt_timeout=0.5)
        began = time.monotonic()
        shop.run("apply", "--auto-approve", **KEYS)
        assert time.monotonic() - began < 10
