"""Routes: every path of the contract is served, with its own methods and its own shape of errors."""

from __future__ import annotations

import pytest

from reconciler.emulator import PROFILE_PATH, Emulator
from reconciler.emulator.routes import ROUTES, ApiRoute, has_flat_errors, route_of
from reconciler.resources import load_schema
from tests.support.wire import Api, Serve

EVERY = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)


def calls_of_the_contract() -> set[tuple[str, str]]:
    """Method and path of each request that the contract's data names for a facet."""
    calls = [
        call
        for facet in load_schema("contract")["facets"].values()
        for call in (facet["read"], facet.get("write"), *facet.get("requests", {}).values())
        if call is not None
    ]
    return {(call["method"], call["path"]) for call in calls}


def test_the_routes_are_those_of_the_contract_and_of_the_profile() -> None:
    served = {(method, route.path) for route in ROUTES for method in route.methods}
    of_profile = {(method, PROFILE_PATH) for method in ("GET", "POST", "PATCH", "DELETE")}
    assert served == calls_of_the_contract() | of_profile


@EVERY
def test_a_query_belongs_to_the_same_route(route: ApiRoute) -> None:
    assert route_of(f"{route.path}?a=b") is route
    assert route_of(route.path.rstrip("/")) is None
    assert has_flat_errors(route.path) is route.is_flat
    assert not has_flat_errors("/nowhere/")


@EVERY
def test_another_method_is_refused_with_the_methods_of_the_path(
    serve: Serve, route: ApiRoute
) -> None:
    api = serve(Emulator())
    for method in {"GET", "POST", "PATCH", "DELETE", "PUT"}.difference(route.methods):
        reply = api.send(method, {}, path=route.path)
        assert (reply.status, reply.code) == (405, "method_not_allowed")
        assert reply.headers["Allow"] == ", ".join(route.methods)


@EVERY
def test_a_request_without_a_key_is_refused_in_the_shape_of_its_route(
    api: Api, route: ApiRoute
) -> None:
    api.create()
    headers = {"adapty-customer-user-id": "jane", "Authorization": "Api-Key public_live_x.y"}
    reply = api.raw(route.methods[0], route.path, headers=headers)
    flat = {"errors": ["Invalid API key"], "error_code": "unauthorized", "status_code": 401}
    message = "Authentication credentials were not provided."
    main = {
        "errors": [{"source": "non_field_errors", "errors": [message]}],
        "error_code": "not_authenticated",
        "status_code": 401,
    }
    assert reply.status == 401
    assert reply.json == (flat if route.is_flat else main)
    no_id = api.send(route.methods[0], user=None, path=route.path)
    assert no_id.json == reply.json


@EVERY
def test_a_body_that_is_not_json_is_refused_in_the_shape_of_its_route(
    api: Api, route: ApiRoute
) -> None:
    api.create()
    headers = {
        "Authorization": "Api-Key k",
        "adapty-customer-user-id": "jane",
        "Content-Type": "application/json",
    }
    reply = api.raw("POST", route.path, headers=headers, body=b'{"a": ')
    assert (reply.status, reply.code) == (400, "parse_error")
    (only,) = reply.json["errors"]
    message = only if route.is_flat else only["errors"][0]
    assert message.startswith("JSON parse error - ")


@EVERY
def test_a_malformed_identifier_is_refused(api: Api, route: ApiRoute) -> None:
    reply = api.send(route.methods[0], user=None, profile="x", path=route.path)
    assert reply.status == 400
    if route.is_flat:
        assert reply.json["errors"] == ["adapty-profile-id: value is not a valid uuid"]
        assert reply.code == "validation_error"
    else:
        assert reply.sources == ["adapty-profile-id"]


@EVERY
def test_each_answer_has_its_own_request_id(api: Api, route: ApiRoute) -> None:
    api.create()
    ids = {api.send(route.methods[0], {}, path=route.path).headers["Request-Id"] for _ in range(3)}
    assert len(ids) == 3
