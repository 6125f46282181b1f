"""The profile files of a workspace: reading, validating, rendering and formatting them. Owns the index."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from reconciler.atomicfile import write_output
from reconciler.authoring import fakedata
from reconciler.authoring.claims import cross_file_findings
from reconciler.authoring.declare import profile_of
from reconciler.authoring.defaults import Defaults
from reconciler.authoring.documents import Document
from reconciler.authoring.facets.registry import listed_findings
from reconciler.authoring.finding_limits import LimitedFindings
from reconciler.authoring.folder_defaults import FolderDefaults
from reconciler.authoring.loader import load_text
from reconciler.authoring.placeholders import PlaceholderValues
from reconciler.authoring.privacy import personal_data_findings
from reconciler.authoring.render import expand_file, rendered_documents
from reconciler.authoring.templates import expand
from reconciler.authoring.transcript import TextReading
from reconciler.authoring.validation import document_findings, validate_document
from reconciler.authoring.walk import files_below
from reconciler.config.buildinfo import build_info
from reconciler.config.settings import Config, Environment
from reconciler.config.trust import Trust
from reconciler.core.contract import Contract
from reconciler.core.contract_files import load_contract
from reconciler.core.options import Selection
from reconciler.core.profiles import Profile
from reconciler.errors import (
    Diagnostic,
    InputError,
    Message,
    ReconcileError,
    Source,
    UsageError,
    error,
)
from reconciler.planning.catalog import Catalog, DeclaredProfiles, ReadContext, are_larger_than
from reconciler.planning.index import Index
from reconciler.planning.index_file import IndexFile, IndexUnusable
from reconciler.planning.limits import Limits, ProgressEvent
from reconciler.planning.reader import ParseOptions
from reconciler.planning.workers import WorkerPool
from reconciler.resources import fingerprint
from reconciler.workspace.results import Checked, Formatted, invalid_files

if TYPE_CHECKING:
    from concurrent.futures import Executor

_T = TypeVar("_T")
_WORTH_AN_INDEX = 512 * 1024
"""Bytes of files that take so long to read that an index is worth a folder of its own."""


class Sources:
    """The profile files that a configuration names, read for one of its environments."""

    def __init__(
        self,
        config: Config,
        environment: Environment,
        *,
        placeholders: PlaceholderValues,
        use_cache: bool,
        on_progress: Callable[[ProgressEvent], None],
        on_warning: Callable[[Message], None],
        stop: Callable[[], bool],
        pool: Callable[[], Executor] | None,
        limits: Limits,
    ) -> None:
        """Without ``use_cache`` every file is read, and the index file is neither read nor written.
        ``on_warning`` is told once why the index could not be kept."""
        self._config = config
        self._environment = environment
        self._placeholders = placeholders
        self._use_cache = use_cache
        self._on_progress = on_progress
        self._on_warning = on_warning
        self._has_warned = False
        self._stop = stop
        self._pool = pool
        self._limits = limits
        self.index: Index | None = None
        """The index that the files were last read into."""
        self._lent: WeakSet[Index] = WeakSet()
        """Earlier indexes, from which a caller may still read profiles."""
        self._catalog: Catalog | None = None

    def close(self) -> None:
        """Closes every index. Files can be read again afterwards."""
        for index in [*self._lent, *([self.index] if self.index else [])]:
            index.file.close()
        self._catalog = self.index = None

    @property
    def contract(self) -> Contract:
        return load_contract(self._environment.dialect.value)

    @property
    def declared(self) -> DeclaredProfiles | tuple[Profile, ...]:
        """The profiles that the files declared when they were last read, if they were valid."""
        if self._catalog is None or not self._catalog.is_valid:
            return ()
        return self._catalog.profiles()

    # --- all files ---------------------------------------------------------------------------

    def validate(self, paths: Sequence[str | Path] = ()) -> Checked:
        """Reads and checks all files, or only those below ``paths``. Raises no finding."""
        if paths:
            return self._validate_paths(paths)
        with self._workers() as workers:
            catalog = self._with_index(lambda catalog: catalog, workers)
        profiles = self.declared
        if len(profiles) <= self._limits.profiles_held:
            profiles = tuple(profiles)
        return Checked(profiles, catalog.findings, catalog.documents)

    def desired(self) -> DeclaredProfiles | tuple[Profile, ...]:
        """The valid profiles of all files.

        Raises InputError, with every finding, where one is an error.
        """
        checked = self.validate()
        if not checked.valid:
            raise invalid_files(checked.diagnostics)
        return checked.profiles

    def with_catalog(self, task: Callable[[Catalog, WorkerPool], _T]) -> _T:
        """The result of a task that gets the valid catalog of all files, and the workers that read
        them. It begins anew, with an empty index, where the index file turns out to be unusable.

        Raises InputError, with every finding, where one is an error.
        """
        with self._workers() as workers:

            def run(catalog: Catalog) -> _T:
                if not catalog.is_valid:
                    raise invalid_files(catalog.findings)
                return task(catalog, workers)

            return self._with_index(run, workers)

    def _with_index(self, task: Callable[[Catalog], _T], workers: WorkerPool) -> _T:
        """The result of a task over what the files declare, by the index file, or by an empty index if that
        fails in the middle. The files that were read need not be read again, whatever the task raises."""
        places = self._places()
        while True:
            file = self._opened(places.pop(0))
            try:
                result = task(self._read(file, workers))
            except (ReconcileError, MemoryError) as problem:
                with suppress(IndexUnusable):
                    file.keep()
                if not isinstance(problem, IndexUnusable) or not places:
                    raise
            except Exception:  # whatever a damaged index leads to; an error of ours comes again
                if not places:
                    raise
            else:
                self._keep(file, workers, places=places)
                return result
            self._warn_of(file)
            if not file.problem:
                file.distrust()

    def _keep(
        self, file: IndexFile, workers: WorkerPool, *, places: Sequence[Callable[[], IndexFile]]
    ) -> None:
        """Keeps an index. If it cannot be kept, its content is gone: then the files are read into another
        one, for those who ask what they declared. The task is not done again: its plan may be on its way."""
        try:
            file.keep()
        except IndexUnusable:
            was_valid = self._catalog is not None and self._catalog.is_valid
            self._warn_of(file)
            if not places or self._read(self._opened(places[0]), workers).is_valid != was_valid:
                raise

    def _opened(self, place: Callable[[], IndexFile]) -> IndexFile:
        """The index file at a place, after the one before is let go."""
        self._let_go()
        file = place()
        self._warn_of(file)
        return file

    def _places(self) -> list[Callable[[], IndexFile]]:
        """Where an index may be, one after the other."""
        options, profiles = self._options(), self._config.profiles
        key = f"{fingerprint()} {options.dialect} {options.guard} {options.listed} {self.display(profiles)}"
        path = self._index_path()
        secret = None if path is None else self._config.places.key(*self._purpose())
        return [
            *(
                [partial(IndexFile.open, path, key, secret=secret)]
                if path is not None and secret is not None
                else []
            ),
            partial(IndexFile.private, key),
            partial(IndexFile.private, key, in_memory=True),
        ]

    def _index_path(self) -> Path | None:
        """The index file; ``None`` where nothing is to be kept."""
        path = self._config.places.cache(*self._purpose()) if self._use_cache else None
        # An index of a few files is not worth a folder.
        if path is not None and (
            path.parent.exists() or are_larger_than(self._config.profiles, _WORTH_AN_INDEX)
        ):
            return path
        return None

    def _purpose(self) -> tuple[str, str, str]:
        """What the index is for: one environment of one configuration."""
        path = self._config.path
        return "index", path.name if path is not None else "", self._environment.name

    def _warn_of(self, file: IndexFile) -> None:
        """Tells why an index could not be kept; once, since it is the same for all that follows."""
        if file.problem and not self._has_warned:
            self._has_warned = True
            where = self._index_path() or "memory"
            self._on_warning(
                Message(
                    f"the index of the profile files cannot be kept in {where}: {file.problem}; this run "
                    "does without it"
                )
            )

    def _let_go(self) -> None:
        self._catalog = None
        if self.index is not None:
            self.index.file.let_go()
            self._lent.add(self.index)
            self.index = None

    def _read(self, file: IndexFile, workers: WorkerPool) -> Catalog:
        self.index = index = Index(file, self._limits)
        context = ReadContext(
            self._options(),
            display=self.display,
            stop=self._stop,
            on_progress=self._on_progress,
            workers=workers,
            limits=self._limits,
        )
        self._catalog = Catalog.read(index, self._config.profiles, context=context)
        return self._catalog

    def _workers(self) -> WorkerPool:
        return WorkerPool(self._pool, processors=self._limits.processors)

    def _options(self) -> ParseOptions:
        config = self._config
        return ParseOptions(
            self._environment.dialect.value, self._placeholders, config.guard, config.listed
        )

    def display(self, path: Path) -> str:
        """The name of a file in findings and plans: relative to the configuration, so that a plan is the
        same wherever the repository lies."""
        try:
            return path.absolute().relative_to(self._config.root.absolute()).as_posix()
        except ValueError:
            return path.as_posix()

    # --- some files --------------------------------------------------------------------------

    def render(
        self, paths: Sequence[str | Path], *, selection: Selection
    ) -> Iterator[tuple[Profile, Document]]:
        """The selected documents of the files with defaults, templates and placeholders filled in, in the
        order of the files; each with the profile that it declares.

        Raises InputError, with every finding, where one is an error.
        """
        documents, findings = self._documents(paths or [self._config.profiles])
        if any(finding.is_error for finding in findings):
            raise invalid_files(findings)
        pairs = [(profile_of(document, self.contract), document) for document in documents]
        selection = selection.exact({profile.address for profile, _ in pairs}.intersection)
        for profile, document in pairs:
            if selection.takes(profile.address, profile.labels):
                yield profile, document

    def profile_of(self, value: Mapping[str, Any], source: Source) -> Profile:
        """The profile that a mapping declares, as a document in a file would.

        Raises InputError, with every finding, where one is an error.
        """
        rendered = expand(
            [Document(dict(value), source, {})],
            None,
            values=self._placeholders,
            fake=fakedata.fake,
        )
        findings = rendered.findings
        for document in rendered.documents:
            findings += validate_document(document, self.contract)
        if any(finding.is_error for finding in findings):
            raise invalid_files(findings)
        if len(rendered.documents) != 1:
            raise invalid_files(
                [
                    error(
                        "template/for-each",
                        f"this template makes {len(rendered.documents)} profiles where one is wanted",
                        source=source,
                        hint="Leave `for_each` out.",
                    )
                ]
            )
        return profile_of(rendered.documents[0], self.contract)

    def defaults_of(self, folder: Path) -> Defaults | None:
        """The defaults of a folder of profile files.

        Raises InputError, with every finding, where one is an error.
        """
        top = self._config.profiles.absolute()
        defaults = FolderDefaults(top, display=self.display, contract=self.contract)
        own = defaults.of(str(folder.absolute()))
        if any(finding.is_error for finding in defaults.findings):
            raise invalid_files(defaults.findings)
        return own

    def read_text(self, text: str, path: Path, *, defaults: Defaults | None) -> TextReading:
        """What would be read of a file with one document and such a text. It need not exist."""
        data = text.encode("utf-8", "backslashreplace")
        name = self.display(path)
        expanded = expand_file(
            data, load_text(data, name), defaults=defaults, values=self._placeholders
        )
        documents, findings = expanded.documents, [*expanded.findings]
        findings += self.findings_of(documents)
        if len(documents) != 1 or any(finding.is_error for finding in findings):
            return TextReading(None, findings)
        return TextReading(profile_of(documents[0], self.contract), findings)

    def validate_text(self, data: bytes, name: str) -> Checked:
        """Checks the text of a profile file, by its name in messages, as one that lies nowhere: without the
        defaults of a folder. Raises no finding."""
        expanded = expand_file(
            data, load_text(data, name), defaults=None, values=self._placeholders
        )
        documents, findings = expanded.documents, LimitedFindings(distinct=True)
        findings.extend([*expanded.findings, *self.findings_of(documents)])
        findings.extend(cross_file_findings(documents))
        listed = sorted(findings.listed(), key=Diagnostic.sort_key)
        return Checked((), tuple(listed), len(documents))

    def _validate_paths(self, paths: Sequence[str | Path]) -> Checked:
        documents, diagnostics = self._documents(paths)
        if any(diagnostic.is_error for diagnostic in diagnostics):
            return Checked((), tuple(diagnostics), len(documents))
        profiles = [profile_of(document, self.contract) for document in documents]
        profiles.sort(key=lambda profile: profile.address)
        return Checked(tuple(profiles), tuple(diagnostics), len(documents))

    def _documents(self, paths: Sequence[str | Path]) -> tuple[list[Document], list[Diagnostic]]:
        """The rendered documents of the files below some paths, and all findings, sorted by place."""
        documents: list[Document] = []
        findings = LimitedFindings(distinct=True)
        profiles = self._config.profiles.absolute()
        for root in map(Path, paths):
            inside = root.absolute().is_relative_to(profiles)
            top = profiles if inside else root if root.is_dir() else root.parent
            defaults = FolderDefaults(top, display=self.display, contract=self.contract)
            rendered, problems = rendered_documents(
                root, defaults, values=self._placeholders, display=self.display
            )
            documents += rendered
            findings.extend([*problems, *defaults.findings])
        findings.extend(self.findings_of(documents))
        findings.extend(cross_file_findings(documents))
        return documents, sorted(findings.listed(), key=Diagnostic.sort_key)

    def findings_of(self, documents: Sequence[Document]) -> Iterator[Diagnostic]:
        """The findings about rendered documents, each by itself."""
        yield from document_findings(documents, self.contract)
        yield from listed_findings(documents, self.contract, listed=self._config.listed)
        for document in documents:
            yield from personal_data_findings(document, self.contract, guard=self._config.guard)

    # --- formatting --------------------------------------------------------------------------

    def format(self, paths: Sequence[str | Path], *, write: bool) -> Formatted:
        """Puts the files into canonical form, comments kept.

        A file that does not parse, or would lose something, stays as it is and is reported.

        Raises ReconcileError without ruamel.yaml, or where a file cannot be read or written.
        """
        changed: list[tuple[str, str, str]] = []
        problems: list[Diagnostic] = []
        count = 0
        for root in [Path(path) for path in paths] or [self._config.profiles]:
            files, findings = files_below(root, display=self.display)
            problems += findings
            count += len(files)
            for path, name in files:
                try:
                    before, after = self._formatted(path, name)
                except InputError as problem:
                    problems += problem.diagnostics
                    continue
                if after != before:
                    changed.append((name, before, after))
                    if write:
                        write_output(path, [after], mode=path.stat().st_mode & 0o7777)
        return Formatted(tuple(changed), tuple(problems), count)

    def _formatted(self, path: Path, name: str) -> tuple[str, str]:
        try:
            data = path.read_bytes()
        except OSError as problem:
            raise ReconcileError(f"cannot read {name}: {problem.strerror}") from None
        return self.format_text(data, name)

    def format_text(self, data: bytes, name: str) -> tuple[str, str]:
        """The text of a file, and its canonical form.

        Raises InputError for a file that does not parse, ReconcileError without ruamel.yaml.
        """
        try:
            from reconciler.authoring.formatter import format_text
        except ImportError:
            raise ReconcileError(
                "fmt needs ruamel.yaml, which is not installed",
                hint="Install it: pip install 'ruamel.yaml>=0.18.6'. It is the extra `fmt` of "
                "adapty-reconciler.",
            ) from None
        try:
            text = data.decode("utf-8")
            return text, format_text(text, name, contract=self.contract)
        except UnicodeDecodeError:
            problem = error(
                "file/encoding",
                "the file is not UTF-8",
                source=Source(name),
                hint="Save it as UTF-8.",
            )
            raise InputError("the file is not UTF-8", diagnostics=[problem]) from None


_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}").fullmatch


def placeholder_values(
    config: Config,
    environment: Environment,
    *,
    environ: Mapping[str, str],
    trust: Trust,
    run: str | None,
    worker: str | None,
) -> PlaceholderValues:
    """The values of placeholders in profile files. ``{run}`` is by default the name of the build, if the
    program runs in one; ``{worker}`` is by default ``main``.

    Raises UsageError for a run or a worker that cannot be part of a name.
    """
    for kind, name in (("run", run), ("worker", worker)):
        if name is not None and not _NAME(name):
            raise UsageError(
                f"{name} cannot be the name of a {kind}",
                hint="Use 1 to 63 ASCII letters, digits, dashes, periods or underscores.",
            )
    build = build_info(environ).run
    usable = trust.variables(environ, prefix=config.env_prefix, secrets=config.secret_variables)
    return PlaceholderValues(
        variables=environment.variables,
        environ=usable.values,
        prefix=usable.prefix,
        refusal=usable.reason,
        secrets=config.secret_variables,
        run=run or (build if build and _NAME(build) else None),
        worker=worker or "main",
        seed=config.fake_seed,
        fakes=fakedata.version,
    )
