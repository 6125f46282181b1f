"""A world of processes: an emulator that remembers every effect, a project folder, and the program.

The emulator runs here, the program under test in processes of its own, which can be killed.
"""

from __future__ import annotations

import json
import os
import pty
import random
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.core.outcomes import Outcome
from reconciler.core.records import JournalEntry, Record
from reconciler.emulator import Answer, Emulator, EmulatorServer, parse_fault
from reconciler.state.location import StateLocation
from reconciler.state.opening import open_store
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Store
from reconciler.workspace.facade import Workspace
from tests.support.command_line import PROGRAM
from tests.support.places import homes_below
from tests.support.projects import ProjectFolder
from tests.support.worlds import World

ROOT = Path(__file__).parent.parent.parent
KEY = "secret_live_torture"
ENVIRONMENT = "torture"
APPLIED = tuple(outcome.value for outcome in Outcome if outcome.is_applied)
"""Outcomes of changes that were made."""
_NAMED = ("adapty-customer-user-id", "adapty-profile-id", "adapty-platform")


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder, in memory where there is such a place: a killed process loses nothing that
    it has written, whether or not it reached a disk, and an honest fsync takes 20 ms."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="torture-", dir=memory) as folder:
        yield Path(folder)


@dataclass(frozen=True, slots=True)
class Effect:
    """A request that the remote carried out or refused, in the order in which it did."""

    at: float
    """Monotonic seconds."""
    method: str
    headers: Mapping[str, str]
    body: Any
    status: int
    key: str

    @property
    def address(self) -> str:
        named = self.headers
        return named.get(_NAMED[0]) or f"profile:{named.get(_NAMED[1])}"

    @property
    def is_write(self) -> bool:
        """Whether it changed something."""
        return self.method != "GET" and 200 <= self.status < 300


class Remote(Emulator):
    """An emulator that keeps the order in which requests took effect, and takes its time.

    ``before`` and ``after`` give the seconds that a request waits before and after its effect.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.effects: list[Effect] = []
        self.arrivals: list[float] = []
        self.before: Callable[[], float] = lambda: 0.0
        self.after: Callable[[], float] = lambda: 0.0
        self.port: int | None = None
        """Where it is served."""
        self._order = threading.Lock()
        self._arrived = threading.Condition()

    def handle(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        **extra: Any,
    ) -> Answer:
        with self._arrived:
            self.arrivals.append(time.monotonic())
            self._arrived.notify_all()
        time.sleep(self.before())
        named = {name.lower(): value for name, value in headers.items()}
        with self._order:
            answer = super().handle(method, path, headers=headers, body=body, **extra)
            self.effects.append(
                Effect(
                    time.monotonic(),
                    method,
                    {name: named[name] for name in _NAMED if name in named},
                    json.loads(body) if body else None,
                    answer.status,
                    named.get("authorization", ""),
                )
            )
        time.sleep(self.after())
        return answer

    def settle(self) -> None:
        """Waits until all that was sent so far has taken effect, however late the server gets its turn:
        it reads what was sent to it before it answers somebody who comes now."""
        for _ in range(2):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port or 0)) as late:
                late.sendall(b"?\r\n\r\n")
                while late.recv(4096):
                    pass
        time.sleep(0.01)  # for the threads in which requests are carried out to begin
        while len(self.effects) < len(self.arrivals):
            time.sleep(0.005)

    def wait_for(self, arrivals: int, *, until: Callable[[], bool], seconds: float = 60.0) -> bool:
        """Waits until so many requests have arrived since the beginning, or ``until`` says so."""
        deadline = time.monotonic() + seconds
        with self._arrived:
            while len(self.arrivals) < arrivals:
                if until() or time.monotonic() > deadline:
                    return False
                self._arrived.wait(0.02)
        return True


class Files:
    """Desired profiles, edited at random. Every value is used for one edit alone, so that a write can
    be told from every other one; except that an edit may take a profile back to what it was."""

    def __init__(self, rng: random.Random, profiles: int, *, prefix: str = "u") -> None:
        self._rng = rng
        self._names = [f"{prefix}{number:02}" for number in range(profiles)]
        self._fresh = 0
        self._past: dict[str, list[dict[str, Any]]] = {}
        self.desired: dict[str, dict[str, Any]] = {}

    def edit(self, share: float = 0.7) -> None:
        """Changes, adds or removes about ``share`` of all profiles; at least one stays."""
        rng = self._rng
        for name in self._names:
            if rng.random() >= share:
                continue
            now = self.desired.get(name)
            if now is not None and rng.random() < 0.15 and len(self.desired) > 1:
                del self.desired[name]
            elif name in self._past and rng.random() < 0.25:
                self.desired[name] = rng.choice(self._past[name])
            else:
                self.desired[name] = self._profile(name)
            if name in self.desired:
                self._past.setdefault(name, []).append(self.desired[name])
        if not self.desired:
            self.desired[self._names[0]] = self._profile(self._names[0])

    def _profile(self, name: str) -> dict[str, Any]:
        rng = self._rng
        self._fresh += 1
        profile: dict[str, Any] = {
            "customer_user_id": name,
            "first_name": f"{name} {self._fresh}",
        }
        if rng.random() < 0.7:
            profile["last_name"] = f"L {self._fresh}"
        attributes = {
            key: value
            for key, value in (("tier", f"t{self._fresh}"), ("level", float(self._fresh)))
            if rng.random() < 0.7
        }
        if attributes:
            profile["custom_attributes"] = attributes
        return profile


@dataclass
class Ended:
    """How a process ended: its code (negative for a signal), and what it printed."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The event stream on stdout; a line that was cut by a kill is left out."""
        events = []
        for line in self.out.splitlines():
            with suppress(ValueError):
                events.append(json.loads(line))
        return events

    @property
    def complete(self) -> bool:
        """Whether the last event says that every change was made."""
        last = self.events[-1:] or [{}]
        outcomes = last[0].get("outcomes")
        return outcomes is not None and not any(
            count for name, count in outcomes.items() if name not in {*APPLIED, "already"}
        )

    def told(self, *outcomes: str) -> set[str]:
        """Addresses of the changes that were reported with one of these outcomes."""
        return {
            event["address"]
            for event in self.events
            if event.get("type") == "change" and event.get("outcome") in outcomes
        }


