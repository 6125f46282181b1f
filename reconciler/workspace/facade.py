"""The façade: a configuration, its profile files, one environment's state and API.

This is what library users import and all that the command line uses.
"""

from __future__ import annotations

import gc
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from weakref import WeakSet

from reconciler.atomicfile import write_whole
from reconciler.authoring import fakedata as fakes
from reconciler.authoring.declare import profile_of
from reconciler.authoring.documents import Document
from reconciler.authoring.folder_defaults import FolderDefaults
from reconciler.authoring.placeholders import PlaceholderValues
from reconciler.authoring.privacy import personal
from reconciler.authoring.render import deduplicate, rendered_documents
from reconciler.authoring.templates import expand
from reconciler.authoring.walk import DEFAULTS
from reconciler.config.buildinfo import build_info
from reconciler.config.reader import load_config
from reconciler.config.settings import EMULATOR, Config, Environment
from reconciler.core.contract import Contract
from reconciler.core.contract_files import load_contract
from reconciler.core.lifetimes import expiry, utc
from reconciler.core.outcomes import ApplyReport, Drift, DriftKind, Outcome, Progress, Result
from reconciler.core.plan import (
    Accumulator,
    Hazard,
    HazardKind,
    LineAuthor,
    Mode,
    NullAccumulator,
    Plan,
    Request,
    Scope,
)
from reconciler.core.planner import Options, Planner, Selection, expired, make_plan, make_removal
from reconciler.core.profiles import Profile, address_of
from reconciler.core.record_codec import EXPORT_FORMAT_VERSION, decode_export
from reconciler.core.records import Export, Header, Record, by_address
from reconciler.core.transitions import Observed, Rate, Sending, without_expired_mark
from reconciler.errors import (
    Diagnostic,
    InputError,
    Interrupted,
    NotAuthorised,
    ReconcileError,
    Refused,
    RemoteUnavailable,
    Source,
    StateRefused,
    UsageError,
    error,
    warning,
)
from reconciler.planning.catalog import (
    Declarations,
    Means,
    Profiles,
    Rules,
    State,
    are_large,
)
from reconciler.planning.index import Index
from reconciler.planning.pipeline import Planning
from reconciler.planning.planfile import PlanWriter, read_plan, write_plan
from reconciler.planning.workers import Hands, Told, processes
from reconciler.resources import fingerprint, load_schema
from reconciler.state.store import Holder, SqliteStore, Store, Writer
from reconciler.values import FieldPath

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from reconciler.remote.answers import Answer
    from reconciler.remote.client import Client
    from reconciler.remote.engine import Calls, StateWriteFailed
    from reconciler.remote.pacing import Clock, Pace
    from reconciler.remote.refresh import ReadBack


_T = TypeVar("_T")
_A = TypeVar("_A", bound=Accumulator)


_FEW = 2_000
"""Profiles that are held once they were read; of more, none is."""


class Checked(NamedTuple):
    """What validation found: the valid profiles in the order of their addresses, and all findings.

    Where there are many profiles they are not held, but read each time from what the index was then;
    that ends once the workspace is closed.
    """

    profiles: Profiles | tuple[Profile, ...]
    diagnostics: tuple[Diagnostic, ...]
    documents: int

    @property
    def valid(self) -> bool:
        return not any(diagnostic.is_error for diagnostic in self.diagnostics)


class Formatted(NamedTuple):
    """What `Workspace.format` did: the files that were not in canonical form, each with its text before
    and after, the errors that kept others as they are, and how many files there are."""

    changed: tuple[tuple[str, str, str], ...]
    diagnostics: tuple[Diagnostic, ...]
    files: int


