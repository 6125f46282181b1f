"""Profiles that exist become files and records, and the next plan is empty."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler import Workspace
from reconciler.core.records import Origin
from reconciler.emulator import Answer, Emulator, EmulatorServer
from reconciler.errors import Interrupted, Refused, UsageError
from reconciler.workspace.importing import (
    Importing,
    ImportOutcome,
    ImportRequest,
    ImportResult,
)
from tests.support.projects import KEY, KEYS, Project, remote

BASE = "/api/v2/server-side-api/profile/"
GRANT = "/api/v2/server-side-api/purchase/profile/grant/access-level/"


class Hostile(Emulator):
    """Shows other values than it holds, to whom ``answers`` names."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, dict[str, Any]] = {}

    def handle(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        **more: Any,
    ) -> Answer:
        answer = super().handle(method, path, headers=headers, body=body, **more)
        named = {name.lower(): value for name, value in headers.items()}
        changed = self.answers.get(named.get("adapty-customer-user-id", ""))
        if method != "GET" or changed is None or answer.status != 200:
            return answer
        content = json.loads(answer.body)
        content["data"] |= changed
        text = json.dumps(content).encode()
        return Answer(200, {**answer.headers, "Content-Length": str(len(text))}, text)


@pytest.fixture
def api() -> Iterator[Hostile]:
    emulator = Hostile()
    yield emulator
    emulator.close()


@pytest.fixture
def server(api: Hostile) -> Iterator[EmulatorServer]:
    with EmulatorServer(api) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: EmulatorServer) -> Iterator[Workspace]:
    folder = Project(tmp_path, remote(server.url))
    (tmp_path / "profiles").mkdir()
    with folder.workspace(environ=KEYS) as workspace:
        yield workspace


def make(api: Emulator, customer: str, **attributes: object) -> dict[str, Any]:
    """A profile that others made."""
    items = [{"key": key, "value": value} for key, value in attributes.items()]
    body = {"custom_attributes": items} if items else {"first_name": "Q"}
    return send(api, customer, BASE, body)


def send(api: Emulator, customer: str, path: str, body: object) -> dict[str, Any]:
    headers = {
        "Authorization": f"Api-Key {KEY}",
        "Content-Type": "application/json",
        "adapty-customer-user-id": customer,
    }
    answer = api.handle("POST", path, headers=headers, body=json.dumps(body).encode())
    assert answer.status in (200, 201, 204), answer.body
    data: dict[str, Any] = json.loads(answer.body or "{}").get("data", {})
    return data


def run(place: Workspace, *addresses: str, **options: Any) -> dict[str, ImportResult]:
    results: list[ImportResult] = []
    importing(place).run(ImportRequest(addresses, **options), results.append)
    return {result.address: result for result in results}


def importing(place: Workspace) -> Importing:
    return Importing(place.config, sources=place.sources, state=place.state, refresh=place.reader)


def outcomes(results: Mapping[str, ImportResult]) -> dict[str, str]:
    return {address: result.outcome.value for address, result in results.items()}


def files(place: Workspace) -> dict[str, str]:
    return {path.name: path.read_text() for path in place.config.profiles.iterdir()}


def test_what_the_api_tells_becomes_a_file_and_the_next_plan_is_empty(
    api: Hostile, place: Workspace
) -> None:
    make(api, "jane", tier="gold", age=5, note="{index} 'yes' # no: \"x\"", half=0.5)
    send(api, "jane", GRANT, {"access_level_id": "premium"})
    assert outcomes(run(place, "jane")) == {"jane": "imported"}
    text = files(place)["jane.yaml"]
    assert text.endswith(
        "customer_user_id: jane\ncustom_attributes:\n  age: 5\n  half: 0.5\n"
        '  note: "{{index}} \'yes\' # no: \\"x\\""\n  tier: gold\naccess_levels:\n  premium: lifetime\n'
    )
    assert "tells nothing of first_name" in text
    assert place.plan().is_empty
    record = place.state.store.record("jane")
    assert record is not None
    assert record.origin is Origin.ADOPTED
    assert all(fact.observed for fact in record.facts.values())
    assert place.state.store.header().application is not None
    assert not [drift for drift in place.refresh() if drift.fields]


def test_a_second_import_changes_nothing(api: Hostile, place: Workspace) -> None:
    make(api, "jane", tier="gold")
    run(place, "jane")
    before, serial = files(place), place.state.store.header().serial
    assert outcomes(run(place, "jane")) == {"jane": "already"}
    assert files(place) == before
    assert next(iter(place.state.store.records())).revision == 1
    assert place.state.store.header().serial == serial


def test_a_dry_run_writes_and_records_nothing(api: Hostile, place: Workspace) -> None:
    make(api, "jane", tier="gold")
    result = run(place, "jane", dry_run=True)["jane"]
    assert (result.outcome, result.file) == (ImportOutcome.IMPORTED, "profiles/jane.yaml")
    assert not files(place)
    assert not place.state.exists


