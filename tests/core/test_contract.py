"""The contract as data, what is generated from it, and the schemas of plan and state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pycountry
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.core import plan_format as plans
from reconciler.core.contract import Clear, Contract, Dialect, length
from reconciler.core.contract_files import generated, load_contract
from reconciler.core.plan import Action, Basis, Change, FieldChange, Hazard, Mode, Op, Plan, Request
from reconciler.core.profile_schema import profile_schema
from reconciler.core.record_codec import encode_export
from reconciler.core.records import Export, Fact, Header, Known, Presence, Record
from reconciler.errors import Source
from reconciler.resources import load_schema
from tests.support.plans import plan_with

ROOT = Path(__file__).parent.parent.parent
BOTH = pytest.mark.parametrize("dialect", [dialect.value for dialect in Dialect])


# --- the data ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "clear"),
    [
        ("first_name", Clear.NULL),
        ("last_name", Clear.NULL),
        ("gender", Clear.NULL),
        ("email", Clear.NULL),
        ("phone_number", Clear.NULL),
        ("birthday", Clear.NEVER),
        ("ip_country", Clear.NEVER),
        ("store_country", Clear.NULL),
        ("store", Clear.NULL),
        ("analytics_disabled", Clear.NEVER),
        ("custom_attributes.tier", Clear.NULL),
        ("installation_meta.device_id", Clear.NEVER),
        *(
            (f"installation_meta.{name}", Clear.EMPTY)
            for name in (
                *("device", "locale", "os", "platform", "timezone", "user_agent", "idfa", "idfv"),
                *("advertising_id", "android_id", "android_app_set_id"),
            )
        ),
    ],
)
def test_every_field_of_the_seed_clears_as_it_says(path: str, clear: Clear) -> None:
    assert load_contract("guide").field(path).clear is clear


_FACT = {"type": "string", "pattern": r"^adapty-api [0-9]"}
_CALL = {
    "type": "object",
    "required": ["method", "path", "source"],
    "properties": {
        "method": {"enum": ["GET", "POST"]},
        "path": {"type": "string", "pattern": "^/api/v2/.*/$"},
        "within": {"type": "array", "items": {"type": "string"}},
        "answer": {"enum": ["profile", "settings", "empty"]},
        "source": _FACT,
        "members": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["schema", "required", "nullable", "description"],
                "properties": dict.fromkeys(
                    ("schema", "required", "nullable", "description"), True
                ),
            },
        },
    },
    "additionalProperties": False,
}
_FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["description", "source", "assumed", "read", "errors"],
        "properties": {
            "source": _FACT,
            "read": _CALL,
            "write": _CALL,
            "requests": {"type": "object", "additionalProperties": _CALL},
            "level": {"type": "object", "required": ["schema", "always", "source"]},
            "ours": {"type": "object", "required": ["store", "store_product_id", "source"]},
            "fields": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["schema", "clear", "personal", "description", "source"],
                    "properties": {
                        "source": _FACT,
                        "clear": {"enum": [*Clear]},
                        "api_name": {"type": "string"},
                        **dict.fromkeys(("schema", "personal", "description"), True),
                        **dict.fromkeys(("assumed", "dialects", *Dialect), True),
                    },
                    "additionalProperties": False,
                },
            },
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["status", "code", "requests", "means", "source"],
                    "properties": {
                        "status": {"type": "integer", "minimum": 400, "maximum": 499},
                        "code": {"type": "string", "pattern": "^[a-z_]+$"},
                        "requests": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                        "means": {"type": "string", "minLength": 1},
                        "source": _FACT,
                    },
                },
            },
            **dict.fromkeys(("description", "assumed", "personal", "clear"), True),
            "tolerance_seconds": {"type": "integer", "minimum": 0},
        },
        "additionalProperties": False,
    },
}


def test_each_fact_about_a_facet_has_its_place_and_its_source() -> None:
    facets = load_schema("contract")["facets"]
    Draft202012Validator.check_schema(_FACETS)
    Draft202012Validator(_FACETS).validate(facets)
    for name, facet in facets.items():
        requests = {"read", "write", *facet.get("requests", {})} & {
            *facet,
            *facet.get("requests", {}),
        }
        named = {each for error in facet["errors"] for each in error["requests"]}
        assert named <= requests, name


def test_the_integration_identifiers_are_those_of_the_specification() -> None:
    """adapty-api 1.2 lists 16 of them, all text."""
    fields = load_schema("contract")["facets"]["integrations"]["fields"]
    assert list(fields) == sorted(fields)
    assert len(fields) == 16
    assert {field["schema"]["type"] for field in fields.values()} == {"string"}


def test_the_guide_has_the_fields_of_the_seed_and_no_other() -> None:
    groups = load_schema("contract")["facets"]
    seeded = [
        path for path in load_contract("guide").fields if path.partition(".")[0] not in groups
    ]
    assert len(seeded) == 10 + 12


def test_the_later_dialect_adds_fields_and_loses_none() -> None:
    added = {*load_contract("openapi").fields} - {*load_contract("guide").fields}
    assert {*load_contract("guide").fields} <= {*load_contract("openapi").fields}
    assert added == {
        *("ip_v4_address", "store_account_token", "att_status"),
        *(f"installation_meta.{name}" for name in ("app_build", "app_version")),
        "installation_meta.adapty_sdk_version",
    }


@pytest.mark.parametrize(("dialect", "limit"), [("guide", 30), ("openapi", 50)])
def test_the_limits_of_custom_attributes(dialect: str, limit: int) -> None:
    contract = load_contract(dialect)
    assert (contract.max_attributes, contract.max_attribute_length) == (30, limit)


def test_the_countries_are_those_of_iso_3166_1() -> None:
    known = {country.alpha_2 for country in pycountry.countries}
    assert load_contract("guide").countries == known


@BOTH
def test_every_field_says_what_it_is_and_where_that_comes_from(dialect: str) -> None:
    contract = load_contract(dialect)
    fields = [*contract.fields.values(), contract.attributes]
    assert [field.path for field in fields if not (field.description and field.source)] == []


# --- what is generated ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(generated()))
def test_a_generated_file_is_current(name: str) -> None:
    assert (ROOT / name).read_text("utf-8") == generated()[name], "run `make schemas`"


@BOTH
def test_the_schema_of_a_profile_is_a_valid_one(dialect: str) -> None:
    Draft202012Validator.check_schema(profile_schema(load_contract(dialect)))


def _keywords(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    keywords = {*schema}
    for keyword, inner in schema.items():
        if keyword in ("properties", "$defs"):
            keywords |= {name for each in inner.values() for name in _keywords(each)}
        elif keyword in ("anyOf",):
            keywords |= {name for each in inner for name in _keywords(each)}
        elif keyword in ("items", "additionalProperties", "propertyNames", "not"):
            keywords |= _keywords(inner)
    return keywords


@pytest.mark.parametrize("name", ["profile", "profile.openapi", "config", "plan", "state"])
def test_no_schema_has_a_misspelt_keyword(name: str) -> None:
    known = {
        *("$schema", "$id", "$ref", "$defs", "title", "description", "type", "properties"),
        *("additionalProperties", "required", "anyOf", "enum", "const", "items", "pattern"),
        *("format", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "not"),
        *(
            "minProperties",
            "minItems",
            "maxItems",
            "uniqueItems",
            "propertyNames",
            "default",
            "examples",
        ),
        *("writeOnly", "x-reconcile"),
    }
    assert _keywords(load_schema(f"{name}.schema")) - known == set()


@BOTH
def test_an_editor_has_hover_text_for_every_property(dialect: str) -> None:
    schema = profile_schema(load_contract(dialect))
    nested = [schema, schema["properties"]["installation_meta"], schema["properties"]["meta"]]
    lacking = [
        name
        for each in nested
        for name, facts in each["properties"].items()
        if not facts.get("description")
    ]
    assert lacking == []


# --- the one order -------------------------------------------------------


@given(paths=st.permutations(["email", "store", "custom_attributes.b", "custom_attributes.a"]))
def test_the_order_of_paths_depends_on_nothing_else(paths: list[str]) -> None:
    expected = ["email", "store", "custom_attributes.a", "custom_attributes.b"]
    assert load_contract("guide").ordered(paths) == expected


def test_paths_are_ordered_as_in_a_body_and_unknown_ones_come_last(contract: Contract) -> None:
    paths = [
        "zzz",
        "installation_meta.locale",
        "custom_attributes.x",
        "installation_meta.device_id",
    ]
    assert contract.ordered([*paths, "analytics_disabled", "first_name"]) == [
        "first_name",
        "analytics_disabled",
        "custom_attributes.x",
        "installation_meta.device_id",
        "installation_meta.locale",
        "zzz",
    ]


def test_the_whole_installation_stands_for_its_members_in_every_dialect(
    contract: Contract,
) -> None:
    members = load_contract("openapi").members("installation_meta")
    assert set(contract.members("installation_meta")) < set(members)
    assert contract.expand("installation_meta") == members
    assert contract.expand("birthday") == ("birthday",)


@pytest.mark.parametrize(("text", "expected"), [("", 0), ("é", 1), ("😀", 2), ("\ud800", 1)])
def test_a_length_counts_utf_16_units_where_they_are_more(text: str, expected: int) -> None:
    assert length(text) == expected


# --- the schemas of what is written --------------------------------------------------------------


def built(kind: Any, *arguments: Any, **members: Any) -> st.SearchStrategy[Any]:
    """Builds a named tuple from these members only; `st.builds` would also make up those with a default."""
    return st.builds(lambda *some, **others: kind(*some, **others), *arguments, **members)


SCALARS = (
    st.text(max_size=5)
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
)
TEXTS = st.text(min_size=1, max_size=5)
PATHS = st.sampled_from(["email", "custom_attributes.tier", "installation_meta.locale"])
SOURCES = built(Source, file=TEXTS, line=st.integers(0, 99))
FACTS = st.one_of(
    built(Fact.of, st.none() | SCALARS, observed=st.booleans()),
    built(Fact, st.just(Known.UNCERTAIN), st.none() | SCALARS, st.none() | SCALARS),
    st.just(Fact(Known.UNKNOWN)),
)
RECORDS = built(
    Record,
    address=TEXTS,
    customer_user_id=st.none() | TEXTS,
    profile_id=st.none() | TEXTS,
    presence=st.sampled_from(Presence),
    facts=st.dictionaries(PATHS, FACTS),
    forgotten=st.frozensets(PATHS),
    unmanaged=st.lists(TEXTS, max_size=3).map(tuple),
    protect=st.booleans(),
    labels=st.lists(TEXTS, max_size=3).map(tuple),
    platform=st.none() | TEXTS,
    source=st.none() | SOURCES,
    unknown_at=st.none() | st.floats(1, 2e9),
    unknown_write=st.dictionaries(PATHS, st.none() | SCALARS),
    deleting=st.booleans(),
    revision=st.integers(0, 9),
)
HAZARDS = built(Hazard, st.sampled_from(["link", "new_device_id", "max_delete"]), TEXTS)
CHANGES = built(
    Change,
    address=TEXTS,
    action=st.sampled_from(Action),
    reason=st.text(max_size=5),
    fields=st.lists(
        built(
            FieldChange,
            PATHS,
            st.sampled_from(Op),
            st.none() | SCALARS,
            st.none() | SCALARS,
            st.sampled_from(Basis),
            st.none() | st.integers(1, 99),
            st.none() | st.just("profiles/_defaults.yaml"),
        ),
        max_size=2,
    ).map(tuple),
    requests=st.lists(
        built(
            Request,
            st.sampled_from(["GET", "POST", "PATCH", "DELETE"]),
            st.just("/api/v2/server-side-api/profile/"),
            st.just({"adapty-customer-user-id": "qa-jane"}),
            st.none() | st.dictionaries(TEXTS, SCALARS, max_size=2),
            st.none() | st.just("POST"),
        ),
        max_size=2,
    ).map(tuple),
    hazards=st.lists(HAZARDS, max_size=2).map(tuple),
    source=st.none() | SOURCES,
    revision=st.none() | st.integers(0, 9),
    labels=st.lists(TEXTS, max_size=2).map(tuple),
    protect=st.booleans(),
)
PLANS = built(
    plan_with,
    environment=TEXTS,
    mode=st.sampled_from(Mode),
    lineage=st.none() | TEXTS,
    serial=st.integers(0, 9),
    application=st.none() | TEXTS,
    changes=st.lists(CHANGES, max_size=2).map(tuple),
    orphans=st.lists(TEXTS, max_size=2).map(tuple),
    unchanged=st.integers(0, 9),
    hazards=st.lists(HAZARDS, max_size=2).map(tuple),
)


def errors(name: str, value: Any, definition: str = "") -> list[str]:
    schema = load_schema(f"{name}.schema")
    if definition:
        schema = {"$defs": schema["$defs"], "$ref": f"#/$defs/{definition}"}
    return [problem.message for problem in Draft202012Validator(schema).iter_errors(value)]


@settings(deadline=None, max_examples=60)
@given(records=st.lists(RECORDS, max_size=3), lineage=st.none() | TEXTS, serial=st.integers(0, 9))
def test_a_state_export_keeps_to_its_schema(
    records: list[Record], lineage: str | None, serial: int
) -> None:
    export = Export(Header(lineage, serial, "local", None), tuple(records))
    assert errors("state", encode_export(export)) == []


@settings(deadline=None, max_examples=60)
@given(plan=PLANS)
def test_a_plan_keeps_to_its_schema(plan: Plan) -> None:
    assert errors("plan", plans.encode(plan)) == []


def test_every_line_of_a_saved_plan_keeps_to_its_schema() -> None:
    change = Change("a", Action.FORGET, "r", hazards=(Hazard("link", "m"),), protect=True)
    plan = plan_with([change], mode=Mode.PRUNE, orphans=("b",), unchanged=1)
    lines = [json.loads(line) for line in plans.to_lines(plan)]
    names = ("header", "change", "footer")
    assert [errors("plan", line, name) for line, name in zip(lines, names, strict=True)] == [
        [],
        [],
        [],
    ]


def test_a_plan_with_authorisation_does_not_keep_to_its_schema() -> None:
    request = Request("GET", "/", {"Authorization": "Api-Key x"})
    change = Change("a", Action.CREATE, "r", requests=(request,))
    plan = plan_with([change])
    assert errors("plan", plans.encode(plan)) != []
