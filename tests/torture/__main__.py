"""``python -m tests.torture``: the long form of every campaign, a table at the end, and exit code 1 on
any violation. ``--again CASE`` repeats what a violation's line names."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from tests.support.planted_objects import PLANTED
from tests.torture import (
    buckets,
    databases,
    disks,
    kills,
    locks,
    objectlogs,
    planted,
    program,
    replies,
    restores,
    signals,
    simulation,
    streams,
)
from tests.torture.shared_states import STORES
from tests.torture.tally import Tally, spread

Campaign = Callable[[argparse.Namespace], Tally]
KILLS_A_UNIT = 10
SHOWN = 30
"""Violations of a campaign that are printed."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    names = ", ".join(CAMPAIGNS)
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=f"all by default: {names}")
    parser.add_argument("--kills", type=int, default=1000, help="kill -9 points")
    parser.add_argument(
        "--stores", default=",".join(STORES), help="where the state of kills is, by commas"
    )
    parser.add_argument("--signals", type=int, default=200, help="moments for each kind of signal")
    parser.add_argument("--github", type=int, default=50, help="cancelled jobs, 10 s each")
    parser.add_argument("--seeds", type=int, default=1_000_000, help="simulated schedules")
    parser.add_argument("--turns", type=int, default=50, help="turns of each of 8 racing processes")
    parser.add_argument("--pauses", type=int, default=50, help="holders stopped past their lease")
    parser.add_argument("--disks", type=int, default=100, help="sizes of a small disk")
    parser.add_argument("--restores", type=int, default=200, help="kill -9 points of restores")
    parser.add_argument("--appends", type=int, default=6000, help="writes to a lossy bucket")
    parser.add_argument("--orders", type=int, default=5_000, help="orders of requests of a scene")
    parser.add_argument("--parallelism", type=int, default=4, help="workers of an apply")
    parser.add_argument("--seed", type=int, default=1, help="where seeds begin")
    parser.add_argument("--jobs", type=int, default=2, help="processes of ours at a time")
    parser.add_argument("--again", metavar="CASE", help='for example "kills.unit(7)"')
    options = parser.parse_args()
    if options.again:
        tally = eval(options.again, dict(globals()))
        print(dict(tally.counts), *tally.violations, sep="\n")
        return 1 if tally.violations else 0
    unknown = set(options.campaigns) - CAMPAIGNS.keys()
    if unknown:
        parser.error(f"no campaign {', '.join(sorted(unknown))}; there are {names}")
    return _report(options)


def _report(options: argparse.Namespace) -> int:
    rows: list[tuple[str, Tally, float]] = []
    for name in options.campaigns or CAMPAIGNS:
        started = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        tally = CAMPAIGNS[name](options)
        rows.append((name, tally, time.monotonic() - started))
    print(f"\n{'campaign':<12} {'violations':>10} {'seconds':>8}  counts")
    for name, tally, seconds in rows:
        counts = ", ".join(f"{count:,} {what}" for what, count in tally.counts.items())
        print(f"{name:<12} {len(tally.violations):>10} {seconds:>8.0f}  {counts}")
    for name, tally, _ in rows:
        for violation in tally.violations[:SHOWN]:
            print(f"{name}: {violation}")
        if len(tally.violations) > SHOWN:
            print(f"{name}: and {len(tally.violations) - SHOWN:,} more")
    return 1 if any(tally.violations for _, tally, _ in rows) else 0


def _seeds(options: argparse.Namespace, count: int) -> range:
    return range(options.seed, options.seed + count)


