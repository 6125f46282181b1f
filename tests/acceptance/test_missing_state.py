"""A state that is gone, that was put back, or that another one replaced; and the ways back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from reconciler.core.records import Fact, Known, Origin, Presence, Record
from reconciler.state.sqlite import SqliteStore
from reconciler.workspace.sightings import Place, Sighting, Sightings
from tests.support.configurations import LOCAL
from tests.support.places import state_of
from tests.support.projects import JANE, Project
from tests.support.states import put

ZOE = "customer_user_id: zoe\nfirst_name: Zoe\nip_country: FR\n"
READING = [
    ("plan",),
    ("plan", "--prune"),
    ("apply", "--auto-approve"),
    ("sweep", "--auto-approve"),
    ("refresh",),
    ("state", "list"),
    ("state", "pull"),
]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Jane is applied."""
    project = Project(tmp_path / "checkout", LOCAL, profiles={"jane": JANE})
    project.run("apply", "--auto-approve")
    return project


def state(project: Project) -> Path:
    return state_of(project.folder)


def pulled(project: Project) -> dict[str, object]:
    export: dict[str, object] = json.loads(project.run("state", "pull"))
    return export


def a_backup(project: Project) -> Path:
    """A backup of the state, made by changing it by hand and back."""
    project.write("export.json", project.run("state", "pull"))
    project.run("state", "push", "export.json")
    return sorted(state(project).parent.glob("local.db.backup-*"))[-1]


# --- gone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", READING, ids=" ".join)
@pytest.mark.parametrize("gone", ["file", "folder"])
def test_a_state_that_is_gone_is_not_taken_for_a_first_run(
    project: Project, command: tuple[str, ...], gone: str
) -> None:
    lost = state(project) if gone == "file" else state(project).parent
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    project.run(*command, code=6)
    assert "the state is missing" in project.err
    assert "reconcile state restore FILE" in project.err
    assert "reconcile state new" in project.err
    assert not state(project).exists()


def test_a_checkout_that_was_cloned_anew_has_its_state(project: Project) -> None:
    shutil.rmtree(project.folder)
    again = Project(project.folder, LOCAL, profiles={"jane": JANE})
    assert "No changes." in again.run("plan")


def test_another_folder_or_environment_is_a_first_run(project: Project, tmp_path: Path) -> None:
    shutil.copytree(project.folder / "profiles", tmp_path / "other" / "profiles")
    assert Project(tmp_path / "other", LOCAL).plan()["summary"]["create"] == 1
    project.configure(LOCAL + "  second:\n    api: {url: emulator}\ndefault_environment: second\n")
    assert project.plan()["summary"]["create"] == 1


def test_a_state_is_begun_anew_on_purpose(project: Project) -> None:
    before = pulled(project)
    state(project).unlink()
    project.run("state", "new")
    assert project.plan()["summary"]["create"] == 1
    after = pulled(project)
    assert after["lineage"] != before["lineage"]
    assert after["profiles"] == []
    project.run("apply", "--auto-approve")


def test_a_state_that_is_there_is_not_begun_anew(project: Project) -> None:
    before = pulled(project)
    project.run("state", "new", code=6)
    assert "there is a state" in project.err
    assert pulled(project) == before


def test_a_first_state_may_be_begun_by_hand(tmp_path: Path) -> None:
    project = Project(tmp_path, LOCAL, profiles={"jane": JANE})
    project.run("state", "new")
    assert project.plan()["state"]["serial"] == 1


def test_an_export_replaces_a_state_that_is_gone_unless_it_is_older(project: Project) -> None:
    project.write("old.json", project.run("state", "pull"))
    project.profile("zoe", ZOE)
    project.run("apply", "--auto-approve")
    project.write("new.json", project.run("state", "pull"))
    state(project).unlink()
    project.run("state", "push", "old.json", code=6)
    assert "older than the state" in project.err
    project.run("state", "push", "new.json")
    assert project.plan()["changes"] == []


# --- put back -----------------------------------------------------------------------------------


def test_a_state_that_was_put_back_by_hand_is_noticed_and_goes_on(project: Project) -> None:
    copy = project.folder / "copy.db"
    shutil.copy(state(project), copy)
    project.profile("zoe", ZOE)
    project.run("apply", "--auto-approve")
    serial = pulled(project)["serial"]
    shutil.copy(copy, state(project))
    project.run("plan")
    assert "was put back" in project.err
    assert f"{serial} was seen here" in project.err
    project.run("apply", "--auto-approve")
    assert pulled(project)["serial"] > serial  # type: ignore[operator]
    project.run("plan")
    assert "warning" not in project.err


@pytest.mark.parametrize("with_notes", [True, False])
def test_a_saved_deletion_does_not_apply_to_another_profile_after_a_state_was_put_back(
    project: Project, with_notes: bool
) -> None:
    """The plan of a deletion is saved; a backup is put back; the profile is declared again."""
    project.profile("zoe", ZOE)
    project.configure(LOCAL + "    limits: {max_delete: 100%}\n")
    backup = a_backup(project)
    project.run("apply", "--auto-approve")
    (project.folder / "profiles" / "zoe.yaml").unlink()
    project.run("plan", "--prune", "--out", "delete.plan")
    if not with_notes:
        shutil.rmtree(Path(os.environ["XDG_STATE_HOME"], "reconcile", "states"))
    shutil.copy(backup, state(project))
    project.profile("zoe", ZOE.replace("Zoe", "Another"))
    project.run("apply", "--auto-approve")
    project.run("apply", "delete.plan", "--auto-approve", code=6)
    assert project.plan()["changes"] == []


