"""The index: whatever happens to files, state, clock and index, a warm plan is the plan from scratch."""

from __future__ import annotations

import json
import mmap
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from reconciler.authoring import walk as files
from reconciler.authoring.placeholders import PlaceholderValues
from reconciler.core.plan_format import to_lines
from reconciler.core.records import Fact, Known, Presence, Record
from reconciler.errors import Diagnostic, InputError, ReconcileError, Severity, Source
from reconciler.homes import derived_key
from reconciler.planning import index as index_module
from reconciler.planning import index_file, index_sum, reader
from reconciler.planning.catalog import Catalog, ReadContext
from reconciler.planning.findings import decode_findings, encode_findings
from reconciler.planning.index import FileEntry, FileResult, Index, IndexedDocument
from reconciler.planning.index_file import IndexFile, IndexUnusable, copy_database
from reconciler.planning.index_sum import FileSum, sum_path
from reconciler.planning.limits import Limits
from reconciler.planning.packed import PackedProfile
from reconciler.planning.reader import ParseOptions
from reconciler.state.store import Holder
from reconciler.workspace.facade import Workspace
from tests.support.configurations import LOCAL
from tests.support.failing_sqlite import FailingConnection, SqliteFault
from tests.support.journals import journal_naming
from tests.support.places import index_of, index_secret, state_of
from tests.support.projects import Project

ROOT = Path(__file__).parent.parent.parent
JANE = "customer_user_id: jane\nfirst_name: Jane\n"
HOLDER = Holder("tester", "here", 1, "test")
DEFAULT = Limits()
TRUSTING = DEFAULT._replace(racy_ns=-10_000_000_000)
"""Young stamps are trusted: changes within a tick of the clock are not what most tests are about."""
limits = DEFAULT
"""The limits of the workspaces that tests open."""


def workspace_in(folder: Path, **options: Any) -> Workspace:
    return Workspace.open(start=folder, **{"limits": limits, **options})


def make(folder: Path, **files: str) -> Path:
    """A workspace with an applied state, so that it has a folder for its index."""
    Project(folder, profiles=files)
    (folder / "profiles").mkdir(exist_ok=True)
    index_of(folder).parent.mkdir(parents=True)
    return folder


def outcome(folder: Path, *, cache: bool, **options: Any) -> list[str]:
    """All that a plan says: its lines and findings, or the findings that prevent it."""
    findings: list[Any] = []
    with workspace_in(folder, cache=cache, environ={**os.environ, "QA_NAME": "Q"}) as workspace:
        try:
            plan = workspace.plan(on_findings=findings.extend, **options)
        except InputError as problem:
            return [repr(item) for item in (problem.message, *problem.diagnostics)]
        return [*map(repr, findings), *to_lines(plan)]


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on."""
    names_read: list[str] = []

    def read_file(path: str, name: str) -> Any:
        names_read.append(name)
        return files.read_file(path, name)

    monkeypatch.setattr(reader, "read_file", read_file)
    return names_read


def age(folder: Path) -> None:
    """Makes files old enough for their stamps to be trusted, as far as the times of change go."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (1_000_000_000, 1_000_000_000))


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "limits", TRUSTING)


# --- what is spared ------------------------------------------------------------------------------


def test_what_did_not_change_is_not_read(
    tmp_path: Path, trusting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, jane=JANE, joe=JANE.replace("jane", "joe"))
    names_read = reads(monkeypatch)
    first = outcome(tmp_path, cache=True)
    assert sorted(names_read) == ["profiles/jane.yaml", "profiles/joe.yaml"]
    names_read.clear()
    assert outcome(tmp_path, cache=True) == first
    assert names_read == []
    (tmp_path / "profiles" / "joe.yaml").write_text(JANE.replace("jane", "joe") + "last_name: D\n")
    assert outcome(tmp_path, cache=True) == outcome(tmp_path, cache=False) != first
    assert names_read[0] == "profiles/joe.yaml"
    assert len(names_read) == 3


def test_a_profile_that_is_as_recorded_is_not_planned_again(
    tmp_path: Path, trusting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, jane=JANE)
    with workspace_in(tmp_path) as workspace, workspace.store.lock(HOLDER) as writer:
        writer.write(
            put=[Record("jane", customer_user_id="jane", facts={"first_name": Fact.of("Jane")})]
        )
    first = outcome(tmp_path, cache=True)
    assert '"unchanged":1' in first[-1]

    def opened(*arguments: str) -> None:
        raise AssertionError("looked into")

    monkeypatch.setattr(PackedProfile, "profile", opened)
    assert outcome(tmp_path, cache=True) == first


def test_the_same_content_under_another_stamp_is_read_but_not_parsed(
    tmp_path: Path, trusting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, jane=JANE)
    first = outcome(tmp_path, cache=True)
    os.utime(tmp_path / "profiles" / "jane.yaml")

    def parse(data: bytes, file: str) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(reader, "load_quickly", parse)
    assert outcome(tmp_path, cache=True) == first


def test_warnings_are_told_again(tmp_path: Path, trusting: None) -> None:
    make(tmp_path, jane=JANE + "birthday: 2000-12-31\n", twin=JANE.replace("jane", "joe"))
    device = "installation_meta:\n  device_id: 3fa85f64-5717-4562-b3fc-2c963f66afa6\n"
    for name in ("jane", "twin"):
        with (tmp_path / "profiles" / f"{name}.yaml").open("a") as file:
            file.write(device)
    first = outcome(tmp_path, cache=True)
    assert any("ambiguous-scalar" in line for line in first)
    assert any("duplicate-device" in line for line in first)
    assert outcome(tmp_path, cache=True) == first == outcome(tmp_path, cache=False)


