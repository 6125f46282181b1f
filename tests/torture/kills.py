"""kill -9 at random moments of real processes, and two deliberately broken programs for control."""

from __future__ import annotations

import random
import sys
import time

from reconciler.errors import ExitCode
from tests.torture.checker import Checker
from tests.torture.shared_states import shared_state
from tests.torture.tally import Tally
from tests.torture.world import Files, Project, Remote, fresh_content, scratch


def unit(
    seed: int,
    *,
    kills: int = 10,
    profiles: int = 24,
    parallelism: int = 4,
    variant: str | None = None,
    store: str = "sqlite",
) -> Tally:
    """A project that is edited, applied, killed and applied again, ``kills`` times.

    After a kill the files may change before the next run, which may itself be killed. A ``variant`` is
    a program broken on purpose (`tests.torture.program`); its checks end with the first violation. ``store``
    says where the state is: see `tests.torture.shared_states`.
    """
    tally = Tally()
    rng = random.Random(seed)
    reproduction = (
        f"kills.unit({seed}, {kills=}, {profiles=}, {parallelism=}, {variant=}, {store=})"
    )
    with scratch() as folder, shared_state(store) as state:
        remote = Remote()
        project = Project(
            folder, remote, parallelism, state_url=state.url, variables=state.variables
        )
        if variant is not None:
            project.program = (sys.executable, "-m", "tests.torture.program", variant)
        files = Files(rng, profiles)
        checker = Checker(project)
        waits = random.Random(seed)
        remote.before = lambda: waits.random() * 0.004
        remote.after = lambda: waits.random() * 0.004
        with project.served():
            while tally.counts["killed"] < kills and not tally.violations:
                files.edit()
                project.write(files.desired)
                while tally.counts["killed"] < kills:
                    killed, found = _kill_once(project, checker, rng)
                    tally.counts["killed"] += killed
                    tally.counts["left uncertain"] += checker.uncertain if killed else 0
                    tally.blame(reproduction, found)
                    if not killed or found or rng.random() < 0.6:
                        break
                    if rng.random() < 0.5:
                        files.edit(0.3)
                        project.write(files.desired)
                if not tally.violations:
                    tally.counts["finished"] += 1
                    tally.blame(reproduction, finish(project, checker, files))
        remote.close()
    return tally


def _kill_once(project: Project, checker: Checker, rng: random.Random) -> tuple[bool, list[str]]:
    """Whether the run was killed before its end, and what was wrong then."""
    remote = project.remote
    goal = len(remote.arrivals) + rng.randint(0, 30)
    pause = rng.random() * (0.3 if goal == len(remote.arrivals) else 0.004)
    run = project.start()
    remote.wait_for(goal, until=lambda: run.ended)
    time.sleep(pause)
    killed = not run.ended
    run.kill()
    remote.settle()
    return killed, checker.check(run.wait())


def finish(project: Project, checker: Checker, files: Files) -> list[str]:
    """What is wrong after a run that nobody disturbs: it must converge, and need nothing from a user."""
    ended = project.apply()
    found = checker.check(ended)
    if ended.code == ExitCode.REFUSED and not found:
        # A creation that was cut off and is in no file any more was only looked up.
        ended = project.apply()
        found = checker.check(ended)
    if ended.code != 0:
        found.append(f"the next run ended with {ended.code}: {ended.err.strip()[-200:]}")
    elif not project.plan_is_empty():
        found.append("the next run converged, and its plan is not empty")
    elif project.remote.content() != fresh_content(files.desired):
        found.append("the remote does not hold what a fresh one would")
    elif checker.uncertain:
        found.append(f"{checker.uncertain} profiles are uncertain after an undisturbed run")
    return found