@dataclass
class Project:
    """A project folder whose environment is the remote."""

    folder: Path
    remote: Remote
    parallelism: int = 4
    settings: dict[str, Any] = field(default_factory=dict)
    """Members of ``api`` in the configuration."""
    program: tuple[str, ...] = PROGRAM
    database: str = "state/state.db"
    state_url: str = ""
    """The address of a state that is no file."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """How that state is reached."""
    extra: tuple[str, ...] = ()
    """More options of an apply."""
    output: str = "output"
    """Stem of the files that hold what a process prints."""

    @property
    def state(self) -> Path:
        return self.folder / self.database

    @contextmanager
    def served(self, *faults: str, seed: int = 0) -> Iterator[None]:
        """The remote on a port, with faults in the words of the command line."""
        parsed = [parse_fault(text) for text in faults]
        with EmulatorServer(self.remote, faults=parsed, seed=seed) as server:
            self.configure(server.url)
            self.remote.port = server.port
            yield

    def configure(self, url: str) -> None:
        api = {"quiet_period": 0, "timeout": 5, "rate": "100000/s", **self.settings}
        environment = {
            "api": {"url": url, "key_env": "TORTURE_KEY", **api},
            "state": self._state_settings(),
            "limits": {"max_delete": "100%", "max_changes": 100_000},
        }
        settings = {
            "version": 1,
            "profiles": "profiles",
            "default_environment": ENVIRONMENT,
            "environments": {ENVIRONMENT: environment},
        }
        ProjectFolder(self.folder, settings)

    def _state_settings(self) -> dict[str, str]:
        return {"url_env": "STATE_URL"} if self.state_url else {"url": f"sqlite:///{self.database}"}

    def write(self, desired: Mapping[str, Mapping[str, Any]]) -> None:
        text = "---\n".join(json.dumps(desired[name]) + "\n" for name in sorted(desired))
        ProjectFolder(self.folder, None, profiles={"all": text})

    @property
    def command(self) -> list[str]:
        return [
            *self.program,
            "apply",
            "--auto-approve",
            "--prune",
            "--include-adopted",  # nobody else makes profiles here
            "--json",
            f"--parallelism={self.parallelism}",
            *self.extra,
        ]

    def environ(self, **extra: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        homes = homes_below(f"{self.folder}-homes")
        state = {"STATE_URL": self.state_url, **self.variables} if self.state_url else {}
        return {**kept, **homes, **state, "TORTURE_KEY": KEY, "PYTHONPATH": str(ROOT), **extra}

    def start(self, command: Sequence[str] | None = None, **options: Any) -> Run:
        """Starts an apply, or another command."""
        return Run(self, list(command or self.command), **options)

    def apply(self) -> Ended:
        """An apply that nobody disturbs."""
        return self.start().wait()

    # --- what is seen from outside -----------------------------------------------------------

    def has_state(self) -> bool:
        """Whether the state has begun."""
        if not self.state_url:
            return self.state.exists()
        with self._store() as store:
            return store.header().lineage is not None

    def journal(self) -> list[JournalEntry]:
        with self._store() as store:
            return list(store.journal())

    def records(self, path: Path | None = None) -> list[Record]:
        """The records of the state, or of a backup of it."""
        with self._store(path) as store:
            return list(store.records())

    @contextmanager
    def _store(self, path: Path | None = None) -> Iterator[Store]:
        store: Store
        if self.state_url and path is None:
            location = StateLocation(self.state_url, ENVIRONMENT, self.folder.with_suffix(".cache"))
            store = open_store(location, environ=self.environ())
        else:
            store = SqliteStore(path or self.state, environment=ENVIRONMENT)
        try:
            yield store
        finally:
            store.close()

    def plan_is_empty(self) -> bool:
        with Workspace.open(self.folder / "reconcile.yaml", environ=self.environ()) as workspace:
            return workspace.plan(prune=True).is_empty


def fresh_content(desired: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a fresh emulator holds that was given these profiles."""
    world = World()
    world.reach(*(dict(profile) for profile in desired.values()))
    try:
        return world.emulator.content()
    finally:
        world.emulator.close()


