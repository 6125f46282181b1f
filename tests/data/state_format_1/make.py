"""Writes the states of format 1 beside this file, with the code that wrote that format.

Run it with the released code, revision 219015b, from a worktree of that revision with its own virtual
environment::

    git worktree add ../released 219015b && make -C ../released .venv/ready
    ../released/.venv/bin/python tests/data/state_format_1/make.py

It refuses to run with any other format. README.md, beside it, says what each state holds. Each command runs
in a process of its own: this file again, which fixes the clock, random bytes, host and process number, and
then calls the program. So the files are nearly the same at each run; the order of requests may differ.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
START = 1_760_000_000.0
"""Unix time of the first command: 2025-10-09 08:53:20 UTC."""
DAY = 86_400.0
APP_ID = "0a0b0c0d-0000-4000-8000-00000000a991"
KILLED, AWAY = -signal.SIGKILL, 5
"""How a command may end."""


# --- one command of the released program, in a process of its own --------------------------------


def run_program(words: Sequence[str]) -> None:
    """Calls the program with a fixed environment. ``words``: options, ``--``, the program's own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--now", type=float, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--kill-at", type=int, help="The first of three requests never answered.")
    split = words.index("--")
    options = parser.parse_args(words[:split])
    fix_environment(options.now, options.seed)

    from reconciler import emulator, store

    store._process = lambda pid: "11111111-1111-1111-1111-111111111111 pid:[1] 1"
    faults: Any = [emulator.parse_fault(text) for text in options.fault]
    if options.kill_at is not None:
        faults = KillWithThreeInFlight(options.kill_at)
    start = emulator.EmulatorServer.__init__
    emulator.EmulatorServer.__init__ = lambda self, inner: start(self, inner, faults=faults)

    from reconciler.__main__ import main

    sys.argv = ["reconcile", *words[split + 1 :]]
    main()


def fix_environment(now: float, seed: str) -> None:
    """Fixes what differs between runs. Must run before anything of the program is imported, because the
    program's functions hold the clock as a default argument."""
    ticks = itertools.count()
    time.time = lambda: now + next(ticks) / 1024
    blocks = itertools.count()

    def random_bytes(size: int) -> bytes:
        return hashlib.shake_128(f"{seed}/{next(blocks)}".encode()).digest(size)

    os.urandom = random_bytes
    os.getpid = lambda: 4242
    socket.gethostname = lambda: "build-host"


