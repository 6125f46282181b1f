"""The emulator's own account of what it implements: routes, errors, faults, and assumptions.

docs/emulator.md holds the same assumptions as a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reconciler.emulator.faults import CONDITIONS, DELAYS, ENDINGS, FAULT_SYNTAX, FaultKind
from reconciler.emulator.routes import ROUTES


class KnownError(NamedTuple):
    """An error that the emulator answers."""

    status: int
    code: str
    cause: str
    routes: tuple[str, ...]
    """Names of routes; empty for all."""
    is_documented: bool = True


class Assumption(NamedTuple):
    """A question that nobody documents, and the emulator's answer, in Markdown."""

    place: str
    """Sections of adapty-api."""
    question: str
    behaviour: str
    switch: str
    """The member of `Switches` that changes it, or another way to change it."""


_PROFILE = ("profile",)
_ACCESS = ("grant", "revoke")
_FLAT = ("identifiers", "refund-saver")

ERRORS = (
    KnownError(401, "not_authenticated", "no key, or a wrong one", (*_PROFILE, *_ACCESS)),
    KnownError(401, "unauthorized", "no key, or a wrong one", _FLAT),
    KnownError(404, "profile_does_not_exist", "an unknown profile", _PROFILE),
    KnownError(400, "profile_does_not_exist", "an unknown profile", _ACCESS),
    KnownError(404, "profile_does_not_exist", "an unknown profile, with missing_is_404", _ACCESS),
    KnownError(404, "profile_not_found", "an unknown profile", ("identifiers",)),
    KnownError(400, "profile_does_not_exist", "an unknown profile", ("refund-saver",)),
    KnownError(400, "paid_access_level_does_not_exist", "a level that the app lacks", _ACCESS),
    KnownError(
        404,
        "paid_access_level_does_not_exist",
        "a level that the app lacks, with missing_is_404",
        _ACCESS,
    ),
    KnownError(
        400,
        "profile_paid_access_level_does_not_exist",
        "a level that the profile never had",
        ("revoke",),
    ),
    KnownError(
        400,
        "revocation_date_more_than_expiration_date",
        "a revoke_at after the end of the level",
        ("revoke",),
    ),
    KnownError(400, "value_error", "a revoke_at that has passed", ("revoke",)),
    KnownError(400, "datetime", "a text that is no instant", _ACCESS),
    KnownError(400, "validation_error", "a body without a valid member", _FLAT),
    KnownError(400, "parse_error", "a body that is not JSON", ()),
    KnownError(
        400,
        "customer_user_id_conflict",
        "ids of two profiles in a POST",
        _PROFILE,
        is_documented=False,
    ),
    KnownError(
        400,
        "(in the style of Pydantic: str, enum, date, max_length, extra, missing, ...)",
        "a field that breaks a rule of the contract",
        (*_PROFILE, *_ACCESS),
        is_documented=False,
    ),
    KnownError(404, "not_found", "another path", (), is_documented=False),
    KnownError(405, "method_not_allowed", "another method", (), is_documented=False),
    KnownError(415, "unsupported_media_type", "a body of another type", (), is_documented=False),
    KnownError(429, "rate_limited", "a request above --rate-limit", (), is_documented=False),
)
"""Errors by adapty-api 6.2; those that are not documented follow its section 7."""

