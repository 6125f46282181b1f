"""The sandbox: profiles for tests, made as they are declared, handed out, and taken back afterwards.

The pytest plugin uses it; any other test runner can as well. It works on an emulator of its own, where
waiting takes no time, or on a configured environment, with the state and the rate of that. It refuses
an environment with ``confirm: true``.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Self, TypeVar

from reconciler.config.reader import find_config, load_config, plain_config
from reconciler.config.settings import Config, Environment
from reconciler.config.trust_file import read_trust
from reconciler.core.access import Access
from reconciler.core.facets.access_levels import ACCESS_LEVELS
from reconciler.core.lifetimes import seconds_of
from reconciler.core.options import Rate
from reconciler.core.outcomes import Failure, Result
from reconciler.core.plan import Plan
from reconciler.core.profiles import Profile
from reconciler.core.records import Record
from reconciler.core.transitions import Observed
from reconciler.emulator.api import Emulator
from reconciler.emulator.server import EmulatorServer
from reconciler.errors import Refused, Source, UsageError
from reconciler.reports.masking import Mask
from reconciler.reports.plan_text import plan_text
from reconciler.reports.view import PlanView
from reconciler.state.memory import MemoryStore
from reconciler.state.store import Locked
from reconciler.testing.claims import claimed
from reconciler.testing.clock import InstantClock
from reconciler.testing.documents import document_of, in_full, overridden
from reconciler.testing.handles import (
    NotMade,
    PriorState,
    ProfileHandle,
    Teardown,
)
from reconciler.testing.restoration import (
    decided_fields,
    former_profile,
    noted,
    unmanaged_before,
    with_own,
)
from reconciler.workspace.facade import Workspace

_KEY = "RECONCILE_EMULATOR_KEY"
"""The variable that holds the key of the emulator."""
T = TypeVar("T")


@dataclass
class Sandbox:
    """One environment, for tests. A context manager: at its end it takes back every profile."""

    workspace: Workspace
    server: EmulatorServer | None = None
    """The emulator of the sandbox, unless it works on a configured environment."""
    ttl: str = "1h"
    """The lifetime of profiles that declare none, in case the run is killed."""
    url: str = ""
    """The base address of the API, once the sandbox is entered."""
    patience: float = 30.0
    """Seconds to wait for a profile, or for the state, that another process is using."""
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
        """A sandbox on an emulator of its own that is empty at first, with a state in memory.

        The configuration is the nearest one from ``start`` upwards, if there is one. It gives the folder
        of the profile files, the access levels of the app, and the dialect and the variables of the default
        environment. To move the emulator's clock moves the clock of this program too.

        Raises InputError for an invalid configuration.
        """
        path = config or find_config(start, os.environ)
        loaded = _loaded(path, start) if path else plain_config(start)
        environment = loaded.environment(None)._replace(
            url="",
            key_env=_KEY,
            rate=Rate(None),
            quiet_period=0.0,
            proxy=None,
            ca_bundle=None,
            confirm=False,
        )
        server = EmulatorServer(
            Emulator(dialect=environment.dialect.value, access_levels=loaded.access_levels)
        ).start()
        environment = environment._replace(url=server.url)
        store = MemoryStore(environment=environment.name)
        workspace = _workspace(
            loaded,
            environment,
            run=run,
            worker=worker,
            store=store,
            key="emulator",
            clock=InstantClock(),
            now=server.emulator.time,
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
        """A sandbox on a configured environment, with its state, its key and its rate.

        Raises InputError for an invalid or missing configuration, UsageError for an unknown
        environment, Refused for one with ``confirm: true``.
        """
        loaded = _loaded(config, start)
        environment = loaded.environment(env)
        if environment.confirm:
            raise Refused(
                f"environment {env} has `confirm: true`; tests never touch it",
                hint="Give tests an environment of their own.",
            )
        return cls(_workspace(loaded, environment, run=run, worker=worker), ttl=ttl)

    def __post_init__(self) -> None:
        try:
            seconds_of(self.ttl)
        except ValueError as problem:
            raise UsageError(str(problem), hint="Write it like 1h or 2d.") from None

    def __enter__(self) -> Self:
        self._open.callback(self.workspace.close)
        self.url = self._open.enter_context(self.workspace.connection())
        return self

    def __exit__(self, *error: object) -> None:
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
            profiles = {profile.address: profile for profile in self.workspace.desired()}
            files = Counter(profile.source.file for profile in profiles.values())
            for profile in [*profiles.values()]:
                if files[profile.source.file] == 1:
                    profiles.setdefault(PurePath(profile.source.file).stem, profile)
            self._declared = profiles
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

        ``wanted`` is the name of a declared profile, or a mapping like a document; ``overrides`` are
        fields that replace those of it. Until the profile is taken back, no other sandbox on this machine
        gets it. A second call for it resets the profile, and gives the same handle.

        Raises InputError for an invalid profile, NotMade where it could not be made.
        """
        profile = self._profile(wanted, overrides or {}, source=source or Source("<test>"))
        handle = self._out.get(profile.address)
        if handle is not None:
            handle.profile = profile
            handle.reset()
            return handle
        with ExitStack() as claim:
            claim.enter_context(self._claimed(profile.address))
            prior = self._before(profile)
            prior = with_own(prior, profile, observe=lambda: self.workspace.observe(profile))
            handle = ProfileHandle(profile, self.url, teardown=teardown, owner=self, prior=prior)
            self._make(handle)
            self._out[profile.address] = handle
            self._claims[profile.address] = claim.pop_all()
        return handle

    def _profile(
        self,
        wanted: str | Mapping[str, Any] | Profile,
        overrides: Mapping[str, Any],
        *,
        source: Source,
    ) -> Profile:
        profile = self.declared(wanted) if isinstance(wanted, str) else wanted
        if overrides or isinstance(profile, Mapping):
            value = profile if isinstance(profile, Mapping) else document_of(profile)
            value = overridden(in_full(value), in_full(overrides))
            profile = self.workspace.profile_of(value, source)
        return profile._replace(lifetime=profile.lifetime or self.ttl)

    def reset(self, handle: ProfileHandle) -> None:
        """Sends every declared value of a profile again. Fields whose facet decides are read first.

        Raises NotMade where that fails.
        """
        profile = handle.profile
        prior = noted(handle.prior, profile, record=self._read(profile))
        handle.prior = with_own(prior, profile, observe=lambda: self.workspace.observe(profile))
        self._make(handle)

    def _make(self, handle: ProfileHandle) -> None:
        handle.plan = self._reach(handle.profile)
        record = self.workspace.store.record(handle.address)
        handle.profile_id = (record.profile_id if record else None) or ""

    def observe(self, handle: ProfileHandle) -> Observed | None:
        """The profile as the API returns it now; ``None`` if the API knows none."""
        return self.workspace.observe(handle.profile)

    def access_levels(self, handle: ProfileHandle) -> Mapping[str, str]:
        """The access that a profile has at present, by access level: ``lifetime``, or ``until`` an instant.
        On an emulator of its own the sandbox sends no request for it.

        Raises ReconcileError where the profile cannot be read.
        """
        if self.server is not None:
            active = self.server.emulator.active_levels(handle.profile_id)
            return {
                level: Access(end=None if end is None else int(end)).text
                for level, end in active.items()
            }
        observed = self.observe(handle)
        return {} if observed is None else ACCESS_LEVELS.active(observed.values, now=self._now())

    def is_out(self, address: str) -> bool:
        """Whether a profile was handed out and not taken back yet."""
        return address in self._out

    def take_back(self, handle: ProfileHandle) -> None:
        """Does with a profile what its teardown says; does nothing if it was taken back before.

        Raises NotMade where that fails.
        """
        if self._out.pop(handle.address, None) is None:
            return
        with self._claims.pop(handle.address):
            if handle.teardown is Teardown.KEEP:
                return
            if self.server is not None:
                self.server.faults.clear()
            if handle.teardown is Teardown.DELETE or not handle.prior.existed:
                self._remove(handle)
            else:
                self._bring_back(handle)

    def clean(self) -> None:
        """Removes from the emulator every fault, and every profile that is not handed out; sets its clock
        right."""
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
        return plan_text(PlanView.of(Mask(None).plan(plan)), color=False)

    # --- steps -------------------------------------------------------------------------------

    def _now(self) -> float:
        return time.time() if self.server is None else self.server.emulator.time()

    def _read(self, profile: Profile) -> Record | None:
        """The record of a profile. It is read at the API first where a facet decides by what is there."""
        record = self.workspace.store.record(profile.address)
        if record is None or not record.exists or not decided_fields(profile, record):
            return record
        self._patiently(
            lambda: self.workspace.refresh(select=[f"id:{profile.address}"], complete=True)
        )
        return self.workspace.store.record(profile.address)

    def _before(self, profile: Profile) -> PriorState:
        record = self._read(profile)
        if record is not None and record.exists:
            return noted(PriorState(record), profile, record=record)
        if self.server is not None:  # nobody else makes profiles in it
            known = {each["customer_user_id"] for each in self.server.emulator.profiles()}
            if profile.customer_user_id is not None and profile.customer_user_id not in known:
                return PriorState()
        observed = self.workspace.observe(profile)
        if observed is None:
            return PriorState(record)
        shown = observed.values
        paths = decided_fields(profile, record)
        return PriorState(record, shown, {path: shown.get(path) for path in paths})

    def _reach(self, profile: Profile, *, reassert: bool = True) -> Plan:
        """Plans and applies until the profile is as it is declared. If the app deleted the profile, the
        first attempt finds that out, and the second one creates it."""
        for attempt in (1, 2):
            plan = self.workspace.plan_profile(profile, reassert=reassert)
            problem = self._apply(plan, profile)
            if problem is None:
                return plan
            if problem.failure is not Failure.MISSING or attempt == 2:
                raise self._not_made(f"{profile.address} could not be made: {problem.reason}", plan)
        raise AssertionError

    def _remove(self, handle: ProfileHandle) -> None:
        plan = self.workspace.plan_removal([handle.address], "its test is over")
        problem = self._apply(plan, None)
        if problem is not None and problem.failure is Failure.STALE:  # its creation ended unknown
            plan = self.workspace.plan_removal([handle.address], "its test is over")
            problem = self._apply(plan, None)
        if problem is not None or plan.hazards:
            reason = problem.reason if problem else "it is protected"
            raise self._not_made(f"{handle.address} could not be deleted: {reason}", plan)

    def _bring_back(self, handle: ProfileHandle) -> None:
        prior, profile = handle.prior, handle.profile
        before = prior.record
        record = (
            self._read(profile) if prior.decided else self.workspace.store.record(profile.address)
        )
        former = former_profile(
            profile, prior, record=record, contract=self.workspace.contract, now=self._now()
        )
        self._reach(former)
        if before is None:
            if self.workspace.store.record(profile.address) is not None:
                self._patiently(lambda: self.workspace.forget([profile.address], backup=False))
        elif unmanaged := unmanaged_before(prior):
            # Nobody managed them: a later plan must not end what is there.
            self._reach(
                former._replace(
                    values={
                        path: value
                        for path, value in former.values.items()
                        if path not in unmanaged
                    },
                    forget=former.forget | unmanaged,
                ),
                reassert=False,
            )

    def _apply(self, plan: Plan, profile: Profile | None) -> Result | None:
        """The result that is not a success, if there is one."""
        results: list[Result] = []
        self._patiently(
            lambda: self.workspace.apply(
                plan,
                profiles=[profile] if profile else [],
                on_result=results.append,
                on_backup=None,  # each test would push an older one out
            )
        )
        return next((result for result in results if result.failure is not None), None)

    def _not_made(self, message: str, plan: Plan) -> NotMade:
        return NotMade(f"{message}\n\n{self.text_of(plan)}")

    def _patiently(self, task: Callable[[], T]) -> T:
        """Runs a task that takes the lock of the state; waits while another process holds it."""
        until = time.monotonic() + self.patience
        while True:
            try:
                return task()
            except Locked:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _claimed(self, address: str) -> AbstractContextManager[None]:
        """The claim of a profile. On an emulator of its own the sandbox needs none."""
        if self.server is not None:
            return nullcontext()
        return claimed(address, self.workspace.environment, patience=self.patience)


def _loaded(path: Path | None, start: Path) -> Config:
    return load_config(
        path, start=start, trust=read_trust(os.environ), environ=os.environ, cache=False
    )


def _workspace(
    config: Config,
    environment: Environment,
    *,
    run: str,
    worker: str,
    key: str | None = None,
    **options: Any,
) -> Workspace:
    environ = dict(os.environ) if key is None else {**os.environ, _KEY: key}
    return Workspace(
        config, environment, environ=environ, cache=False, run=run, worker=worker, **options
    )