class Run:
    """A process under test, its output in files: no pipe that could fill or break."""

    def __init__(
        self,
        project: Project,
        command: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._out = project.folder / f"{project.output}.out"
        self._err = project.folder / f"{project.output}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            usual = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            self.process = subprocess.Popen(
                command,
                cwd=project.folder,
                env=project.environ(**(environ or {})),
                **{"start_new_session": True, **usual, **options},
            )

    def linger(self, seconds: float) -> None:
        """Waits so long, or until the process has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait_for_handlers(self) -> None:
        """Waits until the process catches SIGTERM, which no program does from its first instant on; or
        until it has ended."""
        while not self.ended:
            with suppress(OSError):
                status = Path(f"/proc/{self.process.pid}/status").read_text()
                caught = int(status.partition("SigCgt:")[2].split()[0], 16)
                if caught >> (signal.SIGTERM - 1) & 1:
                    return
            time.sleep(0.002)

    def send(self, number: int) -> None:
        """A signal to the process; nothing if it has ended."""
        if not self.ended:
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the process and everything that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self, seconds: float = 120.0) -> Ended:
        """The end of the process; after so long it is killed, and TimeoutError raised."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"still running after {seconds:g} s") from None
        return Ended(
            code,
            self._out.read_text("utf-8", "replace"),
            self._err.read_text("utf-8", "replace"),
        )


class Terminal:
    """A pseudoterminal whose output somebody reads, until it is closed as a window is."""

    def __init__(self, output: Path) -> None:
        self._ours, self.theirs = pty.openpty()
        self._output = output
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self, project: Project) -> Run:
        """An apply that has it as its terminal."""
        run = project.start(
            ["setsid", "--ctty", *project.command],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=False,  # setsid would fork
        )
        os.close(self.theirs)
        return run

    def close(self) -> None:
        self._closing.set()
        self._reader.join()

    def _read(self) -> None:
        # The descriptor is closed by who reads it: a pending read would keep the terminal open.
        with self._output.open("wb") as output:
            while not self._closing.is_set():
                if select.select([self._ours], [], [], 0.01)[0]:
                    try:
                        output.write(os.read(self._ours, 65536))
                    except OSError:
                        break
        os.close(self._ours)