@pytest.mark.parametrize("from_export", [False, True])
def test_a_backup_is_put_back_with_one_command(project: Project, from_export: bool) -> None:
    backup = a_backup(project)
    if from_export:
        backup = project.folder / "export.json"
    before = pulled(project)["profiles"]
    project.profile("zoe", ZOE)
    project.run("apply", "--auto-approve")
    serial = pulled(project)["serial"]
    project.run("state", "restore", str(backup))
    assert "the state before is in" in project.err
    after = pulled(project)
    assert after["serial"] > serial  # type: ignore[operator]
    assert [
        {**record, "revision": 0}
        for record in after["profiles"]  # type: ignore[attr-defined]
    ] == [{**record, "revision": 0} for record in before]  # type: ignore[attr-defined]
    assert {record["revision"] for record in after["profiles"]} == {after["serial"]}  # type: ignore[attr-defined]
    project.run("plan")
    assert "warning" not in project.err


def test_a_backup_is_put_back_where_the_state_is_gone_or_damaged(project: Project) -> None:
    backup = a_backup(project)
    kept = project.folder / "kept"
    shutil.copy(backup, kept)
    journal = state(project).with_name("local.db-journal")
    for content in (None, b"", b"no state at all", b"SQLite format 3\0" + b"x" * 5000):
        state(project).unlink()
        journal.write_bytes(b"of another write")
        if content is not None:
            state(project).write_bytes(content)
        project.run("plan", code=6)
        project.run("state", "restore", "kept")
        assert "the damaged state is in" in project.err
        assert not journal.exists()
        assert project.plan()["changes"] == []


def test_the_state_file_itself_is_restored_after_it_was_put_back_by_hand(project: Project) -> None:
    other = Project(project.folder.parent / "other", LOCAL, profiles={"jane": JANE})
    other.run("apply", "--auto-approve")
    shutil.copy(state(other), state(project))
    project.run("plan", code=6)
    assert "another state" in project.err
    project.run("state", "restore", str(state(project)))
    assert project.plan()["changes"] == []


def test_what_is_no_backup_of_this_environment_is_refused(project: Project) -> None:
    backup = a_backup(project)
    before = pulled(project)
    project.write("text", "no state")
    project.run("state", "restore", "text", code=6)
    project.run("state", "restore", "nowhere", code=3)
    project.run("state", "restore", ".", code=3)
    project.configure(LOCAL + "  other:\n    api: {url: emulator}\ndefault_environment: local\n")
    project.run("--env", "other", "state", "restore", str(backup), code=6)
    assert pulled(project) == before


# --- refresh ------------------------------------------------------------------------------------


def test_a_refresh_without_any_state_is_invalid(tmp_path: Path) -> None:
    project = Project(tmp_path, LOCAL, profiles={"jane": JANE})
    project.run("refresh", code=3)
    assert "no state yet" in project.err
    project.run("apply", "--refresh", "--auto-approve")
    project.run("refresh")


def test_a_refresh_says_by_its_exit_code_whether_anything_differs(project: Project) -> None:
    project.run("refresh", "--detailed-exitcode")
    state_of(project.folder, "emulator.db").unlink()
    project.profile("jane", JANE)
    project.run("refresh", "--detailed-exitcode", code=2)
    project.run("refresh")


# --- the notes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b'{"format_version": 1, "lineage": 3}', b"[" * 100_000]
)
def test_a_note_that_cannot_be_read_is_no_sighting(tmp_path: Path, content: bytes) -> None:
    place = Place.of(tmp_path / "s.db", "local")
    sightings = Sightings(tmp_path / "notes")
    sightings.note(place, Sighting("a", 4))
    assert sightings.last(place) == Sighting("a", 4)
    (note,) = (tmp_path / "notes").iterdir()
    assert note.stat().st_mode & 0o777 == 0o600
    assert note.parent.stat().st_mode & 0o777 == 0o700
    note.write_bytes(content)
    assert sightings.last(place) is None


def test_notes_that_cannot_be_written_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    project = Project(tmp_path / "checkout", LOCAL, profiles={"jane": JANE})
    project.run("apply", "--auto-approve")
    state(project).unlink()
    project.run("plan")


UNPROVEN = Record(
    "zoe",
    customer_user_id="zoe",
    presence=Presence.UNCONFIRMED,
    facts={"custom_attributes.tier": Fact(Known.UNCERTAIN, attempt="gold")},
    origin=Origin.CREATED,
    created_at=1.0,
)


def record_of_zoe(project: Project) -> Record:
    store = SqliteStore(state(project), environment="local")
    try:
        record = store.record("zoe")
    finally:
        store.close()
    assert record is not None
    return record


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_creation_of_unknown_outcome_in_a_backup_is_not_taken_for_ours(
    project: Project, by_hand: bool
) -> None:
    store = SqliteStore(state(project), environment="local")
    put(store, UNPROVEN)
    store.close()
    backup = a_backup(project)
    assert record_of_zoe(project).origin is Origin.CREATED
    if by_hand:
        shutil.copy(backup, state(project))
        project.run("refresh")
    else:
        project.run("state", "restore", str(backup))
    assert (record_of_zoe(project).origin, record_of_zoe(project).created_at) == (
        Origin.ADOPTED,
        None,
    )
