"""One writer: processes that race for the lock, and a holder that is stopped and wakes too late."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.torture.checker import Checker
from tests.torture.kills import finish
from tests.torture.tally import Tally
from tests.torture.world import Ended, Files, Project, Remote, scratch

_GARBLED = ("database is locked", "SQLITE_BUSY", "Traceback")


def race(seed: int, *, processes: int = 8, turns: int = 50) -> Tally:
    """Processes with a folder and a key each, one state and one remote: every turn edits the files and
    applies until the lock was free."""
    tally = Tally()
    reproduction = f"locks.race({seed}, {processes=}, {turns=})"
    with scratch() as folder:
        remote = Remote()
        waits = random.Random(seed)
        remote.after = lambda: waits.random() * 0.01
        with Project(folder, remote).served():
            url = _url(folder)
            racers = [
                threading.Thread(
                    target=_turns, args=(tally, folder, remote, url, seed, number, turns)
                )
                for number in range(processes)
            ]
            for racer in racers:
                racer.start()
            for racer in racers:
                racer.join()
        blocks = [key for key, _ in groupby(effect.key for effect in remote.effects)]
        mixed = len(blocks) - len(set(blocks))
        if mixed:
            tally.blame(reproduction, [f"{mixed} runs were interrupted by another one"])
        if tally.counts["applied"] != processes * turns:
            tally.blame(reproduction, ["not every turn came to its end"])
        remote.close()
    return tally


def _url(folder: Path) -> str:
    import json

    settings: Any = json.loads((folder / "reconcile.yaml").read_text())
    (environment,) = settings["environments"].values()
    return str(environment["api"]["url"])


def _turns(
    tally: Tally, folder: Path, remote: Remote, url: str, seed: int, number: int, turns: int
) -> None:
    rng = random.Random(f"{seed} {number}")
    project = Project(folder / f"racer{number}", remote, database="../state.db")
    project.configure(url)
    files = Files(rng, 4, prefix=f"r{number}-")
    command = [word for word in project.command if word not in ("--prune", "--include-adopted")]
    for turn in range(turns):
        files.edit(1.0)
        project.write(files.desired)
        for attempt in range(1000):
            key = f"secret_live_{number}_{turn}_{attempt}"
            ended = project.start(
                command, environ={"TORTURE_KEY": key, "RECONCILE_ALLOW_OUTSIDE": "true"}
            ).wait()
            if ended.code == 0:
                tally.counts["applied"] += 1
                break
            tally.counts["locked out"] += 1
            problems = _problems_of_a_refusal(ended)
            if problems:
                tally.blame(f"locks.race({seed})", problems)
                return
            time.sleep(rng.random() * 0.05)


def _problems_of_a_refusal(ended: Ended) -> list[str]:
    problems = [f"{text!r} reached the user" for text in _GARBLED if text in ended.err]
    if ended.code != 6 or "locked by" not in ended.err or "state unlock" not in ended.err:
        problems.append(f"locked out with {ended.code}: {ended.err.strip()[-200:]}")
    return problems


def pause(seed: int, *, lease: float = 1.0) -> Tally:
    """A holder that is stopped until its lease is over, overtaken, and woken: it writes nothing more,
    and no new request of it leaves."""
    tally = Tally()
    rng = random.Random(seed)
    with scratch() as folder:
        remote = Remote()
        remote.after = lambda: 0.02
        project = Project(folder, remote)
        project.program = (sys.executable, "-m", "tests.torture.program", f"lease={lease}")
        files = Files(rng, 16)
        checker = Checker(project)
        with project.served():
            files.edit(1.0)
            project.write(files.desired)
            holder = project.start()
            remote.wait_for(rng.randint(1, 20), until=lambda: holder.ended)
            time.sleep(rng.random() * 0.02)
            holder.send(signal.SIGSTOP)
            time.sleep(lease + 0.3)
            remote.settle()
            second = Project(folder, remote, project.parallelism, output="second")
            second.program = project.program
            found = finish(second, checker, files)
            if found and "busy" in "".join(found):
                # Stopped within a transaction: nobody can write until it wakes or dies.
                tally.counts["stopped while writing"] += 1
                holder.send(signal.SIGCONT)
                holder.wait()
                remote.close()
                return tally
            before = _all_of(project)
            sent = len(remote.arrivals)
            holder.send(signal.SIGCONT)
            ended = holder.wait()
            remote.settle()
            if _all_of(project) != before:
                found.append("the overtaken holder wrote to the state")
            late = len(remote.arrivals) - sent
            if late > project.parallelism:
                found.append(f"the overtaken holder sent {late} requests after it woke")
            if ended.code == 0 or any(text in ended.err for text in _GARBLED):
                found.append(f"the overtaken holder ended with {ended.code}: {ended.err[-200:]}")
            found += finish(project, checker, files)
            tally.counts["paused"] += 1
        remote.close()
    tally.blame(f"locks.pause({seed}, {lease=})", found)
    return tally


def _all_of(project: Project) -> tuple[list[Any], list[Any]]:
    return project.records(), project.journal()
