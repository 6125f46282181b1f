"""`emulator --list`: it agrees with the document, with the contract, and with what the emulator does."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from reconciler.emulator import Emulator, FaultKind, Switches
from reconciler.emulator.catalogue import ASSUMPTIONS, ERRORS, KnownError, catalogue_text
from reconciler.emulator.routes import ROUTES
from reconciler.resources import load_schema
from tests.support.wire import Api, ApiReply, Serve

DOCS = (Path(__file__).parent.parent.parent / "docs" / "emulator.md").read_text("utf-8")
UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
PATHS = {route.name: route.path for route in ROUTES}


def test_the_document_lists_the_same_assumptions() -> None:
    table = DOCS.partition("## Assumed behaviour")[2]
    rows = [
        tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        for line in table.splitlines()
        if line.startswith("| ")
    ]
    assert [tuple(row) for row in ASSUMPTIONS] == rows[2:]
    assert len(ASSUMPTIONS) > 50


def test_each_switch_is_named_by_an_assumption() -> None:
    named = {name for row in ASSUMPTIONS for name in row.switch.replace("`", "").split(", ")}
    assert {each.name for each in fields(Switches)} <= named


def test_the_errors_are_those_of_the_contract() -> None:
    """Of each route that the contract's data describes, the same statuses and codes."""
    names = {"integrations": "identifiers", "refund_saver": "refund-saver"}
    told = {
        (names.get(facet, request), each["status"], each["code"])
        for facet, facts in load_schema("contract")["facets"].items()
        for each in facts["errors"]
        for request in each["requests"]
    }
    told = {(name, status, code) for name, status, code in told}
    listed = {
        (route, each.status, each.code)
        for each in ERRORS
        if each.is_documented and each.code != "parse_error"
        for route in each.routes
        if route != "profile"
    }
    assert listed == {row for row in told if row[2] != "parse_error"}


def provoke(serve: Serve, error: KnownError, route: str) -> ApiReply:
    """An answer with the error, from the request that the catalogue describes."""
    switches = Switches(missing_is_404="missing_is_404" in error.cause)
    api = serve(Emulator(switches=switches, access_levels=["pro"]))
    api.create()
    api.grant(expires_at="2099-01-01T00:00:00Z")
    path, body = PATHS[route], {"access_level_id": "premium"}
    send = api.send
    match error.code:
        case "not_authenticated" | "unauthorized":
            return api.raw("POST", path, headers={"adapty-customer-user-id": "jane"})
        case "profile_does_not_exist" | "profile_not_found":
            method = "PATCH" if route == "profile" else "POST"
            return send(method, body, user="nobody", path=path)
        case "paid_access_level_does_not_exist":
            return send("POST", {"access_level_id": "gold"}, path=path)
        case "profile_paid_access_level_does_not_exist":
            return send("POST", {"access_level_id": "pro"}, path=path)
        case "revocation_date_more_than_expiration_date":
            return send("POST", {**body, "revoke_at": "2099-01-02T00:00:00Z"}, path=path)
        case "value_error":
            return send("POST", {**body, "revoke_at": "2020-01-01T00:00:00Z"}, path=path)
        case "datetime":
            member = "expires_at" if route == "grant" else "revoke_at"
            return send("POST", {**body, member: "soon"}, path=path)
        case "validation_error":
            return send("POST", {}, path=path)
        case "customer_user_id_conflict":
            return send("POST", {}, user="bob", profile=api.stored()["profile_id"], path=path)
        case _:
            raise AssertionError(error)


@pytest.mark.parametrize(
    ("error", "route"),
    [(error, route) for error in ERRORS for route in error.routes if "(" not in error.code],
    ids=lambda each: each if isinstance(each, str) else f"{each.status}-{each.code}",
)
def test_each_error_of_the_catalogue_is_met(serve: Serve, error: KnownError, route: str) -> None:
    reply = provoke(serve, error, route)
    assert (reply.status, reply.code) == (error.status, error.code), reply.raw
    assert reply.json["status_code"] == error.status


def test_the_text_names_routes_errors_faults_and_assumptions(api: Api) -> None:
    text = catalogue_text()
    for route in ROUTES:
        assert f"{', '.join(route.methods)} {route.path}" in text
    for kind in FaultKind:
        assert f"\n  {kind}" in text
    for error in ERRORS:
        assert f"{error.status} {error.code}" in text
    assert "8.3: a grant with an earlier end than the present one" in text
