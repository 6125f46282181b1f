"""Whose a profile is: what is adopted, what is replaced, and what a prune may delete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.records import Origin
from reconciler.emulator import Emulator, EmulatorServer, parse_fault
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


def origins(project: Project) -> dict[str, Origin]:
    with project.workspace(environ={"KEY": "k"}) as workspace:
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
    assert "theirs: deletes a profile that this tool did not create" in shown
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
    with project.workspace(environ={"KEY": "k"}, clock=InstantClock()) as workspace:
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
    with project.workspace(environ={"KEY": "k"}) as workspace:
        record = workspace.store.record("ours")
        if record is not None:
            assert (record.deleting, record.origin) == (False, Origin.ADOPTED)