# --- what is never missed ------------------------------------------------------------------------


def test_a_write_within_the_same_tick_is_never_missed(tmp_path: Path) -> None:
    make(tmp_path, jane=JANE)
    path = tmp_path / "profiles" / "jane.yaml"
    with workspace_in(tmp_path) as workspace:
        for number in range(100):
            name = f"J{number % 10}ne"
            before = path.stat()
            path.write_text(JANE.replace("Jane", name))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            (change,) = workspace.plan().changes
            assert change.fields[0].after == name


def test_an_edit_of_an_old_file_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    make(tmp_path, jane=JANE)
    age(tmp_path)
    outcome(tmp_path, cache=True)
    path = tmp_path / "profiles" / "jane.yaml"
    path.write_text(JANE.replace("Jane", "Jone"))
    age(tmp_path)
    assert outcome(tmp_path, cache=True) == outcome(tmp_path, cache=False)


@pytest.mark.parametrize("shift", [-86_400, 86_400])
def test_a_clock_that_is_wrong_makes_no_young_stamp_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    make(tmp_path, jane=JANE)
    right = index_file.time.time_ns
    monkeypatch.setattr(index_file.time, "time_ns", lambda: right() + shift * 10**9)
    outcome(tmp_path, cache=True)
    stamps = sqlite3.connect(index_of(tmp_path)).execute("SELECT stamps FROM folder").fetchone()[0]
    assert stamps == bytes(files.array("q", (-1, 0, 0, 0)))


# --- whatever happens ----------------------------------------------------------------------------

NAMES = st.sampled_from(["a.yaml", "b.yaml", "c.yml", "x/a.yaml", "x/y/b.yaml", "z/é.yaml"])
IDS = st.sampled_from(["u1", "u2", "u3", "u4", "u5", "u6"])
VALUES = st.sampled_from(["A", "B", "C"])
DEVICES = st.sampled_from(["", *(f"{n}fa85f64-5717-4562-b3fc-2c963f66afa6" for n in "12")])
UUIDS = st.sampled_from(
    ["", "", "", "", *(f"{n}0000000-0000-4000-8000-000000000000" for n in "12")]
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines = []
    customer, profile_id = draw(st.one_of(IDS, st.just(""))), draw(UUIDS)
    if customer or not profile_id:
        lines.append(f"customer_user_id: {customer or 'u1'}")
    if profile_id:
        lines.append(f"profile_id: {profile_id}")
    lines.append(f"first_name: {draw(VALUES)}")
    if draw(st.booleans()):
        lines += ["custom_attributes:", f"  tier: {draw(st.integers(0, 2))}"]
    if device := draw(DEVICES):
        lines += ["installation_meta:", f"  device_id: {device}"]
    usual = ["", "# a comment", "meta: {labels: [qa], protect: true}", "birthday: 2000-12-31"]
    odd = ["no such: field", "first_name: again"]
    lines.append(draw(st.sampled_from([*usual * 4, *odd])))
    return "\n".join(lines) + "\n"


TEXTS = st.lists(documents(), min_size=1, max_size=2).map("---\n".join)
RECORDS = st.builds(
    lambda name, value, presence, profile_id, tier: Record(
        name or f"profile:{profile_id}",
        customer_user_id=name or None,
        profile_id=profile_id or None,
        presence=presence,
        facts={
            "first_name": Fact.of(value),
            "custom_attributes.tier": Fact(Known.UNCERTAIN, attempt=tier)
            if tier
            else Fact.of(tier),
        },
        labels=("qa",) if value == "A" else (),
        protect=value == "B",
    ),
    st.one_of(IDS, st.just("")),
    VALUES,
    st.sampled_from(Presence),
    UUIDS.filter(bool),
    st.sampled_from([0.0, 1.0, 2.0]),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "prune": st.just(True),
        "reassert": st.just(True),
        "select": st.sampled_from([("u1",), ("label:qa",)]),
    },
)


DEFAULTS_FILES = st.sampled_from([f"{folder}_defaults.yaml" for folder in ("", "x/", "x/y/", "z/")])
DEFAULTS_TEXTS = st.sampled_from(
    [
        "store: app_store\n",
        "last_name: '${var.tier}'\n",
        "last_name: '${env.QA_NAME}'\n",
        "custom_attributes: {tier: 2}\n",
        "meta: {labels: [qa], ttl: 3d}\n",
        "no such: field\n",
    ]
)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "env_prefix": st.sampled_from(["QA_", "OTHER_"]),
        "variables": st.sampled_from([{"tier": "gold"}, {"tier": "silver"}, {"tear": "gold"}]),
        "personal_data": st.sampled_from([{"guard": "error"}, {"guard": "off"}]),
    },
)


