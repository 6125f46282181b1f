"""The façade, over real files, a real state and an emulator over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler import InputError, ReconcileError, Refused, StateRefused, Workspace
from reconciler.core.plan import Change
from reconciler.emulator import Answer, Emulator, EmulatorServer
from reconciler.planning.index_file import IndexUnusable
from reconciler.planning.pipeline import PlannedBatch, PlanPipeline
from reconciler.workspace.plans import PlanRequest
from tests.support.projects import KEYS, Project, remote

JANE = "customer_user_id: jane\nfirst_name: Jane\ncustom_attributes: {tier: gold}\n"


class Moody(Emulator):
    """Refuses to be read for the customer ids in ``silent``."""

    silent: frozenset[str] = frozenset()

    def handle(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        peer_ip: str = "127.0.0.1",
    ) -> Answer:
        named = {name.lower(): value for name, value in headers.items()}
        if method == "GET" and named.get("adapty-customer-user-id") in self.silent:
            path = "/nowhere/"
        return super().handle(method, path, headers=headers, body=body, peer_ip=peer_ip)


def workspace(folder: Path, url: str, **options: Any) -> Workspace:
    project = Project(folder, remote(url), profiles={"jane": JANE})
    return project.workspace(**{"environ": KEYS, **options})


def test_a_missing_key_is_reported_before_the_apply_asks_for_approval(tmp_path: Path) -> None:
    with workspace(tmp_path, "http://127.0.0.1:9", environ={}) as place:
        made = place.plan()
        with pytest.raises(InputError, match="SECRET_KEY"):
            place.check(made)


class Kept:
    """An accumulator that keeps the changes that it was given."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def add(self, change: Change) -> None:
        self.changes.append(change)

    def empty(self) -> Kept:
        return Kept()

    def merge(self, other: Kept) -> None:
        self.changes += other.changes


def test_an_accumulator_counts_each_change_once_although_planning_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PlanPipeline.run
    runs = []

    def failing(self: PlanPipeline, accumulator: Kept) -> Iterator[PlannedBatch[Kept]]:
        runs.append(self)
        yield from real(self, accumulator)
        if len(runs) == 1:
            raise IndexUnusable

    with workspace(tmp_path, "http://127.0.0.1:9") as place:
        monkeypatch.setattr(PlanPipeline, "run", failing)
        made, kept = place.plans.make(PlanRequest(), Kept())
        assert len(runs) == 2
        _, again = place.plans.make(PlanRequest(profiles=[*place.desired()]), Kept())
    assert kept.changes == again.changes == [*made.changes]


def test_a_refresh_that_cannot_read_a_profile_plans_nothing(tmp_path: Path) -> None:
    api = Moody()
    with EmulatorServer(api) as server, workspace(tmp_path, server.url) as place:
        place.apply(place.plan())
        api.silent = frozenset({"jane"})
        with pytest.raises(ReconcileError, match="1 of 1 profiles could not be read, jane"):
            place.plan(refresh=True)
        with pytest.raises(ReconcileError, match="could not be read"):
            place.refresh(complete=True)
        assert [drift.kind for drift in place.refresh()] == ["unread"]


def test_a_refresh_records_a_deleted_profile_after_a_backup(tmp_path: Path) -> None:
    api = Emulator()
    with EmulatorServer(api) as server, workspace(tmp_path, server.url) as place:
        (tmp_path / "profiles" / "joe.yaml").write_text("customer_user_id: joe\nfirst_name: Joe\n")
        place.apply(place.plan())
        key = {"Authorization": "Api-Key k", "adapty-customer-user-id": "joe"}
        api.handle("DELETE", "/api/v2/server-side-api/profile/", headers=key, body=b"")
        kinds = {drift.address: drift.kind for drift in place.refresh()}
        assert kinds == {"jane": "same", "joe": "gone"}
        assert [change.address for change in place.plan().changes] == ["joe"]
        assert list(place.environment.cache.glob("*.backup-*"))


def test_a_refresh_that_finds_no_profile_at_all_records_nothing(tmp_path: Path) -> None:
    with EmulatorServer(Emulator()) as server, workspace(tmp_path, server.url) as place:
        (tmp_path / "profiles" / "joe.yaml").write_text("customer_user_id: joe\nfirst_name: Joe\n")
        place.apply(place.plan())
        before = place.export()
    with EmulatorServer(Emulator()) as server, workspace(tmp_path, server.url) as place:
        (tmp_path / "profiles" / "joe.yaml").write_text("customer_user_id: joe\nfirst_name: Joe\n")
        with pytest.raises(Refused, match="knows none of the 2 recorded profiles"):
            place.refresh()
        with pytest.raises(Refused, match="knows none"):
            place.plan(refresh=True)
        assert place.export() == before


def test_answers_of_another_application_are_no_drift(tmp_path: Path) -> None:
    with EmulatorServer(Emulator()) as server, workspace(tmp_path, server.url) as place:
        place.apply(place.plan())
        before = next(place.store.records()).facts
    other = Emulator()
    with EmulatorServer(other) as server, workspace(tmp_path, server.url) as place:
        other.handle(
            "POST",
            "/api/v2/server-side-api/profile/",
            headers={
                "adapty-customer-user-id": "jane",
                "Authorization": "Api-Key k",
                "Content-Type": "application/json",
            },
            body=b"{}",
        )
        with pytest.raises(Refused, match="another application"):
            place.plan(refresh=True)
        with pytest.raises(Refused, match="another application"):
            place.refresh()
        assert [record.facts for record in place.store.records()] == [before]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"first_name": {"known": "value", "value": [1]}}, "first_name"),
        ({"first_name": {"known": "perhaps"}}, "perhaps"),
        (5, "facts"),
    ],
)
def test_the_message_about_a_malformed_export_names_the_error(
    tmp_path: Path, facts: Any, message: str
) -> None:
    with workspace(tmp_path, "http://127.0.0.1:9") as place:
        data: dict[str, Any] = {
            "format_version": 1, "lineage": "x", "serial": 1, "environment": "remote",
            "application": None,
            "profiles": [{"address": "a", "presence": "present", "revision": 1, "facts": facts}],
        }  # fmt: skip
        with pytest.raises(StateRefused, match=message):
            place.import_state(data, force=True)
        assert place.export().records == ()


def test_progress_counts_the_files_that_were_read(tmp_path: Path) -> None:
    # More files of one folder than are read at a time.
    users = {str(number): f"customer_user_id: u{number}\n" for number in range(600)}
    project = Project(tmp_path, profiles=users)
    told: list[Any] = []
    with project.workspace(on_progress=told.append) as workspace:
        workspace.validate()
    reading = [each.done for each in told if each.phase == "reading"]
    assert reading == [0, 256, 512, 600]