class KillWithThreeInFlight:
    """A hook around the emulator. From request ``first`` on it answers nothing; once three requests wait,
    the second by name takes effect and this process is killed."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._requests = itertools.count()
        self._waiting: list[tuple[str, Callable[[], Any]]] = []
        self._guard = threading.Lock()

    def around(self, received: Any, answer: Callable[[], Any]) -> Any:
        if next(self._requests) < self._first:
            return answer()
        with self._guard:
            self._waiting.append((received.address, answer))
            if len(self._waiting) == 3:
                _, (_, take_effect), _ = sorted(self._waiting, key=lambda pair: pair[0])
                take_effect()
                os.kill(int(os.readlink("/proc/self")), signal.SIGKILL)
        return threading.Event().wait()  # never answered


# --- a project that the program works on ---------------------------------------------------------


class Project:
    """A folder with a configuration, profile files and a state; each command comes a day later."""

    def __init__(self, folder: Path, *, name: str, dialect: str = "guide") -> None:
        self.folder, self.name, self.dialect = folder, name, dialect
        self.commands = 0
        self.now = START
        self.plans: dict[str, list[str]] = {}
        self.write_config("reconcile.yaml", "profiles")
        with self.remote():  # the first to open the emulator's file decides on the application
            pass

    def write_config(self, name: str, profiles: str) -> None:
        (self.folder / name).write_text(
            CONFIG.format(profiles=profiles, dialect=self.dialect), "utf-8"
        )

    def write(self, files: Mapping[str, str], *, to: str = "profiles") -> None:
        """Puts these files in the place of all profile files."""
        shutil.rmtree(self.folder / to, ignore_errors=True)
        for name, text in files.items():
            path = self.folder / to / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")

    def run(self, *words: str, code: int = 0, faults: Sequence[str] = (), **options: Any) -> str:
        """What a command prints. Raises SystemExit where it ends with another code."""
        self.commands += 1
        self.now += DAY
        settings = ["--now", f"{self.now}", "--seed", f"{self.name} {self.commands}"]
        settings += [word for fault in faults for word in ("--fault", fault)]
        if "kill_at" in options:
            settings += ["--kill-at", str(options["kill_at"])]
        done = subprocess.run(
            [sys.executable, str(HERE / "make.py"), *settings, "--", *words],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            input=options.get("stdin"),
            timeout=60,
            check=False,
        )
        if done.returncode != code:
            sys.exit(
                f"{words} ended with {done.returncode}, not {code}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def apply(self, *words: str, parallelism: int = 1, **options: Any) -> str:
        command = ["apply", "--auto-approve", "--parallelism", str(parallelism), *words]
        return self.run(*command, **options)

    @contextmanager
    def remote(self, *, new_id: str | None = None) -> Iterator[Any]:
        """The emulator that the project applies to, for writes that are not ours."""
        from reconciler.emulator import Emulator

        (self.folder / ".reconcile").mkdir(exist_ok=True)
        emulator = Emulator(
            dialect=self.dialect,
            db=self.folder / ".reconcile" / "emulator.db",
            app_id=APP_ID,
            clock=lambda: self.now,
            new_id=lambda: uuid.UUID(new_id or str(uuid.uuid4())),
        )
        try:
            yield emulator
        finally:
            emulator.close()

    def send(self, method: str, customer: str, body: Any = None, **options: Any) -> None:
        """A write by somebody else."""
        headers = {
            "Authorization": "Api-Key somebody-else",
            "adapty-customer-user-id": customer,
            "Content-Type": "application/json",
        }
        content = b"" if body is None else json.dumps(body).encode()
        with self.remote(**options) as emulator:
            answer = emulator.handle(method, "/api/v2/server-side-api/profile/", headers, content)
        if answer.status >= 300:
            sys.exit(f"{method} {customer}: {answer.status} {answer.body!r}")

    # What the released program says of the state

    def plan(self, name: str, *words: str, config: str = "reconcile.yaml") -> None:
        """Keeps the plan that a command prints, and the command itself in ``plans.json``."""
        command = ["--config", config, "plan", "--format", "json", "--no-cache", *words]
        before = self.state_bytes()
        (self.folder / name).write_text(self.run(*command), "utf-8")
        assert self.state_bytes() == before, "a plan changed the state"
        self.plans[name] = command

    def describe(self) -> None:
        """Keeps what the commands about the state print."""
        export = self.run("state", "pull")
        addresses = [record["address"] for record in json.loads(export)["profiles"]]
        details = {address: self.run("state", "show", address) for address in addresses}
        for name, text in {
            "export.json": export,
            "list.txt": self.run("state", "list"),
            "list.json": self.run("state", "list", "--format", "json"),
            "show.json": as_json(details),
            "plans.json": as_json(self.plans),
        }.items():
            (self.folder / name).write_text(text, "utf-8")

    def state_bytes(self) -> bytes:
        return (self.folder / "state.db").read_bytes()

    def publish(self) -> None:
        """Puts the project beside this file, without the emulator's data and the caches."""
        self.describe()
        assert not (self.folder / "state.db-journal").exists(), (
            "the state is in the middle of a write"
        )
        target = HERE / self.name
        shutil.rmtree(target, ignore_errors=True)
        leave = shutil.ignore_patterns(".reconcile", "*.index*", "*.cache", "*.claims")
        shutil.copytree(self.folder, target, ignore=leave)
        for path in target.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)