class Changing(RuleBasedStateMachine):
    """Files and state change as they please; after every step both plans are the same.

    Every stamp is trusted; so that it may be, a tick of the clock lies between any two steps.
    """

    limits = TRUSTING

    @initialize(text=TEXTS)
    def begin(self, text: str) -> None:
        global limits
        limits = self.limits
        self.folder = make(Path(tempfile.mkdtemp()))
        self.profiles = self.folder / "profiles"
        self.index = index_of(self.folder)
        self.options: dict[str, Any] = {}
        self.write("a.yaml", text)

    def teardown(self) -> None:
        global limits
        limits = DEFAULT
        shutil.rmtree(self.folder)

    def files(self) -> list[Path]:
        return sorted(path for path in self.profiles.rglob("*.y*ml") if path.is_file())

    @rule(name=NAMES, text=TEXTS)
    def write(self, name: str, text: str) -> None:
        path = self.profiles / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    @rule(pick=st.randoms(), other=VALUES)
    def edit_without_a_trace(self, pick: Any, other: str) -> None:
        """Same size, same time of change."""
        for path in self.files()[:1]:
            before = path.stat()
            text = path.read_text("utf-8")
            for value in "ABC":
                text = text.replace(f"first_name: {value}\n", f"first_name: {other}\n")
            path.write_text(text, "utf-8")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    @rule(pick=st.randoms(), seconds=st.sampled_from([-(10.0**8), -5.0, 0.0, 5.0, 10.0**8]))
    def touch(self, pick: Any, seconds: float) -> None:
        """The clock is set back, or forward, and a file is touched."""
        if files := self.files():
            path = pick.choice(files)
            now = path.stat().st_mtime
            os.utime(path, (now + seconds, now + seconds))

    @rule(pick=st.randoms(), name=NAMES)
    def move(self, pick: Any, name: str) -> None:
        if files := self.files():
            target = self.profiles / name
            target.parent.mkdir(parents=True, exist_ok=True)
            pick.choice(files).rename(target)

    @rule(pick=st.randoms())
    def remove(self, pick: Any) -> None:
        if files := self.files():
            pick.choice(files).unlink()

    @rule()
    def remove_a_folder(self) -> None:
        shutil.rmtree(self.profiles / "x", ignore_errors=True)

    @rule(pick=st.randoms())
    def link(self, pick: Any) -> None:
        if files := self.files():
            with suppress(FileExistsError):
                (self.profiles / "link.yaml").symlink_to(pick.choice(files))

    @rule(put=st.lists(RECORDS, max_size=3), gone=st.lists(IDS, max_size=2))
    def state_moves(self, put: list[Record], gone: list[str]) -> None:
        with workspace_in(self.folder) as workspace, workspace.store.lock(HOLDER) as writer:
            writer.write(put={record.address: record for record in put}.values(), remove=gone)

    @rule()
    def state_becomes_what_files_declare(self) -> None:
        with workspace_in(self.folder, cache=False) as workspace:
            checked = workspace.validate()
            with workspace.store.lock(HOLDER) as writer:
                writer.write(
                    put=[
                        Record(
                            profile.address,
                            customer_user_id=profile.customer_user_id,
                            profile_id=profile.profile_id,
                            facts={path: Fact.of(value) for path, value in profile.values.items()},
                        )
                        for profile in checked.profiles
                    ]
                )

    @rule()
    def state_is_restored(self) -> None:
        """An older state comes back, with revisions that were given to others meanwhile."""
        state = state_of(self.folder)
        backup = self.folder / "backup"
        if backup.exists():
            shutil.copy2(backup, state)
        elif state.exists():
            shutil.copy2(state, backup)

    @rule(name=DEFAULTS_FILES, text=DEFAULTS_TEXTS)
    def write_defaults(self, name: str, text: str) -> None:
        self.write(name, text)

    @rule(pick=st.randoms(), name=DEFAULTS_FILES)
    def move_defaults(self, pick: Any, name: str) -> None:
        """To another level, with the same bytes, the same stamp but for the time of change."""
        if files := [path for path in self.files() if path.name == "_defaults.yaml"]:
            target = self.profiles / name
            target.parent.mkdir(parents=True, exist_ok=True)
            pick.choice(files).rename(target)

    @rule(pick=st.randoms(), name=st.sampled_from(["x", "w", "x/y", "z"]))
    def rename_a_folder(self, pick: Any, name: str) -> None:
        folders = sorted(path for path in self.profiles.rglob("*") if path.is_dir())
        target = self.profiles / name
        if folders and not target.exists() and target.parent.is_dir():
            with suppress(OSError):  # into itself
                pick.choice(folders).rename(target)

    @rule(pick=st.randoms(), other=VALUES)
    def map_into_memory(self, pick: Any, other: str) -> None:
        """A write of the same size through memory."""
        if files := [path for path in self.files() if b"first_name: " in path.read_bytes()]:
            path = pick.choice(files)
            at = path.read_bytes().index(b"first_name: ") + len(b"first_name: ")
            with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
                content[at : at + 1] = other.encode()

    @rule(pick=st.randoms())
    def save(self, pick: Any) -> None:
        """Keeps all files, for `revert`."""
        shutil.rmtree(self.folder / "saved", ignore_errors=True)
        shutil.copytree(self.profiles, self.folder / "saved", symlinks=True)

    @rule()
    def revert(self) -> None:
        """All files as they were, with their times."""
        if (self.folder / "saved").exists():
            shutil.rmtree(self.profiles)
            shutil.copytree(self.folder / "saved", self.profiles, symlinks=True)

    @rule(pick=st.randoms(), times=st.booleans())
    def copy_over(self, pick: Any, times: bool) -> None:
        """One file in the place of another, perhaps with its times."""
        if len(files := self.files()) > 1:
            one, other = pick.sample(files, 2)
            (shutil.copy2 if times else shutil.copyfile)(one, self.folder / "copy")
            (self.folder / "copy").replace(other)

    @rule(pick=st.randoms())
    def exchange(self, pick: Any) -> None:
        """Two files change places, with all that a stamp holds but the time of change."""
        if len(files := self.files()) > 1:
            one, other = pick.sample(files, 2)
            one.rename(self.folder / "aside")
            other.rename(one)
            (self.folder / "aside").rename(other)

    @rule(pick=st.randoms())
    def turn_a_link(self, pick: Any) -> None:
        link = self.profiles / "link.yaml"
        if link.is_symlink() and (files := self.files()):
            link.unlink()
            link.symlink_to(pick.choice(files))

    @rule(pick=st.randoms())
    def link_hard(self, pick: Any) -> None:
        if files := self.files():
            with suppress(OSError):
                (self.profiles / "hard.yaml").hardlink_to(pick.choice(files))

    @rule(settings=SETTINGS)
    def configure(self, settings: dict[str, Any]) -> None:
        Project(
            self.folder,
            {"version": 1, "environments": {"local": {"api": {"url": "emulator"}}}} | settings,
        )

    @rule()
    def index_goes(self) -> None:
        self.index.unlink(missing_ok=True)

    @rule(options=OPTIONS)
    def ask_for_something_else(self, options: dict[str, Any]) -> None:
        self.options = options

    @invariant()
    def warm_and_cold_agree(self) -> None:
        if not hasattr(self, "folder"):
            return
        assert outcome(self.folder, cache=True, **self.options) == outcome(
            self.folder, cache=False, **self.options
        )
        self.tick()

    def tick(self) -> None:
        """Waits until what is written has another stamp: a busy machine's clock may stand for a while."""
        probe = self.folder / "probe"
        probe.touch()
        first = probe.stat().st_ctime_ns
        while probe.stat().st_ctime_ns == first:
            time.sleep(0.002)
            probe.touch()


