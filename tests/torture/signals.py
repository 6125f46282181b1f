"""SIGINT, SIGTERM, SIGHUP and closed terminals at random moments, once and twice, and what GitHub does."""

from __future__ import annotations

import random
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.torture.checker import Checker
from tests.torture.kills import finish
from tests.torture.tally import Tally
from tests.torture.world import Ended, Files, Project, Remote, Run, Terminal, scratch

LIMIT = 7.0
"""Seconds from the first signal to the end: GitHub asks a second time after 7.5 s."""
WAYS = ("SIGINT", "SIGTERM", "SIGHUP", "terminal")


@dataclass(frozen=True)
class Scene:
    """What the program is busy with when the signal comes."""

    name: str
    faults: tuple[str, ...] = ()
    reply: float = 0.004
    """Seconds that a reply takes at most."""
    rate: str = "100000/s"
    timeout: float = 30


SCENES = (
    Scene("at work"),
    Scene("back-off", faults=("503:rate=0.7",)),
    Scene("asked to wait", faults=("429:retry-after=30:rate=0.5",)),
    Scene("slow reply", reply=20.0),
    Scene("rate limit", rate="60/min"),
)


def unit(seed: int, *, way: str, scene: str | None = None, parallelism: int = 4) -> Tally:
    """One run that is interrupted in one way at a random moment, once or twice."""
    tally = Tally()
    rng = random.Random(f"{seed} {way}")
    drawn = rng.choice(SCENES)
    chosen = next((each for each in SCENES if each.name == scene), drawn)
    twice = rng.random() < 0.3
    told = f"{way}{' twice' if twice else ''} while {chosen.name}"
    reproduction = f"signals.unit({seed}, {way=}, scene={chosen.name!r}, {parallelism=})"
    with scratch() as folder:
        remote = Remote()
        project = Project(folder, remote, parallelism)
        project.settings = {"rate": chosen.rate, "timeout": chosen.timeout}
        files = Files(rng, 24)
        checker = Checker(project)
        waits = random.Random(seed)
        with project.served():
            files.edit(1.0)
            project.write(files.desired)
            remote.after = lambda: waits.random() * chosen.reply
            found: list[str] = []
            with project.served(*chosen.faults, seed=seed):
                seconds, late, ended = _interrupt(project, rng, way, twice)
            remote.after = lambda: 0.0
            project.settings = {}
        if ended is None:
            tally.counts["over before"] += 1
        else:
            tally.counts[told] += 1
            if ended.code != 130 and not (ended.code == 0 and ended.complete):
                said = ended.err.strip().splitlines()[-1:] or [""]
                found.append(f"{told}: ended with {ended.code}: {said[0][-200:]}")
            if seconds > LIMIT:
                found.append(f"{told}: ended after {seconds:.1f} s")
            if late > parallelism:
                found.append(f"{told}: {late} requests began after the signal")
            found += [f"{told}: {what}" for what in checker.check(ended)]
        with project.served():
            remote.settle()
            found += [f"{told}: then {what}" for what in finish(project, checker, files)]
        remote.close()
    tally.blame(reproduction, found)
    return tally


def _interrupt(
    project: Project, rng: random.Random, way: str, twice: bool
) -> tuple[float, int, Ended | None]:
    """Seconds from the signal to the end, requests that began after it, and the end; no end for a run
    that was over before the signal."""
    remote = project.remote
    run, strike = _start(project, way)
    remote.wait_for(len(remote.arrivals) + rng.randint(0, 12), until=lambda: run.ended, seconds=1)
    run.wait_for_handlers()
    time.sleep(rng.random() * rng.choice([0.005, 0.3]))
    if run.ended:
        run.wait()
        return 0.0, 0, None
    before = len(remote.arrivals)
    started = time.monotonic()
    strike()
    if twice:
        time.sleep(rng.random() * 0.5)
        strike()
    try:
        ended = run.wait(LIMIT + 23)
    except TimeoutError:
        ended = Ended(-signal.SIGKILL, "", "it did not end")
    seconds = time.monotonic() - started
    # A request that was on its way when the signal came is not counted: 50 ms for that.
    late = sum(1 for at in remote.arrivals[before:] if at > started + 0.05)
    remote.settle()
    return seconds, late, ended


def _start(project: Project, way: str) -> tuple[Run, Callable[[], None]]:
    """A run, and how to interrupt it."""
    if way != "terminal":
        run = project.start()
        return run, lambda: run.send(signal.Signals[way])
    terminal = Terminal(project.folder / "terminal")
    return terminal.start(project), terminal.close


def github(seed: int, *, patience: float = 7.5, mercy: float = 2.5) -> Tally:
    """What GitHub does to a cancelled job: SIGINT to the shell, SIGTERM after 7.5 s, and 2.5 s later the
    end of all processes. A shell that waits for its child passes none of the two on."""
    tally = Tally()
    rng = random.Random(seed)
    with scratch() as folder:
        remote = Remote()
        project = Project(folder, remote)
        files = Files(rng, 24)
        checker = Checker(project)
        project.settings = {"rate": "60/min"}
        with project.served():
            files.edit(1.0)
            project.write(files.desired)
            run = project.start(["bash", "-c", f"{shlex.join(project.command)}; exit $?"])
            remote.wait_for(rng.randint(1, 5), until=lambda: run.ended)
            time.sleep(rng.random() * 0.2)
            for number, pause in ((signal.SIGINT, patience), (signal.SIGTERM, mercy)):
                run.send(number)
                run.linger(pause)
            tally.counts["runs"] += 1
            run.kill()
            time.sleep(0.05)
            remote.settle()
            found = checker.check(run.wait())
            project.settings = {}
        with project.served():
            found += finish(project, checker, files)
        remote.close()
    tally.blame(f"signals.github({seed}, {patience=}, {mercy=})", found)
    return tally
