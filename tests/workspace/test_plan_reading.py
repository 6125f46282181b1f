"""What a plan with --refresh reads at the API, and what it makes of that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler import InputError, Refused, Workspace
from reconciler.core.options import ReadScope
from reconciler.core.plan import Basis, NullAccumulator, Plan
from reconciler.emulator import Answer, Emulator, EmulatorServer
from reconciler.workspace.plans import PlanRequest
from tests.support.projects import KEYS, Project, remote
from tests.support.wire import PROFILE_PATH, create

SAME = "customer_user_id: same\ncustom_attributes: {tier: gold}\n"
EDITED = SAME.replace("same", "edited")
GROUPS = "refund_saver: {consent: false}\nintegrations: {amplitude_user_id: u-17}\n"


class Refusing(Emulator):
    """Refuses requests of the paths that hold ``refused``."""

    refused: str | None = None

    def handle(self, method: str, path: str, **request: Any) -> Answer:
        if self.refused is not None and self.refused in path:
            path = "/nowhere/"
            del request["received"]  # which names the path as well
        return super().handle(method, path, **request)


@pytest.fixture
def api() -> Iterator[EmulatorServer]:
    with EmulatorServer(Refusing()) as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, api: EmulatorServer) -> Project:
    """Two profiles that are recorded, and the log of the API emptied."""
    profiles = {"same": SAME, "edited": EDITED, "left": SAME.replace("same", "left")}
    project = Project(tmp_path, remote(api.url, api={"rate": "1000/s"}), profiles=profiles)
    with opened(project) as place:
        place.apply(place.plan())
    api.emulator.log.clear()
    return project


def opened(project: Project) -> Workspace:
    return project.workspace(environ=KEYS)


def reads(api: EmulatorServer) -> Counter[str]:
    """The reads of each profile since the last call."""
    named = Counter(
        each.headers["adapty-customer-user-id"] for each in api.emulator.log if each.method == "GET"
    )
    assert {each.method for each in api.emulator.log} <= {"GET"}
    api.emulator.log.clear()
    return named


def fields(plan: Plan) -> list[tuple[str, Any, Any, Basis]]:
    return [
        (field.path, field.before, field.after, field.basis)
        for change in plan.changes
        for field in change.fields
    ]


def test_changed_reads_what_the_plan_would_write_and_what_is_not_recorded(
    project: Project, api: EmulatorServer
) -> None:
    project.profile("edited", EDITED.replace("gold", "tin"))
    project.profile("new", SAME.replace("same", "new"))
    (project.folder / "profiles/left.yaml").unlink()
    create(api.emulator, "same", tier="drift")
    create(api.emulator, "edited", tier="iron")
    api.emulator.log.clear()

    with opened(project) as place:
        plain = place.plan()
        assert not reads(api)
        plan = place.plan(refresh="changed")
        assert reads(api) == {"edited": 1, "new": 1}
        assert ("custom_attributes.tier", "iron", "tin", Basis.OBSERVED) in fields(plan)
        assert (plan.scope.refresh, plan.summary["reads"]) == (ReadScope.CHANGED, 2)
        assert "reads" not in plain.summary
        place.plan(refresh="changed", prune=True)
        assert reads(api) == {"edited": 1, "new": 1, "left": 1}
        place.plan(refresh="changed", exclude=["edited"])
        assert reads(api) == {"new": 1}
        assert place.plan(refresh=True).summary["update"] == 2
        assert reads(api) == {"edited": 1, "new": 1, "left": 1, "same": 1}
        assert place.plan() == plain


def test_the_index_learns_nothing_from_the_first_pass(project: Project) -> None:
    with opened(project) as place:
        place.plan()
        project.profile("edited", EDITED.replace("gold", "tin"))
        for scope in ("changed", "all", "changed"):
            assert place.plan(refresh=scope).summary["update"] == 1  # type: ignore[arg-type]
        assert place.plan().summary["update"] == 1
        project.profile("edited", EDITED)
        assert place.plan(refresh="changed").is_empty
        assert place.plan().is_empty


@pytest.mark.parametrize("scope", [*ReadScope])
def test_a_group_that_is_new_on_a_recorded_profile_is_read_and_not_managed_by_that(
    project: Project, api: EmulatorServer, scope: ReadScope
) -> None:
    project.profile("edited", EDITED + GROUPS)
    with opened(project) as place:
        plan = place.plan(refresh=scope.value)
        assert reads(api)["edited"] == 3
        assert plan.scope.read_apart == 2
        assert fields(plan) == [
            ("integrations.amplitude_user_id", None, "u-17", Basis.OBSERVED),
            ("refund_saver.consent", True, False, Basis.OBSERVED),
        ]
        request = PlanRequest(refresh=scope, record=True)
        plan, _ = place.plans.make(request, NullAccumulator())
        assert fields(plan)[1][1] is True
        record = place.store.record("edited")
        assert record is not None
        assert [*record.facts] == ["custom_attributes.tier"]
        assert not record.seen
        assert place.apply(plan).is_complete
        api.emulator.log.clear()
        assert place.plan(refresh=scope.value).is_empty


def test_a_plan_that_read_a_new_group_can_be_applied_again_after_a_part_failed(
    project: Project, api: EmulatorServer
) -> None:
    project.profile("edited", EDITED.replace("gold", "tin") + GROUPS)
    with opened(project) as place:
        plan = place.plan(refresh="changed")
        assert isinstance(api.emulator, Refusing)
        api.emulator.refused = "refund"
        assert place.apply(plan).failed
        api.emulator.refused = None
        assert place.apply(plan).is_complete
        assert place.plan().is_empty


def test_where_all_that_would_be_written_is_gone_reading_the_others_tells(
    project: Project, api: EmulatorServer
) -> None:
    (project.folder / "profiles/left.yaml").unlink()
    project.profile("edited", EDITED.replace("gold", "tin"))
    for customer in ("edited", "left"):
        headers = {"Authorization": "Api-Key k", "adapty-customer-user-id": customer}
        api.emulator.handle("DELETE", PROFILE_PATH, headers=headers, body=b"")
    with opened(project) as place:
        with pytest.raises(Refused) as refused:
            place.plan(refresh="changed", prune=True)
        assert "A plan with --refresh reads the others too" in str(refused.value.hint)
        plan = place.plan(refresh=True, prune=True)
        assert [change.action for change in plan.changes] == ["create", "forget"]


def test_a_profile_whose_change_an_error_prevents_is_read(
    project: Project, api: EmulatorServer
) -> None:
    project.profile("edited", EDITED + "birthday: 2000-12-31\n")
    with opened(project) as place:
        place.apply(place.plan())
        project.profile("edited", EDITED)
        api.emulator.log.clear()
        with pytest.raises(InputError):
            place.plan(refresh="changed")
        assert reads(api) == {"edited": 1}
