"""The command line as a user meets it: real processes, real HTTP, real files."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.emulator import Answer, Emulator, EmulatorServer, Received

ROOT = Path(__file__).parent.parent.parent
KEY = "secret_live_abcdefgh.0123456789abcdef0123456789abcdef"
JANE = "customer_user_id: jane\nfirst_name: Jane\nip_country: FR\ncustom_attributes: {tier: gold}\n"


class Place:
    """A workspace folder and the program run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs: list[str] = []

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "reconciler", *arguments],
            cwd=self.folder,
            env={**_clean(), "PYTHONPATH": str(ROOT), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0, **env: str) -> str:
        process = self.start(*arguments, **env)
        out, err = process.communicate(timeout=60)
        self.outputs += [out, err]
        assert "Traceback" not in err, err
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{out}\n{err}"
        self.err = err
        return out

    def bodies(self, *arguments: str) -> list[Any]:
        plan = json.loads(self.run("plan", "--format", "json", *arguments))
        return [request.get("body") for c in plan["changes"] for request in c["requests"]]


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RECONCILE_")}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    found.run("init")
    (tmp_path / "profiles" / "jane.yaml").unlink()
    found.write("profiles/jane.yaml", JANE)
    return found


def config_for(url: str, extra: str = "") -> str:
    return (
        "version: 1\nenvironments:\n  remote:\n    api:\n"
        f"      url: {url}\n      key_env: SECRET_KEY\n      rate: 100/s\n      timeout: 2\n{extra}"
    )


def test_a_new_user_gets_from_init_to_an_empty_plan(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.run("init")
    place.run("apply", "--auto-approve")
    assert "No changes." in place.run("plan", "--detailed-exitcode")


def test_plan_touches_neither_state_nor_profiles(place: Place) -> None:
    place.run("plan")
    assert sorted(path.name for path in place.folder.iterdir()) == [
        ".gitignore",
        "profiles",
        "reconcile.yaml",
    ]


def test_a_change_is_pending_with_detailed_exitcode(place: Place) -> None:
    place.run("plan", "--detailed-exitcode", code=2)


def test_each_edit_takes_its_minimal_body(place: Place) -> None:
    place.run("apply", "--auto-approve")
    place.write("profiles/jane.yaml", JANE.replace("first_name: Jane\n", ""))
    assert place.bodies() == [{"first_name": None}]
    place.write("profiles/jane.yaml", JANE.replace("gold", "silver"))
    assert place.bodies() == [{"custom_attributes": [{"key": "tier", "value": "silver"}]}]


def test_apply_without_a_terminal_or_approval_sends_nothing(place: Place) -> None:
    place.run("apply", code=6)
    assert not (place.folder / ".reconcile").exists()


def test_a_saved_plan_is_applied_and_then_already_there(place: Place) -> None:
    place.run("plan", "--out", "a.plan")
    assert (place.folder / "a.plan").stat().st_mode & 0o777 == 0o600
    assert "1 applied" in place.run("apply", "a.plan", "--auto-approve")
    assert "1 already" in place.run("apply", "a.plan", "--auto-approve")


def test_a_plan_changed_by_one_byte_is_refused(place: Place) -> None:
    place.run("plan", "--out", "a.plan")
    path = place.folder / "a.plan"
    path.write_text(path.read_text().replace("gold", "bold"))
    place.run("apply", "a.plan", "--auto-approve", code=6)
    assert "altered" in place.err


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_a_truncated_plan_is_refused(place: Place, keep: int) -> None:
    place.run("plan", "--out", "a.plan")
    path = place.folder / "a.plan"
    path.write_text(path.read_text()[:keep])
    place.run("apply", "a.plan", "--auto-approve", code=6)


def test_the_json_plan_is_as_applicable_as_the_saved_one(place: Place) -> None:
    place.write("a.json", place.run("plan", "--format", "json"))
    assert "1 applied" in place.run("apply", "a.json", "--auto-approve")


def test_a_digest_that_is_not_the_plans_is_refused(place: Place) -> None:
    place.run("apply", "--auto-approve", "--digest", "sha256:0", code=6)


def test_with_json_there_is_nothing_but_json_on_stdout(place: Place) -> None:
    lines = place.run("apply", "--auto-approve", "--json").splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["type"] for event in events] == ["version", "start", "change", "summary"]
    assert (events[2]["address"], events[2]["outcome"]) == ("jane", "applied")