class ChangingFast(Changing):
    """The same, with young stamps: what is not trusted is read again."""

    limits = DEFAULT


TestChangingFast = ChangingFast.TestCase
TestChangingFast.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)
TestChanging = Changing.TestCase
TestChanging.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


# --- an index that cannot be used ----------------------------------------------------------------


def damages() -> Iterator[tuple[str, Any]]:
    yield "garbage", lambda path: path.write_bytes(b"garbage" * 1000)
    yield "empty", lambda path: path.write_bytes(b"")
    yield "cut", lambda path: os.truncate(path, path.stat().st_size // 2)
    yield (
        "zeros",
        lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(path.stat().st_size - 4096)),
    )
    yield "readable by others", lambda path: path.chmod(0o644)
    yield "a folder", lambda path: (path.unlink(), path.mkdir())
    yield "a link", lambda path: (path.rename(f"{path}.real"), path.symlink_to(f"{path}.real"))
    yield "another database", another_database
    yield "a stray journal", lambda path: Path(f"{path}-journal").write_bytes(b"x" * 5000)


def another_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()
    path.chmod(0o600)


@pytest.mark.parametrize("damage", [*damages()], ids=lambda pair: pair[0])
def test_a_doubtful_index_is_not_believed(
    tmp_path: Path, trusting: None, damage: tuple[str, Any]
) -> None:
    make(tmp_path, jane=JANE, joe=JANE.replace("jane", "joe"))
    first = outcome(tmp_path, cache=True)
    damage[1](index_of(tmp_path))
    assert outcome(tmp_path, cache=True) == first
    assert outcome(tmp_path, cache=True) == first


