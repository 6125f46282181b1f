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

import pytest

from reconciler.emulator import Answer, Emulator, EmulatorServer, Received
from tests.support.command_line import PROGRAM, ROOT, environment
from tests.support.places import state_of
from tests.support.projects import JANE, KEY, Project, remote

REMOTE = {"rate": "100/s", "timeout": 2}
"""Settings of the API of an environment that is not embedded."""


def test_a_new_user_gets_from_init_to_an_empty_plan(tmp_path: Path) -> None:
    project = Project(tmp_path, None)
    project.run("init")
    project.run("apply", "--auto-approve")
    assert "No changes." in project.run("plan", "--detailed-exitcode")


def test_plan_touches_neither_state_nor_profiles(project: Project) -> None:
    project.run("plan")
    assert sorted(path.name for path in project.folder.iterdir()) == [
        ".gitignore",
        "profiles",
        "reconcile.yaml",
        "schemas",
    ]


def test_a_change_is_pending_with_detailed_exitcode(project: Project) -> None:
    project.run("plan", "--detailed-exitcode", code=2)


def test_each_edit_sends_a_minimal_body(project: Project) -> None:
    project.run("apply", "--auto-approve")
    project.profile("jane", JANE.replace("first_name: Jane\n", ""))
    assert project.bodies() == [{"first_name": None, "ip_country": "FR"}]
    project.profile("jane", JANE.replace("gold", "silver"))
    silver = {"ip_country": "FR", "custom_attributes": [{"key": "tier", "value": "silver"}]}
    assert project.bodies() == [silver]


def test_without_sending_the_country_along_a_body_is_smaller_and_the_plan_warns(
    project: Project,
) -> None:
    api = {"url": "emulator", "send_ip_country": "changed"}
    project.configure({"version": 1, "environments": {"local": {"api": api}}})
    project.run("apply", "--auto-approve")
    project.profile("jane", JANE.replace("first_name: Jane\n", ""))
    assert project.bodies() == [{"first_name": None}]
    assert "jane: sent without ip_country" in project.run("plan")


def test_apply_without_a_terminal_or_approval_sends_nothing(project: Project) -> None:
    project.run("apply", code=6)
    assert not state_of(project.folder).exists()


def test_a_saved_plan_is_applied_and_then_already_there(project: Project) -> None:
    project.run("plan", "--out", "a.plan")
    assert (project.folder / "a.plan").stat().st_mode & 0o777 == 0o600
    assert "1 created" in project.run("apply", "a.plan", "--auto-approve")
    assert "1 already" in project.run("apply", "a.plan", "--auto-approve")


def test_a_plan_changed_by_one_byte_is_refused(project: Project) -> None:
    project.run("plan", "--out", "a.plan")
    path = project.folder / "a.plan"
    path.write_text(path.read_text().replace("gold", "bold"))
    project.run("apply", "a.plan", "--auto-approve", code=6)
    assert "altered" in project.err


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_a_truncated_plan_is_refused(project: Project, keep: int) -> None:
    project.run("plan", "--out", "a.plan")
    path = project.folder / "a.plan"
    path.write_text(path.read_text()[:keep])
    project.run("apply", "a.plan", "--auto-approve", code=6)


def test_the_json_plan_can_be_applied(project: Project) -> None:
    project.write("a.json", project.run("plan", "--format", "json"))
    assert "1 created" in project.run("apply", "a.json", "--auto-approve")


def test_a_wrong_digest_is_refused(project: Project) -> None:
    project.run("apply", "--auto-approve", "--digest", "sha256:0", code=6)


def test_with_json_there_is_nothing_but_json_on_stdout(project: Project) -> None:
    lines = project.run("apply", "--auto-approve", "--json").splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["type"] for event in events] == ["version", "start", "change", "summary"]
    assert (events[2]["address"], events[2]["outcome"]) == ("jane", "created")


def test_invalid_files_end_with_3_and_send_nothing(project: Project) -> None:
    project.profile("bad", "customer_user_id: bad\nfist_name: X\n")
    project.run("apply", "--auto-approve", code=3)
    assert "first_name" in project.err
    assert not state_of(project.folder).exists()


