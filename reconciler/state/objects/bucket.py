"""A bucket of S3 (and of what speaks it), of Google Cloud Storage, or of Azure Blob.

The library's own retries are off: it would try ten times in three minutes, and a lease is over by then. It
also cannot know that "already exists" may be the answer to our own write, whose first answer was lost. So
every answer but success is settled here, by reading what is there (state-backends 3.3).

Store objects of the library hold the secrets of their credentials, and give them to everybody who prints
their configuration or pickles them. None leaves this module.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from reconciler.errors import ReconcileError, StateRefused, UsageError
from reconciler.state.objects import credentials
from reconciler.state.objects.credentials import CredentialSource
from reconciler.state.objects.protocol import Blob, Created
from reconciler.state.store import CommitUnknown, StateUnreachable
from reconciler.values import shown

DEADLINE = 20.0
"""Seconds that one operation takes at most before it is given up, but for its last request. A third of a
lease: a writer that waits longer could have been overtaken."""
_REQUEST = "10s"
"""The most that a request of a few megabytes takes."""
_LARGE_REQUEST = "300s"
"""The most that a snapshot takes on its way. Reading one fails earlier if nothing comes for `_REQUEST`."""
_CONNECT = "3s"
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0
"""Seconds between two tries, doubled from one to the next."""
_AT_ONCE = 16
"""Objects that are read at the same time."""
_IN_ONE_DELETE = 200
_MISMATCHES = 4
"""Refusals in a row to replace what did not change, after which we no longer believe in chance."""

_CONFLICTS = (exceptions.AlreadyExistsError, exceptions.PreconditionError)
_FAILURES = (exceptions.BaseError, FileNotFoundError)
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_OUR_WORDS = {
    "AuthorizationHeaderMalformed": "the bucket is in another region (state.region, AWS_REGION)",
    "ContainerNotFound": "there is no such container",
    "ExpiredToken": "the credentials have expired",
    "InvalidAccessKeyId": "it does not know the access key",
    "NoSuchBucket": "there is no such bucket",
    "PermanentRedirect": "the bucket is in another region (state.region, AWS_REGION)",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "SignatureDoesNotMatch": "the secret key is wrong",
}
"""Error codes of the services that no further try helps against, and what they mean. The rest of an answer
is not looked at, let alone shown."""

Client: TypeAlias = "S3Store | GCSStore | AzureStore"


class BucketPlace(NamedTuple):
    """Where a state is. Holds no secret."""

    kind: str
    """``s3``, ``gs`` or ``az``."""
    bucket: str
    """Of Azure, the container."""
    prefix: str
    account: str = ""
    """Of Azure."""
    region: str | None = None
    endpoint: str | None = None
    """Address of a server that speaks S3; ``None`` for AWS, or for what a variable names."""

    def __str__(self) -> str:
        parts = (self.account, self.bucket, self.prefix)
        return f"{self.kind}://{'/'.join(part for part in parts if part)}"


class Timing(NamedTuple):
    """How long a bucket tries, in seconds, and by which clock."""

    deadline: float = DEADLINE
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


_TIMING = Timing()


class ObjectBucket:
    """See `reconciler.state.objects.protocol.Bucket`. ``connect`` gives a client of the library with the
    given timeouts; ``is_tried`` says that the server has to show that it keeps to conditions."""

    def __init__(
        self,
        place: BucketPlace,
        connect: Callable[[Any], Client],
        *,
        is_tried: bool,
        timing: Timing = _TIMING,
    ) -> None:
        self._place = place
        self._connect = connect
        self._is_tried = is_tried
        self._timing = timing
        self._lock = threading.Lock()
        self._clients: dict[str, Client] = {}
        self._threads: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"ObjectBucket({str(self._place)!r})"

    def __reduce__(self) -> str:
        raise TypeError("a bucket holds credentials, which are not passed on")

    def close(self) -> None:
        """Ends the threads."""
        with self._lock:
            threads, self._threads = self._threads, None
            self._clients.clear()
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def _client(self, purpose: str) -> Client:
        """The client for ``reading``, ``writing`` or ``large`` writes, each with its timeouts."""
        with self._lock:
            client = self._clients.get(purpose)
            if client is None:
                timeouts: dict[str, str] = {"connect_timeout": _CONNECT, "timeout": _REQUEST}
                if purpose != "writing":
                    timeouts["timeout"] = _LARGE_REQUEST
                if purpose == "reading":
                    timeouts["read_timeout"] = _REQUEST
                client = self._clients[purpose] = self._connect(timeouts)
            return client

    def _tries(self) -> Iterator[None]:
        """Gives way to one try after another, until the deadline; at least once."""
        end, wait = self._timing.monotonic() + self._timing.deadline, _FIRST_WAIT
        while True:
            yield
            if self._timing.monotonic() + wait > end:
                return
            self._timing.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    # --- reading -----------------------------------------------------------------------------

    def get(self, name: str) -> Blob | None:
        for _ in self._tries():
            try:
                return self._read(name, purpose="reading")
            except exceptions.BaseError as problem:
                self._raise_refusal(problem)
        raise self._silent()

    def _read(self, name: str, *, purpose: str) -> Blob | None:
        """One try. ``None`` only for an object that the store says it has not."""
        try:
            result = obstore.get(self._client(purpose), name)
            data = bytes(result.bytes())
        except FileNotFoundError as problem:
            self._raise_refusal(problem)
            return None
        meta = result.meta
        tag = _tag(meta["e_tag"], meta["version"])
        return Blob(data, tag, meta["last_modified"].timestamp())

    def get_many(self, names: Sequence[str]) -> Sequence[Blob | None]:
        if len(names) < 2:
            return [self.get(name) for name in names]
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="bucket")
            futures = [self._threads.submit(self.get, name) for name in names]
        return [future.result() for future in futures]

    def list(self, prefix: str) -> Sequence[str]:
        for _ in self._tries():
            try:
                pages = obstore.list(self._client("reading"), prefix or None)
                return sorted(meta["path"] for page in pages for meta in page)
            except _FAILURES as problem:
                self._raise_refusal(problem)
        raise self._silent()

    # --- writing -----------------------------------------------------------------------------

    def create(self, name: str, data: bytes) -> Created:
        tag = self._write(name, data, tag=None, is_final=True)
        return Created.CONFLICT if tag is None else Created.DONE

    def replace(self, name: str, data: bytes, *, tag: str | None) -> str | None:
        return self._write(name, data, tag=tag, is_final=False)

    def _write(self, name: str, data: bytes, *, tag: str | None, is_final: bool) -> str | None:
        """Writes under a condition: that ``tag`` is there, or nothing where it is ``None``. Gives the tag of
        what we wrote, or ``None`` where another content is there. ``is_final`` says that nobody replaces
        what stands under this name, so another content there proves that ours never was."""
        is_unclear = False
        mismatches = 0
        for _ in self._tries():
            try:
                return self._put(name, data, tag=tag)
            except _CONFLICTS:
                mismatches += 1
            except _FAILURES as problem:
                refusal = self._refusal(problem, writes=True)
                if refusal is not None:
                    raise (_unknown() if is_unclear else refusal) from None
                is_unclear = True
                mismatches = 0
            try:
                there = self._read(name, purpose="writing")
            except StateUnreachable:
                raise _unknown() from None
            except exceptions.BaseError:
                continue
            if there is not None and there.data == data:
                return there.tag
            if (there.tag if there else None) != tag:
                if is_unclear and not is_final:  # ours may have stood there in between
                    raise _unknown()
                return None
            if tag is not None and mismatches == _MISMATCHES:
                raise _no_conditions("does not replace an object that did not change")
        raise _unknown()

    def _put(self, name: str, data: bytes, *, tag: str | None) -> str:
        """One try; the new tag. Raises one of `_CONFLICTS` where the condition does not hold."""
        mode: Any = "create" if tag is None else _version(tag)
        result = obstore.put(self._client("writing"), name, data, mode=mode, use_multipart=False)
        return _tag(result["e_tag"], result["version"])

    def put(self, name: str, data: bytes) -> None:
        for _ in self._tries():
            try:
                obstore.put(self._client("large"), name, data, use_multipart=False)
                return
            except _FAILURES as problem:
                self._raise_refusal(problem, writes=True)
        raise self._silent()

    def delete(self, names: Iterable[str]) -> None:
        waiting = list(names)
        client = self._client("writing") if waiting else None
        for start in range(0, len(waiting), _IN_ONE_DELETE):
            group = waiting[start : start + _IN_ONE_DELETE]
            assert client is not None
            try:
                obstore.delete(client, group)
            except (
                _FAILURES
            ):  # one of them is gone already, or the server knows no deletion in groups
                _delete_singly(client, group)

    # --- what the store is like --------------------------------------------------------------

    def store_time(self) -> float:
        name = _probe_name()
        self._write(name, _unique(), tag=None, is_final=True)
        try:
            probe = self.get(name)
        finally:
            self.delete([name])
        if probe is None:
            raise self._silent()
        return probe.modified

    def self_test(self) -> None:
        if not self._is_tried:
            return
        name = _probe_name()
        tag = self._write(name, _unique(), tag=None, is_final=True)
        try:
            if tag is None or self._is_written(name, tag=None):
                raise _no_conditions("creates objects that exist already")
            if self._is_written(name, tag=_wrong(tag)):
                raise _no_conditions("replaces objects that have changed")
            if self._write(name, _unique(), tag=tag, is_final=True) is None:
                raise _no_conditions("does not replace an object that did not change")
        finally:
            self.delete([name])

    def _is_written(self, name: str, *, tag: str | None) -> bool:
        """Whether the store lets through a write that it must refuse."""
        for _ in self._tries():
            try:
                self._put(name, _unique(), tag=tag)
                return True
            except _CONFLICTS:
                return False
            except _FAILURES as problem:
                self._raise_refusal(problem, writes=True)
        raise self._silent()

    # --- errors ------------------------------------------------------------------------------

    def _raise_refusal(self, problem: Exception, *, writes: bool = False) -> None:
        """Raises the error that a failure stands for, unless another try may help."""
        refusal = self._refusal(problem, writes=writes)
        if refusal is not None:
            raise refusal from None

    def _refusal(self, problem: Exception, *, writes: bool = False) -> ReconcileError | None:
        """The error where the store will not do it, and has done nothing; ``None`` where another try may
        help, or where an object is missing."""
        match = _CODE.search(str(problem))
        code = match[1] if match else ""
        if isinstance(problem, exceptions.NotSupportedError) or code == "NotImplemented":
            return _no_conditions("does not know writes under a condition")
        words = _OUR_WORDS.get(code)
        if words is None and "incorrectly configured region" in str(problem):
            words = _OUR_WORDS["PermanentRedirect"]
        if words is None and isinstance(problem, exceptions.UnauthenticatedError):
            words = "it does not accept the credentials"
        if words is None and isinstance(problem, exceptions.PermissionDeniedError):
            words = f"these credentials may not {'write' if writes else 'read'} there"
        if words is None and writes and isinstance(problem, FileNotFoundError):
            words = "there is no such bucket"
        return None if words is None else self._unreachable(words)

    def _unreachable(self, words: str) -> StateUnreachable:
        return StateUnreachable(
            f"the state at {shown(str(self._place))} cannot be reached: {words}",
            hint="docs/teams.md lists the credentials that are looked for, and the permissions that they "
            "need. Without the right to list, S3 answers even a missing object with a refusal.",
        )

    def _silent(self) -> StateUnreachable:
        return StateUnreachable(
            f"the state at {shown(str(self._place))} cannot be reached: "
            f"no answer in {self._timing.deadline:.0f} seconds",
            hint="Look at the network, and at the address of the server if one is configured; then run "
            "again.",
        )


def _unknown() -> CommitUnknown:
    return CommitUnknown(
        "whether the last write reached the state is unknown: the object store does not say",
        hint="Run again; it goes on from what the state says then.",
    )


def _no_conditions(does: str) -> StateRefused:
    return StateRefused(
        f"the object store {does}, so it cannot keep a lock",
        hint="Nothing was sent to the API. Use a server that keeps to If-None-Match and If-Match on writes "
        "(docs/teams.md).",
    )


def _tag(e_tag: str | None, version: str | None) -> str:
    if not e_tag and not version:
        raise _no_conditions("names no version of an object")
    return f"{e_tag or ''}\n{version or ''}"


def _version(tag: str) -> dict[str, str]:
    e_tag, _, version = tag.partition("\n")
    return {name: text for name, text in (("e_tag", e_tag), ("version", version)) if text}


def _wrong(tag: str) -> str:
    """The tag of a content that was never there. Google goes by the number of the version, S3 and Azure by
    the e-tag."""
    _, _, version = tag.partition("\n")
    later = str(int(version) + 1) if version.isdigit() else version
    return f'"{"0" * 32}"\n{later}'


def _probe_name() -> str:
    return f"probe/{uuid4().hex}"


def _unique() -> bytes:
    return uuid4().bytes


def _delete_singly(client: Client, names: Sequence[str]) -> None:
    for name in names:
        try:
            obstore.delete(client, name)
        except FileNotFoundError:
            continue
        except exceptions.BaseError:
            return


# --- opening -------------------------------------------------------------------------------------


def open_bucket(
    place: BucketPlace, *, environ: Mapping[str, str] = os.environ, timing: Timing = _TIMING
) -> ObjectBucket:
    """The bucket at a place, with the credentials that its cloud's tools would use. Nothing is looked up
    before the first use.

    Raises UsageError where the bucket would be reached unencrypted over a network; so does the first use
    where the region is not known, or where the credentials need a library that is not installed.
    """
    connecting = _CONNECTING[place.kind]
    endpoint = place.endpoint or connecting.endpoint(environ)
    options = _unencrypted(endpoint, allowed=environ.get(connecting.http_allowed))

    @cache
    def settings() -> _ClientSettings:
        return connecting.settings(place, environ)

    def connect(timeouts: Any) -> Client:
        config, provider = settings()
        return connecting.client(
            place.bucket,
            prefix=place.prefix,
            config=config,
            client_options=options | timeouts,
            retry_config={"max_retries": 0},
            **({"credential_provider": provider} if provider else {}),
        )

    return ObjectBucket(place, connect, is_tried=endpoint is not None, timing=timing)


class _ClientSettings(NamedTuple):
    """What a client is given. Holds secrets where the tools of a cloud hand them over."""

    config: Mapping[str, Any]
    provider: Any = None


class _Connecting(NamedTuple):
    """How one kind of bucket is reached."""

    client: Callable[..., Client]
    settings: Callable[[BucketPlace, Mapping[str, str]], _ClientSettings]
    endpoint: Callable[[Mapping[str, str]], str | None]
    """The address of a server of one's own that a variable names."""
    http_allowed: str
    """The variable that allows plain HTTP to it."""