class Workspace:
    """A configuration and one of its environments. Use it as a context manager, or `close` it.

    ``environ`` is where the secret key is looked up by name, ``stop`` is asked before anything new
    starts: both are arguments so that a test or an embedding program can hold them. ``tell`` is told
    how far the reading of files is. ``pool`` makes what carries it where there are many, `processes`
    for example; such processes import the main module of the program, which must allow for that.
    Without ``cache`` every file is read, whatever the index says, and the index is left alone. Calls
    of the API wait by ``clock``; ``now`` tells the time in Unix seconds. ``run`` and ``worker`` are what
    ``{run}`` and ``{worker}`` stand for in profile files; by default the run of the build, if it is one
    of GitHub or GitLab, and ``main``.

    Raises UsageError for a run or a worker that cannot be part of a name.
    """

    def __init__(
        self,
        config: Config,
        environment: Environment,
        *,
        environ: Mapping[str, str] | None = None,
        stop: Callable[[], bool] = lambda: False,
        store: Store | None = None,
        tell: Callable[[Told], None] = lambda told: None,
        pool: Callable[[], Executor] | None = None,
        cache: bool = True,
        clock: Clock | None = None,
        now: Callable[[], float] = time.time,
        run: str | None = None,
        worker: str | None = None,
    ) -> None:
        self.config = config
        self.environment = environment
        self._environ = os.environ if environ is None else environ
        self._stop = stop
        self._store = store
        self._tell = tell
        self._pool = pool
        self._cache = cache
        self._clock = clock
        self._now = now
        self._given = self._placeholders(run, worker)
        self._line: _Line | None = None
        self._index: Index | None = None
        self._lent: WeakSet[Index] = WeakSet()
        """Earlier ones, from which profiles may still be read."""
        self._declared: Declarations | None = None

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
        directory) and an environment (by default the configured one).

        Raises InputError for an invalid or missing configuration, UsageError for an unknown
        environment.
        """
        path = Path(config) if config is not None else None
        loaded = load_config(
            path,
            start=Path(start) if start is not None else Path.cwd(),
            cache=options.get("cache", True),
        )
        return cls(loaded, loaded.environment(env), **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Releases the state and the index. The workspace can be used again afterwards."""
        for index in [*self._lent, *([self._index] if self._index else [])]:
            index.close()
        self._declared = self._index = None
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def contract(self) -> Contract:
        return load_contract(self.environment.dialect.value)

    @property
    def store(self) -> Store:
        """The state of the environment. Opening it creates nothing."""
        if self._store is None:
            self._store = SqliteStore(self.environment.state, environment=self.environment.name)
        return self._store

    # --- reading files -----------------------------------------------------------------------

    def validate(self, paths: Sequence[str | Path] = ()) -> Checked:
        """Reads and checks the profile files (or only ``paths``): offline, without a key.

        All findings are returned, none is raised.
        """
        if paths:
            return self._validate(paths)
        with _cyclic_collector_off(), Hands(self._pool) as hands:
            declared = self._indexed(lambda index: self._read(index, hands))
        if self._index is not None:
            self._index.keep()
        profiles = self.declared
        if len(profiles) <= _FEW:
            profiles = tuple(profiles)
        return Checked(profiles, declared.findings, declared.documents)

    def _validate(self, paths: Sequence[str | Path]) -> Checked:
        documents, diagnostics = self._documents(paths)
        if any(diagnostic.is_error for diagnostic in diagnostics):
            return Checked((), tuple(diagnostics), len(documents))
        profiles = [profile_of(document, self.contract) for document in documents]
        profiles.sort(key=lambda profile: profile.address)
        return Checked(tuple(profiles), tuple(diagnostics), len(documents))

    def _documents(self, paths: Sequence[str | Path]) -> tuple[list[Document], list[Diagnostic]]:
        """What the files below some paths mean, and all that is wrong with them, by place."""
        from reconciler.authoring.validation import validate_documents

        documents: list[Document] = []
        found: list[Diagnostic] = []
        profiles = self.config.profiles.absolute()
        for root in map(Path, paths):
            inside = root.absolute().is_relative_to(profiles)
            top = profiles if inside else root if root.is_dir() else root.parent
            defaults = FolderDefaults(top, display=self._display, contract=self.contract)
            made, problems = rendered_documents(
                root, defaults, values=self._given, display=self._display
            )
            documents += made
            found += [*problems, *defaults.findings]
        found += validate_documents(documents, self.contract)
        for document in documents:
            found += personal(document, self.contract, self.config.guard)
        return documents, sorted(deduplicate(found), key=Diagnostic.sort_key)

    def render(
        self,
        paths: Sequence[str | Path] = (),
        *,
        select: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> Iterator[tuple[Profile, Document]]:
        """What all files (or only ``paths``) mean, defaults, templates and placeholders filled in, in the
        order in which it is written; each with the profile that it declares.

        Raises InputError, with every finding, where one is an error.
        """
        documents, findings = self._documents(paths or [self.config.profiles])
        if any(finding.is_error for finding in findings):
            raise _invalid(findings)
        selection = Selection(tuple(select), tuple(exclude))
        for document in documents:
            profile = profile_of(document, self.contract)
            if selection.takes(profile.address, profile.labels):
                yield profile, document

    def _indexed(self, task: Callable[[Index], _T]) -> _T:
        """What a task makes of the index; of an empty one if the kept one fails in the middle."""
        from reconciler.planning.index import Index, Unusable

        state = self.environment.state
        path = None
        # Until something is applied there is no folder, which an index of a few files is not worth.
        if self._cache and (state.parent.exists() or are_large(self.config.profiles)):
            path = state.with_name(f"{state.name}.index")
        key = f"{fingerprint()} {self._rules()[::2]} {self._display(self.config.profiles)}"
        for place in (path, None):
            self._let_go()
            self._index = Index.open(place, key)
            try:
                return task(self._index)
            except Unusable:
                if place is None:
                    raise
        raise AssertionError

    def _let_go(self) -> None:
        self._declared = None
        if self._index is not None:
            self._index.let_go()
            self._lent.add(self._index)
            self._index = None

    def _means(self) -> Means:
        return Means(self._rules(), stop=self._stop, tell=self._tell)

    def _rules(self) -> Rules:
        return Rules(self.environment.dialect.value, self._given, self.config.guard)

    def _placeholders(self, run: str | None, worker: str | None) -> PlaceholderValues:
        for name, value in (("run", run), ("worker", worker)):
            if value is not None and not _NAME(value):
                raise UsageError(
                    f"{value} cannot be the name of a {name}",
                    hint="Use 1 to 63 ASCII letters, digits, dashes, periods or underscores.",
                )
        environ, prefix = self._environ, self.config.env_prefix
        build = build_info(environ).run
        return PlaceholderValues(
            variables=self.environment.variables,
            environ={name: environ[name] for name in environ if prefix and name.startswith(prefix)},
            prefix=prefix,
            run=run or (build if build and _NAME(build) else None),
            worker=worker or "main",
            seed=self.config.fake_seed,
            fakes=fakes.version,
        )

    def _read(self, index: Index, hands: Hands, *, state: State | None = None) -> Declarations:
        means = self._means()._replace(hands=hands, state=state)
        self._declared = Declarations.read(index, self.config.profiles, means, self._display)
        return self._declared

    @property
    def declared(self) -> Profiles | tuple[Profile, ...]:
        """The profiles that the files declared when they were last read, if they were valid."""
        if self._declared is None or not self._declared.is_valid:
            return ()
        return self._declared.profiles()

    def format(self, paths: Sequence[str | Path] = (), *, write: bool) -> Formatted:
        """Puts the profile files (or only ``paths``) into canonical form, comments kept.

        Files that do not parse, or would lose something, are left as they are and reported.

        Raises ReconcileError without ruamel.yaml, or where a file cannot be written.
        """
        from reconciler.authoring.formatter import format_text
        from reconciler.authoring.walk import files_below

        changed: list[tuple[str, str, str]] = []
        problems: list[Diagnostic] = []
        count = 0
        for root in [Path(path) for path in paths] or [self.config.profiles]:
            files, findings = files_below(root, display=self._display)
            problems += findings
            for path, name in files:
                count += 1
                try:
                    before = path.read_bytes().decode("utf-8")
                    after = format_text(before, name, self.contract)
                except UnicodeDecodeError:
                    problems.append(
                        error(
                            "file/encoding",
                            "the file is not UTF-8",
                            Source(name),
                            hint="Save it as UTF-8.",
                        )
                    )
                except OSError as problem:
                    raise ReconcileError(f"cannot read {name}: {problem.strerror}") from None
                except InputError as problem:
                    problems += problem.diagnostics
                else:
                    if after != before:
                        changed.append((name, before, after))
                        if write:
                            target = path.resolve()  # a link stays a link
                            write_whole(target, [after], mode=target.stat().st_mode & 0o7777)
        return Formatted(tuple(changed), tuple(problems), count)

    def _display(self, path: Path) -> str:
        """How a file is named in findings and plans: relative to the configuration, so that a plan is
        the same wherever the repository lies."""
        try:
            return path.absolute().relative_to(self.config.root.absolute()).as_posix()
        except ValueError:
            return path.as_posix()

    def desired(self) -> Profiles | tuple[Profile, ...]:
        """The valid profiles of all files.

        Raises InputError, with every finding, where one is an error.
        """
        checked = self.validate()
        if not checked.valid:
            raise _invalid(checked.diagnostics)
        return checked.profiles

    # --- planning ----------------------------------------------------------------------------

    def plan(
        self,
        *,
        refresh: bool = False,
        reassert: bool = False,
        prune: bool = False,
        select: Iterable[str] = (),
        exclude: Iterable[str] = (),
        since: str | None = None,
        profiles: Sequence[Profile] | None = None,
        out: Path | None = None,
        on_findings: Callable[[Sequence[Diagnostic]], None] = lambda findings: None,
    ) -> Plan:
        """The plan that takes the recorded state to the files; saved to ``out`` on the way.

        Touches neither state nor files, and makes no network call unless ``refresh``, which reads the
        recorded profiles first and records nothing. ``since`` is a git revision: only profiles whose
        files changed since then are looked at. ``profiles`` spares reading the files again;
        otherwise ``on_findings`` is told what is to be said of valid ones.

        Raises InputError for invalid files and for what the API cannot do, UsageError for a revision
        that git does not know, ReconcileError where a profile could not be read.
        """
        made, _ = self.plan_counted(
            NullAccumulator(),
            refresh=refresh,
            reassert=reassert,
            prune=prune,
            select=select,
            exclude=exclude,
            since=since,
            profiles=profiles,
            out=out,
            on_findings=on_findings,
        )
        return made

    def plan_counted(
        self,
        accumulator: _A,
        *,
        refresh: bool = False,
        reassert: bool = False,
        prune: bool = False,
        select: Iterable[str] = (),
        exclude: Iterable[str] = (),
        since: str | None = None,
        profiles: Sequence[Profile] | None = None,
        out: Path | None = None,
        on_findings: Callable[[Sequence[Diagnostic]], None] = lambda findings: None,
    ) -> tuple[Plan, _A]:
        """`plan`, with the sums of its changes in an accumulator like the given one."""
        selection = Selection(tuple(select), tuple(exclude))
        seen: dict[str, Record] = {}
        if refresh:
            looks = list(self._look(list(self.store.records()), selection))
            _refuse_unread([look.drift for look in looks])
            seen = {look.after.address: look.after for look in looks}
        options = self._options(selection, prune=prune, reassert=reassert, refreshed=refresh)
        header = self.store.header()
        if profiles is None:
            with _cyclic_collector_off(), Hands(self._pool) as hands:
                return self._indexed(
                    lambda index: self._plan(
                        index, hands, header, options, since, seen, out, on_findings, accumulator
                    )
                )
        options = self._since(since, options, profiles)
        recorded = by_address(self.store.records()) | seen
        made = make_plan(profiles, recorded, header=header, contract=self.contract, options=options)
        if isinstance(made, list):
            raise _invalid(made)
        if out is not None:
            write_plan(made, out)
        counted = accumulator.empty()
        for change in made.changes:
            counted.add(change)
        return made, counted

    def plan_profile(self, profile: Profile, *, reassert: bool = True) -> Plan:
        """The plan of one profile, whatever the files say: a look at one record, and no more.

        Raises InputError for what the API cannot do.
        """
        addresses = [profile.address]
        if profile.profile_id is not None:
            addresses.append(address_of(None, profile.profile_id))
        made = make_plan(
            [profile],
            self.store.records_of(addresses),
            header=self.store.header(),
            contract=self.contract,
            options=self._options(Selection(), prune=False, reassert=reassert, refreshed=False),
        )
        if isinstance(made, list):
            raise _invalid(made)
        return made

    def plan_removal(self, addresses: Iterable[str], reason: str) -> Plan:
        """The plan that deletes recorded profiles by their exact ids, protected ones aside."""
        records = self.store.records_of([*addresses])
        return make_removal(
            [(record, reason) for record in records.values()],
            header=self.store.header(),
            environment=self.environment.name,
            mode=Mode.PRUNE,
        )

    def profile_of(self, value: Mapping[str, Any], source: Source) -> Profile:
        """The profile that a mapping declares, as a document in a file would.

        Raises InputError, with every finding, where one is an error.
        """
        from reconciler.authoring.validation import validate_document

        made = expand(
            [Document(dict(value), source, {})], None, values=self._given, fake=fakes.fake
        )
        findings = made.findings
        for document in made.documents:
            findings += validate_document(document, self.contract)
        if any(finding.is_error for finding in findings):
            raise _invalid(findings)
        if len(made.documents) != 1:
            raise _invalid(
                [
                    error(
                        "template/for-each",
                        f"this template makes {len(made.documents)} profiles where one is wanted",
                        source,
                        hint="Leave `for_each` out.",
                    )
                ]
            )
        return profile_of(made.documents[0], self.contract)

    def observe(self, profile: Profile) -> Observed | None:
        """What the API says of a profile now; ``None`` if it knows none. Records nothing.

        Raises ReconcileError where it cannot be read.
        """
        wanted = Record(profile.address, profile.customer_user_id, profile.profile_id)
        (look,) = self._look([wanted], Selection())
        _refuse_unread([look.drift])
        data = look.answer.data
        if data is None:
            return None
        return Observed(
            data.profile_id.lower(), data.customer_user_id, data.custom_attributes, data.timestamp
        )

    @property
    def _sending(self) -> Sending:
        environment = self.environment
        return Sending(environment.delete_attribute_with, environment.send_ip_country_always)

    def _options(
        self, selection: Selection, *, prune: bool, reassert: bool, refreshed: bool
    ) -> Options:
        environment = self.environment
        return Options(
            environment=environment.name,
            prune=prune,
            reassert=reassert,
            refreshed=refreshed,
            selection=selection,
            sending=self._sending,
            max_changes=environment.max_changes,
            max_delete=environment.max_delete,
        )

    def _plan(
        self,
        index: Index,
        hands: Hands,
        header: Header,
        options: Options,
        since: str | None,
        seen: Mapping[str, Record],
        out: Path | None,
        on_findings: Callable[[Sequence[Diagnostic]], None],
        accumulator: _A,
    ) -> tuple[Plan, _A]:
        whole = since is not None or _is_whole(options) or bool(seen)
        environment = self.environment
        state = None if whole else State(environment.state.absolute(), environment.name)
        declared = self._read(index, hands, state=state)
        try:
            if not declared.is_valid:
                raise _invalid(declared.findings)
            options = self._since(since, options, declared.profiles())
            return self._planned(
                declared, hands, header, options, seen, out, on_findings, accumulator
            )
        finally:
            index.keep()  # what was read, at least

    def _planned(
        self,
        declared: Declarations,
        hands: Hands,
        header: Header,
        options: Options,
        seen: Mapping[str, Record],
        out: Path | None,
        on_findings: Callable[[Sequence[Diagnostic]], None],
        accumulator: _A,
    ) -> tuple[Plan, _A]:
        if findings := [*declared.findings, *self._ending(declared)]:
            on_findings(findings)
        planner = Planner(self.contract, options)
        found, counted = planner.found, accumulator.empty()
        planning = Planning(
            declared.index,
            self.store,
            options,
            dialect=self.environment.dialect.value,
            whole=_is_whole(options),
            seen=seen,
            hands=hands,
            tell=self._tell,
            stop=self._stop,
        )
        with PlanWriter(planner.head(header), out, folder=self.environment.state.parent) as writer:
            for planned in planning.run(accumulator):
                found.add(planned.found)
                if not found.diagnostics:
                    writer.add(planned.lines, planned.changes)
                    counted.merge(planned.accumulator)
            if found.diagnostics:
                raise _invalid(sorted(found.diagnostics, key=Diagnostic.sort_key))
            changes, totals = writer.finish(
                found.orphans, planner.hazards(writer.count), found.unchanged
            )
        return planner.finish(header, changes, totals), counted

    def _since(self, since: str | None, options: Options, desired: Iterable[Profile]) -> Options:
        """The options, limited to the profiles whose files changed since a revision."""
        if since is None:
            return options
        from reconciler.reports.blame import Repository

        repository = Repository.around(self.config.root)
        commit, files = repository.changed_since(since)
        sources = [
            *((profile.address, profile.source.file) for profile in desired),
            *(
                (record.address, record.source.file)
                for record in self.store.records()
                if record.source
            ),
        ]
        moved = {
            name
            for name in {file for _, file in sources}
            if any(
                repository.path_of(self.config.root / each) in files
                for each in [name, *(str(above / DEFAULTS) for above in PurePath(name).parents)]
            )
        }
        within = frozenset(address for address, file in sources if file in moved)
        return options._replace(since=commit, selection=options.selection._replace(within=within))

    def blame(self, plan: Plan) -> Mapping[tuple[str, FieldPath], LineAuthor]:
        """Who wrote the lines behind a plan, by address and field path (empty for the profile itself).

        Raises ReconcileError where the configuration is in no git repository.
        """
        from reconciler.reports.blame import blame_of

        return blame_of(plan, self.config.root)

    def _ending(self, declared: Declarations) -> list[Diagnostic]:
        """Warnings of declared profiles that have expired, or soon will; one for each template."""
        now = self._now()
        found: dict[tuple[Source, bool], list[tuple[float, Profile]]] = {}
        lifetimes = declared.lifetimes()
        while some := [*islice(lifetimes, _FEW)]:
            records = self.store.records_of([address for address, _, _ in some])
            for address, number, lifetime in some:
                record = records.get(address)
                created = record.created_at if record else None
                end = expiry(lifetime, created)
                notice = _NOTICE if created is None else min(_NOTICE, ((end or 0) - created) / 4)
                if end is not None and end - now <= notice:
                    profile = declared.profile(number)
                    found.setdefault((profile.source, end <= now), []).append((end, profile))
        return [
            _ending(ends, source, over=over)
            for (source, over), ends in sorted(found.items(), key=lambda item: item[0])
        ]

    # --- sweeping ----------------------------------------------------------------------------

    def plan_sweep(self, *, select: Iterable[str] = (), exclude: Iterable[str] = ()) -> Plan:
        """The plan that deletes what has expired: recorded profiles that this tool created, by the very
        ids that they got, protected ones never. It goes by what was applied last, so no file is read.

        A profile whose creation ended unknown is looked at first: one that holds something else than
        was sent is somebody else's, and stays.

        Raises ReconcileError where such a profile could not be read.
        """
        selection = Selection(tuple(select), tuple(exclude))
        count = 0
        chosen: dict[str, tuple[Record, str]] = {}
        for record in self.store.records():
            count += 1
            if selection.takes(record.address, record.labels):
                for found in expired([record], now=self._now()):
                    chosen[record.address] = found
        unseen = [record for record, _ in chosen.values() if record.profile_id is None]
        for look in self._look(unseen, Selection(), suspicious=False):
            _refuse_unread([look.drift])
            after, (before, reason) = look.after, chosen[look.before.address]
            if look.answer.data is not None and after.created_at is None:
                del chosen[before.address]
            else:
                chosen[before.address] = (before._replace(profile_id=after.profile_id), reason)
        environment = self.environment
        hazards = []
        if not environment.max_sweep.allows(len(chosen), count):
            hazards.append(
                Hazard(
                    HazardKind.MAX_DELETE,
                    f"deletes {len(chosen)} of {count} recorded profiles, above max_sweep "
                    f"{environment.max_sweep}",
                )
            )
        return make_removal(
            chosen.values(),
            header=self.store.header(),
            environment=environment.name,
            mode=Mode.SWEEP,
            scope=Scope(select=selection.select, exclude=selection.exclude),
            hazards=hazards,
        )

    # --- applying ----------------------------------------------------------------------------

    def check(self, plan: Plan, *, max_changes: int | None = None) -> None:
        """Whether a plan may be applied here at all; ``max_changes`` overrides the configured limit.

        Raises Refused for another environment, lineage or application, and above a cap; InputError
        where the key is missing.
        """
        from reconciler.remote.applier import check_plan

        check_plan(
            plan,
            self.store.header(),
            environment=self.environment.name,
            max_changes=self.environment.max_changes if max_changes is None else max_changes,
        )
        if plan.summary["requests"] and self.environment.url != EMULATOR:
            self._key()

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
    ) -> ApplyReport:
        """Applies a plan: ``on_result`` is told the outcome of every change once it is durable, in the
        thread that called, ``on_progress`` about twice a second how far it is.

        ``rate`` overrides the configured one. ``parallelism`` is the most profiles under way at a time;
        by default as many as the rate, and the time that answers take, make use of. ``profiles`` are
        those of the files, for what is recorded without a line in the plan; without them the files are
        read if they are valid.

        Raises Refused where nothing may be sent: another environment, lineage or application, a cap, a
        lock; InputError where the key is missing; `StateWriteFailed` where the state could not be written,
        once a file says what it does not know.
        """
        from reconciler.remote.applier import Applier
        from reconciler.remote.context import ApplyContext, ApplyListener, Gate, RunClock
        from reconciler.remote.engine import StateWriteFailed

        self.check(plan, max_changes=max_changes)
        if profiles is None:
            profiles = self.validate().profiles
        desired = {profile.address: profile for profile in profiles}
        if plan.is_empty and not self._declarations_moved(profiles):
            return ApplyReport(run="", counts=dict.fromkeys(Outcome, 0))
        with ExitStack() as stack:
            needed = any(change.requests for change in plan.changes)
            if needed and self.environment.url != EMULATOR:
                self._key()  # is missed before anything is made
            writer = stack.enter_context(self._locked("apply"))
            connection = stack.enter_context(
                self._connected(rate, parallelism, may_leave=writer.holds)
                if needed
                else _unconnected()
            )
            pace = connection.pace
            self.check(plan, max_changes=max_changes)
            context = ApplyContext(
                calls=connection.calls,
                run=f"run-{os.urandom(8).hex()}",
                clock=RunClock(self._now),
                gate=Gate(
                    self._stop,
                    is_away=lambda: pace.given_up,
                    in_flight=connection.in_flight,
                ),
                listener=ApplyListener(
                    on_result=on_result,
                    on_progress=lambda progress: on_progress(
                        progress._replace(rate=pace.rate, waiting_for=pace.waiting_for())
                    ),
                    on_state_write=pace.learn_write_time,
                ),
                sending=self._sending,
                quiet_period=self.environment.quiet_period,
            )
            try:
                report = Applier(self.store, writer, context=context).apply(plan, desired=desired)
            except StateWriteFailed as problem:
                self._save_outcomes(problem)
                raise
            return report._replace(rate=pace.rate)

    def _save_outcomes(self, problem: StateWriteFailed) -> None:
        """Writes what the state could not take into a file of its own, and says where.

        It holds no values: addresses, outcomes, digests of requests, and the API's Request-Ids.
        """
        import tempfile

        if not problem.entries:
            return
        lines = "".join(json.dumps(entry._asdict()) + "\n" for entry in problem.entries)
        for folder in (self.environment.state.parent, Path(tempfile.gettempdir())):
            with suppress(OSError):
                descriptor, name = tempfile.mkstemp(
                    dir=folder, prefix=f"{self.environment.name}-outcomes-", suffix=".jsonl"
                )
                with open(descriptor, "w", encoding="ascii") as file:
                    file.write(lines)
                    file.flush()
                    os.fsync(file.fileno())
                count = len(problem.entries)
                noun = "outcome that it does not know is" if count == 1 else "outcomes are"
                problem.hint += (
                    f" Nothing was lost: what was under way counts as uncertain and is sent again. "
                    f"{count} {noun} in {name}"
                )
                return
        problem.hint += " What was under way counts as uncertain, and is sent again."

    def _declarations_moved(self, profiles: Iterable[Profile]) -> bool:
        recorded = by_address(self.store.records())
        for profile in profiles:
            record = recorded.get(profile.address)
            if record is not None and (
                record.labels != profile.labels
                or record.protect != profile.protect
                or record.platform != profile.platform
                or record.lifetime != profile.lifetime
                or record.source != profile.source._replace(column=0)
            ):
                return True
        return False

    # --- looking -----------------------------------------------------------------------------

    def refresh(
        self,
        *,
        select: Iterable[str] = (),
        exclude: Iterable[str] = (),
        record: bool = True,
        complete: bool = False,
    ) -> list[Drift]:
        """Reads what the API will tell of every recorded profile, records it, and returns the drift,
        by address.

        Only identifiers and custom attributes can be seen (adapty-api 5.3).

        Raises ReconcileError where a profile could not be read and it was to be ``complete``.
        """
        selection = Selection(tuple(select), tuple(exclude))
        with ExitStack() as stack:
            writer = stack.enter_context(self._locked("refresh")) if self._has_state() else None
            looks = self._look(
                list(self.store.records()), selection, writer=writer if record else None
            )
            drifts = []
            gone = []
            for look in looks:
                drifts.append(look.drift)
                if look.drift.kind is DriftKind.GONE:
                    gone.append(look.after)
            if gone and writer is not None and record:
                writer.backup()
                writer.write(put=gone)
        if self._stop():
            raise Interrupted("interrupted; what was read is recorded")
        if complete:
            _refuse_unread(drifts)
        return sorted(drifts, key=lambda drift: drift.address)

    def _has_state(self) -> bool:
        return self.store.header().lineage is not None

    def _look(
        self,
        records: Iterable[Record],
        selection: Selection,
        *,
        writer: Writer | None = None,
        suspicious: bool = True,
    ) -> Iterator[ReadBack]:
        from reconciler.remote.refresh import read_back

        chosen = [record for record in records if selection.takes(record.address, record.labels)]
        if not chosen:
            return
        kinds: Counter[DriftKind] = Counter()
        with self._connected(None, None) as connection:
            for seen in read_back(
                chosen,
                connection.calls,
                application=self.store.header().application,
                writer=writer,
                without_expired_mark=self._quiet(),
                stop=lambda: self._stop() or connection.pace.given_up,
                in_flight=connection.in_flight,
            ):
                if seen.answer.is_unauthorised:
                    raise NotAuthorised(
                        f"the API refused the key: {seen.answer.message}", hint=self._key_hint()
                    )
                kinds[seen.drift.kind] += 1
                yield seen
            if connection.pace.given_up:
                raise RemoteUnavailable("the API does not answer", hint="Try again later.")
        if suspicious and kinds[DriftKind.GONE] == kinds.total() > 1:
            raise Refused(
                f"the API knows none of the {kinds[DriftKind.GONE]} recorded profiles; nothing was recorded",
                hint="Check --env and the key: it may be the key of another application.",
            )

    def _quiet(self) -> Callable[[Record], Record]:
        """Takes marks whose quiet period is over from a record. That of a run that was cut off has not
        begun: its requests may have left later than their intents say."""
        cut_off, period = (
            frozenset(self.store.interrupted_addresses()),
            self.environment.quiet_period,
        )
        return lambda record: (
            record
            if record.address in cut_off
            else without_expired_mark(record, now=self._now(), quiet_period=period)
        )

    # --- the state by hand -------------------------------------------------------------------

    def forget(self, addresses: Iterable[str], *, backup: bool = True) -> Path | None:
        """Removes records from the state, nothing at the API; returns the backup made before, if any.

        Raises Refused for an address that the state does not know.
        """
        wanted = list(addresses)
        unknown = [address for address in wanted if self.store.record(address) is None]
        if unknown:
            raise Refused(
                f"the state does not know {', '.join(unknown)}", hint="See `reconcile state list`."
            )
        with self._locked("state rm") as writer:
            saved = writer.backup() if backup else None
            writer.write(remove=wanted)
            return saved

    def export(self) -> Export:
        """The whole state as one value."""
        return Export(self.store.header(), tuple(self.store.records()))

    def import_state(self, data: Any, *, force: bool = False) -> tuple[Export, Path | None]:
        """Replaces the state by an export (JSON); returns what it was, and the backup made before.

        Raises StateRefused for anything that is not an export of this lineage and environment.
        """
        if isinstance(data, dict) and data.get("format_version") == EXPORT_FORMAT_VERSION:
            _refuse_malformed(data)
        export = decode_export(data)
        if export.header.environment not in (None, self.environment.name):
            raise Refused(
                f"the export is of environment {export.header.environment}, "
                f"not {self.environment.name}"
            )
        before = self.export()
        with self._locked("state push") as writer:
            backup = writer.backup()
            writer.replace(export, force=force)
            return before, backup

    @contextmanager
    def _locked(self, command: str) -> Iterator[Writer]:
        import socket

        holder = Holder(
            user=_user(),
            host=socket.gethostname(),
            pid=os.getpid(),
            command=command,
            ci=build_info(self._environ).url,
        )
        with self.store.lock(holder, now=self._now) as writer:
            yield writer

    # --- the API -----------------------------------------------------------------------------

    @contextmanager
    def connection(self) -> Iterator[str]:
        """Within, one connection to the API serves every call: what many small applies are worth.
        Gives the base address of the API.

        Raises InputError where the key is missing.
        """
        with self._lined(None, None) as line:
            self._line = line
            try:
                yield line.url
            finally:
                self._line = None

    @contextmanager
    def _connected(
        self,
        rate: Rate | None,
        parallelism: int | None,
        *,
        may_leave: Callable[[], bool] = lambda: True,
    ) -> Iterator[_Connection]:
        from reconciler.remote.threads import ExecutorCalls

        with ExitStack() as stack:
            line = self._line or stack.enter_context(self._lined(rate, parallelism))
            # Calls of its own for everybody: an answer that nobody waited for is nobody else's.
            send = partial(line.client.send, may_leave=may_leave)
            calls = ExecutorCalls(line.executor, send)
            yield _Connection(calls, line.client.pace, parallelism)

    @contextmanager
    def _lined(self, rate: Rate | None, parallelism: int | None) -> Iterator[_Line]:
        from reconciler.remote.client import Client
        from reconciler.remote.pacing import MOST_IN_FLIGHT
        from reconciler.remote.threads import DaemonExecutor

        environment = self.environment
        with ExitStack() as stack:
            if environment.url == EMULATOR:
                from reconciler.emulator.api import Emulator
                from reconciler.emulator.server import EmulatorServer

                emulator = Emulator(dialect=environment.dialect.value, db=environment.emulator_db)
                stack.callback(emulator.close)
                url, key = stack.enter_context(EmulatorServer(emulator)).url, "emulator"
            else:
                url, key = environment.url, self._key()
            client = Client(
                base_url=url,
                key=key,
                timeout=environment.timeout,
                rate=environment.rate if rate is None else rate,
                proxy=environment.proxy,
                ca_bundle=str(environment.ca_bundle) if environment.ca_bundle else None,
                clock=self._clock,
                stop=self._stop,
            )
            stack.callback(client.close)
            executor = stack.enter_context(DaemonExecutor(parallelism or MOST_IN_FLIGHT))
            yield _Line(url, client, executor)

    def _key(self) -> str:
        name = self.environment.key_env or ""
        key = self._environ.get(name, "").strip()
        if not key:
            raise InputError(f"the variable {name} holds no secret key", hint=self._key_hint())
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(
                f"what the variable {name} holds is not a secret key", hint=self._key_hint()
            )
        return key

    def _key_hint(self) -> str:
        return (
            f"Set {self.environment.key_env} to the app's secret key (environment "
            f"{self.environment.name} names the variable in api.key_env)."
        )