def test_an_empty_profiles_folder_deletes_nothing(project: Project) -> None:
    project.run("apply", "--auto-approve")
    (project.folder / "profiles" / "jane.yaml").unlink()
    project.run("apply", "--auto-approve", "--prune", code=3)


def test_deleting_everything_is_refused(project: Project) -> None:
    project.run("apply", "--auto-approve")
    project.profile("jane", JANE.replace("jane", "joan"))
    project.run("apply", "--auto-approve", "--prune", code=6)
    assert "jane" in project.run("state", "list")


def test_a_usage_error_ends_with_64(project: Project) -> None:
    project.run("plan", "--bogus", code=64)
    project.run("--env", "nowhere", "plan", code=64)


def test_colour_is_used_only_when_asked_for(project: Project) -> None:
    assert "\x1b[" not in project.run("plan")
    assert "\x1b[" in project.run("--color", "always", "plan")


def test_escapes_in_values_are_shown_and_not_obeyed(project: Project) -> None:
    project.profile("x", 'customer_user_id: x\nfirst_name: "a\\\\e[31m"\n')
    assert "\x1b" not in project.run("plan")


def test_an_ascii_locale_prints_the_plan(project: Project) -> None:
    project.run("apply", "--auto-approve")
    project.profile("jane", JANE.replace("Jane", "Zoë"))
    assert "->" in project.run("plan", PYTHONIOENCODING="ascii")


def test_a_full_device_is_a_failure_without_a_traceback(project: Project) -> None:
    with open("/dev/full", "w") as full:
        process = project.start("plan", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in err


def test_state_surgery_keeps_a_backup(project: Project) -> None:
    project.run("apply", "--auto-approve")
    export = project.run("state", "pull")
    project.run("state", "rm", "jane")
    assert "records no profile" in project.run("state", "list")
    assert any("backup" in path.name for path in state_of(project.folder).parent.iterdir())
    project.write("export.json", export)
    project.run("state", "push", "export.json", code=6)  # it is older than the state
    project.run("state", "push", "--force", "export.json")
    assert "jane" in project.run("state", "list")
    assert "No changes." in project.run("plan")


def test_refresh_reports_drift_and_what_it_cannot_see(project: Project) -> None:
    project.run("apply", "--auto-approve")
    api = Emulator(db=state_of(project.folder, "emulator.db"))
    headers = {
        "adapty-customer-user-id": "jane",
        "Authorization": "Api-Key k",
        "Content-Type": "application/json",
    }
    body = b'{"custom_attributes": [{"key": "tier", "value": "tin"}]}'
    api.handle("PATCH", "/api/v2/server-side-api/profile/", headers=headers, body=body)
    api.close()
    assert "No changes." in project.run("plan")
    body_of_plan = {"ip_country": "FR", "custom_attributes": [{"key": "tier", "value": "gold"}]}
    assert project.bodies("--refresh") == [body_of_plan]
    out = project.run("refresh")
    assert '"gold" → "tin"' in out
    assert "cannot be verified" in out
    assert project.bodies() == [body_of_plan]


def test_a_missing_key_ends_with_3_and_names_the_variable(project: Project) -> None:
    project.configure(remote("https://127.0.0.1:1", api=REMOTE))
    project.run("apply", "--auto-approve", code=3)
    assert "SECRET_KEY" in project.err


def test_a_refused_key_ends_with_4_and_is_never_printed(project: Project) -> None:
    with EmulatorServer(Emulator(keys=frozenset({"another"}))) as server:
        project.configure(remote(server.url, api=REMOTE))
        project.run("apply", "--auto-approve", code=4, SECRET_KEY=KEY)
    assert KEY not in "".join(project.outputs)


def test_an_api_that_is_unreachable_ends_with_5(project: Project) -> None:
    project.configure(remote("http://127.0.0.1:9", api=REMOTE))
    project.run("apply", "--auto-approve", code=5, SECRET_KEY=KEY)


def test_the_key_is_in_no_output_and_no_file(project: Project) -> None:
    with EmulatorServer(Emulator()) as server:
        project.configure(remote(server.url, api=REMOTE))
        project.run("plan", "--out", "a.plan", SECRET_KEY=KEY)
        project.run("apply", "a.plan", "--auto-approve", SECRET_KEY=KEY)
        project.run("refresh", SECRET_KEY=KEY)
    assert KEY not in "".join(project.outputs)
    for path in project.folder.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_plan_without_refresh_makes_no_call(project: Project) -> None:
    api = Emulator()
    with EmulatorServer(api) as server:
        project.configure(remote(server.url, api=REMOTE))
        project.run("plan", SECRET_KEY=KEY)
    assert list(api.log) == []


def test_confirm_needs_the_digest_beside_auto_approve(project: Project) -> None:
    with EmulatorServer(Emulator()) as server:
        project.configure(remote(server.url, api=REMOTE, confirm=True))
        project.run("apply", "--auto-approve", code=6, SECRET_KEY=KEY)
        digest = json.loads(project.run("plan", "--format", "json"))["digest"]
        project.run("apply", "--auto-approve", "--digest", digest, SECRET_KEY=KEY)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_apply_saves_and_reports_what_was_not_done(
    project: Project, number: signal.Signals
) -> None:
    many = [f"customer_user_id: u{index}\nfirst_name: U\n" for index in range(200)]
    project.profile("many", "---\n".join(many))
    process = project.start("apply", "--auto-approve", "--json")
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(3)]
    process.send_signal(number)
    started = time.monotonic()
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - started < 7
    assert process.returncode == 130, err
    events = [json.loads(line) for line in [*seen, *out.splitlines()]]
    done = [event["address"] for event in events if event.get("outcome") == "created"]
    assert events[-1]["outcomes"]["skipped"] == 201 - len(done)
    recorded = json.loads(project.run("state", "list", "--format", "json"))
    assert sorted(done) == [record["address"] for record in recorded]


