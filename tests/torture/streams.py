"""Output that goes nowhere: closed pipes, a full disk, closed descriptors, a locale that knows ASCII
only. Whatever becomes of the report, every outcome must be recorded."""

from __future__ import annotations

import random
import shlex

from tests.torture.checker import Checker
from tests.torture.kills import finish
from tests.torture.tally import Tally
from tests.torture.world import Files, Project, Remote, fresh_content, scratch

WAYS = {
    "pipe closed after a line": "{} | head -n 1",
    "pipe closed at once": "{} | true",
    "errors into a closed pipe": "{} 2>&1 >/dev/null | true",
    "both into a closed pipe": "{} 2>&1 | true",
    "output to a full disk": "{} >/dev/full",
    "errors to a full disk": "{} 2>/dev/full",
    "both to a full disk": "{} >/dev/full 2>&1",
    "output closed": "{} >&-",
    "errors closed": "{} 2>&-",
    "all closed": "{} <&- >&- 2>&-",
    "ASCII locale": "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {}",
    "ASCII locale, strict": "PYTHONIOENCODING=ascii:strict {}",
}


def unit(seed: int, *, way: str, json: bool) -> Tally:
    """One apply whose output is spoilt in one way."""
    tally = Tally()
    reproduction = f"streams.unit({seed}, {way=}, {json=})"
    rng = random.Random(seed)
    with scratch() as folder:
        remote = Remote()
        project = Project(folder, remote)
        files = Files(rng, 12)
        checker = Checker(project)
        command = [word for word in project.command if json or word != "--json"]
        with project.served():
            for round in range(2):
                files.edit(1.0 if round == 0 else 0.7)
                for profile in files.desired.values():
                    profile["last_name"] = "Zoë \N{SNOWMAN}"
                project.write(files.desired)
                run = project.start(["bash", "-c", WAYS[way].format(shlex.join(command))])
                found = checker.check(run.wait())
                if not project.plan_is_empty():
                    found.append("not everything was applied")
                elif remote.content() != fresh_content(files.desired):
                    found.append("the remote does not hold what a fresh one would")
                tally.counts["runs"] += 1
                tally.blame(reproduction, found)
            tally.blame(reproduction, finish(project, checker, files))
        remote.close()
    return tally
