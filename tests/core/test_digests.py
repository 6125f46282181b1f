"""Equal digests of an address mean that the planner finds nothing to change."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.core.contract_files import load_contract
from reconciler.core.digests import SIZE, known_digest, wanted_digest
from reconciler.core.options import Options
from reconciler.core.plan import Plan
from reconciler.core.planner import make_plan
from reconciler.core.profiles import ProfileMeta, make_profile
from reconciler.core.records import Fact, Header, Known, Presence, Record
from reconciler.errors import Source

PROFILE_ID = "3286abd3-48b0-4e9c-a5f6-ac0a006804a6"
OTHER_ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
PATHS = (
    "email",
    "first_name",
    "custom_attributes.a%sb",
    'custom_attributes."known":"value"',
    "installation_meta.locale",
)
TEXTS = st.sampled_from(["", "Zoë", '"', ',"observed":true', "\\", "%s", "\x7f", "\U0001f600", "5"])
SCALARS = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.dictionaries(st.sampled_from(PATHS), st.none() | SCALARS)
METAS = st.builds(
    ProfileMeta,
    customer_user_id=st.sampled_from(["jane", None]),
    profile_id=st.sampled_from([None, PROFILE_ID]),
    platform=st.none(),
    protect=st.booleans(),
    labels=st.just(()),
    forget=st.lists(st.sampled_from(PATHS), unique=True, max_size=2),
    exclusive=st.booleans(),
).filter(lambda meta: meta.customer_user_id is not None or meta.profile_id is not None)


def meta(address: str = "jane", **extra: Any) -> ProfileMeta:
    return ProfileMeta(address, None, None, False, (), (), **extra)


def wanted(values: dict[str, Any], about: ProfileMeta | None = None) -> bytes | None:
    return wanted_digest(about or meta(), paths=tuple(values), values=[*values.values()])


def record(facts: dict[str, Fact], address: str = "jane", **extra: Any) -> Record:
    return Record(
        address,
        customer_user_id=extra.pop("customer_user_id", "jane"),
        profile_id=extra.pop("profile_id", PROFILE_ID),
        facts=facts,
        revision=1,
        **extra,
    )


JANE = {"first_name": Fact.of("Jane")}


@given(VALUES, st.sets(st.sampled_from(PATHS)))
def test_a_record_of_the_declared_values_has_the_digest_of_their_document(
    values: dict[str, Any], observed: set[str]
) -> None:
    facts = {path: Fact.of(value, observed=path in observed) for path, value in values.items()}
    known = known_digest(record(facts, created_at=1.5, labels=("a",), timestamp=7, protect=True))
    assert known == wanted(values)
    assert known is not None
    assert len(known) == SIZE


@given(VALUES)
def test_the_order_of_fields_does_not_matter(values: dict[str, Any]) -> None:
    assert wanted(values) == wanted(dict(reversed(values.items())))


@given(
    METAS,
    VALUES,
    VALUES,
    st.sampled_from([*Known]),
    st.sampled_from([*Presence]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["jane", "joe", None]),
    st.sampled_from([PROFILE_ID, OTHER_ID, None]),
    st.lists(st.sampled_from(["unmanaged", "b"]), unique=True).map(tuple),
)
@example(
    meta(), {"email": None}, {"email": None}, Known.VALUE, Presence.PRESENT, False, False,
    "jane", PROFILE_ID, (),
)  # fmt: skip
def test_equal_digests_leave_nothing_to_be_planned(
    about: ProfileMeta,
    declared: dict[str, Any],
    recorded: dict[str, Any],
    known: Known,
    presence: Presence,
    deleting: bool,
    linking: bool,
    customer: str | None,
    profile_id: str | None,
    unmanaged: tuple[str, ...],
) -> None:
    declared = {path: value for path, value in declared.items() if path not in about.forget}
    facts = {path: Fact.of(value) for path, value in {**declared, **recorded}.items()}
    if recorded:
        path = min(recorded)
        facts[path] = facts[path]._replace(known=known)
    there = record(
        facts,
        about.address,
        presence=presence,
        deleting=deleting,
        linking=linking,
        customer_user_id=customer,
        profile_id=profile_id,
        unmanaged=unmanaged,
    )
    digest = wanted(declared, about)
    if digest is None or digest != known_digest(there):
        return
    desired = make_profile(
        about,
        paths=tuple(declared),
        values=[*declared.values()],
        lines=[2] * len(declared),
        files={},
        source=Source("a", 1, 1),
    )
    result = make_plan(
        [desired],
        {there.address: there},
        header=Header("lineage", 1),
        contract=load_contract("guide"),
        options=Options(),
    )
    assert isinstance(result, Plan)
    assert result.is_empty
    assert result.unchanged == 1


@pytest.mark.parametrize(
    "differing",
    [
        record({"first_name": Fact.of("Jane"), "email": Fact.of("j@example.com")}),
        record({"first_name": Fact.of("Joan")}),
        record({"first_name": Fact.of(None)}),
        record({}),
        record({"first_name": Fact(Known.UNCERTAIN, "Jane")}),
        record(JANE, presence=Presence.GONE),
        record(JANE, presence=Presence.UNCONFIRMED),
        record(JANE, deleting=True),
        record(JANE, linking=True),
        record(JANE, customer_user_id="joe"),
        record(JANE, "joe", customer_user_id="joe"),
    ],
)
def test_a_record_that_differs_has_another_digest(differing: Record) -> None:
    assert wanted({"first_name": "Jane"}) == known_digest(record(JANE))
    assert wanted({"first_name": "Jane"}) != known_digest(differing)


@pytest.mark.parametrize(("one", "other"), [(1.0, True), (1.0, 1), ("1", 1), (0.0, False)])
def test_values_of_different_types_have_different_digests(one: Any, other: Any) -> None:
    assert wanted({"email": one}) != wanted({"email": other})


def test_a_document_that_depends_on_more_than_its_values_has_no_digest() -> None:
    assert wanted({"first_name": "Jane"}, meta(exclusive=True)) is None
    assert wanted({"first_name": "Jane"}, meta()._replace(profile_id=PROFILE_ID)) is None
