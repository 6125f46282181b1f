"""Profiles for tests: made as they are declared, handed out, and taken back afterwards.

`Sandbox` is what the pytest plugin is made of, for use with anything else. It works on an emulator of
its own, where waiting takes no time, or on a configured environment, with the state and the rate of
that; never on one with ``confirm: true``.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePath
from types import MappingProxyType, TracebackType
from typing import IO, Any, Self, TypeVar

from reconciler.authoring.placeholders import escaped
from reconciler.config.reader import find_config, load_config, plain_config
from reconciler.config.settings import Config, Environment
from reconciler.core.contract import ATTRIBUTES, DEVICE_ID, Clear
from reconciler.core.lifetimes import is_time, seconds_of
from reconciler.core.options import Rate
from reconciler.core.outcomes import Failure, Result
from reconciler.core.plan import Plan
from reconciler.core.profiles import Profile
from reconciler.core.records import Known, Record
from reconciler.core.requests import headers
from reconciler.core.transitions import Observed
from reconciler.emulator.api import Emulator
from reconciler.emulator.server import EmulatorServer
from reconciler.errors import ReconcileError, Refused, Source, UsageError
from reconciler.reports.masking import Mask
from reconciler.reports.plan_text import plan_text
from reconciler.reports.view import PlanView
from reconciler.state.memory import MemoryStore
from reconciler.state.store import Locked
from reconciler.values import FieldPath, Scalar
from reconciler.workspace.facade import Workspace

PATIENCE = 30.0
"""Seconds to wait for a profile, or for the state, that another process is using."""
_KEY = "RECONCILE_EMULATOR_KEY"
_ATTRIBUTE = f"{ATTRIBUTES}."
T = TypeVar("T")


class InstantClock:
    """A clock by which waiting takes no time: whoever waits finds himself later. Each thread has its
    own, so that nobody's deadline passes while another one waits."""

    def __init__(self) -> None:
        self._skipped = threading.local()

    def now(self) -> float:
        return time.monotonic() + float(getattr(self._skipped, "seconds", 0.0))

    def sleep(self, seconds: float) -> None:
        self._skipped.seconds = getattr(self._skipped, "seconds", 0.0) + seconds


class Teardown(StrEnum):
    """What becomes of a profile when its test is over."""

    RESTORE = "restore"
    """It is as before: deleted if it was not there, else given back the values that were known of it."""
    DELETE = "delete"
    KEEP = "keep"


class NotMade(ReconcileError):
    """A profile could not be made as it is declared, or not be taken back. The message holds the plan."""


