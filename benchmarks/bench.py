"""What validating and planning cost, against libyaml's events alone, on the same files, in one run.

``make bench``, or ``python -m benchmarks.bench [PROFILES]``. The floor is what no reader of these
files can go below; the quotient is comparable between machines, the seconds are not.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from reconciler import Workspace

ROUNDS = 3
PER_FILE = 10
CONFIG = "version: 1\nenvironments:\n  local:\n    api: {url: emulator}\n"


def document(number: int) -> str:
    """A profile of the usual size, different for every number."""
    return (
        f"customer_user_id: bench-{number}\n"
        f"first_name: First {number}\n"
        f"last_name: Last {number}\n"
        f"email: user-{number}@example.com\n"
        f'phone_number: "+1202555{number % 10_000:04}"\n'
        "ip_country: FR\n"
        "store: app_store\n"
        "analytics_disabled: false\n"
        "custom_attributes:\n"
        f"  level: {number % 100}\n"
        f"  tier: tier-{number % 7}\n"
        f"  beta: {'true' if number % 2 else 'false'}\n"
        "meta:\n"
        "  labels: [bench]\n"
    )


def write(folder: Path, profiles: int) -> list[Path]:
    """A workspace of so many profiles; returns its profile files."""
    (folder / "reconcile.yaml").write_text(CONFIG, "utf-8")
    (folder / "profiles").mkdir()
    files = []
    for first in range(0, profiles, PER_FILE):
        numbers = range(first, min(first + PER_FILE, profiles))
        files.append(folder / "profiles" / f"{first:07}.yaml")
        files[-1].write_text("---\n".join(document(number) for number in numbers), "utf-8")
    return files


def best(task: Callable[[], object]) -> float:
    """Seconds of the fastest of a few rounds."""
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        task()
        taken.append(time.perf_counter() - start)
    return min(taken)


def events(files: list[Path]) -> None:
    """Has libyaml parse the files and does nothing with what it says."""
    for file in files:
        for _ in yaml.parse(file.read_bytes(), Loader=yaml.CSafeLoader):
            pass


def main(profiles: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write(folder, profiles)
        with Workspace.open(start=folder) as workspace:
            checked = workspace.validate().profiles
            assert len(workspace.plan(profiles=checked).changes) == len(checked) == profiles
            rows = [
                ("libyaml's events (floor)", best(lambda: events(files))),
                ("validate", best(workspace.validate)),
                ("plan, the files already read", best(lambda: workspace.plan(profiles=checked))),
                ("validate and plan", best(workspace.plan)),
            ]
    print(f"{profiles} profiles in {len(files)} files, the best of {ROUNDS} rounds")
    floor = rows[0][1]
    for label, seconds in rows:
        rate = profiles / seconds
        print(f"{label:<30} {seconds:7.3f} s {rate:9.0f} profiles/s {seconds / floor:6.1f} x floor")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