ASSUMPTIONS = (
    Assumption(
        "7.1",
        "null for `birthday`, `ip_country`, `analytics_disabled`",
        "400; clears in the `openapi` dialect",
        "dialect",
    ),
    Assumption(
        "7.2",
        "length of a custom value",
        "30 characters, 50 in `openapi`, counted as code points",
        "dialect",
    ),
    Assumption(
        "7.3",
        "`custom_attributes` as an object",
        "400",
        "",
    ),
    Assumption(
        "7.4",
        "is `installation_meta` required",
        "no",
        "`installation_required`",
    ),
    Assumption(
        "7.5",
        "shape of `installation_meta`",
        "one object with `device_id`",
        "",
    ),
    Assumption(
        "7.6",
        "form of `device_id`",
        "any text that is not empty",
        "",
    ),
    Assumption(
        "7.7",
        "values of `store`",
        "three; five in `openapi`",
        "dialect",
    ),
    Assumption(
        "7.8",
        "values of `gender`",
        "any text that is not empty; `f`, `m`, `o` in `openapi`",
        "dialect",
    ),
    Assumption(
        "7.9",
        "form of `ip_country`",
        "two capital letters",
        "",
    ),
    Assumption(
        "7.10",
        "`adapty-platform`",
        "accepted on every method; a value outside the list: 400",
        "",
    ),
    Assumption(
        "7.11",
        "PATCH with both identifiers",
        "never links",
        "",
    ),
    Assumption(
        "7.12",
        "status of a successful POST",
        "200",
        "",
    ),
    Assumption(
        "7.13",
        "a grant or a revoke for an unknown profile",
        "400; both are documented",
        "`missing_is_404`",
    ),
    Assumption(
        "7.14",
        "a grant or a revoke of a level that the app does not have",
        "400; both are documented",
        "`missing_is_404`",
    ),
    Assumption(
        "7.15",
        "an empty `custom_attributes`",
        "400",
        "",
    ),
    Assumption(
        "7.16",
        "deleting an attribute",
        'null and `""` both do',
        "`null_deletes`",
    ),
    Assumption(
        "7.17",
        "`0` and `false` as a custom value",
        "stored as 0.0",
        "",
    ),
    Assumption(
        "7.18",
        "the same key twice",
        "400; lenient: the last one wins",
        "`strict`",
    ),
    Assumption(
        "7.19",
        "deleting a key that is not there",
        "no effect, 200",
        "",
    ),
    Assumption(
        "7.20",
        "PATCH with `{}`",
        "200, a new timestamp, nothing else",
        "",
    ),
    Assumption(
        "7.21",
        "an unknown field",
        "400; lenient: ignored",
        "`strict`",
    ),
    Assumption(
        "7.22",
        "fields of the later specification",
        "400 in `guide`",
        "dialect",
    ),
    Assumption(
        "7.23",
        "empty access lists",
        "`[]`",
        "`null_lists`",
    ),
    Assumption(
        "7.24",
        "a public key",
        "401",
        "",
    ),
    Assumption(
        "7.25",
        "rate limit",
        "none",
        "`--rate-limit`, by key",
    ),
    Assumption(
        "7.26",
        "a write without `ip_country`",
        "the country follows the sender's address (`ZZ` for this machine); seen in the debug "
        "view only",
        "`country_from_request`",
    ),
    Assumption(
        "7.27",
        "advertising identifiers while analytics are off",
        "`idfa`, `idfv`, `advertising_id` are cleared and stay so; they do not come back",
        "",
    ),
    Assumption(
        "7.28",
        '`""` for a standard field',
        "400; lenient: stored",
        "`strict`",
    ),
    Assumption(
        "7.29",
        "null for a nullable field",
        "clears it",
        "",
    ),
    Assumption(
        "7.30",
        "path without its final slash",
        "404",
        "",
    ),
    Assumption(
        "7.31",
        "no identifier",
        "401",
        "",
    ),
    Assumption(
        "7.32",
        "a customer id created again after a deletion",
        "new profile id, nothing kept",
        "",
    ),
    Assumption(
        "7.33",
        "`timestamp`",
        "milliseconds, rising with every answer about a profile",
        "",
    ),
    Assumption(
        "7.34",
        "spelling of floats",
        "`5.0`",
        "",
    ),
    Assumption(
        "7.35",
        "when the limit of 30 is checked",
        "after the deletions of the same request",
        "",
    ),
    Assumption(
        "7.36",
        "a request with a violation",
        "nothing of it is applied; all violations are reported",
        "",
    ),
    Assumption(
        "1.2",
        "null for an integration identifier",
        "clears it; a body of nulls only is accepted",
        "contract",
    ),
    Assumption(
        "1.2, 8.5",
        "members that a body does not name",
        "keep their value",
        "",
    ),
    Assumption(
        "1.1, 1.2",
        "an unknown or malformed member of identifiers or refund preferences",
        "400 `validation_error`, all of them in one list; lenient: unknown ones are ignored",
        "`strict`",
    ),
    Assumption(
        "6.1",
        "faults, rates and malformed bodies on the paths with flat errors",
        "flat errors too; no identifier: 401 `unauthorized`",
        "",
    ),
    Assumption(
        "8.1",
        "a level that was granted",
        "`store` is `adapty`; `store_product_id` is `adapty_server_side_product`, or "
        "`adapty_dashboard_product` from a seed; the transaction id is generated",
        "",
    ),
    Assumption(
        "8.2",
        "`revoke_at` or another instant without a zone",
        "is in UTC",
        "",
    ),
    Assumption(
        "8.2",
        "a malformed instant, an unknown member of a grant or a revoke",
        "400 `datetime`, 400 `extra`; lenient: unknown ones are ignored",
        "`strict`",
    ),
    Assumption(
        "8.2",
        "`starts_at` after `expires_at`",
        "accepted; the level is never active",
        "",
    ),
    Assumption(
        "8.2",
        "a revoke",
        "sets `expires_at`; one without `revoke_at` also sets `renewal_cancelled_at` and "
        "`cancellation_reason: adapty_revoked`",
        "",
    ),
    Assumption(
        "8.2",
        "a revoke of a level that has not begun",
        "ends it where it would begin",
        "",
    ),
    Assumption(
        "8.3",
        "a revoke of a level that has ended",
        "400 `revocation_date_more_than_expiration_date`",
        "",
    ),
    Assumption(
        "8.3",
        "a grant with an earlier end than the present one",
        "leaves the end as it is",
        "`grant_shortens`",
    ),
    Assumption(
        "8.3",
        "a grant with another `starts_at` of a level that has not ended",
        "replaces it, also by null",
        "`grant_moves_start`",
    ),
    Assumption(
        "8.3",
        "a grant of a level that has ended",
        "begins anew, with a new origin",
        "",
    ),
    Assumption(
        "8.4",
        "a grant of a level that was bought",
        "moves its end and keeps its store",
        "",
    ),
    Assumption(
        "8.4",
        "fractions of seconds",
        "are kept",
        "`whole_seconds`",
    ),
    Assumption(
        "8.4",
        "events of grants and revokes",
        "one for each, also for one that changes nothing",
        "",
    ),
    Assumption(
        "8.5",
        "refund preferences that were never set, or that null cleared",
        "`consent: true`, `custom_preference: decline`",
        "`default_consent`, `default_preference`",
    ),
    Assumption(
        "2.2",
        "POST with a customer id that exists",
        "applies the body to that profile",
        "",
    ),
    Assumption(
        "2.2",
        "both identifiers, of different profiles",
        "404; on POST 400 `customer_user_id_conflict`",
        "",
    ),
    Assumption(
        "2.1",
        "a profile id that is not a UUID",
        "400",
        "",
    ),
    Assumption(
        "3.4",
        "`installation_meta`",
        'one installation for each `device_id`; members merge; null and `""` clear one',
        "",
    ),
    Assumption(
        "6.5",
        "codes and messages of a 400",
        "invented, in the style of Pydantic; do not rely on them",
        "",
    ),
    Assumption(
        "",
        "a body that is missing, larger than 1 MiB, of another type",
        "400 `parse_error`, 413, 415",
        "",
    ),
    Assumption(
        "",
        "other paths, other methods",
        "404 `not_found`, 405 with `Allow`",
        "",
    ),
)
"""The rows of the table in docs/emulator.md."""