@dataclass(eq=False)
class ProfileHandle:
    """A profile that exists as it is declared, for as long as its test runs."""

    profile: Profile
    """What is declared: identifiers, normalised values by field path, labels."""
    url: str
    """The base address of the API that it is at, without a final slash."""
    teardown: Teardown
    _sandbox: Sandbox
    _prior: _Prior
    profile_id: str = ""
    """The id that the API gave it."""
    plan: Plan | None = None
    """What was applied last to make it so."""

    @property
    def address(self) -> str:
        return self.profile.address

    @property
    def customer_user_id(self) -> str | None:
        return self.profile.customer_user_id

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by which the API knows the profile. ``Authorization`` is not among them; the
        emulator takes ``Api-Key`` and anything."""
        customer = self.customer_user_id
        return headers(customer, None if customer else self.profile_id, self.profile.platform)

    @property
    def values(self) -> Mapping[FieldPath, Scalar | None]:
        """The declared values by field path, as the API is to hold them; ``None``: absent."""
        return MappingProxyType(dict(self.profile.values))

    @property
    def custom_attributes(self) -> Mapping[str, Scalar]:
        """The declared custom attributes, as the API answers them: numbers and booleans as floats."""
        return {
            path.removeprefix(_ATTRIBUTE): value
            for path, value in self.profile.values.items()
            if path.startswith(_ATTRIBUTE) and value is not None
        }

    @property
    def plan_text(self) -> str:
        """What was applied last, as a person reads it."""
        return self._sandbox.text_of(self.plan) if self.plan is not None else ""

    def refresh(self) -> Observed | None:
        """What the API tells of the profile now: identifiers and custom attributes; ``None`` if it is
        gone. Every other field is write-only."""
        return self._sandbox.observe(self)

    def reset(self) -> None:
        """Sends every declared value again, whatever the app did meanwhile: one request, and another
        one where an exclusive profile was given attributes."""
        self._sandbox.reset(self)

    def __repr__(self) -> str:
        return f"<ProfileHandle {self.address!r}>"


@dataclass(frozen=True)
class _Prior:
    """What was known of a profile before a test had it."""

    record: Record | None = None
    attributes: Mapping[str, Scalar] | None = None
    """Of a profile that existed and was not recorded."""

    @property
    def existed(self) -> bool:
        return self.attributes is not None or (self.record is not None and self.record.exists)


@dataclass
class Sandbox:
    """One environment, for tests. A context manager: leaving it takes back what is still out."""

    workspace: Workspace
    server: EmulatorServer | None = None
    """The emulator of its own, if that is what it works on."""
    ttl: str = "1h"
    """How long what it creates may live if its run is killed, where it does not say so itself."""
    url: str = ""
    _out: dict[str, ProfileHandle] = field(default_factory=dict)
    _claims: dict[str, ExitStack] = field(default_factory=dict)
    _declared: dict[str, Profile] | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def emulated(
        cls,
        start: Path,
        *,
        config: Path | None = None,
        run: str = "test",
        worker: str = "main",
        ttl: str = "1h",
    ) -> Self:
        """On an emulator of its own that is empty at first, with a state in memory. The configuration
        is the nearest one from ``start`` upwards, if there is one: it says where profiles are, and
        lends the default environment's dialect and variables.

        Raises InputError for an invalid configuration.
        """
        path = config or find_config(start)
        loaded = load_config(path, start=start) if path else plain_config(start)
        environment = loaded.environment(None)._replace(
            url="",
            key_env=_KEY,
            rate=Rate(None),
            quiet_period=0.0,
            proxy=None,
            ca_bundle=None,
            confirm=False,
        )
        server = EmulatorServer(Emulator(dialect=environment.dialect.value)).start()
        environment = environment._replace(url=server.url)
        store = MemoryStore(environment=environment.name)
        workspace = _workspace(
            loaded, environment, run, worker, store=store, key="emulator", clock=InstantClock()
        )
        sandbox = cls(workspace, server, ttl)
        sandbox._open.callback(server.emulator.close)
        sandbox._open.callback(server.stop)
        return sandbox

    @classmethod
    def of(
        cls,
        start: Path,
        env: str,
        *,
        config: Path | None = None,
        run: str = "test",
        worker: str = "main",
        ttl: str = "1h",
    ) -> Self:
        """On a configured environment, with its state, its key and its rate.

        Raises InputError for an invalid or missing configuration, UsageError for an unknown
        environment, Refused for one with ``confirm: true``.
        """
        loaded = load_config(config, start=start)
        environment = loaded.environment(env)
        if environment.confirm:
            raise Refused(
                f"environment {env} has `confirm: true`; tests never touch it",
                hint="Give tests an environment of their own.",
            )
        return cls(_workspace(loaded, environment, run, worker), ttl=ttl)

    def __post_init__(self) -> None:
        try:
            seconds_of(self.ttl)
        except ValueError as problem:
            raise UsageError(str(problem), hint="Write it like 1h or 2d.") from None

    def __enter__(self) -> Self:
        self._open.callback(self.workspace.close)
        self.url = self._open.enter_context(self.workspace.connection())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for handle in reversed([*self._out.values()]):
                self.take_back(handle)
        finally:
            self._open.close()

    # --- profiles ----------------------------------------------------------------------------

    def declared(self, name: str) -> Profile:
        """A profile of the files by its address, or by the name of the file that holds only it.

        Raises InputError for invalid files, UsageError for an unknown name.
        """
        if self._declared is None:
            found = {profile.address: profile for profile in self.workspace.desired()}
            files = Counter(profile.source.file for profile in found.values())
            for profile in [*found.values()]:
                if files[profile.source.file] == 1:
                    found.setdefault(PurePath(profile.source.file).stem, profile)
            self._declared = found
        if name not in self._declared:
            raise UsageError(
                f"no profile file declares {name}",
                hint=f"Files are read below {self.workspace.config.profiles}. "
                "Give a customer_user_id, the name of a file with one profile, or a mapping.",
            )
        return self._declared[name]

    def make(
        self,
        wanted: str | Mapping[str, Any] | Profile,
        overrides: Mapping[str, Any] | None = None,
        *,
        teardown: Teardown = Teardown.RESTORE,
        source: Source | None = None,
    ) -> ProfileHandle:
        """Makes a profile exist with exactly its declared values, and hands it out.

        ``wanted`` is the name of a declared profile, or a mapping as a document would have it;
        ``overrides`` are fields that stand over it. Until it is taken back no other sandbox on this
        machine gets it; a second call here gives the same handle, reset.

        Raises InputError for what is not valid, NotMade where it could not be made.
        """
        profile = self._profile(wanted, overrides or {}, source or Source("<test>"))
        known = self._out.get(profile.address)
        if known is not None:
            known.profile = profile
            known.reset()
            return known
        with ExitStack() as claim:
            claim.enter_context(self._claimed(profile.address))
            prior = self._before(profile)
            handle = ProfileHandle(profile, self.url, teardown, self, prior)
            self.reset(handle)
            self._out[profile.address] = handle
            self._claims[profile.address] = claim.pop_all()
        return handle

    def _profile(
        self,
        wanted: str | Mapping[str, Any] | Profile,
        overrides: Mapping[str, Any],
        source: Source,
    ) -> Profile:
        profile = self.declared(wanted) if isinstance(wanted, str) else wanted
        if overrides or isinstance(profile, Mapping):
            value = profile if isinstance(profile, Mapping) else _document_of(profile)
            profile = self.workspace.profile_of(_over(value, overrides), source)
        return profile._replace(lifetime=profile.lifetime or self.ttl)

    def reset(self, handle: ProfileHandle) -> None:
        """Sends every declared value of a profile again.

        Raises NotMade where that fails.
        """
        handle.plan = self._reach(handle.profile)
        record = self.workspace.store.record(handle.address)
        handle.profile_id = (record.profile_id if record else None) or ""

    def observe(self, handle: ProfileHandle) -> Observed | None:
        """What the API tells of a profile now; ``None`` if it knows none."""
        return self.workspace.observe(handle.profile)

    def is_out(self, address: str) -> bool:
        """Whether a profile was handed out and not taken back."""
        return address in self._out

    def take_back(self, handle: ProfileHandle) -> None:
        """Does with a profile what its teardown says; nothing if it was taken back before.

        Raises NotMade where that fails.
        """
        if self._out.pop(handle.address, None) is None:
            return
        with self._claims.pop(handle.address):
            if handle.teardown is Teardown.KEEP:
                return
            if self.server is not None:
                self.server.faults.clear()
            if handle.teardown is Teardown.DELETE or not handle._prior.existed:
                self._remove(handle)
            else:
                self._bring_back(handle)

    def clean(self) -> None:
        """Empties the emulator of all that was not handed out, and sets no fault any more."""
        if self.server is not None:
            self.server.faults.clear()
            self.server.emulator.clear(
                keep={*self._out} | {h.profile_id for h in self._out.values()}
            )

    def text_of(self, plan: Plan) -> str:
        """A plan as a person reads it, masked where the configuration says so."""
        config = self.workspace.config
        if config.mask:
            mask = Mask(self.workspace.contract, config.public_attributes)
            return plan_text(PlanView.of(mask.plan(plan), masked=(mask.kind,)), color=False)
        return plan_text(PlanView.of(plan), color=False)

    # --- what it takes -----------------------------------------------------------------------

    def _before(self, profile: Profile) -> _Prior:
        record = self.workspace.store.record(profile.address)
        if record is not None and record.exists:
            return _Prior(record)
        if self.server is not None:  # nobody else makes profiles there
            known = {each["customer_user_id"] for each in self.server.emulator.profiles()}
            if profile.customer_user_id is not None and profile.customer_user_id not in known:
                return _Prior()
        seen = self.workspace.observe(profile)
        return _Prior(record, None if seen is None else seen.custom_attributes)

    def _reach(self, profile: Profile) -> Plan:
        """Plans and applies until the profile is as it is declared. A profile that the app deleted is
        found missing by the first attempt, and made anew by the second."""
        for attempt in (1, 2):
            plan = self.workspace.plan_profile(profile)
            problem = self._apply(plan, profile)
            if problem is None:
                return plan
            if problem.failure is not Failure.MISSING or attempt == 2:
                raise self._not_made(f"{profile.address} could not be made: {problem.reason}", plan)
        raise AssertionError

    def _remove(self, handle: ProfileHandle) -> None:
        plan = self.workspace.plan_removal([handle.address], "its test is over")
        problem = self._apply(plan, None)
        if problem is not None or plan.hazards:
            reason = problem.reason if problem else "it is protected"
            raise self._not_made(f"{handle.address} could not be deleted: {reason}", plan)

    def _bring_back(self, handle: ProfileHandle) -> None:
        prior, profile = handle._prior, handle.profile
        record = self.workspace.store.record(profile.address)
        known: dict[FieldPath, Scalar | None]
        if prior.attributes is not None:
            # Only these could be seen; of the rest nobody knows what it was.
            known = {_ATTRIBUTE + key: value for key, value in prior.attributes.items()}
            left = {path for path in profile.values if not path.startswith(_ATTRIBUTE)}
        else:
            assert prior.record is not None
            known = {
                path: fact.value
                for path, fact in prior.record.facts.items()
                if fact.known in (Known.VALUE, Known.CLEARED)
            }
            left = set()
        contract = self.workspace.contract
        never = {
            path
            for path in (record.facts if record else ())
            if known.get(path) is None
            and (
                not contract.knows(path)
                or contract.field(path).clear is Clear.NEVER
                or (path in contract.members() and known.get(DEVICE_ID) is None)
            )
        }
        before = prior.record
        self._reach(
            profile._replace(
                values={path: known[path] for path in contract.ordered(known.keys() - never)},
                forget=frozenset(left | never),
                protect=before.protect if before else profile.protect,
                labels=before.labels if before else profile.labels,
                lifetime=before.lifetime if before else None,
                platform=before.platform if before else profile.platform,
                source=(before.source if before else None) or profile.source,
                lines={},
            )
        )
        if before is None and self.workspace.store.record(profile.address) is not None:
            self._patiently(lambda: self.workspace.forget([profile.address], backup=False))

    def _apply(self, plan: Plan, profile: Profile | None) -> Result | None:
        """The result that is not a success, if there is one."""
        results: list[Result] = []
        self._patiently(
            lambda: self.workspace.apply(
                plan, profiles=[profile] if profile else [], on_result=results.append
            )
        )
        return next((result for result in results if result.failure is not None), None)

    def _not_made(self, message: str, plan: Plan) -> NotMade:
        return NotMade(f"{message}\n\n{self.text_of(plan)}")

    def _patiently(self, task: Callable[[], T]) -> T:
        """Does what takes the lock of the state, once whoever has it lets it go."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return task()
            except Locked:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _claimed(self, address: str) -> Iterator[None]:
        """Keeps a profile from other processes on this machine; a killed one claims nothing."""
        if self.server is not None:
            yield
            return
        state = self.workspace.environment.state
        folder = state.with_name(f"{state.name}.claims")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = hashlib.blake2b(address.encode(), digest_size=16).hexdigest()
        with open(folder / name, "ab", opener=_private) as file:
            _wait_for(file, address)
            yield


