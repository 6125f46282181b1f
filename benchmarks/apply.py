"""What applying costs, beside a bare pool of ``requests`` that sends the same bodies, in one run.

``python -m benchmarks.apply [--changes N] [--rounds N] [--seconds N] [--memory N]``. The pool has none
of our guarantees: no state, no intents, no deadline, no rate, and any 200 is a success.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from reconciler import Plan, Rate, Source, Workspace
from reconciler.core.profiles import Profile
from reconciler.planning.planfile import read_plan, write_plan
from reconciler.remote.transport import encode_body

ROOT = Path(__file__).parent.parent
KEY = {"BENCH_KEY": "secret_live_abcdefgh.0123456789abcdef0123456789abcdef"}
PER_MINUTE = 40_000


@contextmanager
def loopback(delay: float) -> Iterator[str]:
    """A server in a process of its own, for the second core."""
    command = [sys.executable, "-m", "benchmarks.loopback", str(delay)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def profiles(number: int) -> Iterator[Profile]:
    for index in range(number):
        values: dict[str, Any] = {
            "first_name": f"First {index}",
            "last_name": f"Last {index}",
            "email": f"user-{index}@example.com",
            "ip_country": "FR",
            "custom_attributes.level": float(index % 100),
            "custom_attributes.tier": f"tier-{index % 7}",
        }
        yield Profile(
            address=f"bench-{index:07}",
            customer_user_id=f"bench-{index:07}",
            profile_id=None,
            platform=None,
            values=values,
            forget=frozenset(),
            protect=False,
            labels=("bench",),
            source=Source("profiles/bench.yaml", index + 1),
            lines={},
        )


def workspace(folder: Path, url: str) -> Workspace:
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "reconcile.yaml").write_text(
        f"version: 1\nenvironments:\n  bench:\n    api: {{url: '{url}', key_env: BENCH_KEY}}\n"
        "    limits: {max_changes: 10000000}\n",
        "utf-8",
    )
    return Workspace.open(start=folder, environ=KEY)


def forget(folder: Path) -> None:
    """Makes the state one that knows nothing."""
    for left in (folder / ".reconcile").glob("*"):
        left.unlink()


def saved_plan(folder: Path, url: str, changes: int) -> Path:
    path = folder / f"{changes}.plan"
    forget(folder)
    with workspace(folder, url) as place:
        write_plan(place.plan(profiles=tuple(profiles(changes))), path)
    return path


def ours(folder: Path, url: str, plan: Plan, rate: Rate, workers: int | None) -> dict[str, float]:
    """Seconds and CPU seconds of an apply with everything on, its state made from nothing."""
    forget(folder)
    with workspace(folder, url) as place:
        began, cpu = time.perf_counter(), time.process_time()
        done = place.apply(plan, rate=rate, parallelism=workers, profiles=())
        taken = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    assert done.is_complete, done.counts
    return taken


def bare(url: str, plan: Plan, workers: int) -> dict[str, float]:
    """The same of a thread pool, a session a thread."""
    sent = [
        (url + request.path, dict(request.headers), encode_body(request.body or {}))
        for change in plan.changes
        for request in change.requests
    ]
    local = threading.local()

    def send(address: str, headers: dict[str, str], body: bytes) -> None:
        session = getattr(local, "session", None)
        if session is None:
            session = local.session = requests.Session()
        headers = {**headers, "Authorization": "Api-Key k", "Content-Type": "application/json"}
        response = session.patch(address, headers=headers, data=body, timeout=30)
        response.raise_for_status()
        response.json()

    began, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(send, *each) for each in sent]:
            future.result()
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def at_once(folder: Path, changes: int, rounds: int) -> None:
    """No latency, no rate: what the guarantees cost."""
    workers = 16
    with loopback(0.0) as url:
        plan = read_plan(saved_plan(folder, url, changes))
        pairs = [
            (bare(url, plan, workers), ours(folder, url, plan, Rate(None), workers))
            for _ in range(rounds)
        ]
    print(f"0 ms, no rate, {workers} at a time, {changes} changes, {rounds} rounds")
    for name, runs in (("bare pool", [a for a, _ in pairs]), ("apply", [b for _, b in pairs])):
        speed = statistics.median(changes / run["seconds"] for run in runs)
        cpu = statistics.median(1000 * run["cpu"] / changes for run in runs)
        print(f"  {name:<10} {speed:7.0f} requests/s  {cpu:5.2f} CPU s/1,000")
    ratios = [a["seconds"] / b["seconds"] for a, b in pairs]
    print(f"  throughput of the bare pool: {statistics.median(ratios):.0%} (each: "
          f"{', '.join(f'{ratio:.0%}' for ratio in ratios)})")  # fmt: skip


def paced(folder: Path, seconds: float) -> None:
    """100 ms of latency at 40,000 a minute."""
    rate = Rate(PER_MINUTE / 60)
    changes = int(seconds * PER_MINUTE / 60)
    with loopback(0.1) as url:
        plan = read_plan(saved_plan(folder, url, changes))
        taken = ours(folder, url, plan, rate, None)
        arrivals = sorted(requests.get(f"{url}/arrivals", timeout=30).json())
    most, first = 0, 0
    for last, at in enumerate(arrivals):
        while arrivals[first] <= at - 1.0:
            first += 1
        most = max(most, last - first + 1)
    held = (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) * 60
    print(f"100 ms, {PER_MINUTE}/min, {changes} changes")
    print(f"  held {held:.0f}/min, {held / PER_MINUTE:.1%}; most in any second {most}, "
          f"allowed {PER_MINUTE / 60:.1f}")  # fmt: skip
    print(f"  {1000 * taken['cpu'] / changes:.2f} CPU s/1,000, "
          f"{taken['cpu'] / taken['seconds']:.0%} of a core")  # fmt: skip


def memory(folder: Path, changes: int) -> None:
    """Peak memory of the program, applying a saved plan of a tenth, and of all."""
    with loopback(0.0) as url:
        peaks = {}
        for number in (changes // 10, changes):
            path = saved_plan(folder, url, number)
            code = (
                "from pathlib import Path\n"
                "from reconciler import Rate, Workspace\n"
                "from reconciler.planning.planfile import read_plan\n"
                f"with Workspace.open(start={str(folder)!r}, environ={KEY!r}) as place:\n"
                f"    done = place.apply(read_plan(Path({str(path)!r})), rate=Rate(None), "
                "profiles=())\n"
                "assert done.is_complete\n"
                # Not getrusage: that still counts what the process was before it became this one.
                "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
                "print(int(status['VmHWM'].split()[0]) / 1024)\n"
            )
            output = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
            peaks[number] = float(output)
    for number, peak in peaks.items():
        print(f"memory, {number} changes from a saved plan: {peak:.0f} MiB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--memory", type=int, default=100_000)
    parser.add_argument("--folder", default=None, help="Where the state is kept meanwhile.")
    given = parser.parse_args()
    print(json.dumps({"cores": os.cpu_count(), "python": sys.version.split()[0]}))
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        at_once(Path(name), given.changes, given.rounds)
        paced(Path(name), given.seconds)
        memory(Path(name), given.memory)


if __name__ == "__main__":
    main()