class _Line(NamedTuple):
    """An open connection to the API, and the threads that use it."""

    url: str
    client: Client
    executor: Executor


class _Connection(NamedTuple):
    """Calls of the API, the pace at which they leave, and how many may be under way at most."""

    calls: Calls
    pace: Pace
    parallelism: int | None

    def in_flight(self) -> int:
        return self.pace.in_flight(self.parallelism)


def _is_whole(options: Options) -> bool:
    """Whether a plan has to look at every profile, also at those that are as recorded."""
    return options.reassert or options.selection != Selection()


@contextmanager
def _unconnected() -> Iterator[_Connection]:
    """The connection of an apply that has nothing to send: it needs neither a key nor an API."""
    from reconciler.remote.pacing import Pace, SystemClock
    from reconciler.remote.threads import DaemonExecutor, ExecutorCalls

    def send(request: Request) -> Answer:
        raise AssertionError("nothing was to be sent")

    with DaemonExecutor(1) as executor:
        yield _Connection(
            ExecutorCalls(executor, send), Pace(Rate(None), clock=SystemClock()), None
        )


_NOTICE = 3 * 86400.0
"""Seconds before its end from which on a plan warns of a lifetime; of a short one, its last quarter."""


def _ending(ends: Sequence[tuple[float, Profile]], source: Source, *, over: bool) -> Diagnostic:
    end, profile = min(ends, key=lambda item: item[0])
    who = profile.address
    if len(ends) > 1:
        who = f"{len(ends)} profiles of {profile.template or profile.address}"
    verb = "expired" if over else "expire" if len(ends) > 1 else "expires"
    return warning(
        "meta/expired" if over else "meta/expires-soon",
        f"{who} {verb} on {utc(end)}" + (", the first of them" if len(ends) > 1 else ""),
        source,
        hint="`reconcile sweep` deletes what this tool created, and the next apply would create it "
        "again: take it out of the files, or give it more time."
        if over
        else "Give it more time, or take it out of the files by then.",
    )