def test_invalid_files_end_with_3_and_send_nothing(place: Place) -> None:
    place.write("profiles/bad.yaml", "customer_user_id: bad\nfist_name: X\n")
    place.run("apply", "--auto-approve", code=3)
    assert "first_name" in place.err
    assert not (place.folder / ".reconcile").exists()


def test_an_empty_profiles_folder_is_no_wish_to_delete(place: Place) -> None:
    place.run("apply", "--auto-approve")
    (place.folder / "profiles" / "jane.yaml").unlink()
    place.run("apply", "--auto-approve", "--prune", code=3)


def test_deleting_everything_is_refused(place: Place) -> None:
    place.run("apply", "--auto-approve")
    place.write("profiles/jane.yaml", JANE.replace("jane", "joan"))
    place.run("apply", "--auto-approve", "--prune", code=6)
    assert "jane" in place.run("state", "list")


def test_a_usage_error_ends_with_64(place: Place) -> None:
    place.run("plan", "--bogus", code=64)
    place.run("--env", "nowhere", "plan", code=64)


def test_colour_is_used_only_when_asked_for(place: Place) -> None:
    assert "\x1b[" not in place.run("plan")
    assert "\x1b[" in place.run("--color", "always", "plan")


def test_escapes_in_values_are_shown_and_not_obeyed(place: Place) -> None:
    place.write("profiles/x.yaml", 'customer_user_id: x\nfirst_name: "a\\\\e[31m"\n')
    assert "\x1b" not in place.run("plan")


def test_an_ascii_locale_prints_the_plan(place: Place) -> None:
    place.run("apply", "--auto-approve")
    place.write("profiles/jane.yaml", JANE.replace("Jane", "Zoë"))
    assert "->" in place.run("plan", PYTHONIOENCODING="ascii")


def test_a_full_device_is_a_failure_without_a_traceback(place: Place) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", "plan"],
            cwd=place.folder,
            env={**_clean(), "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_state_surgery_keeps_a_backup(place: Place) -> None:
    place.run("apply", "--auto-approve")
    export = place.run("state", "pull")
    place.run("state", "rm", "jane")
    assert "records no profile" in place.run("state", "list")
    assert any("backup" in path.name for path in (place.folder / ".reconcile").iterdir())
    place.write("export.json", export)
    place.run("state", "push", "export.json")
    assert "jane" in place.run("state", "list")
    assert "No changes." in place.run("plan")


def test_refresh_reports_drift_and_what_it_cannot_see(place: Place) -> None:
    place.run("apply", "--auto-approve")
    api = Emulator(db=place.folder / ".reconcile" / "emulator.db")
    headers = {
        "adapty-customer-user-id": "jane",
        "Authorization": "Api-Key k",
        "Content-Type": "application/json",
    }
    body = b'{"custom_attributes": [{"key": "tier", "value": "tin"}]}'
    api.handle("PATCH", "/api/v2/server-side-api/profile/", headers=headers, body=body)
    api.close()
    assert "No changes." in place.run("plan")
    assert place.bodies("--refresh") == [{"custom_attributes": [{"key": "tier", "value": "gold"}]}]
    out = place.run("refresh")
    assert '"gold" -> "tin"' in out
    assert "cannot be verified" in out
    assert place.bodies() == [{"custom_attributes": [{"key": "tier", "value": "gold"}]}]


def test_a_missing_key_ends_with_3_and_names_the_variable(place: Place) -> None:
    place.write("reconcile.yaml", config_for("https://127.0.0.1:1"))
    place.run("apply", "--auto-approve", code=3)
    assert "SECRET_KEY" in place.err


def test_a_refused_key_ends_with_4_and_is_never_printed(place: Place) -> None:
    with EmulatorServer(Emulator(keys=frozenset({"another"}))) as server:
        place.write("reconcile.yaml", config_for(server.url))
        place.run("apply", "--auto-approve", code=4, SECRET_KEY=KEY)
    assert KEY not in "".join(place.outputs)


def test_a_remote_that_is_away_ends_with_5(place: Place) -> None:
    place.write("reconcile.yaml", config_for("http://127.0.0.1:9"))
    place.run("apply", "--auto-approve", code=5, SECRET_KEY=KEY)


def test_the_key_is_in_no_output_and_no_file(place: Place) -> None:
    with EmulatorServer(Emulator()) as server:
        place.write("reconcile.yaml", config_for(server.url))
        place.run("plan", "--out", "a.plan", SECRET_KEY=KEY)
        place.run("apply", "a.plan", "--auto-approve", SECRET_KEY=KEY)
        place.run("refresh", SECRET_KEY=KEY)
    assert KEY not in "".join(place.outputs)
    for path in place.folder.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_plan_without_refresh_makes_no_call(place: Place) -> None:
    api = Emulator()
    with EmulatorServer(api) as server:
        place.write("reconcile.yaml", config_for(server.url))
        place.run("plan", SECRET_KEY=KEY)
    assert list(api.log) == []


def test_confirm_needs_the_digest_beside_auto_approve(place: Place) -> None:
    with EmulatorServer(Emulator()) as server:
        place.write("reconcile.yaml", config_for(server.url, "    confirm: true\n"))
        place.run("apply", "--auto-approve", code=6, SECRET_KEY=KEY)
        digest = json.loads(place.run("plan", "--format", "json"))["digest"]
        place.run("apply", "--auto-approve", "--digest", digest, SECRET_KEY=KEY)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_saves_and_says_what_was_not_done(
    place: Place, number: signal.Signals
) -> None:
    many = [f"customer_user_id: u{index}\nfirst_name: U\n" for index in range(200)]
    place.write("profiles/many.yaml", "---\n".join(many))
    process = place.start("apply", "--auto-approve", "--json")
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(3)]
    process.send_signal(number)
    started = time.monotonic()
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - started < 7
    assert process.returncode == 130, err
    events = [json.loads(line) for line in [*seen, *out.splitlines()]]
    done = [event["address"] for event in events if event.get("outcome") == "applied"]
    assert events[-1]["outcomes"]["skipped"] == 201 - len(done)
    recorded = json.loads(place.run("state", "list", "--format", "json"))
    assert sorted(done) == [record["address"] for record in recorded]