def test_the_second_of_two_applies_at_once_is_refused(project: Project) -> None:
    go_on = threading.Event()

    class Held:
        def around(self, received: Received, answer: Callable[[], Answer]) -> Answer:
            go_on.wait(60)
            return answer()

    with EmulatorServer(Emulator(), faults=Held()) as server:
        project.configure(remote(server.url, api={**REMOTE, "timeout": 60}))
        first = project.start("apply", "--auto-approve", "--json", SECRET_KEY=KEY)
        while not server.emulator.log:
            assert first.poll() is None
            time.sleep(0.01)
        project.run("apply", "--auto-approve", code=6, SECRET_KEY=KEY)
        go_on.set()
        assert "state unlock" in project.err
        first.communicate(timeout=60)
    assert first.returncode == 0


def test_select_by_label_and_address(project: Project) -> None:
    project.profile("b", "customer_user_id: bob\nfirst_name: B\nmeta: {labels: [qa]}\n")
    plan = json.loads(project.run("plan", "--format", "json", "--select", "label:qa"))
    assert [change["address"] for change in plan["changes"]] == ["bob"]
    assert plan["summary"]["unchanged"] == 0


def test_an_environment_variable_sets_an_option(project: Project) -> None:
    project.run("plan", code=2, RECONCILE_DETAILED_EXITCODE="1")


@pytest.mark.parametrize("seed", range(4))
def test_after_a_kill_at_any_moment_the_next_run_converges(project: Project, seed: int) -> None:
    many = [f"customer_user_id: u{index}\nfirst_name: U{index}\n" for index in range(60)]
    project.profile("many", "---\n".join(many))
    chance = random.Random(seed)
    reported: list[str] = []
    for _ in range(3):
        process = project.start("apply", "--auto-approve", "--json")
        assert process.stdout is not None
        head = [process.stdout.readline() for _ in range(chance.randrange(1, 12))]
        process.kill()
        out, _ = process.communicate()
        whole = [line for line in [*head, *out.splitlines(True)] if line.endswith("\n")]
        events = [json.loads(line) for line in whole]
        reported += [event["address"] for event in events if event.get("outcome") == "created"]
    recorded = {
        record["address"]: record
        for record in json.loads(project.run("state", "list", "--format", "json"))
    }
    assert all(recorded[name].get("presence") == "present" for name in reported)
    project.run("apply", "--auto-approve")
    assert "No changes." in project.run("plan", "--detailed-exitcode")
    api = Emulator(db=state_of(project.folder, "emulator.db"))
    assert {profile["customer_user_id"] for profile in api.profiles()} == {
        "jane",
        *(f"u{index}" for index in range(60)),
    }
    api.close()


