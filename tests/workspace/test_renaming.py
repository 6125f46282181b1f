"""Renames of records, over real files and a real state: findings, reads, and a rename by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler import InputError, Refused, Workspace
from reconciler.core.plan import Action
from reconciler.core.records import JournalEntry, JournalKind
from reconciler.emulator import Emulator, EmulatorServer
from reconciler.errors import Diagnostic
from reconciler.workspace.renaming import rename_record
from tests.support.projects import KEYS, Project, remote

ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
FORMER = f"profile:{ID}"
TIER = "custom_attributes: {tier: gold}\n"
ANONYMOUS = f"profile_id: {ID}\n{TIER}"
JANE = f"customer_user_id: jane\n{TIER}"
RENAMED = f'{JANE}meta: {{previously: ["{FORMER}"]}}\n'
JOE = JANE.replace("jane", "joe")


@pytest.fixture
def api() -> Iterator[EmulatorServer]:
    with EmulatorServer(Emulator()) as server:
        server.emulator.plant({"profiles": [{"customer_user_id": "jane", "profile_id": ID}]})
        yield server


@pytest.fixture
def project(tmp_path: Path, api: EmulatorServer) -> Project:
    """A profile that is recorded by its profile id, and linked to a customer id elsewhere; and another."""
    config = remote(api.url, api={"rate": "1000/s"})
    project = Project(tmp_path, config, profiles={"jane": ANONYMOUS, "joe": JOE})
    with opened(project) as place:
        place.apply(place.plan())
    api.emulator.log.clear()
    return project


def opened(project: Project) -> Workspace:
    return project.workspace(environ=KEYS)


def found(place: Workspace) -> list[tuple[str, str]]:
    findings: list[Diagnostic] = []
    place.plan(on_findings=findings.extend)
    return [(each.severity, each.rule) for each in findings]


def test_a_rename_is_planned_beside_its_profile_and_read_under_its_former_address(
    project: Project, api: EmulatorServer
) -> None:
    project.profile("jane", RENAMED.replace("gold", "tin"))
    with opened(project) as place:
        place.plan()
        for plan in (place.plan(), place.plan(refresh="changed"), place.plan(refresh=True)):
            (change,) = plan.changes
            assert (change.action, change.renamed_from) == (Action.RENAME, FORMER)
        named = [each.headers.get("adapty-profile-id") for each in api.emulator.log]
        assert named.count(ID) == 2
        assert len(named) == 3
        assert found(place) == []
        place.apply(plan)
        assert place.plan().is_empty


def test_a_rename_that_was_carried_out_is_said_to_be_over(project: Project) -> None:
    project.profile("jane", RENAMED)
    with opened(project) as place:
        place.apply(place.plan())
        for _ in range(2):
            assert found(place) == [("warning", "meta/previously-done")]
            assert place.plan().is_empty
        project.profile("jane", JANE)
        assert found(place) == []
        assert place.plan().is_empty


def test_an_error_about_a_rename_stops_a_plan_that_has_nothing_to_do(project: Project) -> None:
    """Without it, a prune would take the former record for an orphan."""
    project.profile("joe", RENAMED.replace("jane", "joe"))
    (project.folder / "profiles/jane.yaml").unlink()
    with opened(project) as place, pytest.raises(InputError) as stopped:
        place.plan(prune=True, include_adopted=True)
    assert [each.rule for each in stopped.value.diagnostics] == ["meta/previously"]


def rename(place: Workspace, former: str, address: str) -> str | None:
    return rename_record(former, address, state=place.state, sources=place.sources, now=lambda: 5e9)


def test_a_record_is_renamed_by_hand_after_a_backup(project: Project, api: EmulatorServer) -> None:
    project.profile("jane", JANE)
    with opened(project) as place:
        backup = rename(place, FORMER.upper().replace("PROFILE", "profile"), "jane")
        assert backup is not None
        assert [record.address for record in place.store.records()] == ["jane", "joe"]
        assert place.plan().is_empty
        project.profile("jane", ANONYMOUS)
        rename(place, "jane", FORMER)
        assert place.plan().is_empty
    assert not api.emulator.log


@pytest.mark.parametrize(
    ("former", "address", "message"),
    [
        ("joe", "jane", "two customer ids"),
        ("joe", "joe", "is the address that it has"),
        ("profile:12", "jane", "is no address"),
        ("nobody", FORMER, "still declared|recorded already|does not know"),
        (f"profile:{ID[:-1]}7", "jane", "does not know"),
        (FORMER, "joe", "recorded already"),
        ("joe", f"profile:{ID[:-1]}7", "is recorded with profile"),
    ],
)
def test_a_rename_by_hand_that_cannot_be_is_refused(
    project: Project, former: str, address: str, message: str
) -> None:
    for name in ("jane", "joe"):
        (project.folder / f"profiles/{name}.yaml").unlink()
    with opened(project) as place:
        before = place.export()
        with pytest.raises(Refused, match=message):
            rename(place, former, address)
        assert place.export() == before


def test_a_former_address_that_is_declared_is_not_renamed(project: Project) -> None:
    with opened(project) as place, pytest.raises(Refused, match="still declared, at profiles/jane"):
        rename(place, FORMER, "jane")


def test_the_quiet_period_of_an_interrupted_profile_begins_with_its_rename(
    project: Project,
) -> None:
    project.profile("jane", JANE)
    with opened(project) as place:
        record = place.store.record(FORMER)
        assert record is not None
        with place.state.locked("test") as writer:
            entry = JournalEntry("run-1", FORMER, JournalKind.INTENT, time.time())
            writer.write(put=[record._replace(unknown_at=1.0)], journal=[entry])
        rename(place, FORMER, "jane")
        after = place.store.record("jane")
        assert after is not None
        assert after.unknown_at == 5e9
        assert "jane" not in place.store.interrupted_addresses()
