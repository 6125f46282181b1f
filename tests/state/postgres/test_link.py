"""Connections: how they are secured, and what their errors say."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.errors import ReconcileError, UsageError
from reconciler.state.location import PostgresAddress, StateLocation
from reconciler.state.postgres.failures import StatementFailed
from reconciler.state.postgres.link import connected
from reconciler.state.postgres.opening import linked, open_store
from reconciler.state.store import StateUnreachable
from tests.support.postgres_server import PostgresServer
from tests.support.postgres_stores import postgres_session, postgres_store
from tests.support.states import JANE, US, put
from tests.support.tls_postgres import Certificate, TlsFront, certificate

Front = Callable[[Certificate | None], int]


@pytest.fixture
def front(postgres: PostgresServer) -> Iterator[Front]:
    """Starts fronts with certificates; gives their ports."""
    fronts = []

    def start(files: Certificate | None) -> int:
        fronts.append(TlsFront(postgres.port, files))
        return fronts[-1].port

    yield start
    for each in fronts:
        each.close()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has libpq take ``db.internal`` for another machine, and find it on this one."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setattr("reconciler.state.postgres.link._defaults", dict)


def address(port: int, **parameters: str) -> PostgresAddress:
    return PostgresAddress(
        "db.internal",
        port,
        user="postgres",
        database="postgres",
        schema="s",
        parameters=parameters,
    )


@pytest.mark.usefixtures("elsewhere")
def test_only_the_right_certificate_lets_a_connection_be_made(front: Front, tmp_path: Path) -> None:
    right, wrong = certificate(tmp_path, "db.internal"), certificate(tmp_path, "db.example")
    port = front(right)
    connected(address(port, sslrootcert=str(right.path))).close()
    for refused in (
        address(port),  # an authority that the system does not know
        address(port, sslrootcert=str(wrong.path)),
        address(front(wrong), sslrootcert=str(wrong.path)),  # another name
        address(front(None), sslrootcert=str(right.path)),  # no TLS at all
        address(front(None), sslmode="require"),
    ):
        with pytest.raises(StatementFailed):
            connected(refused)


@pytest.mark.usefixtures("elsewhere")
def test_require_encrypts_and_verifies_nothing_where_the_address_says_so(
    front: Front, tmp_path: Path
) -> None:
    connected(address(front(certificate(tmp_path, "db.example")), sslmode="require")).close()


@pytest.mark.usefixtures("elsewhere")
def test_a_mode_that_falls_back_to_clear_text_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(UsageError, match="in the clear"):
        connected(address(1, sslmode="prefer"))


# --- messages ------------------------------------------------------------------------------------


def test_no_message_repeats_a_value_or_a_text_of_the_server(
    postgres: PostgresServer, url: str, schema: str
) -> None:
    store = postgres_store(url)
    put(store, JANE)
    with postgres.connect() as db:
        db.execute(f"ALTER TABLE {schema}.record ADD CHECK (body NOT LIKE '%secret%')")
    with store.lock(US) as writer, pytest.raises(ReconcileError) as refused:
        writer.write(put=[JANE._replace(labels=("secret-label",))])
    assert "secret" not in refused.value.message + refused.value.hint
    assert refused.value.__suppress_context__, "a traceback would show the server's text"
    assert "23514 CheckViolation" in refused.value.message
    store.close()


def test_every_failing_statement_is_one_of_our_errors(url: str) -> None:
    session = postgres_session(url)
    for text in ("SELECT 1/0", "SELECT nothing", "SELECT 'x'::int", "no SQL", "SELECT %(x)s::int"):
        with pytest.raises(ReconcileError) as refused:
            session.rows(text, {"x": "\ud800"} if "x" in text else {})
        assert "ERROR" not in refused.value.message
    session.close()


def location(port: int, **settings: object) -> StateLocation:
    url = f"postgresql://ann@127.0.0.1:{port}/postgres?schema=s"
    place = StateLocation(url, "test", Path("/nowhere"))
    return place._replace(**settings)


@pytest.fixture
def with_passwords(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """The server asks ``ann`` for a password, which is ``open sesame``."""
    rules = postgres.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"host all ann 127.0.0.1/32 scram-sha-256\n{before}")
    with postgres.connect() as db:
        db.execute("SELECT pg_reload_conf()")
        db.execute("CREATE ROLE ann SUPERUSER LOGIN PASSWORD 'open sesame'")
        yield postgres
        rules.write_text(before)
        db.execute("SELECT pg_reload_conf()")
        db.execute("DROP ROLE ann")


def test_a_password_comes_from_a_variable_or_a_command_and_is_in_no_message(
    with_passwords: PostgresServer, tmp_path: Path
) -> None:
    here = location(with_passwords.port)
    command = ("printf", "open sesame")
    for place, environ in (
        (here, {"PGPASSWORD": "open sesame"}),
        (here._replace(password_command=command), {}),
        (here._replace(url_env="STATE"), {"STATE": here.url.replace("ann", "ann:open%20sesame")}),
    ):
        linked(place, environ=environ, application="test")().close()
    for place, environ, reason in (
        (here, {}, "asks for a password"),
        (here, {"PGPASSWORD": "shut sesame"}, "refused the connection"),
        (here._replace(password_command=("printf", "shut sesame")), {}, "refused the connection"),
    ):
        store = open_store(place, environ=environ)
        with pytest.raises(StateUnreachable, match=reason) as refused:
            store.header()
        assert "sesame" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("false",), "exit code 1"),
        (("/no/such/command",), "cannot be run"),
        (("printf", "one\ntwo"), "did not print one line"),
        (("printf", ""), "did not print one line"),
        (("printf", "\\377"), "did not print one line"),
    ],
)
def test_a_command_that_prints_no_password_is_named(command: tuple[str, ...], reason: str) -> None:
    store = open_store(location(1, password_command=command), environ={})
    with pytest.raises(ReconcileError, match=reason) as refused:
        store.header()
    assert "password_command" in refused.value.message
