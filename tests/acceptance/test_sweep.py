"""Profiles that live for a while: what is remembered of them, warnings, sweeping, and exclusiveness."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler import Refused, Workspace
from reconciler.core.records import Origin, Presence
from reconciler.core.removal import expired
from reconciler.emulator import Emulator, EmulatorServer, parse_fault
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.testing.clock import InstantClock
from tests.support.projects import Project, remote
from tests.support.wire import create
from tests.support.worlds import World, answer

Write = Callable[[str, str], Path]
TTL = {"meta": {"ttl": "1h"}}
HOUR = 3600.0


# --- what is remembered --------------------------------------------------------------------------


def test_what_was_created_is_ours_and_what_was_adopted_is_not() -> None:
    world = World()
    create(world.emulator, "old")
    both = [{"customer_user_id": name, "first_name": "A", **TTL} for name in ("new", "old")]

    world.reach(*both)

    records = {record.address: record for record in world.store.records()}
    assert records["new"].created_at == world.clock.time
    assert records["old"].created_at is None
    assert {record.lifetime for record in records.values()} == {"1h"}


def lost(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
    carry()
    return answer(CallResult.UNKNOWN, message="lost")


def unreachable(carry: Callable[[], ApiAnswer]) -> ApiAnswer:
    return answer(CallResult.UNKNOWN, message="lost")


def test_a_creation_of_unknown_outcome_is_remembered_with_its_lifetime() -> None:
    world = World()
    world.wire.faults = {1: lost, 2: unreachable}

    world.reach({"customer_user_id": "a", "first_name": "A", **TTL})

    (record,) = world.store.records()
    assert record.presence is Presence.UNCONFIRMED
    assert (record.created_at, record.lifetime) == (world.clock.time, "1h")


def test_the_next_run_knows_that_it_is_ours_if_it_holds_what_was_sent() -> None:
    world = World()
    world.wire.faults = {1: unreachable, 2: unreachable}
    jane = {"customer_user_id": "a", "custom_attributes": {"tier": "gold"}, **TTL}
    world.reach(jane)
    at = world.clock.time
    create(world.emulator, "a", tier="gold")  # the request lands late

    world.reach(jane)

    (record,) = world.store.records()
    assert record.presence is Presence.PRESENT
    assert (record.origin, record.created_at) == (Origin.CREATED, at)


@pytest.mark.parametrize("sent", [{}, {"tier": "gold"}])
@pytest.mark.parametrize(
    "attributes",
    [{}, {"tier": "silver"}, {"theirs": 1.0}, {"tier": "gold", "theirs": 1.0}],
)
def test_a_creation_that_nothing_proves_counts_as_adopted(
    sent: dict[str, Any], attributes: dict[str, Any]
) -> None:
    world = World()
    world.wire.faults = {1: unreachable, 2: unreachable}
    jane = {"customer_user_id": "a", "first_name": "A", "custom_attributes": sent, **TTL}
    world.reach(jane)
    create(world.emulator, "a", **attributes)  # by somebody else

    world.reach(jane)

    (record,) = world.store.records()
    assert (record.origin, record.created_at) == (Origin.ADOPTED, None)
    assert world.plan(jane).is_empty
    assert world.plan(prune=True).is_empty


def test_a_refused_creation_is_not_ours() -> None:
    world = World()
    refused = answer(CallResult.REFUSED, status=400, error_code="bad", message="no")
    world.wire.faults = {1: lambda carry: refused}

    world.reach({"customer_user_id": "a", "first_name": "A", **TTL})

    assert not [*world.store.records()]


def test_a_profile_that_somebody_else_made_in_its_place_is_not_ours() -> None:
    world = World()
    jane = {"customer_user_id": "a", "first_name": "A", **TTL}
    world.reach(jane)
    world.emulator.clear()
    create(world.emulator, "a")

    world.reach(jane, reassert=True)

    (record,) = world.store.records()
    assert record.created_at is None


def test_a_changed_lifetime_is_recorded_without_a_request() -> None:
    world = World()
    world.reach({"customer_user_id": "a", "first_name": "A", **TTL})
    longer = {"customer_user_id": "a", "first_name": "A", "meta": {"ttl": "2h"}}
    sent = len(world.wire.sent)

    world.reach(longer)

    assert len(world.wire.sent) == sent
    assert [record.lifetime for record in world.store.records()] == ["2h"]


def test_only_what_is_ours_unprotected_and_over_may_be_swept() -> None:
    world = World()
    create(world.emulator, "adopted")
    world.reach(
        {"customer_user_id": "adopted", "first_name": "A", **TTL},
        {"customer_user_id": "longer", "first_name": "A", "meta": {"ttl": "2h"}},
        {"customer_user_id": "forever", "first_name": "A"},
        {
            "customer_user_id": "protected",
            "first_name": "A",
            "meta": {"ttl": "1h", "protect": True},
        },
        {"customer_user_id": "over", "first_name": "A", **TTL},
    )

    found = [*expired(world.store.records(), now=world.clock.time + HOUR)]

    assert [record.address for record, _ in found] == ["over"]
    assert found[0][1] == "created by this tool, and expired on 1970-01-12 14:46 UTC"


# --- the command ---------------------------------------------------------------------------------

USERS = (
    "for_each: 3\ncustomer_user_id: u-{index}\nfirst_name: A\nmeta: {ttl: 1h}\n---\n"
    "customer_user_id: stays\nfirst_name: B\n"
)


@pytest.fixture
def api() -> Iterator[EmulatorServer]:
    with EmulatorServer(Emulator()) as server:
        yield server
    server.emulator.close()


@pytest.fixture
def folder(tmp_path: Path, write: Write, api: EmulatorServer) -> Path:
    write("profiles/users.yaml", USERS)
    configure(tmp_path, api)
    return tmp_path


def configure(folder: Path, api: EmulatorServer, **limits: Any) -> None:
    settings = {"key_env": "KEY", "rate": "1000/s", "quiet_period": 0}
    Project(folder, remote(api.url, name="qa", api=settings, limits=limits))


def workspace(folder: Path, *, now: float = 0.0, **options: Any) -> Workspace:
    environ, clock = {"KEY": "k"}, InstantClock()
    return Project(folder, None).workspace(environ=environ, now=lambda: now, clock=clock, **options)


def customers(api: EmulatorServer) -> list[str]:
    return [each["customer_user_id"] for each in api.emulator.profiles()]


def test_a_sweep_deletes_what_is_over_by_the_ids_it_got(folder: Path, api: EmulatorServer) -> None:
    create(api.emulator, "u-2")
    with workspace(folder) as place:
        place.apply(place.plan())
        assert place.plan_sweep().is_empty
    with workspace(folder, now=HOUR) as place:
        ids = {record.address: record.profile_id for record in place.store.records()}
        made = place.plan_sweep()
        named = [change.requests[0].headers for change in made.changes]
        place.apply(made, profiles=())
        assert place.plan_sweep().is_empty
        assert [record.address for record in place.store.records()] == ["stays", "u-2"]

    assert named == [{"adapty-profile-id": ids["u-1"]}, {"adapty-profile-id": ids["u-3"]}]
    assert customers(api) == ["stays", "u-2"]


def test_what_took_the_place_of_a_swept_profile_stays(folder: Path, api: EmulatorServer) -> None:
    with workspace(folder) as place:
        place.apply(place.plan())
    api.emulator.clear(keep=["stays", "u-2", "u-3"])
    create(api.emulator, "u-1")

    with workspace(folder, now=HOUR) as place:
        report = place.apply(place.plan_sweep(), profiles=())

    assert report.is_complete
    assert customers(api) == ["stays", "u-1"]


@pytest.mark.parametrize(
    ("attributes", "left"), [({"tier": "gold"}, []), ({"tier": "silver"}, ["a"])]
)
def test_after_a_crash_only_a_profile_that_holds_what_was_sent_is_swept(
    tmp_path: Path, api: EmulatorServer, attributes: dict[str, str], left: list[str]
) -> None:
    configure(tmp_path, api)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "a.yaml").write_text(
        "customer_user_id: a\ncustom_attributes: {tier: gold}\nmeta: {ttl: 1h}\n", "utf-8"
    )
    # The POST never arrives, and nobody answers what became of it.
    number = api.set_fault(parse_fault("reset-before:method=POST"))
    gets = api.set_fault(parse_fault("reset-before:method=GET"))
    with workspace(tmp_path) as place:
        place.apply(place.plan())
        (record,) = place.store.records()
        assert record.presence is Presence.UNCONFIRMED
    assert number is not None
    assert gets is not None
    api.faults.clear()
    create(api.emulator, "a", **attributes)  # somebody's, or ours that landed late

    with workspace(tmp_path, now=HOUR) as place:
        place.apply(place.plan_sweep(), profiles=())

    assert customers(api) == left


def test_what_never_came_to_be_is_dropped_from_the_state(
    tmp_path: Path, api: EmulatorServer
) -> None:
    configure(tmp_path, api)
    (tmp_path / "profiles").mkdir()
    for name in "ab":
        (tmp_path / "profiles" / f"{name}.yaml").write_text(
            f"customer_user_id: {name}\nfirst_name: A\nmeta: {{ttl: 1h}}\n", "utf-8"
        )
    api.set_fault(parse_fault("reset-before:method=POST"))
    api.set_fault(parse_fault("reset-before:method=GET"))
    with workspace(tmp_path) as place:
        place.apply(place.plan())
    api.faults.clear()

    with workspace(tmp_path, now=HOUR) as place:
        report = place.apply(place.plan_sweep(), profiles=())
        assert not [*place.store.records()]

    assert report.is_complete


@pytest.mark.parametrize(
    "limits", [{"max_sweep": 2}, {"max_delete": 2}, {"max_sweep": "50%"}, {"max_changes": 2}]
)
def test_a_sweep_keeps_within_the_caps(
    folder: Path, api: EmulatorServer, limits: dict[str, Any]
) -> None:
    with workspace(folder) as place:
        place.apply(place.plan())
    configure(folder, api, **limits)

    with workspace(folder, now=HOUR) as place, pytest.raises(Refused):
        place.check(place.plan_sweep())

    assert len(customers(api)) == 4


def test_all_that_is_recorded_may_be_swept(folder: Path, api: EmulatorServer, write: Write) -> None:
    write("profiles/users.yaml", USERS.partition("---")[0])
    with workspace(folder) as place:
        place.apply(place.plan())

    with workspace(folder, now=HOUR) as place:
        place.apply(place.plan_sweep(), profiles=())

    assert customers(api) == []


def test_the_command_asks_shows_and_deletes(folder: Path, api: EmulatorServer) -> None:
    with workspace(folder) as place:  # long ago
        place.apply(place.plan())

    def run(*arguments: str) -> tuple[int, str]:
        return Project(folder, None).invoke(*arguments, KEY="k")

    code, shown = run("sweep")
    assert code == 6
    assert "no terminal" in shown
    code, shown = run("sweep", "--dry-run")
    assert code == 0
    assert "3 profiles" in shown or "- u-1  (delete)" in shown
    assert len(customers(api)) == 4
    code, shown = run("sweep", "--auto-approve", "--select", "u-1")
    assert (code, customers(api)) == (0, ["stays", "u-2", "u-3"])
    code, shown = run("sweep", "--auto-approve", "--json")
    assert (code, customers(api)) == (0, ["stays"])
    assert json.loads(shown.splitlines()[-1])["exit_code"] == 0


# --- warnings ------------------------------------------------------------------------------------


def warnings(place: Workspace) -> list[str]:
    found: list[str] = []
    place.plan(on_findings=lambda findings: found.extend(each.message for each in findings))
    return found


def test_a_plan_warns_before_and_after_the_end(folder: Path, write: Write) -> None:
    write("profiles/users.yaml", USERS.replace("ttl: 1h", "expires: '1970-01-10'"))

    for day, expected in (
        (6.9, []),
        (7.1, ["3 profiles of u-{index} expire on 1970-01-11 00:00 UTC, the first of them"]),
        (10.1, ["3 profiles of u-{index} expired on 1970-01-11 00:00 UTC, the first of them"]),
    ):
        with workspace(folder, now=day * 86400) as place:
            assert warnings(place) == expected


def test_the_warning_of_a_short_life_comes_in_its_last_quarter(folder: Path) -> None:
    with workspace(folder) as place:
        place.apply(place.plan())
    for minutes, count in ((44, 0), (46, 1), (61, 1)):
        with workspace(folder, now=minutes * 60.0) as place:
            assert len(warnings(place)) == count


# --- exclusive -----------------------------------------------------------------------------------

ALONE = {
    "customer_user_id": "a",
    "custom_attributes": {"tier": "gold"},
    "meta": {"exclusive": ["custom_attributes"]},
}


def attributes(world: World) -> dict[str, Any]:
    (profile,) = world.emulator.profiles()
    found: dict[str, Any] = profile["custom_attributes"]
    return found


def test_what_the_app_added_goes_as_soon_as_it_is_seen() -> None:
    world = World()
    world.reach(ALONE)
    create(world.emulator, "a", seen=1, tier="silver")

    done = world.reach(ALONE, reassert=True)

    assert attributes(world) == {"tier": "gold"}
    assert done.report.is_complete
    assert world.plan(ALONE).is_empty


def test_what_was_seen_before_goes_with_the_plan() -> None:
    world = World()
    create(world.emulator, "a", seen=1)
    open_ = {**ALONE, "meta": {}}
    world.reach(open_)
    assert attributes(world) == {"tier": "gold", "seen": 1.0}

    (change,) = world.plan(ALONE).changes

    assert [(item.path, item.op) for item in change.fields] == [("custom_attributes.seen", "clear")]
    world.reach(ALONE)
    assert attributes(world) == {"tier": "gold"}


def test_a_profile_that_is_adopted_is_cleaned_too_and_its_outcome_is_one() -> None:
    world = World()
    create(world.emulator, "a", theirs=1)

    done = world.reach(ALONE)

    assert attributes(world) == {"tier": "gold"}
    assert [(each.action, each.outcome) for each in done.results] == [("create", "adopted")]


def test_a_forgotten_attribute_is_spared() -> None:
    world = World()
    spared = {**ALONE, "meta": {**ALONE["meta"], "forget": ["custom_attributes.theirs"]}}  # type: ignore[dict-item]
    world.reach(spared)
    create(world.emulator, "a", theirs=1, other=2)

    world.reach(spared, reassert=True)

    assert attributes(world) == {"tier": "gold", "theirs": 1.0}


def test_without_being_exclusive_nothing_of_others_is_touched() -> None:
    world = World()
    open_ = {**ALONE, "meta": {}}
    world.reach(open_)
    create(world.emulator, "a", theirs=1)

    world.reach(open_, reassert=True)

    assert attributes(world) == {"tier": "gold", "theirs": 1.0}