def test_two_applies_at_once_leave_one_waiting_outside(place: Place) -> None:
    go_on = threading.Event()

    class Held:
        def around(self, received: Received, answer: Callable[[], Answer]) -> Answer:
            go_on.wait(60)
            return answer()

    with EmulatorServer(Emulator(), faults=Held()) as server:
        place.write("reconcile.yaml", config_for(server.url).replace("timeout: 2", "timeout: 60"))
        first = place.start("apply", "--auto-approve", "--json", SECRET_KEY=KEY)
        while not server.emulator.log:
            assert first.poll() is None
            time.sleep(0.01)
        place.run("apply", "--auto-approve", code=6, SECRET_KEY=KEY)
        go_on.set()
        assert "state unlock" in place.err
        first.communicate(timeout=60)
    assert first.returncode == 0


def test_select_by_label_and_address(place: Place) -> None:
    place.write("profiles/b.yaml", "customer_user_id: bob\nfirst_name: B\nmeta: {labels: [qa]}\n")
    plan = json.loads(place.run("plan", "--format", "json", "--select", "label:qa"))
    assert [change["address"] for change in plan["changes"]] == ["bob"]
    assert plan["summary"]["unchanged"] == 0


def test_a_variable_stands_for_an_option(place: Place) -> None:
    place.run("plan", code=2, RECONCILE_DETAILED_EXITCODE="1")


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_the_next_run_converges(place: Place, seed: int) -> None:
    many = [f"customer_user_id: u{index}\nfirst_name: U{index}\n" for index in range(60)]
    place.write("profiles/many.yaml", "---\n".join(many))
    chance = random.Random(seed)
    reported: list[str] = []
    for _ in range(3):
        process = place.start("apply", "--auto-approve", "--json")
        assert process.stdout is not None
        head = [process.stdout.readline() for _ in range(chance.randrange(1, 12))]
        process.kill()
        out, _ = process.communicate()
        whole = [line for line in [*head, *out.splitlines(True)] if line.endswith("\n")]
        events = [json.loads(line) for line in whole]
        reported += [event["address"] for event in events if event.get("outcome") == "applied"]
    recorded = {
        record["address"]: record
        for record in json.loads(place.run("state", "list", "--format", "json"))
    }
    assert all(recorded[name].get("presence") == "present" for name in reported)
    place.run("apply", "--auto-approve")
    assert "No changes." in place.run("plan", "--detailed-exitcode")
    api = Emulator(db=place.folder / ".reconcile" / "emulator.db")
    assert {profile["customer_user_id"] for profile in api.profiles()} == {
        "jane",
        *(f"u{index}" for index in range(60)),
    }
    api.close()


