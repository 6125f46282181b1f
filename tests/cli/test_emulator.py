"""The command `emulator`: its seed, its clock in a file, and the list of what it implements."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.emulator import PROFILE_PATH, Emulator
from reconciler.emulator.catalogue import catalogue_text
from tests.support.command_line import CommandLine
from tests.support.journals import forge_journal
from tests.support.places import HOMES

SEED = """\
access_levels: [pro]
profiles:
  - customer_user_id: jane
    custom_attributes: {level: 5}
    access_levels: {pro: lifetime}
"""


@pytest.fixture
def program(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def write_seed(program: CommandLine) -> str:
    (program.folder / "seed.yaml").write_text(SEED)
    return "seed.yaml"


@contextmanager
def running(program: CommandLine, *options: str) -> Iterator[str]:
    """The address of an emulator that the command started."""
    process = program.start("emulator", *options)
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        assert line.startswith("listening on http://127.0.0.1:"), process.communicate(timeout=30)
        yield line.split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def ask(url: str, body: bytes | None = None) -> Any:
    headers = {"Authorization": "Api-Key k", "adapty-customer-user-id": "jane"}
    request = urllib.request.Request(url, data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.mark.parametrize("name", ["seed.yaml", "seed.json"])
def test_it_begins_with_the_content_of_a_seed(program: CommandLine, name: str) -> None:
    text = SEED
    if name.endswith(".json"):
        profile = {"customer_user_id": "jane", "custom_attributes": {"level": 5}}
        text = json.dumps(
            {"profiles": [{**profile, "access_levels": {"pro": "lifetime"}}]}, indent=1
        )
    (program.folder / name).write_text(text)
    with running(program, "--seed", name) as url:
        data = ask(url + PROFILE_PATH)["data"]
    assert data["custom_attributes"] == [{"key": "level", "value": 5.0}]
    assert [each["access_level_id"] for each in data["access_levels"]] == ["pro"]


def test_a_bad_seed_is_told_with_its_places_and_nothing_starts(program: CommandLine) -> None:
    bad = SEED.replace("jane", "jane\n    purchase: []").replace("lifetime", "soon")
    (program.folder / "seed.yaml").write_text(bad)
    program.run("emulator", "--seed", "seed.yaml", code=3)
    assert "seed.yaml:4:5: error: profiles[0].purchase: there is no such member" in program.err
    assert "Did you mean purchases?" in program.err
    assert (
        "seed.yaml:6:21: error: profiles[0].access_levels.pro: this is not an instant"
        in program.err
    )
    assert "the seed has 2 errors" in program.err


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read: No such file"), ("", "holds no document"), ("a: [", "seed.yaml:2:1")],
)
def test_a_seed_that_cannot_be_read_is_an_error(
    program: CommandLine, content: str | None, reason: str
) -> None:
    if content is not None:
        (program.folder / "seed.yaml").write_text(content)
    program.run("emulator", "--seed", "seed.yaml", code=3)
    assert reason in program.err
    assert "docs/emulator.md" in program.err


def test_a_whole_number_is_the_seed_of_random_faults(program: CommandLine) -> None:
    """`--seed` took only that before seeds of content existed, and scripts say so."""

    def struck(*options: str) -> list[int]:
        with running(program, "--fault", "503:rate=0.5", "--debug", *options) as url:
            statuses = []
            for _ in range(20):
                try:
                    ask(url + PROFILE_PATH)
                except urllib.error.HTTPError as problem:
                    statuses.append(problem.code)
            return statuses

    assert struck("--seed", "7") == struck("--fault-seed", "7")
    assert struck("--seed", "8") != struck("--fault-seed", "7")


def test_access_levels_of_the_app_are_options(program: CommandLine) -> None:
    db = program.folder / "e.db"
    with running(program, "--db", "e.db", "--access-level", "pro", "--access-level", "beta"):
        pass
    emulator = Emulator(db=db)
    assert emulator.access_levels == ("premium", "pro", "beta")
    emulator.close()


def test_a_clock_that_was_moved_stays_moved_in_its_file(program: CommandLine) -> None:
    with running(program, "--db", "e.db", "--debug") as url:
        before = ask(url + "/debug/advance/")
        assert before["skipped"] == 0
        assert ask(url + "/debug/advance/", b'{"days": 31}')["skipped"] == 31 * 86_400
    with running(program, "--db", "e.db", "--debug") as url:
        assert ask(url + "/debug/advance/")["skipped"] == 31 * 86_400


def test_the_list_says_what_is_implemented_and_ends(program: CommandLine) -> None:
    assert program.run("emulator", "--list") == catalogue_text()


# --- what lies beside the file -------------------------------------------------------------------


@pytest.fixture
def home() -> Path:
    return Path(os.environ["XDG_STATE_HOME"], "reconcile")


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_what_a_checkout_brought_beside_the_file_is_never_taken_into_it(
    program: CommandLine, suffix: str
) -> None:
    with running(program, "--db", "e.db"):
        pass
    db = program.folder / "e.db"
    forged = forge_journal(db, "UPDATE app SET app_id = 'forged'")
    forged = forged.rename(f"{db}{suffix}")
    before = db.read_bytes(), forged.read_bytes()
    program.run("emulator", "--db", "e.db", code=6)
    assert "was not left there by this program" in program.err
    assert "state restore" not in program.err
    assert (db.read_bytes(), forged.read_bytes()) == before
    forged.unlink()
    with running(program, "--db", "e.db"):
        pass


def test_the_forged_journal_of_these_tests_is_one_that_sqlite_rolls_back(tmp_path: Path) -> None:
    db = tmp_path / "e.db"
    Emulator(db=db).close()
    forge_journal(db, "UPDATE app SET app_id = 'forged'")
    emulator = Emulator(db=db)
    assert emulator.app_id == "forged"
    emulator.close()


@pytest.mark.parametrize("in_repository", [True, False])
def test_what_a_killed_emulator_left_counts(
    program: CommandLine, home: Path, in_repository: bool
) -> None:
    if in_repository:
        (program.folder / ".git").mkdir()
    process = program.start("emulator", "--db", "e.db", "--seed", write_seed(program))
    assert process.stdout is not None
    assert process.stdout.readline().startswith("listening")
    process.kill()
    process.communicate(timeout=30)
    assert (program.folder / "e.db-wal").stat().st_size > 0
    with running(program, "--db", "e.db") as url:
        assert ask(url + PROFILE_PATH)["data"]["customer_user_id"] == "jane"
    assert [path for path in (home / "writers").rglob("*") if path.is_file()] == []


def test_emulators_share_a_file_and_the_last_one_leaves_no_note(
    program: CommandLine, home: Path
) -> None:
    with running(program, "--db", "e.db"), running(program, "--db", "e.db"):
        assert len([path for path in (home / "writers").rglob("*") if path.is_file()]) == 2
    assert [path for path in (home / "writers").rglob("*") if path.is_file()] == []


def test_without_a_home_what_was_left_is_refused_with_a_way_on(program: CommandLine) -> None:
    homeless = dict.fromkeys((*HOMES, "HOME"), "")
    process = program.start("emulator", "--db", "e.db", "--seed", write_seed(program), **homeless)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("listening")
    process.kill()
    process.communicate(timeout=30)
    program.run("emulator", "--db", "e.db", code=6, **homeless)
    assert "remove it as well" in program.err
    for suffix in ("-wal", "-shm"):
        (program.folder / f"e.db{suffix}").unlink(missing_ok=True)
    with running(program, "--db", "e.db"):
        pass


def test_a_file_that_cannot_be_is_an_error(program: CommandLine) -> None:
    (program.folder / "file").write_text("")
    program.run("emulator", "--db", "file/e.db", code=1)
    assert "cannot use its database file/e.db: " in program.err
    assert "another --db" in program.err