def test_what_does_not_exist_is_told(api: Hostile, place: Workspace) -> None:
    make(api, "jane")
    results = run(place, "jane", "joe", "two words", "profile:nonsense")
    assert outcomes(results) == {
        "jane": "imported",
        "joe": "missing",
        "two words": "skipped",
        "profile:nonsense": "skipped",
    }
    assert [*files(place)] == ["jane.yaml"]


def test_a_file_without_a_record_is_recorded_and_stays_as_it_is(
    api: Hostile, place: Workspace
) -> None:
    make(api, "jane", tier="gold")
    run(place, "jane")
    text = files(place)["jane.yaml"]
    place.state.forget(["jane"], backup=False)
    assert not place.plan().is_empty
    assert outcomes(run(place, "jane")) == {"jane": "recorded"}
    assert files(place) == {"jane.yaml": text}
    assert place.plan().is_empty


def test_a_file_in_the_way_stays(api: Hostile, place: Workspace) -> None:
    make(api, "jane", tier="gold")
    path = place.config.profiles / "jane.yaml"
    path.write_text("customer_user_id: other\n")
    assert outcomes(run(place, "jane")) == {"jane": "skipped"}
    assert path.read_text() == "customer_user_id: other\n"
    assert not place.state.exists


def test_names_that_differ_in_capitals_get_files_of_their_own(
    api: Hostile, place: Workspace
) -> None:
    for name in ("jane", "Jane", ".hidden", "_defaults", "a/b", "..", "con"):
        make(api, name, who=name)
    assert {
        *outcomes(run(place, "jane", "Jane", ".hidden", "_defaults", "a/b", "..", "con")).values()
    } == {"imported"}
    names = {*files(place)}
    assert len({name.casefold() for name in names}) == 7
    assert names > {"jane.yaml", "%2Ehidden.yaml", "%5Fdefaults.yaml", "a%2Fb.yaml", "%63on.yaml"}
    assert place.plan().is_empty


def test_one_profile_gets_one_file_whatever_names_it(api: Hostile, place: Workspace) -> None:
    profile_id = make(api, "jane", tier="gold")["profile_id"]
    anonymous = f"profile:{profile_id.upper()}"
    results = run(place, anonymous)
    assert outcomes(results) == {f"profile:{profile_id}": "imported"}
    assert place.plan().is_empty
    assert outcomes(run(place, "jane")) == {"jane": "skipped"}
    assert len(files(place)) == 1


@pytest.mark.parametrize(
    "value",
    [
        "null", "yes", "1.5", "", " x ", "a: b", "#", "-", "{index}", "{{", "'", '"', "\\", "é", "\t", "\n",
        "\x00", "\x85", "\u2028", "\ufeff", "\U0001f600", "x" * 60, "##[error]", "::error::", "~",
        "!tag", "&a", "*a", "2027-01-01", 1e300, 2**53, 0.1, -0.0, True, "jane@gmail.com", "${env.HOME}",
    ],
)  # fmt: skip
def test_a_hostile_value_is_declared_as_it_is_or_told(
    value: object, api: Hostile, place: Workspace
) -> None:
    make(api, "jane")
    items = [{"key": "odd", "value": value}, {"key": "plain", "value": "x"}]
    api.answers["jane"] = {"custom_attributes": items}
    result = run(place, "jane")["jane"]
    assert result.outcome is ImportOutcome.IMPORTED
    (profile,) = place.desired()
    assert profile.values["custom_attributes.plain"] == "x"
    told = [path for path, _ in result.omitted]
    assert ("custom_attributes.odd" in profile.values) != (
        "custom_attributes.odd" in told
    ) or not value
    assert place.plan().is_empty
    assert "\x00" not in files(place)["jane.yaml"]


def test_more_attributes_than_a_file_may_have(api: Hostile, place: Workspace) -> None:
    make(api, "jane")
    items = [{"key": f"k{number:02}", "value": 1} for number in range(40)]
    items.append({"key": "not a key", "value": 1})
    api.answers["jane"] = {"custom_attributes": items}
    result = run(place, "jane")["jane"]
    (profile,) = place.desired()
    assert len(profile.values) == 30
    assert len(result.omitted) == 11
    assert place.plan().is_empty


def test_bought_access_and_access_that_ended_are_comments(api: Hostile, place: Workspace) -> None:
    make(api, "jane")
    start = "2020-01-01T00:00:00Z"
    api.answers["jane"] = {
        "access_levels": [
            {"access_level_id": "bought", "store": "app_store", "starts_at": start, "expires_at": None},
            {"access_level_id": "old", "store": "adapty", "starts_at": start, "expires_at": start},
            {"access_level_id": "pro", "store": "adapty", "starts_at": start, "expires_at": None},
        ]
    }  # fmt: skip
    result = run(place, "jane")["jane"]
    assert [path for path, _ in result.omitted] == ["access_levels.bought", "access_levels.old"]
    text = files(place)["jane.yaml"]
    assert "# Not declared: access_levels.bought: it was bought" in text
    (profile,) = place.desired()
    assert [*profile.values] == ["access_levels.pro"]
    assert place.plan().is_empty


