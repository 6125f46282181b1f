"""Credentials are found as the tools of each cloud find them; nothing in a checkout leads to them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

from reconciler.errors import UsageError
from reconciler.state.objects.bucket import BucketPlace, open_bucket
from reconciler.state.objects.credentials import (
    CredentialSource,
    aws_source,
    azure_source,
    google_source,
    no_boto3,
)
from tests.support.object_server import ACCOUNT, BUCKET, ObjectServer, shared_server

LIBRARY = CredentialSource.LIBRARY
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
PROFILE = "[default]\nregion = eu-west-1\naws_access_key_id = key\naws_secret_access_key = secret\n"
SSO = "[profile other]\nsso_session = x\n[default]\nsso_session = team\n"
AUDIENCE = "//iam.googleapis.com/locations/global/workforcePools/p/providers/q"
FEDERATED = {"type": "external_account", "audience": AUDIENCE}


@pytest.mark.parametrize(
    ("variables", "config", "source"),
    [
        ({}, "", LIBRARY),  # an instance role
        (KEYS, PROFILE, LIBRARY),
        (KEYS | {"AWS_PROFILE": "team"}, PROFILE, LIBRARY),  # as the AWS command line has it
        ({"AWS_PROFILE": "team"}, "", CredentialSource.AWS_PROFILE),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": "arn"}, PROFILE, LIBRARY),
        ({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2"}, PROFILE, LIBRARY),
        ({}, PROFILE, CredentialSource.AWS_PROFILE),
        ({}, SSO, CredentialSource.AWS_PROFILE),
        ({}, "[default]\nregion = eu-west-1\n", LIBRARY),
        ({}, "[profile other]\nsso_session = x\n", LIBRARY),
        ({}, "not a file of settings", LIBRARY),
    ],
)
def test_credentials_of_aws(
    tmp_path: Path, variables: Mapping[str, str], config: str, source: CredentialSource
) -> None:
    if config:
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws/config").write_text(config)
    assert aws_source(variables, tmp_path) is source


@pytest.mark.parametrize(
    ("content", "source"),
    [
        ({"type": "service_account"}, LIBRARY),
        ({"type": "authorized_user"}, LIBRARY),
        (FEDERATED, CredentialSource.GOOGLE_FILE),
        ({"type": "impersonated_service_account"}, CredentialSource.GOOGLE_FILE),
    ],
)
def test_credentials_of_google(
    tmp_path: Path, content: Mapping[str, str], source: CredentialSource
) -> None:
    usual = tmp_path / ".config/gcloud/application_default_credentials.json"
    assert google_source({}, tmp_path) is LIBRARY  # the metadata service
    usual.parent.mkdir(parents=True)
    usual.write_text(json.dumps(content))
    assert google_source({}, tmp_path) is source
    named = {"GOOGLE_APPLICATION_CREDENTIALS": str(usual)}
    assert google_source(named, Path("/nowhere")) is source
    assert google_source(named | {"GOOGLE_SERVICE_ACCOUNT_KEY": "{}"}, tmp_path) is LIBRARY


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"type": "service_account"'])
def test_an_unreadable_file_of_google_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "key.json").write_text(content)
    for name in ("key.json", "missing.json"):
        with pytest.raises(UsageError) as caught:
            google_source({"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / name)}, tmp_path)
        assert "GOOGLE_APPLICATION_CREDENTIALS" in caught.value.hint


@pytest.mark.parametrize(
    ("variables", "source"),
    [
        ({}, CredentialSource.AZURE_LOGIN),
        ({"AZURE_STORAGE_ENDPOINT": "https://x"}, CredentialSource.AZURE_LOGIN),
        ({"AZURE_EXTENSION_DIR": "/opt/az/azcliextensions"}, CredentialSource.AZURE_LOGIN),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "x"}, LIBRARY),
        ({"AZURE_CLIENT_ID": "x", "AZURE_FEDERATED_TOKEN_FILE": "/t"}, LIBRARY),
        ({"IDENTITY_ENDPOINT": "http://169.254.169.254"}, LIBRARY),
    ],
)
def test_credentials_of_azure(
    tmp_path: Path, variables: Mapping[str, str], source: CredentialSource
) -> None:
    assert azure_source(variables, tmp_path) is LIBRARY  # a managed identity
    (tmp_path / ".azure").mkdir()
    (tmp_path / ".azure/azureProfile.json").write_text("{}")
    assert azure_source(variables, tmp_path) is source


def test_without_boto3_the_command_for_the_profile_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setenv("AWS_PROFILE", "the team")
    with pytest.raises(UsageError) as caught:
        open_bucket(BucketPlace("s3", "b", "p"), environ=os.environ).get("head")
    line = "eval \"$(aws configure export-credentials --profile 'the team' --format env)\""
    assert line in caught.value.hint
    assert "export-credentials --format env" in no_boto3({}).hint


def test_a_profile_is_read_by_boto3_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, server: ObjectServer
) -> None:
    """The library's own provider, over a boto3 that a test can ask."""

    class Session:
        region_name = "eu-west-1"

        def get_credentials(self) -> Session:
            return self

        def get_frozen_credentials(self) -> Session:
            return self

        access_key, secret_key, token = "of-a-profile", "secret", None

    for name, attributes in {
        "boto3": {"Session": Session},
        "boto3.session": {"Session": Session},
        "botocore": {},
        "botocore.credentials": {"Credentials": Session},
    }.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["boto3"].session = sys.modules["boto3.session"]  # type: ignore[attr-defined]
    sys.modules["botocore"].credentials = sys.modules["botocore.credentials"]  # type: ignore[attr-defined]
    monkeypatch.delitem(sys.modules, "obstore.auth.boto3", raising=False)
    monkeypatch.setenv("AWS_PROFILE", "team")
    place = BucketPlace("s3", "bucket1", "profile", endpoint=server.endpoint)
    bucket = open_bucket(place, environ=os.environ)
    bucket.put("head", b"x")
    assert bucket.get("head") is not None
    assert "Credential=of-a-profile" in server.cloud.last_authorization
    monkeypatch.delitem(sys.modules, "obstore.auth.boto3", raising=False)


