"""A state that was written under one dialect, and is planned under another."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reconciler.core.contract import Dialect
from reconciler.core.contract_files import load_contract
from tests.support.projects import Project

OPENAPI = "version: 1\nenvironments:\n  local: {api: {url: emulator, dialect: openapi}}\n"
GUIDE = OPENAPI.replace("openapi", "guide")
OF_OPENAPI = (
    "ip_v4_address: 203.0.113.7\n"
    "store_account_token: 3286abd3-48b0-4e9c-a5f6-ac0a006804a6\n"
    "att_status: 3\n"
)
MEMBERS = "app_build: '7', app_version: '1.2', adapty_sdk_version: '3.0'"
DEVICE = "device_id: 3fa85f64-5717-4562-b3fc-2c963f66afa6"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A profile with all fields of the later dialect is applied; then the dialect is the guide's, and the
    file holds nothing that it does not know."""
    project = Project(tmp_path, OPENAPI)
    project.profile(
        "jane",
        f"customer_user_id: jane\nip_country: FR\n{OF_OPENAPI}installation_meta: {{{DEVICE}, {MEMBERS}}}\n",
    )
    project.run("apply", "--auto-approve")
    project.configure(GUIDE)
    project.profile("jane", declared())
    return project


def declared(forget: str = "", installation: str = f"installation_meta: {{{DEVICE}}}\n") -> str:
    meta = f"meta: {{forget: [{forget}]}}\n" if forget else ""
    return f"customer_user_id: jane\nip_country: FR\n{installation}{meta}"


def findings(project: Project) -> list[str]:
    """The hints about recorded fields that the dialect does not know."""
    project.run("plan", code=3)
    return [line for line in project.err.splitlines() if "meta.forget" in line]


def test_the_hint_for_a_recorded_field_of_another_dialect_works_when_followed(
    project: Project,
) -> None:
    hints = findings(project)
    named = [match[1] for hint in hints if (match := re.search(r"List `([^`]+)` under", hint))]
    assert len(named) == len(hints) == 6
    project.profile("jane", declared(", ".join(named)))
    plan = project.plan()
    assert {field["op"] for change in plan["changes"] for field in change["fields"]} == {"forget"}
    assert plan["summary"]["requests"] == 0
    project.run("apply", "--auto-approve")
    assert project.plan()["changes"] == []


def test_the_other_way_out_of_the_hint_works_too(project: Project) -> None:
    assert all("set `dialect: openapi`" in hint for hint in findings(project))
    project.configure(OPENAPI)
    project.run("apply", "--auto-approve")
    assert project.plan()["changes"] == []


def test_a_forgotten_installation_takes_the_members_of_every_dialect_along(
    project: Project,
) -> None:
    forget = "installation_meta, ip_v4_address, store_account_token, att_status"
    project.profile("jane", declared(forget, installation=""))
    project.run("apply", "--auto-approve")
    assert project.plan()["changes"] == []
    record = json.loads(project.run("state", "show", "jane", "--format", "json"))
    assert record["facts"].keys() == {"ip_country"}


def test_a_recorded_field_that_no_dialect_knows_is_not_said_to_be_forgettable(
    project: Project,
) -> None:
    state = json.loads(project.run("state", "pull"))
    state["profiles"][0]["facts"] = {"shoe_size": {"known": "value", "value": 44}}
    project.write("export.json", json.dumps(state))
    project.run("state", "push", "export.json")
    project.run("plan", code=3)
    assert "shoe_size is recorded for jane" in project.err
    assert "upgrade" in project.err
    assert "meta.forget" not in project.err


@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_dialects_with_a_field_are_those_whose_contract_knows_it(dialect: Dialect) -> None:
    contracts = [load_contract(each.value) for each in Dialect]
    paths = {path for contract in contracts for path in contract.fields} | {"shoe_size"}
    for path in [*paths, "custom_attributes.tier"]:
        knowing = tuple(each.dialect for each in contracts if each.knows(path))
        assert load_contract(dialect.value).dialects_with(path) == knowing
