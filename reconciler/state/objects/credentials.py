"""Where the credentials of a bucket are, found as each cloud's own tools find them.

The library of the bucket reads variables, web identities and metadata services by itself. What it does not
read is decided here: profiles and SSO of AWS, federated logins of Google (GitHub's OIDC is one), and the
login of the Azure command line. No file of a checkout is asked, only variables and the user's home.
"""

from __future__ import annotations

import configparser
import json
import shlex
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path

from reconciler.errors import ReconcileError, UsageError

_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_AWS_ROLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_AWS_LOGINS = frozenset(
    {
        "aws_access_key_id",
        "credential_process",
        "login_session",
        "role_arn",
        "sso_account_id",
        "sso_session",
    }
)
"""Settings of a profile that lead to credentials. Others, such as the region, do not."""
_GOOGLE_SETTINGS = (
    "GOOGLE_BEARER_TOKEN",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SKIP_SIGNATURE",
)
_GOOGLE_TYPES = frozenset({"service_account", "authorized_user"})
"""Types of a file of Google credentials that the library of the bucket reads. It fails on the others:
"unknown variant `external_account`" (arrow-rs-object-store 258)."""

_AZURE_SETTINGS = (
    *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY"),
    *("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TOKEN"),
    *("AZURE_CLIENT_SECRET", "AZURE_STORAGE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"),
    *("AZURE_CREDENTIAL_TYPE", "AZURE_SKIP_SIGNATURE", "AZURE_STORAGE_USE_EMULATOR"),
    *("AZURE_IDENTITY_ENDPOINT", "AZURE_MSI_ENDPOINT", "IDENTITY_ENDPOINT", "MSI_ENDPOINT"),
)
"""Variables that lead to credentials. Others do not: runners of GitHub set ``AZURE_EXTENSION_DIR``."""


AWS_VARIABLES = (
    *_AWS_KEYS,
    *_AWS_ROLES,
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
)
GOOGLE_VARIABLES = (*_GOOGLE_SETTINGS, "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_BASE_URL")
AZURE_VARIABLES = (
    "AZURE_AUTHORITY_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_TENANT_ID",
)


def settings_of(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The settings of a client that variables give. The library would read those of this process, whatever
    environment its caller gave."""
    return {name.lower(): environ[name] for name in names if environ.get(name)}


class CredentialSource(Enum):
    """Who finds the credentials."""

    LIBRARY = "library"
    """The library of the bucket: variables, web identity, workload identity, metadata service."""
    AWS_PROFILE = "aws-profile"
    """boto3, which reads profiles, SSO and the commands that a profile names."""
    GOOGLE_FILE = "google-file"
    """google-auth, which knows every type of file."""
    AZURE_LOGIN = "azure-login"
    """The Azure command line, after ``az login``."""


def aws_source(environ: Mapping[str, str], home: Path) -> CredentialSource:
    """Who finds the credentials of AWS. A profile counts where neither keys nor a web identity are set."""
    if all(environ.get(name) for name in _AWS_KEYS):
        return CredentialSource.LIBRARY
    if environ.get("AWS_PROFILE"):
        return CredentialSource.AWS_PROFILE
    if any(environ.get(name) for name in _AWS_ROLES):
        return CredentialSource.LIBRARY
    files = (
        environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials",
        environ.get("AWS_CONFIG_FILE") or home / ".aws" / "config",
    )
    is_profile = any(_has_login(Path(file)) for file in files)
    return CredentialSource.AWS_PROFILE if is_profile else CredentialSource.LIBRARY


def _has_login(file: Path) -> bool:
    """Whether the default profile of a file leads to credentials."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(file.read_text("utf-8"))
        return not _AWS_LOGINS.isdisjoint(parser["default"])
    except (OSError, ValueError, KeyError, configparser.Error):
        return False


def no_boto3(environ: Mapping[str, str]) -> UsageError:
    """The error where a profile is to be used, and nobody can read it."""
    profile = environ.get("AWS_PROFILE")
    option = f" --profile {shlex.quote(profile)}" if profile else ""
    return UsageError(
        "the credentials of AWS are in a profile, which needs boto3 to be read",
        hint=f'Run eval "$(aws configure export-credentials{option} --format env)" first, or install '
        "boto3 beside reconcile: pip install boto3",
    )


def google_source(environ: Mapping[str, str], home: Path) -> CredentialSource:
    """Who finds the credentials of Google. Raises UsageError where the file that
    ``GOOGLE_APPLICATION_CREDENTIALS`` names is not readable."""
    if any(environ.get(name) for name in _GOOGLE_SETTINGS):
        return CredentialSource.LIBRARY
    named = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    usual = home / ".config" / "gcloud" / "application_default_credentials.json"
    if not named and not usual.is_file():
        return CredentialSource.LIBRARY  # the metadata service
    try:
        content = json.loads(Path(named or usual).read_text("utf-8"))
        kind = content["type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            "the file with the credentials of Google is not readable, or holds none",
            hint="GOOGLE_APPLICATION_CREDENTIALS names it; without that variable, "
            "`gcloud auth application-default login` writes it.",
        ) from None
    is_known = kind in _GOOGLE_TYPES
    return CredentialSource.LIBRARY if is_known else CredentialSource.GOOGLE_FILE


def no_google_auth() -> UsageError:
    """The error where a file of Google credentials is to be used, and nobody can read it."""
    return UsageError(
        "these credentials of Google (a federated login, such as that of GitHub Actions) need google-auth",
        hint="Install it: pip install 'google-auth>=2.40'. It is the extra `gcs` of adapty-reconciler.",
    )


def azure_source(environ: Mapping[str, str], home: Path) -> CredentialSource:
    """Who finds the credentials of Azure. A login of the command line counts where no variable is set."""
    if any(environ.get(name) for name in _AZURE_SETTINGS):
        return CredentialSource.LIBRARY
    folder = Path(environ.get("AZURE_CONFIG_DIR") or home / ".azure")
    is_login = (folder / "azureProfile.json").is_file()
    return CredentialSource.AZURE_LOGIN if is_login else CredentialSource.LIBRARY


def user_home(environ: Mapping[str, str]) -> Path:
    """The home of the user, where the tools of the clouds keep their logins."""
    try:
        return Path(environ.get("HOME") or Path.home())
    except RuntimeError:
        raise ReconcileError(
            "the home of the user is not known, so no credentials can be looked up",
            hint="Set HOME, or the variables of the cloud (docs/teams.md).",
        ) from None
