"""How the connection to a database is secured. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.errors import UsageError
from reconciler.state.location import PostgresAddress

VERIFIED = "verify-full"
_ENCRYPTED = frozenset({VERIFIED, "verify-ca", "require"})


def tls_parameters(
    address: PostgresAddress, defaults: Mapping[str, str], *, has_own_root: bool
) -> dict[str, str]:
    """The parameters of a connection that concern TLS. ``defaults`` are what libpq would take for those that
    are not given, from variables for example; ``has_own_root`` says whether ``~/.postgresql/root.crt``
    exists.

    libpq's own default is ``prefer``, which sends everything in the clear if the server, or somebody in
    between, says that it has no TLS. So the certificate and its name are verified, unless the connection
    stays on this machine. ``require``, which verifies nothing, is obeyed where the address says so.
    Raises UsageError for a mode that may send in the clear to another machine.
    """
    numeric = defaults.get("hostaddr")  # libpq connects there, whatever the host is called
    stays = address.is_local and (numeric is None or _with_host(address, numeric).is_local)
    parameters = {"sslmode": "prefer" if stays else VERIFIED, **address.parameters}
    mode = parameters["sslmode"]
    if not stays and mode not in _ENCRYPTED:
        raise UsageError(
            f"sslmode={mode} may send the state in the clear to another machine",
            hint="Leave sslmode out: the certificate is verified then (verify-full). "
            "sslmode=require encrypts without verifying.",
        )
    has_root = "sslrootcert" in parameters or "sslrootcert" in defaults or has_own_root
    if mode == VERIFIED and not has_root:
        parameters["sslrootcert"] = "system"  # the certificates that the system trusts
    return parameters


def _with_host(address: PostgresAddress, host: str) -> PostgresAddress:
    return address._replace(host=host)