def falsify(path: Path) -> None:
    """Changes what an index says, but for its checksum."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE profile SET body = replace(body, 'Jane', 'Eve')")
    db.close()


def sign(path: Path, secret: bytes) -> None:
    """Notes a checksum that is right, as far as it can be made with a secret."""
    checksum = FileSum(path, secret)
    checksum.note()
    checksum.close()


@pytest.mark.parametrize("threads", [True, False])
def test_a_changed_byte_in_any_block_of_a_large_file_is_noticed(
    tmp_path: Path, threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = 1 << 20
    path = tmp_path / "large"
    path.write_bytes(bytes(10 * block + 100))
    sign(path, b"secret")
    monkeypatch.setattr(index_sum, "can_read_in_threads", lambda: threads)
    checksum = FileSum(path, b"secret")
    assert checksum.is_right()
    for at in (*range(0, 10 * block, block), 10 * block + 99):
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"x")
        assert not checksum.is_right()
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"\0")
    assert checksum.is_right()
    path.write_bytes(bytes(9 * block))
    assert not checksum.is_right()
    checksum.close()


def test_an_index_counts_only_with_the_secret_of_its_user(tmp_path: Path, trusting: None) -> None:
    make(tmp_path, jane=JANE)
    first = outcome(tmp_path, cache=True)
    index, secret = index_of(tmp_path), index_secret(tmp_path)
    falsify(index)
    sign(index, secret)
    assert "Eve" in "".join(outcome(tmp_path, cache=True))
    for forged in (
        b"",
        bytes(32),
        derived_key(b"x" * 32, "index"),
        index_secret(tmp_path, "other"),
    ):
        falsify(index)
        sign(index, forged)
        assert outcome(tmp_path, cache=True) == first


def test_an_index_of_another_project_or_user_does_not_count(
    tmp_path: Path, trusting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = make(tmp_path / "ours", jane=JANE), make(tmp_path / "theirs", jane=JANE)
    first = outcome(ours, cache=True)
    outcome(theirs, cache=True)
    falsify(index_of(theirs))
    sign(index_of(theirs), index_secret(theirs))
    assert "Eve" in "".join(outcome(theirs, cache=True))
    for source in (index_of(theirs), sum_path(index_of(theirs))):
        name = index_of(ours) if source == index_of(theirs) else sum_path(index_of(ours))
        shutil.copy2(source, name)
    assert outcome(ours, cache=True) == first
    falsify(index_of(ours))
    sign(index_of(ours), index_secret(ours))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another-user"))
    assert outcome(ours, cache=True) == outcome(ours, cache=False)
    assert "Eve" not in "".join(outcome(ours, cache=True))


@pytest.mark.parametrize("umask", [0o077, 0o022])
def test_caches_that_come_with_a_checkout_are_not_looked_at(
    tmp_path: Path, trusting: None, umask: int
) -> None:
    """As a clone or an archive brings them: with our owner, and with mode 0600 under umask 077."""
    make(tmp_path, jane=JANE)
    first = outcome(tmp_path, cache=True)
    before = os.umask(umask)
    try:
        (tmp_path / ".reconcile").mkdir()
        for name in ("local.db.index", "local.db.index-sum", "local.db.index-journal"):
            (tmp_path / ".reconcile" / name).write_bytes(b"SQLite format 3\0planted")
    finally:
        os.umask(before)
    assert outcome(tmp_path, cache=True) == first
    assert all(
        path.read_bytes().endswith(b"planted") for path in (tmp_path / ".reconcile").iterdir()
    )


@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-sum"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_of_ours_is_neither_opened_nor_removed(
    tmp_path: Path, trusting: None, suffix: str, kind: str
) -> None:
    make(tmp_path / "p", jane=JANE)
    expected = outcome(tmp_path / "p", cache=True)
    victim = tmp_path / "victim"
    victim.write_text("years of work")
    place = Path(f"{index_of(tmp_path / 'p')}{suffix}")
    place.unlink(missing_ok=True)
    if kind == "link":
        place.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    for _ in range(2):
        assert outcome(tmp_path / "p", cache=True) == expected
    assert victim.read_text() == "years of work"
    if suffix != "-sum":
        assert os.path.lexists(place)
        assert not (place.is_file() and not place.is_symlink())


def test_a_journal_that_names_another_file_deletes_nothing(tmp_path: Path, trusting: None) -> None:
    make(tmp_path / "p", jane=JANE)
    expected = outcome(tmp_path / "p", cache=True)
    victim, index = tmp_path / "victim", index_of(tmp_path / "p")
    victim.write_bytes(b"years of work\0")
    Path(f"{index}-journal").write_bytes(journal_naming(str(victim)))
    assert outcome(tmp_path / "p", cache=True) == expected
    assert victim.read_bytes() == b"years of work\0"


def test_a_file_without_our_mark_is_left_as_it_is(tmp_path: Path, trusting: None) -> None:
    make(tmp_path, jane=JANE)
    expected = outcome(tmp_path, cache=True)
    for content in (b"years of work", b"SQLite format 3\0" + bytes(200)):
        index_of(tmp_path).write_bytes(content)
        for _ in range(2):
            assert outcome(tmp_path, cache=True) == expected
        assert index_of(tmp_path).read_bytes() == content


def test_the_index_is_for_the_user_alone(tmp_path: Path) -> None:
    make(tmp_path, jane=JANE)
    outcome(tmp_path, cache=True)
    assert index_of(tmp_path).stat().st_mode & 0o777 == 0o600


def test_without_the_cache_the_index_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path, jane=JANE)
    outcome(tmp_path, cache=False)
    assert not index_of(tmp_path).exists()


def test_another_dialect_is_another_index(tmp_path: Path, trusting: None) -> None:
    make(tmp_path, jane=JANE)
    outcome(tmp_path, cache=True)
    openapi = LOCAL.replace("{url: emulator}", "{url: emulator, dialect: openapi}")
    Project(tmp_path, openapi)
    assert outcome(tmp_path, cache=True) == outcome(tmp_path, cache=False)


def test_a_plan_beside_another_one_works_on_a_copy(tmp_path: Path, trusting: None) -> None:
    make(tmp_path, jane=JANE)
    first = outcome(tmp_path, cache=True)
    busy = sqlite3.connect(index_of(tmp_path), isolation_level=None)
    for begin in ("BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"):
        busy.execute(begin)
        assert outcome(tmp_path, cache=True) == first
        busy.execute("ROLLBACK")
    busy.close()


def test_two_processes_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    make(tmp_path)
    for number in range(300):
        text = JANE.replace("jane", f"u{number}")
        (tmp_path / "profiles" / f"{number}.yaml").write_text(text)
    project = Project(tmp_path)
    command = ["plan", "--format", "json"]
    expected = project.run(*command, "--no-cache")
    for _ in range(2):
        running = [project.start(*command) for _ in range(3)]
        assert [process.communicate()[0] for process in running] == [expected] * 3


@pytest.mark.parametrize("cache", [True, False])
def test_profiles_stay_what_they_were_when_files_are_read_again(
    tmp_path: Path, trusting: None, cache: bool
) -> None:
    make(tmp_path, jane=JANE, joe=JANE.replace("jane", "joe"))
    # No profile is held, so they are read from the index each time.
    with workspace_in(tmp_path, cache=cache, limits=limits._replace(profiles_held=1)) as workspace:
        checked = workspace.validate()
        (tmp_path / "profiles" / "joe.yaml").unlink()
        (tmp_path / "profiles" / "jane.yaml").write_text(JANE.replace("Jane", "Janet"))
        again = workspace.validate()
        assert [profile.address for profile in workspace.validate().profiles] == ["jane"]
        assert [profile.values["first_name"] for profile in checked.profiles] == ["Jane", "Jane"]
        assert [profile.values["first_name"] for profile in again.profiles] == ["Janet"]
        assert len(workspace.plan(profiles=[*checked.profiles]).changes) == 2
    with pytest.raises(ReconcileError, match="after it was closed"):
        list(checked.profiles)


def test_nothing_is_copied_for_a_workspace_that_is_closed(
    tmp_path: Path, trusting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detach(index: IndexFile) -> None:
        raise AssertionError("copied")

    make(tmp_path, jane=JANE)
    monkeypatch.setattr(IndexFile, "_detach", detach)
    with workspace_in(tmp_path) as workspace:
        workspace.plan()
        profiles = workspace.declared
    assert len(profiles) == 1


def test_what_another_process_put_into_the_index_is_not_taken_for_what_was_read(
    tmp_path: Path, trusting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, jane=JANE, joe=JANE.replace("jane", "joe"))
    outcome(tmp_path, cache=True)

    names_read: list[int] = []
    with workspace_in(tmp_path, limits=limits._replace(profiles_held=1)) as workspace:
        checked = workspace.validate()
        assert workspace.sources.index is not None
        index = workspace.sources.index.file
        real = index._version

        def version() -> int:
            if names_read:  # it was committed: another one is here first
                index._db.execute("ROLLBACK")
                with sqlite3.connect(index_of(tmp_path)) as other:
                    other.execute("DELETE FROM profile WHERE address = 'joe'")
                index._db.execute("BEGIN")
            names_read.append(real())
            return names_read[-1]

        monkeypatch.setattr(index, "_version", version)
        with pytest.raises(IndexUnusable):
            index.keep()
        with pytest.raises(IndexUnusable):
            list(checked.profiles)


def test_a_plan_that_is_being_read_keeps_no_other_one_waiting(
    tmp_path: Path, trusting: None
) -> None:
    make(tmp_path, jane=JANE)
    first = outcome(tmp_path, cache=True)
    reader = sqlite3.connect(index_of(tmp_path), isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM profile").fetchall()
    with workspace_in(tmp_path) as workspace:
        (tmp_path / "profiles" / "jane.yaml").write_text(JANE.replace("Jane", "Janet"))
        assert len(workspace.validate().profiles) == 1  # and what was read cannot be committed
        other = sqlite3.connect(index_of(tmp_path), timeout=0)
        other.execute("SELECT * FROM profile").fetchall()
        other.close()
        assert [profile.values["first_name"] for profile in workspace.declared] == ["Janet"]
    reader.close()
    assert outcome(tmp_path, cache=True) == outcome(tmp_path, cache=False) != first


def test_a_database_that_stays_locked_is_not_waited_for(tmp_path: Path, trusting: None) -> None:
    make(tmp_path, jane=JANE)
    first = outcome(tmp_path, cache=True)
    busy = sqlite3.connect(index_of(tmp_path), isolation_level=None)
    busy.execute("BEGIN EXCLUSIVE")
    private = sqlite3.connect(":memory:")
    source = sqlite3.connect(index_of(tmp_path), timeout=0)
    with pytest.raises(sqlite3.OperationalError):
        copy_database(source, private)
    assert outcome(tmp_path, cache=True) == first
    for connection in (busy, source, private):
        connection.close()


# --- what else documents are made from -----------------------------------------------------------


def test_a_file_is_read_again_when_something_else_changed_that_it_was_made_from(
    tmp_path: Path, trusting: None
) -> None:
    make(tmp_path, jane=JANE)
    profiles = tmp_path / "profiles"
    values = PlaceholderValues(variables={"tier": "gold"})

    def read(index: Index) -> None:
        Catalog.read(index, profiles, context=ReadContext(ParseOptions("guide", values)))

    index = Index.private("key", limits=TRUSTING)
    read(index)
    (file,) = {number >> 32 for number in index.profiles()}
    sources = {"var.tier": values.digest_of("var.tier")}
    result = FileResult(None, b"?", (), [IndexedDocument("jane", None, None)], sources)
    index.replace_files([FileEntry(file, "profiles/jane.yaml", result)])
    read(index)
    assert index.digests([file]) == {file: b"?"}
    values = PlaceholderValues(variables={"tier": "silver"})
    read(index)
    assert index.digests([file]) != {file: b"?"}
    assert len([*index.profiles()]) == 1
    index.file.close()


def test_findings_survive_the_index() -> None:
    finding = Diagnostic(Severity.WARNING, "a/b", "m\u202e", Source("f", 1, 2), "h")
    assert [*decode_findings(encode_findings([finding]))] == [finding]
    assert finding._replace(hint="") != finding


def put(folder: Path, *records: Record, gone: tuple[str, ...] = ()) -> None:
    with workspace_in(folder) as workspace, workspace.store.lock(HOLDER) as writer:
        writer.write(put=records, remove=gone)
    time.sleep(0.012)


def recorded(name: str, value: str) -> Record:
    return Record(name, customer_user_id=name, facts={"first_name": Fact.of(value)})


def test_what_was_in_sync_with_a_newer_state_says_nothing_about_an_older_one(
    tmp_path: Path, trusting: None
) -> None:
    uuid = "10000000-0000-4000-8000-000000000000"
    make(tmp_path, jane=f"profile_id: {uuid}\nfirst_name: Jane\n")
    state = state_of(tmp_path)
    put(tmp_path, recorded("u1", "A")._replace(profile_id=uuid))
    shutil.copy2(state, tmp_path / "backup")
    assert "identity" in "".join(outcome(tmp_path, cache=True))
    matches = recorded(f"profile:{uuid}", "Jane")._replace(profile_id=uuid, customer_user_id=None)
    put(tmp_path, matches)
    assert '"unchanged":1' in outcome(tmp_path, cache=True)[-1]
    shutil.copy2(tmp_path / "backup", state)
    assert outcome(tmp_path, cache=True) == outcome(tmp_path, cache=False)
    assert "identity" in "".join(outcome(tmp_path, cache=True))


def test_each_way_in_which_either_side_moves_is_seen(tmp_path: Path, trusting: None) -> None:
    joe = JANE.replace("jane", "joe").replace("Jane", "Joe")
    make(tmp_path, jane=JANE, joe=joe)
    profiles = tmp_path / "profiles"
    put(tmp_path, recorded("jane", "Jane"), recorded("joe", "Joe"), recorded("old", "Old"))

    def summary() -> dict[str, int]:
        """Twice, since the second plan rests on what the first one noted."""
        warm = [outcome(tmp_path, cache=True) for _ in range(3)]
        assert warm == [outcome(tmp_path, cache=False)] * 3
        counts = json.loads(warm[0][-1])["summary"]
        return {name: counts[name] for name in ("create", "update", "unchanged", "orphans")}

    assert summary() == {"create": 0, "update": 0, "unchanged": 2, "orphans": 1}
    put(tmp_path, recorded("jane", "Janet"))
    assert summary() == {"create": 0, "update": 1, "unchanged": 1, "orphans": 1}
    (profiles / "jane.yaml").write_text(JANE.replace("Jane", "Janet"))
    assert summary() == {"create": 0, "update": 0, "unchanged": 2, "orphans": 1}
    (profiles / "joe.yaml").unlink()
    assert summary() == {"create": 0, "update": 0, "unchanged": 1, "orphans": 2}
    (profiles / "old.yaml").write_text(joe.replace("joe", "old"))
    assert summary() == {"create": 0, "update": 1, "unchanged": 1, "orphans": 1}
    (profiles / "old.yaml").unlink()
    assert summary() == {"create": 0, "update": 0, "unchanged": 1, "orphans": 2}
    put(tmp_path, gone=("jane", "old"))
    assert summary() == {"create": 1, "update": 0, "unchanged": 0, "orphans": 1}
    (profiles / "joe.yaml").write_text(joe)
    assert summary() == {"create": 1, "update": 0, "unchanged": 1, "orphans": 0}


def test_findings_name_what_is_configured_now(tmp_path: Path, trusting: None) -> None:
    text = "customer_user_id: jane\nfirst_name: '${var.tier} ${env.QA_NAME}'\n"
    make(tmp_path, jane=text)
    config = {"version": 1, "environments": {"local": {"api": {"url": "emulator"}}}}
    for more in (
        {},
        {"env_prefix": "OTHER_"},
        {"env_prefix": "QA_"},
        {"env_prefix": "QA_", "variables": {"teir": "gold"}},
        {"env_prefix": "QA_", "variables": {"tear": "gold"}},
        {"env_prefix": "QA_", "variables": {"tier": "gold"}},
        {"variables": {"tier": "gold"}},
    ):
        Project(tmp_path, {**config, **more})
        assert outcome(tmp_path, cache=True) == outcome(tmp_path, cache=False)


def test_defaults_that_move_to_another_folder_are_noticed(tmp_path: Path, trusting: None) -> None:
    make(tmp_path)
    (tmp_path / "profiles" / "x" / "y").mkdir(parents=True)
    (tmp_path / "profiles" / "x" / "y" / "jane.yaml").write_text(JANE)
    places = [tmp_path / "profiles" / name / "_defaults.yaml" for name in ("", "x", "x/y", "x", "")]
    places[0].write_text("last_name: Doe\n")
    for before, after in pairwise(places):
        first = outcome(tmp_path, cache=True)
        before.rename(after)
        assert outcome(tmp_path, cache=True) == outcome(tmp_path, cache=False) != first


# --- numbers that are packed ---------------------------------------------------------------------


def test_the_ids_of_more_than_a_million_documents_are_those_of_no_other_file() -> None:
    many = (1 << 20) + 4
    one, other = (index_module._ids_of(file, many, name="") for file in (1, 2))
    assert len(one) == len(other) == many
    assert one[-1] < other[0]
    assert {number // index_module._PER_FILE for number in (one[0], one[-1])} == {1}


def test_more_documents_than_there_are_ids_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_PER_FILE", 4)
    documents = [JANE.replace("jane", f"u{number}") for number in range(5)]
    make(tmp_path, four="---\n".join(documents[:4]))
    assert len(outcome(tmp_path, cache=True)) == 6
    make(tmp_path / "more", five="---\n".join(documents))
    assert "file/too-many-documents" in "".join(outcome(tmp_path / "more", cache=True))


def test_an_index_that_ran_out_of_ids_is_made_anew(tmp_path: Path, trusting: None) -> None:
    make(tmp_path, jane=JANE)
    first = outcome(tmp_path, cache=True)
    alter(tmp_path, "UPDATE file SET id = 9000000000000000000")
    (tmp_path / "profiles" / "joe.yaml").write_text(JANE.replace("jane", "joe"))
    assert outcome(tmp_path, cache=True) == outcome(tmp_path, cache=False) != first
    assert outcome(tmp_path, cache=True) == outcome(tmp_path, cache=False)


@pytest.mark.parametrize("seconds", [-(2**31), -1, 2**33, 13_569_465_600, 2**34 - 1])
def test_a_file_of_any_year_is_read_again_where_its_stamp_cannot_be_kept(
    tmp_path: Path, trusting: None, seconds: int
) -> None:
    make(tmp_path, jane=JANE)
    path = tmp_path / "profiles" / "jane.yaml"
    for name in ("Jane", "Jone", "June"):
        path.write_text(JANE.replace("Jane", name))
        try:
            os.utime(path, (seconds, seconds))
        except OverflowError:
            pytest.skip("this system knows no such time")
        assert outcome(tmp_path, cache=True) == outcome(tmp_path, cache=False)


# --- an index that is damaged --------------------------------------------------------------------


def alter(folder: Path, *statements: str) -> None:
    """Changes the index as this program might have."""
    path = index_of(folder)
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()
    sign(path, index_secret(folder))


def test_no_flipped_bit_changes_a_plan(tmp_path: Path, trusting: None) -> None:
    make(tmp_path, **{f"u{n}": JANE.replace("jane", f"u{n}") for n in range(30)})
    put(tmp_path, *(recorded(f"u{n}", "Jane") for n in range(0, 30, 2)))
    expected = outcome(tmp_path, cache=True, prune=True)
    assert outcome(tmp_path, cache=True, prune=True) == expected
    path = index_of(tmp_path)
    names = [path, sum_path(path)]
    intact = {name: name.read_bytes() for name in names}
    draw = random.Random(13)
    for _ in range(60):
        for name in names:
            name.write_bytes(intact[name])
        victim = names[draw.random() < 0.1]
        content = bytearray(intact[victim])
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        victim.write_bytes(content)
        assert outcome(tmp_path, cache=True, prune=True) == expected
        assert outcome(tmp_path, cache=True, prune=True) == expected


def test_a_checksum_is_right_as_long_as_nothing_but_this_program_writes(
    tmp_path: Path, trusting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, jane=JANE)
    verdicts: list[bool] = []
    right = FileSum.is_right

    def is_right(checksum: FileSum) -> bool:
        verdicts.append(right(checksum))
        return verdicts[-1]

    monkeypatch.setattr(FileSum, "is_right", is_right)
    for name in ("Jane", "Jane", "June", "June"):
        (tmp_path / "profiles" / "jane.yaml").write_text(JANE.replace("Jane", name))
        with workspace_in(tmp_path) as workspace:
            workspace.validate()
            workspace.plan()
            with workspace_in(tmp_path) as beside:
                beside.plan()
        put(tmp_path, recorded("jane", name))
    assert verdicts
    assert all(verdicts)
    assert not index_sum._opened


# --- an index that cannot be written -------------------------------------------------------------


FAULTS = {
    "the disk is full": (sqlite3.SQLITE_FULL, True),
    "the disk fails": (sqlite3.SQLITE_IOERR, True),
    "the disk fails, nothing is rolled back": (sqlite3.SQLITE_IOERR, False),
    "busy": (sqlite3.SQLITE_BUSY, False),
    "damaged": (sqlite3.SQLITE_CORRUPT, False),
    "read-only": (sqlite3.SQLITE_READONLY, False),
}


@pytest.mark.parametrize(
    ("kind", "lasting"),
    [
        ("the disk is full", True),
        ("the disk fails", False),
        ("the disk fails, nothing is rolled back", True),
        ("busy", False),
        ("damaged", False),
        ("read-only", True),
    ],
)
def test_whichever_call_of_the_index_fails_the_plan_is_that_of_the_files(
    tmp_path: Path, trusting: None, monkeypatch: pytest.MonkeyPatch, kind: str, lasting: bool
) -> None:
    make(tmp_path, jane=JANE, joe=JANE.replace("jane", "joe"))
    outcome(tmp_path, cache=True)
    caches = index_of(tmp_path).parent
    shutil.copytree(caches, tmp_path / "before")
    (tmp_path / "profiles" / "jane.yaml").write_text(
        JANE.replace("Jane", "Janet") + "meta: {protect: true}\n"
    )
    (tmp_path / "profiles" / "joe.yaml").unlink()
    expected = outcome(tmp_path, cache=False)
    connect = index_file._connect
    code, rolls_back = FAULTS[kind]
    for number in range(1000):
        shutil.rmtree(caches)
        shutil.copytree(tmp_path / "before", caches)
        fault = SqliteFault(number, code, rolls_back=rolls_back, lasting=lasting)

        def faulty(database: str, fault: SqliteFault = fault) -> Any:
            db = connect(database)
            return db if database in ("", ":memory:") else FailingConnection(db, fault)

        with monkeypatch.context() as patch:
            patch.setattr(index_file, "_connect", faulty)
            with workspace_in(tmp_path) as workspace:
                assert [*to_lines(workspace.plan())] == expected, number
                with suppress(IndexUnusable):  # an apply says so, and sends nothing
                    declared = {each.address: each.protect for each in workspace.declared}
                    assert declared == {"jane": True}, number
        assert outcome(tmp_path, cache=True) == expected, number
        if not fault.has_struck:
            break
    assert number > 5


def test_an_index_that_does_not_fit_is_told_and_left_out(tmp_path: Path) -> None:
    make(tmp_path, jane=JANE)
    project = Project(tmp_path)
    assert project.run("apply", "--auto-approve")
    project.run("plan")
    path = tmp_path / "profiles" / "jane.yaml"
    path.write_text(
        "customer_user_id: jane\nfirst_name: June\nmeta: {protect: true, labels: [v]}\n"
    )
    for number in range(400):
        (tmp_path / "profiles" / f"{number}.yaml").write_text(JANE.replace("jane", f"u{number}"))
    done = subprocess.run(
        [
            "bash",
            "-c",
            'ulimit -f 128; exec "$@"',
            "-",
            sys.executable,
            "-m",
            "reconciler",
            "apply",
            "--auto-approve",
            "--select",
            "jane",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "warning: the index of the profile files" in done.stderr
    assert done.stderr.count("this run does without it") == 1
    with workspace_in(tmp_path) as workspace:
        record = workspace.store.record("jane")
    assert record is not None
    assert (record.protect, record.labels) == (True, ("v",))


def test_the_number_of_documents_follows_the_files(tmp_path: Path, trusting: None) -> None:
    folder = make(tmp_path, a=JANE, b="customer_user_id: ben\n---\ncustomer_user_id: bob\n")

    def documents() -> int:
        with workspace_in(folder) as workspace:
            return workspace.validate().documents

    assert [documents(), documents()] == [3, 3]
    (folder / "profiles/b.yaml").write_text("customer_user_id: ben\n")
    (folder / "profiles/c.yaml").write_text("customer_user_id: cleo\n")
    assert [documents(), documents()] == [3, 3]
    (folder / "profiles/c.yaml").unlink()
    assert [documents(), documents()] == [2, 2]