def test_a_federated_login_of_google_is_exchanged_by_google_auth(
    monkeypatch: pytest.MonkeyPatch, server: ObjectServer, tmp_path: Path
) -> None:
    """What GitHub's OIDC login leaves: a file of the type ``external_account`` and a token beside it."""
    token = tmp_path / "token"
    token.write_text("of-github")
    content = FEDERATED | {
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{server.endpoint}/__token",
        "credential_source": {"file": str(token)},
    }
    (tmp_path / "credentials.json").write_text(json.dumps(content))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "credentials.json"))
    monkeypatch.setenv("GOOGLE_BASE_URL", server.endpoint)
    bucket = open_bucket(BucketPlace("gs", "bucket1", "federated"), environ=os.environ)
    bucket.put("head", b"x")
    assert bucket.get("head") is not None
    assert server.cloud.last_authorization == "Bearer token-for-of-github"


def test_without_google_auth_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps(FEDERATED))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "credentials.json"))
    monkeypatch.setitem(sys.modules, "reconciler.state.objects.google_tokens", None)
    with pytest.raises(UsageError) as caught:
        open_bucket(BucketPlace("gs", "bucket1", "p"), environ=os.environ).get("head")
    assert "the extra `gcs`" in caught.value.hint


def test_credentials_come_from_the_environment_that_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = shared_server()
    for kind in ("s3", "gs", "az"):
        variables = server.variables(kind)
        for name in variables:
            monkeypatch.delenv(name, raising=False)
        place = BucketPlace(kind, BUCKET, "given", account=ACCOUNT if kind == "az" else "")
        bucket = open_bucket(place, environ={"HOME": "/nowhere", **variables})
        assert bucket.get("missing") is None
