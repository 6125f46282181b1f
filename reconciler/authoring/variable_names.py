"""Names of environment variables that no profile file may use. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

_STEMS = re.compile(
    "SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|COOKIE|SESSION|BEARER|OAUTH|CONNECTION|CONNSTR|"
    "SIGNATURE|PRELOAD|WEBHOOK|KUBECONFIG"
).search
_PARTS = re.compile(
    "[A-Z]*KEYS?|AUTH|AUTHORIZATION|PWD|PASS|CREDS?|DSN|PAT|JWT|PSK|PEM|CERT|CERTS|OTP|PIN|SALT|SAS|"
    "PATH|HOME|SHELL|IFS"
).fullmatch
_OWNERS = ("RECONCILE_", "AWS_", "ACTIONS_", "LD_", "DYLD_", "PYTHON", "SSH_", "GPG_", "DOCKER_")


def is_sensitive(name: str, secrets: Collection[str] = ()) -> bool:
    """Whether a variable holds a secret, as far as its name says, or steers programs. Profile files never
    get it."""
    upper = name.upper()
    parts = (part.rstrip("0123456789") for part in upper.split("_"))
    return (
        name in secrets
        or upper.startswith(_OWNERS)
        or _STEMS(upper.replace("_", "")) is not None
        or any(_PARTS(part) for part in parts)
    )