def shell(project: Project, command: str, **env: str) -> str:
    """Runs a line of shell in which ``$R`` is the program; returns both streams."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project.folder,
        env=environment(R=f"{sys.executable} -m reconciler", **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return done.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_harm_nothing(project: Project, closed: str) -> None:
    assert shell(project, f"$R apply --auto-approve {closed}; echo code $?").endswith("code 0\n")
    assert "No changes." in project.run("plan", "--detailed-exitcode")


def test_a_reader_that_goes_away_does_not_stop_the_apply(project: Project) -> None:
    many = [f"customer_user_id: u{index}\nfirst_name: U\n" for index in range(20)]
    project.profile("many", "---\n".join(many))
    out = shell(project, "$R apply --auto-approve --json | head -1; echo code ${PIPESTATUS[0]}")
    assert out.endswith("code 1\n")
    assert "No changes." in project.run("plan", "--detailed-exitcode")


@pytest.mark.parametrize(
    ("name", "value", "colored"),
    [
        ("FORCE_COLOR", "1", True),
        ("FORCE_COLOR", "", False),
        ("FORCE_COLOR", "0", False),
        ("CLICOLOR_FORCE", "1", True),
    ],
)
def test_colour_can_be_forced(project: Project, name: str, value: str, colored: bool) -> None:
    assert ("\x1b[" in project.run("plan", **{name: value})) is colored
    assert "\x1b[" not in project.run("plan", **{name: value, "NO_COLOR": "1"})


def test_init_leaves_what_gitignore_holds(tmp_path: Path) -> None:
    project = Project(tmp_path, None)
    (tmp_path / ".gitignore").write_bytes(b"caf\xe9\n*.plan")
    project.run("init")
    assert (tmp_path / ".gitignore").read_bytes() == b"caf\xe9\n*.plan\n.reconcile/\n"


def test_init_of_another_folder_prints_how_to_go_there(tmp_path: Path) -> None:
    assert Project(tmp_path, None).run("init", "a b").endswith("next: cd 'a b' && reconcile plan\n")


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
def test_a_missing_file_is_invalid_input(project: Project, arguments: tuple[str]) -> None:
    project.run(*arguments, code=3)


def test_apply_shows_the_requests_when_asked(project: Project) -> None:
    assert '"first_name": "Jane"' in project.run("apply", "--show-requests", code=6)
    assert '"first_name": "Jane"' not in project.run("apply", code=6)


def test_a_selection_that_matches_nothing_gives_a_warning(project: Project) -> None:
    project.run("plan", "--select", "jane*")
    assert "warning" not in project.err
    project.run("plan", "--select", "jame*")
    assert "leave no profile" in project.err


def at_terminal(
    project: Project, typed: bytes | signal.Signals, *arguments: str
) -> tuple[int, str]:
    """Runs the program at a terminal, types (or signals) when it asks, and returns its code and
    output."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(project.folder)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(sys.executable, [*PROGRAM, *arguments])
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
        (b"yes\n", 0, "1 created"),
        (b"y\n", 6, "not approved"),
        (b"\n", 6, "not approved"),
        (b"\x04", 6, "not approved"),
        (b"\x03", 130, "interrupted; nothing was sent"),
        (signal.SIGTERM, 130, "interrupted; nothing was sent"),
        (signal.SIGHUP, 130, "interrupted; nothing was sent"),
    ],
)
def test_at_a_terminal_only_yes_is_accepted(
    project: Project, typed: bytes | signal.Signals, code: int, expected: str
) -> None:
    ended, output = at_terminal(project, typed, "apply")
    assert (ended, expected in output) == (code, True), output
    assert "Traceback" not in output
