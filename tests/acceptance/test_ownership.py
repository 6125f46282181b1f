"""Whose a profile is: what is adopted, what is replaced, and what a prune may delete."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.endpoints import PATH
from reconciler.core.records import Origin
from reconciler.emulator import Emulator, EmulatorServer, parse_fault
from reconciler.errors import ExitCode
from reconciler.testing.clock import InstantClock
from tests.support.projects import Project, remote
from tests.support.wire import create

OURS = "customer_user_id: ours\nfirst_name: A\n"
THEIRS = "customer_user_id: theirs\nfirst_name: A\n"
KEPT = "customer_user_id: kept\nfirst_name: A\n"


@pytest.fixture
def api() -> Iterator[EmulatorServer]:
    with EmulatorServer(Emulator()) as server:
        yield server
    server.emulator.close()


@pytest.fixture
def project(tmp_path: Path, api: EmulatorServer) -> Project:
    """A project of three profiles, one of which was there before it was applied."""
    settings = {"key_env": "KEY", "rate": "1000/s", "quiet_period": 0}
    config = remote(api.url, name="qa", api=settings, limits={"max_delete": "100%"})
    project = Project(tmp_path, config, profiles={"ours": OURS, "theirs": THEIRS, "kept": KEPT})
    create(api.emulator, "theirs")
    return project


def run(project: Project, *arguments: str) -> tuple[int, str]:
    return project.invoke(*arguments, KEY="k")


def apply(project: Project, *arguments: str) -> tuple[int, str]:
    return run(project, "apply", "--auto-approve", *arguments)


def remove(project: Project, *names: str) -> None:
    for name in names:
        (project.folder / "profiles" / f"{name}.yaml").unlink()


def customers(api: EmulatorServer) -> set[str]:
    return {each["customer_user_id"] for each in api.emulator.profiles()}


def delete_at_the_api(api: EmulatorServer, customer: str) -> None:
    named = {"adapty-customer-user-id": customer, "Authorization": "Api-Key k"}
    assert api.emulator.handle("DELETE", PATH, headers=named, body=b"").status == 204


def origins(project: Project) -> dict[str, Origin]:
    with project.workspace(environ={**os.environ, "KEY": "k"}) as workspace:
        return {record.address: record.origin for record in workspace.store.records()}


def test_the_state_says_how_each_profile_came_into_it(project: Project) -> None:
    apply(project)
    assert origins(project) == {
        "kept": Origin.CREATED,
        "ours": Origin.CREATED,
        "theirs": Origin.ADOPTED,
    }
    assert "origin: adopted" in run(project, "state", "show", "theirs")[1]


def test_prune_deletes_what_we_created_keeps_what_was_adopted_names_it_and_ends_with_0(
    project: Project, api: EmulatorServer
) -> None:
    apply(project)
    remove(project, "ours", "theirs")

    code, shown = apply(project, "--prune")

    assert code == 0
    assert "kept although in no file, because this tool did not create them" in shown
    assert "theirs; --include-adopted deletes them too" in shown
    assert customers(api) == {"kept", "theirs"}
    code, shown = run(project, "plan", "--prune", "--detailed-exitcode")
    assert code == 0
    assert "theirs" in shown


def test_adopted_profiles_are_deleted_when_that_is_asked_for(
    project: Project, api: EmulatorServer
) -> None:
    apply(project)
    remove(project, "ours", "theirs")

    code, shown = apply(project, "--prune", "--include-adopted")

    assert code == 0
    assert "theirs: will be deleted although this tool did not create it" in shown
    assert customers(api) == {"kept"}
    assert run(project, "plan", "--include-adopted")[0] == 64


def test_a_report_names_the_option_in_the_command_that_applies_it(project: Project) -> None:
    apply(project)
    remove(project, "theirs")
    code, shown = run(project, "plan", "--prune", "--include-adopted", "--format", "markdown")
    assert code == 0
    assert "--prune --include-adopted" in shown


def test_a_profile_that_was_made_anew_under_the_same_customer_id_is_not_ours(
    project: Project, api: EmulatorServer
) -> None:
    """By the time of the plan nobody has looked: the deletion names the profile that we created."""
    apply(project)
    remove(project, "ours")
    api.emulator.clear(keep=["theirs", "kept"])
    create(api.emulator, "ours", tier="gold")

    code, shown = apply(project, "--prune")

    assert code == 0, shown
    assert customers(api) == {"kept", "ours", "theirs"}
    assert "ours" not in origins(project)


@pytest.mark.parametrize("command", [["refresh"], ["apply", "--auto-approve", "--reassert"]])
def test_once_it_was_seen_a_replaced_profile_counts_as_adopted(
    project: Project, api: EmulatorServer, command: list[str]
) -> None:
    apply(project)
    api.emulator.clear(keep=["theirs", "kept"])
    create(api.emulator, "ours", tier="gold")
    run(project, *command)
    remove(project, "ours")

    code, shown = apply(project, "--prune")

    assert code == 0, shown
    assert customers(api) == {"kept", "ours", "theirs"}
    assert origins(project)["ours"] is Origin.ADOPTED


def test_what_we_made_again_after_it_was_gone_is_ours(
    project: Project, api: EmulatorServer
) -> None:
    apply(project)
    api.emulator.clear()
    apply(project, "--reassert")  # finds out that they are gone
    apply(project)
    assert set(origins(project).values()) == {Origin.CREATED}


def test_a_state_from_before_says_nothing_and_nothing_of_it_is_pruned(
    project: Project, api: EmulatorServer
) -> None:
    apply(project)
    export: dict[str, Any] = json.loads(run(project, "state", "pull")[1])
    for profile in export["profiles"]:
        for name in ("origin", "created_at"):
            profile.pop(name, None)
    (project.folder / "old.json").write_text(json.dumps(export), "utf-8")
    code, shown = run(project, "state", "push", str(project.folder / "old.json"), "--force")
    assert code == 0, shown
    remove(project, "ours", "theirs")

    code, shown = apply(project, "--prune")

    assert (code, customers(api)) == (0, {"kept", "ours", "theirs"})
    assert "ours, theirs; --include-adopted" in shown


def test_a_creation_that_was_cut_off_is_looked_up_before_anything_is_deleted(
    tmp_path: Path, api: EmulatorServer
) -> None:
    settings = {"key_env": "KEY", "rate": "1000/s", "quiet_period": 0}
    config = remote(api.url, name="qa", api=settings, limits={"max_delete": "100%"})
    tier = "custom_attributes: {tier: gold}\n"
    profiles = {"ours": OURS + tier, "never": "customer_user_id: never\n" + tier, "kept": KEPT}
    project = Project(tmp_path, config, profiles=profiles)
    apply(project, "--select", "kept")
    api.set_fault(parse_fault("reset-before:method=POST"))
    api.set_fault(parse_fault("reset-before:method=GET"))
    with project.workspace(environ={**os.environ, "KEY": "k"}, clock=InstantClock()) as workspace:
        workspace.apply(workspace.plan())
    api.faults.clear()
    create(api.emulator, "ours", tier="gold")  # the POST landed after all
    remove(project, "ours", "never")

    code, shown = apply(project, "--prune")
    assert code == 6, shown
    assert customers(api) == {"kept", "ours"}
    assert set(origins(project)) == {"kept", "ours"}

    code, shown = apply(project, "--prune")
    assert code == 0, shown
    assert customers(api) == {"kept"}


def test_a_delete_of_unknown_outcome_does_not_meet_the_profile_that_took_the_place(
    project: Project, api: EmulatorServer
) -> None:
    apply(project)
    remove(project, "ours")
    api.set_fault(parse_fault("reset-after:method=DELETE"))
    apply(project, "--prune")
    api.faults.clear()
    create(api.emulator, "ours", tier="gold")

    run(project, "refresh")
    code, shown = apply(project, "--prune")

    assert code == 0, shown
    assert customers(api) == {"kept", "ours", "theirs"}
    with project.workspace(environ={**os.environ, "KEY": "k"}) as workspace:
        record = workspace.store.record("ours")
        if record is not None:
            assert (record.deleting, record.origin) == (False, Origin.ADOPTED)


def test_a_deletion_shows_all_that_is_known_of_the_profile(
    project: Project, api: EmulatorServer
) -> None:
    project.profile("ours", OURS + "email: a@example.com\ncustom_attributes: {tier: gold}\n")
    apply(project)
    create(api.emulator, "ours", tier="tin")
    run(project, "refresh")
    remove(project, "ours")

    plan = json.loads(run(project, "plan", "--prune", "--format", "json")[1])
    (change,) = plan["changes"]

    assert [(each["path"], each["before"], each["basis"]) for each in change["fields"]] == [
        ("custom_attributes.tier", "tin", "observed"),
        ("email", "a@example.com", "recorded"),
        ("first_name", "A", "recorded"),
    ]
    assert all(each["after"] is None for each in change["fields"])
    shown = run(project, "plan", "--prune")[1]
    assert '"a@example.com"' in shown
    masked = run(project, "plan", "--prune", "--mask", "--show-requests")[1]
    assert "a@example.com" not in masked
    assert "tin" not in masked
    file = str(project.folder / "a.plan")
    run(project, "plan", "--prune", "--out", file)
    assert run(project, "apply", file, "--auto-approve")[0] == 0
    assert customers(api) == {"kept", "theirs"}


def test_a_backup_of_the_state_is_made_and_named_before_anything_is_deleted(
    project: Project, api: EmulatorServer
) -> None:
    assert "the state before" not in apply(project)[1]
    remove(project, "ours")

    code, shown = apply(project, "--prune")

    assert code == 0
    before, _, after = shown.partition("the state before is in ")
    assert "ours: deleted" not in before
    backup = after.splitlines()[0]
    assert run(project, "state", "show", "ours")[0] == 6
    assert run(project, "state", "restore", backup)[0] == 0
    assert run(project, "state", "show", "ours")[0] == 0


def test_a_program_is_told_of_the_backup(project: Project) -> None:
    apply(project)
    remove(project, "ours")
    _, text = apply(project, "--prune", "--json")
    events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [each["type"] for each in events] == ["version", "start", "backup", "change", "summary"]
    assert Path(events[2]["path"]).is_file()


# --- on_existing: refuse -------------------------------------------------------------------------


@pytest.fixture
def careful(project: Project, api: EmulatorServer) -> Project:
    """The same project, where nothing is adopted."""
    settings = {"key_env": "KEY", "rate": "1000/s", "quiet_period": 0}
    config = remote(api.url, name="qa", api=settings)
    config["environments"]["qa"]["on_existing"] = "refuse"
    project.configure(config)
    return project


def sent(api: EmulatorServer, customer: str) -> list[str]:
    return [
        each.method
        for each in api.emulator.log
        if each.headers.get("adapty-customer-user-id") == customer
    ]


def test_a_profile_that_exists_and_is_not_recorded_is_looked_at_and_refused(
    careful: Project, api: EmulatorServer
) -> None:
    plan = json.loads(run(careful, "plan", "--format", "json")[1])
    assert (plan["summary"]["requests"], plan["summary"]["requests_max"]) == (6, 6)
    assert plan["target"]["on_existing"] == "refuse"

    code, shown = apply(careful)

    assert code == ExitCode.REFUSED
    assert "it exists and is not recorded" in shown
    assert "the command import records it" in shown
    assert origins(careful) == {"kept": Origin.CREATED, "ours": Origin.CREATED}
    assert sent(api, "ours") == ["GET", "POST"]
    assert sent(api, "theirs") == ["POST", "GET"]
    assert apply(careful)[0] == ExitCode.REFUSED
    assert run(careful, "plan", "--exclude", "theirs", "--detailed-exitcode")[0] == 0


def test_what_a_plan_saw_to_exist_is_refused_before_anything_is_sent(
    careful: Project, api: EmulatorServer
) -> None:
    file = str(careful.folder / "a.plan")
    shown = run(careful, "plan", "--refresh", "--out", file)[1]
    assert "exists and is not recorded, which `on_existing: refuse` forbids: theirs" in shown
    before = len(api.emulator.log)

    code, shown = run(careful, "apply", file, "--auto-approve")

    assert (code, len(api.emulator.log)) == (ExitCode.REFUSED, before)
    assert "--exclude" in shown
    assert apply(careful, "--refresh", "--exclude", "theirs")[0] == 0


def test_a_plan_from_before_existing_profiles_were_refused_is_not_applied(
    project: Project, api: EmulatorServer, request: pytest.FixtureRequest
) -> None:
    file = str(project.folder / "a.plan")
    run(project, "plan", "--out", file)
    request.getfixturevalue("careful")

    code, shown = run(project, "apply", file, "--auto-approve")

    assert code == ExitCode.REFUSED
    assert "on_existing changed since" in shown


def interrupted(project: Project, api: EmulatorServer, *, fault: str) -> None:
    """Has each creation of ours end in a fault."""
    api.set_fault(parse_fault(fault))
    environ = {**os.environ, "KEY": "k"}
    with project.workspace(environ=environ, clock=InstantClock()) as workspace:
        workspace.apply(workspace.plan(select=["ours"]))
    api.faults.clear()


@pytest.mark.parametrize("attributes", ["", "custom_attributes: {tier: gold}\n"])
@pytest.mark.parametrize("fault", ["reset-before:method=POST", "reset-after:method=POST"])
def test_our_own_creation_of_unknown_outcome_is_not_refused(
    careful: Project, api: EmulatorServer, fault: str, attributes: str
) -> None:
    careful.profile("ours", OURS + attributes)
    interrupted(careful, api, fault=fault)

    code, shown = apply(careful, "--select", "ours")

    assert code == 0, shown
    assert "ours" in customers(api)
    assert run(careful, "plan", "--select", "ours", "--detailed-exitcode")[0] == 0


def test_a_profile_that_others_made_during_our_creation_is_refused(
    careful: Project, api: EmulatorServer
) -> None:
    careful.profile("ours", OURS + "custom_attributes: {tier: gold}\n")
    interrupted(careful, api, fault="reset-before:method=POST")
    create(api.emulator, "ours", tier="tin")

    code, shown = apply(careful, "--select", "ours")

    assert code == ExitCode.REFUSED, shown
    assert sent(api, "ours")[-1] == "GET"
    (theirs,) = [each for each in api.emulator.profiles() if each["customer_user_id"] == "ours"]
    assert theirs["custom_attributes"] == {"tier": "tin"}


# --- looking up ----------------------------------------------------------------------------------


def refreshed(project: Project, *arguments: str) -> dict[str, Any]:
    code, text = run(project, "plan", "--refresh", "--format", "json", *arguments)
    assert code == 0, text
    plan: dict[str, Any] = json.loads(text)
    return plan


def test_plan_with_refresh_looks_up_what_is_not_recorded_and_tells_adoption_from_creation(
    project: Project, api: EmulatorServer
) -> None:
    plan = refreshed(project)
    assert [(each["address"], each["action"]) for each in plan["changes"]] == [
        ("kept", "create"),
        ("ours", "create"),
        ("theirs", "adopt"),
    ]
    assert (plan["summary"]["create"], plan["summary"]["adopt"]) == (2, 1)
    assert (plan["summary"]["requests"], plan["summary"]["requests_max"]) == (3, 5)
    assert plan["scope"] == {"refresh": True, "looked_up": 3}
    assert len([each for each in api.emulator.log if each.method == "GET"]) == 3
    assert (
        "3 profiles looked up that the state does not record"
        in run(project, "plan", "--refresh")[1]
    )


def test_an_adoption_shows_what_is_there_already(project: Project, api: EmulatorServer) -> None:
    create(api.emulator, "theirs", tier="tin", level=5)
    project.profile("theirs", THEIRS + "custom_attributes: {tier: gold, new: 1}\n")

    (change,) = refreshed(project, "--select", "theirs")["changes"]

    assert [(each["path"], each["before"], each["basis"]) for each in change["fields"]] == [
        ("first_name", None, "none"),
        ("custom_attributes.new", None, "observed"),
        ("custom_attributes.tier", "tin", "observed"),
    ]
    assert "custom attributes that no file declares: level" in change["reason"]
    assert change["revision"] is None


def test_a_saved_plan_of_an_adoption_is_applied_once_and_converges(project: Project) -> None:
    file = str(project.folder / "a.plan")
    run(project, "plan", "--refresh", "--out", file)

    code, shown = run(project, "apply", file, "--auto-approve")

    assert code == 0, shown
    assert "theirs: adopted" in shown
    assert "ours: created" in shown
    assert "Apply complete: 2 created, 1 adopted." in shown
    assert "5 requests sent." in shown
    assert run(project, "plan", "--detailed-exitcode")[0] == 0
    assert run(project, "plan", "--refresh", "--detailed-exitcode")[0] == 0
    code, shown = run(project, "apply", file, "--auto-approve")
    assert (code, "3 already" in shown) == (0, True)


def test_a_profile_that_went_before_its_adoption_is_not_made_from_a_part(
    project: Project, api: EmulatorServer
) -> None:
    file = str(project.folder / "a.plan")
    run(project, "plan", "--refresh", "--out", file, "--select", "theirs")
    api.emulator.clear()

    code, shown = run(project, "apply", file, "--auto-approve")

    assert code == 1
    assert "plan again" in shown
    assert customers(api) == set()


def test_apply_with_refresh_looks_up_too(project: Project) -> None:
    code, shown = apply(project, "--refresh")
    assert code == 0, shown
    assert "~ theirs  (adopt)" in shown
    assert "theirs: adopted" in shown


def test_a_refresh_says_what_was_read(project: Project) -> None:
    apply(project)
    project.profile("new", KEPT.replace("kept", "new"))
    shown = run(project, "plan", "--refresh")[1]
    assert "at the API 3 recorded profiles read and 1 profile looked up" in shown
    shown = run(project, "plan", "--refresh", "--exclude", "*")[1]
    assert "there was no profile to read at the API" in shown


@pytest.mark.parametrize("name", ["profile_id", "both"])
def test_a_profile_is_looked_up_by_the_profile_id_that_its_file_gives(
    project: Project, api: EmulatorServer, name: str
) -> None:
    (profile_id,) = {each["profile_id"] for each in api.emulator.profiles()}
    text = f"profile_id: {profile_id}\nfirst_name: A\n"
    if name == "both":
        text = f"customer_user_id: theirs\n{text}"
    project.profile("theirs", text)

    plan = refreshed(project)

    (change,) = (each for each in plan["changes"] if each["action"] != "create")
    assert change["action"] == "adopt"
    code, shown = apply(project, "--refresh")
    assert code == 0, shown
    assert run(project, "plan", "--detailed-exitcode")[0] == 0


def test_without_fields_an_adoption_is_a_read(project: Project) -> None:
    project.profile("theirs", "customer_user_id: theirs\n")
    (change,) = refreshed(project, "--select", "theirs")["changes"]
    assert [each["method"] for each in change["requests"]] == ["GET"]
    code, shown = apply(project, "--refresh")
    assert (code, "theirs: adopted" in shown) == (0, True)
    assert run(project, "plan", "--detailed-exitcode")[0] == 0


def test_an_exclusive_profile_loses_at_its_adoption_what_no_file_declares(
    project: Project, api: EmulatorServer
) -> None:
    create(api.emulator, "theirs", level=5)
    project.profile("theirs", THEIRS + "meta: {exclusive: [custom_attributes]}\n")
    (change,) = refreshed(project, "--select", "theirs")["changes"]
    assert ("custom_attributes.level", "clear") in {
        (each["path"], each["op"]) for each in change["fields"]
    }
    apply(project, "--refresh")
    assert {
        each["customer_user_id"]: each["custom_attributes"] for each in api.emulator.profiles()
    }["theirs"] == {}


def test_what_only_a_plan_saw_as_gone_is_looked_up_before_its_record_is_dropped(
    project: Project, api: EmulatorServer
) -> None:
    apply(project)
    remove(project, "ours")
    delete_at_the_api(api, "ours")
    code, text = run(project, "plan", "--refresh", "--prune", "--out", "saved.plan")
    assert code == 0, text
    create(api.emulator, "ours")  # a day later it is there again

    code, text = run(project, "apply", "saved.plan", "--auto-approve")

    assert code == 6, text
    assert "it exists: it was made since" in text
    assert origins(project)["ours"] is Origin.ADOPTED


def test_what_is_gone_still_is_dropped(project: Project, api: EmulatorServer) -> None:
    apply(project)
    remove(project, "ours")
    delete_at_the_api(api, "ours")
    run(project, "plan", "--refresh", "--prune", "--out", "saved.plan")

    code, text = run(project, "apply", "saved.plan", "--auto-approve")

    assert code == 0, text
    assert "ours" not in origins(project)