def environment() -> dict[str, str]:
    """The variables of a command: none of a build system, and none of the program's."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {
        "USER": "someone",
        "LOGNAME": "someone",
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


# --- the states ----------------------------------------------------------------------------------

CONFIG = """\
version: 1
profiles: {profiles}
default_environment: local
variables: {{tier: gold, level: 3}}
personal_data: {{guard: "off"}}
environments:
  local:
    api: {{url: emulator, dialect: {dialect}, timeout: 1, quiet_period: 60}}
    state: {{url: sqlite:///state.db}}
    limits: {{max_delete: 100%}}
"""

ANONYMOUS = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
LINKED = "5b1d8e6e-93b5-4d5c-8d9e-0f6d3a7c1e22"

ORDINARY = {
    "everything.yaml": """\
customer_user_id: everything
platform: iOS
first_name: Jane
last_name: O'Neil-Müller 李小龍 👩‍🚀
gender: f
email: jane.doe@example.com
phone_number: "+12025550123"
birthday: "2000-12-31"
ip_country: FR
store_country: US
store: app_store
analytics_disabled: false
custom_attributes:
  favourite_sport: "yoga \\"and\\" chess\\\\"
  level: 5
  beta: true
  "off": false
  zero: 0
  negative: -12.5
  ratio: 0.1
  small: 1.0e-7
  large: 123456789012
  text_number: "5"
  norway: "NO"
  key.with-all_kinds.09: x
installation_meta:
  device_id: 9b2c1d70-0000-4000-8000-000000000001
  device: iPhone 15
  locale: en
  os: "17.1"
  platform: iOS
  timezone: Europe/Rome
  user_agent: App/1.0 (iPhone; iOS 17.1)
meta:
  labels: [qa, smoke, A.b_c-1]
""",
    "cleared.yaml": """\
customer_user_id: cleared
first_name: null
email: null
ip_country: DE
custom_attributes: {gone: null, kept: "yes"}
installation_meta: {device_id: 9b2c1d70-0000-4000-8000-000000000002, locale: "", os: "17"}
---
customer_user_id: removed-from-the-file
first_name: Rem
last_name: Oved
ip_country: IT
birthday: "1999-01-01"
custom_attributes: {first: 1, second: 2, third: three}
meta: {labels: [removal]}
""",
    "meta.yaml": """\
customer_user_id: protected
first_name: Pro
ip_country: ES
meta: {protect: true, labels: [staff]}
---
customer_user_id: expires-late
first_name: Exp
ip_country: ES
meta: {expires: "2099-12-31T18:00Z"}
---
customer_user_id: expires-on-a-day
first_name: Day
ip_country: ES
meta: {expires: "2098-01-31"}
---
customer_user_id: lives-long
first_name: Ttl
ip_country: ES
meta: {ttl: 99999d, labels: [qa]}
---
customer_user_id: forgets
first_name: For
birthday: "1990-05-05"
ip_country: GB
custom_attributes: {keep: 1, let_go: 2}
---
customer_user_id: exclusive
first_name: Exc
ip_country: GB
custom_attributes: {only: this}
meta: {exclusive: [custom_attributes]}
---
customer_user_id: nothing-but-a-name
---
customer_user_id: "odd/id?with=all&kinds#of;chars%20@example.com"
first_name: Odd
ip_country: GB
""",
    "anonymous.yaml": f"""\
profile_id: {ANONYMOUS}
first_name: Ano
ip_country: NL
custom_attributes: {{anonymous: true}}
---
customer_user_id: linked
profile_id: {LINKED}
first_name: Lin
ip_country: NL
""",
    "team/_defaults.yaml": """\
ip_country: PT
custom_attributes: {team: blue, tier: "${var.tier}"}
meta: {labels: [team]}
""",
    "team/users.yaml": """\
for_each: 12
customer_user_id: team-{index:03}
first_name: Member {index}
custom_attributes: {number: "{index}", level: "${var.level}"}
---
for_each:
  - {name: ana, tier: platinum, score: 1.5}
  - {name: ben, tier: silver, score: 2}
customer_user_id: "named-{item.name}"
first_name: "{item.name}"
custom_attributes: {tier: "{item.tier}", score: "{item.score}"}
""",
}

FORGOTTEN = """\
custom_attributes: {keep: 1}
meta: {forget: [birthday, custom_attributes.let_go]}
"""


def forgetting(files: Mapping[str, str]) -> dict[str, str]:
    """The files once ``forgets`` lets two fields go."""
    text = files["meta.yaml"].replace('birthday: "1990-05-05"\n', "")
    text = text.replace("custom_attributes: {keep: 1, let_go: 2}\n", FORGOTTEN)
    return {**files, "meta.yaml": text}


def with_edits(files: Mapping[str, str]) -> dict[str, str]:
    """The files with every kind of edit."""
    changes = {
        "everything.yaml": [
            ("first_name: Jane", "first_name: Janet"),
            ("level: 5", "level: 6"),
            ("beta: true", "beta: 'true'"),
            ("ratio: 0.1", "ratio: 0.2"),
            ("  zero: 0\n", ""),
            ("phone_number: \"+12025550123\"\n", ""),
            ("os: \"17.1\"", "os: \"18\""),
            ("  timezone: Europe/Rome\n", ""),
            ("qa, smoke", "qa"),
        ],
        "cleared.yaml": [("first_name: null", "first_name: Back"), ("last_name: Oved\n", ""),
                         ("birthday: \"1999-01-01\"\n", ""), ("first: 1, second: 2, ", ""),
                         ("meta: {labels: [removal]}", "meta: {forget: [birthday]}")],
        "meta.yaml": [("protect: true, ", ""), ("2099-12-31T18:00Z", "2099-12-31"),
                      ("ttl: 99999d", "ttl: 88888d"), ("forget: [birthday, ", "forget: [")],
        "team/_defaults.yaml": [("team: blue", "team: red")],
        "team/users.yaml": [("for_each: 12", "for_each: 10"), ("ben, tier: silver", "bob, tier: tin")],
    }  # fmt: skip
    texts = dict(files)
    for name, pairs in changes.items():
        for before, after in pairs:
            assert before in texts[name], (name, before)
            texts[name] = texts[name].replace(before, after)
    return texts | {"new.yaml": "customer_user_id: brand-new\nfirst_name: New\nip_country: SE\n"}


def make_applied(project: Project) -> None:
    """Every kind of profile, all applied."""
    for profile_id in (ANONYMOUS, LINKED):
        with project.remote(new_id=profile_id) as emulator:
            emulator.add_anonymous()
    project.write(ORDINARY)
    project.apply()
    project.send("PATCH", "everything", {"custom_attributes": [{"key": "foreign", "value": "x"}]})
    final = forgetting(ORDINARY)
    project.write(final)
    project.run("refresh")
    project.apply()
    project.plan("plan.json")
    project.plan("reassert.json", "--reassert")
    project.write_config("edited.yaml", "edited")
    project.write(with_edits(final), to="edited")
    project.plan("edited.json", config="edited.yaml")
    project.plan("edited-prune.json", "--prune", config="edited.yaml")


def user(name: str, *lines: str) -> str:
    return "\n".join([f"customer_user_id: {name}", "ip_country: FR", *lines, ""])


def files_of(*profiles: str) -> dict[str, str]:
    return {"users.yaml": "---\n".join(profiles)}


def make_uncertain(project: Project) -> None:
    """Outcomes that nobody knows: of updates, a clearing, a creation, a link and a deletion; and marks of
    writes that may still land late, also on profiles whose repeated write succeeded."""
    with project.remote(new_id=LINKED) as emulator:
        emulator.add_anonymous()
    stays = user("stays", "first_name: Stays", "custom_attributes: {a: 1}")
    before = [
        user("clears", "first_name: Clears", "email: c@example.com", "custom_attributes: {a: 1}"),
        user("deletes", "first_name: Deletes"),
        user("updates", "first_name: One", "custom_attributes: {a: 1, b: text, c: 0.5}"),
        user("updates-late", "first_name: One", "custom_attributes: {a: 1}"),
        user("repeats", "first_name: One", "custom_attributes: {a: 1}"),
        user("refused", "first_name: One"),
    ]
    project.write(files_of(stays, *before))
    project.apply()
    after = [
        user("clears"),
        user("updates", "first_name: Two", "custom_attributes: {a: 2, b: other, c: 0.5, d: true}"),
        user("updates-late", "first_name: Two", "custom_attributes: {a: 1}"),
        user("repeats", "first_name: Two", "custom_attributes: {a: 2}"),
        user("refused", "first_name: Two"),
        user("creates", "first_name: New", "custom_attributes: {a: 1}"),
        user("creates-late", "first_name: New"),
        user("links", f"profile_id: {LINKED}", "first_name: Link"),
    ]
    project.write(files_of(stays, *after))
    # One apply each: after several lost requests in a row the program takes the API to be away.
    for name in ("clears", "updates", "creates", "links", "deletes"):
        lose = f"reset-after:address={name}"
        project.apply("--prune", "--select", name, code=AWAY, faults=[lose])
    for name in ("updates-late", "creates-late"):
        lose = f"reset-before:address={name}"
        project.apply("--select", name, code=AWAY, faults=[lose])
    project.apply("--select", "repeats", faults=["reset-after:address=repeats:times=1"])
    project.apply("--select", "refused", code=1, faults=["422:address=refused"])
    project.plan("plan.json")
    project.plan("prune.json", "--prune")
    project.plan("reassert.json", "--reassert")
    # A plan over uncertain facts where the files ask for the values of the lost write, and for others.
    third = [text.replace("Two", "Three").replace("a: 2", "a: 3") for text in after]
    project.write_config("edited.yaml", "edited")
    project.write(files_of(stays, *third), to="edited")
    project.plan("edited.json", config="edited.yaml")


def make_killed(project: Project) -> None:
    """An apply killed with three requests under way: intents without outcomes, and its lock."""
    first = [
        user(f"user-{n:02}", f"first_name: N{n}", "custom_attributes: {number: 1}")
        for n in range(9)
    ]
    project.write(files_of(*first))
    project.apply()
    second = [
        text.replace("number: 1", "number: 2").replace("first_name: N", "first_name: M")
        for text in first
    ]
    new = [user(f"user-{n:02}", "first_name: New") for n in range(9, 12)]
    project.write(files_of(*second, *new))
    project.apply(parallelism=3, kill_at=4, code=KILLED)
    project.plan("plan.json")
    project.plan("reassert.json", "--reassert")


def make_history(project: Project) -> None:
    """Many applies in the other dialect, backups, failures, and profiles gone or made anew elsewhere."""
    common = ["att_status: 3", "ip_v4_address: 192.0.2.7", "store_account_token: " + ANONYMOUS]
    profiles = {
        "plain": user("plain", "first_name: P", *common, "custom_attributes: {a: 1}"),
        "gone": user("gone", "first_name: G", "custom_attributes: {a: 1}"),
        "anew": user("anew", "first_name: A", "email: a@example.com", "custom_attributes: {a: 1}"),
        "foreign": user("foreign", "first_name: F", "custom_attributes: {a: 1}"),
        "drifted": user("drifted", "first_name: D", "custom_attributes: {a: 1, b: x}"),
        "short": user("short", "first_name: S", "meta: {ttl: 2h}"),
        "let-go": user("let-go", "first_name: L"),
        "dropped": user("dropped", "first_name: X"),
        "fails": user("fails", "first_name: One"),
    }
    project.write(files_of(*profiles.values()))
    project.apply()
    project.send("DELETE", "gone")
    project.send("DELETE", "anew")
    project.send("POST", "anew", {"first_name": "Other"}, new_id=LINKED)
    keys = [("zz", "last"), ("aa", "first")]
    attributes = [{"key": key, "value": value} for key, value in keys]
    project.send("PATCH", "foreign", {"custom_attributes": attributes})
    project.send("PATCH", "drifted", {"custom_attributes": [{"key": "b", "value": "y"}]})
    project.run("refresh")
    project.run("state", "rm", "let-go")
    project.run("sweep", "--auto-approve")
    del profiles["let-go"], profiles["short"], profiles["dropped"]
    project.write(files_of(*profiles.values()))
    project.apply("--prune", "--exclude", "gone", "--exclude", "anew", "--exclude", "drifted")
    for number in range(3):
        profiles["plain"] = profiles["plain"].replace(f"a: {number + 1}", f"a: {number + 2}")
        project.write(files_of(*profiles.values()))
        project.apply("--select", "plain")
    profiles["fails"] = profiles["fails"].replace("One", "Two")
    project.write(files_of(*profiles.values()))
    project.apply("--select", "fails", code=1, faults=["400:address=fails"])
    project.run("state", "push", stdin=project.run("state", "pull"))
    del profiles["foreign"]
    profiles["late"] = user("late", "first_name: Late", "birthday: null")
    project.write(files_of(*profiles.values()))
    project.plan("plan.json")
    project.plan("prune.json", "--prune")
    project.plan("reassert.json", "--reassert")


def make_empty(project: Project) -> None:
    """A state that was initialised and holds no record any more."""
    project.write(files_of(user("only", "first_name: Only")))
    project.apply()
    project.run("state", "rm", "only")
    for backup in project.folder.glob("state.db.backup-*"):
        backup.unlink()
    project.plan("plan.json")


def make_untouched(project: Project) -> None:
    """A state file whose tables are made and into which nothing was ever written."""
    from reconciler.store import Holder, SqliteStore

    store = SqliteStore(project.folder / "state.db", environment="local")
    with store.lock(Holder("someone", "build-host", 4242, "apply"), now=lambda: START):
        pass
    store.close()
    project.write(files_of(user("only", "first_name: Only")))
    project.plan("plan.json")


STATES = {
    "applied": make_applied,
    "uncertain": make_uncertain,
    "killed": make_killed,
    "history": make_history,
    "empty": make_empty,
    "untouched": make_untouched,
}


def main() -> None:
    from reconciler.state import FORMAT_VERSION

    if FORMAT_VERSION != 1:
        sys.exit(f"this program writes format {FORMAT_VERSION}: run with revision 219015b")
    for name, make in STATES.items():
        with tempfile.TemporaryDirectory() as folder:
            project = Project(
                Path(folder), name=name, dialect="openapi" if name == "history" else "guide"
            )
            make(project)
            project.publish()
        print(f"{name}: {project.commands} commands")


if __name__ == "__main__":
    if sys.argv[1:]:
        run_program(sys.argv[1:])
    else:
        main()