def _kills(options: argparse.Namespace) -> Tally:
    total = Tally()
    for store in options.stores.split(","):
        unit = partial(kills.unit, kills=KILLS_A_UNIT, parallelism=options.parallelism, store=store)
        total.add(spread(unit, _seeds(options, -(-options.kills // KILLS_A_UNIT)), options.jobs))
    return total


def _controls(options: argparse.Namespace) -> Tally:
    """The broken programs: a control that passes is the violation."""
    total = Tally()
    for variant in program.BROKEN:
        seen = 0
        seeds = _seeds(options, max(3, options.kills // 40))
        unit = partial(kills.unit, kills=1, parallelism=options.parallelism, variant=variant)
        for seed in seeds:
            seen += bool(unit(seed).violations)
        total.counts[f"{variant}: kills"] += len(seeds)
        total.counts[f"{variant}: caught"] += seen
        if seen < len(seeds) / 2:
            total.violations.append(f"{variant} failed the checker {seen} times of {len(seeds)}")
    return total


def _signals(options: argparse.Namespace) -> Tally:
    total = Tally()
    for way in signals.WAYS:
        unit = partial(signals.unit, way=way, parallelism=options.parallelism)
        # Most of the time is waiting: more of them than cores.
        total.add(spread(unit, _seeds(options, options.signals), 2 * options.jobs))
    return total


def _github(options: argparse.Namespace) -> Tally:
    return spread(signals.github, _seeds(options, options.github), 5 * options.jobs)


def _streams(options: argparse.Namespace) -> Tally:
    total = Tally()
    for way in streams.WAYS:
        for json in (True, False):
            total.add(streams.unit(options.seed, way=way, json=json))
    return total


def _replies(options: argparse.Namespace) -> Tally:
    total = Tally()
    for part in (replies.malformed, replies.refusals, replies.cuts, replies.redirects):
        total.add(part())
    return total


def _locks(options: argparse.Namespace) -> Tally:
    return locks.race(options.seed, turns=options.turns)


def _pauses(options: argparse.Namespace) -> Tally:
    return spread(locks.pause, _seeds(options, options.pauses), 2 * options.jobs)


def _disks(options: argparse.Namespace) -> Tally:
    def parts() -> Iterator[Tally]:
        yield spread(disks.calls, _seeds(options, max(1, options.disks // 5)), options.jobs)
        yield disks.emergency(options.seed)
        for part in (disks.small_files, disks.small_disks):
            yield spread(part, _seeds(options, -(-options.disks // 10)), options.jobs)

    total = Tally()
    for tally in parts():
        total.add(tally)
    return total


def _restores(options: argparse.Namespace) -> Tally:
    kills = partial(restores.unit, kills=KILLS_A_UNIT)
    total = spread(kills, _seeds(options, -(-options.restores // KILLS_A_UNIT)), options.jobs)
    disks_of = -(-options.disks // 10)
    total.add(spread(restores.small_disk, _seeds(options, disks_of), options.jobs))
    return total


def _schedules(options: argparse.Namespace) -> Tally:
    """From the batch that holds the first seed."""
    first = options.seed // simulation.BATCH
    batches = -(-options.seeds // simulation.BATCH)
    return spread(simulation.unit, range(first, first + batches), options.jobs)


def _planted(options: argparse.Namespace) -> Tally:
    return spread(simulation.planted, range(len(planted.FAULTS)), options.jobs)


def _databases(options: argparse.Namespace) -> Tally:
    kills_ = -(-options.kills // 25)
    unit = partial(databases.unit, kills_=kills_, turns=4 * options.turns)
    total = spread(unit, _seeds(options, 2), options.jobs)
    total.add(databases.controls(options.seed))
    return total


def _buckets(options: argparse.Namespace) -> Tally:
    """Losses in processes, and every server that is installed."""
    runs = -(-options.appends // buckets.WRITES)
    total = spread(buckets.unit, _seeds(options, runs), options.jobs)
    for kind in buckets.KINDS:
        total.add(buckets.locked(options.seed, kind=kind, turns=-(-options.appends // 12)))
    for variant in buckets.PLANTED:
        if not buckets.lossy(options.seed, variant=variant).violations:
            total.violations.append(f"{variant.__name__} was not noticed")
    for name in buckets.SERVERS:
        total.add(buckets.conformance(name, races=20 if name == "SeaweedFS" else 150))
    return total


def _objectlogs(options: argparse.Namespace) -> Tally:
    def parts() -> Iterator[Tally]:
        runs = partial(objectlogs.explored, most_runs=options.orders)
        yield spread(runs, range(len(objectlogs.CASES)), options.jobs)
        yield spread(objectlogs.planted, range(len(PLANTED)), options.jobs)
        yield spread(objectlogs.killed, _seeds(options, -(-options.kills // 100)), 1)
        yield spread(objectlogs.stopped, _seeds(options, -(-options.pauses // 10)), 1)
        yield objectlogs.large()

    total = Tally()
    for tally in parts():
        total.add(tally)
    return total


CAMPAIGNS: dict[str, Campaign] = {
    "schedules": _schedules,
    "planted": _planted,
    "kills": _kills,
    "controls": _controls,
    "signals": _signals,
    "github": _github,
    "streams": _streams,
    "replies": _replies,
    "locks": _locks,
    "pauses": _pauses,
    "disks": _disks,
    "restores": _restores,
    "buckets": _buckets,
    "objectlogs": _objectlogs,
    "databases": _databases,
}

if __name__ == "__main__":
    sys.exit(main())
