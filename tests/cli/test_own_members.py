"""Integration identifiers and refund preferences over the command line and the built-in emulator."""

from __future__ import annotations

from tests.support.projects import Project

PROFILE = """\
customer_user_id: jane
integrations:
  appsflyer_id: 1700000000000-1234567
  amplitude_user_id: u-17
refund_saver: {preference: decline, consent: false}
"""


def test_they_are_applied_read_back_masked_and_imported(project: Project) -> None:
    file = project.write("profiles/jane.yaml", PROFILE)
    text = project.run("plan", "--mask")
    assert "u-17" not in text
    assert "decline" in text
    project.run("apply", "--auto-approve")
    assert project.plan("--refresh", "--detailed-exitcode")["changes"] == []
    assert "u-17" in project.run("state", "show", "jane")
    project.run("fmt")
    assert file.read_text("utf-8").index("amplitude") < file.read_text("utf-8").index("appsflyer")
    project.run("state", "rm", "jane")
    file.unlink()
    project.run("import", "jane", "--with", "integrations", "--with", "refund_saver")
    assert 'appsflyer_id: "1700000000000-1234567"' in file.read_text("utf-8")
    assert "preference: decline" in file.read_text("utf-8")
    assert project.plan("--detailed-exitcode")["changes"] == []


def test_each_read_of_a_group_is_counted_in_the_plan(project: Project) -> None:
    project.write("profiles/jane.yaml", PROFILE)
    project.run("apply", "--auto-approve")
    scope = project.plan("--refresh")["scope"]
    assert (scope["read"], scope["read_apart"]) == (1, 2)
    project.run("state", "rm", "jane")
    scope = project.plan("--refresh")["scope"]
    assert (scope["looked_up"], scope["read_apart"]) == (1, 2)
    project.run("apply", "--auto-approve")
    project.write("profiles/jane.yaml", PROFILE.replace("u-17", "u-18"))
    text = project.run("apply", "--refresh", "--auto-approve")
    assert "2 more requests for what profiles do not show" in text


def test_refresh_names_its_scope_by_the_option_or_the_variable(project: Project) -> None:
    project.write("profiles/jane.yaml", PROFILE)
    project.run("apply", "--auto-approve")
    text = project.run("plan", "--refresh=changed")
    assert "there was no profile to read at the API" in text
    project.write("profiles/jane.yaml", PROFILE.replace("u-17", "u-18"))
    text = project.run("apply", "--auto-approve", RECONCILE_REFRESH="changed")
    assert "1 recorded profile read (those to be written)" in text
    assert "1 request after 3 reads at the API" in text
    assert "1 recorded profile read and" in project.run("plan", RECONCILE_REFRESH="true")
    project.run("plan", "--refresh=some", code=64)
    assert "write --refresh or --refresh=changed" in project.err
