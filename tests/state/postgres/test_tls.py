"""TLS: verified by default to other machines, and never weaker than the address says."""

from __future__ import annotations

import pytest

from reconciler.errors import UsageError
from reconciler.state.location import PostgresAddress, parse_address
from reconciler.state.postgres.tls import tls_parameters


def postgres_address(url: str) -> PostgresAddress:
    address = parse_address(url)
    assert isinstance(address, PostgresAddress)
    return address


REMOTE = postgres_address("postgresql://db.internal/ops?schema=s")
LOCAL = postgres_address("postgresql://127.0.0.1/ops?schema=s")
SOCKET = postgres_address("postgresql:///ops?schema=s&host=/run/postgresql")


def parameters(address: PostgresAddress, **defaults: str) -> dict[str, str]:
    return tls_parameters(address, defaults, has_own_root=False)


def test_the_certificate_is_verified_unless_the_address_says_otherwise() -> None:
    verified = {"sslmode": "verify-full", "sslrootcert": "system"}
    assert parameters(REMOTE) == verified
    assert parameters(REMOTE, sslmode="disable") == verified, "PGSSLMODE weakens nothing"
    assert parameters(REMOTE, sslrootcert="/ca.pem") == {"sslmode": "verify-full"}
    assert tls_parameters(REMOTE, {}, has_own_root=True) == {"sslmode": "verify-full"}
    required = REMOTE._replace(parameters={"sslmode": "require"})
    assert parameters(required) == {"sslmode": "require"}
    own = REMOTE._replace(parameters={"sslrootcert": "/ca.pem"})
    assert parameters(own) == {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}


def test_a_connection_that_stays_on_this_machine_needs_no_certificate() -> None:
    assert parameters(LOCAL) == parameters(SOCKET) == {"sslmode": "prefer"}
    assert parameters(LOCAL, hostaddr="127.0.0.1") == {"sslmode": "prefer"}


def test_a_variable_that_leads_elsewhere_makes_it_leave_this_machine() -> None:
    """libpq connects to PGHOSTADDR, whatever the host is called."""
    assert parameters(LOCAL, hostaddr="10.0.0.1")["sslmode"] == "verify-full"


@pytest.mark.parametrize("mode", ["prefer", "allow", "disable"])
def test_nothing_goes_to_another_machine_in_the_clear(mode: str) -> None:
    with pytest.raises(UsageError, match="in the clear"):
        parameters(REMOTE._replace(parameters={"sslmode": mode}))
