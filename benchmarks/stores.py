"""The same plans and applies over each kind of state, in one run: ``python -m benchmarks.stores
[--profiles N] [--changes N] [--latencies MS,MS] [--rounds N] [--write]``.

PostgreSQL comes from a wheel, the object server is the one of the tests (it speaks S3), and both are on this
machine. A latency is added on the way to them: by a relay for PostgreSQL, by the server for objects. The
API is `benchmarks.loopback` with calls of 150 ms. No real cloud was measured.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.apply import KEY, PER_MINUTE, loopback
from benchmarks.corpora import Corpus
from benchmarks.measuring import (
    Table,
    command,
    holds,
    numbers,
    parser,
    publish,
    rounds,
    run,
    say,
    scratch,
    seconds,
)
from benchmarks.planning import settle
from reconciler.state.location import StateLocation
from reconciler.state.opening import open_store
from tests.support.object_server import Faults, ObjectServer, url_for
from tests.support.postgres_server import new_schema, started

CALL = 0.15
"""Seconds of a call to the API."""
PLAN_LATENCY = 30
"""Milliseconds to the state for plans."""
SLOWER = 0.3
"""Seconds by which a warm plan over a distant state may take longer than over a file."""
SHARES = {5: 0.95, 100: 0.90}
"""The share of the rate that an apply has to reach, by milliseconds to the state."""
PRICES = {"GET": 0.0004e-3, "PUT": 0.005e-3}
"""US dollars of a request, from the list prices of S3 (as remembered; look at yours)."""


_numbers = itertools.count(1)
"""Of states: the program remembers each address, and refuses one whose state is gone."""


class Relay:
    """A port of this machine that leads to another one, and takes its time in each direction."""

    def __init__(self, port: int) -> None:
        self.seconds = 0.0
        self._target = port
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        ready.wait()

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._relay, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What was read later leaves later, and waits for nothing: only time is added, no bandwidth is taken.
        try:
            while data := await reader.read(1 << 16):
                self._loop.call_later(self.seconds / 2, writer.write, data)
        except OSError:
            pass
        finally:
            self._loop.call_later(self.seconds / 2, writer.close)


class Place(NamedTuple):
    """A kind of state, and how it is reached."""

    name: str
    new_url: Callable[[], str]
    """The address of another empty state."""
    slow: Callable[[float], None]
    """Sets the seconds that a round trip takes."""
    variables: Mapping[str, str] = {}
    requests: Callable[[], Counter[str]] = Counter
    """The requests that the state had, by method."""

    def environment(self, url: str) -> dict[str, str]:
        return {**KEY, **self.variables, "BENCH_STATE": url}

    def command(self, folder: Path, *words: str) -> list[str]:
        """The program with the configuration of this kind."""
        return command("--config", str(folder / f"{self.name}.yaml"), *words)

    def configure(self, folder: Path, url: str, *, api: str) -> None:
        """Writes the configuration: one environment with a state."""
        state = {"url": url} if url.startswith("sqlite:") else {"url_env": "BENCH_STATE"}
        environment = {
            "api": {"url": api, "key_env": "BENCH_KEY"},
            "limits": {"max_changes": 10_000_000},
            "state": state,
        }
        config = {"version": 1, "environments": {"bench": environment}}
        (folder / f"{self.name}.yaml").write_text(json.dumps(config), "utf-8")


@contextmanager
def places() -> Iterator[Sequence[Place]]:
    """A file, a database and a bucket."""
    with ExitStack() as stack:
        database = stack.enter_context(started())
        relay = Relay(database.port)
        objects = ObjectServer()
        stack.callback(objects.close)

        def slow_database(taken: float) -> None:
            relay.seconds = taken

        def slow_objects(taken: float) -> None:
            objects.cloud.set_faults(Faults(latency=(taken, taken)))

        yield (
            Place(
                "SQLite", lambda: f"sqlite:///.reconcile/{next(_numbers)}.db", lambda taken: None
            ),
            Place("PostgreSQL", lambda: database.url(new_schema(), port=relay.port), slow_database),
            Place(
                "objects",
                lambda: url_for("s3", f"bench/{os.getpid()}/{next(_numbers)}"),
                slow_objects,
                objects.variables("s3"),
                lambda: Counter(objects.cloud.requests),
            ),
        )


def plans(folder: Path, profiles: int, times: int) -> Table:
    """Warm and cold plans over records that agree with the files."""
    corpus = Corpus(folder / "corpus", profiles)
    table = Table(
        f"Plans of {profiles:,} profiles, all recorded, {PLAN_LATENCY} ms to the state; {times} rounds",
        ("state", "cold", "warm", "warm, more than SQLite", "target", ""),
    )
    with places() as all_places:
        urls = {place.name: place.new_url() for place in all_places}
        saved = corpus.folder / "saved.plan"

        def plan(place: Place, *options: str, exits: int = 0) -> float:
            words = place.command(corpus.folder, "plan", "--detailed-exitcode", *options)
            variables = place.environment(urls[place.name])
            return run(
                words, cwd=corpus.folder, variables=variables, keep=False, exits=[exits]
            ).seconds

        for place in all_places:
            place.configure(corpus.folder, urls[place.name], api="http://127.0.0.1:9")
        plan(all_places[0], "--out", str(saved), exits=2)
        for place in all_places:
            say(f"recording in {place.name}")
            url = urls[place.name].replace("sqlite:///", f"sqlite:///{corpus.folder}/")
            location = StateLocation(url, "bench", folder)
            corpus.record(saved, open_store(location, environ=place.environment(url)))
            place.slow(PLAN_LATENCY / 1000)
        settle()
        took: dict[str, tuple[list[float], list[float]]] = {}
        for place in all_places:
            say(f"plans over {place.name}")
            corpus.forget_index()
            cold = []
            for _ in range(times):
                corpus.forget_index()
                cold.append(plan(place))
            plan(place)
            took[place.name] = (
                cold,
                rounds(times, {"warm": lambda place=place: plan(place)})["warm"],
            )  # type: ignore[misc]
        least = statistics.median(took["SQLite"][1])
        for name, (cold, warm) in took.items():
            more = statistics.median(warm) - least
            target = ("", "") if name == "SQLite" else (f"≤ {SLOWER} s", holds(more, most=SLOWER))
            table.rows.append((name, seconds(cold), seconds(warm), f"{more:+.2f} s", *target))
    corpus.remove()
    return table


def applies(folder: Path, changes: int, latencies: Sequence[int]) -> Table:
    """Applies of a saved plan to an empty state, at the rate."""
    table = Table(
        f"Applies of {changes:,} changes at {PER_MINUTE:,} a minute, calls of {CALL * 1000:.0f} ms",
        ("state", "round trip", "of the rate", "target", "", "requests to the state", "price"),
    )
    corpus = Corpus(folder / "apply", changes)
    with places() as all_places, loopback(CALL) as url:
        for place in all_places:
            for milliseconds in latencies if place.name != "SQLite" else latencies[:1]:
                say(f"apply over {place.name}, {milliseconds} ms")
                state = place.new_url()
                variables = place.environment(state)
                place.configure(corpus.folder, state, api=url)
                place.slow(milliseconds / 1000)
                saved = str(corpus.folder / "saved.plan")
                words = place.command(corpus.folder, "plan", "--out", saved)
                run(words, cwd=corpus.folder, variables=variables, keep=False)
                before = place.requests()
                options = ("--auto-approve", "--json", "--rate", f"{PER_MINUTE}/min")
                words = place.command(corpus.folder, "apply", saved, *options)
                done = run(words, cwd=corpus.folder, variables=variables)
                table.rows.append(
                    _applied(place, milliseconds, done.output, place.requests() - before)
                )
    corpus.remove()
    return table


def _applied(
    place: Place, milliseconds: int, output: bytes, requests: Counter[str]
) -> tuple[str, ...]:
    summary = json.loads(output.splitlines()[-1])
    share = summary["requests"] / summary["seconds"] / (PER_MINUTE / 60)
    least = SHARES.get(milliseconds) if place.name != "SQLite" else None
    target = ("", "") if least is None else (f"≥ {least:.0%}", holds(share, least=least))
    reads = requests["GET"] + requests["HEAD"]
    writes = sum(requests.values()) - reads
    price = reads * PRICES["GET"] + writes * PRICES["PUT"]
    counts = (f"{reads} reads, {writes} writes", f"{price:.4f} USD") if requests else ("", "")
    return (place.name, f"{milliseconds} ms", f"{share:.1%}", *target, *counts)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--profiles", type=int, default=10_000)
    options.add_argument("--changes", type=int, default=10_000)
    options.add_argument("--latencies", type=numbers, default=[0, 5, 30, 60, 100])
    given = options.parse_args(arguments)
    with scratch(given.folder) as folder:
        tables = [
            plans(folder, given.profiles, given.rounds),
            applies(folder, given.changes, given.latencies),
        ]
    publish("Kinds of state", tables, write=given.write)


if __name__ == "__main__":
    main()