def _workspace(
    config: Config,
    environment: Environment,
    run: str,
    worker: str,
    *,
    key: str | None = None,
    **options: Any,
) -> Workspace:
    environ = dict(os.environ) if key is None else {**os.environ, _KEY: key}
    return Workspace(
        config, environment, environ=environ, cache=False, run=run, worker=worker, **options
    )


def _wait_for(file: IO[bytes], address: str) -> None:
    try:
        import fcntl
    except ImportError:  # pragma: no cover - where there is none, names must be unique
        return
    until = time.monotonic() + PATIENCE
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > until:
            raise NotMade(
                f"{address} is in use by another test process",
                hint="Give each its own: put {run}-{worker} into customer_user_id.",
            )
        time.sleep(0.01)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _document_of(profile: Profile) -> dict[str, Any]:
    """A profile as the document that would declare it."""
    value: dict[str, Any] = {
        name: content
        for name, content in (
            ("customer_user_id", profile.customer_user_id),
            ("profile_id", profile.profile_id),
            ("platform", profile.platform),
        )
        if content is not None
    }
    for path, content in profile.values.items():
        if isinstance(content, str):
            content = escaped(content)
        group, dot, name = path.partition(".")
        if dot:
            value.setdefault(group, {})[name] = content
        else:
            value[group] = content
    meta: dict[str, Any] = {
        "labels": [*profile.labels],
        "forget": sorted(profile.forget),
        "exclusive": [ATTRIBUTES] if profile.exclusive else [],
    }
    value["meta"] = {name: content for name, content in meta.items() if content}
    if profile.protect:
        value["meta"]["protect"] = True
    if profile.lifetime is not None:
        kind = "expires" if is_time(profile.lifetime) else "ttl"
        value["meta"][kind] = profile.lifetime
    return value


def _over(value: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides over a document: maps are joined, anything else replaces what was there."""
    out = dict(value)
    for name, content in overrides.items():
        below = out.get(name)
        joined = isinstance(content, Mapping) and isinstance(below, Mapping)
        out[name] = {**below, **content} if joined and below else content
    return out
