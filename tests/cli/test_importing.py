"""The command `import` over the built-in emulator."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from reconciler.emulator import Emulator, EmulatorServer
from tests.support.projects import KEYS, Project, remote
from tests.support.wire import create, wait_until


def test_profiles_that_exist_become_files_again(project: Project) -> None:
    project.run("apply", "--auto-approve")
    project.run("state", "rm", "jane")
    (project.folder / "profiles" / "jane.yaml").unlink()
    ids = project.write("ids.txt", "# QA\n\njane  # tester\nnobody\r\n")
    out = project.run("import", "--ids", str(ids), "--json", "--dry-run", code=1)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["type"] for event in events] == ["version", "profile", "profile", "summary"]
    assert {event["address"]: event["outcome"] for event in events[1:3]} == {
        "jane": "imported",
        "nobody": "missing",
    }
    assert not list((project.folder / "profiles").iterdir())
    out = project.run("import", "jane")
    assert "jane: imported  profiles/jane.yaml" in out
    assert project.err.count("real people") == 1
    assert project.plan("--detailed-exitcode")["changes"] == []
    project.run("validate")
    assert "jane: already" in project.run("import", "jane")
    assert "real people" not in project.err


def test_what_is_wrong_with_the_command_is_told(project: Project) -> None:
    project.run("import", code=64)
    assert "no profile is named" in project.err
    project.run("import", "jane", "--with", "nonsense", code=64)
    assert "nonsense" in project.err
    project.run("import", "--ids", "missing.txt", code=3)
    assert "missing.txt" in project.err


def test_a_table_becomes_files(project: Project) -> None:
    table = "customer_user_id,custom_attributes.tier,email\njane,x,\njoe,{index},joe@example.com\n"
    project.write("t.csv", table)
    assert "joe: would be written" in project.run("import", "--csv", "t.csv", "--dry-run")
    assert not (project.folder / "profiles" / "joe.yaml").exists()
    out = project.run("import", "--csv", "t.csv")
    assert "jane: already" in out
    assert (project.folder / "profiles" / "joe.yaml").read_text() == (
        'customer_user_id: joe\nemail: "joe@example.com"\ncustom_attributes:\n  tier: "{{index}}"\n'
    )
    project.run("validate")
    assert "joe: already" in project.run("import", "--csv", "t.csv")


def test_a_bad_cell_is_told_with_its_line_and_column_and_nothing_is_written(
    project: Project,
) -> None:
    project.write("t.csv", "customer_user_id,birthday\nann,1990-01-01\nbob,tomorrow\n")
    project.run("import", "--csv", "t.csv", code=3)
    assert "t.csv:3:5" in project.err
    assert not (project.folder / "profiles" / "ann.yaml").exists()
    project.run("import", "--csv", "t.csv", "jane", code=64)
    project.write("t.csv", "customer_user_id,first_name\nann,A\nbob,a\0b\n")
    project.run("import", "--csv", "t.csv", code=3)
    assert "t.csv:3:" in project.err
    assert not (project.folder / "profiles" / "ann.yaml").exists()


def test_ids_and_a_table_are_read_from_standard_input(project: Project) -> None:
    project.run("apply", "--auto-approve")
    project.run("state", "rm", "jane")
    (project.folder / "profiles" / "jane.yaml").unlink()
    assert "jane: imported" in project.run("import", "--ids", "-", given="# QA\njane\n")
    table = "customer_user_id,birthday\r\nann,1990-01-01\r\n"
    project.run("import", "--csv", "-", given=table.replace("1990-01-01", "tomorrow"), code=3)
    assert "standard input:2:5" in project.err
    assert "ann: written" in project.run("import", "--csv", "-", given=table)
    project.run("validate")


def test_what_is_in_the_way_of_a_row_is_told_with_its_line(project: Project) -> None:
    project.write("profiles/ann.yaml", "customer_user_id: other\n")
    project.write("t.csv", "customer_user_id,phone_number\nbob,007\n\nann,1\n")
    out = project.run("import", "--csv", "t.csv", code=1)
    assert "the row is at t.csv:4:1" in out
    project.write("t.csv", "customer_user_id,gender\ncarl,x\n")
    project.run("import", "--csv", "t.csv", "--dry-run")
    assert "t.csv:2:6: warning" in project.err


def test_defaults_that_add_to_what_was_imported_are_warned_of(project: Project) -> None:
    project.run("apply", "--auto-approve")
    project.run("state", "rm", "jane")
    (project.folder / "profiles" / "jane.yaml").unlink()
    defaults = "store: app_store\ncustom_attributes: {tier: tin, team: qa}\n"
    project.write("profiles/_defaults.yaml", defaults)
    project.run("import", "jane")
    assert "_defaults.yaml:1:1: warning: the defaults of its folder give jane more" in project.err
    assert "store, custom_attributes.team; the next plan sends that" in project.err
    (change,) = project.plan()["changes"]
    assert [field["path"] for field in change["fields"]] == ["store", "custom_attributes.team"]
    project.write("t.csv", "customer_user_id\nann\n")
    project.run("import", "--csv", "t.csv")
    assert "t.csv:2:1: warning: the defaults of its folder give ann more" in project.err


def test_the_summary_comes_last_also_after_an_error(project: Project) -> None:
    project.write("profiles/bad.yaml", "- nothing\n")
    out = project.run("import", "jane", "--json", code=3)
    last = json.loads(out.splitlines()[-1])
    assert (last["type"], last["exit_code"], last["outcomes"]) == ("summary", 3, {})
    assert "nothing was planned" in last["error"]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_an_import_that_was_killed_goes_on(tmp_path: Path, sign: signal.Signals) -> None:
    names = [f"u{number:02}" for number in range(40)]
    with EmulatorServer(Emulator()) as server:
        for name in names:
            create(server.emulator, name, who=name)
        project = Project(tmp_path, remote(server.url, api={"rate": "20/s"}))
        project.write("ids.txt", "\n".join(names))
        (tmp_path / "profiles").mkdir()
        server.emulator.log.clear()
        process = project.start("import", "--ids", "ids.txt", "--json", **KEYS)
        wait_until(lambda: len(server.emulator.log) >= 6)
        os.kill(process.pid, sign)
        out, err = process.communicate(timeout=60)
        assert process.returncode == (130 if sign == signal.SIGINT else -signal.SIGKILL), err
        if sign == signal.SIGINT:
            assert json.loads(out.splitlines()[-1])["exit_code"] == 130
        written = len([*(tmp_path / "profiles").glob("*.yaml")])
        assert 0 < written < 40
        project.configure(remote(server.url, api={"rate": "1000/s"}))
        project.run("import", "--ids", "ids.txt", **KEYS)
        assert len([*(tmp_path / "profiles").glob("*.yaml")]) == 40
        assert "No changes." in project.run("plan", **KEYS)
        files = {path: path.read_bytes() for path in (tmp_path / "profiles").glob("*.yaml")}
        out = project.run("import", "--ids", "ids.txt", **KEYS)
        assert "40 profiles: 40 already." in out
        assert {path: path.read_bytes() for path in files} == files