def test_a_folder_that_no_plan_reads_is_refused(tmp_path: Path, place: Workspace) -> None:
    for folder in (tmp_path / "elsewhere", place.config.profiles / ".hidden"):
        with pytest.raises(UsageError, match="no plan would read"):
            run(place, "jane", folder=folder)


def test_a_folder_below_the_profiles_is_made(api: Hostile, place: Workspace) -> None:
    make(api, "jane", tier="gold")
    run(place, "jane", folder=place.config.profiles / "team" / "new")
    assert (place.config.profiles / "team/new/jane.yaml").is_file()
    assert place.plan().is_empty


def test_an_import_that_was_interrupted_goes_on(
    tmp_path: Path, api: Hostile, server: EmulatorServer
) -> None:
    names = [f"u{number:03}" for number in range(60)]
    for name in names:
        make(api, name, who=name)
    project = Project(tmp_path, remote(server.url, api={"rate": "100/s"}))
    (tmp_path / "profiles").mkdir()
    results: list[ImportResult] = []
    with project.workspace(environ=KEYS, stop=lambda: len(results) >= 5) as place:
        with pytest.raises(Interrupted):
            importing(place).run(ImportRequest(names), results.append)
        written = len(files(place))
        recorded = len([*place.state.store.records()])
    assert 5 <= recorded <= written < 60
    with project.workspace(environ=KEYS) as place:
        again = outcomes(run(place, *names))
        assert [*again.values()].count("already") == recorded
        assert {*again.values()} == {"already", "imported"}
        assert place.plan().is_empty
        assert {*outcomes(run(place, *names)).values()} == {"already"}


class SharedClock:
    """A clock whose waits take no time and pass for all threads."""

    def __init__(self) -> None:
        self._skipped = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return time.monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._skipped += seconds


def test_a_thousand_profiles_are_imported_within_the_rate_also_in_two_parts(
    tmp_path: Path, api: Hostile, server: EmulatorServer
) -> None:
    names = [f"u{number:04}" for number in range(1_000)]
    for name in names:
        make(api, name, who=name)
    api.log.clear()
    project = Project(tmp_path, remote(server.url, api={"rate": "300/min", "timeout": 300}))
    (tmp_path / "profiles").mkdir()
    results: list[ImportResult] = []
    clock = SharedClock()
    begin = clock.now()
    with (
        project.workspace(environ=KEYS, clock=clock, stop=lambda: len(results) >= 400) as place,
        pytest.raises(Interrupted),
    ):
        importing(place).run(ImportRequest(names), results.append)
    with project.workspace(environ=KEYS, clock=clock) as place:
        again = outcomes(run(place, *names))
        assert {*again.values()} == {"already", "imported"}
        assert clock.now() - begin > 0.9 * 1_000 / 5
        assert len([each for each in api.log if each.method == "GET"]) <= 1_000
        assert place.plan().is_empty
        before, serial = files(place), place.state.store.header().serial
        assert {*outcomes(run(place, *names)).values()} == {"already"}
        assert (files(place), place.state.store.header().serial) == (before, serial)


def test_what_the_guard_refuses_is_not_written(
    tmp_path: Path, api: Hostile, server: EmulatorServer
) -> None:
    make(api, "jane", contact="jane.doe@gmail.com", tier="gold")
    make(api, "joe@gmail.com", tier="gold")
    config = {**remote(server.url), "personal_data": {"guard": "error"}}
    with Project(tmp_path, config).workspace(environ=KEYS) as place:
        results = run(place, "jane", "joe@gmail.com")
        assert outcomes(results) == {"jane": "imported", "joe@gmail.com": "skipped"}
        assert "gmail" not in files(place)["jane.yaml"]
        assert results["jane"].omitted[0][0] == "custom_attributes.contact"
        assert place.plan().is_empty


def test_a_key_of_another_application_imports_nothing(api: Hostile, place: Workspace) -> None:
    make(api, "jane", tier="gold")
    make(api, "joe", tier="gold")
    run(place, "jane")
    api.answers["joe"] = {"app_id": "3fa85f64-5717-4562-b3fc-2c963f66afa6"}
    with pytest.raises(Refused, match="another application"):
        run(place, "joe")
    assert [*files(place)] == ["jane.yaml"]


def test_groups_with_a_request_of_their_own_are_read_where_they_are_asked_for(
    api: Hostile, place: Workspace
) -> None:
    make(api, "jane", tier="gold")
    path = "/api/v2/server-side-api/integration/profile/set/integration-identifiers/"
    send(api, "jane", path, {"amplitude_user_id": "u-17"})
    make(api, "joe", tier="gold")
    assert outcomes(run(place, "jane", groups=["integrations", "refund_saver"])) == {
        "jane": "imported"
    }
    (profile,) = place.desired()
    assert profile.values["integrations.amplitude_user_id"] == "u-17"
    assert place.plan().is_empty
    run(place, "joe")
    assert "was not asked for integrations, refund_saver" in files(place)["joe.yaml"]