def shell(place: Place, command: str, **env: str) -> str:
    """Runs a line of shell in which ``$R`` is the program; returns both streams."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=place.folder,
        env={**_clean(), "PYTHONPATH": str(ROOT), "R": f"{sys.executable} -m reconciler", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return done.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_harm_nothing(place: Place, closed: str) -> None:
    assert shell(place, f"$R apply --auto-approve {closed}; echo code $?").endswith("code 0\n")
    assert "No changes." in place.run("plan", "--detailed-exitcode")


def test_a_reader_that_goes_away_does_not_stop_the_apply(place: Place) -> None:
    many = [f"customer_user_id: u{index}\nfirst_name: U\n" for index in range(20)]
    place.write("profiles/many.yaml", "---\n".join(many))
    out = shell(place, "$R apply --auto-approve --json | head -1; echo code ${PIPESTATUS[0]}")
    assert out.endswith("code 1\n")
    assert "No changes." in place.run("plan", "--detailed-exitcode")


@pytest.mark.parametrize(
    ("name", "value", "colored"),
    [
        ("FORCE_COLOR", "1", True),
        ("FORCE_COLOR", "", False),
        ("FORCE_COLOR", "0", False),
        ("CLICOLOR_FORCE", "1", True),
    ],
)
def test_colour_can_be_forced(place: Place, name: str, value: str, colored: bool) -> None:
    assert ("\x1b[" in place.run("plan", **{name: value})) is colored
    assert "\x1b[" not in place.run("plan", **{name: value, "NO_COLOR": "1"})


def test_init_leaves_what_gitignore_holds(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / ".gitignore").write_bytes(b"caf\xe9\n*.plan")
    place.run("init")
    assert (tmp_path / ".gitignore").read_bytes() == b"caf\xe9\n*.plan\n.reconcile/\n"


def test_init_of_another_folder_says_where_to_go(tmp_path: Path) -> None:
    assert Place(tmp_path).run("init", "a b").endswith("next: cd 'a b' && reconcile plan\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("apply", "--auto-approve", "no.plan"),
        ("apply", "--auto-approve", "."),
        ("show", "no.plan"),
        ("plan", "--out", ""),
        ("state", "push", "no.json"),
    ],
)
def test_a_file_that_is_not_there_is_invalid_input(place: Place, arguments: tuple[str]) -> None:
    place.run(*arguments, code=3)


def test_apply_shows_the_requests_when_asked(place: Place) -> None:
    assert '"first_name": "Jane"' in place.run("apply", "--show-requests", code=6)
    assert '"first_name": "Jane"' not in place.run("apply", code=6)


def test_a_selection_of_nothing_is_noticed(place: Place) -> None:
    place.run("plan", "--select", "jane*")
    assert "warning" not in place.err
    place.run("plan", "--select", "jame*")
    assert "leave no profile" in place.err


def at_terminal(place: Place, typed: bytes | signal.Signals, *arguments: str) -> tuple[int, str]:
    """Runs the program at a terminal, types (or signals) when it asks, and returns its code and
    output."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(place.folder)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "reconciler", *arguments])
    output = b""
    asked = False
    while True:
        try:
            more = os.read(master, 65536)
        except OSError:
            break
        if not more:
            break
        output += more
        if not asked and b'Only "yes" is accepted' in output:
            asked = True
            if isinstance(typed, signal.Signals):
                os.kill(pid, typed)
            else:
                os.write(master, typed)
    _, status = os.waitpid(pid, 0)
    os.close(master)
    return os.waitstatus_to_exitcode(status), output.decode()


@pytest.mark.parametrize(
    ("typed", "code", "expected"),
    [
        (b"yes\n", 0, "1 applied"),
        (b"y\n", 6, "not approved"),
        (b"\n", 6, "not approved"),
        (b"\x04", 6, "not approved"),
        (b"\x03", 130, "interrupted; nothing was sent"),
        (signal.SIGTERM, 130, "interrupted; nothing was sent"),
        (signal.SIGHUP, 130, "interrupted; nothing was sent"),
    ],
)
def test_at_a_terminal_only_yes_is_accepted(
    place: Place, typed: bytes | signal.Signals, code: int, expected: str
) -> None:
    ended, output = at_terminal(place, typed, "apply")
    assert (ended, expected in output) == (code, True), output
    assert "Traceback" not in output
