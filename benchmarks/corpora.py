"""Generated workspaces: the same profiles for the same numbers, whoever makes them and when.

``python -m benchmarks.corpora FOLDER PROFILES [LAYOUT]`` makes one to look at. A layout says how the
profiles lie in files; see `LAYOUTS`.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.core.plan import Change
    from reconciler.core.records import Record
    from reconciler.state.store import Store

CONFIG = (
    "version: 1\n"
    "environments:\n"
    "  bench:\n"
    "    api: {url: 'http://127.0.0.1:9', key_env: BENCH_KEY}\n"  # nobody there: plans need nobody
    "    limits: {max_changes: 10000000}\n"
    "    state: {url: 'sqlite:///.reconcile/bench.db'}\n"
)
STATE = Path(".reconcile/bench.db")

MODELINE = "# yaml-language-server: $schema=https://example.com/profile.schema.json\n"
_FIRST = "Jane Zoë Ravi Nils Aiko Omar Lucía Søren".split()
_LAST = "Doe Müller Singh García Tanaka O'Neil Nguyễn Smith".split()
_COUNTRIES = "FR FI US DE IN JP ES SE".split()
_ZONES = "Europe/Paris Europe/Oslo America/New_York Asia/Tokyo".split()
_PHONES = ("iPhone 15", "iPhone SE (3rd generation)", "Pixel 8", "Galaxy S24 Ultra")
_MORE = (
    "  favourite_sport: yoga\n",
    '  postcode: "01234"\n',
    "  score: 12.5\n",
    "  source: 'partner: north'\n",
    "  old_flag: null\n",
)
_HASH = 2654435761  # Knuth's multiplier: neighbours differ in many bits


def name(number: int) -> str:
    return f"bench-{number:07}"


def document(number: int, version: int = 0) -> str:
    """A profile of the usual size, 27 lines more or less, another one for every number. Versions of
    a profile differ in two fields."""
    bits = number * _HASH % 2**32
    platform = "iOS" if bits % 3 else "Android"
    more = "".join(_MORE[: bits // 7 % (len(_MORE) + 1)])
    labels = (" [bench]", f" [bench, cohort-{bits % 20}]", "\n    - bench\n    - migrated")
    gender = "" if bits % 4 else f"gender: {'fmo'[bits // 17 % 3]}\n"
    return (
        f"customer_user_id: {name(number)}\n"
        f"platform: {platform}\n"
        f"first_name: {_FIRST[bits // 11 % 8]}\n"
        f"last_name: {_LAST[bits // 13 % 8]} {version}\n"
        f"{gender}"
        f"email: user-{number}@example.com\n"
        f'phone_number: "+120255501{bits % 100:02}"\n'
        f'birthday: "{1950 + bits % 50}-{1 + bits // 19 % 12:02}-{1 + bits // 23 % 28:02}"\n'
        f"ip_country: {_COUNTRIES[bits // 29 % 8]}{'   # as the store says' if bits % 5 == 0 else ''}\n"
        f'store_country: "{_COUNTRIES[bits // 29 % 8]}"\n'
        f"store: {'app_store' if platform == 'iOS' else 'play_store'}\n"
        f"analytics_disabled: {'true' if bits % 6 == 0 else 'false'}\n"
        "custom_attributes:\n"
        f"  level: {bits % 100}\n"
        f"  tier: tier-{(number + version) % 7}\n"
        f"  beta: {'true' if bits % 2 else 'false'}\n"
        f"{more}"
        "installation_meta:\n"
        f"  device_id: {bits:08x}-0000-4000-8000-{number:012x}\n"
        f"  device: {_PHONES[bits // 31 % 4]}\n"
        f"  locale: {'en' if bits % 2 else 'fr'}\n"
        f'  os: "{10 + bits % 8}.{bits // 37 % 6}"\n'
        f"  platform: {platform}\n"
        f"  timezone: {_ZONES[bits // 41 % 4]}\n"
        "meta:\n"
        f"  labels:{labels[bits // 5 % 3]}\n"
    )


# --- layouts -------------------------------------------------------------------------------------

PER_FOLDER = 1000
PER_FILE = 100


def _small(number: int) -> str:
    return f"{number // PER_FOLDER:04}/{name(number)}.yaml"


def _many(number: int) -> str:
    file = number // PER_FILE
    return f"{file // PER_FOLDER:04}/cohort-{file:06}.yaml"


def _deep(number: int) -> str:
    digits = f"{number // 10:06}"
    return f"{'/'.join(f'level-{digit}' for digit in digits)}/{name(number)}.yaml"


LAYOUTS: dict[str, Callable[[int], str]] = {"small": _small, "many": _many, "deep": _deep}
"""In which file below ``profiles`` a number is. ``small``: a profile a file, a thousand files a
folder. ``many``: a hundred documents a file. ``deep``: a profile a file, ten files a folder, each of
them six folders down."""


class Corpus:
    """A workspace of so many profiles in a folder, which it makes."""

    def __init__(
        self, folder: Path, profiles: int, layout: str = "small", *, seed: int | None = None
    ) -> None:
        """With a seed, the files are made in a shuffled order."""
        self.folder = folder
        self.profiles = profiles
        self.layout = layout
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "reconcile.yaml").write_text(CONFIG, "utf-8")
        (folder / ".reconcile").mkdir(mode=0o700, exist_ok=True)
        self.root = folder / "profiles"
        files = list(self._files(range(profiles)))
        if seed is not None:
            random.Random(seed).shuffle(files)
        self.files = len(files)
        self.bytes = sum(self._write(file, numbers, 0) for file, numbers in files)

    def change(self, count: int, version: int) -> None:
        """Gives so many profiles, evenly spread over the corpus, another version; 0 is the first one.
        In the layout ``many`` each is in a file of its own as long as there are enough."""
        step = max(self.profiles // count, 1)
        for file, numbers in self._files(range(0, step * count, step)):
            self._write(file, numbers, version)

    def _files(self, numbers: Iterable[int]) -> Iterator[tuple[str, frozenset[int]]]:
        """Files by name, with those of the numbers that are in them."""
        for file, there in groupby(numbers, LAYOUTS[self.layout]):
            yield file, frozenset(there)

    def _write(self, file: str, versioned: frozenset[int], version: int) -> int:
        together = PER_FILE if self.layout == "many" else 1
        first = min(versioned) // together * together
        numbers = range(first, min(first + together, self.profiles))
        text = MODELINE + "---\n".join(
            document(number, version if number in versioned else 0) for number in numbers
        )
        path = f"{self.root}/{file}"
        try:
            stream = open(path, "w", encoding="utf-8")  # noqa: SIM115
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            stream = open(path, "w", encoding="utf-8")  # noqa: SIM115
        with stream:
            stream.write(text)
        return len(text.encode())

    def forget(self) -> None:
        """Makes the state one that knows nothing, and the index none."""
        for left in (self.folder / ".reconcile").iterdir():
            left.unlink()
        self.forget_index()

    def forget_index(self) -> None:
        """Removes what the program remembers of the files."""
        from benchmarks.measuring import environment
        from reconciler.config.places import ProjectPlaces
        from reconciler.homes import homes_of

        places = ProjectPlaces.of(self.folder, homes_of(environment(), project=self.folder))
        if places.caches is not None:
            shutil.rmtree(places.caches, ignore_errors=True)

    def record(self, plan: Path, store: Store | None = None) -> None:
        """Has a state know what a saved plan would have made true: the records that an apply writes
        once all its requests were answered well, without sending any. Without ``store``, the state is the
        file of the corpus, begun anew."""
        from reconciler.planning.planfile import read_plan
        from reconciler.state.sqlite import SqliteStore
        from reconciler.state.store import Holder

        if store is None:
            self.forget()
            store = SqliteStore(self.folder / STATE, environment="bench")
        try:
            with store.lock(Holder("bench", "localhost", os.getpid(), "bench")) as writer:
                records = _records(read_plan(plan).changes)
                while some := list(islice(records, 10_000)):
                    writer.write(put=some)
        finally:
            store.close()

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def _records(changes: Iterable[Change]) -> Iterator[Record]:
    from reconciler.core.endpoints import PLATFORM_HEADER
    from reconciler.core.records import Record
    from reconciler.core.transitions import accepted

    for number, change in enumerate(changes):
        request = change.requests[0]
        record = Record(
            change.address,
            customer_user_id=change.address,
            profile_id=f"{number:08x}-1111-4111-8111-{number:012x}",
            platform=request.headers.get(PLATFORM_HEADER),
            labels=change.labels,
            source=change.source,
            created_at=1_700_000_000.0,
            timestamp=1_700_000_000_000 + number,
        )
        for sent in change.requests:
            record = accepted(record, change, request=sent)
        yield record


def main() -> None:
    layout = sys.argv[3] if len(sys.argv) > 3 else "small"
    corpus = Corpus(Path(sys.argv[1]), int(sys.argv[2]), layout)
    print(f"{corpus.profiles:,} profiles in {corpus.files:,} files, {corpus.bytes:,} bytes")


if __name__ == "__main__":
    main()
