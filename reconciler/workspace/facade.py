"""The façade: a configuration, its profile files, one environment's state and API.

Library users import `Workspace`. Its methods are short: the parts beside it do the work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from reconciler.authoring.documents import Document
from reconciler.commands import Permissions
from reconciler.config.reader import load_config
from reconciler.config.settings import Config, Environment
from reconciler.config.trust import Trust
from reconciler.config.trust_file import read_trust
from reconciler.core.contract import Contract
from reconciler.core.options import Rate, Selection
from reconciler.core.outcomes import ApplyReport, Drift, Progress, Result
from reconciler.core.plan import LineAuthor, NullAccumulator, Plan
from reconciler.core.profiles import Profile
from reconciler.core.records import Export
from reconciler.core.transitions import Observed
from reconciler.errors import Diagnostic, Message, Source
from reconciler.planning.catalog import DeclaredProfiles
from reconciler.planning.limits import Limits, ProgressEvent
from reconciler.state.store import Store
from reconciler.values import FieldPath
from reconciler.workspace.plans import PlanRequest, Plans, read_scope
from reconciler.workspace.results import Checked, Formatted
from reconciler.workspace.sources import Sources, placeholder_values
from reconciler.workspace.state_admin import StateAdmin

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from reconciler.remote.client import Exchange
    from reconciler.remote.pacing import Clock
    from reconciler.workspace.applies import Applies
    from reconciler.workspace.connection import Connection, HostQuestion
    from reconciler.workspace.refresh import Refresh
    from reconciler.workspace.relocation import Relocation


class Workspace:
    """A configuration and one of its environments. Use it as a context manager, or `close` it.

    - ``environ`` holds the secret key and the variables that profile files may use; by default the
      environment of the process.
    - ``trust`` is what was allowed outside of the checkout; by default what ``environ`` and the user's
      trust.yaml say. ``ask_host`` is asked about a host that was not allowed, before the key is read.
    - ``stop`` is asked before anything new starts. Where it says yes, methods raise Interrupted.
    - ``store`` holds the state; by default that of the environment.
    - ``on_progress`` is given the progress of reading, planning and asking the API, ``on_warning`` what a
      user has to know of the index and the state. ``pool`` makes the executor that reads many files.
    - Without ``cache`` every file is read, and the index is neither read nor written.
    - Calls wait by the ``clock``; ``now`` gives Unix seconds; ``on_exchange`` gets each request and answer.
    - ``run`` and ``worker`` are the values of ``{run}`` and ``{worker}`` in profile files; by default the
      name of the build of GitHub or GitLab, and ``main``. ``limits`` holds the tunables of planning.

    ``plans`` makes plans for programs that count their changes on the way; ``state`` administers the state.

    Raises UsageError for a run or a worker that cannot be part of a name.
    """

    def __init__(
        self,
        config: Config,
        environment: Environment,
        *,
        environ: Mapping[str, str] | None = None,
        trust: Trust | None = None,
        ask_host: Callable[[HostQuestion], bool] = lambda question: False,
        stop: Callable[[], bool] = lambda: False,
        store: Store | None = None,
        on_progress: Callable[[ProgressEvent], None] = lambda event: None,
        on_warning: Callable[[Message], None] = lambda message: None,
        pool: Callable[[], Executor] | None = None,
        cache: bool = True,
        clock: Clock | None = None,
        now: Callable[[], float] = time.time,
        run: str | None = None,
        worker: str | None = None,
        limits: Limits = Limits(),  # noqa: B008
        on_exchange: Callable[[Exchange], None] = lambda exchange: None,
    ) -> None:
        self.config = config
        self.environment = environment
        self._environ = environ = os.environ if environ is None else environ
        self._trust = trust = read_trust(environ) if trust is None else trust
        self._ask_host = ask_host
        self._stop = stop
        self._on_progress = on_progress
        self._on_warning = on_warning
        self._clock = clock
        self._now = now
        self._on_exchange = on_exchange
        self.sources = Sources(
            config,
            environment,
            placeholders=placeholder_values(
                config, environment, environ=environ, trust=trust, run=run, worker=worker
            ),
            use_cache=cache,
            on_progress=on_progress,
            on_warning=on_warning,
            stop=stop,
            pool=pool,
            limits=limits,
        )
        self.state = StateAdmin(
            environment,
            places=config.places,
            environ=environ,
            trust=trust,
            now=now,
            store=store,
            on_warning=on_warning,
            stop=stop,
        )
        self.plans = Plans(
            config,
            environment,
            sources=self.sources,
            state=self.state,
            refresh=lambda: self.reader,
            on_progress=on_progress,
            now=now,
            stop=stop,
            limits=limits,
        )

    @classmethod
    def open(
        cls,
        config: str | Path | None = None,
        env: str | None = None,
        *,
        start: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """The workspace of a ``reconcile.yaml`` (found upwards from ``start``, by default the working
        directory) and an environment (by default the configured one). ``permissions`` are those of the
        options of a command line; they win over ``environ``.

        Raises InputError for an invalid or missing configuration, UsageError for an unknown
        environment, Refused for a configuration of another user that was not named.
        """
        environ = os.environ if (own := options.pop("environ", None)) is None else own
        permissions = options.pop("permissions", Permissions())
        trust = options.pop("trust", None)
        trust = read_trust(environ, **permissions._asdict()) if trust is None else trust
        loaded = load_config(
            Path(config) if config is not None else None,
            start=Path(start) if start is not None else Path.cwd(),
            environ=environ,
            cache=options.get("cache", True),
            trust=trust,
        )
        return cls(loaded, loaded.environment(env), environ=environ, trust=trust, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the state and the index. The workspace can be used again afterwards."""
        self.sources.close()
        self.state.close()

    # A plan of unchanged files needs none of these, and they take longer to import than it takes.

    @cached_property
    def _connection(self) -> Connection:
        from reconciler.workspace.connection import Connection

        return Connection(
            self.environment,
            places=self.config.places,
            access_levels=self.config.access_levels,
            environ=self._environ,
            trust=self._trust,
            ask_host=self._ask_host,
            stop=self._stop,
            clock=self._clock,
            store=lambda: self.store,
            on_exchange=self._on_exchange,
        )

    @cached_property
    def reader(self) -> Refresh:
        from reconciler.workspace.refresh import Refresh

        return Refresh(
            self.environment,
            state=self.state,
            connection=self._connection,
            now=self._now,
            stop=self._stop,
            on_progress=self._on_progress,
            on_warning=self._on_warning,
        )

    @cached_property
    def _applies(self) -> Applies:
        from reconciler.workspace.applies import Applies

        return Applies(
            self.config,
            self.environment,
            sources=self.sources,
            state=self.state,
            connection=self._connection,
            now=self._now,
            stop=self._stop,
        )

    @cached_property
    def relocation(self) -> Relocation:
        """Takes the state elsewhere."""
        from reconciler.workspace.relocation import Relocation

        return Relocation(self.environment, self.config.places, admin=self.state)

    @property
    def contract(self) -> Contract:
        """The API's contract in the dialect of the environment."""
        return self.sources.contract

    @property
    def store(self) -> Store:
        """The state of the environment. Opening it creates nothing."""
        return self.state.store

    @property
    def declared(self) -> DeclaredProfiles | tuple[Profile, ...]:
        """The profiles that the files declared when they were last read, if they were valid."""
        return self.sources.declared

    # --- files -------------------------------------------------------------------------------

    def validate(self, paths: Sequence[str | Path] = ()) -> Checked:
        """Reads and checks the profile files (or only ``paths``): offline, without a key. Findings are
        returned, none is raised."""
        return self.sources.validate(paths)

    def desired(self) -> DeclaredProfiles | tuple[Profile, ...]:
        """The valid profiles of all files. Raises InputError, with every finding, where one is an error."""
        return self.sources.desired()

    def render(
        self,
        paths: Sequence[str | Path] = (),
        *,
        select: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> Iterator[tuple[Profile, Document]]:
        """The documents of all files (or only of ``paths``) with defaults, templates and placeholders
        filled in, in the order of the files; each with the profile that it declares.

        Raises InputError, with every finding, where one is an error.
        """
        return self.sources.render(paths, selection=_selection(select, exclude))

    def format(self, paths: Sequence[str | Path] = (), *, write: bool) -> Formatted:
        """Puts the profile files (or only ``paths``) into canonical form, comments kept. Files that do not
        parse, or would lose something, stay as they are and are reported.

        Raises ReconcileError without ruamel.yaml, or where a file cannot be written.
        """
        return self.sources.format(paths, write=write)

    def profile_of(self, value: Mapping[str, Any], source: Source) -> Profile:
        """The profile that a mapping declares, as a document in a file would.

        Raises InputError, with every finding, where one is an error.
        """
        return self.sources.profile_of(value, source)

    # --- plans -------------------------------------------------------------------------------

    def plan(
        self,
        *,
        refresh: bool | Literal["all", "changed"] = False,
        reassert: bool = False,
        prune: bool = False,
        include_adopted: bool = False,
        select: Iterable[str] = (),
        exclude: Iterable[str] = (),
        since: str | None = None,
        profiles: Sequence[Profile] | None = None,
        out: Path | None = None,
        on_findings: Callable[[Sequence[Diagnostic]], None] = lambda findings: None,
    ) -> Plan:
        """The plan that takes the recorded state to the files; saved to ``out`` on the way.

        Touches neither state nor files, and makes no network call unless ``refresh``, which reads recorded
        profiles (``changed``: those to be written) and records nothing. ``prune`` deletes our orphans, and
        with ``include_adopted`` the others as well. ``since`` is a git revision: only profiles whose
        files changed since then are planned. With ``profiles`` the files are not read; otherwise
        ``on_findings`` is given the warnings about valid files.

        Raises InputError for invalid files and changes that the API cannot make, UsageError for a revision
        that git does not know, ReconcileError where a profile could not be read.
        """
        request = PlanRequest(
            refresh=read_scope(refresh),
            reassert=reassert,
            prune=prune,
            include_adopted=include_adopted,
            selection=_selection(select, exclude),
            since=since,
            profiles=profiles,
            out=out,
            on_findings=on_findings,
        )
        plan, _ = self.plans.make(request, NullAccumulator())
        return plan

    def plan_profile(self, profile: Profile, *, reassert: bool = True) -> Plan:
        """The plan of one profile, whatever the files say. It reads one record of the state.

        Raises InputError for changes that the API cannot make.
        """
        return self.plans.of_profile(profile, reassert=reassert)

    def plan_removal(self, addresses: Iterable[str], reason: str) -> Plan:
        """The plan that deletes recorded profiles by their exact ids. Protected profiles stay."""
        return self.plans.removal(addresses, reason=reason)

    def plan_sweep(self, *, select: Iterable[str] = (), exclude: Iterable[str] = ()) -> Plan:
        """The plan that deletes the expired profiles that this tool created, by the ids that they got.
        Protected profiles stay, and those that turn out to be somebody else's. No file is read.

        Raises ReconcileError where such a profile could not be read.
        """
        return self.plans.sweep(_selection(select, exclude))

    def blame(self, plan: Plan) -> Mapping[tuple[str, FieldPath], LineAuthor]:
        """The author of each line behind a plan, by address and field path (empty for the profile itself).

        Raises ReconcileError where the configuration is in no git repository.
        """
        return self.plans.blame(plan)

    # --- the API -----------------------------------------------------------------------------

    def check(self, plan: Plan, *, max_changes: int | None = None) -> None:
        """Whether a plan may be applied here at all; ``max_changes`` overrides the configured limit.

        Raises Refused for another environment, lineage or application, and above a cap; InputError
        where the key is missing.
        """
        self._applies.check(plan, max_changes=max_changes)

    def apply(
        self,
        plan: Plan,
        *,
        max_changes: int | None = None,
        rate: Rate | None = None,
        parallelism: int | None = None,
        profiles: Iterable[Profile] | None = None,
        on_result: Callable[[Result], None] = lambda result: None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_backup: Callable[[str], None] | None = lambda backup: None,
    ) -> ApplyReport:
        """Applies a plan. ``on_result`` is given the outcome of every change once it is durable, in the
        calling thread; ``on_progress`` is given the progress about twice a second. ``on_backup`` is told
        where the backup is that is made before a plan with deletions begins; with ``None`` none is made.

        ``rate`` overrides the configured one. ``parallelism`` is the most profiles under way at a time;
        by default as many as keep up the rate, given how long answers take. ``profiles`` are those of the
        files: their labels, protection, lifetime and place are recorded although the plan has no line for
        them. Without ``profiles`` the files are read.

        Raises Refused where nothing may be sent: another environment, lineage or application, a cap, a
        lock; InputError where the key is missing; `StateWriteFailed` where the state could not be written:
        the outcomes that it lacks are then in a file that the hint names.
        """
        return self._applies.apply(
            plan,
            max_changes=max_changes,
            rate=rate,
            parallelism=parallelism,
            profiles=profiles,
            on_result=on_result,
            on_progress=on_progress,
            on_backup=on_backup,
        )

    def refresh(
        self,
        *,
        select: Iterable[str] = (),
        exclude: Iterable[str] = (),
        record: bool = True,
        complete: bool = False,
    ) -> list[Drift]:
        """Reads every recorded profile at the API, records what was read, and returns the drift by
        address. Only identifiers and custom attributes can be read (adapty-api 5.3).

        Raises ReconcileError where a profile could not be read and the refresh was to be ``complete``.
        """
        return self.reader.run(_selection(select, exclude), record=record, complete=complete)

    def observe(self, profile: Profile) -> Observed | None:
        """The profile as the API returns it now; ``None`` if the API knows none. Records nothing.

        Raises ReconcileError where it cannot be read.
        """
        return self.reader.observe(profile)

    def connection(self) -> AbstractContextManager[str]:
        """Until the block ends, one connection to the API serves every call, which speeds up many small
        applies. Gives the base address of the API.

        Raises InputError where the key is missing.
        """
        return self._connection.keep_open()

    # --- the state by hand -------------------------------------------------------------------

    def forget(self, addresses: Iterable[str], *, backup: bool = True) -> str | None:
        """Removes records from the state, nothing at the API; returns where the backup of it is.

        Raises Refused for an address that the state does not know.
        """
        return self.state.forget(addresses, backup=backup)

    def export(self) -> Export:
        """The whole state as one value."""
        return self.state.export()

    def import_state(self, data: Any, *, force: bool = False) -> tuple[Export, str | None]:
        """Replaces the state by an export (JSON); returns the state before, and where the backup of it is.

        Raises StateRefused for anything that is not an export of this lineage and environment.
        """
        return self.state.replace(data, force=force)


def _selection(select: Iterable[str], exclude: Iterable[str]) -> Selection:
    return Selection(tuple(select), tuple(exclude))
