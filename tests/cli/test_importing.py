"""The command `import` over the built-in emulator."""

from __future__ import annotations

import json

from tests.support.projects import Project


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
