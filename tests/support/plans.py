"""Plans that between them hold every action, operation, basis and hazard, and findings of every kind."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from reconciler.core.facets.access_levels import GRANT, REVOKE
from reconciler.core.facets.integrations import INTEGRATIONS
from reconciler.core.facets.refund_saver import REFUND_SAVER
from reconciler.core.options import ReadScope, Target
from reconciler.core.outcomes import Drift, DriftKind, Failure, Outcome, Result
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    FieldChange,
    Hazard,
    Head,
    LineAuthor,
    Mode,
    Op,
    Plan,
    Request,
    Scope,
)
from reconciler.core.plan_format import assemble_plan
from reconciler.errors import Diagnostic, Message, Quote, Source, error, warning
from reconciler.reports.view import Links
from reconciler.values import Tag

PATH = "/api/v2/server-side-api/profile/"
LINKS = Links("https://git.example/owner/name/blob/0123abc/", "apps/shop/")
COUNTRY = Hazard(
    "ip_country_from_sender",
    "sent without ip_country; the API may set the user's country from the address of this machine",
)


def patch(address: str, body: dict[str, object], *, fallback: str | None = None) -> Request:
    return Request("PATCH", PATH, {"adapty-customer-user-id": address}, body, fallback)  # type: ignore[arg-type]


def plan_with(
    changes: Iterable[Change] = (),
    *,
    environment: str = "local",
    mode: Mode = Mode.ADDITIVE,
    lineage: str | None = None,
    serial: int = 0,
    application: str | None = None,
    orphans: tuple[str, ...] = (),
    unchanged: int = 0,
    hazards: tuple[Hazard, ...] = (),
    scope: Scope = Scope(),  # noqa: B008
    target: Target | None = None,
) -> Plan:
    """A plan of some changes; the rest is as in a plan of an empty state."""
    return assemble_plan(
        Head(environment, mode, lineage, serial, application, scope, target),
        changes=tuple(changes),
        orphans=orphans,
        unchanged=unchanged,
        hazards=hazards,
    )


EVERYTHING = plan_with(
    environment="production",
    target=Target(
        "https://api.adapty.io", "guide", "ADAPTY_SECRET_KEY", proxy="http://proxy.example:3128"
    ),
    mode=Mode.PRUNE,
    lineage="6d0c2c2e-3e4b-4c1c-9f9e-1f0a4b8f7a55",
    serial=41,
    application="0f7c9a54-6f3e-4b8e-9d5f-7f6b2a1c3d4e",
    changes=(
        Change(
            "old-1",
            Action.DELETE,
            "in no file",
            requests=(
                Request(
                    "DELETE", PATH, {"adapty-profile-id": "0c1f5d3e-5b0d-4a53-9f0c-2d0d4c8b7a11"}
                ),
            ),
            hazards=(
                Hazard("delete", "will be deleted with all related data; there is no undo"),
                Hazard(
                    "delete_adopted",
                    "will be deleted although this tool did not create it, or is not known to have",
                ),
            ),
            source=Source("profiles/old.yaml", 1),
            revision=7,
        ),
        Change(
            "old-2",
            Action.FORGET,
            "in no file, and the API said that it does not exist: dropped from the state",
            source=Source("profiles/old.yaml", 9),
            revision=3,
        ),
        Change(
            "partner-1",
            Action.LINK,
            "given a customer id: linked to its profile",
            (FieldChange("email", Op.SET, None, "p@example.com", Basis.NONE, 4),),
            (
                Request(
                    "POST",
                    PATH,
                    {
                        "adapty-customer-user-id": "partner-1",
                        "adapty-profile-id": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
                    },
                    {"email": "p@example.com"},
                ),
            ),
            (
                Hazard(
                    "link",
                    "links customer id partner-1 to profile 3fa85f64-5717-4562-b3fc-2c963f66afa6; the API "
                    "has no way to undo it",
                ),
                COUNTRY,
            ),
            Source("profiles/partners.yaml", 1),
            2,
            ("partner",),
        ),
        Change(
            "qa-anna",
            Action.CREATE,
            "not recorded, nothing is known of it: adopted if it exists, created if not",
            (
                FieldChange("first_name", Op.SET, None, "Anna", Basis.NONE, 2),
                FieldChange("custom_attributes.beta", Op.SET, None, 0.0, Basis.NONE, 4),
                FieldChange("custom_attributes.gone", Op.CLEAR, None, None, Basis.NONE, 5),
                FieldChange(
                    "installation_meta.device_id",
                    Op.SET,
                    None,
                    "11111111-2222-4333-8444-555555555555",
                    Basis.NONE,
                    7,
                ),
            ),
            (
                patch(
                    "qa-anna",
                    {
                        "first_name": "Anna",
                        "custom_attributes": [
                            {"key": "beta", "value": 0.0},
                            {"key": "gone", "value": None},
                        ],
                        "installation_meta": {"device_id": "11111111-2222-4333-8444-555555555555"},
                    },
                    fallback="POST",
                ),
            ),
            (
                Hazard(
                    "new_device_id",
                    "a new device_id makes an installation that cannot be removed through the API "
                    "(assumed)",
                ),
                Hazard(
                    "zero_value",
                    "a custom attribute of 0 or false is stored as 0.0 (assumed: the API does not take "
                    "it for an empty value)",
                ),
                COUNTRY,
            ),
            Source("profiles/qa/anna.yaml", 1),
            None,
            ("qa", "smoke"),
        ),
        Change(
            "qa-eve",
            Action.ADOPT,
            "not recorded, and the API has it as profile 7d8e: adopted; it has custom attributes that "
            "no file declares: level",
            (FieldChange("custom_attributes.tier", Op.SET, "tin", "gold", Basis.OBSERVED, 3),),
            (
                Request(
                    "PATCH",
                    PATH,
                    {"adapty-customer-user-id": "qa-eve"},
                    {"custom_attributes": [{"key": "tier", "value": "gold"}]},
                ),
            ),
            (),
            Source("profiles/qa/eve.yaml", 1),
        ),
        Change(
            "qa-jane",
            Action.UPDATE,
            "6 to set, 3 to clear, 1 to forget (1 uncertain after an unknown outcome)",
            (
                FieldChange("first_name", Op.SET, "Jane", "Janet", Basis.RECORDED, 3),
                FieldChange("email", Op.CLEAR, "jane@example.com", None, Basis.RECORDED),
                FieldChange("birthday", Op.FORGET, "2000-12-31", None, Basis.RECORDED, None),
                FieldChange("store", Op.SET, "stripe", "app_store", Basis.UNCERTAIN, 5),
                FieldChange(
                    "custom_attributes.tier", Op.SET, "gold", "platinum", Basis.OBSERVED, 8
                ),
                FieldChange("access_levels.premium", Op.SET, None, "for 30d", Basis.NONE, 10),
                FieldChange(
                    "access_levels.pro",
                    Op.CLEAR,
                    "until 2027-01-31T00:00:00Z",
                    None,
                    Basis.OBSERVED,
                ),
                FieldChange(
                    "integrations.amplitude_user_id", Op.SET, "u-16", "u-17", Basis.OBSERVED, 13
                ),
                FieldChange("integrations.branch_id", Op.CLEAR, "b-1", None, Basis.RECORDED),
                FieldChange("refund_saver.preference", Op.SET, None, "decline", Basis.NONE, 15),
            ),
            (
                patch("qa-jane", {"custom_attributes": [{"key": "old", "value": None}]}),
                patch(
                    "qa-jane",
                    {
                        "first_name": "Janet",
                        "email": None,
                        "store": "app_store",
                        "custom_attributes": [{"key": "tier", "value": "platinum"}],
                    },
                ),
                Request(
                    "POST",
                    GRANT,
                    {"adapty-customer-user-id": "qa-jane"},
                    {"access_level_id": "premium", "expires_at": "<time of apply> + 30d"},
                    if_needed=True,
                ),
                Request(
                    "POST",
                    REVOKE,
                    {"adapty-customer-user-id": "qa-jane"},
                    {"access_level_id": "pro"},
                ),
                Request(
                    "POST",
                    INTEGRATIONS.address,
                    {"adapty-customer-user-id": "qa-jane"},
                    {"amplitude_user_id": "u-17", "branch_id": None},
                ),
                Request(
                    "POST",
                    REFUND_SAVER.address,
                    {"adapty-customer-user-id": "qa-jane"},
                    {"custom_preference": "decline"},
                ),
            ),
            (
                Hazard("access_revoked", "the user loses access to pro"),
                Hazard(
                    "access_adopted",
                    "grants access to premium to a profile that this tool did not create",
                ),
                Hazard(
                    "access_bought",
                    "extends access to gold that was bought in app_store; billing does not change",
                ),
                Hazard("access_lifetime", "grants access to silver for ever"),
                Hazard(
                    "attribute_limit",
                    "31 custom attributes with those that the profile already has; the API takes 30 and "
                    "will refuse",
                ),
                Hazard(
                    "two_steps",
                    "near the limit of custom attributes: deletions go in a first request, additions in "
                    "a second; the two are not one step",
                ),
                COUNTRY,
            ),
            Source("profiles/qa/jane.yaml", 2),
            12,
            ("qa",),
            protect=True,
        ),
        Change(
            "qa-tom",
            Action.RENAME,
            "recorded as profile:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed; nothing is sent",
            source=Source("profiles/qa/tom.yaml", 1),
            revision=5,
            renamed_from="profile:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
        ),
    ),
    orphans=("left-1", "left-2"),
    unchanged=95,
    hazards=(
        Hazard(
            "max_changes", "makes 5 changes, and environments.production.limits.max_changes is 4"
        ),
        Hazard("delete_everything", "deletes every recorded profile"),
        Hazard(
            "max_delete",
            "deletes 1 of 2 recorded profiles, and environments.production.limits.max_delete is 25%",
        ),
        Hazard("existing", "writes a profile that exists and is not recorded: old-1"),
        Hazard("protected", "kept although in no file, because protected: left-1"),
        Hazard(
            "adopted",
            "kept although in no file, because this tool did not create them, or is not known to have: "
            "left-2; --include-adopted deletes them too",
        ),
        Hazard(
            "file_shrank",
            "profiles/old.yaml still exists, but 2 profiles of it are no longer declared: make sure that "
            "it was not cut off; apply deletes them only if git has the file committed as it is",
            "profiles/old.yaml",
            2,
        ),
    ),
    scope=Scope(
        ("label:qa", "old-*"),
        ("qa-x",),
        "0123456789abcdef0123456789abcdef01234567",
        True,
        ReadScope.ALL,
        read=99,
        read_apart=3,
        looked_up=2,
    ),
)

EMPTY = plan_with(unchanged=3)

SMALL = plan_with(
    environment="local",
    mode=Mode.ADDITIVE,
    lineage="6d0c2c2e-3e4b-4c1c-9f9e-1f0a4b8f7a55",
    serial=4,
    application=None,
    changes=(
        Change(
            "qa-jane",
            Action.UPDATE,
            "1 to set, 1 to clear",
            (
                FieldChange("email", Op.CLEAR, "jane@example.com", None, Basis.RECORDED),
                FieldChange(
                    "custom_attributes.tier", Op.SET, "gold", "platinum", Basis.OBSERVED, 5
                ),
            ),
            (
                patch(
                    "qa-jane",
                    {
                        "email": None,
                        "custom_attributes": [{"key": "tier", "value": "platinum"}],
                    },
                ),
            ),
            source=Source("profiles/qa/jane.yaml", 2),
            revision=2,
            labels=("qa",),
        ),
    ),
    orphans=(),
    unchanged=98,
)

TEMPLATES = plan_with(
    [
        Change(
            f"qa-{number:04}",
            action,
            "1 to set" if action is Action.UPDATE else "not recorded: created if it is not there",
            (
                FieldChange(
                    "email",
                    Op.SET,
                    f"old-{number}@example.com" if action is Action.UPDATE else None,
                    f"qa-{number}@example.com",
                    Basis.RECORDED if action is Action.UPDATE else Basis.NONE,
                    5,
                ),
            ),
            (patch(f"qa-{number:04}", {"email": f"qa-{number}@example.com"}),),
            (COUNTRY,),
            Source("profiles/qa/users.yaml", 3),
            template="qa-{n}",
        )
        for action, numbers in ((Action.CREATE, range(8)), (Action.UPDATE, range(8, 13)))
        for number in numbers
    ],
    unchanged=1_000,
)
"""Thirteen profiles of one template: eight are created, five updated."""

RESULTS = (
    *(
        Result(f"qa-{outcome}", Action.UPDATE, outcome)
        for outcome in Outcome
        if outcome.is_applied or outcome is Outcome.ALREADY
    ),
    Result(
        "qa-failed",
        Action.UPDATE,
        Outcome.FAILED,
        "email: is not valid",
        "6f1c-22",
        failure=Failure.REFUSED,
    ),
    Result("qa-stale", Action.UPDATE, Outcome.STALE, "it changed since the plan"),
    Result("qa-uncertain", Action.UPDATE, Outcome.UNCERTAIN, "the answer was cut off", "6f1c-23"),
    Result("qa-skipped", Action.UPDATE, Outcome.SKIPPED, "the API is away"),
)
"""A result with each outcome."""

DRIFTS = (
    Drift("qa-anna", DriftKind.SAME, unverifiable=2),
    Drift(
        "qa-bob",
        DriftKind.CHANGED,
        (FieldChange("custom_attributes.beta", Op.SET, 1.0, 2.0, Basis.OBSERVED),),
        unverifiable=1,
    ),
    Drift("qa-gone", DriftKind.GONE),
    Drift("qa-new", DriftKind.RECREATED),
    Drift("qa-unread", DriftKind.UNREAD, reason="the API answered 503: maintenance"),
)

BLAME = {
    ("qa-jane", ""): LineAuthor("0123456789abcdef", "Ada Lovelace", "2026-11-02", "Users for QA"),
    ("qa-jane", "custom_attributes.tier"): LineAuthor(
        "89abcdef01234567", "Grace Hopper", "2026-11-25", "Jane gets platinum"
    ),
    ("qa-jane", "email"): LineAuthor(
        "89abcdef01234567", "Grace Hopper", "2026-11-25", "Jane gets platinum", removed=True
    ),
}

FINDINGS: tuple[Diagnostic, ...] = (
    error(
        "profile/unknown-field",
        'unknown field "fist_name"',
        source=Source("profiles/qa/jane.yaml", 3, 1),
        hint="Did you mean `first_name`?",
    ),
    warning(
        "yaml/ambiguous-scalar",
        Message.of(
            Quote("+1234567890", "`"),
            " is text here, but other YAML tools read it as the number ",
            Quote("1234567890", ""),
        ),
        source=Source("profiles/qa/jane.yaml", 4, 15),
        hint='Put it in quotes: "+1234567890".',
    ),
    error("file/empty", "the file holds no document", source=Source("profiles/empty.yaml")),
)
ALIKE = FINDINGS[1]._replace(source=Source("profiles/qa/joe.yaml", 4, 15))
"""A finding like the second one, in another file."""
LINES = {
    FINDINGS[0].source: "fist_name: Jane",
    FINDINGS[1].source: "phone_number: +1234567890   # reserved",
}
"""The lines of the findings."""

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()))
    | st.integers(1, 99).map(lambda number: Tag(f"(personal #{number})"))
)
FIELDS = st.lists(
    st.builds(
        FieldChange,
        st.text(),
        st.sampled_from(Op),
        SCALARS,
        SCALARS,
        st.sampled_from(Basis),
        st.none() | st.integers(),
        st.none() | st.text(),
    )
)
"""Fields of changes, also such that no planner makes."""
