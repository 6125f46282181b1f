"""Addresses of states: what is understood, what is refused, and that nothing of a refused one is quoted."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from reconciler.state.location import (
    AddressFlaw,
    ObjectAddress,
    PostgresAddress,
    StateKind,
    StateLocation,
    parse_address,
)

CACHE = Path("cache")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://team-bucket/a/prod", ObjectAddress(StateKind.S3, None, "team-bucket", "a/prod")),
        ("gs://team.bucket/a", ObjectAddress(StateKind.GS, None, "team.bucket", "a")),
        ("az://account/box/a/b", ObjectAddress(StateKind.AZ, "account", "box", "a/b")),
        (
            "postgresql://ann@DB.internal/ops?schema=qa",
            PostgresAddress("db.internal", 5432, "ann", database="ops", schema="qa"),
        ),
        (
            "postgres://[::1]:99/ops?schema=qa&sslmode=require&sslrootcert=system",
            PostgresAddress(
                "::1", 99, None, database="ops", schema="qa",
                parameters={"sslmode": "require", "sslrootcert": "system"},
            ),
        ),
        (
            "postgresql:///ops?host=/run/A%20b&schema=qa",
            PostgresAddress("/run/A b", 5432, None, database="ops", schema="qa"),
        ),
    ],
)  # fmt: skip
def test_an_address_is_understood_and_its_one_form_means_the_same(
    text: str, address: PostgresAddress | ObjectAddress
) -> None:
    assert parse_address(text) == address
    location = StateLocation(address.url, "test", CACHE)
    assert location.address == address
    assert location.file is None


FLAWS = {
    "postgresql://u:hunter2@h/d?schema=s": "holds a password",
    "postgresql://h/d": "names no schema",
    "postgresql://h/d?schema=Ops": "schema that cannot be one",
    "postgresql://h/d?schema=1ops": "schema that cannot be one",
    "postgresql://h/d?schema=s&options=-c%20hunter2": "parameter that is not known",
    "postgresql://h/d?schema=s&password=hunter2": "parameter that is not known",
    "postgresql://h/d?schema=s&schema=hunter2": "a parameter twice",
    "postgresql://h/d?schema=s&sslmode=prefer": "others can read",
    "postgresql://h/?schema=s": "names no database",
    "postgresql:///d?schema=s": "names no host",
    "postgresql://h,hunter2/d?schema=s": "names no host",
    "postgresql://h/d?schema=s#hunter2": "fragment",
    "s3://bucket": "names no prefix",
    "s3://bucket/": "names no prefix",
    "s3://bucket/a/": "empty, is ..",
    "s3://bucket/a//b": "empty, is ..",
    "s3://bucket/../hunter2": "empty, is ..",
    "s3://bucket/a%2fhunter2": "empty, is ..",
    "s3://bucket/a?region=hunter2": "has a query",
    "s3://key:hunter2@bucket/a": "user name, a password",
    "s3://bucket:443/a": "or a port",
    "s3://Hunter2/a": "names no bucket",
    "gs:///a": "names no bucket",
    "az://account/box": "names no prefix",
    "az://Hunter2/box/a": "names no bucket",
    "az://account/Hunter2/a": "names no bucket",
    "mysql://hunter2": "is not the address of a state",
    "s3://bucket/a\\hunter2": "is not the address of a state",
    "s3://bucket/hünter2": "is not the address of a state",
    "": "is not the address of a state",
}


@pytest.mark.parametrize("text", FLAWS)
def test_an_address_with_a_flaw_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(AddressFlaw) as refused:
        parse_address(text)
    assert FLAWS[text] in refused.value.message
    assert refused.value.hint
    assert "hunter2" not in (refused.value.message + refused.value.hint).lower()


def test_a_location_takes_its_address_from_a_variable_and_leaves_the_password_there() -> None:
    location = StateLocation("", "test", CACHE, url_env="STATE_URL")
    environ = {"STATE_URL": "postgresql://u:p%40ss@h/d?schema=s"}
    resolved = location.resolved(environ)
    assert resolved.url == "postgresql://u@h:5432/d?schema=s"
    assert location.password(environ) == "p@ss"
    assert b"ss@" not in pickle.dumps(resolved)
    assert pickle.loads(pickle.dumps(resolved)) == resolved
    with pytest.raises(AddressFlaw):
        location.resolved({})


def test_locations_of_one_state_have_one_identity() -> None:
    def identity(url: str, endpoint: str | None = None) -> str:
        return StateLocation(parse_address(url).url, "test", CACHE, endpoint=endpoint).identity

    assert identity("postgresql://a@H/d?schema=s&sslmode=require") == identity(
        "postgres://b@h:5432/d?schema=s"
    )
    assert identity("postgresql://h/d?schema=s") != identity("postgresql://h/d?schema=t")
    assert identity("s3://bucket/a") != identity("s3://bucket/a", "https://minio.internal")


def test_a_prefix_holds_those_inside_it_and_none_beside_it() -> None:
    outer, inner, beside = (
        ObjectAddress(StateKind.S3, None, "bucket", prefix) for prefix in ("a/b", "a/b/c", "a/bc")
    )
    assert (outer.holds(inner), outer.holds(outer), outer.holds(beside), inner.holds(outer)) == (
        True,
        True,
        False,
        False,
    )


def test_a_file_has_the_path_that_it_was_given() -> None:
    path = Path("/tmp/odd ?#%2f name.db")
    location = StateLocation.of_file(path, "test")
    assert location.file == path
    assert location.cache_folder == path.parent
    assert location.kind is StateKind.SQLITE