def catalogue_text() -> str:
    """The text of ``emulator --list``."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "Routes (with their names in faults):"
    for route in ROUTES:
        shape = "; flat errors" if route.is_flat else ""
        yield f"  {', '.join(route.methods)} {route.path} ({route.name}{shape})"
    yield ""
    yield "Errors:"
    for each in ERRORS:
        where = ", ".join(each.routes) or "all routes"
        assumed = "" if each.is_documented else "; assumed"
        yield f"  {each.status} {each.code}: {each.cause} ({where}{assumed})"
    yield ""
    yield "Faults (docs/emulator.md describes them):"
    for kind, syntax in FAULT_SYNTAX.items():
        value = "" if syntax.value is None else f": {syntax.value.description}"
        options = "".join(f" [:{option.name}=...]" for option in syntax.options)
        yield f"  {kind}{options}{value} ({_effect(kind)})"
    yield "Conditions of faults:"
    for condition in CONDITIONS:
        yield f"  :{condition.name}= {condition.description}"
    yield ""
    yield "Assumed, because nobody documents it (the numbers are sections of the fact sheet):"
    for row in ASSUMPTIONS:
        place = f"{row.place}: " if row.place else ""
        switch = f" [{row.switch}]" if row.switch else ""
        yield f"  {place}{row.question}: {row.behaviour}{switch}".replace("`", "")


def _effect(kind: FaultKind) -> str:
    if kind in DELAYS:
        return "delays a request"
    return "ends a request" if kind in ENDINGS else "alters an answer"