_AWS_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_AWS_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_AZURE_ENDPOINTS = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")


def _first(environ: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _s3(place: BucketPlace, environ: Mapping[str, str]) -> _ClientSettings:
    config: dict[str, Any] = {"conditional_put": "etag"}
    if place.region:
        config["region"] = place.region
    if place.endpoint:  # the more special variable would win otherwise
        config |= {"endpoint": place.endpoint, "aws_endpoint_url_s3": place.endpoint}
    provider = None
    home = credentials.user_home(environ)
    if credentials.aws_source(environ, home) is CredentialSource.AWS_PROFILE:
        provider = _boto3_provider(environ)
        config = {**provider.config, **config}
    else:
        config = {**_aws_variables(place, environ), **config}
    has_region = "region" in config or place.endpoint or _first(environ, _AWS_ENDPOINTS)
    if not has_region and not _first(environ, _AWS_REGIONS):
        raise UsageError(
            f"the region of the bucket {shown(place.bucket)} is not known",
            hint="Name it in state.region, or in AWS_REGION.",
        )
    return _ClientSettings(config, provider)


def _aws_variables(place: BucketPlace, environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that variables give, but for what the place says."""
    said = {*(_AWS_ENDPOINTS if place.endpoint else ()), *(_AWS_REGIONS if place.region else ())}
    names = (name for name in credentials.AWS_VARIABLES if name not in said)
    return credentials.settings_of(environ, names)


def _boto3_provider(environ: Mapping[str, str]) -> _Patient:
    try:
        module = import_module("obstore.auth.boto3")
    except ImportError:
        raise credentials.no_boto3(environ) from None
    try:
        return _Patient(module.Boto3CredentialProvider())
    except Exception:  # botocore has a hundred ways to say that a profile is wrong
        raise UsageError(
            "boto3 finds no credentials of AWS in the profile",
            hint="Look at AWS_PROFILE and ~/.aws; after `aws sso login` it finds those of SSO.",
        ) from None


def _google(place: BucketPlace, environ: Mapping[str, str]) -> _ClientSettings:
    home = credentials.user_home(environ)
    if credentials.google_source(environ, home) is not CredentialSource.GOOGLE_FILE:
        return _ClientSettings(credentials.settings_of(environ, credentials.GOOGLE_VARIABLES))
    try:
        module = import_module("reconciler.state.objects.google_tokens")
    except ImportError:
        raise credentials.no_google_auth() from None
    return _ClientSettings({}, _Patient(module.GoogleTokens()))


def _google_endpoint(environ: Mapping[str, str]) -> str | None:
    """A service account can name a server, as emulators do."""
    account = environ.get("GOOGLE_SERVICE_ACCOUNT_KEY", "")
    match = re.search(r'"gcs_base_url": *"([^"]*)"', account)
    return match[1] if match else environ.get("GOOGLE_BASE_URL")


def _azure(place: BucketPlace, environ: Mapping[str, str]) -> _ClientSettings:
    variables = credentials.settings_of(environ, credentials.AZURE_VARIABLES)
    config: dict[str, Any] = {**variables, "account_name": place.account}
    home = credentials.user_home(environ)
    if credentials.azure_source(environ, home) is CredentialSource.AZURE_LOGIN:
        config["use_azure_cli"] = True
    return _ClientSettings(config)


_CONNECTING = {
    "s3": _Connecting(
        S3Store, _s3, lambda environ: _first(environ, _AWS_ENDPOINTS), "AWS_ALLOW_HTTP"
    ),
    "gs": _Connecting(GCSStore, _google, _google_endpoint, "GOOGLE_ALLOW_HTTP"),
    "az": _Connecting(
        AzureStore, _azure, lambda environ: _first(environ, _AZURE_ENDPOINTS), "AZURE_ALLOW_HTTP"
    ),
}


def _unencrypted(endpoint: str | None, *, allowed: str | None) -> Any:
    """The option of a client to speak plain HTTP: on this machine, or where a variable allows it."""
    if endpoint is None or not endpoint.lower().startswith("http://"):
        return {}
    with contextlib.suppress(ValueError):
        if urlsplit(endpoint).hostname in ("127.0.0.1", "::1", "localhost"):
            return {"allow_http": True}
    if (allowed or "").lower() in ("1", "true", "yes"):
        return {"allow_http": True}
    raise UsageError(
        "the server of the bucket would be reached over plain HTTP, where everybody on the way reads the "
        "state",
        hint="Give an address that begins with https://. In a network that you trust: AWS_ALLOW_HTTP=true "
        "(for Azure AZURE_ALLOW_HTTP, for Google GOOGLE_ALLOW_HTTP).",
    )


class _Patient:
    """Asks for credentials up to three times: a run takes hours, and one lost answer of a login service is
    not to end it."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self.config = getattr(provider, "config", {})

    def __call__(self) -> Any:
        for wait in (0.5, 1.5):
            try:
                return self._provider()
            except Exception:  # of any library, about anything
                time.sleep(wait)
        return self._provider()
