"""The plans of a workspace: of all files, of one profile, of removals and sweeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from reconciler.authoring.walk import path_of_name
from reconciler.config.protected import refuse_to_overwrite
from reconciler.config.settings import Config, Environment
from reconciler.core.facets.registry import time_warnings
from reconciler.core.options import Options, ReadScope, RequestOptions, Selection, Target
from reconciler.core.plan import Accumulator, Hazard, HazardKind, LineAuthor, Mode, Plan, Scope
from reconciler.core.planner import Planner, make_plan, written_profiles
from reconciler.core.profiles import Profile, address_of
from reconciler.core.records import Record, by_address
from reconciler.core.removal import expired, make_removal
from reconciler.core.written import WrittenProfiles
from reconciler.errors import Diagnostic, Interrupted
from reconciler.planning.catalog import Catalog
from reconciler.planning.index import Index
from reconciler.planning.limits import Limits, ProgressEvent
from reconciler.planning.pipeline import PlanPipeline
from reconciler.planning.planfile import PlanWriter, write_plan
from reconciler.planning.workers import WorkerPool
from reconciler.values import FieldPath
from reconciler.workspace.expiry import expiry_warnings
from reconciler.workspace.plan_reading import PlanReads, read_for_plan
from reconciler.workspace.renaming import rename_findings
from reconciler.workspace.results import invalid_files, refuse_unread
from reconciler.workspace.sources import Sources
from reconciler.workspace.state_admin import StateAdmin

if TYPE_CHECKING:
    from reconciler.workspace.refresh import Refresh

_A = TypeVar("_A", bound=Accumulator)
_MOST_ORPHANS = 200
"""Orphans whose remover is looked for: reports name fewer."""


class PlanRequest(NamedTuple):
    """The options of a plan."""

    refresh: ReadScope | None = None
    """Which recorded profiles are read at the API first. Those that are not recorded are looked up then."""
    record: bool = False
    """Record what is read of recorded profiles."""
    reassert: bool = False
    """Send every declared value again."""
    prune: bool = False
    """Delete recorded profiles that no file declares and that this tool created."""
    include_adopted: bool = False
    """Also delete those that this tool did not create."""
    selection: Selection = Selection()
    since: str | None = None
    """A git revision: only profiles whose files changed since then are planned."""
    paths: Sequence[Path] = ()
    """Files and folders: only profiles that they declare, or that are recorded from them, are planned."""
    profiles: Sequence[Profile] | None = None
    """The declared profiles; ``None``: the files are read."""
    out: Path | None = None
    """The file that the plan is saved to."""
    on_findings: Callable[[Sequence[Diagnostic]], None] = lambda findings: None
    """Is given the warnings about valid files."""


class Plans:
    """Makes plans for one environment."""

    def __init__(
        self,
        config: Config,
        environment: Environment,
        *,
        sources: Sources,
        state: StateAdmin,
        refresh: Callable[[], Refresh],
        on_progress: Callable[[ProgressEvent], None],
        now: Callable[[], float],
        stop: Callable[[], bool],
        limits: Limits,
    ) -> None:
        """``refresh`` is called once profiles have to be read at the API."""
        self._config = config
        self._environment = environment
        self._sources = sources
        self._state = state
        self._refresh = refresh
        self._on_progress = on_progress
        self._now = now
        self._stop = stop
        self._limits = limits

    # --- files -------------------------------------------------------------------------------

    def make(self, request: PlanRequest, accumulator: _A) -> tuple[Plan, _A]:
        """The plan that takes the recorded state to the files, and a new accumulator of the given kind
        with the sums over its changes.

        Raises InputError for invalid files and changes that the API cannot make, UsageError for a revision
        that git does not know, ReconcileError where a profile could not be read.
        """
        if request.out is not None:
            refuse_to_overwrite(request.out, self._config)
        options = self._options(
            request.selection,
            prune=request.prune,
            include_adopted=request.include_adopted,
            reassert=request.reassert,
        )
        if request.profiles is not None:
            return self._of_profiles(
                request.profiles, options, request=request, accumulator=accumulator
            )
        return self._sources.with_catalog(
            partial(self._of_catalog, request=request, options=options, accumulator=accumulator)
        )

    def _read(
        self,
        request: PlanRequest,
        options: Options,
        *,
        profiles: Callable[[], Iterable[Profile]],
        written: Callable[[Options], WrittenProfiles],
    ) -> PlanReads:
        """Reads the API as far as the request asks for it."""
        return read_for_plan(
            request.refresh,
            options,
            store=self._state.store,
            refresh=self._refresh,
            profiles=profiles,
            written=written,
            record=request.record,
        )

    def _of_profiles(
        self,
        profiles: Sequence[Profile],
        options: Options,
        *,
        request: PlanRequest,
        accumulator: _A,
    ) -> tuple[Plan, _A]:
        addresses = {profile.address for profile in profiles}
        options = self._exact(options, addresses.intersection)
        options = self._limited(options, request, profiles=profiles)
        store, contract = self._state.store, self._sources.contract
        reads = self._read(
            request,
            options,
            profiles=lambda: profiles,
            written=lambda options: written_profiles(
                profiles, by_address(store.records()), contract=contract, options=options
            ),
        )
        plan = _valid(
            make_plan(
                profiles,
                {**by_address(store.records()), **reads.observed},
                header=store.header(),
                contract=contract,
                options=reads.options,
                look_ups=reads.look_ups,
                is_present=self._is_present,
            )
        )
        formers = [(each.address, at, each.previously) for at, each in enumerate(profiles)]
        renames = rename_findings(
            filter(itemgetter(2), formers),
            records_of=store.records_of,
            profile_of=profiles.__getitem__,
        )
        if warnings := [
            *(each for profile in profiles for each in time_warnings(profile, now=options.now)),
            *(finding for finding in renames if not finding.is_error),
        ]:
            request.on_findings(warnings)
        if request.out is not None:
            write_plan(plan, request.out)
        sums = accumulator.empty()
        for change in plan.changes:
            sums.add(change)
        return plan, sums

    def _of_catalog(
        self,
        catalog: Catalog,
        workers: WorkerPool,
        *,
        request: PlanRequest,
        options: Options,
        accumulator: _A,
    ) -> tuple[Plan, _A]:
        options = self._exact(options, catalog.index.declared)
        options = self._limited(options, request, profiles=catalog.profiles(), index=catalog.index)
        renames = rename_findings(
            catalog.index.previously(),
            records_of=self._state.store.records_of,
            profile_of=catalog.profile,
        )
        if any(finding.is_error for finding in renames):
            raise invalid_files([*catalog.findings, *renames])
        if findings := [*catalog.findings, *self._expiry_warnings(catalog), *renames]:
            request.on_findings(findings)
        pipeline = partial(self._pipeline, catalog, workers=workers)
        reads = self._read(
            request, options, profiles=catalog.profiles, written=partial(_written, pipeline)
        )
        header = self._state.store.header()
        planner = Planner(self._sources.contract, reads.options)
        totals, sums = planner.totals, accumulator.empty()
        folder = self._environment.cache
        with PlanWriter(
            planner.head(header), request.out, folder=folder, limits=self._limits
        ) as writer:
            for batch in pipeline(reads).run(accumulator):
                totals.add(batch.totals)
                if not totals.diagnostics:
                    writer.add(batch.lines, batch.changes)
                    sums.merge(batch.accumulator)
            if totals.diagnostics:
                raise invalid_files(sorted(totals.diagnostics, key=Diagnostic.sort_key))
            if totals.warnings:
                request.on_findings(sorted(totals.warnings, key=Diagnostic.sort_key))
            hazards = planner.hazards(writer.count, is_present=self._is_present)
            changes, plan_totals = writer.finish(
                totals.orphans, hazards, unchanged=totals.unchanged
            )
        return planner.finish(header, changes, hazards=hazards, totals=plan_totals), sums

    def _pipeline(
        self, catalog: Catalog, reads: PlanReads, *, workers: WorkerPool, is_trial: bool = False
    ) -> PlanPipeline:
        options = reads.options
        return PlanPipeline(
            catalog.index,
            self._state.store,
            options=options,
            dialect=self._environment.dialect.value,
            plan_all=_needs_every_profile(options),
            is_trial=is_trial,
            observed=reads.observed,
            look_ups=reads.look_ups,
            workers=workers,
            limits=self._limits,
            on_progress=self._on_progress,
            stop=self._stop,
        )

    def _is_present(self, file: str) -> bool:
        """Whether a file that records come from, named as in messages, still exists."""
        return os.path.lexists(path_of_name(self._config.root, file))

    def _exact(self, options: Options, declared: Callable[[Collection[str]], set[str]]) -> Options:
        """The options with the exact selection. ``declared`` gives those of some addresses that the files
        declare; the state may know more."""
        store = self._state.store
        selection = options.selection.exact(
            lambda addresses: declared(addresses) | store.records_of(addresses).keys()
        )
        return options._replace(selection=selection)

    def _limited(
        self,
        options: Options,
        request: PlanRequest,
        *,
        profiles: Iterable[Profile],
        index: Index | None = None,
    ) -> Options:
        """The options, limited to the profiles of some paths and to those that changed since a revision.
        ``index`` is the one that the profiles are read from."""
        if request.since is None and not request.paths:
            return options
        from reconciler.workspace.narrowing import narrowed

        return narrowed(
            options,
            self._config,
            environment=self._environment,
            since=request.since,
            paths=request.paths,
            declared=profiles,
            recorded=self._state.store.records(),
            index=index,
            display=self._sources.display,
        )

    def _expiry_warnings(self, catalog: Catalog) -> list[Diagnostic]:
        return expiry_warnings(
            catalog.lifetimes(),
            records_of=self._state.store.records_of,
            profile_of=catalog.profile,
            now=self._now(),
        )

    # --- one profile -------------------------------------------------------------------------

    def of_profile(self, profile: Profile, *, reassert: bool) -> Plan:
        """The plan of one profile, whatever the files say. It reads no record of others.

        Raises InputError for changes that the API cannot make.
        """
        addresses = [profile.address, *profile.previously]
        if profile.profile_id is not None:
            addresses.append(address_of(None, profile.profile_id))
        store = self._state.store
        return _valid(
            make_plan(
                [profile],
                store.records_of(addresses),
                header=store.header(),
                contract=self._sources.contract,
                options=self._options(Selection(), reassert=reassert),
            )
        )

    # --- deletions ---------------------------------------------------------------------------

    def removal(self, addresses: Iterable[str], *, reason: str) -> Plan:
        """The plan that deletes recorded profiles by their exact ids. Protected profiles stay."""
        store = self._state.store
        return make_removal(
            [(record, reason) for record in store.records_of([*addresses]).values()],
            header=store.header(),
            environment=self._environment.name,
            mode=Mode.PRUNE,
            target=target_of(self._environment, self._config.root),
        )

    def destroy(self, selection: Selection) -> Plan:
        """The plan that deletes the selected profiles that this tool created, whether files declare them or
        not, as a prune would: by the ids that they got, within the caps, and without the protected ones. No
        file is read.
        """
        store = self._state.store
        options = self._options(selection.exact(store.records_of), prune=True)
        return _valid(
            make_plan(
                (),
                by_address(store.records()),
                header=store.header(),
                contract=self._sources.contract,
                options=options._replace(is_teardown=True),
            )
        )

    def sweep(self, selection: Selection) -> Plan:
        """The plan that deletes the expired profiles that this tool created, by the ids that they got.
        Protected profiles stay. It follows the last apply, so it reads no file.

        A profile whose creation ended unknown is read at the API first: one with other values than were
        sent is somebody else's, and stays.

        Raises ReconcileError where such a profile could not be read.
        """
        store = self._state.store
        selection = selection.exact(store.records_of)
        count = 0
        chosen: dict[str, tuple[Record, str]] = {}
        for record in store.records():
            count += 1
            if selection.takes(record.address, record.labels):
                for removal in expired([record], now=self._now()):
                    chosen[record.address] = removal
        without_id = [record for record, _ in chosen.values() if record.profile_id is None]
        for read in self._refresh().read_back(without_id, Selection(), all_may_be_gone=True):
            if self._stop():
                raise Interrupted("interrupted; nothing was planned")
            refuse_unread([read.drift])
            record, reason = chosen[read.before.address]
            if read.answer.data is not None and read.after.created_at is None:
                del chosen[record.address]
            else:
                profile_id = read.after.profile_id
                chosen[record.address] = (record._replace(profile_id=profile_id), reason)
        return make_removal(
            chosen.values(),
            header=store.header(),
            environment=self._environment.name,
            mode=Mode.SWEEP,
            target=target_of(self._environment, self._config.root),
            scope=Scope(select=selection.select, exclude=selection.exclude),
            hazards=self._sweep_hazards(len(chosen), count),
        )

    def _sweep_hazards(self, deletions: int, records: int) -> list[Hazard]:
        cap = self._environment.max_sweep
        if cap.allows(deletions, records):
            return []
        return [
            Hazard(
                HazardKind.MAX_DELETE,
                f"deletes {deletions:,} of {records:,} recorded profiles, and "
                f"environments.{self._environment.name}.limits.max_sweep is {cap}",
            )
        ]

    # --- both --------------------------------------------------------------------------------

    def blame(self, plan: Plan) -> Mapping[tuple[str, FieldPath], LineAuthor]:
        """The author of each line behind a plan, by address and field path (empty for the profile itself).

        Raises ReconcileError where the configuration is in no git repository.
        """
        from reconciler.reports.blame import blame_of

        records = self._state.store.records_of(plan.orphans[:_MOST_ORPHANS])
        files = {
            address: record.source.file for address, record in records.items() if record.source
        }
        return blame_of(plan, self._config.root, orphans=files)

    def _options(
        self,
        selection: Selection,
        *,
        prune: bool = False,
        include_adopted: bool = False,
        reassert: bool = False,
    ) -> Options:
        environment = self._environment
        return Options(
            environment=environment.name,
            target=target_of(environment, self._config.root),
            prune=prune,
            include_adopted=include_adopted,
            reassert=reassert,
            selection=selection,
            requests=sending_of(environment),
            now=self._now(),
            max_changes=environment.max_changes,
            max_delete=environment.max_delete,
            committed_only=environment.confirm,
        )


def read_scope(refresh: bool | str) -> ReadScope | None:
    """The scope that a caller names: true is ``all``, false is none. Raises ValueError for other texts."""
    if isinstance(refresh, str):
        return ReadScope(refresh)
    return ReadScope.ALL if refresh else None


def target_of(environment: Environment, root: Path) -> Target:
    """Where the requests of an environment go; ``root`` is the folder of the configuration."""
    bundle = environment.ca_bundle
    return Target(
        address=environment.url,
        dialect=environment.dialect.value,
        key_env=environment.key_env,
        proxy=environment.proxy,
        proxy_env=environment.proxy_env,
        ca_bundle=None if bundle is None else Path(os.path.relpath(bundle, root)).as_posix(),
        on_existing="refuse" if environment.refuse_existing else None,
    )


def sending_of(environment: Environment) -> RequestOptions:
    """How requests are written for an environment."""
    return RequestOptions(
        environment.delete_attribute_with,
        environment.send_ip_country_always,
        environment.refuse_existing,
    )


def _needs_every_profile(options: Options) -> bool:
    """Whether profiles that match the recorded state have to be planned as well."""
    return (
        options.reassert
        or options.selection != Selection()
        or options.refreshed is ReadScope.ALL  # an answer may show drift
    )


def _written(pipeline: Callable[..., PlanPipeline], options: Options) -> WrittenProfiles:
    """The profiles that a plan would write, and those whose change an error prevents."""
    written = WrittenProfiles()
    for batch in pipeline(PlanReads(options=options), is_trial=True).run(written):
        written.merge(batch.accumulator)
        written.add_blocked(batch.totals.blocked)
    return written


def _valid(plan: Plan | list[Diagnostic]) -> Plan:
    """Raises InputError for the diagnostics that stand in the place of a plan."""
    if isinstance(plan, list):
        raise invalid_files(plan)
    return plan