def _refuse_malformed(data: dict[str, Any]) -> None:
    from reconciler.authoring.json_schema import validate_value

    export = Document(data, Source("the export"), {})
    flaws = validate_value(export, load_schema("state.schema"), prefix="state")
    if flaws:
        raise StateRefused(
            f"this is not a state export: {flaws[0].message}", hint="Give an unedited export."
        )


def _refuse_unread(drifts: Sequence[Drift]) -> None:
    unread = sorted(drift.address for drift in drifts if drift.kind is DriftKind.UNREAD)
    if unread:
        raise ReconcileError(
            f"{len(unread)} of {len(drifts)} profiles could not be read, {unread[0]} for one; "
            "nothing was planned",
            hint="See `reconcile refresh`, or plan without --refresh.",
        )


@contextmanager
def _cyclic_collector_off() -> Iterator[None]:
    """Reading and planning makes a great many objects and no cycles: looking for them is lost time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _invalid(diagnostics: Sequence[Diagnostic]) -> InputError:
    errors = sum(1 for diagnostic in diagnostics if diagnostic.is_error)
    noun = "error" if errors == 1 else "errors"
    return InputError(f"{errors} {noun}; nothing was planned", diagnostics=diagnostics)


_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}").fullmatch


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


__all__ = [
    "Checked",
    "Formatted",
    "Told",
    "Workspace",
    "processes",
    "read_plan",
    "write_plan",
    "write_whole",
]
